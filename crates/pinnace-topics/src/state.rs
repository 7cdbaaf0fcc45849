//! All queues and the index of messages, and the steps that change them.
//!
//! Invariant: the state is a function of the log's records in order. Live operations and replay
//! take the same steps; a step that was taken for a record not yet durable is remembered in
//! `pending` with what is needed to undo it (`steps.rs`). Leases are the exception: they live only
//! as long as the process, and a leased message still belongs to its queue.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use pinnace_log::{Lsn, Position};

use crate::identity::Identities;
use crate::index::Index;
use crate::leases::Leases;
use crate::paged::Paged;
use crate::queue::Queue;
use crate::queues::Done;
use crate::steps::{Call, Pending};

/// The progress of giving old segments back.
#[derive(Default)]
pub(crate) struct Reclaim {
    /// Segments up to this one are being emptied.
    pub(crate) upto: Option<u32>,
    /// A step has been appended and is not durable yet.
    pub(crate) stepping: bool,
}

pub(crate) struct State {
    pub(crate) queues: Paged<Queue>,
    /// The ids of all queues, by pattern and name.
    names: HashTable<u32>,
    hasher: RandomState,
    pub(crate) index: Index,
    pub(crate) leases: Leases,
    pub(crate) identities: Identities,
    /// Queues whose messages grow too old, in no order.
    pub(crate) aging: Vec<u32>,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) next_seq: u64,
    pub(crate) next_queue: u32,
    /// Messages up to this one are visible to takers.
    pub(crate) durable_seq: u64,
    pub(crate) next_wake: u64,
    pub(crate) reclaim: Reclaim,
    /// Those who wait until the records up to theirs are durable or refused.
    pub(crate) settling: VecDeque<(Lsn, Done)>,
    /// For encoding records.
    pub(crate) scratch: Vec<u8>,
}

impl State {
    pub(crate) fn new() -> State {
        State {
            queues: Paged::default(),
            names: HashTable::new(),
            hasher: RandomState::new(),
            index: Index::default(),
            leases: Leases::default(),
            identities: Identities::default(),
            aging: Vec::new(),
            pending: VecDeque::new(),
            next_seq: 1,
            next_queue: 1,
            durable_seq: 0,
            next_wake: 0,
            reclaim: Reclaim::default(),
            settling: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    pub(crate) fn queue(&self, id: u32) -> Option<&Queue> {
        self.queues.get(u64::from(id))
    }

    pub(crate) fn queue_mut(&mut self, id: u32) -> Option<&mut Queue> {
        self.queues.get_mut(u64::from(id))
    }

    pub(crate) fn queue_id(&self, pattern: &[u8], name: &str) -> Option<u32> {
        let is_it = |id: &u32| {
            self.queue(*id)
                .is_some_and(|queue| *queue.pattern == *pattern && *queue.name == *name)
        };
        let hash = self.hasher.hash_one((pattern, name));
        self.names.find(hash, is_it).copied()
    }

    /// Puts a queue under its pattern and name.
    pub(crate) fn add_queue(&mut self, id: u32, queue: Queue) {
        let hash = self.hasher.hash_one((&*queue.pattern, &*queue.name));
        self.name(id, hash);
        self.note_aging(id, &queue);
        self.queues.insert(u64::from(id), queue);
    }

    fn name(&mut self, id: u32, hash: u64) {
        let (queues, hasher) = (&self.queues, &self.hasher);
        self.names.insert_unique(hash, id, |id| {
            let queue = queues.get(u64::from(*id));
            queue.map_or(0, |queue| hasher.hash_one((&*queue.pattern, &*queue.name)))
        });
    }

    fn note_aging(&mut self, id: u32, queue: &Queue) {
        self.aging.retain(|other| *other != id);
        if queue
            .options
            .as_ref()
            .is_some_and(|options| options.age_max_us.is_some())
        {
            self.aging.push(id);
        }
    }

    /// Gives a queue other options.
    pub(crate) fn set_options(&mut self, id: u32, options: Option<Box<crate::QueueOptions>>) {
        let ages = options
            .as_ref()
            .is_some_and(|options| options.age_max_us.is_some());
        if let Some(queue) = self.queue_mut(id) {
            queue.options = options;
            self.aging.retain(|other| *other != id);
            if ages {
                self.aging.push(id);
            }
        }
    }

    /// Takes a queue away, its leases with it; the messages it held are pinned until `unpin`.
    pub(crate) fn remove_queue(&mut self, id: u32) -> Option<Queue> {
        let queue = self.queue(id)?;
        let hash = self.hasher.hash_one((&*queue.pattern, &*queue.name));
        // Only its own name: a placeholder of a replay has none.
        if let Ok(entry) = self.names.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        self.aging.retain(|other| *other != id);
        let mut queue = self.queues.remove(u64::from(id))?;
        self.index.undefine(queue.defined);
        if let Some(active) = queue.active().filter(|active| !active.leased.is_empty()) {
            self.leases.end_all(active.leased.values().copied());
            let active = queue.active_mut();
            for seq in std::mem::take(&mut active.leased).into_keys() {
                active.put(seq);
            }
        }
        for seq in queue.waiting() {
            self.index.pin(seq);
        }
        Some(queue)
    }

    /// Undoes `remove_queue`.
    pub(crate) fn restore_queue(&mut self, id: u32, queue: Queue) {
        for seq in queue.waiting() {
            self.index.hold_pinned(seq);
        }
        self.index.redefine(queue.defined);
        self.add_queue(id, queue);
    }

    /// Adds a message to the index and to those of `queues` that exist.
    pub(crate) fn add_message(
        &mut self,
        seq: u64,
        queues: &[u32],
        topic: &Arc<[u8]>,
        bytes: u32,
        published_us: u64,
    ) {
        let mut held = 0;
        for id in queues {
            if let Some(queue) = self.queue_mut(*id) {
                queue.add(seq, bytes);
                held += 1;
            }
        }
        if held > 0 {
            self.index.add(seq, held, topic, bytes, published_us);
        }
    }

    /// Lets those of `queues` that exist and do not hold a known message hold it.
    pub(crate) fn add_holders(&mut self, seq: u64, queues: &[u32]) {
        for id in queues {
            if let Some(queue) = self.queues.get_mut(u64::from(*id))
                && !queue.holds(seq)
                && let Some(bytes) = self.index.hold(seq)
            {
                queue.add(seq, bytes);
            }
        }
    }

    /// Those of `queues` that hold a message.
    pub(crate) fn holders(&self, seq: u64, queues: &[u32]) -> Vec<u32> {
        let holds = |id: &u32| self.queue(*id).is_some_and(|queue| queue.holds(seq));
        queues.iter().copied().filter(holds).collect()
    }

    /// Notes in which segment a queue is defined now.
    pub(crate) fn define(&mut self, id: u32, position: Position) {
        let Some(queue) = self.queues.get_mut(u64::from(id)) else {
            return;
        };
        if queue.active().is_some() {
            queue.active_mut().creating = None;
            queue.rest();
        }
        let old = queue.defined.replace(position.segment);
        self.index.define(id, position.segment, old);
    }

    /// Lets a new queue hold stored messages; returns those it now holds.
    pub(crate) fn hold(&mut self, id: u32, seqs: Vec<u64>) -> Vec<u64> {
        let known = |seq: &u64| self.index.messages.contains(*seq);
        let held: Vec<u64> = seqs.into_iter().filter(known).collect();
        for seq in &held {
            self.add_holders(*seq, &[id]);
        }
        held
    }

    /// Takes messages from the front of a queue as long as `more` agrees with their number, bytes
    /// and time of publication, and pins them.
    pub(crate) fn pop(&mut self, id: u32, mut more: impl FnMut(u64, u64, u64) -> bool) -> Vec<u64> {
        let mut popped = Vec::new();
        let Some(queue) = self.queues.get_mut(u64::from(id)) else {
            return popped;
        };
        while let Some(seq) = queue.front() {
            let Some(entry) = self.index.messages.get(seq) else {
                queue.remove(seq, 0);
                continue;
            };
            if !more(seq, u64::from(entry.bytes), entry.published_us) {
                break;
            }
            queue.remove(seq, entry.bytes);
            self.index.pin(seq);
            popped.push(seq);
        }
        queue.rest();
        popped
    }

    /// Takes these messages from a queue, and pins those it had.
    pub(crate) fn pick(&mut self, id: u32, seqs: &[u64]) -> Vec<u64> {
        let mut picked = Vec::with_capacity(seqs.len());
        let Some(queue) = self.queues.get_mut(u64::from(id)) else {
            return picked;
        };
        for seq in seqs {
            let bytes = self.index.messages.get(*seq).map_or(0, |entry| entry.bytes);
            if queue.remove(*seq, bytes) {
                self.index.pin(*seq);
                picked.push(*seq);
            }
        }
        queue.rest();
        picked
    }

    /// Undoes `pop` and `pick`. If the queue has gone meanwhile, nobody needs them.
    pub(crate) fn put_back(&mut self, id: u32, seqs: &[u64]) {
        let Some(queue) = self.queues.get_mut(u64::from(id)) else {
            return self.index.unpin(seqs);
        };
        for seq in seqs {
            if let Some(bytes) = self.index.hold_pinned(*seq) {
                queue.add(*seq, bytes);
            }
        }
    }

    /// Takes a message that cannot be read away from these queues.
    pub(crate) fn discard_damaged(&mut self, seq: u64, candidates: &[u32]) {
        for id in candidates {
            if !self.pick(*id, &[seq]).is_empty() {
                self.index.unpin(&[seq]);
                if let Some(queue) = self.queue_mut(*id) {
                    queue.active_mut().damaged += 1;
                }
            }
        }
        self.index.forget_if_unneeded(seq);
    }

    /// Whether a take would find something in the queue.
    pub(crate) fn has_visible(&self, id: u32) -> bool {
        let front = self.queue(id).and_then(Queue::front);
        front.is_some_and(|seq| seq <= self.durable_seq)
    }

    /// Wakes those who wait for messages of the queue, if there are any.
    pub(crate) fn wake(&mut self, id: u32, calls: &mut Vec<Call>) {
        if self.has_visible(id)
            && let Some(queue) = self.queue_mut(id)
        {
            let wakes = &mut queue.active_mut().wakes;
            calls.extend(wakes.drain(..).map(|(_, wake)| Call::Wake(wake)));
        }
    }
}
