//! Building the state from the log's records.
//!
//! Invariant: each record takes the same steps as when it was live. A queue may be told of after
//! messages that refer to it (its older definition went with a dropped segment), so a reference to
//! a queue not known yet makes a placeholder; one that is still undefined at the end had its
//! definition damaged, and is reported and dropped.

use std::collections::HashSet;
use std::sync::Arc;

use pinnace_log::Position;

use crate::record::{self, Record};
use crate::routing::Routes;
use crate::state::{Queue, State};

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

#[derive(Default)]
pub(crate) struct Replay {
    pub(crate) state: State,
    placeholders: HashSet<u32>,
    /// Number of the first message that is not a copy: all later ones are in this log.
    first_seq: Option<u64>,
}

impl Replay {
    pub(crate) fn new() -> Replay {
        Replay {
            state: State::new(),
            placeholders: HashSet::new(),
            first_seq: None,
        }
    }

    /// Takes the steps of one record.
    pub(crate) fn record(&mut self, position: Position, bytes: &[u8]) -> Result<(), String> {
        match record::decode(bytes)? {
            Record::Message {
                copy,
                seq,
                queues,
                content,
                ..
            } => {
                self.see_seq(seq);
                if !copy && self.first_seq.is_none() {
                    self.first_seq = Some(seq);
                }
                for id in &queues {
                    self.see_queue(*id);
                }
                if !(copy && self.state.messages.contains_key(&seq)) {
                    let topic = Arc::from(content.topic);
                    self.state
                        .add_message(seq, &queues, &topic, content.bytes() as u32);
                }
                self.state.place(seq, position);
            }
            Record::Create {
                queue,
                pattern,
                name,
                holds,
            } => {
                self.define(queue, pattern, name, position);
                if let Some(&last) = holds.last() {
                    self.see_seq(last);
                }
                self.state.hold(queue, holds);
            }
            Record::Restate {
                queue,
                pattern,
                name,
            } => {
                self.define(queue, pattern, name, position);
            }
            Record::Delete { queue } => {
                self.see_id(queue);
                self.placeholders.remove(&queue);
                if let Some(mut removed) = self.state.remove_queue(queue) {
                    self.state.unpin(removed.waiting.make_contiguous());
                }
            }
            Record::Consume { queue, through } => {
                self.see_id(queue);
                self.see_seq(through);
                let popped = self.state.pop(queue, |seq, _| seq <= through);
                self.state.unpin(&popped);
            }
            Record::Counters {
                next_seq,
                next_queue,
            } => {
                self.see_seq(next_seq.saturating_sub(1));
                self.see_id(next_queue.saturating_sub(1));
            }
        }
        self.state.active_segment = position.segment;
        Ok(())
    }

    /// The finished state, with the queues entered in `routes`.
    pub(crate) fn finish(
        mut self,
        routes: &Routes,
        log: pinnace_log::Recovery,
    ) -> (State, Recovery) {
        for id in &self.placeholders {
            if let Some(mut removed) = self.state.remove_queue(*id) {
                self.state.unpin(removed.waiting.make_contiguous());
            }
        }
        for (id, queue) in &self.state.queues {
            routes.add_queue(&queue.pattern, *id);
        }
        self.state.durable_seq = self.state.next_seq - 1;
        // What went with dropped segments, or with damage, left no trace here.
        let known_from = self.first_seq.filter(|_| log.damage.is_empty());
        let unknown_through = known_from.unwrap_or(self.state.next_seq) - 1;
        self.state.dropped.forget_through(unknown_through);
        self.state.reclaim.due = true;
        let recovery = Recovery {
            log,
            queues: self.state.queues.len(),
            messages: self.state.messages.len(),
            undefined_queues: self.placeholders.len(),
        };
        (self.state, recovery)
    }

    fn define(&mut self, id: u32, pattern: &[u8], name: &str, position: Position) {
        self.see_id(id);
        if self.placeholders.remove(&id) {
            // The messages it collected stay with it.
            if let Some(mut queue) = self.state.queues.remove(&id) {
                (queue.pattern, queue.name) = (pattern.into(), name.into());
                self.state.add_queue(id, queue);
            }
        } else if !self.state.queues.contains_key(&id) {
            self.state
                .add_queue(id, Queue::new(pattern.into(), name.into()));
        }
        self.state.define(id, position);
    }

    fn see_queue(&mut self, id: u32) {
        self.see_id(id);
        if !self.state.queues.contains_key(&id) {
            self.placeholders.insert(id);
            self.state
                .queues
                .insert(id, Queue::new(Arc::from([]), "".into()));
        }
    }

    fn see_id(&mut self, id: u32) {
        self.state.next_queue = self.state.next_queue.max(id.saturating_add(1));
    }

    fn see_seq(&mut self, seq: u64) {
        self.state.next_seq = self.state.next_seq.max(seq.saturating_add(1));
    }
}
