//! A histogram that many may add to: one addition for a class, one for the sum.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the classes, microseconds; longer times are in one more.
pub(super) const CLASSES_US: [u64; 19] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Times by class.
#[derive(Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; CLASSES_US.len() + 1],
    total_us: AtomicU64,
}

/// A histogram as it was at a moment.
pub(super) struct Counts {
    pub(super) classes: Vec<u64>,
    pub(super) total_us: u64,
}

impl Histogram {
    /// Adds `count` times of `elapsed`.
    pub(crate) fn add(&self, elapsed: Duration, count: u64) {
        let elapsed_us = elapsed.as_micros() as u64;
        let class = CLASSES_US.partition_point(|end| *end < elapsed_us);
        self.counts[class].fetch_add(count, Ordering::Relaxed);
        self.total_us
            .fetch_add(elapsed_us.saturating_mul(count), Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            classes: self.counts.iter().map(read).collect(),
            total_us: self.total_us.load(Ordering::Relaxed),
        }
    }
}
