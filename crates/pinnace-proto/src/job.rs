//! The job: what to measure, as a document. Step 1 knows one kind, the rollover job.
//!
//! Every field is resolved (no defaults left open): what a user typed or wrote in YAML becomes this
//! in the binary. Two runs are comparable when their jobs are equal but for name, solution and
//! paths.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one client is to do in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Document version, 1.
    pub v: u32,
    /// A label for people; runs of the same name are the same experiment.
    pub name: String,
    /// What is measured (`ceph-nvme`), for comparing; empty when not given.
    pub solution: String,
    /// How long the workers write, microseconds.
    pub run_time_us: u64,
    /// Time between heartbeats, microseconds.
    pub heartbeat_us: u64,
    /// Time between looks at each worker's CPU and memory, microseconds.
    pub monitor_us: u64,
    /// Time between samples of operations and latencies, microseconds.
    pub sample_us: u64,
    /// Stop when a file system has less free than this.
    pub min_free: MinFree,
    /// Engine asked for.
    pub engine: Engine,
    /// Bypass the page cache (`O_DIRECT`).
    pub direct: bool,
    /// Leave the data files in place at the end.
    pub keep_files: bool,
    /// Run although the calibration says it cannot roll over twice.
    pub force: bool,
    /// Write at most this many bytes per second per worker; `None` is as fast as it goes.
    pub rate_bytes_per_second: Option<u64>,
    /// One entry per worker.
    pub workers: Vec<WorkerJob>,
}

/// What one worker writes, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerJob {
    /// Existing directory the data files are made in.
    pub path: String,
    /// Bytes of one write.
    pub chunk_bytes: u64,
    /// Size at which a file is closed and the next one begun.
    pub file_bytes: u64,
}

/// A floor of free space.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MinFree {
    /// This many bytes.
    Bytes(u64),
    /// This share of the file system, in percent.
    Percent(f64),
}

impl MinFree {
    /// The floor in bytes on a file system of `total_bytes`.
    pub fn bytes_of(self, total_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => (total_bytes as f64 * percent / 100.0) as u64,
        }
    }
}

/// What issues the writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// `pwrite` from the worker's thread.
    Psync,
    /// Nothing is written: the tool's own cost.
    Null,
}

impl Engine {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Psync => "psync",
            Self::Null => "null",
        }
    }
}
