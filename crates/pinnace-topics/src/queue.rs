//! One queue: what it is called, what it may hold, and what it holds.
//!
//! Invariant: a message is in a queue once, either waiting or leased; `waiting` ascends. An idle
//! queue, in which nothing happens, keeps no more than its definition: there may be a million of
//! them. The counts of the index are kept by the state, not here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pinnace_log::Lsn;

use crate::leases::LeaseId;
use crate::queues::{Wake, WakeId};

/// What a queue may hold, and what happens to what it cannot deliver. The server's own limits hold
/// besides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueOptions {
    /// Messages that may wait.
    pub messages_max: Option<u64>,
    /// Bytes (topic, headers, payload) that may wait.
    pub bytes_max: Option<u64>,
    /// Microseconds after its publication at which a message is dropped.
    pub age_max_us: Option<u64>,
    /// What happens to a publish that does not fit.
    pub overflow: Overflow,
    /// Leases of one message that may end without an acknowledgement; then it is a dead letter.
    pub deliveries_max: Option<u32>,
    /// The topic dead letters are published to. Without it they are delivered again and again.
    pub dead_letter: Option<Box<[u8]>>,
}

/// What happens to a publish that does not fit into a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// It is refused, for everybody.
    #[default]
    Refuse,
    /// The oldest waiting messages make room.
    DropOldest,
    /// The queue is deleted: its subscriber has been away for too long.
    Expire,
}

/// A queue: a pattern, a name, and the messages not yet given away.
pub(crate) struct Queue {
    pub(crate) pattern: Arc<[u8]>,
    pub(crate) name: Box<str>,
    pub(crate) options: Option<Box<QueueOptions>>,
    /// The segment that holds its latest durable definition.
    pub(crate) defined: Option<u32>,
    active: Option<Box<Active>>,
}

/// What only a queue in use needs.
#[derive(Default)]
pub(crate) struct Active {
    /// Sequence numbers, ascending.
    pub(crate) waiting: VecDeque<u64>,
    /// Messages given out on a lease.
    pub(crate) leased: BTreeMap<u64, LeaseId>,
    /// Leases so far of messages that were leased and not acknowledged.
    pub(crate) deliveries: BTreeMap<u64, u32>,
    /// Of what waits or is leased.
    pub(crate) bytes: u64,
    /// Its creation, while that is not durable.
    pub(crate) creating: Option<Lsn>,
    pub(crate) wakes: Vec<(WakeId, Wake)>,
    /// Messages that could not be read when they were to be given out.
    pub(crate) damaged: u64,
    /// Messages that were dropped for a limit.
    pub(crate) dropped: u64,
}

impl Active {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.leased.is_empty()
            && self.deliveries.is_empty()
            && self.creating.is_none()
            && self.wakes.is_empty()
            && self.damaged == 0
            && self.dropped == 0
    }
}

impl Queue {
    pub(crate) fn new(pattern: Arc<[u8]>, name: &str) -> Queue {
        Queue {
            pattern,
            name: name.into(),
            options: None,
            defined: None,
            active: None,
        }
    }

    pub(crate) fn active(&self) -> Option<&Active> {
        self.active.as_deref()
    }

    /// To be followed by `rest` when something may have come to an end.
    pub(crate) fn active_mut(&mut self) -> &mut Active {
        self.active.get_or_insert_default()
    }

    /// Lets go of what an idle queue does not need.
    pub(crate) fn rest(&mut self) {
        if self.active.as_ref().is_some_and(|active| active.is_idle()) {
            self.active = None;
        }
    }

    pub(crate) fn waiting(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        let waiting = self.active.as_ref().map(|active| active.waiting.iter());
        waiting.unwrap_or_default().copied()
    }

    /// Those of the waiting messages whose numbers are above `after_seq`.
    pub(crate) fn waiting_after(&self, after_seq: u64) -> impl Iterator<Item = u64> + '_ {
        let waiting = self.active().map(|active| {
            let from = active.waiting.partition_point(|seq| *seq <= after_seq);
            active.waiting.range(from..)
        });
        waiting.into_iter().flatten().copied()
    }

    /// Messages that wait or are leased.
    pub(crate) fn messages(&self) -> u64 {
        let count = |active: &Active| active.waiting.len() + active.leased.len();
        self.active().map_or(0, count) as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.active().map_or(0, |active| active.bytes)
    }

    /// The oldest waiting message.
    pub(crate) fn front(&self) -> Option<u64> {
        self.active()?.waiting.front().copied()
    }

    pub(crate) fn holds(&self, seq: u64) -> bool {
        self.active().is_some_and(|active| {
            active.waiting.binary_search(&seq).is_ok() || active.leased.contains_key(&seq)
        })
    }

    /// Lets a message wait, in its place.
    pub(crate) fn add(&mut self, seq: u64, bytes: u32) {
        let active = self.active_mut();
        active.bytes += u64::from(bytes);
        active.put(seq);
    }

    /// Lets messages wait, each a number and its bytes.
    pub(crate) fn extend(&mut self, messages: impl ExactSizeIterator<Item = (u64, u32)>) {
        let active = self.active_mut();
        active.waiting.reserve(messages.len());
        for (seq, bytes) in messages {
            active.bytes += u64::from(bytes);
            active.put(seq);
        }
    }

    /// Takes a message away, wherever it is. False when it is not here.
    pub(crate) fn remove(&mut self, seq: u64, bytes: u32) -> bool {
        let Some(active) = &mut self.active else {
            return false;
        };
        let found = if active.waiting.front() == Some(&seq) {
            active.waiting.pop_front().is_some()
        } else if active.leased.remove(&seq).is_some() {
            true
        } else {
            let at = active.waiting.binary_search(&seq);
            at.is_ok_and(|at| active.waiting.remove(at).is_some())
        };
        if found {
            active.bytes -= u64::from(bytes);
            active.deliveries.remove(&seq);
        }
        found
    }
}

impl Active {
    /// Puts a message among the waiting ones; its bytes are counted already.
    pub(crate) fn put(&mut self, seq: u64) {
        if self.waiting.back().is_none_or(|&last| last < seq) {
            self.waiting.push_back(seq);
        } else if self.waiting.front().is_some_and(|&first| seq < first) {
            self.waiting.push_front(seq);
        } else if let Err(at) = self.waiting.binary_search(&seq) {
            self.waiting.insert(at, seq);
        }
    }
}
