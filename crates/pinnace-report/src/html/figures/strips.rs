//! One strip per client: its throughput, syncs, rollovers, gaps, loss and heartbeats on one axis.
//!
//! Invariant: all strips share the time axis, so what happened together stands above each other; the
//! height of each is its own, because the sum is in the chart before.

use std::fmt::Write;

use pinnace_proto::units::show_rate;

use super::{client_stretches, colour, detail, most, span_us};
use crate::html::chart::{
    HEIGHT, Scale, WIDTH, area_path, bands, line_path, strokes, time_ticks, trimmed, x_labels,
};
use crate::html::escape::esc;
use crate::limits::{Detail, STRIPS_MAX, SYNC_BANDS_MAX};
use crate::summary::{ClientSummary, Summary};
use crate::words::{bytes_per_second, counted, state_of, us};

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
        "<div class=\"axis\"><span class=\"pad\"></span>{}</div>",
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

fn strip(client: &ClientSummary, place: usize, time: Scale, detail: &Detail) -> String {
    let rate = Scale {
        most: most(&client.series) * 1.08,
    };
    let line = client_stretches(client, time, rate, detail.strip_points);
    // More than these would cover the strip and say nothing; the tables have the sync share.
    let shown = client.rollover_marks.len() <= SYNC_BANDS_MAX;
    let syncs = client.rollover_marks.iter().filter(|_| shown).map(|mark| {
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
