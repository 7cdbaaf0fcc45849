//! CPU and memory of each client over time, a card each.
//!
//! Invariant: a full CPU is at the same height on every card, so that a bound worker is seen at once;
//! a client that never told has no card.

use std::fmt::Write;

use pinnace_proto::units::show_size;

use super::{colour, detail, plot, span_us, swatch};
use crate::client::thin;
use crate::html::chart::{
    Scale, Stretches, Tick, area_path, byte_unit, line_path, round_scale, time_ticks,
};
use crate::html::escape::esc;
use crate::limits::{CHART_CLIENTS_MAX, STRIPS_MAX};
use crate::summary::{ClientSummary, MemoryPoint, Summary};
use crate::words::{percent, size};

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
    let line = |of: fn(&MemoryPoint) -> u64| -> Stretches {
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
        size(client.process.peak_rss_bytes),
        size(client.process.peak_buffer_bytes),
    );
    format!(
        "<figure><figcaption><small>Memory: resident, and <span>buffers (dashed)</span></small>\
         </figcaption>{}</figure>",
        plot(62, &label, (&time_ticks(span_us), &ends), &inside, ""),
    )
}
