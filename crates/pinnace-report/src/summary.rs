//! The summary document: what a run came to, as plain data with units in the names.
//!
//! Invariant: strict JSON. A figure that cannot be had (nothing counted, no time passed) is `null`,
//! never NaN, infinity or a made-up zero. All times named `at_us`, `from_us`, `to_us`, `start_us`,
//! `end_us` are microseconds since the run's start, which is the start of its first client.
//!
//! Left to others: where the figures come from (`summarize`) and how they look (the renderers).

use pinnace_proto::event::{LostReason, StopReason};
use pinnace_proto::host::{HostFacts, PathFacts};
use pinnace_proto::job::Job;
use pinnace_proto::run::{ClientState, RunHead};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::latency::Latency;
use crate::warning::Warning;

/// Version of [`Summary`], written as its field `v`.
pub const SUMMARY_VERSION: u32 = 1;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Document version, 1.
    pub v: u32,
    /// The outcome in one or two plain sentences.
    pub headline: String,
    /// Head data of the run as the database has it.
    pub run: RunHead,
    /// Wall clock of the run's start, microseconds since 1970; `None` when nothing started.
    pub started_us: Option<u64>,
    /// How much of the plan was reported.
    pub coverage: Coverage,
    /// Sums over all clients.
    pub totals: Totals,
    /// Write latencies of all workers, merged.
    pub writes: Latency,
    /// Sync latencies of all workers, merged.
    pub syncs: Latency,
    /// What the calibration promised and what came of it.
    pub promise: Promise,
    /// Throughput of all clients together.
    pub series: RateSeries,
    /// One entry per client, in the order of the run.
    pub clients: Vec<ClientSummary>,
    /// What a reader should know before believing the figures, gravest first.
    pub warnings: Vec<Warning>,
}

/// Planned against reported client-seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Sum of the clients' run times, microseconds.
    pub planned_us: u64,
    /// Part of it that figures exist for, microseconds.
    pub reported_us: u64,
    /// Their quotient, 0 to 1; `None` when nothing was planned.
    pub share: Option<f64>,
}

/// Sums over all clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Bytes written.
    pub bytes: u64,
    /// Write operations.
    pub writes: u64,
    /// Sync operations.
    pub syncs: u64,
    /// Files closed at their full size.
    pub rollovers: u64,
    /// Errors reported.
    pub errors: u64,
    /// From the first client's start to the last one's end, microseconds.
    pub duration_us: u64,
    /// `bytes` over `duration_us`; `None` when no time passed.
    pub bytes_per_second: Option<f64>,
    /// When the first client ended, microseconds; `None` without clients.
    pub first_end_us: Option<u64>,
    /// From the first client's start to the last one's start, microseconds.
    pub start_skew_us: u64,
    /// The time in which every client was at work; `None` when there is none.
    pub common_window: Option<Window>,
}

/// A stretch of the run and what was written in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// Its start, microseconds.
    pub from_us: u64,
    /// Its end, microseconds.
    pub to_us: u64,
    /// Bytes written in it by all clients; a sample across its edge counts in proportion.
    pub bytes: u64,
    /// `bytes` over its length.
    pub bytes_per_second: Option<f64>,
}

/// What the calibration promised and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Promise {
    /// Rollovers every worker should make.
    pub rollovers_promised: u64,
    /// Fewest rollovers predicted for a worker; `None` without a calibration.
    pub predicted_min: Option<f64>,
    /// Fewest rollovers that a worker made; `None` without workers.
    pub happened_min: Option<u64>,
    /// Whether every worker made them.
    pub outcome: PromiseOutcome,
}

/// Whether every worker rolled over as often as promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromiseOutcome {
    /// Every worker did.
    Held,
    /// At least one did not, and it has ended.
    Missed,
    /// Not yet, and the run goes on.
    Open,
    /// There are no workers to judge by.
    Unknown,
}

/// Throughput over time in steps of equal width.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RateSeries {
    /// Width of one step, microseconds: one second unless the run is longer than an hour.
    pub step_us: u64,
    /// Bytes per second of each step from the run's start; `null` where no sample tells.
    pub bytes_per_second: Vec<Option<u64>>,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClientSummary {
    /// Its name in the run.
    pub client: String,
    /// Where it stands.
    pub state: ClientState,
    /// Why it stopped; `None` when it did not say.
    pub stop_reason: Option<StopReason>,
    /// When and why it was given up; `None` unless its state is lost.
    pub lost: Option<LostSummary>,
    /// When its workers started, microseconds.
    pub start_us: u64,
    /// When its figures end, microseconds.
    pub end_us: u64,
    /// Its run time by the job, microseconds.
    pub planned_us: u64,
    /// Part of the plan that figures exist for, microseconds.
    pub reported_us: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Bytes over the time it worked; `None` when no time passed.
    pub bytes_per_second: Option<f64>,
    /// Files closed at their full size.
    pub rollovers: u64,
    /// Write latencies of its workers, merged.
    pub writes: Latency,
    /// Sync latencies of its workers, merged.
    pub syncs: Latency,
    /// Its workers, by number.
    pub workers: Vec<WorkerSummary>,
    /// Its process over time.
    pub process: ProcessSummary,
    /// Its heartbeats.
    pub heartbeats: HeartbeatSummary,
    /// Its throughput; steps as in [`Summary::series`].
    pub series: RateSeries,
    /// Stretches without samples although it should have been at work.
    pub gaps: Vec<Gap>,
    /// Its rollovers in order of time; evenly thinned when there are thousands.
    pub rollover_marks: Vec<RolloverMark>,
    /// Errors reported.
    pub error_count: u64,
    /// The first of them.
    pub errors: Vec<ErrorMark>,
    /// What the record itself looked like.
    pub integrity: Integrity,
    /// What it was to do; `None` when its start is not on record.
    pub job: Option<Job>,
    /// The machine; `None` when its start is not on record.
    pub host: Option<HostFacts>,
}

/// How a client was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LostSummary {
    /// Why it was given up; `None` when the record does not say.
    pub reason: Option<LostReason>,
    /// Where its figures end, microseconds.
    pub at_us: u64,
    /// Wall clock of the server when it was last heard, microseconds since 1970.
    pub last_heard_us: u64,
}

/// One worker of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerSummary {
    /// Worker, from 0.
    pub worker: u32,
    /// Where its figures come from.
    pub source: FigureSource,
    /// Bytes written.
    pub bytes: u64,
    /// Bytes over the time its client worked; `None` when no time passed.
    pub bytes_per_second: Option<f64>,
    /// Files closed at their full size.
    pub rollovers: u64,
    /// Rollovers the calibration promised.
    pub rollovers_predicted: Option<f64>,
    /// Throughput the calibration promised.
    pub bytes_per_second_predicted: Option<f64>,
    /// Write latencies.
    pub writes: Latency,
    /// Sync latencies.
    pub syncs: Latency,
    /// Time spent writing and syncing, microseconds; `None` without a final word.
    pub busy_us: Option<u64>,
    /// CPU time of its thread, microseconds.
    pub cpu_us: Option<u64>,
    /// Share of one CPU, mean over the run, 0 to 1.
    pub cpu_share: Option<f64>,
    /// Largest share of one CPU over one interval.
    pub cpu_share_max: Option<f64>,
    /// State letter when last seen; empty when never seen.
    pub last_state: String,
    /// Bytes of its buffers.
    pub buffer_bytes: Option<u64>,
    /// Times it gave up the CPU by itself.
    pub voluntary_switches: Option<u64>,
    /// Times the CPU was taken from it.
    pub involuntary_switches: Option<u64>,
    /// Heartbeats it did not answer in time.
    pub heartbeats_missed: u64,
    /// CPU share over time.
    pub cpu: Vec<CpuPoint>,
    /// The storage behind its path; `None` when the start is not on record.
    pub storage: Option<PathFacts>,
}

/// Where a worker's totals come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FigureSource {
    /// Its client's final word.
    Stopped,
    /// The sum of its samples, because the final word is missing.
    Samples,
    /// Both: the client was started more than once.
    Both,
}

/// A worker's CPU share over one interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuPoint {
    /// End of the interval, microseconds.
    pub at_us: u64,
    /// Share of one CPU, 0 to 1.
    pub share: f64,
}

/// A client's process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessSummary {
    /// CPU time of all its threads, microseconds.
    pub cpu_us: Option<u64>,
    /// Largest resident memory, bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Largest sum of the workers' buffers, bytes.
    pub peak_buffer_bytes: Option<u64>,
    /// Memory over time.
    pub memory: Vec<MemoryPoint>,
}

/// Memory of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryPoint {
    /// When, microseconds.
    pub at_us: u64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Part of it that is the workers' buffers, bytes.
    pub buffer_bytes: u64,
}

/// A client's heartbeats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatSummary {
    /// Heartbeats on record.
    pub received: u64,
    /// Heartbeats that were due while it should have been at work and are not on record.
    pub absent: u64,
    /// Questions to workers.
    pub asked: u64,
    /// Answers in time.
    pub answered: u64,
    /// Questions without an answer in time.
    pub missed: u64,
    /// Longest time an answer took, microseconds.
    pub slowest_answer_us: Option<u64>,
    /// One per heartbeat; evenly thinned when there are thousands.
    pub marks: Vec<HeartbeatMark>,
}

/// One heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatMark {
    /// When, microseconds.
    pub at_us: u64,
    /// Workers asked.
    pub asked: u32,
    /// Workers that answered in time.
    pub answered: u32,
}

/// A stretch without samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// Its start, microseconds.
    pub from_us: u64,
    /// Its end, microseconds.
    pub to_us: u64,
}

/// One rollover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloverMark {
    /// When the file was closed, microseconds.
    pub at_us: u64,
    /// Worker, from 0.
    pub worker: u32,
    /// Number of the rollover at this worker, from 1.
    pub number: u64,
    /// The file closed.
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
    /// From its first write to the end of its sync, microseconds.
    pub file_us: u64,
    /// Part of that spent in the sync, microseconds.
    pub sync_us: u64,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorMark {
    /// When, microseconds.
    pub at_us: u64,
    /// Worker, from 0; `None` when it is the client's.
    pub worker: Option<u32>,
    /// What was tried.
    pub operation: String,
    /// On what.
    pub path: Option<String>,
    /// What the system said.
    pub message: String,
}

/// What a client's record itself looked like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Integrity {
    /// Processes that reported under this name.
    pub instances: u32,
    /// Events that were on record twice and counted once.
    pub duplicate_events: u64,
    /// Samples with an interval that cannot be; their bytes count, their place in time does not.
    pub impossible_samples: u64,
    /// Bytes by the samples of workers that also gave a final word.
    pub bytes_by_samples: u64,
    /// Bytes by those workers' final word.
    pub bytes_by_stopped: u64,
    /// How far the client's clock moved against its monotonic clock, microseconds.
    pub clock_moved_us: u64,
    /// The client's clock did not fit the server's, so its start was placed by the server's.
    pub start_by_server_clock: bool,
}
