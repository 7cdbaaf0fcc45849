//! Latency histograms that merge exactly: a log-linear scheme on integer nanoseconds.
//!
//! Every octave is cut into 64 equal steps, so a bucket is at most 1/64 (1.6 %) of its value wide
//! and a reported quantile, the bucket's middle, is off by at most 0.8 %. Counts add, so the
//! histogram of a fleet is the sum of its workers' histograms; percentiles are never averaged.
//! The idea of log-linear buckets is that of Gil Tene's HdrHistogram; the index arithmetic is the
//! one fio documents for its own (`stat.h`, 64 steps per group).
//!
//! ```text
//! value  < 128          index = value                       exact
//! value >= 128          shift = floor(log2 value) - 6
//!                       index = (shift + 1) * 64 + (value >> shift) - 64
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Steps per octave, as a power of two.
const STEP_BITS: u32 = 6;
const STEPS: u64 = 1 << STEP_BITS;
/// Values at or above 2^44 ns (4.9 hours) are counted in the last bucket.
const VALUE_BITS: u32 = 44;
/// Number of buckets: one group of 64 below the first octave and one per octave above.
pub const BUCKETS: usize = ((VALUE_BITS - STEP_BITS + 1) as usize) << STEP_BITS;

/// The bucket that `nanoseconds` is counted in.
#[inline]
pub fn bucket_of(nanoseconds: u64) -> usize {
    let value = nanoseconds.min((1 << VALUE_BITS) - 1);
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEP_BITS;
    (((u64::from(shift) + 1) << STEP_BITS) + (value >> shift) - STEPS) as usize
}

/// First value of a bucket and the first one past it, in nanoseconds.
pub fn bucket_bounds(bucket: usize) -> (u64, u64) {
    let bucket = bucket.min(BUCKETS - 1) as u64;
    if bucket < STEPS {
        return (bucket, bucket + 1);
    }
    let shift = (bucket >> STEP_BITS) - 1;
    let first = ((bucket & (STEPS - 1)) + STEPS) << shift;
    (first, first + (1 << shift))
}

/// A histogram of durations in nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// By bucket, up to the last one that was needed: what was read takes no more room than it has
    /// to, and a recorder has them all.
    counts: Vec<u64>,
    count: u64,
    sum_ns: u64,
    min_ns: u64,
    max_ns: u64,
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        let figures = |h: &Self| (h.count, h.sum_ns, h.min_ns(), h.max_ns());
        figures(self) == figures(other) && self.buckets().eq(other.buckets())
    }
}

impl Eq for Histogram {}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: Vec::new(),
            count: 0,
            sum_ns: 0,
            min_ns: u64::MAX,
            max_ns: 0,
        }
    }
}

impl Histogram {
    /// An empty histogram with its buckets allocated, so that [`Self::record`] never allocates.
    pub fn for_recording() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            ..Self::default()
        }
    }

    /// Counts one duration.
    #[inline]
    pub fn record(&mut self, nanoseconds: u64) {
        if self.counts.len() < BUCKETS {
            self.counts.resize(BUCKETS, 0);
        }
        self.counts[bucket_of(nanoseconds)] += 1;
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(nanoseconds);
        self.min_ns = self.min_ns.min(nanoseconds);
        self.max_ns = self.max_ns.max(nanoseconds);
    }

    /// Adds all of `other`; the result is what one histogram of both series would be.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        *self = Self {
            counts: std::mem::take(&mut self.counts),
            ..Self::default()
        };
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// True when nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The shortest duration, exact; `None` when empty.
    pub fn min_ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min_ns)
    }

    /// The longest duration, exact; `None` when empty.
    pub fn max_ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max_ns)
    }

    /// Sum of all durations in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The mean in nanoseconds; `None` when empty.
    pub fn mean_ns(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_ns as f64 / self.count as f64)
    }

    /// The duration that a share `quantile` (0 to 1) of all durations does not exceed: the middle
    /// of the bucket with the rank `ceil(quantile * count)`, kept within the exact minimum and
    /// maximum. `None` when empty.
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((quantile.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen = count.saturating_add(seen);
            if seen >= rank {
                let (first, past) = bucket_bounds(bucket);
                let middle = first + (past - first) / 2;
                return Some(middle.clamp(self.min_ns, self.max_ns));
            }
        }
        Some(self.max_ns)
    }

    /// The non-empty buckets as (bucket, count), in rising order.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.counts
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, count)| *count > 0)
    }
}

/// How a histogram looks in JSON: the non-empty buckets only.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Histogram")]
struct Wire {
    /// The bucket scheme; only `log-linear-6` exists.
    scheme: String,
    /// Durations counted.
    count: u64,
    /// Sum of the durations, ns.
    sum_ns: u64,
    /// Shortest duration, ns; 0 when empty.
    min_ns: u64,
    /// Longest duration, ns; 0 when empty.
    max_ns: u64,
    /// Pairs of bucket and count, rising.
    buckets: Vec<(u32, u64)>,
}

const SCHEME: &str = "log-linear-6";

impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire {
            scheme: SCHEME.to_owned(),
            count: self.count,
            sum_ns: self.sum_ns,
            min_ns: self.min_ns().unwrap_or(0),
            max_ns: self.max_ns,
            buckets: self
                .buckets()
                .map(|(bucket, count)| (bucket as u32, count))
                .collect(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let wire = Wire::deserialize(deserializer)?;
        if wire.scheme != SCHEME {
            return Err(D::Error::custom(format!(
                "unknown histogram scheme `{}`",
                wire.scheme
            )));
        }
        let mut histogram = Self::default();
        if wire.buckets.is_empty() {
            return Ok(histogram);
        }
        let last = wire
            .buckets
            .iter()
            .map(|(bucket, _)| *bucket)
            .max()
            .unwrap_or(0) as usize;
        if last >= BUCKETS {
            return Err(D::Error::custom(format!(
                "histogram bucket {last} is beyond the last"
            )));
        }
        let rising = wire.buckets.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !rising || wire.min_ns > wire.max_ns {
            return Err(D::Error::custom(
                "histogram buckets do not rise, or its minimum is above its maximum",
            ));
        }
        histogram.counts.resize(last + 1, 0);
        for (bucket, count) in wire.buckets {
            histogram.counts[bucket as usize] = count;
            histogram.count = histogram
                .count
                .checked_add(count)
                .ok_or_else(|| D::Error::custom("histogram counts overflow"))?;
        }
        if histogram.count != wire.count {
            return Err(D::Error::custom(
                "histogram counts do not add up to `count`",
            ));
        }
        (histogram.sum_ns, histogram.min_ns, histogram.max_ns) =
            (wire.sum_ns, wire.min_ns, wire.max_ns);
        Ok(histogram)
    }
}

impl JsonSchema for Histogram {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Histogram".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Wire::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_tile_the_number_line() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let (first, past) = bucket_bounds(bucket);
            assert_eq!(first, next, "bucket {bucket}");
            assert_eq!(bucket_of(first), bucket);
            assert_eq!(bucket_of(past - 1), bucket);
            assert!(
                first < 128 || (past - first) * 64 <= first,
                "bucket {bucket} is too wide"
            );
            next = past;
        }
        assert_eq!(next, 1 << VALUE_BITS);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_one_percent_of_the_exact_ones() {
        let mut histogram = Histogram::for_recording();
        let mut values: Vec<u64> = (1..=10_000u64).map(|i| i * i * 37 % 9_999_991).collect();
        values.iter().for_each(|v| histogram.record(*v));
        values.sort_unstable();
        for quantile in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = ((quantile * 10_000.0_f64).ceil() as usize).max(1);
            let exact = values[rank - 1] as f64;
            let got = histogram.quantile_ns(quantile).unwrap() as f64;
            assert!(
                (got - exact).abs() <= exact * 0.01 + 1.0,
                "{quantile}: {got} {exact}"
            );
        }
    }

    #[test]
    fn merging_equals_recording_everything_in_one() {
        let (mut a, mut b, mut both) = (
            Histogram::default(),
            Histogram::default(),
            Histogram::default(),
        );
        for value in 0..5_000u64 {
            let target = if value % 3 == 0 { &mut a } else { &mut b };
            target.record(value * 1_003);
            both.record(value * 1_003);
        }
        a.merge(&b);
        a.merge(&Histogram::default());
        assert_eq!(a, both);
    }

    #[test]
    fn survives_json_and_refuses_nonsense() {
        let mut histogram = Histogram::default();
        [3, 90, 4_000_000, 80]
            .into_iter()
            .for_each(|v| histogram.record(v));
        let text = serde_json::to_string(&histogram).unwrap();
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
        for (from, to) in [
            ("log-linear-6", "other"),
            ("\"count\":4", "\"count\":5"),
            ("[3,1]", "[99999,1]"),
            ("[3,1]", "[400,1]"),
            ("\"min_ns\":3,", "\"min_ns\":4000001,"),
        ] {
            let broken = text.replace(from, to);
            assert_ne!(broken, text);
            assert!(
                serde_json::from_str::<Histogram>(&broken).is_err(),
                "{broken}"
            );
        }
        let empty = serde_json::to_string(&Histogram::for_recording()).unwrap();
        assert!(
            serde_json::from_str::<Histogram>(&empty)
                .unwrap()
                .is_empty()
        );
    }
}
