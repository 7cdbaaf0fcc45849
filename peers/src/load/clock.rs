//! Time for stamps and pacing: the machine's monotonic clock, in nanoseconds.
//!
//! Invariant: stamps of two threads can be compared, since both read the same clock.

use std::num::NonZeroU64;

use anyhow::Result;
use rustix::thread::{clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::{ClockId, Timespec, clock_gettime};

const SECOND_NS: u64 = 1_000_000_000;

/// Now, nanoseconds.
#[inline]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * SECOND_NS + now.tv_nsec.unsigned_abs()
}

/// Sleeps until `due_ns`; at once when that is past.
///
/// # Errors
/// When the kernel refuses.
pub fn sleep_until_ns(due_ns: u64) -> Result<()> {
    let due = Timespec {
        tv_sec: i64::try_from(due_ns / SECOND_NS)?,
        tv_nsec: i64::try_from(due_ns % SECOND_NS)?,
    };
    match clock_nanosleep_absolute(ClockId::Monotonic, &due) {
        Ok(()) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits for so long, where there is no event to wait for.
///
/// # Errors
/// When the kernel refuses.
pub fn pause(duration: std::time::Duration) -> Result<()> {
    sleep_until_ns(now_ns().saturating_add(u64::try_from(duration.as_nanos())?))
}

/// Timers of this thread fire when they are due, not up to 50 µs later to save power.
///
/// # Errors
/// When the kernel refuses.
pub fn be_punctual() -> Result<()> {
    Ok(set_current_timer_slack(NonZeroU64::new(1))?)
}
