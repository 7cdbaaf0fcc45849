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

/// Packs of one connection that may wait to be staged while others are being worked on.
const WAITING_MAX: usize = 6;
/// Packs of one connection that may wait when nothing can be done before more is read: what they wait for may be
/// behind them. A client that never sends it is refused.
const UNREADY_MAX: usize = 4096;
/// Bytes of those.
const UNREADY_BYTES_MAX: usize = 64 << 20;
/// Packs that may be staged before their turn.
const STAGED_MAX: usize = 4096;
/// Bytes of memory that they may take, if it is not the next one's turn.
const STAGED_BYTES_MAX: usize = 128 << 20;

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
    staged_bytes: usize,
    /// Packs that a thread has taken and is not done with.
    busy: usize,
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
                staged_bytes: 0,
                busy: 0,
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

    /// Adds a pack; waits while there is no room and others are worked on. What comes after the end is dropped.
    ///
    /// # Errors
    /// Too much waits for a number that does not come.
    pub(super) fn push(&self, way: Way, pack: OpenedPack) -> Result<(), WireError> {
        let mut state = self.lock();
        while state.queue(way).len() >= WAITING_MAX && !state.is_over && state.goes_on() {
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let queue = state.queue(way);
        if queue.len() >= WAITING_MAX {
            let bytes: usize = queue.iter().map(OpenedPack::held_bytes).sum();
            if queue.len() >= UNREADY_MAX || bytes >= UNREADY_BYTES_MAX {
                return Err(WireError::Value("too many changes before their turn"));
            }
        }
        queue.push_back(pack);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Waits while this holds and something is being worked on that may end it.
    pub(super) fn wait_while(&self, holds: impl Fn() -> bool) {
        let mut state = self.lock();
        while !state.is_over && state.goes_on() && holds() {
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next pack to stage; `None` when it is over. Who gets one says when it is done with ([`Jobs::done`]).
    pub(super) fn take(&self) -> Option<OpenedPack> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            if let Some(pack) = state.take_ready() {
                state.busy += 1;
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

    /// A pack that was taken is done with.
    pub(super) fn done(&self) {
        self.lock().busy -= 1;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Adds a staged pack. Returns those whose turn it is, if nobody else is committing; who gets some commits
    /// them and then asks [`Jobs::committed`].
    pub(super) fn staged(&self, staged: Staged) -> Result<Vec<Staged>, WireError> {
        let mut state = self.lock();
        if staged.first_seq < state.next_seq || state.staged.contains_key(&staged.first_seq) {
            return Err(WireError::Value("a number was used twice"));
        }
        state.staged_bytes += staged.held_bytes;
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
    fn queue_of(&self, way: Way) -> &VecDeque<OpenedPack> {
        match way {
            Way::Control => &self.control,
            Way::Bulk => &self.bulk,
        }
    }

    fn queue(&mut self, way: Way) -> &mut VecDeque<OpenedPack> {
        match way {
            Way::Control => &mut self.control,
            Way::Bulk => &mut self.bulk,
        }
    }

    fn take_ready(&mut self) -> Option<OpenedPack> {
        for way in [Way::Control, Way::Bulk] {
            let queue = self.queue_of(way);
            if let Some(place) = queue.iter().position(|pack| self.is_ready(pack)) {
                return self.queue(way).remove(place);
            }
        }
        None
    }

    /// Whether a pack can be staged now: what it reads is there, and memory for it.
    fn is_ready(&self, pack: &OpenedPack) -> bool {
        let is_next = pack.first_seq <= self.next_seq;
        let has_room = self.staged.len() < STAGED_MAX && self.staged_bytes < STAGED_BYTES_MAX;
        (is_next || has_room) && (!pack.waits || pack.first_seq <= self.uncommitted_seq)
    }

    /// Whether there is work that can be done without reading more.
    fn goes_on(&self) -> bool {
        let mut waiting = self.control.iter().chain(&self.bulk);
        self.busy > 0 || waiting.any(|pack| self.is_ready(pack))
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
            self.staged_bytes -= staged.held_bytes;
            turn.push(staged);
        }
        self.is_committing = !turn.is_empty();
        turn
    }
}
