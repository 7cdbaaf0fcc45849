//! What a worker counts between two hand-overs.
//!
//! Invariant: a worker owns its figures alone; they change hands as a whole box, so the data path
//! needs neither a lock nor a shared counter, and the sum over all boxes is the run.

use pinnace_proto::Histogram;
use pinnace_proto::event::WorkerSample;

/// Figures of one worker over one interval.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) bytes: u64,
    pub(crate) writes: Histogram,
    pub(crate) syncs: Histogram,
}

impl Figures {
    /// Empty, with its buckets allocated.
    pub(crate) fn new() -> Self {
        Self {
            bytes: 0,
            writes: Histogram::for_recording(),
            syncs: Histogram::for_recording(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes = 0;
        self.writes.clear();
        self.syncs.clear();
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.writes.merge(&other.writes);
        self.syncs.merge(&other.syncs);
    }

    /// Time spent in writes and syncs, microseconds.
    pub(crate) fn busy_us(&self) -> u64 {
        self.writes.sum_ns().saturating_add(self.syncs.sum_ns()) / 1_000
    }

    pub(crate) fn sample(&self, worker: u32) -> WorkerSample {
        WorkerSample {
            worker,
            bytes: self.bytes,
            writes: self.writes.clone(),
            syncs: self.syncs.clone(),
        }
    }
}
