//! What the server has, or will have once what is under way has arrived, for all who work on a session.
//!
//! Changes go into the index when they are sent, so that what is compared next builds on them; they go into its log only when
//! the server has acknowledged them, so that after any interruption the log says what is certain.
//!
//! Left to others: what a change does (`state`), what comes of one that failed (`failures`), deciding on changes (`compare`),
//! sending them (`outbox`).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pinnace_proto::sync::Ask;

use super::content::PACKED_BYTES_MAX;
use super::failures::Trouble;
use super::state::{Effect, State};
use crate::fs::boot_id;
use crate::index::{Index, Marks, Removals, Row, Store};
use crate::server::Failure;
use crate::watch::Event;

/// How long before a crash of the machine a file may have changed that has other bytes now, in seconds: several times as long
/// as systems keep what was written before they write it back.
const WRITTEN_BACK_S: i64 = 120;

/// Time without a change after which the next one is not expected at once.
const QUIET: Duration = Duration::from_secs(1);

/// What was known when this machine was started anew. What changed last before that may have lost bytes that were not
/// written back, though its inode says what it said: it is to be read again.
pub(super) fn doubted(mut index: Index, marks: Marks) -> (Index, Marks) {
    if marks.boot == boot_id() {
        return (index, marks);
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    let changed = |index: &Index, node| index.row(node).print.ctime.secs;
    let past = index.walk().map(|node| changed(&index, node));
    let newest = past.filter(|secs| *secs <= now).max().unwrap_or(0);
    let nodes: Vec<_> = index.walk().collect();
    for node in nodes {
        let mut row = *index.row(node);
        if row.print.ctime.secs >= newest - WRITTEN_BACK_S {
            row.is_racy = true;
            index.set_row(node, row);
        }
    }
    (index, marks)
}

/// When a checkpoint is to be made, which nothing else can go on beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Now,
    /// If it is wanted: what comes next waits for it in any case.
    Wanted,
    /// If it can wait no longer.
    Overdue,
    /// If it is wanted and nothing happens.
    Quiet,
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
            state: Mutex::new(State::new(index, store, marks, (seq, durable))),
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
        state.committed_at = Instant::now();
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
        let outcome = self.lock().fail(seq, failure);
        if let Err(why) = outcome {
            self.end(Over::Resync(why));
        }
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
    pub(super) fn checkpoint(&self, when: When) {
        let mut state = self.lock();
        let state = &mut *state;
        let is_due = match when {
            When::Now => true,
            When::Wanted => state.store.wants_checkpoint(),
            When::Overdue => state.store.needs_checkpoint(),
            When::Quiet => {
                let is_quiet = state.committed_at.elapsed() >= QUIET && !state.has_news();
                is_quiet && state.store.wants_checkpoint()
            }
        };
        if state.pending.is_empty() && is_due {
            let kept = state
                .store
                .checkpoint(&mut state.index, &state.marks, &Removals::new());
            state.note_log(kept);
        }
    }

    /// Sizes of large files that the server has.
    pub(super) fn large_sizes(&self) -> HashSet<u64> {
        let state = self.lock();
        let nodes = state.index.walk();
        let sizes = nodes.map(|node| state.index.row(node).meta.size);
        sizes.filter(|size| *size > PACKED_BYTES_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{Fingerprint, Stamp};

    #[test]
    fn after_another_boot_what_changed_last_is_doubted() {
        let mut index = Index::default();
        let row = |secs| Row {
            print: Fingerprint {
                inode: 1,
                ctime: Stamp { secs, nanos: 0 },
            },
            ..Row::DIRECTORY
        };
        // The last is of a clock that was wrong.
        let times = [1_000_000, 1_009_870, 1_009_990, 1_010_000, i64::MAX];
        for (number, secs) in times.iter().enumerate() {
            let name = number.to_string();
            index.insert(Index::ROOT, name.as_bytes(), row(*secs));
        }
        let doubts = |index: &Index| {
            let doubts = index.walk().map(|node| index.row(node));
            let doubts = doubts.filter(|row| row.is_racy);
            doubts.map(|row| row.print.ctime.secs).collect::<Vec<_>>()
        };
        let marks = Marks {
            boot: boot_id(),
            ..Marks::default()
        };
        let (index, marks) = doubted(index, marks);
        assert!(doubts(&index).is_empty());
        let boot = [7; 16];
        let (index, _) = doubted(index, Marks { boot, ..marks });
        let mut found = doubts(&index);
        found.sort_unstable();
        assert_eq!(found, times[2..]);
    }
}
