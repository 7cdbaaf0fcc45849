//! Runs as CSV after RFC 4180: one table of totals, one of samples.
//!
//! Invariant: every row has as many fields as the head; columns are only ever added at the end.
//! Sizes are bytes, durations nanoseconds or microseconds as their names say, and a figure that
//! does not exist is an empty field.

use std::fmt::Display;

use pinnace_proto::event::Body;
use pinnace_proto::run::RunRecord;

use crate::latency::Latency;
use crate::summary::{ClientSummary, Summary};

const HEAD: [&str; 32] = [
    "kind",
    "run",
    "name",
    "solution",
    "client",
    "worker",
    "state",
    "path",
    "chunk_bytes",
    "file_bytes",
    "start_us",
    "end_us",
    "bytes",
    "bytes_per_second",
    "rollovers",
    "rollovers_predicted",
    "writes",
    "write_p50_ns",
    "write_p90_ns",
    "write_p95_ns",
    "write_p99_ns",
    "write_p99_9_ns",
    "write_p99_99_ns",
    "write_max_ns",
    "syncs",
    "sync_p50_ns",
    "sync_p99_ns",
    "sync_max_ns",
    "cpu_share",
    "peak_rss_bytes",
    "heartbeats_missed",
    "coverage",
];

const SAMPLE_HEAD: [&str; 16] = [
    "run",
    "client",
    "instance",
    "n",
    "worker",
    "from_us",
    "to_us",
    "bytes",
    "writes",
    "write_mean_ns",
    "write_p50_ns",
    "write_p99_ns",
    "write_max_ns",
    "syncs",
    "sync_p50_ns",
    "sync_max_ns",
];

/// Totals: a row of kind `run`, then for each client one of kind `client` and one of kind `worker`
/// per worker.
pub fn csv(summary: &Summary) -> String {
    let mut out = Csv::headed(&HEAD);
    let totals = &summary.totals;
    out.row(|row| {
        row.common(summary, "run");
        row.skip(2);
        row.text(summary.run.state.name());
        row.skip(3);
        row.number(Some(0));
        row.number(Some(totals.duration_us));
        row.number(Some(totals.bytes));
        row.number(totals.bytes_per_second);
        row.number(Some(totals.rollovers));
        row.number(summary.promise.predicted_min);
        row.latencies(&summary.writes, &summary.syncs);
        row.skip(2);
        row.number(Some(
            summary
                .clients
                .iter()
                .map(|client| client.heartbeats.missed)
                .sum::<u64>(),
        ));
        row.number(summary.coverage.share);
    });
    for client in &summary.clients {
        client_row(&mut out, summary, client);
        worker_rows(&mut out, summary, client);
    }
    out.text
}

fn client_row(out: &mut Csv, summary: &Summary, client: &ClientSummary) {
    out.row(|row| {
        row.common(summary, "client");
        row.text(&client.client);
        row.skip(1);
        row.text(client.state.name());
        row.skip(3);
        row.number(Some(client.start_us));
        row.number(Some(client.end_us));
        row.number(Some(client.bytes));
        row.number(client.bytes_per_second);
        row.number(Some(client.rollovers));
        row.skip(1);
        row.latencies(&client.writes, &client.syncs);
        row.skip(1);
        row.number(client.process.peak_rss_bytes);
        row.number(Some(client.heartbeats.missed));
        let planned_us = client.planned_us;
        row.number((planned_us > 0).then(|| client.reported_us as f64 / planned_us as f64));
    });
}

fn worker_rows(out: &mut Csv, summary: &Summary, client: &ClientSummary) {
    for worker in &client.workers {
        let jobs = client.job.as_ref().map(|job| &job.workers);
        let job = jobs.and_then(|jobs| jobs.get(worker.worker as usize));
        out.row(|row| {
            row.common(summary, "worker");
            row.text(&client.client);
            row.number(Some(worker.worker));
            row.text(client.state.name());
            row.text(job.map_or("", |job| job.path.as_str()));
            row.number(job.map(|job| job.chunk_bytes));
            row.number(job.map(|job| job.file_bytes));
            row.number(Some(client.start_us));
            row.number(Some(client.end_us));
            row.number(Some(worker.bytes));
            row.number(worker.bytes_per_second);
            row.number(Some(worker.rollovers));
            row.number(worker.rollovers_predicted);
            row.latencies(&worker.writes, &worker.syncs);
            row.number(worker.cpu_share);
            row.skip(1);
            row.number(Some(worker.heartbeats_missed));
            row.skip(1);
        });
    }
}

/// Samples as they were reported: a row per client, interval and worker. Times are microseconds
/// since that client's workers started.
pub fn csv_samples(record: &RunRecord) -> String {
    let mut out = Csv::headed(&SAMPLE_HEAD);
    let events = record.clients.iter().flat_map(|client| {
        let events = client.events.iter();
        events.map(|event| (client.client.as_str(), event))
    });
    for (client, event) in events {
        let Body::Sample(sample) = &event.body else {
            continue;
        };
        for worker in &sample.workers {
            out.row(|row| {
                row.text(&record.run.id);
                row.text(client);
                row.text(&event.instance);
                row.number(Some(event.n));
                row.number(Some(worker.worker));
                row.number(Some(sample.from_us));
                row.number(Some(sample.to_us));
                row.number(Some(worker.bytes));
                row.number(Some(worker.writes.count()));
                row.number(worker.writes.mean_ns());
                row.number(worker.writes.quantile_ns(0.5));
                row.number(worker.writes.quantile_ns(0.99));
                row.number(worker.writes.max_ns());
                row.number(Some(worker.syncs.count()));
                row.number(worker.syncs.quantile_ns(0.5));
                row.number(worker.syncs.max_ns());
            });
        }
    }
    out.text
}

/// A table under construction.
struct Csv {
    text: String,
}

impl Csv {
    fn headed(columns: &[&str]) -> Self {
        Self {
            text: format!("{}\r\n", columns.join(",")),
        }
    }

    fn row(&mut self, fill: impl FnOnce(&mut Row<'_>)) {
        let mut row = Row {
            text: &mut self.text,
            fields: 0,
        };
        fill(&mut row);
        self.text.push_str("\r\n");
    }
}

/// A row under construction.
struct Row<'a> {
    text: &'a mut String,
    fields: usize,
}

impl Row<'_> {
    fn field(&mut self, text: &str) {
        if self.fields > 0 {
            self.text.push(',');
        }
        self.fields += 1;
        self.text.push_str(text);
    }

    fn text(&mut self, text: &str) {
        let bare = !text.contains(['"', ',', '\r', '\n']);
        if bare {
            self.field(text);
        } else {
            self.field(&format!("\"{}\"", text.replace('"', "\"\"")));
        }
    }

    fn number<N: Display>(&mut self, number: Option<N>) {
        match number {
            Some(number) => self.field(&number.to_string()),
            None => self.field(""),
        }
    }

    fn skip(&mut self, fields: usize) {
        (0..fields).for_each(|_| self.field(""));
    }

    fn common(&mut self, summary: &Summary, kind: &str) {
        self.text(kind);
        self.text(&summary.run.id);
        self.text(&summary.run.name);
        self.text(&summary.run.solution);
    }

    fn latencies(&mut self, writes: &Latency, syncs: &Latency) {
        self.number(Some(writes.count));
        for (.., value) in writes.columns() {
            self.number(value);
        }
        self.number(Some(syncs.count));
        for value in [syncs.p50_ns, syncs.p99_ns, syncs.max_ns] {
            self.number(value);
        }
    }
}
