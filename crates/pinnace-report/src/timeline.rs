//! Where things lie in time: starts of clients on one axis, rates by step, gaps.
//!
//! Invariant: durations come from monotonic time only. Wall clocks place the *start* of a client on
//! the run's axis, and only while they agree with what the server saw; otherwise the server's own
//! clock does.

use pinnace_proto::run::RunHead;

use crate::fold::{Fold, Leg, Taken};
use crate::limits::{
    CLOCK_TRUST_US, GAP_MIN_US, GAP_SAMPLE_INTERVALS, POINT_COVER_PERCENT, SERIES_POINTS_MAX,
    SERIES_STEP_US, TIMELINE_MAX_US,
};
use crate::summary::{Gap, RateSeries};

/// Where one leg begins on the run's axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// Microseconds since the run's start.
    pub(crate) us: u64,
    /// The client's clock could not be, so the server's was taken.
    pub(crate) by_server_clock: bool,
}

/// The run's axis.
pub(crate) struct Axis {
    /// Wall clock of its zero, microseconds since 1970.
    pub(crate) origin_us: Option<u64>,
    /// Per client, per leg.
    pub(crate) starts: Vec<Vec<Start>>,
}

/// Places every leg. A client's wall clock is believed when its start lies between the run's
/// opening and the last moment that lets everything it said happen before the server last heard it,
/// give or take [`CLOCK_TRUST_US`].
pub(crate) fn axis(run: &RunHead, folds: &[Fold<'_>]) -> Axis {
    let walls: Vec<Vec<Option<(u64, bool)>>> = folds
        .iter()
        .map(|fold| {
            let heard = fold.lost.map_or(fold.record.last_heard_us, |lost| {
                lost.last_heard_us.max(fold.record.last_heard_us)
            });
            fold.legs
                .iter()
                .map(|leg| wall_start(run, leg, heard))
                .collect()
        })
        .collect();
    let origin_us = walls.iter().flatten().flatten().map(|wall| wall.0).min();
    let starts = walls
        .into_iter()
        .map(|legs| {
            legs.into_iter()
                .map(|wall| match (wall, origin_us) {
                    (Some((at_us, by_server_clock)), Some(origin)) => Start {
                        us: (at_us - origin).min(TIMELINE_MAX_US),
                        by_server_clock,
                    },
                    _ => Start::default(),
                })
                .collect()
        })
        .collect();
    Axis { origin_us, starts }
}

/// Wall clock of a leg's start, and whether it had to be the server's.
fn wall_start(run: &RunHead, leg: &Leg<'_>, last_heard_us: u64) -> Option<(u64, bool)> {
    let opened_us = run.opened_us;
    if opened_us == 0 || last_heard_us < opened_us {
        return leg.started_at_us.map(|at_us| (at_us, false));
    }
    let latest_us = last_heard_us
        .saturating_sub(leg.last_elapsed_us)
        .max(opened_us);
    let possible =
        opened_us.saturating_sub(CLOCK_TRUST_US)..=latest_us.saturating_add(CLOCK_TRUST_US);
    match leg.started_at_us {
        Some(at_us) if possible.contains(&at_us) => Some((at_us, false)),
        Some(_) => Some((latest_us, true)),
        None => Some((latest_us, false)),
    }
}

/// The width of one step for a run of `span_us`: one second, or as many as keep the series short.
pub(crate) fn step_us(span_us: u64) -> u64 {
    span_us
        .div_ceil(SERIES_POINTS_MAX)
        .div_ceil(SERIES_STEP_US)
        .max(1)
        * SERIES_STEP_US
}

/// Bytes and covered time by step.
pub(crate) struct Rates {
    step_us: u64,
    bytes: Vec<f64>,
    covered_us: Vec<u64>,
}

impl Rates {
    /// Empty rates for a run of `span_us`.
    pub(crate) fn new(step_us: u64, span_us: u64) -> Self {
        let steps = span_us.div_ceil(step_us.max(1)) as usize;
        Self {
            step_us: step_us.max(1),
            bytes: vec![0.0; steps],
            covered_us: vec![0; steps],
        }
    }

    /// Spreads a sample evenly over the steps its interval touches.
    pub(crate) fn add(&mut self, start_us: u64, sample: &Taken<'_>) {
        let (from, to) = (
            start_us.saturating_add(sample.from_us),
            start_us.saturating_add(sample.to_us),
        );
        if from >= to {
            return;
        }
        let per_us = sample.bytes as f64 / (to - from) as f64;
        let first = (from / self.step_us) as usize;
        let past = to.div_ceil(self.step_us) as usize;
        for step in first..past.min(self.bytes.len()) {
            let begin = step as u64 * self.step_us;
            let overlap = to.min(begin + self.step_us) - from.max(begin);
            self.bytes[step] += per_us * overlap as f64;
            self.covered_us[step] += overlap;
        }
    }

    /// Adds another client's rates: bytes add up, the time covered is that of whoever covered most.
    pub(crate) fn add_client(&mut self, other: &Self) {
        for (mine, theirs) in self.bytes.iter_mut().zip(&other.bytes) {
            *mine += theirs;
        }
        for (mine, theirs) in self.covered_us.iter_mut().zip(&other.covered_us) {
            *mine = (*mine).max((*theirs).min(self.step_us));
        }
    }

    /// The series; a step that samples hardly cover has no value.
    pub(crate) fn series(&self) -> RateSeries {
        let enough = self.step_us * POINT_COVER_PERCENT / 100;
        let point = |(bytes, covered): (&f64, &u64)| {
            let covered = (*covered).min(self.step_us);
            (covered >= enough.max(1)).then(|| (bytes * 1e6 / covered as f64) as u64)
        };
        RateSeries {
            step_us: self.step_us,
            bytes_per_second: self.bytes.iter().zip(&self.covered_us).map(point).collect(),
        }
    }
}

/// Bytes of a leg that fall into a window of the run's axis, a sample across the edge in
/// proportion.
pub(crate) fn bytes_within(leg: &Leg<'_>, start_us: u64, from_us: u64, to_us: u64) -> f64 {
    leg.samples
        .iter()
        .map(|sample| {
            let (begin, end) = (start_us + sample.from_us, start_us + sample.to_us);
            let overlap = end.min(to_us).saturating_sub(begin.max(from_us));
            sample.bytes as f64 * overlap as f64 / (end - begin) as f64
        })
        .sum()
}

/// Stretches of `0..until_us` (both in the leg's own time) that no sample covers and that are longer
/// than a late sample could explain.
pub(crate) fn gaps(leg: &Leg<'_>, start_us: u64, until_us: u64, sample_us: u64) -> Vec<Gap> {
    let tolerated = sample_us
        .saturating_mul(GAP_SAMPLE_INTERVALS)
        .max(GAP_MIN_US);
    let mut covered: Vec<(u64, u64)> = leg.samples.iter().map(|s| (s.from_us, s.to_us)).collect();
    covered.sort_unstable();
    covered.push((until_us, until_us));
    let mut gaps = Vec::new();
    let mut end = 0;
    for (from, to) in covered {
        if from.min(until_us).saturating_sub(end) > tolerated {
            gaps.push(Gap {
                from_us: start_us + end,
                to_us: start_us + from.min(until_us),
            });
        }
        end = end.max(to);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use pinnace_proto::Histogram;
    use pinnace_proto::event::{Sample, WorkerSample};

    use super::*;

    fn sample(from_us: u64, to_us: u64, bytes: u64) -> Sample {
        let (writes, syncs) = (Histogram::default(), Histogram::default());
        let worker = 0;
        Sample {
            from_us,
            to_us,
            workers: vec![WorkerSample {
                worker,
                bytes,
                writes,
                syncs,
            }],
        }
    }

    #[test]
    fn a_sample_is_spread_over_the_seconds_it_touches() {
        let mut rates = Rates::new(1_000_000, 3_000_000);
        rates.add(500_000, &Taken::of(&sample(0, 2_000_000, 4_000)));
        // 2 000 bytes a second throughout; the first and last second are half covered.
        let series = rates.series();
        assert_eq!(
            series.bytes_per_second,
            [Some(2_000), Some(2_000), Some(2_000)]
        );
        assert_eq!(rates.bytes, [1_000.0, 2_000.0, 1_000.0]);
    }

    #[test]
    fn a_step_that_is_hardly_covered_has_no_value_and_nothing_runs_past_the_end() {
        let mut rates = Rates::new(1_000_000, 2_000_000);
        rates.add(0, &Taken::of(&sample(0, 1_100_000, 1_100)));
        rates.add(0, &Taken::of(&sample(5_000_000, 6_000_000, 9)));
        assert_eq!(rates.series().bytes_per_second, [Some(1_000), None]);
    }

    #[test]
    fn a_long_run_gets_wide_steps_and_never_too_many() {
        for (span_us, expected_us) in [
            (0, 1_000_000),
            (25_000_000, 1_000_000),
            (3_600_000_000, 1_000_000),
            (3_600_000_001, 2_000_000),
            (86_400_000_000, 24_000_000),
        ] {
            assert_eq!(step_us(span_us), expected_us, "{span_us}");
            assert!(span_us.div_ceil(step_us(span_us)) <= SERIES_POINTS_MAX);
        }
    }

    #[test]
    fn gaps_are_found_at_the_start_between_and_at_the_end() {
        let samples = [
            sample(3_000_000, 4_000_000, 1),
            sample(8_000_000, 9_000_000, 1),
        ];
        let leg = Leg {
            samples: samples.iter().map(Taken::of).collect(),
            ..Leg::default()
        };
        let found = gaps(&leg, 100, 12_000_000, 1_000_000);
        let expected = [
            (100, 3_000_100),
            (4_000_100, 8_000_100),
            (9_000_100, 12_000_100),
        ];
        assert_eq!(found.len(), expected.len());
        for (gap, (from_us, to_us)) in found.iter().zip(expected) {
            assert_eq!((gap.from_us, gap.to_us), (from_us, to_us));
        }
        assert_eq!(gaps(&leg, 0, 9_000_000, 5_000_000), []);
        assert_eq!(gaps(&Leg::default(), 0, 0, 1), []);
    }

    #[test]
    fn bytes_in_a_window_are_counted_in_proportion() {
        let samples = [sample(0, 1_000_000, 100), sample(1_000_000, 2_000_000, 300)];
        let leg = Leg {
            samples: samples.iter().map(Taken::of).collect(),
            ..Leg::default()
        };
        let bytes = bytes_within(&leg, 1_000_000, 1_500_000, 2_500_000);
        assert!((bytes - 200.0).abs() < 1e-6, "{bytes}");
    }
}
