//! The charts of a run: throughput, one strip per client, percentile curves, CPU and memory.
//!
//! Invariant: what a colour says is also said by a dash pattern, a shape or a label, and every chart
//! carries a sentence for those who cannot see it.

use std::fmt::Write;

use pinnace_proto::units::{show_rate, show_size};

use crate::client::thin;
use crate::html::chart::{
    HEIGHT, Scale, Stretches, Tick, WIDTH, area_path, bands, byte_unit, grid, line_path,
    round_scale, stretches, strokes, time_ticks, trimmed, x_labels, y_labels,
};
use crate::html::escape::esc;
use crate::latency::Latency;
use crate::limits::{
    CHART_CLIENTS_MAX, CHART_POINTS_MAX, COARSE, Detail, FINE, FINE_CLIENTS_MAX, STRIPS_MAX,
};
use crate::summary::{ClientSummary, RateSeries, Summary};
use crate::words::{bytes_per_second, counted, ns, percent, state_of, us};

/// Class of the colour and dash of the client at `place`.
pub(crate) fn colour(place: usize) -> String {
    format!("k{}", place % CHART_CLIENTS_MAX + 1)
}

/// The end of the time axis: whatever was measured, missed or planned for a lost client.
fn span_us(summary: &Summary) -> u64 {
    let ends = summary.clients.iter().map(|client| {
        let gap_end = client.gaps.iter().map(|gap| gap.to_us).max().unwrap_or(0);
        client.end_us.max(gap_end)
    });
    ends.max().unwrap_or(0)
}

/// A series as lines: a value stands in the middle of its step, and a line reaches to the edges of
/// its first and last one.
fn rate_stretches(series: &RateSeries, time: Scale, rate: Scale, points_max: usize) -> Stretches {
    let half = time.x(series.step_us) / 2.0;
    let mut lines = stretches(
        &series.bytes_per_second,
        |place| time.x(place as u64 * series.step_us + series.step_us / 2),
        |value| rate.y(value as f64),
        points_max,
    );
    for line in &mut lines {
        if let (Some(first), Some(last)) = (line.first().copied(), line.last().copied()) {
            line.insert(0, ((first.0 - half).max(0.0), first.1));
            line.push(((last.0 + half).min(WIDTH), last.1));
        }
    }
    lines
}

fn most(series: &RateSeries) -> f64 {
    let most = series.bytes_per_second.iter().flatten().max();
    most.copied().unwrap_or(0) as f64
}

/// A plot with its axes: `inside` is SVG, `over` is HTML laid over it.
fn plot(height: u32, label: &str, axes: (&[Tick], &[Tick]), inside: &str, over: &str) -> String {
    let (x_ticks, y_ticks) = axes;
    format!(
        "<div class=\"plot\" style=\"--h:{height}px\">{}<div class=\"cv\">\
         <svg viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{}\">{}{inside}</svg>{over}</div>{}</div>",
        y_labels(y_ticks),
        esc(label),
        grid(x_ticks, y_ticks),
        x_labels(x_ticks),
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
    let total = rate_stretches(&summary.series, time, rate, CHART_POINTS_MAX);
    let mut inside = format!("<path class=\"tot ar\" d=\"{}\"/>", area_path(&total));
    if few {
        for (place, client) in summary.clients.iter().enumerate() {
            let line = rate_stretches(&client.series, time, rate, CHART_POINTS_MAX);
            let class = colour(place);
            let _ = write!(
                inside,
                "<path class=\"ln {class}\" d=\"{}\"/>",
                line_path(&line)
            );
        }
    } else {
        inside.push_str(&middle_and_band(summary, time, rate));
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
        "<figure><figcaption>Throughput over time <small>per second, all clients and each\
         </small></figcaption>{}{}</figure>",
        plot(
            260,
            &label,
            (&time_ticks(span_us), &y_ticks),
            &inside,
            &flags
        ),
        throughput_legend(summary, few),
    )
}

fn rate_label(bytes_per_second: f64) -> String {
    if bytes_per_second <= 0.0 {
        return "0".to_owned();
    }
    show_rate(bytes_per_second.round())
}

/// For many clients: the range they lie in and the middle one.
fn middle_and_band(summary: &Summary, time: Scale, rate: Scale) -> String {
    let step_us = summary.series.step_us;
    let mut lows = Vec::new();
    let mut middles = Vec::new();
    let mut highs = Vec::new();
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
    let line = |values: &[Option<u64>]| {
        let series = RateSeries {
            step_us,
            bytes_per_second: values.to_vec(),
        };
        rate_stretches(&series, time, rate, CHART_POINTS_MAX)
    };
    let mut edge: Vec<(f64, f64)> = line(&highs).concat();
    edge.extend(line(&lows).concat().into_iter().rev());
    let edge = line_path(&vec![edge]);
    let middle = line_path(&line(&middles));
    format!("<path class=\"band\" d=\"{edge}Z\"/><path class=\"ln k1\" d=\"{middle}\"/>")
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
    let mut before = f64::NEG_INFINITY;
    for (x, client) in lost {
        if x - before < WIDTH / 6.0 {
            continue;
        }
        before = x;
        let side = if x > WIDTH / 2.0 { " left" } else { "" };
        let _ = write!(
            flags,
            "<span class=\"flag{side}\" style=\"left:{}%\">✕ {} lost</span>",
            trimmed(x / 10.0, 2),
            esc(&client.client)
        );
    }
    (lines, flags)
}

fn swatch(class: &str) -> String {
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
    } else {
        item(&swatch("ln k1"), "middle client; the band holds all", None);
    }
    if summary.clients.iter().any(|client| client.lost.is_some()) {
        item(&swatch("lo"), "client lost", None);
    }
    html.push_str("</ul>");
    html
}

/// One strip per client: throughput, syncs, rollovers, gaps, its loss, and its heartbeats.
pub(crate) fn strips(summary: &Summary) -> String {
    let span_us = span_us(summary);
    let time = Scale {
        most: span_us as f64,
    };
    let detail = detail(summary);
    let mut html = String::from(
        "<figure class=\"solid\"><figcaption>Client by client <small>each on its own scale, with \
         its rollovers and heartbeats</small></figcaption>",
    );
    for (place, client) in summary.clients.iter().take(STRIPS_MAX).enumerate() {
        html.push_str(&strip(client, place, time, detail));
    }
    let _ = write!(
        html,
        "<div class=\"axis\"><span></span>{}</div>",
        x_labels(&time_ticks(span_us))
    );
    if summary.clients.len() > STRIPS_MAX {
        let left = (summary.clients.len() - STRIPS_MAX) as u64;
        let _ = write!(
            html,
            "<p class=\"dim\">{} not drawn.</p>",
            counted(left, "client")
        );
    }
    html.push_str(&format!(
        "<ul class=\"legend wide\"><li>{}rollover</li><li><span class=\"box\"></span>sync at a \
         rollover</li><li><span class=\"hatch\"></span>no samples</li><li>{}lost</li>\
         <li><svg viewBox=\"0 0 30 12\" aria-hidden=\"true\"><path class=\"hb\" \
         d=\"M5 3V9M15 3V9M25 3V9\"/></svg>heartbeat, all workers answered</li>\
         <li><svg viewBox=\"0 0 30 12\" aria-hidden=\"true\"><path class=\"hx\" \
         d=\"M8 0V12M20 0V12\"/></svg>heartbeat, not all answered</li></ul></figure>",
        "<svg viewBox=\"0 0 30 12\" aria-hidden=\"true\"><path class=\"ro\" \
         d=\"M5 6V12M15 6V12M25 6V12\"/></svg>",
        "<svg viewBox=\"0 0 30 12\" aria-hidden=\"true\"><path class=\"lo\" d=\"M15 0V12\"/></svg>",
    ));
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

fn strip(client: &ClientSummary, place: usize, time: Scale, detail: &Detail) -> String {
    let rate = Scale {
        most: most(&client.series) * 1.08,
    };
    let line = rate_stretches(&client.series, time, rate, detail.strip_points);
    let syncs = client.rollover_marks.iter().map(|mark| {
        let from_us = mark.at_us.saturating_sub(mark.sync_us);
        (time.x(from_us), time.x(mark.at_us))
    });
    let rollovers = client.rollover_marks.iter().map(|mark| time.x(mark.at_us));
    let (area, line) = (area_path(&line), line_path(&line));
    let mut svg = format!(
        "<path class=\"ar\" d=\"{area}\"/><path class=\"sy\" d=\"{}\"/><path class=\"ln\" \
         d=\"{line}\"/><path class=\"ro\" d=\"{}\"/>",
        bands(syncs.collect(), detail.marks_apart),
        strokes(rollovers, detail.marks_apart, 78.0, HEIGHT),
    );
    let mut over = String::new();
    for gap in &client.gaps {
        let (from, to) = (time.x(gap.from_us) / 10.0, time.x(gap.to_us) / 10.0);
        let (from, wide) = (trimmed(from, 2), trimmed(to - from, 2));
        let _ = write!(
            over,
            "<span class=\"hatch\" style=\"left:{from}%;width:{wide}%\"></span>"
        );
    }
    if let Some(lost) = &client.lost {
        let x = time.x(lost.at_us);
        let path = strokes(std::iter::once(x), 1.0, 0.0, HEIGHT);
        let _ = write!(svg, "<path class=\"lo\" d=\"{path}\"/>");
        let side = if x > WIDTH / 2.0 { " left" } else { "" };
        let at = trimmed(x / 10.0, 2);
        let _ = write!(
            over,
            "<span class=\"flag{side}\" style=\"left:{at}%\">✕ lost</span>"
        );
    }
    let marks = || client.heartbeats.marks.iter();
    let good = marks().filter(|mark| mark.answered == mark.asked);
    let bad = marks().filter(|mark| mark.answered < mark.asked);
    format!(
        "<div class=\"strip {}\"><div class=\"who\"><b><i class=\"sw\"></i>{}</b><span>{}</span> \
         <span>peak {}</span></div><div><div class=\"cv\"><svg viewBox=\"0 0 1000 100\" \
         preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">{svg}</svg>{over}</div>\
         <div class=\"beat\"><svg viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" \
         role=\"img\" aria-label=\"{}\"><path class=\"hb\" d=\"{}\"/><path class=\"hx\" \
         d=\"{}\"/></svg></div></div></div>",
        colour(place),
        esc(&client.client),
        esc(&state_of(client)),
        show_rate(most(&client.series)),
        esc(&strip_label(client)),
        esc(&beat_label(client)),
        strokes(
            good.map(|mark| time.x(mark.at_us).min(WIDTH - 1.0)),
            detail.marks_apart,
            25.0,
            75.0
        ),
        strokes(
            bad.map(|mark| time.x(mark.at_us).min(WIDTH - 2.0)),
            detail.marks_apart,
            0.0,
            HEIGHT
        ),
    )
}

fn strip_label(client: &ClientSummary) -> String {
    format!(
        "Client {}, {}: {} on average, {}, {} without samples.",
        client.client,
        state_of(client),
        bytes_per_second(client.bytes_per_second),
        counted(client.rollovers, "rollover"),
        us(client.gaps.iter().map(|gap| gap.to_us - gap.from_us).sum()),
    )
}

fn beat_label(client: &ClientSummary) -> String {
    let beats = &client.heartbeats;
    format!(
        "{} received, {} absent; {} of {} answered in time.",
        counted(beats.received, "heartbeat"),
        beats.absent,
        beats.answered,
        counted(beats.asked, "question"),
    )
}

/// Percentile curves of one kind of operation, towards the slowest operations.
pub(crate) fn curves(
    summary: &Summary,
    title: &str,
    of: fn(&ClientSummary) -> &Latency,
    all: &Latency,
) -> String {
    if all.count == 0 {
        return String::new();
    }
    let decades = (all.count as f64).log10().clamp(2.0, 5.0);
    let x_of = |quantile: f64| {
        let at = -(1.0 - quantile).max(1e-9).log10() / decades;
        at.clamp(0.0, 1.0) * WIDTH
    };
    let low = all.min_ns.unwrap_or(1).max(1) as f64;
    let high = all.max_ns.unwrap_or(1).max(1) as f64;
    let (low, high, y_ticks) = log_scale(low, high);
    let y_of = |ns: u64| {
        let at = ((ns.max(1) as f64).log10() - low) / (high - low);
        (1.0 - at.clamp(0.0, 1.0)) * HEIGHT
    };
    let path = |latency: &Latency| {
        let points = latency.curve.iter();
        let points = points.map(|point| (x_of(point.quantile), y_of(point.ns)));
        line_path(&vec![points.collect()])
    };
    let few = summary.clients.len() <= CHART_CLIENTS_MAX;
    let mut inside = String::new();
    let mut legend = String::from("<ul class=\"legend\">");
    for (place, client) in summary.clients.iter().enumerate() {
        let class = if few {
            format!("ln {}", colour(place))
        } else {
            "ln thin k8".to_owned()
        };
        let _ = write!(
            inside,
            "<path class=\"{class}\" d=\"{}\"/>",
            path(of(client))
        );
        if few && summary.clients.len() > 1 {
            let name = esc(&client.client);
            let _ = write!(legend, "<li>{}<b>{name}</b></li>", swatch(&class));
        }
    }
    let _ = write!(inside, "<path class=\"tot\" d=\"{}\"/>", path(all));
    let _ = write!(legend, "<li>{}<b>all, merged</b></li>", swatch("tot"));
    if !few {
        let _ = write!(legend, "<li>{}each client</li>", swatch("ln thin k8"));
    }
    legend.push_str("</ul>");
    let x_ticks: Vec<Tick> = [("0", 0.0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99)]
        .into_iter()
        .chain([("p99.9", 0.999), ("p99.99", 0.9999), ("p99.999", 0.99999)])
        .map(|(label, quantile): (&str, f64)| Tick {
            at: -(1.0 - quantile).log10() / decades,
            label: label.to_owned(),
        })
        .filter(|tick| tick.at <= 1.0 + 1e-6)
        .collect();
    let label = format!(
        "{title}: median {}, 99 % at or below {}, slowest {}, of {}.",
        ns(all.p50_ns),
        ns(all.p99_ns),
        ns(all.max_ns),
        counted(all.count, "operation"),
    );
    format!(
        "<figure class=\"card\"><figcaption>{} <small>share of operations at or below</small>\
         </figcaption>{}{legend}</figure>",
        esc(title),
        plot(200, &label, (&x_ticks, &y_ticks), &inside, ""),
    )
}

/// A logarithmic scale that holds both, as powers of ten, with ticks at 1, 2, 5 or at decades.
fn log_scale(low: f64, high: f64) -> (f64, f64, Vec<Tick>) {
    let leads: &[f64] = if high / low < 50.0 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let mut values: Vec<f64> = (0..15)
        .flat_map(|power| leads.iter().map(move |lead| lead * 10f64.powi(power)))
        .collect();
    let first = values.iter().rposition(|v| *v <= low).unwrap_or(0);
    let last = values
        .iter()
        .position(|v| *v >= high)
        .unwrap_or(values.len() - 1);
    values = values[first..=last.max(first + 1).min(values.len() - 1)].to_vec();
    let ends = (values.first(), values.last());
    let (from, to) = match ends {
        (Some(from), Some(to)) if to > from => (from.log10(), to.log10()),
        _ => (low.log10(), low.log10() + 1.0),
    };
    let ticks = values
        .iter()
        .map(|value| Tick {
            at: (value.log10() - from) / (to - from),
            label: ns(Some(*value as u64)),
        })
        .collect();
    (from, to, ticks)
}

/// CPU share of each worker and memory of each process, one card per client.
pub(crate) fn resources(summary: &Summary) -> String {
    let span_us = span_us(summary);
    let points = detail(summary).resource_points;
    let mut html = String::new();
    let seen = |client: &&ClientSummary| {
        !client.process.memory.is_empty() || client.workers.iter().any(|w| !w.cpu.is_empty())
    };
    for client in summary.clients.iter().filter(seen).take(STRIPS_MAX) {
        let _ = write!(
            html,
            "<div class=\"card\"><h3>{}</h3>{}{}</div>",
            esc(&client.client),
            cpu_figure(client, span_us, points),
            memory_figure(client, span_us, points)
        );
    }
    if html.is_empty() {
        html
    } else {
        format!("<div class=\"cards\">{html}</div>")
    }
}

fn cpu_figure(client: &ClientSummary, span_us: u64, points: usize) -> String {
    let time = Scale {
        most: span_us as f64,
    };
    let shares = client.workers.iter().flat_map(|w| &w.cpu).map(|p| p.share);
    let top = shares.fold(1.0, f64::max);
    let share = Scale { most: top };
    let y_ticks = [0.0, 0.5, 1.0].map(|at| Tick {
        at: at / top,
        label: format!("{} %", at * 100.0),
    });
    let mut inside = String::new();
    let mut legend = String::from("<ul class=\"legend\">");
    for (place, worker) in client
        .workers
        .iter()
        .enumerate()
        .filter(|(_, w)| !w.cpu.is_empty())
    {
        let line = worker
            .cpu
            .iter()
            .map(|p| (time.x(p.at_us), share.y(p.share)));
        let path = line_path(&vec![thin(line.collect(), points)]);
        let class = format!("ln {}", colour(place));
        let _ = write!(inside, "<path class=\"{class}\" d=\"{path}\"/>");
        if client.workers.len() <= CHART_CLIENTS_MAX {
            let _ = write!(
                legend,
                "<li>{}worker {}</li>",
                swatch(&class),
                worker.worker
            );
        }
    }
    legend.push_str("</ul>");
    let means: Vec<String> = client
        .workers
        .iter()
        .map(|worker| format!("worker {}: {}", worker.worker, percent(worker.cpu_share)))
        .collect();
    let label = format!(
        "CPU of client {}; mean of {}.",
        client.client,
        means.join(", ")
    );
    format!(
        "<figure><figcaption><small>CPU per worker, share of one CPU</small></figcaption>{}{}\
         </figure>",
        plot(96, &label, (&[], &y_ticks), &inside, ""),
        if client.workers.len() > 1 {
            legend.as_str()
        } else {
            ""
        },
    )
}

fn memory_figure(client: &ClientSummary, span_us: u64, points: usize) -> String {
    let time = Scale {
        most: span_us as f64,
    };
    let memory = &client.process.memory;
    let top = memory
        .iter()
        .map(|point| point.rss_bytes)
        .max()
        .unwrap_or(0) as f64;
    let unit = byte_unit(top);
    let (scale, y_ticks) = round_scale(top, unit, |v| match v > 0.0 {
        true => show_size(v as u64),
        false => "0".to_owned(),
    });
    let ends: Vec<Tick> = [y_ticks.first(), y_ticks.last()]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let line = |of: fn(&crate::summary::MemoryPoint) -> u64| -> Stretches {
        let line = memory
            .iter()
            .map(|p| (time.x(p.at_us), scale.y(of(p) as f64)));
        vec![thin(line.collect(), points)]
    };
    let (resident, buffers) = (line(|p| p.rss_bytes), line(|p| p.buffer_bytes));
    let inside = format!(
        "<path class=\"ar k0\" d=\"{}\"/><path class=\"ln k0\" d=\"{}\"/><path class=\"ln k3\" \
         d=\"{}\"/>",
        area_path(&resident),
        line_path(&resident),
        line_path(&buffers),
    );
    let label = format!(
        "Memory of client {}: {} resident at most, {} of buffers.",
        client.client,
        crate::words::size(client.process.peak_rss_bytes),
        crate::words::size(client.process.peak_buffer_bytes),
    );
    format!(
        "<figure><figcaption><small>Memory: resident, and <span>buffers (dashed)</span></small>\
         </figcaption>{}</figure>",
        plot(62, &label, (&time_ticks(span_us), &ends), &inside, ""),
    )
}
