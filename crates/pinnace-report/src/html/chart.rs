//! Plots as inline SVG that stretches with the page, with labels as ordinary text beside it, so that
//! a chart is as wide as there is room and its letters keep their size.
//!
//! Invariant: every coordinate lies in the canvas, 0 to [`WIDTH`] by 0 to [`HEIGHT`]; no figure of
//! any size (zero, huge, missing) gives a coordinate that is not a number.
//!
//! Left to others: which lines to draw (`figures`).

use std::fmt::Write;

use crate::words::us;

/// Canvas of every plot, in its own units.
pub(crate) const WIDTH: f64 = 1000.0;
/// See [`WIDTH`].
pub(crate) const HEIGHT: f64 = 100.0;

/// A mark on an axis: where along it (0 to 1) and what it says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) at: f64,
    pub(crate) label: String,
}

/// A linear scale from zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) most: f64,
}

impl Scale {
    /// Where `value` is, 0 to 1.
    pub(crate) fn at(self, value: f64) -> f64 {
        if self.most > 0.0 && value.is_finite() {
            (value / self.most).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// Horizontal coordinate of a time.
    pub(crate) fn x(self, value: u64) -> f64 {
        self.at(value as f64) * WIDTH
    }

    /// Vertical coordinate; zero is at the bottom.
    pub(crate) fn y(self, value: f64) -> f64 {
        (1.0 - self.at(value)) * HEIGHT
    }
}

/// A scale that holds `most` and ends at a round figure, with its ticks; `label` words one.
pub(crate) fn round_scale(
    most: f64,
    unit: f64,
    label: impl Fn(f64) -> String,
) -> (Scale, Vec<Tick>) {
    let most = if most.is_finite() && most > 0.0 {
        most
    } else {
        unit
    };
    let step = round_step(most / unit / 4.0) * unit;
    let steps = (most / step).ceil().max(1.0);
    let scale = Scale { most: step * steps };
    let ticks = (0..=steps as u32)
        .map(|place| {
            let value = f64::from(place) * step;
            Tick {
                at: scale.at(value),
                label: label(value),
            }
        })
        .collect();
    (scale, ticks)
}

/// The largest power of 1024 that is not above `bytes`, so that ticks are round in their unit.
pub(crate) fn byte_unit(bytes: f64) -> f64 {
    let step = if bytes >= 1.0 {
        bytes.log2() / 10.0
    } else {
        0.0
    };
    1024f64.powi(step.floor().clamp(0.0, 4.0) as i32)
}

/// 1, 2, 2.5 or 5 times a power of ten, not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-9).log10().floor());
    let lead = step / power;
    let round = [1.0, 2.0, 2.5, 5.0, 10.0];
    round
        .into_iter()
        .find(|r| *r >= lead - 1e-9)
        .unwrap_or(10.0)
        * power
}

/// Ticks of a time axis of `span_us`, in steps that people count in.
pub(crate) fn time_ticks(span_us: u64) -> Vec<Tick> {
    const STEPS_S: [f64; 19] = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0,
        1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0,
    ];
    let span_s = span_us as f64 / 1e6;
    if span_s <= 0.0 {
        return Vec::new();
    }
    let wanted = span_s / 10.0;
    let fits = STEPS_S.into_iter().find(|step| *step >= wanted);
    let step = fits.unwrap_or_else(|| (wanted / 86_400.0).ceil() * 86_400.0);
    (0..=(span_s / step + 1e-9).floor() as u32)
        .map(|place| {
            let at_s = f64::from(place) * step;
            Tick {
                at: at_s / span_s,
                label: time_label(at_s),
            }
        })
        .collect()
}

fn time_label(at_s: f64) -> String {
    let whole = at_s.round() as u64;
    match whole {
        _ if at_s < 120.0 => format!("{} s", trimmed(at_s, 1)),
        _ if whole < 7_200 && whole.is_multiple_of(60) => format!("{} min", whole / 60),
        _ if whole.is_multiple_of(3_600) => format!("{} h", whole / 3_600),
        _ => us(whole * 1_000_000),
    }
}

/// A number with at most `decimals` decimals and no zeros at their end.
pub(crate) fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        let text = text.trim_end_matches('0').trim_end_matches('.');
        return if text == "-0" {
            "0".to_owned()
        } else {
            text.to_owned()
        };
    }
    text
}

/// Points of a line with its holes: each run of points without a hole is one stretch.
pub(crate) type Stretches = Vec<Vec<(f64, f64)>>;

/// A stepped series (one value per step of time) as stretches, thinned to about `points_max`
/// points by keeping the smallest and largest value of each pixel-wide bin in order of time.
pub(crate) fn stretches(
    values: &[Option<u64>],
    x_of: impl Fn(usize) -> f64,
    y_of: impl Fn(u64) -> f64,
    points_max: usize,
) -> Stretches {
    let per_bin = (values.len() * 2).div_ceil(points_max.max(2)).max(1);
    let per_bin = if values.len() <= points_max {
        1
    } else {
        per_bin
    };
    let mut all = Stretches::new();
    let mut open: Vec<(f64, f64)> = Vec::new();
    for (bin, chunk) in values.chunks(per_bin).enumerate() {
        let first = bin * per_bin;
        let known = || {
            let places = chunk.iter().enumerate();
            places.filter_map(|(place, value)| value.map(|value| (first + place, value)))
        };
        let ends = [
            known().min_by_key(|(_, value)| *value),
            known().max_by_key(|(_, value)| *value),
        ];
        let [Some(low), Some(high)] = ends else {
            all.extend((!open.is_empty()).then(|| std::mem::take(&mut open)));
            continue;
        };
        let mut kept = vec![low.min(high), low.max(high)];
        kept.dedup();
        open.extend(kept.into_iter().map(|(place, v)| (x_of(place), y_of(v))));
    }
    all.extend((!open.is_empty()).then_some(open));
    all
}

/// Path data of a line; a stretch of a single point becomes a short dash.
pub(crate) fn line_path(stretches: &Stretches) -> String {
    let mut path = String::new();
    for stretch in stretches {
        for (place, (x, y)) in stretch.iter().enumerate() {
            point(&mut path, if place == 0 { 'M' } else { 'L' }, *x, *y);
        }
        if let [(x, y)] = stretch.as_slice() {
            point(&mut path, 'L', (x + 4.0).min(WIDTH), *y);
        }
    }
    path
}

/// Path data of the area between a line and the bottom.
pub(crate) fn area_path(stretches: &Stretches) -> String {
    let mut path = String::new();
    for stretch in stretches {
        let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else {
            continue;
        };
        point(&mut path, 'M', first.0, HEIGHT);
        stretch
            .iter()
            .for_each(|(x, y)| point(&mut path, 'L', *x, *y));
        point(&mut path, 'L', last.0, HEIGHT);
        path.push('Z');
    }
    path
}

/// Path data of upright strokes at `xs` from `top` to `bottom`; strokes less than
/// `apart` from each other are one.
pub(crate) fn strokes(xs: impl Iterator<Item = f64>, apart: f64, top: f64, bottom: f64) -> String {
    let mut path = String::new();
    let mut before = f64::NEG_INFINITY;
    for x in xs {
        if x - before >= apart {
            point(&mut path, 'M', x, top);
            let _ = write!(path, "V{}", trimmed(bottom, 1));
            before = x;
        }
    }
    path
}

/// Path data of bands from `x` to `x` over the whole height; bands less than `apart` from each other
/// are one, and none is narrower.
pub(crate) fn bands(mut spans: Vec<(f64, f64)>, apart: f64) -> String {
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut merged: Vec<(f64, f64)> = Vec::new();
    for (from, to) in spans {
        let to = to.max(from + apart).min(WIDTH);
        match merged.last_mut() {
            Some(last) if from < last.1 + apart => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    let mut path = String::new();
    for (from, to) in merged {
        point(&mut path, 'M', from, 0.0);
        let (to, from, low) = (trimmed(to, 1), trimmed(from, 1), trimmed(HEIGHT, 1));
        let _ = write!(path, "H{to}V{low}H{from}Z");
    }
    path
}

fn point(path: &mut String, letter: char, x: f64, y: f64) {
    let _ = write!(path, "{letter}{} {}", trimmed(x, 1), trimmed(y, 1));
}

/// Labels along the vertical axis.
pub(crate) fn y_labels(ticks: &[Tick]) -> String {
    let mut html = String::from("<div class=\"y\" aria-hidden=\"true\">");
    for tick in ticks {
        let at = trimmed(tick.at * 100.0, 2);
        let _ = write!(html, "<span style=\"bottom:{at}%\">{}</span>", tick.label);
    }
    html.push_str("</div>");
    html
}

/// Labels along the horizontal axis. Every second one gives way on a narrow page, and the outermost
/// stay within the plot.
pub(crate) fn x_labels(ticks: &[Tick]) -> String {
    let mut html = String::from("<div class=\"x\" aria-hidden=\"true\">");
    for (place, tick) in ticks.iter().enumerate() {
        let class = match (tick.at, place % 2) {
            (at, _) if at < 0.01 => " class=\"first\"",
            (at, 1) if at > 0.97 => " class=\"last alt\"",
            (at, _) if at > 0.97 => " class=\"last\"",
            (_, 1) => " class=\"alt\"",
            _ => "",
        };
        let at = trimmed(tick.at * 100.0, 2);
        let _ = write!(
            html,
            "<span{class} style=\"left:{at}%\">{}</span>",
            tick.label
        );
    }
    html.push_str("</div>");
    html
}

/// Grid lines at ticks of both axes.
pub(crate) fn grid(x_ticks: &[Tick], y_ticks: &[Tick]) -> String {
    let mut path = String::new();
    for tick in x_ticks.iter().filter(|tick| tick.at > 0.0 && tick.at < 1.0) {
        point(&mut path, 'M', tick.at * WIDTH, 0.0);
        path.push_str("V100");
    }
    for tick in y_ticks.iter().filter(|tick| tick.at > 0.0) {
        point(&mut path, 'M', 0.0, (1.0 - tick.at) * HEIGHT);
        path.push_str("H1000");
    }
    format!("<path class=\"g\" d=\"{path}\"/><path class=\"ax\" d=\"M0 100H1000\"/>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_figures_with_few_ticks() {
        for most in [0.0, 0.3, 1.0, 7.0, 64.0, 99.9, 1_000.0, 123_456.0, f64::NAN] {
            let (scale, ticks) = round_scale(most, 1.0, |v| trimmed(v, 3));
            assert!(most.is_nan() || scale.most >= most, "{most}");
            assert!((2..=6).contains(&ticks.len()), "{most}: {ticks:?}");
            assert!((ticks.last().unwrap().at - 1.0).abs() < 1e-9, "{most}");
        }
        let (scale, _) = round_scale(171.0 * 1_048_576.0, 1_048_576.0, |_| String::new());
        assert!((scale.most / 1_048_576.0 - 200.0).abs() < 1e-6);
    }

    #[test]
    fn time_axes_have_a_handful_of_ticks_whatever_the_span() {
        for span_us in [
            0,
            1,
            900_000,
            25_100_000,
            600_000_000,
            90_000_000_000,
            1 << 50,
        ] {
            let ticks = time_ticks(span_us);
            assert!(ticks.len() <= 12, "{span_us}: {}", ticks.len());
            assert!(
                ticks
                    .iter()
                    .all(|tick| (0.0..=1.0 + 1e-9).contains(&tick.at))
            );
        }
        let labels: Vec<String> = time_ticks(25_000_000)
            .into_iter()
            .map(|t| t.label)
            .collect();
        assert_eq!(labels, ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s"]);
    }

    #[test]
    fn thinning_keeps_every_extreme_and_every_hole() {
        let mut values: Vec<Option<u64>> = (0..6_000).map(|i| Some(500 + i % 7)).collect();
        (values[1_234], values[4_321]) = (Some(9_999), Some(1));
        values[3_000..3_200].fill(None);
        let all = stretches(&values, |place| place as f64, |value| value as f64, 600);
        assert_eq!(all.len(), 2, "the hole splits the line");
        let points: Vec<(f64, f64)> = all.concat();
        assert!(points.len() <= 604, "{}", points.len());
        for extreme in [(1_234.0, 9_999.0), (4_321.0, 1.0)] {
            assert!(points.contains(&extreme), "{extreme:?} was thinned away");
        }
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn strokes_and_bands_that_touch_are_drawn_once() {
        let xs = (0..1_000).map(|i| f64::from(i) / 100.0);
        assert_eq!(strokes(xs, 1.0, 0.0, 100.0).matches('M').count(), 10);
        let path = bands(vec![(10.0, 20.0), (15.0, 30.0), (50.0, 50.0)], 1.0);
        assert_eq!(path, "M10 0H30V100H10ZM50 0H51V100H50Z");
    }

    #[test]
    fn a_scale_without_extent_draws_at_zero() {
        let scale = Scale { most: 0.0 };
        assert_eq!((scale.x(7), scale.y(f64::NAN)), (0.0, HEIGHT));
    }
}
