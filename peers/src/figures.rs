//! Medians with their spread, and tables of them.
//!
//! Invariant: a median is of the values as measured; nothing is averaged or thrown away.

use std::fmt::Write as _;

use serde::Serialize;

/// Smallest, middle and largest of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Middle; the mean of the two middle ones for an even count.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

/// The spread of `values`; `None` when there are none.
pub fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let upper = sorted.len() / 2;
    let lower = (sorted.len() - 1) / 2;
    Some(Spread {
        min,
        median: f64::midpoint(sorted[lower], sorted[upper]),
        max,
    })
}

/// Quantiles of a set of times, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many times there were.
    pub samples: u64,
    /// Half are at most this.
    pub p50_us: f64,
    /// 99 of 100 are at most this.
    pub p99_us: f64,
    /// 999 of 1000 are at most this.
    pub p999_us: f64,
    /// The largest.
    pub max_us: f64,
}

/// The quantiles of times in nanoseconds, exact; `None` when there are none.
pub fn quantiles(mut times_ns: Vec<u32>) -> Option<Quantiles> {
    times_ns.sort_unstable();
    let last = times_ns.len().checked_sub(1)?;
    let at = |share: f64| {
        // The smallest time that is not exceeded by more than 1 - share of them.
        let rank = (share * times_ns.len() as f64).ceil() as usize;
        f64::from(times_ns[rank.saturating_sub(1).min(last)]) / 1e3
    };
    Some(Quantiles {
        samples: times_ns.len() as u64,
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: at(1.0),
    })
}

impl Spread {
    /// `median (min … max)` with `digits` decimals.
    pub fn show(&self, digits: usize) -> String {
        let Self { min, median, max } = self;
        format!("**{median:.digits$}** ({min:.digits$} … {max:.digits$})")
    }
}

/// A Markdown table.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!(
        "| {} |\n|{}\n",
        head.join(" | "),
        " --- |".repeat(head.len())
    );
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0][..], Some((3.0, 3.0, 3.0))),
            (&[9.0, 1.0, 2.0][..], Some((1.0, 2.0, 9.0))),
            (&[4.0, 1.0, 2.0, 9.0][..], Some((1.0, 3.0, 9.0))),
        ] {
            let found = spread(values).map(|s| (s.min, s.median, s.max));
            assert_eq!(found, expected, "{values:?}");
        }
    }

    #[test]
    fn quantiles_are_samples() {
        assert_eq!(quantiles(Vec::new()), None);
        let one = quantiles(vec![5_000]).unwrap();
        assert_eq!((one.p50_us, one.p99_us, one.max_us), (5.0, 5.0, 5.0));
        let times = (1..=1_000).rev().map(|time| time * 1_000).collect();
        let many = quantiles(times).unwrap();
        assert_eq!(many.samples, 1_000);
        let found = [many.p50_us, many.p99_us, many.p999_us, many.max_us];
        assert_eq!(found, [500.0, 990.0, 999.0, 1_000.0]);
    }

    #[test]
    fn a_table_has_a_rule_of_its_width() {
        let text = table(&["a", "b"], &[vec!["1".into(), "2".into()]]);
        assert_eq!(text, "| a | b |\n| --- | --- |\n| 1 | 2 |\n");
    }
}
