//! The work of a session: packs that wait to be staged, and staged ones that wait for their turn.
//!
//! Packs of the first connection, which carries what has just happened, are staged before those of the others. Whoever stages
//! the pack whose turn it is commits it, with all that follow on it.
//!
//! Invariant: commits happen one at a time and in the order of their numbers; what waits in memory is bounded. Left to
//! others: threads, staging and committing themselves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::staged::Staged;
use crate::wire::{OpenedPack, WireError};

/// Packs of one connection that may wait to be staged.
const WAITING_MAX: usize = 6;
/// Packs that may be staged before their turn: a gap is filled by another connection, or never.
const STAGED_MAX: usize = 4096;

/// Which connection a pack came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Control,
    Bulk,
}

pub(super) struct Jobs {
    state: Mutex<State>,
    /// There is something to do, or it is over.
    work: Condvar,
    /// There is room again, or it is over.
    room: Condvar,
}

struct State {
    control: VecDeque<OpenedPack>,
    bulk: VecDeque<OpenedPack>,
    staged: BTreeMap<u64, Staged>,
    /// The first number that nobody commits yet.
    next_seq: u64,
    /// The first number that is not in the share yet.
    uncommitted_seq: u64,
    is_committing: bool,
    is_over: bool,
}

impl Jobs {
    pub(super) fn new(next_seq: u64) -> Self {
        Self {
            state: Mutex::new(State {
                control: VecDeque::new(),
                bulk: VecDeque::new(),
                staged: BTreeMap::new(),
                next_seq,
                uncommitted_seq: next_seq,
                is_committing: false,
                is_over: false,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a pack; waits while there is no room. What comes after the end is dropped.
    pub(super) fn push(&self, way: Way, pack: OpenedPack) {
        let mut state = self.lock();
        while !state.is_over && state.queue(way).len() >= WAITING_MAX {
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.queue(way).push_back(pack);
        drop(state);
        self.work.notify_one();
    }

    /// The next pack to stage; `None` when it is over.
    pub(super) fn take(&self) -> Option<OpenedPack> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            if let Some(pack) = state.take_ready() {
                drop(state);
                self.room.notify_all();
                return Some(pack);
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds a staged pack. Returns those whose turn it is, if nobody else is committing; who gets some commits
    /// them and then asks [`Jobs::committed`].
    pub(super) fn staged(&self, staged: Staged) -> Result<Vec<Staged>, WireError> {
        let mut state = self.lock();
        if staged.first_seq < state.next_seq || state.staged.contains_key(&staged.first_seq) {
            return Err(WireError::Value("a number was used twice"));
        }
        if state.staged.len() >= STAGED_MAX {
            return Err(WireError::Value("too many changes before their turn"));
        }
        state.staged.insert(staged.first_seq, staged);
        Ok(state.take_turn())
    }

    /// What was taken is in the share. Returns what has come in the meantime.
    pub(super) fn committed(&self) -> Vec<Staged> {
        let mut state = self.lock();
        state.is_committing = false;
        state.uncommitted_seq = state.next_seq;
        let next = state.take_turn();
        drop(state);
        // A pack may have waited for what it reads.
        self.work.notify_all();
        next
    }

    /// Nothing more is done.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// What was staged and did not get its turn.
    pub(super) fn left(&self) -> Vec<Staged> {
        std::mem::take(&mut self.lock().staged)
            .into_values()
            .collect()
    }
}

impl State {
    fn queue(&mut self, way: Way) -> &mut VecDeque<OpenedPack> {
        match way {
            Way::Control => &mut self.control,
            Way::Bulk => &mut self.bulk,
        }
    }

    fn take_ready(&mut self) -> Option<OpenedPack> {
        let next_seq = self.uncommitted_seq;
        for queue in [&mut self.control, &mut self.bulk] {
            let ready = |pack: &OpenedPack| !pack.waits || pack.first_seq == next_seq;
            if let Some(place) = queue.iter().position(ready) {
                return queue.remove(place);
            }
        }
        None
    }

    fn take_turn(&mut self) -> Vec<Staged> {
        let mut turn = Vec::new();
        if self.is_committing {
            return turn;
        }
        while let Some(entry) = self.staged.first_entry()
            && *entry.key() == self.next_seq
        {
            let staged = entry.remove();
            self.next_seq += staged.acts.len() as u64;
            turn.push(staged);
        }
        self.is_committing = !turn.is_empty();
        turn
    }
}
