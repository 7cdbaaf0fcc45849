//! What can be asked about topics, queues and storage.
//!
//! Invariant: only counts and names; asking changes nothing.

use std::collections::BTreeMap;

use pinnace_log::LogState;

use crate::broker::Broker;
use crate::error::Error;
use crate::state::Queue;

/// A topic or pattern that somebody is interested in or that has stored messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicStatus {
    /// The topic, or a pattern with wildcards.
    pub topic: Vec<u8>,
    /// Live subscriptions to exactly this.
    pub subscriptions: usize,
    /// Queues on exactly this.
    pub queues: usize,
    /// Messages stored that were published to exactly this.
    pub messages: u64,
    /// Their bytes: topic, headers, payload.
    pub bytes: u64,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// Its pattern.
    pub pattern: Vec<u8>,
    /// Its name.
    pub name: String,
    /// Messages waiting, including those not durable yet.
    pub messages: u64,
    /// Their bytes: topic, headers, payload.
    pub bytes: u64,
    /// Sequence number of the oldest waiting message.
    pub first_seq: Option<u64>,
    /// Messages that could not be read from disk when they were to be given out, since opening.
    pub damaged: u64,
}

/// Whether messages can be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageState {
    /// They can.
    Ok,
    /// There is no space; takes and deletes still work.
    Full(String),
    /// The disk has failed; only reading works, until a restart.
    Failed(String),
}

impl Broker {
    /// Topics and patterns with interest or stored messages, sorted.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicStatus> {
        let mut topics: BTreeMap<Vec<u8>, TopicStatus> = BTreeMap::new();
        for (topic, subscriptions, queues) in self.inner.core.routes.patterns() {
            let status = TopicStatus {
                subscriptions,
                queues,
                ..TopicStatus::default()
            };
            topics.insert(topic, status);
        }
        for (topic, usage) in &self.inner.core.lock().topics {
            let status = topics.entry(topic.to_vec()).or_default();
            (status.messages, status.bytes) = (usage.messages, usage.bytes);
        }
        let named = |(topic, status)| TopicStatus { topic, ..status };
        topics.into_iter().map(named).collect()
    }

    /// Every queue, sorted by pattern and name.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueStatus> {
        let mut queues: Vec<_> = self.inner.core.lock().queues.values().map(status).collect();
        queues.sort_unstable_by(|a, b| (&a.pattern, &a.name).cmp(&(&b.pattern, &b.name)));
        queues
    }

    /// One queue.
    ///
    /// # Errors
    /// `NoSuchQueue`.
    pub fn queue_status(&self, pattern: &[u8], name: &str) -> Result<QueueStatus, Error> {
        let state = self.inner.core.lock();
        let queue = state
            .queue_id(pattern, name)
            .and_then(|id| state.queues.get(&id));
        queue
            .map(status)
            .ok_or_else(|| crate::queues::no_such_queue(pattern, name))
    }

    /// Whether messages can be stored.
    #[must_use]
    pub fn state(&self) -> StorageState {
        match self.inner.log.state() {
            LogState::Open => StorageState::Ok,
            LogState::Full(reason) => StorageState::Full(reason),
            LogState::Failed(reason) => StorageState::Failed(reason),
        }
    }

    /// Bytes the log takes on disk, counted to the end of each segment's last record.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.inner
            .log
            .segments()
            .iter()
            .map(|segment| segment.used_bytes)
            .sum()
    }
}

fn status(queue: &Queue) -> QueueStatus {
    QueueStatus {
        pattern: queue.pattern.to_vec(),
        name: queue.name.to_string(),
        messages: queue.waiting.len() as u64,
        bytes: queue.bytes,
        first_seq: queue.waiting.front().copied(),
        damaged: queue.damaged,
    }
}
