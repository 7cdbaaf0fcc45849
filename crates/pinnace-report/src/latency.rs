//! Percentiles of merged histograms.
//!
//! Invariant: a percentile is read from one histogram that holds every duration it speaks for;
//! nothing here averages percentiles. All quantiles of one histogram are read in one pass and equal
//! those of `Histogram::quantile_ns`.

use pinnace_proto::Histogram;
use pinnace_proto::histogram::bucket_bounds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::TAIL_COUNT_MIN;

/// The named quantiles of a table, with the fraction that is above each.
const NAMED: [f64; 6] = [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999];

/// Latencies of one kind of operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Operations.
    pub count: u64,
    /// Shortest, nanoseconds; this and the others are `null` when nothing was counted.
    pub min_ns: Option<u64>,
    /// Mean, nanoseconds.
    pub mean_ns: Option<f64>,
    /// Half of all are at or below this, nanoseconds.
    pub p50_ns: Option<u64>,
    /// 90 % are at or below this, nanoseconds.
    pub p90_ns: Option<u64>,
    /// 95 %, nanoseconds.
    pub p95_ns: Option<u64>,
    /// 99 %, nanoseconds.
    pub p99_ns: Option<u64>,
    /// 99.9 %, nanoseconds.
    pub p99_9_ns: Option<u64>,
    /// 99.99 %, nanoseconds.
    pub p99_99_ns: Option<u64>,
    /// Longest, nanoseconds.
    pub max_ns: Option<u64>,
    /// Highest of the quantiles above with at least ten operations beyond it; a higher one is no
    /// more than the worst few operations.
    pub trusted_quantile: Option<f64>,
    /// The whole distribution, for a curve: rising quantiles up to the last operation.
    pub curve: Vec<CurvePoint>,
}

/// One point of a percentile curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CurvePoint {
    /// Share of operations at or below, 0 to 1.
    pub quantile: f64,
    /// Duration, nanoseconds.
    pub ns: u64,
}

impl Latency {
    /// Reads all percentiles of `histogram`.
    pub fn of(histogram: &Histogram) -> Self {
        let count = histogram.count();
        if count == 0 {
            return Self::default();
        }
        let curve_quantiles = curve_quantiles(count);
        let mut wanted: Vec<f64> = NAMED.to_vec();
        wanted.extend_from_slice(&curve_quantiles);
        let values = quantiles(histogram, &wanted);
        let (named, curve) = values.split_at(NAMED.len());
        Self {
            count,
            min_ns: histogram.min_ns(),
            mean_ns: histogram.mean_ns(),
            p50_ns: named.first().copied(),
            p90_ns: named.get(1).copied(),
            p95_ns: named.get(2).copied(),
            p99_ns: named.get(3).copied(),
            p99_9_ns: named.get(4).copied(),
            p99_99_ns: named.get(5).copied(),
            max_ns: histogram.max_ns(),
            trusted_quantile: NAMED.into_iter().rev().find(|q| trusted(*q, count)),
            curve: curve_quantiles
                .into_iter()
                .zip(curve)
                .map(|(quantile, ns)| CurvePoint { quantile, ns: *ns })
                .collect(),
        }
    }

    /// The table's columns: a percentile's name, its quantile and its value.
    pub fn columns(&self) -> [(&'static str, f64, Option<u64>); 7] {
        [
            ("p50", 0.5, self.p50_ns),
            ("p90", 0.9, self.p90_ns),
            ("p95", 0.95, self.p95_ns),
            ("p99", 0.99, self.p99_ns),
            ("p99.9", 0.999, self.p99_9_ns),
            ("p99.99", 0.9999, self.p99_99_ns),
            ("max", 1.0, self.max_ns),
        ]
    }

    /// Whether at least ten operations lie beyond `quantile`. The maximum is exact and needs none.
    pub fn trusts(&self, quantile: f64) -> bool {
        quantile >= 1.0 || trusted(quantile, self.count)
    }
}

/// Ten operations beyond the quantile; the small allowance is for 1 - 0.9999 not being a binary
/// fraction, so that exactly 100 000 operations are enough.
fn trusted(quantile: f64, count: u64) -> bool {
    count as f64 * (1.0 - quantile) >= TAIL_COUNT_MIN - 1e-6
}

/// Quantiles evenly spaced on the axis a percentile curve is drawn on, `log10(1 / (1 - q))`, ten to
/// a decade, as far as there are operations to tell them apart.
fn curve_quantiles(count: u64) -> Vec<f64> {
    const PER_DECADE: f64 = 10.0;
    const DECADES: f64 = 5.0;
    let last = (count as f64).log10().min(DECADES);
    let steps = (last * PER_DECADE).floor() as u32;
    let mut quantiles: Vec<f64> = (0..=steps)
        .map(|step| 1.0 - 10f64.powf(-f64::from(step) / PER_DECADE))
        .collect();
    quantiles.push(1.0 - 10f64.powf(-last));
    quantiles.dedup_by(|a, b| (*a - *b).abs() < 1e-12);
    quantiles
}

/// The values of any quantiles, in the order asked for, in one pass over the buckets.
fn quantiles(histogram: &Histogram, wanted: &[f64]) -> Vec<u64> {
    let count = histogram.count();
    let (min, max) = (
        histogram.min_ns().unwrap_or(0),
        histogram.max_ns().unwrap_or(0),
    );
    let mut ranks: Vec<(u64, usize)> = wanted
        .iter()
        .enumerate()
        .map(|(place, quantile)| {
            let rank = (quantile.clamp(0.0, 1.0) * count as f64).ceil() as u64;
            (rank.max(1), place)
        })
        .collect();
    ranks.sort_unstable();
    let mut values = vec![max; wanted.len()];
    let mut ranks = ranks.into_iter().peekable();
    let mut seen = 0u64;
    for (bucket, in_bucket) in histogram.buckets() {
        seen += in_bucket;
        while let Some((_, place)) = ranks.next_if(|(rank, _)| *rank <= seen) {
            let (first, past) = bucket_bounds(bucket);
            // A document may carry a minimum above its maximum; `clamp` would panic on it.
            values[place] = (first + (past - first) / 2).max(min).min(max);
        }
        if ranks.peek().is_none() {
            break;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(count: u64) -> Histogram {
        let mut histogram = Histogram::default();
        (1..=count).for_each(|i| histogram.record(i * i % 7_919_000 + 40_000));
        histogram
    }

    #[test]
    fn one_pass_equals_the_histograms_own_quantiles() {
        for count in [1, 2, 9, 1_000, 250_000] {
            let histogram = spread(count);
            let latency = Latency::of(&histogram);
            for (name, quantile, value) in latency.columns() {
                let expected = match name {
                    "max" => histogram.max_ns(),
                    _ => histogram.quantile_ns(quantile),
                };
                assert_eq!(value, expected, "{name} of {count}");
            }
            for point in &latency.curve {
                assert_eq!(Some(point.ns), histogram.quantile_ns(point.quantile));
            }
            assert!(
                latency
                    .curve
                    .windows(2)
                    .all(|pair| pair[0].quantile < pair[1].quantile && pair[0].ns <= pair[1].ns)
            );
        }
    }

    #[test]
    fn a_percentile_is_trusted_with_ten_operations_beyond_it() {
        for (count, trusted) in [
            (0, None),
            (19, None),
            (20, Some(0.5)),
            (100, Some(0.9)),
            (999, Some(0.95)),
            (1_000, Some(0.99)),
            (99_999, Some(0.999)),
            (100_000, Some(0.9999)),
        ] {
            assert_eq!(
                Latency::of(&spread(count)).trusted_quantile,
                trusted,
                "{count}"
            );
        }
    }

    #[test]
    fn nothing_counted_is_null_and_not_zero() {
        let latency = Latency::of(&Histogram::for_recording());
        assert_eq!(latency, Latency::default());
        let json = serde_json::to_value(&latency).unwrap();
        assert!(json["p50_ns"].is_null() && json["mean_ns"].is_null());
    }
}
