//! The engine's only clock: monotonic, counted from the moment the workers start. The wall clock
//! never enters a duration.

use std::time::{Duration, Instant};

/// Time since an origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that reads 0 now.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Microseconds since the origin.
    pub(crate) fn elapsed_us(&self) -> u64 {
        self.us_at(Instant::now())
    }

    /// Microseconds from the origin to `instant`; 0 for an earlier one.
    pub(crate) fn us_at(&self, instant: Instant) -> u64 {
        micros(instant.saturating_duration_since(self.origin))
    }

    /// The instant `us` microseconds after the origin, at most a century.
    pub(crate) fn instant_at(&self, us: u64) -> Instant {
        const CENTURY_US: u64 = 100 * 366 * 86_400 * 1_000_000;
        self.origin + Duration::from_micros(us.min(CENTURY_US))
    }
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Whole nanoseconds.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    // Seconds that overflow this are five centuries.
    duration.as_secs().wrapping_mul(1_000_000_000) + u64::from(duration.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_both_ways() {
        let clock = Clock::start();
        assert_eq!(clock.us_at(clock.instant_at(1_234_567)), 1_234_567);
        assert_eq!(clock.us_at(clock.origin - Duration::from_secs(1)), 0);
        assert!(clock.instant_at(u64::MAX) > clock.instant_at(1));
        assert_eq!(nanos(Duration::new(3, 7)), 3_000_000_007);
    }
}
