//! A run in the shape of fio's `--output-format=json`, for tools that read that: one job per worker.
//!
//! Only figures that mean the same in both are given; names and units are fio's (bytes, bytes per
//! second, milliseconds of run time, latencies in nanoseconds with percentiles as texts of six
//! decimals). What fio calls `sync` are the syncs at rollover.

use serde_json::{Map, Value, json};

use crate::latency::Latency;
use crate::summary::{ClientSummary, Summary, WorkerSummary};

/// The run as fio would have told it.
pub fn fio(summary: &Summary) -> Value {
    let jobs: Vec<Value> = summary
        .clients
        .iter()
        .flat_map(|client| client.workers.iter().map(move |worker| job(client, worker)))
        .collect();
    json!({
        "fio version": concat!("pinnace-", env!("CARGO_PKG_VERSION")),
        "timestamp_ms": summary.started_us.map(|us| us / 1_000),
        "global options": { "description": format!("pinnace run {}", summary.run.id) },
        "jobs": jobs,
    })
}

fn job(client: &ClientSummary, worker: &WorkerSummary) -> Value {
    let plan = client.job.as_ref();
    let sizes = plan.and_then(|job| job.workers.get(worker.worker as usize));
    let runtime_us = client.end_us.saturating_sub(client.start_us);
    let per_second =
        |count: u64| (runtime_us > 0).then(|| count as f64 / (runtime_us as f64 / 1e6));
    json!({
        "jobname": format!("{}-{}", client.client, worker.worker),
        "groupid": 0,
        "error": client.error_count,
        "job options": {
            "rw": "write",
            "bs": sizes.map(|sizes| sizes.chunk_bytes.to_string()),
            "filesize": sizes.map(|sizes| sizes.file_bytes.to_string()),
            "directory": sizes.map(|sizes| sizes.path.as_str()),
            "ioengine": plan.map(|job| job.engine.name()),
            "direct": plan.map(|job| if job.direct { "1" } else { "0" }),
        },
        "job_runtime": runtime_us / 1_000,
        "write": {
            "io_bytes": worker.bytes,
            "bw_bytes": worker.bytes_per_second.map(|rate| rate as u64),
            "iops": per_second(worker.writes.count),
            "runtime": runtime_us / 1_000,
            "total_ios": worker.writes.count,
            "clat_ns": latency(&worker.writes),
        },
        "sync": { "total_ios": worker.syncs.count, "lat_ns": latency(&worker.syncs) },
    })
}

fn latency(latency: &Latency) -> Value {
    let named = [
        ("50.000000", latency.p50_ns),
        ("90.000000", latency.p90_ns),
        ("95.000000", latency.p95_ns),
        ("99.000000", latency.p99_ns),
        ("99.900000", latency.p99_9_ns),
        ("99.990000", latency.p99_99_ns),
    ];
    let percentile: Map<String, Value> = named
        .into_iter()
        .filter_map(|(name, ns)| Some((name.to_owned(), ns?.into())))
        .collect();
    json!({
        "min": latency.min_ns,
        "max": latency.max_ns,
        "mean": latency.mean_ns,
        "N": latency.count,
        "percentile": percentile,
    })
}
