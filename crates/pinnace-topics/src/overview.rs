//! The whole broker in a few numbers, for whoever watches it.
//!
//! Invariant: one look costs one pass over the queues, however many there are, and copies only the
//! few longest; idle queues cost nanoseconds each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pinnace_log::SyncTimes;

use crate::broker::Broker;
use crate::status::{QueueStatus, status};

/// The broker in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overview {
    /// Queues there are.
    pub queues: u64,
    /// Messages they hold; one that waits in two queues counts twice.
    pub waiting: u64,
    /// Of these, those given out on a lease.
    pub leased: u64,
    /// Bytes of what they hold: topic, headers, payload.
    pub waiting_bytes: u64,
    /// Messages dropped for a limit of their queue, since opening.
    pub dropped: u64,
    /// Messages that could not be read from disk, since opening.
    pub damaged: u64,
    /// When the oldest message of all queues was published, in microseconds since 1970.
    pub oldest_us: Option<u64>,
    /// The queues that hold most, the fullest first; none that is empty.
    pub fullest: Vec<QueueStatus>,
    /// Messages stored, each once.
    pub stored_messages: u64,
    /// Bytes the log takes on disk, counted to the end of each segment's last record.
    pub log_bytes: u64,
    /// Segments of the log.
    pub log_segments: u64,
    /// How long syncs took.
    pub syncs: SyncTimes,
}

impl Broker {
    /// Looks at everything once; `fullest_max` queues are told by name.
    #[must_use]
    pub fn overview(&self, fullest_max: usize) -> Overview {
        let segments = self.inner.log.segments();
        let mut overview = Overview {
            log_bytes: segments.iter().map(|segment| segment.used_bytes).sum(),
            log_segments: segments.len() as u64,
            syncs: self.inner.log.sync_times(),
            ..Overview::default()
        };
        let state = self.inner.core.lock();
        overview.queues = state.queues.len() as u64;
        overview.stored_messages = state.index.messages.len() as u64;
        let mut fullest = BinaryHeap::new();
        for (id, queue) in state.queues.iter() {
            let Some(active) = queue.active() else {
                continue;
            };
            let messages = queue.messages();
            overview.waiting += messages;
            overview.leased += active.leased.len() as u64;
            overview.waiting_bytes += queue.bytes();
            overview.dropped += active.dropped;
            overview.damaged += active.damaged;
            let leased = active.leased.keys().next().copied();
            let oldest = queue.front().into_iter().chain(leased).min();
            let oldest = oldest.and_then(|seq| state.index.messages.get(seq));
            let published_us = oldest.map(|entry| entry.published_us);
            overview.oldest_us = overview.oldest_us.into_iter().chain(published_us).min();
            if messages > 0 {
                fullest.push(Reverse((messages, id)));
                if fullest.len() > fullest_max {
                    fullest.pop();
                }
            }
        }
        let fullest = fullest.into_sorted_vec();
        let queues = fullest
            .iter()
            .filter_map(|Reverse((_, id))| state.queues.get(*id));
        overview.fullest = queues.map(|queue| status(&state, queue)).collect();
        overview
    }
}
