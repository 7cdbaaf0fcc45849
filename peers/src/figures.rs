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
    fn a_table_has_a_rule_of_its_width() {
        let text = table(&["a", "b"], &[vec!["1".into(), "2".into()]]);
        assert_eq!(text, "| a | b |\n| --- | --- |\n| 1 | 2 |\n");
    }
}
