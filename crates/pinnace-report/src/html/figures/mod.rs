//! The charts of a run: throughput here, strips per client, percentile curves, CPU and memory each
//! in a file.
//!
//! Invariant: what a colour says is also said by a dash pattern, a shape or a label, and every chart
//! carries a sentence for those who cannot see it.

mod curves;
mod resources;
mod strips;

pub(super) use self::curves::curves;
pub(super) use self::resources::resources;
pub(super) use self::strips::strips;

use std::fmt::Write;

use pinnace_proto::units::show_rate;

use crate::html::chart::{
    HEIGHT, Scale, Stretches, Tick, WIDTH, area_path, byte_unit, grid, line_path, round_scale,
    stretches, strokes, time_ticks, trimmed, x_labels, y_labels,
};
use crate::html::escape::esc;
use crate::limits::{CHART_CLIENTS_MAX, CHART_POINTS_MAX, COARSE, Detail, FINE, FINE_CLIENTS_MAX};
use crate::summary::{ClientSummary, RateSeries, Summary};
use crate::words::{bytes_per_second, us};

/// Class of the colour and dash of the client at `place`.
pub(crate) fn colour(place: usize) -> String {
    format!("k{}", place % CHART_CLIENTS_MAX + 1)
}

/// The end of the time axis: whatever was measured, missed or planned for a lost client.
pub(super) fn span_us(summary: &Summary) -> u64 {
    let ends = summary.clients.iter().map(|client| {
        let gap_end = client.gaps.iter().map(|gap| gap.to_us).max().unwrap_or(0);
        client.end_us.max(gap_end)
    });
    ends.max().unwrap_or(0)
}

/// A client's series as lines, from its start to its end.
pub(super) fn client_stretches(
    client: &ClientSummary,
    time: Scale,
    rate: Scale,
    points_max: usize,
) -> Stretches {
    let ends = (time.x(client.start_us), time.x(client.end_us));
    rate_stretches(&client.series, time, rate, points_max, ends)
}

/// A series as lines: a value stands in the middle of its step, and a line reaches to the edges of
/// its first and last one as far as they lie within `ends`.
fn rate_stretches(
    series: &RateSeries,
    time: Scale,
    rate: Scale,
    points_max: usize,
    ends: (f64, f64),
) -> Stretches {
    let half = time.x(series.step_us) / 2.0;
    let mut lines = stretches(
        &series.bytes_per_second,
        |place| time.x(place as u64 * series.step_us + series.step_us / 2),
        |value| rate.y(value as f64),
        points_max,
    );
    for line in &mut lines {
        for (x, _) in line.iter_mut() {
            *x = x.max(ends.0).min(ends.1);
        }
        if let (Some(first), Some(last)) = (line.first().copied(), line.last().copied()) {
            line.insert(0, ((first.0 - half).max(ends.0), first.1));
            line.push(((last.0 + half).min(ends.1), last.1));
        }
    }
    lines
}

pub(super) fn most(series: &RateSeries) -> f64 {
    let most = series.bytes_per_second.iter().flatten().max();
    most.copied().unwrap_or(0) as f64
}

/// A plot with its axes: `inside` is SVG, `over` is HTML laid over it.
pub(super) fn plot(
    height: u32,
    label: &str,
    axes: (&[Tick], &[Tick]),
    inside: &str,
    over: &str,
) -> String {
    let (x_ticks, y_ticks) = axes;
    let bare = if x_ticks.is_empty() { " bare" } else { "" };
    format!(
        "<div class=\"plot{bare}\" style=\"--h:{height}px\">{}<div class=\"cv\">\
         <svg viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{}\">{}{inside}</svg>{over}</div>{}</div>",
        y_labels(y_ticks),
        esc(label),
        grid(x_ticks, y_ticks),
        if x_ticks.is_empty() {
            String::new()
        } else {
            x_labels(x_ticks)
        },
    )
}

/// Throughput of all clients and of each, over time.
pub(crate) fn throughput(summary: &Summary) -> String {
    let span_us = span_us(summary);
    let time = Scale {
        most: span_us as f64,
    };
    let top = summary.clients.iter().map(|client| most(&client.series));
    let top = top.fold(most(&summary.series), f64::max);
    let (rate, y_ticks) = round_scale(top, byte_unit(top), rate_label);
    let few = summary.clients.len() <= CHART_CLIENTS_MAX;
    let ends = (0.0, time.x(span_us));
    let total = rate_stretches(&summary.series, time, rate, CHART_POINTS_MAX, ends);
    let mut inside = format!("<path class=\"tot ar\" d=\"{}\"/>", area_path(&total));
    if few {
        for (place, client) in summary.clients.iter().enumerate() {
            let line = client_stretches(client, time, rate, CHART_POINTS_MAX);
            let class = colour(place);
            let _ = write!(
                inside,
                "<path class=\"ln {class}\" d=\"{}\"/>",
                line_path(&line)
            );
        }
    }
    if summary.clients.len() != 1 {
        let _ = write!(inside, "<path class=\"tot\" d=\"{}\"/>", line_path(&total));
    }
    let (lost, flags) = lost_marks(summary, time);
    let _ = write!(inside, "<path class=\"lo\" d=\"{lost}\"/>");
    let label = format!(
        "Throughput over {}: {} together on average, {} at most.",
        us(span_us),
        bytes_per_second(summary.totals.bytes_per_second),
        show_rate(most(&summary.series)),
    );
    format!(
        "<figure><figcaption>Throughput over time <small>per second{}</small></figcaption>{}{}{}\
         </figure>",
        match summary.clients.len() {
            1 => "",
            _ if few => ", all clients and each",
            _ => ", all clients together",
        },
        plot(
            260,
            &label,
            (&time_ticks(span_us), &y_ticks),
            &inside,
            &flags
        ),
        throughput_legend(summary, few),
        if few {
            String::new()
        } else {
            range_of_clients(summary, time)
        },
    )
}

fn rate_label(bytes_per_second: f64) -> String {
    if bytes_per_second <= 0.0 {
        return "0".to_owned();
    }
    show_rate(bytes_per_second.round())
}

/// For many clients: the range they lie in and the middle one, on a scale of their own.
fn range_of_clients(summary: &Summary, time: Scale) -> String {
    let step_us = summary.series.step_us;
    let (mut lows, mut middles, mut highs) = (Vec::new(), Vec::new(), Vec::new());
    for place in 0..summary.series.bytes_per_second.len() {
        let series = summary.clients.iter().map(|c| &c.series.bytes_per_second);
        let mut values: Vec<u64> = series
            .filter_map(|s| s.get(place).copied().flatten())
            .collect();
        values.sort_unstable();
        lows.push(values.first().copied());
        middles.push(values.get(values.len() / 2).copied());
        highs.push(values.last().copied());
    }
    let top = highs.iter().flatten().max().copied().unwrap_or(0) as f64;
    let (rate, y_ticks) = round_scale(top, byte_unit(top), rate_label);
    let line = |bytes_per_second: Vec<Option<u64>>| {
        let series = RateSeries {
            step_us,
            bytes_per_second,
        };
        rate_stretches(&series, time, rate, CHART_POINTS_MAX, (0.0, WIDTH))
    };
    let mut edge: Vec<(f64, f64)> = line(highs).concat();
    edge.extend(line(lows).concat().into_iter().rev());
    let (edge, middle) = (line_path(&vec![edge]), line_path(&line(middles)));
    let inside =
        format!("<path class=\"band\" d=\"{edge}Z\"/><path class=\"ln k1\" d=\"{middle}\"/>");
    let label = "Throughput of the slowest, the middle and the fastest client over time.";
    let ticks = time_ticks(time.most as u64);
    format!(
        "<figcaption><small>The clients one by one: the band holds all of them, the line is the \
         middle one</small></figcaption>{}",
        plot(130, label, (&ticks, &y_ticks), &inside, "")
    )
}

/// Upright lines and flags where clients were lost; flags that would cover each other are left out.
fn lost_marks(summary: &Summary, time: Scale) -> (String, String) {
    let mut lost: Vec<(f64, &ClientSummary)> = summary
        .clients
        .iter()
        .filter_map(|client| client.lost.map(|lost| (time.x(lost.at_us), client)))
        .collect();
    lost.sort_by(|a, b| a.0.total_cmp(&b.0));
    let lines = strokes(lost.iter().map(|(x, _)| *x), 1.0, 0.0, HEIGHT);
    let mut flags = String::new();
    let mut rest = lost.as_slice();
    while let [(x, first), ..] = rest {
        // One flag speaks for all that would cover it.
        let near = rest
            .iter()
            .take_while(|(other, _)| other - x < WIDTH / 6.0)
            .count();
        rest = &rest[near..];
        let side = if *x > WIDTH / 2.0 { " left" } else { "" };
        let more = match near {
            1 => String::new(),
            near => format!(" and {} more", near - 1),
        };
        let _ = write!(
            flags,
            "<span class=\"flag{side}\" style=\"left:{}%\">✕ {}{more} lost</span>",
            trimmed(x / 10.0, 2),
            esc(&first.client)
        );
    }
    (lines, flags)
}

pub(super) fn swatch(class: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 30 12\" aria-hidden=\"true\"><path class=\"{class}\" d=\"M0 6H30\"/></svg>"
    )
}

fn throughput_legend(summary: &Summary, few: bool) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    let mut item = |mark: &str, name: &str, rate: Option<f64>| {
        let _ = write!(html, "<li>{mark}<span><b>{name}</b>");
        if rate.is_some() {
            let _ = write!(html, " {}", bytes_per_second(rate));
        }
        html.push_str("</span></li>");
    };
    if summary.clients.len() != 1 {
        item(&swatch("tot"), "all", summary.totals.bytes_per_second);
    }
    if few {
        for (place, client) in summary.clients.iter().enumerate() {
            let mark = swatch(&format!("ln {}", colour(place)));
            item(&mark, &esc(&client.client), client.bytes_per_second);
        }
    }
    if summary.clients.iter().any(|client| client.lost.is_some()) {
        item(&swatch("lo"), "client lost", None);
    }
    html.push_str("</ul>");
    html
}

/// How fine the charts of each client are.
fn detail(summary: &Summary) -> &'static Detail {
    if summary.clients.len() <= FINE_CLIENTS_MAX {
        &FINE
    } else {
        &COARSE
    }
}
