//! The tables of what a run was made on and how: machines, storage, jobs, errors, commands.
//!
//! Invariant: a fact that could not be had is a dash; nothing is guessed.

use std::fmt::Write;

use pinnace_proto::units::show_rate;

use crate::html::escape::{esc, esc_lines};
use crate::html::tables::{FOLD_ROWS, Table, workers};
use crate::limits::ERROR_ROWS_MAX;
use crate::repeat::{command, exact_size, exact_time};
use crate::summary::Summary;
use crate::words::{NONE, count, counted, size, us};

/// Machines.
pub(crate) fn hosts(summary: &Summary) -> String {
    let mut table = Table::new(
        "Machines",
        &[
            "<Client",
            "<Host",
            "<System",
            "<Kernel",
            "<CPU",
            "CPUs",
            "Memory",
            "<Governor",
            "<Clock",
            "<Pinnace",
        ],
    );
    for client in &summary.clients {
        let Some(host) = &client.host else { continue };
        let left = |text: Option<&str>| format!("<{}", text.unwrap_or(NONE));
        table.row(
            "",
            &client.client,
            &[
                left(Some(&host.hostname)),
                left(host.os.as_deref()),
                format!("<{} {}", host.kernel, host.architecture),
                left(host.cpu_model.as_deref()),
                count(u64::from(host.cpus)),
                size(host.memory_bytes),
                left(host.governor.as_deref()),
                left(host.clock_source.as_deref()),
                left(Some(&host.pinnace)),
            ],
        );
    }
    table.html()
}

/// Storage behind each worker.
pub(crate) fn storage(summary: &Summary) -> String {
    let mut table = Table::new(
        "Storage",
        &[
            "<Client / worker",
            "<Path",
            "<File system",
            "<Mounted from",
            "<Device",
            "<Scheduler",
            "<Options",
            "Size",
            "Free",
        ],
    );
    for (_, worker, name) in workers(summary) {
        let Some(storage) = &worker.storage else {
            continue;
        };
        let left = |text: Option<&str>| format!("<{}", text.unwrap_or(NONE));
        let kind = match storage.rotational {
            Some(true) => ", spinning",
            Some(false) => ", solid state",
            None => "",
        };
        let device = [storage.device.as_deref(), storage.device_model.as_deref()];
        let device: Vec<&str> = device.into_iter().flatten().collect();
        table.row(
            "",
            &name,
            &[
                left(Some(&storage.path)),
                left(storage.file_system.as_deref()),
                left(storage.source.as_deref()),
                if device.is_empty() {
                    left(None)
                } else {
                    format!("<{}{kind}", device.join(", "))
                },
                left(storage.scheduler.as_deref()),
                left(storage.mount_options.as_deref()),
                size(Some(storage.total_bytes)),
                size(Some(storage.free_bytes)),
            ],
        );
    }
    table.html()
}

/// What each client was to do.
pub(crate) fn jobs(summary: &Summary) -> String {
    let mut table = Table::new(
        "Job",
        &[
            "<Client / worker",
            "<Path",
            "Chunk",
            "File",
            "Run time",
            "Engine",
            "Direct",
            "Rate limit",
            "Sample",
            "Heartbeat",
            "Monitor",
        ],
    );
    for client in &summary.clients {
        let Some(job) = &client.job else { continue };
        for (place, worker) in job.workers.iter().enumerate() {
            table.row(
                "",
                &format!("{} / {place}", client.client),
                &[
                    format!("<{}", worker.path),
                    exact_size(worker.chunk_bytes),
                    exact_size(worker.file_bytes),
                    exact_time(job.run_time_us),
                    job.engine.name().to_owned(),
                    if job.direct { "yes" } else { "no" }.to_owned(),
                    job.rate_bytes_per_second
                        .map_or("none".to_owned(), |rate| show_rate(rate as f64)),
                    exact_time(job.sample_us),
                    exact_time(job.heartbeat_us),
                    exact_time(job.monitor_us),
                ],
            );
        }
    }
    table.html()
}

/// Errors, the first ones of each client.
pub(crate) fn errors(summary: &Summary) -> String {
    let mut table = Table::new(
        "Errors",
        &[
            "<Client",
            "Worker",
            "At",
            "<Tried",
            "<On",
            "<The system said",
        ],
    );
    let all = summary.clients.iter().flat_map(|client| {
        let errors = client.errors.iter();
        errors.map(move |error| (client, error))
    });
    for (client, error) in all.take(ERROR_ROWS_MAX) {
        table.row(
            "",
            &client.client,
            &[
                error.worker.map_or(NONE.to_owned(), |w| w.to_string()),
                us(error.at_us),
                format!("<{}", error.operation),
                format!("<{}", error.path.as_deref().unwrap_or(NONE)),
                format!("<{}", error.message),
            ],
        );
    }
    let shown = (table.rows.len() as u64).min(summary.totals.errors);
    let mut html = table.html();
    if summary.totals.errors > shown {
        let more = counted(summary.totals.errors - shown, "error");
        let _ = write!(html, "<p class=\"dim\">{more} not listed.</p>");
    }
    html
}

/// The commands that repeat the run.
pub(crate) fn repeat(summary: &Summary) -> String {
    let run = format!("{}-again", summary.run.id);
    let shared = (summary.clients.len() > 1).then_some(run.as_str());
    let mut html = String::new();
    for client in summary.clients.iter().take(FOLD_ROWS) {
        let Some(command) = command(client, shared) else {
            continue;
        };
        let host = client
            .host
            .as_ref()
            .map_or("", |host| host.hostname.as_str());
        if shared.is_some() {
            let _ = write!(html, "<h3>{} on {}</h3>", esc(&client.client), esc(host));
        }
        let _ = write!(html, "<pre>{}</pre>", esc_lines(&command));
    }
    html
}
