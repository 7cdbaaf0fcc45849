//! The tables of a run's figures, and how a table is made.
//!
//! Invariant: each table is headed, its rows are named by `th`, and wide ones scroll by themselves
//! so that the page does not.

use std::fmt::Write;

use pinnace_proto::units::show_size;

use crate::client::thin;
use crate::html::escape::esc;
use crate::latency::Latency;
use crate::limits::ROLLOVER_ROWS_MAX;
use crate::summary::{ClientSummary, FigureSource, Summary, WorkerSummary};
use crate::words::{NONE, bytes_per_second, count, ns, percent, size, state_of, us, us_or_none};

/// Rows above which a table is folded away.
pub(super) const FOLD_ROWS: usize = 24;

/// A table under construction.
pub(super) struct Table {
    caption: &'static str,
    head: String,
    pub(super) rows: Vec<String>,
}

impl Table {
    /// Columns by name; a leading `<` sets a column to the left.
    pub(super) fn new(caption: &'static str, columns: &[&str]) -> Self {
        let mut head = String::new();
        for column in columns {
            let _ = match column.strip_prefix('<') {
                Some(name) => write!(head, "<th scope=\"col\" class=\"l\">{name}</th>"),
                None => write!(head, "<th scope=\"col\">{column}</th>"),
            };
        }
        Self {
            caption,
            head,
            rows: Vec::new(),
        }
    }

    /// A row: its name and its cells, all of them escaped here. `<` as in [`Self::new`], `~` dims.
    pub(super) fn row(&mut self, class: &str, name: &str, cells: &[String]) {
        let mut row = format!(
            "<tr{class}><th scope=\"row\" class=\"l\">{}</th>",
            esc(name),
            class = if class.is_empty() {
                String::new()
            } else {
                format!(" class=\"{class}\"")
            },
        );
        for cell in cells {
            let _ = match (cell.strip_prefix('<'), cell.strip_prefix('~')) {
                (Some(text), _) => write!(row, "<td class=\"l wrap\">{}</td>", esc(text)),
                (None, Some(_)) => write!(row, "<td class=\"dim\">{}</td>", esc(cell)),
                (None, None) => write!(row, "<td>{}</td>", esc(cell)),
            };
        }
        row.push_str("</tr>");
        self.rows.push(row);
    }

    pub(super) fn html(self) -> String {
        let rows = self.rows.len();
        let table = format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table>\
             <caption>{0}</caption><thead><tr>{1}</tr></thead><tbody>{2}</tbody></table></div>",
            self.caption,
            self.head,
            self.rows.concat()
        );
        match rows {
            0 => String::new(),
            rows if rows > FOLD_ROWS => {
                format!(
                    "<details><summary>{}: {rows} rows</summary>{table}</details>",
                    self.caption
                )
            }
            _ => table,
        }
    }
}

/// Totals of each client.
pub(crate) fn clients(summary: &Summary) -> String {
    let mut table = Table::new(
        "Clients",
        &[
            "<Client",
            "<Ended",
            "Written",
            "Per second",
            "Writes",
            "Syncs",
            "Rollovers",
            "Worked",
            "Started after",
        ],
    );
    for client in &summary.clients {
        table.row(
            "",
            &client.client,
            &[
                format!("<{}", state_of(client)),
                show_size(client.bytes),
                bytes_per_second(client.bytes_per_second),
                count(client.writes.count),
                count(client.syncs.count),
                count(client.rollovers),
                us(client.end_us - client.start_us),
                us(client.start_us),
            ],
        );
    }
    table.html()
}

/// Percentiles of writes, then of syncs.
pub(crate) fn latency(summary: &Summary) -> String {
    let write = |client: &ClientSummary| client.writes.clone();
    let sync = |client: &ClientSummary| client.syncs.clone();
    percentiles("Write latency", summary, &summary.writes, write)
        + &percentiles("Sync latency", summary, &summary.syncs, sync)
}

fn percentiles(
    caption: &'static str,
    summary: &Summary,
    all: &Latency,
    of: impl Fn(&ClientSummary) -> Latency,
) -> String {
    let mut columns = vec!["<Client", "Count"];
    columns.extend(all.columns().iter().map(|(name, ..)| *name));
    let mut table = Table::new(caption, &columns);
    if summary.clients.len() != 1 {
        table.row("all", "all, merged", &percentile_cells(all));
    }
    for client in &summary.clients {
        table.row("", &client.client, &percentile_cells(&of(client)));
    }
    table.html()
}

fn percentile_cells(latency: &Latency) -> Vec<String> {
    let mut cells = vec![count(latency.count)];
    for (_, quantile, value) in latency.columns() {
        let doubtful = value.is_some() && !latency.trusts(quantile);
        cells.push(format!("{}{}", if doubtful { "~" } else { "" }, ns(value)));
    }
    cells
}

/// Every worker with the client it belongs to.
pub(super) fn workers(
    summary: &Summary,
) -> impl Iterator<Item = (&ClientSummary, &WorkerSummary, String)> {
    summary.clients.iter().flat_map(|client| {
        let workers = client.workers.iter();
        workers.map(move |worker| {
            (
                client,
                worker,
                format!("{} / {}", client.client, worker.worker),
            )
        })
    })
}

/// Throughput, CPU and memory of each worker.
pub(crate) fn worker_resources(summary: &Summary) -> String {
    let mut table = Table::new(
        "Workers",
        &[
            "<Client / worker",
            "Per second",
            "CPU mean",
            "CPU most",
            "CPU time",
            "Busy",
            "Buffers",
            "Switches own",
            "forced",
            "State",
            "<Figures from",
        ],
    );
    for (_, worker, name) in workers(summary) {
        let switches = |number: Option<u64>| number.map_or(NONE.to_owned(), count);
        let state = worker.last_state.as_str();
        table.row(
            "",
            &name,
            &[
                bytes_per_second(worker.bytes_per_second),
                percent(worker.cpu_share),
                percent(worker.cpu_share_max),
                us_or_none(worker.cpu_us),
                us_or_none(worker.busy_us),
                size(worker.buffer_bytes),
                switches(worker.voluntary_switches),
                switches(worker.involuntary_switches),
                if state.is_empty() { NONE } else { state }.to_owned(),
                format!("<{}", source(worker.source)),
            ],
        );
    }
    table.html()
}

fn source(source: FigureSource) -> &'static str {
    match source {
        FigureSource::Stopped => "final word",
        FigureSource::Samples => "samples",
        FigureSource::Both => "final word and samples",
    }
}

/// Rollovers by worker, then one by one.
pub(crate) fn rollovers(summary: &Summary) -> String {
    let mut table = Table::new(
        "Rollovers by worker",
        &[
            "<Client / worker",
            "Predicted",
            "Happened",
            "Time per file",
            "Sync per file",
            "Sync share",
            "Slowest sync",
        ],
    );
    for (client, worker, name) in workers(summary) {
        let marks = || {
            client
                .rollover_marks
                .iter()
                .filter(|m| m.worker == worker.worker)
        };
        let listed = marks().count() as u64;
        let sum = |of: fn(&crate::summary::RolloverMark) -> u64| -> u64 {
            marks().map(of).fold(0, u64::saturating_add)
        };
        let (file_us, sync_us) = (sum(|m| m.file_us), sum(|m| m.sync_us));
        let mean = |sum: u64| us_or_none(sum.checked_div(listed));
        table.row(
            "",
            &name,
            &[
                worker
                    .rollovers_predicted
                    .map_or(NONE.to_owned(), |fewest| format!("{fewest:.1}")),
                count(worker.rollovers),
                mean(file_us),
                mean(sync_us),
                percent((file_us > 0).then(|| sync_us as f64 / file_us as f64)),
                us_or_none(marks().map(|m| m.sync_us).max()),
            ],
        );
    }
    table.html() + &each_rollover(summary)
}

fn each_rollover(summary: &Summary) -> String {
    let all: Vec<_> = summary
        .clients
        .iter()
        .flat_map(|client| client.rollover_marks.iter().map(move |mark| (client, mark)))
        .collect();
    let happened = all.len();
    let mut all = thin(all, ROLLOVER_ROWS_MAX);
    all.sort_by_key(|(_, mark)| mark.at_us);
    let mut table = Table::new(
        "Rollovers in order of time",
        &[
            "<Client / worker",
            "No.",
            "At",
            "<File",
            "Size",
            "Time",
            "Sync",
        ],
    );
    for (client, mark) in &all {
        table.row(
            "",
            &format!("{} / {}", client.client, mark.worker),
            &[
                count(mark.number),
                us(mark.at_us),
                format!("<{}", mark.file),
                show_size(mark.bytes),
                us(mark.file_us),
                us(mark.sync_us),
            ],
        );
    }
    let shown = all.len();
    let mut html = table.html();
    if shown < happened {
        let _ = write!(
            html,
            "<p class=\"dim\">{} listed, evenly thinned, of {}.</p>",
            shown,
            count(summary.totals.rollovers)
        );
    }
    html
}

/// Heartbeats of each client.
pub(crate) fn heartbeats(summary: &Summary) -> String {
    let mut table = Table::new(
        "Heartbeats",
        &[
            "<Client",
            "Received",
            "Absent",
            "Workers asked",
            "Answered",
            "Missed",
            "Slowest answer",
        ],
    );
    for client in &summary.clients {
        let beats = &client.heartbeats;
        table.row(
            "",
            &client.client,
            &[
                count(beats.received),
                count(beats.absent),
                count(beats.asked),
                count(beats.answered),
                count(beats.missed),
                us_or_none(beats.slowest_answer_us),
            ],
        );
    }
    table.html()
}

/// Several runs side by side.
pub(crate) fn overview(summaries: &[Summary]) -> String {
    let mut table = Table::new(
        "Runs",
        &[
            "<Run",
            "<Solution",
            "<State",
            "Written",
            "Per second",
            "Write p99",
            "Sync p99",
            "Coverage",
            "Warnings",
        ],
    );
    for summary in summaries {
        table.row(
            "",
            &summary.run.id,
            &[
                format!("<{}", summary.run.solution),
                format!("<{}", summary.run.state.name()),
                show_size(summary.totals.bytes),
                bytes_per_second(summary.totals.bytes_per_second),
                ns(summary.writes.p99_ns),
                ns(summary.syncs.p99_ns),
                percent(summary.coverage.share),
                count(summary.warnings.len() as u64),
            ],
        );
    }
    table.html()
}
