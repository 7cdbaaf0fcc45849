//! What the clients of a fleet have done so far, counted where all of them can reach it.

use std::sync::Mutex;
use std::time::Duration;

use pinnace_proto::Histogram;

/// Counts since the start, and latencies since the last look.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<Counts>,
}

/// The figures.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Events that were due.
    pub due: u64,
    /// Events the server acknowledged.
    pub acknowledged: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Publishes that had to be repeated.
    pub repeated: u64,
    /// From publish to acknowledgement.
    pub acknowledgement: Histogram,
    /// From the time an event was due to its acknowledgement.
    pub delay: Histogram,
}

impl Tally {
    /// An event has become due.
    pub fn due(&self) {
        self.with(|counts| counts.due += 1);
    }

    /// An event was acknowledged.
    pub fn acknowledged(&self, bytes: usize, acknowledgement: Duration, delay: Duration) {
        self.with(|counts| {
            counts.acknowledged += 1;
            counts.bytes += bytes as u64;
            counts.acknowledgement.record(nanos(acknowledgement));
            counts.delay.record(nanos(delay));
        });
    }

    /// A publish was not answered and is repeated.
    pub fn repeated(&self) {
        self.with(|counts| counts.repeated += 1);
    }

    /// The figures; latencies start anew.
    pub fn take(&self) -> Counts {
        self.with(|counts| {
            let taken = counts.clone();
            counts.acknowledgement.clear();
            counts.delay.clear();
            taken
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        // Counts are valid whatever a panicking holder left.
        let mut counts = self
            .counts
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        change(&mut counts)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stay_and_latencies_start_anew() {
        let tally = Tally::default();
        let ms = Duration::from_millis;
        tally.due();
        tally.acknowledged(10, ms(2), ms(3));
        let first = tally.take();
        assert_eq!((first.due, first.acknowledged, first.bytes), (1, 1, 10));
        assert_eq!(first.acknowledgement.max_ns(), Some(2_000_000));
        let second = tally.take();
        assert_eq!(second.acknowledged, 1);
        assert!(second.delay.is_empty());
    }
}
