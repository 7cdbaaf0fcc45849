//! One self-contained page for one or several runs: inline style, inline SVG, no script.
//!
//! Invariant: the page asks for nothing from outside, so it opens from a mail on a train, and all
//! text from runs is escaped. It is complete on paper and on a telephone.

mod chart;
mod escape;
mod facts;
mod figures;
mod tables;

use std::fmt::Write;

use pinnace_proto::run::RunState;
use pinnace_proto::units::show_size;

use crate::html::escape::esc;
use crate::summary::{PromiseOutcome, Summary};
use crate::warning::Grade;
use crate::words::{
    bytes_per_second, count, counted, keep_units, ns, percent, promise, title as title_of, us,
    wall_clock,
};

const STYLE: &str = include_str!("style.css");

/// The page for `summaries`, in their order; `generated_us` is the moment it was asked for,
/// microseconds since 1970.
pub fn html(summaries: &[Summary], generated_us: u64) -> String {
    let title = match summaries {
        [] => "No runs".to_owned(),
        [one] => title_of(one),
        many => format!("{} runs", many.len()),
    };
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{0} · Pinnace</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<div class=\"brand\"><b>Pinnace \
         benchmark report</b><span>made {1}</span></div>\n",
        esc(&title),
        esc(&wall_clock(Some(generated_us))),
    );
    match summaries {
        [] => page.push_str("<h1>No runs</h1>\n<p>Nothing was chosen to report on.</p>\n"),
        [_] => {}
        many => page.push_str(&contents(&title, many)),
    }
    for (place, summary) in summaries.iter().enumerate() {
        page.push_str(&section(summary, place, summaries.len() > 1));
    }
    page.push_str(
        "<footer>Percentiles are read from merged histograms (off by at most 0.8 %), never \
         averaged. ~ marks a percentile with fewer than ten operations beyond it. Sizes are powers \
         of 1024.</footer>\n</main>\n</body>\n</html>\n",
    );
    page
}

fn contents(title: &str, summaries: &[Summary]) -> String {
    let mut html = format!(
        "<h1>{}</h1>\n<nav class=\"card\" aria-label=\"Runs\"><ol>",
        esc(title)
    );
    for (place, summary) in summaries.iter().enumerate() {
        let _ = write!(
            html,
            "<li><a href=\"#run-{place}\">{}</a> <span class=\"dim\">{}, {}</span></li>",
            esc(&title_of(summary)),
            esc(&summary.run.id),
            esc(&wall_clock(Some(summary.run.opened_us))),
        );
    }
    html.push_str("</ol></nav>\n<div class=\"card\">");
    html.push_str(&tables::overview(summaries));
    html.push_str("</div>\n");
    html
}

fn section(summary: &Summary, place: usize, of_many: bool) -> String {
    let level = if of_many { "h2" } else { "h1" };
    let mut html = format!(
        "<section class=\"run\" id=\"run-{place}\" aria-labelledby=\"title-{place}\">\n\
         <{level} id=\"title-{place}\">{}</{level}>\n{}\n<p class=\"headline\">{}</p>\n{}\n",
        esc(&title_of(summary)),
        meta(summary),
        esc(&keep_units(&summary.headline)),
        tiles(summary),
    );
    let mut part = |title: &str, cards: &[String]| {
        let filled: Vec<&String> = cards.iter().filter(|card| !card.is_empty()).collect();
        if filled.is_empty() {
            return;
        }
        let _ = writeln!(html, "<h2>{title}</h2>");
        for card in filled {
            html.push_str(card);
            html.push('\n');
        }
    };
    let card = |inside: String| match inside.is_empty() {
        true => inside,
        false => format!("<div class=\"card\">{inside}</div>"),
    };
    part("Caveats", &[card(warnings(summary))]);
    if !summary.clients.is_empty() {
        part(
            "Throughput",
            &[
                card(figures::throughput(summary)),
                card(figures::strips(summary)),
                card(tables::clients(summary)),
            ],
        );
    }
    let writes = figures::curves(summary, "Write latency", |c| &c.writes, &summary.writes);
    let syncs = figures::curves(summary, "Sync latency", |c| &c.syncs, &summary.syncs);
    let two = if writes.is_empty() && syncs.is_empty() {
        String::new()
    } else {
        format!("<div class=\"two\">{writes}{syncs}</div>")
    };
    part("Latency", &[card(tables::latency(summary)), two]);
    part("Rollovers", &[card(tables::rollovers(summary))]);
    part(
        "CPU and memory",
        &[
            figures::resources(summary),
            card(tables::worker_resources(summary)),
        ],
    );
    part("Heartbeats", &[card(tables::heartbeats(summary))]);
    part("Errors", &[card(facts::errors(summary))]);
    part(
        "Machines and storage",
        &[card(facts::hosts(summary)), card(facts::storage(summary))],
    );
    part("Job", &[card(facts::jobs(summary))]);
    part("Do it again", &[card(facts::repeat(summary))]);
    html.push_str("</section>\n");
    html
}

fn meta(summary: &Summary) -> String {
    let run = &summary.run;
    let (class, mark) = match run.state {
        RunState::Running => ("info", "▸"),
        RunState::Complete => ("good", "✓"),
        RunState::Partial => ("bad", "◐"),
    };
    let mut html = format!(
        "<div class=\"meta\"><span class=\"chip {class}\"><span aria-hidden=\"true\">{mark}</span>{}</span>",
        run.state.name()
    );
    if !run.solution.is_empty() {
        let _ = write!(
            html,
            "<span class=\"chip info\">{}</span>",
            esc(&run.solution)
        );
    }
    let _ = write!(
        html,
        "<span>run {}</span><span>{}</span></div>",
        esc(&run.id),
        esc(&wall_clock(summary.started_us.or(Some(run.opened_us))))
    );
    html
}

fn tiles(summary: &Summary) -> String {
    let share = summary.coverage.share.unwrap_or(0.0).clamp(0.0, 1.0) * 100.0;
    let mut html = String::from("<ul class=\"tiles\">");
    for (name, value, note) in tile_texts(summary) {
        let _ = write!(
            html,
            "<li class=\"tile\"><div class=\"k\">{name}</div><div class=\"v\">{}</div>\
             <div class=\"n\">{}</div>",
            esc(&value),
            esc(&keep_units(&note))
        );
        if name == COVERAGE {
            let _ = write!(
                html,
                "<div class=\"meter\" aria-hidden=\"true\"><i style=\"width:{share:.1}%\"></i></div>"
            );
        }
        html.push_str("</li>");
    }
    html.push_str("</ul>");
    html
}

/// Name of the tile with a meter.
const COVERAGE: &str = "Coverage";

/// Name, figure and a line about it.
fn tile_texts(summary: &Summary) -> [(&'static str, String, String); 8] {
    let (totals, writes, syncs) = (&summary.totals, &summary.writes, &summary.syncs);
    let together = match totals.common_window {
        Some(window) => format!(
            "{} while all worked ({})",
            bytes_per_second(window.bytes_per_second),
            us(window.to_us - window.from_us)
        ),
        None => "no moment with all clients".to_owned(),
    };
    let written = format!(
        "{} in {}",
        counted(totals.writes, "write"),
        us(totals.duration_us)
    );
    let write = format!(
        "median {}, slowest {}",
        ns(writes.p50_ns),
        ns(writes.max_ns)
    );
    let sync = format!(
        "median {} of {}",
        ns(syncs.p50_ns),
        counted(totals.syncs, "sync")
    );
    let mark = match summary.promise.outcome {
        PromiseOutcome::Held => "✓ ",
        PromiseOutcome::Missed => "✕ ",
        PromiseOutcome::Open | PromiseOutcome::Unknown => "",
    };
    let lost = match summary.clients.iter().filter(|c| c.lost.is_some()).count() {
        0 => "none lost".to_owned(),
        lost => format!("✕ {lost} lost"),
    };
    let covered = format!(
        "{} of {} planned client time",
        us(summary.coverage.reported_us),
        us(summary.coverage.planned_us)
    );
    let workers = summary.clients.iter().flat_map(|client| &client.workers);
    let busiest = workers
        .filter_map(|worker| worker.cpu_share)
        .reduce(f64::max);
    [
        (
            "Throughput",
            bytes_per_second(totals.bytes_per_second),
            together,
        ),
        ("Written", show_size(totals.bytes), written),
        ("Write p99", ns(writes.p99_ns), write),
        ("Sync p99", ns(syncs.p99_ns), sync),
        (
            "Rollovers",
            count(totals.rollovers),
            format!("{mark}{}", promise(summary)),
        ),
        ("Clients", count(summary.clients.len() as u64), lost),
        (COVERAGE, percent(summary.coverage.share), covered),
        (
            "Busiest worker",
            percent(busiest),
            "of one CPU, on average".to_owned(),
        ),
    ]
}

fn warnings(summary: &Summary) -> String {
    if summary.warnings.is_empty() {
        return "<p><span class=\"chip good\"><span aria-hidden=\"true\">✓</span>nothing found\
                </span></p>"
            .to_owned();
    }
    let mut html = String::from("<ul class=\"warnings\">");
    for warning in &summary.warnings {
        let (class, mark) = match warning.grade {
            Grade::Serious => ("bad", "✕"),
            Grade::Caution => ("warn", "!"),
            Grade::Note => ("info", "i"),
        };
        let _ = write!(
            html,
            "<li><span class=\"chip {class}\"><span aria-hidden=\"true\">{mark}</span>{}</span>\
             <span>{} <code>{}</code></span></li>",
            warning.grade.name(),
            esc(&keep_units(&warning.message)),
            warning.code.name()
        );
    }
    html.push_str("</ul>");
    html
}
