//! What can be asked about topics, queues and storage.
//!
//! Invariant: only counts and names; asking changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use pinnace_log::LogState;

use crate::broker::Broker;
use crate::error::Error;
use crate::queue::{Queue, QueueOptions};
use crate::state::State;

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
    /// Messages it holds, waiting or leased, including those not durable yet.
    pub messages: u64,
    /// Of these, those given out on a lease.
    pub leased: u64,
    /// Their bytes: topic, headers, payload.
    pub bytes: u64,
    /// Sequence number of the oldest message it holds.
    pub first_seq: Option<u64>,
    /// When that was published, in microseconds since 1970.
    pub first_us: Option<u64>,
    /// Messages that could not be read from disk when they were to be given out, since opening.
    pub damaged: u64,
    /// Messages that were dropped for a limit of the queue, since opening.
    pub dropped: u64,
    /// What was asked for; `None` when nothing was.
    pub options: Option<QueueOptions>,
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
            let status = topics.entry(topic).or_default();
            status.subscriptions += subscriptions;
            status.queues += queues;
        }
        for (topic, usage) in &self.inner.core.lock().index.topics {
            let status = topics.entry(topic.to_vec()).or_default();
            (status.messages, status.bytes) = (usage.messages, usage.bytes);
        }
        let named = |(topic, status)| TopicStatus { topic, ..status };
        topics.into_iter().map(named).collect()
    }

    /// Every queue, sorted by pattern and name.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueStatus> {
        let state = self.inner.core.lock();
        let queues = state.queues.iter();
        let mut queues: Vec<_> = queues.map(|(_, queue)| status(&state, queue)).collect();
        drop(state);
        queues.sort_unstable_by(|a, b| (&a.pattern, &a.name).cmp(&(&b.pattern, &b.name)));
        queues
    }

    /// One queue.
    ///
    /// # Errors
    /// `NoSuchQueue`.
    pub fn queue_status(&self, pattern: &[u8], name: &str) -> Result<QueueStatus, Error> {
        let state = self.inner.core.lock();
        let queue = state.queue_id(pattern, name).and_then(|id| state.queue(id));
        queue
            .map(|queue| status(&state, queue))
            .ok_or_else(|| crate::queues::no_such_queue(pattern, name))
    }

    /// The queues that still hold message `seq` of `topic`: who has not read it yet. Sorted; `None`
    /// when there is no such message stored (any more).
    #[must_use]
    pub fn holders(&self, topic: &[u8], seq: u64) -> Option<Vec<QueueStatus>> {
        let state = self.inner.core.lock();
        let entry = state.index.messages.get(seq)?;
        if entry.held == 0 || *entry.topic != *topic {
            return None;
        }
        let candidates = Arc::clone(&self.inner.core.routes.find(topic).0.queues);
        let queues = candidates.iter().filter_map(|id| state.queue(*id));
        let holding = queues.filter(|queue| queue.holds(seq));
        let mut holders: Vec<_> = holding.map(|queue| status(&state, queue)).collect();
        drop(state);
        holders.sort_unstable_by(|a, b| (&a.pattern, &a.name).cmp(&(&b.pattern, &b.name)));
        Some(holders)
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

pub(crate) fn status(state: &State, queue: &Queue) -> QueueStatus {
    let active = queue.active();
    let leased = active.and_then(|active| active.leased.keys().next().copied());
    let first_seq = queue.front().into_iter().chain(leased).min();
    let first = first_seq.and_then(|seq| state.index.messages.get(seq));
    QueueStatus {
        pattern: queue.pattern.to_vec(),
        name: queue.name.to_string(),
        messages: queue.messages(),
        leased: active.map_or(0, |active| active.leased.len() as u64),
        bytes: queue.bytes(),
        first_seq,
        first_us: first.map(|entry| entry.published_us),
        damaged: active.map_or(0, |active| active.damaged),
        dropped: active.map_or(0, |active| active.dropped),
        options: queue.options.as_deref().cloned(),
    }
}
