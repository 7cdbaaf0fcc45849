//! The rate limit of one worker: when the next chunk may be written.
//!
//! Invariant: over any stretch the bytes stay under rate × time + one chunk + the catch-up
//! allowance. The wait is the worker's; here is only arithmetic, so it is tested without waiting.

use std::time::{Duration, Instant};

use crate::limits::PACE_CATCH_UP_US;

/// Decides when the next chunk is due.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    base: Instant,
    bytes_since_base: u64,
}

impl Pace {
    /// A pace from `start` on.
    pub(crate) fn new(bytes_per_second: u64, start: Instant) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            base: start,
            bytes_since_base: 0,
        }
    }

    /// When the next chunk may begin, seen at `now`. One that is more than the allowance late is
    /// forgiven the rest, so a stall is not followed by a burst.
    pub(crate) fn due(&mut self, now: Instant) -> Instant {
        let nanoseconds =
            u128::from(self.bytes_since_base) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let due =
            self.base + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX / 4));
        let allowance = Duration::from_micros(PACE_CATCH_UP_US);
        if now > due + allowance {
            self.base = now - allowance;
            self.bytes_since_base = 0;
            return self.base;
        }
        due
    }

    /// Counts a chunk.
    pub(crate) fn spend(&mut self, bytes: u64) {
        self.bytes_since_base += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_due_as_their_bytes_are_paid_for() {
        let start = Instant::now();
        let mut pace = Pace::new(1_000_000, start);
        for chunk in 0..100u64 {
            let expected = start + Duration::from_millis(10 * chunk);
            assert_eq!(pace.due(expected), expected, "chunk {chunk}");
            pace.spend(10_000);
        }
    }

    #[test]
    fn a_stall_is_forgiven_beyond_the_allowance() {
        let start = Instant::now();
        let mut pace = Pace::new(1_000_000, start);
        let later = start + Duration::from_secs(10);
        let mut chunks = 0;
        while pace.due(later) <= later {
            pace.spend(10_000);
            chunks += 1;
        }
        assert_eq!(
            chunks, 11,
            "100 ms of catching up and the chunk that is due now"
        );
    }
}
