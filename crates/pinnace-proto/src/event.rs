//! What a bench client tells while it runs, and what the server tells about clients.
//!
//! Topics: `pinnace.bench.<run>.<client>.<event>`, `pinnace.bench.<run>.finished`,
//! `pinnace.client.joined` and `.left`. `docs/formats/events.md` is the page for readers.
//!
//! Invariant: a client numbers its events `n` = 1, 2, 3 … without a gap; together with run, client
//! and instance that is the event's identity, so a receiver that sees one twice can drop it.
//! `at_us` is the client's wall clock and may step; `elapsed_us` is monotonic from the moment the
//! workers started and is what durations and time lines are built on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Histogram;
use crate::host::{HostFacts, PathFacts};
use crate::job::Job;

/// Instance of the events that the server makes about a client (`lost`), numbered apart.
pub const SERVER_INSTANCE: &str = "server";

/// One event of one bench client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Document version, 1.
    pub v: u32,
    /// The run it belongs to.
    pub run: String,
    /// The client it came from.
    pub client: String,
    /// Which process of that name: random, 16 hex digits; [`SERVER_INSTANCE`] when the server
    /// tells it about the client.
    pub instance: String,
    /// Number of the event within the instance, from 1.
    pub n: u64,
    /// Wall clock, microseconds since 1970-01-01T00:00:00Z.
    pub at_us: u64,
    /// Microseconds since the workers started; 0 before that.
    pub elapsed_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened; the tag is the last token of the topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(
    clippy::large_enum_variant,
    reason = "an event lives briefly; a box would only cost words"
)]
pub enum Body {
    /// The workers are about to start.
    Started(Started),
    /// Each worker was asked whether it lives.
    Heartbeat(Heartbeat),
    /// CPU, memory and state of every worker.
    Resources(Resources),
    /// Operations, bytes and latencies of every worker over one interval.
    Sample(Sample),
    /// A file reached its size and was closed.
    Rollover(Rollover),
    /// Something failed.
    Error(Error),
    /// The run ended at this client.
    Stopped(Stopped),
    /// The server gave the client up.
    Lost(Lost),
}

impl Body {
    /// The last token of the event's topic.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::Heartbeat(_) => "heartbeat",
            Self::Resources(_) => "resources",
            Self::Sample(_) => "sample",
            Self::Rollover(_) => "rollover",
            Self::Error(_) => "error",
            Self::Stopped(_) => "stopped",
            Self::Lost(_) => "lost",
        }
    }
}

impl Event {
    /// The topic it is published on.
    pub fn topic(&self) -> String {
        format!(
            "pinnace.bench.{}.{}.{}",
            self.run,
            self.client,
            self.body.kind()
        )
    }
}

/// Start of a client: the job, the machine, the prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// What will be done.
    pub job: Job,
    /// The machine.
    pub host: HostFacts,
    /// The storage behind each worker's path, in the order of `job.workers`.
    pub paths: Vec<PathFacts>,
    /// What the calibration write promises, per worker.
    pub calibration: Vec<Calibration>,
}

/// The calibration write of one worker and what it predicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// Worker, from 0.
    pub worker: u32,
    /// Bytes written to find the speed.
    pub bytes: u64,
    /// How long that took with its sync, microseconds.
    pub elapsed_us: u64,
    /// Bytes per second to be expected while all workers of this machine write.
    pub bytes_per_second: f64,
    /// Rollovers expected in the run time.
    pub rollovers: f64,
}

/// Which workers answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// One entry per worker.
    pub workers: Vec<WorkerHeartbeat>,
    /// One entry per file system in use.
    pub disks: Vec<DiskFree>,
    /// Time until the next heartbeat is due, microseconds.
    pub next_us: u64,
}

/// One worker's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerHeartbeat {
    /// Worker, from 0.
    pub worker: u32,
    /// It answered within the time allowed.
    pub answered: bool,
    /// How long the answer took, or how long it has been silent, microseconds.
    pub after_us: u64,
    /// What it was doing when last seen.
    pub activity: Activity,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Opening or preparing a file.
    Preparing,
    /// In a write.
    Writing,
    /// In a sync.
    Syncing,
    /// Waiting for its rate limit.
    Pacing,
    /// Done.
    Ended,
}

/// Space left on one file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiskFree {
    /// Path of the first worker on it.
    pub path: String,
    /// Free for this user, bytes.
    pub free_bytes: u64,
    /// Size, bytes.
    pub total_bytes: u64,
}

/// CPU, memory and state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// Length of the interval the CPU shares are over, microseconds.
    pub interval_us: u64,
    /// Resident memory of the process, bytes.
    pub rss_bytes: u64,
    /// Part of it that is the workers' buffers, bytes.
    pub buffer_bytes: u64,
    /// CPU time of the whole process so far, microseconds.
    pub process_cpu_us: u64,
    /// One entry per worker.
    pub workers: Vec<WorkerResources>,
}

/// One worker's thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerResources {
    /// Worker, from 0.
    pub worker: u32,
    /// Thread id.
    pub thread: u32,
    /// State letter of the kernel: R running, S sleeping, D waiting for the disk, Z ended.
    pub state: String,
    /// User CPU time so far, microseconds.
    pub user_us: u64,
    /// System CPU time so far, microseconds.
    pub system_us: u64,
    /// Share of one CPU used over the interval, 0 to 1.
    pub cpu_share: f64,
    /// Bytes of its buffers.
    pub buffer_bytes: u64,
    /// Times it gave up the CPU by itself, so far.
    pub voluntary_switches: u64,
    /// Times the CPU was taken from it, so far.
    pub involuntary_switches: u64,
}

/// Figures of one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Start of the interval, microseconds since the workers started.
    pub from_us: u64,
    /// End of the interval.
    pub to_us: u64,
    /// One entry per worker.
    pub workers: Vec<WorkerSample>,
}

/// One worker's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerSample {
    /// Worker, from 0.
    pub worker: u32,
    /// Bytes written.
    pub bytes: u64,
    /// Latencies of the writes; its count is the number of writes.
    pub writes: Histogram,
    /// Latencies of the syncs; its count is the number of syncs.
    pub syncs: Histogram,
}

/// A file was closed and the next one begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rollover {
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
    /// The file begun.
    pub next_file: String,
}

/// Something failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Error {
    /// Worker, from 0; `None` when it is the client's.
    pub worker: Option<u32>,
    /// What was tried: `write`, `sync`, `open`, `remove`, `statvfs` …
    pub operation: String,
    /// On what.
    pub path: Option<String>,
    /// What the system said.
    pub message: String,
}

/// The client's last word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stopped {
    /// Why.
    pub reason: StopReason,
    /// From the start of the workers to the end of the last, microseconds.
    pub ran_us: u64,
    /// One entry per worker.
    pub workers: Vec<WorkerTotals>,
    /// Did every worker roll over at least twice?
    pub promise_held: bool,
    /// Data files removed at the end.
    pub files_removed: u64,
    /// Data files left in place (asked for, or could not be removed).
    pub files_left: u64,
    /// CPU time of the whole process since it began, microseconds: its start and its calibration
    /// included, which in a short run are a good part of it.
    pub process_cpu_us: u64,
    /// Largest resident memory of the process, bytes.
    pub peak_rss_bytes: u64,
}

/// Why a client stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The run time was over.
    Completed,
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// Less free space than `min_free`, or the disk was full.
    DiskFull,
    /// Every worker failed.
    Failed,
}

/// One worker's totals over the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerTotals {
    /// Worker, from 0.
    pub worker: u32,
    /// It gave its final word.
    pub answered: bool,
    /// Bytes written.
    pub bytes: u64,
    /// Files closed at their full size.
    pub rollovers: u64,
    /// Time spent writing and syncing, microseconds.
    pub busy_us: u64,
    /// CPU time of its thread, microseconds.
    pub cpu_us: u64,
    /// Latencies of the writes.
    pub writes: Histogram,
    /// Latencies of the syncs.
    pub syncs: Histogram,
}

/// The server gave a client up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Why.
    pub reason: LostReason,
    /// When the server last heard from it, microseconds since 1970.
    pub last_heard_us: u64,
}

/// Why a client counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LostReason {
    /// Three heartbeats did not come.
    Heartbeats,
    /// Its connection closed without a stop event.
    Connection,
}

/// A run has ended: every client stopped or was lost. Topic `pinnace.bench.<run>.finished`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finished {
    /// Document version, 1.
    pub v: u32,
    /// The run.
    pub run: String,
    /// Wall clock of the server, microseconds since 1970.
    pub at_us: u64,
    /// Clients that gave their final word.
    pub clients_stopped: u32,
    /// Clients that were lost.
    pub clients_lost: u32,
    /// Share of the planned client-seconds that was reported, 0 to 1.
    pub coverage: f64,
}

/// A program connected (`pinnace.client.joined`) or went away (`pinnace.client.left`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Presence {
    /// Document version, 1.
    pub v: u32,
    /// Connection number, unique in the life of the server process.
    pub connection: u64,
    /// Name it gave, or its address.
    pub name: String,
    /// `nats`, `http`, or `bench` once it joined a run.
    pub kind: String,
    /// Peer address and port.
    pub address: String,
    /// When it connected, microseconds since 1970.
    pub since_us: u64,
    /// How long it was connected; `None` for joined.
    pub duration_us: Option<u64>,
    /// Why it left; `None` for joined.
    pub reason: Option<String>,
    /// The run and client it had joined as, if any.
    pub bench: Option<BenchIdentity>,
}

/// Who a connection is in a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct BenchIdentity {
    /// The run.
    pub run: String,
    /// The client's name in it.
    pub client: String,
    /// Which process of that name.
    pub instance: String,
}
