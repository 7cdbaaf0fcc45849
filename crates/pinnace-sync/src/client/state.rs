//! What is known of the share in a session: the index, and the changes to it that are under way.
//!
//! Invariant: changes are in the log in the order of their numbers, and none before it was acknowledged. Left to
//! others: waiting and telling (`ledger`), what comes of changes that failed (`failures`).

use std::collections::VecDeque;
use std::time::Instant;

use pinnace_proto::sync::Ask;

use super::failures::Trouble;
use super::ledger::Over;
use crate::chunk::Recipe;
use crate::index::{Change, Index, Marks, NodeId, Row, Store, StoreError};
use crate::meta::Fingerprint;
use crate::path;
use crate::watch::Event;
use crate::wire::RowFacts;

/// What a change does to the index.
#[derive(Debug)]
pub(super) enum Effect {
    /// An entry is there as the row says.
    Put {
        path: Vec<u8>,
        row: Row,
        recipe: Option<Recipe>,
    },
    /// An entry is a further name of what the server has at `target`.
    Link {
        path: Vec<u8>,
        row: Row,
        target: Vec<u8>,
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
pub(super) struct Pending {
    pub(super) seq: u64,
    pub(super) changes: Vec<Change>,
    /// Where, and whether the server has to have it as before if this fails.
    pub(super) path: Vec<u8>,
    pub(super) retry: Retry,
    /// The entry that is put there.
    pub(super) node: Option<NodeId>,
    /// The entry that it becomes a further name of.
    pub(super) target: Option<NodeId>,
}

/// What to do about a change that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// There was nothing: there is nothing.
    New,
    /// There was something, of which nothing is certain now.
    Replaced,
    /// It moved or removed something: only the server's rows tell what is where now.
    Structure,
}

pub(super) struct State {
    pub(super) index: Index,
    pub(super) store: Store,
    pub(super) marks: Marks,
    pub(super) pending: VecDeque<Pending>,
    /// Bytes of each frame of the first connection that is under way, by its last number.
    pub(super) under_way: VecDeque<(u64, u64)>,
    pub(super) next_seq: u64,
    pub(super) committed: u64,
    /// When the server said so last.
    pub(super) committed_at: Instant,
    pub(super) durable: u64,
    pub(super) troubles: Vec<Trouble>,
    pub(super) events: Vec<Event>,
    pub(super) asks: Vec<Ask>,
    /// Why the session is over.
    pub(super) over: Option<Over>,
    /// Logs are written only here; when that fails the index on disk is behind, which is safe.
    log_failed: Option<String>,
}

impl Effect {
    pub(super) fn into_path(self) -> Vec<u8> {
        match self {
            Effect::Put { path, .. } | Effect::Link { path, .. } | Effect::Remove { path } => path,
            Effect::Rename { to, .. } => to,
            Effect::Exchange { a, .. } => a.0,
        }
    }
}

impl State {
    pub(super) fn new(
        index: Index,
        store: Store,
        marks: Marks,
        (seq, durable): (u64, u64),
    ) -> Self {
        Self {
            index,
            store,
            marks,
            pending: VecDeque::new(),
            under_way: VecDeque::new(),
            next_seq: seq + 1,
            committed: seq,
            committed_at: Instant::now(),
            durable,
            troubles: Vec::new(),
            events: Vec::new(),
            asks: Vec::new(),
            over: None,
            log_failed: None,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.committed + 1 == self.next_seq && self.troubles.is_empty()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.events.is_empty() || !self.asks.is_empty() || !self.troubles.is_empty()
    }

    /// Whether the directories and entries are there that the changes speak of.
    pub(super) fn fits(&self, effects: &[Effect]) -> bool {
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
            Effect::Link { path, target, .. } => {
                self.index.find(path::split(path).0).is_some() && self.index.find(target).is_some()
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

    pub(super) fn apply(&mut self, effect: Effect) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let mut changes = Vec::with_capacity(1);
        let (mut node, mut target) = (None, None);
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
                node = self.index.find(&path);
                (path, retry)
            }
            Effect::Link {
                path,
                mut row,
                target: other,
            } => {
                row.seq = seq;
                target = self.index.find(&other);
                let retry = self.put(&path, row, &mut changes);
                node = self.index.find(&path);
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
            node,
            target,
        });
    }

    fn put(&mut self, path: &[u8], row: Row, changes: &mut Vec<Change>) -> Retry {
        let was_there = self.index.find(path).is_some();
        if self.place(path, row, changes).is_none() {
            return Retry::Structure;
        }
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
    pub(super) fn set(&mut self, node: NodeId, row: Row) {
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

    pub(super) fn note_log(&mut self, result: Result<(), StoreError>) {
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
        // Parents come before their children, so its directory is known unless the server errs.
        self.place(path, row, changes)
    }

    /// Puts a row where it belongs; `None` if its directory is not known.
    fn place(&mut self, path: &[u8], row: Row, changes: &mut Vec<Change>) -> Option<NodeId> {
        if path.is_empty() {
            self.index.set_row(Index::ROOT, row);
            changes.push(Change::Set {
                id: Index::ROOT,
                row,
            });
            return Some(Index::ROOT);
        }
        let (dir, name) = path::split(path);
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
