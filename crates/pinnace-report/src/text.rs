//! A run for a terminal.
//!
//! Invariant: no line is wider than asked for, no text from a run carries control characters, and
//! without colour every meaning is still in words.

use std::fmt::Write;

use pinnace_proto::units::show_size;

use crate::columns::{columns, fit, pad_right, sparkline, wrap};
use crate::latency::Latency;
use crate::limits::{TEXT_CLIENTS_MAX, TEXT_COLUMNS};
use crate::summary::{ClientSummary, Summary};
use crate::warning::Grade;
use crate::words::{
    NONE, bytes_per_second, clean, count, counted, ns, percent, promise, size, state_of, title, us,
    us_or_none, wall_clock,
};

/// Columns that a figure with its unit needs.
const CELL: usize = 10;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// The report of a run, at most `width` columns wide (kept between 60 and 160).
pub fn text(summary: &Summary, width: usize, color: bool) -> String {
    let mut page = Page {
        out: String::new(),
        width: width.clamp(TEXT_COLUMNS.0, TEXT_COLUMNS.1),
        color,
    };
    page.head(summary);
    if summary.clients.is_empty() {
        page.warnings(summary);
        return page.out;
    }
    page.totals(summary);
    page.throughput(summary);
    page.latency("Write latency", summary, &summary.writes, |client| {
        &client.writes
    });
    page.latency("Sync latency", summary, &summary.syncs, |client| {
        &client.syncs
    });
    page.workers(summary);
    page.warnings(summary);
    page.out
}

struct Page {
    out: String,
    width: usize,
    color: bool,
}

impl Page {
    fn paint(&self, style: &str, text: &str) -> String {
        match self.color && !text.is_empty() {
            true => format!("\x1b[{style}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn heading(&mut self, text: &str) {
        let text = self.paint(BOLD, text);
        self.line("");
        self.line(&text);
    }

    /// Words broken into lines of the page's width; the first begins with `mark` (already
    /// `columns` wide), the others are indented as far.
    fn paragraph(&mut self, mark: &str, columns: usize, text: &str) {
        let mut first = true;
        for line in wrap(text, self.width - columns) {
            let lead = if first {
                mark.to_owned()
            } else {
                " ".repeat(columns)
            };
            first = false;
            self.line(&format!("{lead}{line}"));
        }
    }

    fn head(&mut self, summary: &Summary) {
        let state = summary.run.state.name();
        let name = fit(&title(summary), self.width - state.len() - 2);
        let gap = " ".repeat(self.width - columns(&name) - state.len());
        let style = match summary.run.state {
            pinnace_proto::run::RunState::Running => CYAN,
            pinnace_proto::run::RunState::Complete => GREEN,
            pinnace_proto::run::RunState::Partial => RED,
        };
        let (name, state) = (self.paint(BOLD, &name), self.paint(style, state));
        self.line(&format!("{name}{gap}{state}"));
        let mut facts = vec![
            format!("run {}", clean(&summary.run.id)),
            wall_clock(summary.started_us.or(Some(summary.run.opened_us))),
        ];
        if !summary.run.solution.is_empty() {
            facts.push(clean(&summary.run.solution));
        }
        let facts = self.paint(DIM, &fit(&facts.join(" · "), self.width));
        self.line(&facts);
        self.line("");
        self.paragraph("", 0, &summary.headline);
    }

    fn totals(&mut self, summary: &Summary) {
        let totals = &summary.totals;
        let window = totals.common_window;
        let cells = [
            ("written", show_size(totals.bytes)),
            ("throughput", bytes_per_second(totals.bytes_per_second)),
            (
                "all at work",
                window.map_or("never".to_owned(), |w| bytes_per_second(w.bytes_per_second)),
            ),
            ("writes", count(totals.writes)),
            ("syncs", count(totals.syncs)),
            ("rollovers", count(totals.rollovers)),
            ("duration", us(totals.duration_us)),
            ("coverage", percent(summary.coverage.share)),
            ("errors", count(totals.errors)),
        ];
        self.line("");
        let in_row = if self.width < 75 { 2 } else { 3 };
        let cell = self.width / in_row;
        for row in cells.chunks(in_row) {
            let mut line = String::new();
            for (name, value) in row {
                let pad = cell.saturating_sub(13 + columns(value));
                let _ = write!(
                    line,
                    "{}{value}{}",
                    self.paint(DIM, &format!("{name:<13}")),
                    " ".repeat(pad)
                );
            }
            self.line(&line);
        }
        let promise = format!("Rollovers: {}.", promise(summary));
        self.line("");
        self.paragraph("", 0, &promise);
    }

    fn throughput(&mut self, summary: &Summary) {
        self.heading("Throughput");
        let (name, state) = (name_columns(summary), 16);
        let spark = self.width - name - 12 - 12 - state - 4;
        let head = format!(
            "{}{:>12}{:>12}  {}  ended",
            pad_right("client", name),
            "written",
            "per second",
            pad_right("over time", spark)
        );
        let head = self.paint(DIM, &head);
        self.line(&head);
        if summary.clients.len() > 1 {
            let total = sparkline(&summary.series.bytes_per_second, spark);
            let line = format!(
                "{}{:>12}{:>12}  {}",
                pad_right("all", name),
                show_size(summary.totals.bytes),
                bytes_per_second(summary.totals.bytes_per_second),
                self.paint(CYAN, &total),
            );
            self.line(&line);
        }
        for client in summary.clients.iter().take(TEXT_CLIENTS_MAX) {
            let line = format!(
                "{}{:>12}{:>12}  {}  {}",
                pad_right(&client.client, name),
                show_size(client.bytes),
                bytes_per_second(client.bytes_per_second),
                self.paint(CYAN, &sparkline(&client.series.bytes_per_second, spark)),
                self.state(client, state),
            );
            self.line(&line);
        }
        self.left_out(summary);
    }

    fn state(&self, client: &ClientSummary, width: usize) -> String {
        let style = match (client.lost.is_some(), client.stop_reason) {
            (true, _) => RED,
            (false, Some(pinnace_proto::event::StopReason::Completed)) => GREEN,
            (false, Some(_)) => YELLOW,
            (false, None) => CYAN,
        };
        self.paint(style, &fit(&state_of(client), width))
    }

    fn left_out(&mut self, summary: &Summary) {
        let more = summary.clients.len().saturating_sub(TEXT_CLIENTS_MAX) as u64;
        if more > 0 {
            let text = self.paint(DIM, &format!("and {}", counted(more, "more client")));
            self.line(&text);
        }
    }

    fn latency(
        &mut self,
        heading: &str,
        summary: &Summary,
        all: &Latency,
        of: fn(&ClientSummary) -> &Latency,
    ) {
        if all.count == 0 {
            return;
        }
        self.heading(heading);
        let name = name_columns(summary).min(12);
        // What gives way first when there is no room; every other format has them all.
        let fitting = ((self.width - name) / CELL).saturating_sub(1);
        let hidden = &["p95", "p90", "p99.99"][..7usize.saturating_sub(fitting).min(3)];
        let shown = |name: &str| !hidden.contains(&name);
        let cell = (self.width - name) / (8 - hidden.len());
        let mut head = format!("{}{:>cell$}", pad_right("client", name), "count");
        for (column, ..) in all.columns() {
            if shown(column) {
                let _ = write!(head, "{column:>cell$}");
            }
        }
        let head = self.paint(DIM, &head);
        self.line(&head);
        let row = |who: &str, latency: &Latency| {
            let mut line = format!("{}{:>cell$}", pad_right(who, name), count(latency.count));
            for (column, quantile, value) in latency.columns() {
                if shown(column) {
                    let doubtful = value.is_some() && !latency.trusts(quantile);
                    let text = format!("{}{}", if doubtful { "~" } else { "" }, ns(value));
                    let _ = write!(line, "{text:>cell$}");
                }
            }
            line
        };
        if summary.clients.len() > 1 {
            self.line(&row("all", all));
        }
        for client in summary.clients.iter().take(TEXT_CLIENTS_MAX) {
            self.line(&row(&client.client, of(client)));
        }
        self.left_out(summary);
    }

    fn workers(&mut self, summary: &Summary) {
        self.heading("Workers");
        let name = name_columns(summary) + 4;
        let roomy = self.width >= name + 6 * CELL;
        let cell = (self.width - name) / if roomy { 6 } else { 4 };
        let row = |values: [&str; 6]| {
            let shown = values
                .iter()
                .enumerate()
                .filter(|(place, _)| roomy || *place < 4);
            shown.fold(String::new(), |line, (_, value)| {
                format!("{line}{value:>cell$}")
            })
        };
        let head = row([
            "per second",
            "CPU",
            "rollovers",
            "missed ♥",
            "predicted",
            "buffers",
        ]);
        let head = self.paint(DIM, &(pad_right("client / worker", name) + &head));
        self.line(&head);
        for client in summary.clients.iter().take(TEXT_CLIENTS_MAX) {
            for worker in &client.workers {
                let predicted = worker.rollovers_predicted;
                let figures = row([
                    &bytes_per_second(worker.bytes_per_second),
                    &percent(worker.cpu_share),
                    &count(worker.rollovers),
                    &count(worker.heartbeats_missed),
                    &predicted.map_or(NONE.to_owned(), |fewest| format!("{fewest:.1}")),
                    &size(worker.buffer_bytes),
                ]);
                let who = format!("{} / {}", client.client, worker.worker);
                self.line(&(pad_right(&who, name) + &figures));
            }
            let process = &client.process;
            let memory = format!(
                "  {} resident, {} of CPU time, {} of heartbeats answered",
                size(process.peak_rss_bytes),
                us_or_none(process.cpu_us),
                percent(share(client.heartbeats.answered, client.heartbeats.asked)),
            );
            let memory = self.paint(DIM, &fit(&memory, self.width));
            self.line(&memory);
        }
        self.left_out(summary);
    }

    fn warnings(&mut self, summary: &Summary) {
        if summary.warnings.is_empty() {
            return;
        }
        self.heading("Caveats");
        for warning in &summary.warnings {
            let style = match warning.grade {
                Grade::Serious => RED,
                Grade::Caution => YELLOW,
                Grade::Note => DIM,
            };
            let mark = self.paint(style, &format!("{:<9}", warning.grade.name()));
            let text = format!("{} [{}]", warning.message, warning.code.name());
            self.paragraph(&mark, 9, &text);
        }
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn name_columns(summary: &Summary) -> usize {
    let names = summary.clients.iter().take(TEXT_CLIENTS_MAX);
    let longest = names.map(|client| columns(&client.client)).max();
    longest.unwrap_or(0).clamp(6, 14) + 1
}
