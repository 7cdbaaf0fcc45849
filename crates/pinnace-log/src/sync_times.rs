//! How long syncs took: counted by the committer, one addition a sync, read by whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Log;

/// Upper ends of the classes that syncs are counted in, microseconds; longer ones are in one more.
pub const SYNC_CLASSES_US: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000,
];

/// Syncs of records since the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyncTimes {
    /// Syncs in each class of [`SYNC_CLASSES_US`], and the longer ones.
    pub counts: [u64; SYNC_CLASSES_US.len() + 1],
    /// All of them together, microseconds.
    pub total_us: u64,
}

impl Log {
    /// How long syncs of records took since the log was opened.
    #[must_use]
    pub fn sync_times(&self) -> SyncTimes {
        self.shared.sync_clock.read()
    }
}

#[derive(Default)]
pub(crate) struct SyncClock {
    counts: [AtomicU64; SYNC_CLASSES_US.len() + 1],
    total_us: AtomicU64,
}

impl SyncClock {
    pub(crate) fn count(&self, elapsed: Duration) {
        let elapsed_us = elapsed.as_micros() as u64;
        let class = SYNC_CLASSES_US.partition_point(|end| *end < elapsed_us);
        self.counts[class].fetch_add(1, Ordering::Relaxed);
        self.total_us.fetch_add(elapsed_us, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> SyncTimes {
        SyncTimes {
            counts: std::array::from_fn(|class| self.counts[class].load(Ordering::Relaxed)),
            total_us: self.total_us.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sync_is_in_its_class() {
        let clock = SyncClock::default();
        for elapsed_us in [0, 50, 51, 5_000_000, 5_000_001] {
            clock.count(Duration::from_micros(elapsed_us));
        }
        let times = clock.read();
        assert_eq!((times.counts[0], times.counts[1]), (2, 1));
        assert_eq!((times.counts[13], times.counts[14]), (1, 1));
        assert_eq!(times.counts.iter().sum::<u64>(), 5);
        assert_eq!(times.total_us, 10_000_102);
    }
}
