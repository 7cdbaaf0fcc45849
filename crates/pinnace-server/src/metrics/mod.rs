//! Counters of the whole server, and the page that shows them.
//!
//! Invariant: counting never costs a message more than a few nanoseconds. What happens for each
//! message is counted in plain numbers that belong to one connection, under a lock it holds anyway,
//! and folded in here once a batch; clocks are read for one batch of [`SAMPLE`].

mod exposition;
mod histogram;
mod page;
mod process;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::METRIC_PATHS_MAX;
use crate::slow::SlowPolicy;
pub(crate) use exposition::CONTENT_TYPE;
pub(crate) use histogram::Histogram;
pub(crate) use page::render;

/// Of so many batches of a NATS connection, the times of one are taken.
pub(crate) const SAMPLE: u32 = 16;

/// Everything that is counted.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) nats: DoorMetrics,
    pub(crate) http: DoorMetrics,
    pub(crate) requests: RequestMetrics,
    /// Streams of server-sent events that are open.
    pub(crate) event_streams: Gauge,
    /// WebSockets that are open.
    pub(crate) sockets: Gauge,
    /// Connections that were refused because there were too many.
    pub(crate) refused_connections: Counter,
}

/// What is counted at each door.
#[derive(Default)]
pub(crate) struct DoorMetrics {
    pub(crate) connections: Gauge,
    pub(crate) connections_ever: Counter,
    /// Messages published here.
    pub(crate) received_messages: Counter,
    /// Messages handed to clients here.
    pub(crate) sent_messages: Counter,
    /// Bytes read from sockets.
    pub(crate) received_bytes: Counter,
    /// Bytes written to sockets.
    pub(crate) sent_bytes: Counter,
    /// Publishes that were refused.
    pub(crate) refused_publishes: Counter,
    /// Receivers that were ended because they did not keep up.
    pub(crate) slow_consumers: Counter,
    /// Messages that receivers who were behind did not get, the oldest.
    pub(crate) dropped_oldest: Counter,
    /// The same for those who want the newest only.
    pub(crate) dropped_for_newest: Counter,
    /// Times that a queue took over for a receiver that was behind.
    pub(crate) spills: Counter,
    /// Messages that receivers got from such a queue.
    pub(crate) spilled_messages: Counter,
    /// From reading a publish to its acknowledgement.
    pub(crate) publish_to_ack: Histogram,
    /// From reading a publish to the end of writing to its receivers.
    pub(crate) publish_to_deliver: Histogram,
}

impl DoorMetrics {
    /// Messages were left out for a receiver that was behind.
    pub(crate) fn count_dropped(&self, policy: SlowPolicy, count: u64) {
        match policy {
            SlowPolicy::NewestOnly => self.dropped_for_newest.add(count),
            _ => self.dropped_oldest.add(count),
        }
    }
}

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are.
#[derive(Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// One more, while the guard lives.
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self)
    }

    /// One more, to be followed by `leave`.
    pub(crate) fn join(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One fewer.
    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts one while it lives.
pub(crate) struct Entered<'a>(&'a Gauge);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Methods that are told apart.
const METHODS: [&str; 6] = ["GET", "POST", "DELETE", "PUT", "HEAD", "other"];
/// Statuses the HTTP door answers; others are counted as the last.
const STATUSES: [u16; 20] = [
    101, 200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 429, 500, 503, 507,
    0,
];

/// Requests of the HTTP door by path, method and status, and their times by path.
pub(crate) struct RequestMetrics {
    counts: Box<[AtomicU64]>,
    times: Box<[Histogram]>,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        let cells = METRIC_PATHS_MAX * METHODS.len() * STATUSES.len();
        Self {
            counts: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            times: (0..METRIC_PATHS_MAX)
                .map(|_| Histogram::default())
                .collect(),
        }
    }
}

impl RequestMetrics {
    /// Counts a request; `path` is its number among the door's paths.
    pub(crate) fn count(&self, path: usize, method: &str, status: u16) {
        let method = METHODS.iter().position(|known| *known == method);
        let method = method.unwrap_or(METHODS.len() - 1);
        let status = STATUSES.iter().position(|known| *known == status);
        let status = status.unwrap_or(STATUSES.len() - 1);
        let cell = (path * METHODS.len() + method) * STATUSES.len() + status;
        if let Some(cell) = self.counts.get(cell) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The times of the requests of a path.
    pub(crate) fn times(&self, path: usize) -> Option<&Histogram> {
        self.times.get(path)
    }

    /// Every combination that happened: path, method, status, count.
    fn counted(&self) -> impl Iterator<Item = (usize, &'static str, u16, u64)> {
        self.counts.iter().enumerate().filter_map(|(cell, count)| {
            let count = count.load(Ordering::Relaxed);
            let (rest, status) = (cell / STATUSES.len(), STATUSES[cell % STATUSES.len()]);
            let (path, method) = (rest / METHODS.len(), METHODS[rest % METHODS.len()]);
            (count > 0).then_some((path, method, status, count))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_and_odd_ones_counted_too() {
        let requests = RequestMetrics::default();
        let most = METRIC_PATHS_MAX - 1;
        for (path, method, status) in [
            (0, "GET", 200),
            (0, "GET", 200),
            (most, "BREW", 418),
            (0, "POST", 507),
            (most + 1, "GET", 200),
        ] {
            requests.count(path, method, status);
        }
        let counted: Vec<_> = requests.counted().collect();
        assert_eq!(
            counted,
            [
                (0, "GET", 200, 2),
                (0, "POST", 507, 1),
                (most, "other", 0, 1)
            ]
        );
    }
}
