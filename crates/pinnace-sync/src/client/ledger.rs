//! What the server has, or will have once what is under way has arrived.
//!
//! Changes go into the index when they are sent, so that what is compared next builds on them; they go into its log only when
//! the server has acknowledged them, so that after any interruption the log says what is certain.
//!
//! Invariant: changes are in the log in the order of their numbers, and none before it was acknowledged. Left to
//! others: deciding on changes (`compare`), sending them (`outbox`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::chunk::Recipe;
use crate::index::{Change, Index, Marks, NodeId, Removals, Row, Store, StoreError};
use crate::meta::{ContentId, Fingerprint};
use crate::path;
use crate::server::{Failure, FailureCode};
use crate::watch::Event;
use crate::wire::RowFacts;
use pinnace_proto::sync::Ask;

/// What a change does to the index.
#[derive(Debug)]
pub(super) enum Effect {
    /// An entry is there as the row says.
    Put {
        path: Vec<u8>,
        row: Row,
        recipe: Option<Recipe>,
    },
    Rename {
        from: Vec<u8>,
        to: Vec<u8>,
        /// What the source has there now.
        print: Fingerprint,
        /// The inode that what is moved had here.
        inode: u64,
    },
    /// Two entries, with the inodes they had here.
    Exchange {
        a: (Vec<u8>, u64),
        b: (Vec<u8>, u64),
    },
    Remove {
        path: Vec<u8>,
    },
}

/// A change under way.
#[derive(Debug)]
struct Pending {
    seq: u64,
    changes: Vec<Change>,
    /// Where, and whether the server has to have it as before if this fails.
    path: Vec<u8>,
    retry: Retry,
}

/// What to do about a change that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// There was nothing: there is nothing.
    New,
    /// There was something, of which nothing is certain now.
    Replaced,
    /// It moved or removed something: only the server's rows tell what is where now.
    Structure,
}

/// A change that failed, for those who try again.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) path: Vec<u8>,
    pub(super) failure: Failure,
}

pub(super) struct State {
    pub(super) index: Index,
    pub(super) store: Store,
    pub(super) marks: Marks,
    pending: VecDeque<Pending>,
    /// Bytes of each frame of the first connection that is under way, by its last number.
    under_way: VecDeque<(u64, u64)>,
    pub(super) next_seq: u64,
    pub(super) committed: u64,
    pub(super) durable: u64,
    troubles: Vec<Trouble>,
    events: Vec<Event>,
    asks: Vec<Ask>,
    /// Why the session is over.
    pub(super) over: Option<Over>,
    /// Logs are written only here; when that fails the index on disk is behind, which is safe.
    log_failed: Option<String>,
}

/// Why a session is over.
#[derive(Clone, Debug)]
pub(super) enum Over {
    /// The connection ended.
    Lost(String),
    /// The server ended it.
    Refused { code: String, detail: String },
    /// What the server has is not what is known of it.
    Resync(String),
    /// It was told to.
    Stopped,
}

/// The ledger.
pub(super) struct Ledger {
    state: Mutex<State>,
    changed: Condvar,
    is_over: AtomicBool,
}

impl Ledger {
    pub(super) fn new(
        index: Index,
        store: Store,
        marks: Marks,
        (seq, durable): (u64, u64),
    ) -> Self {
        Self {
            state: Mutex::new(State {
                index,
                store,
                marks,
                pending: VecDeque::new(),
                under_way: VecDeque::new(),
                next_seq: seq + 1,
                committed: seq,
                durable,
                troubles: Vec::new(),
                events: Vec::new(),
                asks: Vec::new(),
                over: None,
                log_failed: None,
            }),
            changed: Condvar::new(),
            is_over: AtomicBool::new(false),
        }
    }

    /// The watcher has something to tell.
    pub(super) fn take_events(&self, mut events: Vec<Event>) {
        self.lock().events.append(&mut events);
        self.changed.notify_all();
    }

    /// The server asks something.
    pub(super) fn asked(&self, ask: Ask) {
        self.lock().asks.push(ask);
        self.changed.notify_all();
    }

    /// What was told and asked since the last time.
    pub(super) fn take_news(&self) -> (Vec<Event>, Vec<Ask>) {
        let mut state = self.lock();
        (
            std::mem::take(&mut state.events),
            std::mem::take(&mut state.asks),
        )
    }

    pub(super) fn has_events(&self) -> bool {
        self.lock().has_news()
    }

    /// Why it is over, if it is.
    pub(super) fn over(&self) -> Option<Over> {
        self.lock().over.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is_over` or the session ends.
    pub(super) fn wait_until(&self, mut is_over: impl FnMut(&State) -> bool) {
        let state = self.lock();
        let waited = self
            .changed
            .wait_while(state, |state| state.over.is_none() && !is_over(state));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until `is_over`, the session ends, or the time is up.
    pub(super) fn wait_at_most(&self, time: Duration, mut is_over: impl FnMut(&State) -> bool) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while state.over.is_none() && !is_over(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn wake(&self) {
        self.changed.notify_all();
    }

    /// Enters changes that are about to be sent. Returns the number of the first, or the paths that have to be compared
    /// again because the tree is no longer what they were decided on.
    pub(super) fn enter(
        &self,
        effects: Vec<Effect>,
        window: Option<(u64, u64)>,
    ) -> Result<u64, Vec<Vec<u8>>> {
        if let Some((bytes, most)) = window {
            self.wait_until(|state| {
                let under_way: u64 = state.under_way.iter().map(|(_, bytes)| bytes).sum();
                under_way == 0 || under_way + bytes <= most
            });
        }
        let mut state = self.lock();
        if state.over.is_some() || !state.fits(&effects) {
            return Err(effects.into_iter().map(Effect::into_path).collect());
        }
        let first = state.next_seq;
        for effect in effects {
            state.apply(effect);
        }
        if let Some((bytes, _)) = window {
            let last = state.next_seq - 1;
            state.under_way.push_back((last, bytes));
        }
        Ok(first)
    }

    /// Everything up to a number is in the share.
    pub(super) fn committed(&self, seq: u64) {
        let mut state = self.lock();
        let state = &mut *state;
        state.committed = state.committed.max(seq);
        while state
            .under_way
            .front()
            .is_some_and(|(last, _)| *last <= seq)
        {
            state.under_way.pop_front();
        }
        let mut changes = Vec::new();
        while let Some(pending) = state.pending.pop_front_if(|pending| pending.seq <= seq) {
            changes.extend(pending.changes);
        }
        state.log(&changes);
        state.marks.seq = state.marks.seq.max(seq);
        let marks = state.marks.clone();
        let marked = state.store.set_marks(&marks);
        state.note_log(marked);
        self.changed.notify_all();
    }

    pub(super) fn durable(&self, seq: u64) {
        let mut state = self.lock();
        state.durable = state.durable.max(seq);
        state.marks.durable_seq = state.durable;
        self.changed.notify_all();
    }

    /// A change could not be made.
    pub(super) fn failed(&self, seq: u64, failure: Failure) {
        let mut state = self.lock();
        let state = &mut *state;
        let Ok(place) = state
            .pending
            .binary_search_by_key(&seq, |pending| pending.seq)
        else {
            return;
        };
        let pending = &mut state.pending[place];
        pending.changes.clear();
        let (path, retry) = (pending.path.clone(), pending.retry);
        let node = state.index.find(&path);
        let is_lost = matches!(failure.code, FailureCode::Missing) || retry == Retry::Structure;
        if is_lost {
            let why = format!("{}: {}", path::show(&path), failure.detail);
            state.over.get_or_insert(Over::Resync(why));
            self.is_over.store(true, Ordering::Release);
        } else if let Some(node) = node {
            match retry {
                Retry::New => {
                    state.index.remove(node);
                    let change = Change::Remove { id: node, seq };
                    state.pending[place].changes.push(change);
                }
                _ => {
                    let mut row = *state.index.row(node);
                    row.content = ContentId([0xff; 32]);
                    (row.print, row.recipe) = (Fingerprint::UNKNOWN, None);
                    state.index.set_row(node, row);
                    let change = Change::Set { id: node, row };
                    state.pending[place].changes.push(change);
                }
            }
        }
        state.troubles.push(Trouble { path, failure });
        self.changed.notify_all();
    }

    /// The session is over.
    pub(super) fn end(&self, over: Over) {
        self.lock().over.get_or_insert(over);
        self.is_over.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// What failed since it was asked last.
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        std::mem::take(&mut self.lock().troubles)
    }

    /// Whether everything that was sent is in the share.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().is_settled()
    }

    /// Only this host's knowledge of an entry has changed.
    pub(super) fn note(&self, path: &[u8], update: impl FnOnce(&mut Row)) {
        let mut state = self.lock();
        let Some(node) = state.index.find(path) else {
            return;
        };
        let mut row = *state.index.row(node);
        update(&mut row);
        state.set(node, row);
    }

    /// Keeps what is known in a form that is quick to load, once nothing is under way.
    pub(super) fn checkpoint(&self, always: bool) {
        let mut state = self.lock();
        let state = &mut *state;
        if state.pending.is_empty() && (always || state.store.wants_checkpoint()) {
            let kept = state
                .store
                .checkpoint(&mut state.index, &state.marks, &Removals::new());
            state.note_log(kept);
        }
    }
}

impl Effect {
    fn into_path(self) -> Vec<u8> {
        match self {
            Effect::Put { path, .. } | Effect::Remove { path } => path,
            Effect::Rename { to, .. } => to,
            Effect::Exchange { a, .. } => a.0,
        }
    }
}

impl State {
    pub(super) fn is_settled(&self) -> bool {
        self.committed + 1 == self.next_seq && self.troubles.is_empty()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.events.is_empty() || !self.asks.is_empty() || !self.troubles.is_empty()
    }

    /// Whether the directories and entries are there that the changes speak of.
    fn fits(&self, effects: &[Effect]) -> bool {
        let mut made: Vec<&[u8]> = Vec::new();
        effects.iter().all(|effect| match effect {
            Effect::Put { path, row, .. } => {
                let dir = path::split(path).0;
                let is_there = path.is_empty()
                    || made.last().is_some_and(|made| *made == dir)
                    || self.index.find(dir).is_some()
                    || made.contains(&dir);
                if row.meta.kind == crate::Kind::Directory {
                    made.push(path);
                }
                is_there
            }
            Effect::Rename {
                from, to, inode, ..
            } => {
                self.has(from, *inode)
                    && self.index.find(path::split(to).0).is_some()
                    && !path::is_within(to, from)
            }
            Effect::Exchange { a, b } => self.has(&a.0, a.1) && self.has(&b.0, b.1),
            Effect::Remove { path } => self.index.find(path).is_some(),
        })
    }

    /// Whether what is known at a path is what had this inode: it may have been replaced meanwhile.
    fn has(&self, path: &[u8], inode: u64) -> bool {
        let node = self.index.find(path);
        node.is_some_and(|node| self.index.row(node).print.inode == inode)
    }

    fn apply(&mut self, effect: Effect) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let mut changes = Vec::with_capacity(1);
        let (path, retry) = match effect {
            Effect::Put {
                path,
                mut row,
                recipe,
            } => {
                row.seq = seq;
                if let Some(recipe) = recipe {
                    let added = self.store.add_recipe(&recipe);
                    row.recipe = added.map_err(|error| self.note_log(Err(error))).ok();
                }
                let retry = self.put(&path, row, &mut changes);
                (path, retry)
            }
            Effect::Rename {
                from, to, print, ..
            } => {
                self.rename(&from, &to, (print, seq), &mut changes);
                (to, Retry::Structure)
            }
            Effect::Exchange { a, b } => {
                if let Some(a) = self.index.find(&a.0)
                    && let Some(b) = self.index.find(&b.0)
                    && self.index.exchange(a, b).is_ok()
                {
                    changes.push(Change::Exchange { a, b });
                }
                (a.0, Retry::Structure)
            }
            Effect::Remove { path } => {
                if let Some(node) = self.index.find(&path) {
                    self.index.remove(node);
                    changes.push(Change::Remove { id: node, seq });
                }
                (path, Retry::Structure)
            }
        };
        self.pending.push_back(Pending {
            seq,
            changes,
            path,
            retry,
        });
    }

    fn put(&mut self, path: &[u8], row: Row, changes: &mut Vec<Change>) -> Retry {
        if path.is_empty() {
            self.index.set_row(Index::ROOT, row);
            changes.push(Change::Set {
                id: Index::ROOT,
                row,
            });
            return Retry::Replaced;
        }
        let (dir, name) = path::split(path);
        let Some(parent) = self.index.find(dir) else {
            return Retry::Structure;
        };
        let was_there = self.index.child(parent, name).is_some();
        let id = self.index.insert(parent, name, row);
        changes.push(Change::Put {
            id,
            parent,
            name: name.into(),
            row,
        });
        if was_there {
            Retry::Replaced
        } else {
            Retry::New
        }
    }

    fn rename(
        &mut self,
        from: &[u8],
        to: &[u8],
        (print, seq): (Fingerprint, u64),
        changes: &mut Vec<Change>,
    ) {
        let (dir, name) = path::split(to);
        let (Some(node), Some(parent)) = (self.index.find(from), self.index.find(dir)) else {
            return;
        };
        if self.index.rename(node, parent, name).is_ok() {
            changes.push(Change::Rename {
                id: node,
                parent,
                name: name.into(),
            });
            let mut row = *self.index.row(node);
            (row.print, row.seq) = (print, seq);
            self.index.set_row(node, row);
            changes.push(Change::Set { id: node, row });
        }
    }

    /// Changes a row in a way that the server need not hear of.
    fn set(&mut self, node: NodeId, row: Row) {
        self.index.set_row(node, row);
        let change = Change::Set { id: node, row };
        // Behind what is under way: the node may be part of it.
        match self.pending.back_mut() {
            Some(pending) => pending.changes.push(change),
            None => self.log(&[change]),
        }
    }

    pub(super) fn log(&mut self, changes: &[Change]) {
        let logged = self.store.append(changes);
        self.note_log(logged);
    }

    fn note_log(&mut self, result: Result<(), StoreError>) {
        if let Err(error) = result
            && self.log_failed.is_none()
        {
            tracing::warn!(%error, "what the server has cannot be kept; after an interruption more has to be compared");
            self.log_failed = Some(error.to_string());
        }
    }

    /// Takes a row that the server tells. What this host knows of an equal entry stays.
    pub(super) fn take_row(
        &mut self,
        path: &[u8],
        facts: Option<RowFacts>,
        changes: &mut Vec<Change>,
    ) -> Option<NodeId> {
        let node = self.index.find(path);
        let Some(facts) = facts else {
            if let Some(node) = node.filter(|node| *node != Index::ROOT) {
                self.index.remove(node);
                let seq = self.marks.seq;
                changes.push(Change::Remove { id: node, seq });
            }
            return None;
        };
        let old = node.map(|node| *self.index.row(node));
        let same =
            old.filter(|old| old.content == facts.content && old.meta.kind == facts.meta.kind);
        let known = same.filter(|old| old.meta == facts.meta);
        let row = Row {
            meta: facts.meta,
            print: known.map_or(Fingerprint::UNKNOWN, |old| old.print),
            content: facts.content,
            seq: facts.seq,
            recipe: same.and_then(|old| old.recipe),
            is_linked: known.is_some_and(|old| old.is_linked),
            is_racy: known.is_some_and(|old| old.is_racy),
        };
        if path.is_empty() {
            self.index.set_row(Index::ROOT, row);
            changes.push(Change::Set {
                id: Index::ROOT,
                row,
            });
            return Some(Index::ROOT);
        }
        let (dir, name) = path::split(path);
        // Parents come before their children, so this one is known unless the server errs.
        let parent = self.index.find(dir)?;
        let id = self.index.insert(parent, name, row);
        changes.push(Change::Put {
            id,
            parent,
            name: name.into(),
            row,
        });
        Some(id)
    }
}
