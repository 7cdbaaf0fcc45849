//! The server's wall clock: the one place that reads it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970; 0 when the clock stands before that.
pub(crate) fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}
