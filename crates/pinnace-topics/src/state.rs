//! Queues and the index of stored messages, and the steps that change them.
//!
//! Invariant: the state is a function of the log's records in order. Live operations and replay
//! take the same steps; a step that was taken for a record not yet durable is remembered in
//! `pending` with what is needed to undo it, and undone in reverse order if the log refuses it.
//! A message is in the index while a queue holds it or a take in flight pins it. Callbacks are
//! collected here and run by the caller once the lock is gone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use pinnace_log::{Lsn, Position};

use crate::error::StoreError;
use crate::page::Dropped;
use crate::queues::{Done, TakeCell, Wake, WakeId};
use crate::routing::Routes;

/// A queue: a pattern, a name, and the messages not yet taken.
pub(crate) struct Queue {
    pub(crate) pattern: Arc<[u8]>,
    pub(crate) name: Arc<str>,
    /// Sequence numbers, ascending.
    pub(crate) waiting: VecDeque<u64>,
    /// Of the waiting messages.
    pub(crate) bytes: u64,
    /// The segment that holds its latest durable definition.
    pub(crate) defined: Option<u32>,
    /// Its creation, while that is not durable.
    pub(crate) creating: Option<Lsn>,
    pub(crate) wakes: Vec<(WakeId, Wake)>,
    /// Messages that could not be read when they were to be given out.
    pub(crate) damaged: u64,
}

impl Queue {
    pub(crate) fn new(pattern: Arc<[u8]>, name: Arc<str>) -> Queue {
        Queue {
            pattern,
            name,
            waiting: VecDeque::new(),
            bytes: 0,
            defined: None,
            creating: None,
            wakes: Vec::new(),
            damaged: 0,
        }
    }
}

/// A stored message.
pub(crate) struct Entry {
    /// Where its record is, once that is durable.
    pub(crate) position: Option<Position>,
    /// Queues in which it waits.
    pub(crate) held: u32,
    /// Takes, consumptions and deletions in flight that may still need it.
    pins: u32,
    /// Topic, headers and payload.
    pub(crate) bytes: u32,
    pub(crate) topic: Arc<[u8]>,
}

/// Stored messages of one topic.
#[derive(Default, Clone, Copy)]
pub(crate) struct TopicUse {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// What a segment of the log is still needed for.
#[derive(Default)]
pub(crate) struct SegmentUse {
    pub(crate) live: u32,
    pub(crate) live_bytes: u64,
    /// Messages that were put here; some may be gone or moved.
    pub(crate) seqs: Vec<u64>,
    /// Queues whose latest definition is here.
    pub(crate) defined: u32,
    /// Queues that were defined here; some may be gone or redefined.
    pub(crate) definitions: Vec<u32>,
}

/// A record that is not durable yet.
pub(crate) struct Pending {
    pub(crate) lsn: Lsn,
    pub(crate) op: Op,
}

/// What the record does, and what undoes it.
pub(crate) enum Op {
    Publish {
        seq: u64,
        queues: Arc<[u32]>,
        done: Option<Done>,
    },
    Create {
        queue: u32,
        held: Vec<u64>,
        dones: Vec<Done>,
    },
    Restate {
        queue: u32,
    },
    Delete {
        queue: u32,
        removed: Box<Queue>,
        done: Done,
    },
    Take {
        queue: u32,
        seqs: Vec<u64>,
        cell: Arc<TakeCell>,
    },
    Consume {
        queue: u32,
        seqs: Vec<u64>,
        through: u64,
        done: Done,
    },
    Copy {
        seq: u64,
    },
    ReclaimStep,
}

/// A callback with its argument, to be run without a lock.
pub(crate) enum Call {
    Done(Done, Result<u64, StoreError>),
    Take(Arc<TakeCell>, Result<(), StoreError>),
    Wake(Wake),
}

impl Call {
    pub(crate) fn run(self) {
        match self {
            Call::Done(done, outcome) => done(outcome),
            Call::Take(cell, outcome) => cell.decided(outcome),
            Call::Wake(wake) => wake(),
        }
    }
}

/// The progress of giving old segments back.
#[derive(Default)]
pub(crate) struct Reclaim {
    /// It is worth looking for segments to give back.
    pub(crate) due: bool,
    /// Segments up to this one are being emptied.
    pub(crate) upto: Option<u32>,
    /// A step has been appended and is not durable yet.
    pub(crate) stepping: bool,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) queues: HashMap<u32, Queue>,
    /// By pattern, then name.
    names: HashMap<Arc<[u8]>, HashMap<Arc<str>, u32>>,
    pub(crate) messages: BTreeMap<u64, Entry>,
    pub(crate) topics: HashMap<Arc<[u8]>, TopicUse>,
    pub(crate) segments: BTreeMap<u32, SegmentUse>,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) next_seq: u64,
    pub(crate) next_queue: u32,
    /// Messages up to this one are visible to takers.
    pub(crate) durable_seq: u64,
    pub(crate) next_wake: u64,
    pub(crate) reclaim: Reclaim,
    /// Messages that are stored no more.
    pub(crate) dropped: Dropped,
    /// Those who wait until the records up to theirs are durable or refused.
    pub(crate) settling: VecDeque<(Lsn, Done)>,
    /// The segment of the latest durable record.
    pub(crate) active_segment: u32,
    /// For encoding records.
    pub(crate) scratch: Vec<u8>,
}

impl State {
    pub(crate) fn new() -> State {
        State {
            next_seq: 1,
            next_queue: 1,
            ..State::default()
        }
    }

    pub(crate) fn queue_id(&self, pattern: &[u8], name: &str) -> Option<u32> {
        self.names.get(pattern)?.get(name).copied()
    }

    /// Puts a queue under its pattern and name.
    pub(crate) fn add_queue(&mut self, id: u32, queue: Queue) {
        let names = self.names.entry(Arc::clone(&queue.pattern)).or_default();
        names.insert(Arc::clone(&queue.name), id);
        self.queues.insert(id, queue);
    }

    /// Takes a queue away; the messages it held are pinned until `unpin`.
    pub(crate) fn remove_queue(&mut self, id: u32) -> Option<Queue> {
        let queue = self.queues.remove(&id)?;
        self.count_definition(queue.defined, -1);
        if let Some(names) = self.names.get_mut(&queue.pattern) {
            // Only its own name: a placeholder of a replay has none.
            if names.get(&queue.name) == Some(&id) {
                names.remove(&queue.name);
            }
            if names.is_empty() {
                self.names.remove(&queue.pattern);
            }
        }
        for seq in &queue.waiting {
            if let Some(entry) = self.messages.get_mut(seq) {
                entry.held -= 1;
                entry.pins += 1;
            }
        }
        Some(queue)
    }

    /// Undoes `remove_queue`.
    pub(crate) fn restore_queue(&mut self, id: u32, queue: Queue) {
        for seq in &queue.waiting {
            if let Some(entry) = self.messages.get_mut(seq) {
                entry.held += 1;
                entry.pins -= 1;
            }
        }
        self.count_definition(queue.defined, 1);
        self.add_queue(id, queue);
    }

    /// Adds a message to the index and to those of `queues` that exist.
    pub(crate) fn add_message(&mut self, seq: u64, queues: &[u32], topic: &Arc<[u8]>, bytes: u32) {
        let mut held = 0;
        for id in queues {
            if let Some(queue) = self.queues.get_mut(id) {
                held += 1;
                queue.bytes += u64::from(bytes);
                match queue.waiting.back() {
                    // Only a copy read in a replay can be out of order.
                    Some(&last) if last >= seq => {
                        let at = queue.waiting.partition_point(|&other| other < seq);
                        queue.waiting.insert(at, seq);
                    }
                    _ => queue.waiting.push_back(seq),
                }
            }
        }
        if held == 0 {
            return;
        }
        let topic = match self.topics.get_key_value(topic) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::clone(topic),
        };
        let usage = self.topics.entry(Arc::clone(&topic)).or_default();
        usage.messages += 1;
        usage.bytes += u64::from(bytes);
        self.messages.insert(
            seq,
            Entry {
                position: None,
                held,
                pins: 0,
                bytes,
                topic,
            },
        );
    }

    /// Notes where a message's record is, or where its copy is now.
    pub(crate) fn place(&mut self, seq: u64, position: Position) {
        let Some(entry) = self.messages.get_mut(&seq) else {
            return;
        };
        let bytes = entry.bytes;
        let old = entry.position.replace(position);
        let usage = self.segments.entry(position.segment).or_default();
        usage.live += 1;
        usage.live_bytes += u64::from(bytes);
        usage.seqs.push(seq);
        self.displace(old, bytes);
    }

    fn displace(&mut self, position: Option<Position>, bytes: u32) {
        let Some(position) = position else { return };
        if let Some(usage) = self.segments.get_mut(&position.segment) {
            usage.live -= 1;
            usage.live_bytes -= u64::from(bytes);
            if usage.live == 0 && position.segment != self.active_segment {
                self.reclaim.due = true;
            }
        }
    }

    /// Notes in which segment a queue is defined now.
    pub(crate) fn define(&mut self, id: u32, position: Position) {
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        queue.creating = None;
        let old = queue.defined.replace(position.segment);
        self.count_definition(old, -1);
        self.segments
            .entry(position.segment)
            .or_default()
            .definitions
            .push(id);
        self.count_definition(Some(position.segment), 1);
    }

    fn count_definition(&mut self, segment: Option<u32>, change: i32) {
        if let Some(usage) = segment.and_then(|segment| self.segments.get_mut(&segment)) {
            usage.defined = usage.defined.saturating_add_signed(change);
        }
    }

    /// Lets a new queue hold stored messages; returns those it now holds.
    pub(crate) fn hold(&mut self, id: u32, seqs: Vec<u64>) -> Vec<u64> {
        let Some(queue) = self.queues.get_mut(&id) else {
            return Vec::new();
        };
        let mut held = Vec::with_capacity(seqs.len());
        for seq in seqs {
            if let Some(entry) = self.messages.get_mut(&seq) {
                entry.held += 1;
                queue.bytes += u64::from(entry.bytes);
                held.push(seq);
            }
        }
        queue.waiting.extend(&held);
        held
    }

    /// Undoes `hold` for a queue that has been removed.
    fn unhold(&mut self, seqs: &[u64]) {
        for seq in seqs {
            if let Some(entry) = self.messages.get_mut(seq) {
                entry.pins += 1;
                entry.held -= 1;
            }
        }
        self.unpin(seqs);
    }

    /// Takes messages from the front of a queue as long as `more` agrees, and pins them.
    pub(crate) fn pop(&mut self, id: u32, mut more: impl FnMut(u64, u64) -> bool) -> Vec<u64> {
        let mut popped = Vec::new();
        let Some(queue) = self.queues.get_mut(&id) else {
            return popped;
        };
        while let Some(&seq) = queue.waiting.front() {
            let Some(entry) = self.messages.get_mut(&seq) else {
                queue.waiting.pop_front();
                continue;
            };
            if !more(seq, u64::from(entry.bytes)) {
                break;
            }
            queue.waiting.pop_front();
            queue.bytes -= u64::from(entry.bytes);
            entry.held -= 1;
            entry.pins += 1;
            popped.push(seq);
        }
        popped
    }

    /// Undoes `pop`.
    pub(crate) fn unpop(&mut self, id: u32, popped: &[u64]) {
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        for &seq in popped.iter().rev() {
            if let Some(entry) = self.messages.get_mut(&seq) {
                queue.waiting.push_front(seq);
                queue.bytes += u64::from(entry.bytes);
                entry.held += 1;
                entry.pins -= 1;
            }
        }
    }

    /// Messages that were popped are needed no longer by whoever popped them.
    pub(crate) fn unpin(&mut self, seqs: &[u64]) {
        for seq in seqs {
            if let Some(entry) = self.messages.get_mut(seq) {
                entry.pins -= 1;
                if entry.pins == 0 && entry.held == 0 {
                    self.forget(*seq);
                }
            }
        }
    }

    /// A message is needed no longer.
    fn forget(&mut self, seq: u64) {
        if let Some(entry) = self.remove(seq) {
            self.dropped.note(&entry.topic, seq);
        }
    }

    /// Takes a message out of the index.
    fn remove(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.messages.remove(&seq)?;
        if let Some(usage) = self.topics.get_mut(&entry.topic) {
            usage.messages -= 1;
            usage.bytes -= u64::from(entry.bytes);
            if usage.messages == 0 {
                self.topics.remove(&entry.topic);
            }
        }
        self.displace(entry.position, entry.bytes);
        Some(entry)
    }

    /// Takes a message that cannot be read away from every queue.
    pub(crate) fn discard_damaged(&mut self, seq: u64, candidates: &[u32]) {
        let Some(entry) = self.messages.get_mut(&seq) else {
            return;
        };
        for id in candidates {
            if let Some(queue) = self.queues.get_mut(id)
                && let Ok(at) = queue.waiting.binary_search(&seq)
            {
                queue.waiting.remove(at);
                queue.bytes -= u64::from(entry.bytes);
                queue.damaged += 1;
                entry.held -= 1;
            }
        }
        if entry.held == 0 && entry.pins == 0 {
            self.forget(seq);
        }
    }

    /// The record at the front of `pending` is durable at `position`.
    pub(crate) fn commit(&mut self, position: Position, calls: &mut Vec<Call>) {
        if position.segment != self.active_segment {
            self.active_segment = position.segment;
            self.reclaim.due = true;
        }
        let Some(Pending { op, lsn }) = self.pending.pop_front() else {
            return;
        };
        self.commit_op(op, position, calls);
        while self.settling.front().is_some_and(|(last, _)| *last <= lsn) {
            let settled = self.settling.pop_front();
            calls.extend(settled.map(|(_, done)| Call::Done(done, Ok(self.durable_seq))));
        }
    }

    fn commit_op(&mut self, op: Op, position: Position, calls: &mut Vec<Call>) {
        match op {
            Op::Publish { seq, queues, done } => {
                self.durable_seq = seq;
                self.place(seq, position);
                for id in queues.iter() {
                    self.wake(*id, calls);
                }
                calls.extend(done.map(|done| Call::Done(done, Ok(seq))));
            }
            Op::Create { queue, dones, .. } => {
                self.define(queue, position);
                self.wake(queue, calls);
                let seq = self.durable_seq;
                calls.extend(dones.into_iter().map(|done| Call::Done(done, Ok(seq))));
            }
            Op::Restate { queue } => self.define(queue, position),
            Op::Delete {
                mut removed, done, ..
            } => {
                self.unpin(removed.waiting.make_contiguous());
                calls.extend(removed.wakes.into_iter().map(|(_, wake)| Call::Wake(wake)));
                calls.push(Call::Done(done, Ok(self.durable_seq)));
            }
            Op::Take { cell, .. } => calls.push(Call::Take(cell, Ok(()))),
            Op::Consume {
                seqs,
                through,
                done,
                ..
            } => {
                self.unpin(&seqs);
                calls.push(Call::Done(done, Ok(through)));
            }
            Op::Copy { seq } => self.place(seq, position),
            Op::ReclaimStep => self.reclaim.stepping = false,
        }
    }

    /// Undoes every pending record from `first` on, last one first.
    pub(crate) fn refuse(
        &mut self,
        first: Lsn,
        error: &StoreError,
        routes: &Routes,
        calls: &mut Vec<Call>,
    ) {
        let from = calls.len();
        while self
            .pending
            .back()
            .is_some_and(|pending| pending.lsn >= first)
        {
            let Some(Pending { op, .. }) = self.pending.pop_back() else {
                break;
            };
            self.undo(op, error, routes, calls);
        }
        // Told in the order in which they were asked.
        calls[from..].reverse();
        // Those who wait for the last record that stands have been told when it was committed.
        let seq = self.durable_seq;
        calls.extend(
            self.settling
                .drain(..)
                .map(|(_, done)| Call::Done(done, Ok(seq))),
        );
    }

    fn undo(&mut self, op: Op, error: &StoreError, routes: &Routes, calls: &mut Vec<Call>) {
        let refused = |done| Call::Done(done, Err(error.clone()));
        match op {
            Op::Publish { seq, queues, done } => {
                self.next_seq = seq;
                self.unpublish(seq, &queues);
                calls.extend(done.map(refused));
            }
            Op::Create { queue, held, dones } => {
                if let Some(mut removed) = self.queues.remove(&queue) {
                    // What it held is given back here, not pinned.
                    removed.waiting.clear();
                    routes.remove_queue(&removed.pattern, queue);
                    calls.extend(removed.wakes.drain(..).map(|(_, wake)| Call::Wake(wake)));
                    self.queues.insert(queue, removed);
                    self.remove_queue(queue);
                }
                self.unhold(&held);
                self.next_queue = queue;
                calls.extend(dones.into_iter().rev().map(refused));
            }
            Op::Delete {
                queue,
                removed,
                done,
            } => {
                routes.add_queue(&removed.pattern, queue);
                self.restore_queue(queue, *removed);
                self.wake(queue, calls);
                calls.push(refused(done));
            }
            Op::Take { queue, seqs, cell } => {
                self.unpop(queue, &seqs);
                self.wake(queue, calls);
                calls.push(Call::Take(cell, Err(error.clone())));
            }
            Op::Consume {
                queue, seqs, done, ..
            } => {
                self.unpop(queue, &seqs);
                self.wake(queue, calls);
                calls.push(refused(done));
            }
            Op::ReclaimStep => (self.reclaim.upto, self.reclaim.stepping) = (None, false),
            Op::Restate { .. } | Op::Copy { .. } => {}
        }
    }

    fn unpublish(&mut self, seq: u64, queues: &[u32]) {
        let Some(entry) = self.messages.get_mut(&seq) else {
            return;
        };
        for id in queues {
            if let Some(queue) = self.queues.get_mut(id)
                && queue.waiting.back() == Some(&seq)
            {
                queue.waiting.pop_back();
                queue.bytes -= u64::from(entry.bytes);
            }
        }
        entry.held = 0;
        self.remove(seq);
    }

    /// The log has failed: everybody who waits for anything is told.
    pub(crate) fn fail(&mut self, error: &StoreError, calls: &mut Vec<Call>) {
        for Pending { op, .. } in self.pending.drain(..) {
            match op {
                Op::Publish { done, .. } => {
                    calls.extend(done.map(|done| Call::Done(done, Err(error.clone()))));
                }
                Op::Create { dones, .. } => calls.extend(
                    dones
                        .into_iter()
                        .map(|done| Call::Done(done, Err(error.clone()))),
                ),
                Op::Delete { removed, done, .. } => {
                    calls.extend(removed.wakes.into_iter().map(|(_, wake)| Call::Wake(wake)));
                    calls.push(Call::Done(done, Err(error.clone())));
                }
                Op::Consume { done, .. } => calls.push(Call::Done(done, Err(error.clone()))),
                Op::Take { cell, .. } => calls.push(Call::Take(cell, Err(error.clone()))),
                Op::Restate { .. } | Op::Copy { .. } | Op::ReclaimStep => {}
            }
        }
        for queue in self.queues.values_mut() {
            calls.extend(queue.wakes.drain(..).map(|(_, wake)| Call::Wake(wake)));
        }
        let failed = |(_, done)| Call::Done(done, Err(error.clone()));
        calls.extend(self.settling.drain(..).map(failed));
    }

    /// Whether a take would find something in the queue.
    pub(crate) fn has_visible(&self, id: u32) -> bool {
        let front = self.queues.get(&id).and_then(|queue| queue.waiting.front());
        front.is_some_and(|&seq| seq <= self.durable_seq)
    }

    /// Wakes those who wait for messages of the queue, if there are any.
    fn wake(&mut self, id: u32, calls: &mut Vec<Call>) {
        if self.has_visible(id)
            && let Some(queue) = self.queues.get_mut(&id)
        {
            calls.extend(queue.wakes.drain(..).map(|(_, wake)| Call::Wake(wake)));
        }
    }
}
