//! Building the state from the log's records.
//!
//! Invariant: each record takes the same steps as when it was live. A queue may be told of after
//! messages that refer to it (its older definition went with a dropped segment), so a reference to
//! a queue not known yet makes a placeholder; one that is still undefined at the end had its
//! definition damaged, and is reported and dropped.

use std::collections::HashSet;
use std::sync::Arc;

use pinnace_log::Position;

use crate::filling::Filling;
use crate::identity;
use crate::queue::{Queue, QueueOptions};
use crate::record::{self, Record};
use crate::routing::Routes;
use crate::state::State;

/// What opening a broker found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The log's own findings: damage, torn tail.
    pub log: pinnace_log::Recovery,
    /// Queues that exist.
    pub queues: usize,
    /// Messages that wait in at least one queue.
    pub messages: usize,
    /// Queues that messages refer to but whose definition is lost to damage. They are gone.
    pub undefined_queues: usize,
}

pub(crate) struct Replay {
    state: State,
    /// Messages that are in the index and not in their queues yet.
    filling: Filling,
    placeholders: HashSet<u32>,
    identity_window_us: u64,
    /// Number of the first message that is not a copy: all later ones are in this log.
    first_seq: Option<u64>,
}

impl Replay {
    pub(crate) fn new(identity_window_us: u64) -> Replay {
        Replay {
            state: State::new(),
            filling: Filling::default(),
            placeholders: HashSet::new(),
            identity_window_us,
            first_seq: None,
        }
    }

    /// Takes the steps of one record.
    pub(crate) fn record(&mut self, position: Position, bytes: &[u8]) -> Result<(), String> {
        let record = record::decode(bytes)?;
        // Only new messages leave the queues as they are.
        if !matches!(record, Record::Message { copy: false, .. }) || self.filling.is_full() {
            self.fill();
        }
        match record {
            Record::Message {
                copy,
                seq,
                queues,
                published_us,
                id,
                content,
            } => {
                let (topic, bytes) = (content.topic, content.bytes() as u32);
                self.see_message((copy, seq, published_us), &queues, topic, bytes);
                self.state.index.place(seq, position);
                if let Some(id) = id {
                    let key = identity::key(topic, id);
                    let told = (Some(seq), None, queues.len() as u32);
                    let identities = &mut self.state.identities;
                    identities.remember(key, published_us, self.identity_window_us, told);
                }
            }
            Record::Create {
                queue,
                pattern,
                name,
                options,
                holds,
            } => {
                self.define(queue, pattern, name, options, position);
                if let Some(&last) = holds.last() {
                    self.see_seq(last);
                }
                self.state.hold(queue, holds);
            }
            Record::Restate {
                queue,
                pattern,
                name,
                options,
            } => {
                self.define(queue, pattern, name, options, position);
            }
            Record::Delete { queue } => self.drop_queue(queue),
            Record::Consume { queue, through } => {
                self.see_id(queue);
                self.see_seq(through);
                let popped = self.state.pop(queue, |seq, _, _| seq <= through);
                self.state.index.unpin(&popped);
            }
            Record::Settle { queue, seqs } => self.settle(queue, &seqs),
            Record::Counters {
                next_seq,
                next_queue,
            } => {
                self.see_seq(next_seq.saturating_sub(1));
                self.see_id(next_queue.saturating_sub(1));
            }
        }
        self.state.index.active_segment = position.segment;
        Ok(())
    }

    /// The finished state, with the queues entered in `routes`.
    pub(crate) fn finish(
        mut self,
        routes: &Routes,
        log: pinnace_log::Recovery,
    ) -> (State, Recovery) {
        self.fill();
        let undefined_queues = self.placeholders.len();
        for id in self.placeholders.clone() {
            self.drop_queue(id);
        }
        for (id, queue) in self.state.queues.iter() {
            routes.add_queue(&queue.pattern, id as u32);
        }
        self.state.durable_seq = self.state.next_seq - 1;
        // What went with dropped segments, or with damage, left no trace here.
        let known_from = self.first_seq.filter(|_| log.damage.is_empty());
        let unknown_through = known_from.unwrap_or(self.state.next_seq) - 1;
        self.state.index.gone.forget_through(unknown_through);
        self.state.index.reclaim_due = true;
        let recovery = Recovery {
            log,
            queues: self.state.queues.len(),
            messages: self.state.index.messages.len(),
            undefined_queues,
        };
        (self.state, recovery)
    }

    fn see_message(
        &mut self,
        (copy, seq, published_us): (bool, u64, u64),
        queues: &[u32],
        topic: &[u8],
        bytes: u32,
    ) {
        self.see_seq(seq);
        if !copy && self.first_seq.is_none() {
            self.first_seq = Some(seq);
        }
        // No program writes a number twice, but a log that has one is no reason to count wrong.
        if copy || self.state.index.messages.contains(seq) {
            self.fill();
            self.see_copy(seq, queues, topic, bytes, published_us);
        } else if let Some(last) = queues.last() {
            self.see_id(*last);
            let held = queues.len() as u32;
            self.state
                .index
                .add(seq, held, &Arc::from(topic), bytes, published_us);
            for id in queues {
                self.filling.note(*id, seq, bytes);
            }
        }
    }

    fn see_copy(&mut self, seq: u64, queues: &[u32], topic: &[u8], bytes: u32, published_us: u64) {
        for id in queues {
            self.see_queue(*id);
        }
        if self.state.index.messages.contains(seq) {
            self.state.add_holders(seq, queues);
        } else {
            let topic = Arc::from(topic);
            self.state
                .add_message(seq, queues, &topic, bytes, published_us);
        }
    }

    fn settle(&mut self, queue: u32, seqs: &[u64]) {
        self.see_id(queue);
        if let Some(&last) = seqs.last() {
            self.see_seq(last);
        }
        let picked = self.state.pick(queue, seqs);
        self.state.index.unpin(&picked);
    }

    /// Brings the queues up to date.
    fn fill(&mut self) {
        let (queues, placeholders) = (&mut self.state.queues, &mut self.placeholders);
        self.filling.fill(queues, |id| {
            placeholders.insert(id);
        });
    }

    fn define(
        &mut self,
        id: u32,
        pattern: &[u8],
        name: &str,
        options: Option<Box<QueueOptions>>,
        position: Position,
    ) {
        self.see_id(id);
        // There was one of this name, whose deletion was lost to damage.
        let other = self.state.queue_id(pattern, name);
        if let Some(other) = other.filter(|other| *other != id) {
            self.drop_queue(other);
        }
        if self.placeholders.remove(&id) {
            // The messages it collected stay with it.
            if let Some(mut queue) = self.state.queues.remove(u64::from(id)) {
                (queue.pattern, queue.name) = (pattern.into(), name.into());
                self.state.add_queue(id, queue);
            }
        } else if !self.state.queues.contains(u64::from(id)) {
            self.state.add_queue(id, Queue::new(pattern.into(), name));
        }
        self.state.set_options(id, options);
        self.state.define(id, position);
    }

    fn drop_queue(&mut self, id: u32) {
        self.see_id(id);
        self.placeholders.remove(&id);
        if let Some(removed) = self.state.remove_queue(id) {
            let waiting: Vec<u64> = removed.waiting().collect();
            self.state.index.unpin(&waiting);
        }
    }

    fn see_queue(&mut self, id: u32) {
        self.see_id(id);
        if !self.state.queues.contains(u64::from(id)) {
            self.placeholders.insert(id);
            let unnamed = Queue::new(Arc::from([]), "");
            self.state.queues.insert(u64::from(id), unnamed);
        }
    }

    fn see_id(&mut self, id: u32) {
        self.state.next_queue = self.state.next_queue.max(id.saturating_add(1));
    }

    fn see_seq(&mut self, seq: u64) {
        self.state.next_seq = self.state.next_seq.max(seq.saturating_add(1));
    }
}
