//! Percentile curves on an axis that stretches towards the slowest operations: each nine of a
//! percentile is as wide as the one before.
//!
//! Invariant: the curve of all is drawn from the merged distribution, over those of the clients.

use std::fmt::Write;

use super::{colour, plot, swatch};
use crate::html::chart::{HEIGHT, Tick, WIDTH, line_path};
use crate::html::escape::esc;
use crate::latency::Latency;
use crate::limits::CHART_CLIENTS_MAX;
use crate::summary::{ClientSummary, Summary};
use crate::words::{counted, ns};

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
    let x_ticks = quantile_ticks(decades);
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

/// Ticks at the named quantiles that lie on an axis of so many decades.
fn quantile_ticks(decades: f64) -> Vec<Tick> {
    [("0", 0.0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99)]
        .into_iter()
        .chain([("p99.9", 0.999), ("p99.99", 0.9999), ("p99.999", 0.99999)])
        .map(|(label, quantile): (&str, f64)| Tick {
            at: -(1.0 - quantile).log10() / decades,
            label: label.to_owned(),
        })
        .filter(|tick| tick.at <= 1.0 + 1e-6)
        .collect()
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
