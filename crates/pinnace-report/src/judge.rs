//! When a warning is due.
//!
//! Invariant: rules read the summary only, so a stored summary can be judged again by a later
//! version; each rule gives one warning at most per cause and names the clients it concerns.

use std::collections::{BTreeMap, BTreeSet};

use pinnace_proto::event::StopReason;
use pinnace_proto::job::{Engine, Job};
use pinnace_proto::run::{ClientState, RunState};
use pinnace_proto::units::show_size;

use crate::limits::{
    CLOCK_STEP_US, COVERAGE_MIN, CPU_BOUND_SHARE, FILES_KEPT, NAMES_IN_SENTENCE,
    ROLLOVERS_PROMISED, START_SKEW_US,
};
use crate::summary::{ClientSummary, PromiseOutcome, Summary, WorkerSummary};
use crate::warning::{Warning, WarningCode};
use crate::words::{clean, client_names, count, counted, lost_reason, names, percent, us};

/// All warnings that are due, gravest first.
pub(crate) fn warnings(summary: &Summary) -> Vec<Warning> {
    let rules: [fn(&Summary) -> Vec<Warning>; 9] = [
        endings, data, promise, heartbeats, clocks, storage, speed, jobs, systems,
    ];
    let mut found: Vec<Warning> = rules.iter().flat_map(|rule| rule(summary)).collect();
    found.sort_by_key(|warning| (warning.grade, warning.code));
    found
}

fn warn(code: WarningCode, clients: Vec<String>, message: String) -> Warning {
    Warning {
        code,
        grade: code.grade(),
        clients,
        message,
    }
}

/// Names of clients.
fn names_of(clients: &[&ClientSummary]) -> Vec<String> {
    clients.iter().map(|client| client.client.clone()).collect()
}

/// The clients for which `test` holds.
fn where_client(summary: &Summary, test: impl Fn(&ClientSummary) -> bool) -> Vec<&ClientSummary> {
    summary
        .clients
        .iter()
        .filter(|client| test(client))
        .collect()
}

/// A sum over some clients.
fn sum(clients: &[&ClientSummary], of: fn(&ClientSummary) -> u64) -> u64 {
    clients
        .iter()
        .map(|client| of(client))
        .fold(0, u64::saturating_add)
}

/// A warning about the clients for which `test` holds, if there are any; `message` is given their
/// names as the subject of a sentence, and them.
fn about(
    summary: &Summary,
    code: WarningCode,
    test: impl Fn(&ClientSummary) -> bool,
    message: impl Fn(&str, &[&ClientSummary]) -> String,
) -> Option<Warning> {
    let clients = where_client(summary, test);
    let names = names_of(&clients);
    let message = message(&client_names(&names), &clients);
    (!clients.is_empty()).then(|| warn(code, names, message))
}

/// Each lost client with its story, or one warning when they are many.
fn lost(summary: &Summary) -> Vec<Warning> {
    let clients = where_client(summary, |client| client.lost.is_some());
    if clients.len() > NAMES_IN_SENTENCE {
        let missing_us = sum(&clients, |c| c.planned_us.saturating_sub(c.reported_us));
        let names = names_of(&clients);
        let message = format!(
            "{} were lost; their figures up to then are kept, {} of their plans is missing.",
            client_names(&names),
            us(missing_us),
        );
        return vec![warn(WarningCode::ClientLost, names, message)];
    }
    clients
        .into_iter()
        .filter_map(|client| {
            let message = format!(
                "Client {} was lost after {} because {}; its figures up to then are kept, {} of \
                 its plan is missing.",
                clean(&client.client),
                us(client.end_us - client.start_us),
                lost_reason(client.lost.as_ref()?.reason),
                us(client.planned_us.saturating_sub(client.reported_us)),
            );
            let names = names_of(&[client]);
            Some(warn(WarningCode::ClientLost, names, message))
        })
        .collect()
}

fn endings(summary: &Summary) -> Vec<Warning> {
    let mut found = lost(summary);
    let ended = |reason| move |client: &ClientSummary| client.stop_reason == Some(reason);
    found.extend(about(
        summary,
        WarningCode::Interrupted,
        ended(StopReason::Interrupted),
        |who, _| format!("{who} ended early by a signal; figures up to then are kept."),
    ));
    found.extend(about(
        summary,
        WarningCode::DiskFull,
        ended(StopReason::DiskFull),
        |who, _| format!("{who} stopped because free space fell below the job's floor."),
    ));
    found.extend(about(
        summary,
        WarningCode::ClientFailed,
        ended(StopReason::Failed),
        |who, _| format!("{who} stopped because every worker had failed."),
    ));
    if let Some(first) = summary.clients.iter().find_map(|c| c.errors.first()) {
        let clients = where_client(summary, |client| client.error_count > 0);
        let clients = names_of(&clients);
        let message = format!(
            "{} on record at {}; the first: {} {}: {}.",
            counted(summary.totals.errors, "error"),
            lowercase_first(&client_names(&clients)),
            clean(&first.operation),
            clean(first.path.as_deref().unwrap_or("")),
            clean(first.message.trim_end_matches('.')),
        );
        found.push(warn(WarningCode::ErrorsSeen, clients, message));
    }
    found
}

/// A sentence's subject in the middle of a sentence.
fn lowercase_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

fn data(summary: &Summary) -> Vec<Warning> {
    let mut found = Vec::new();
    let over = summary.run.state != RunState::Running;
    if over && summary.totals.bytes == 0 {
        let message = "The run has no figures: no byte was reported as written.".to_owned();
        found.push(warn(WarningCode::NoData, Vec::new(), message));
    }
    if let Some(share) = summary.coverage.share
        && over
        && share < COVERAGE_MIN
    {
        let message = format!(
            "Only {} of the planned client-seconds was reported; totals and means speak for that \
             part.",
            percent(Some(share))
        );
        found.push(warn(WarningCode::CoverageLow, Vec::new(), message));
    }
    found.extend(about(
        summary,
        WarningCode::TotalsDiffer,
        |client| client.integrity.bytes_by_samples != client.integrity.bytes_by_stopped,
        |who, clients| {
            format!(
                "{who}: the samples add up to {} and the final word says {}; totals follow the \
                 final word, the time line follows the samples.",
                show_size(sum(clients, |c| c.integrity.bytes_by_samples)),
                show_size(sum(clients, |c| c.integrity.bytes_by_stopped)),
            )
        },
    ));
    found.extend(about(
        summary,
        WarningCode::SamplesMissing,
        |client| client.gaps.iter().any(|gap| gap.from_us < client.end_us),
        |who, _| format!("{who} sent no samples for part of the time; the gaps are hatched."),
    ));
    found.extend(about(
        summary,
        WarningCode::ClientRestarted,
        |client| client.integrity.instances > 1,
        |who, _| format!("{who} reported from more than one process; their figures are added up."),
    ));
    found.extend(about(
        summary,
        WarningCode::OddEvents,
        |client| {
            client.integrity.duplicate_events > 0
                || client.integrity.impossible_samples > 0
                || (client.job.is_none() && client.bytes > 0)
        },
        |who, _| {
            format!(
                "{who}: the record holds doubled events (counted once), samples without a possible \
                 interval, or no start."
            )
        },
    ));
    found
}

fn promise(summary: &Summary) -> Vec<Warning> {
    let mut found = Vec::new();
    if summary.promise.outcome == PromiseOutcome::Missed {
        let clients = where_client(summary, |client| {
            client.state != ClientState::Running
                && (client.workers.iter()).any(|worker| worker.rollovers < ROLLOVERS_PROMISED)
        });
        let clients = names_of(&clients);
        let message = format!(
            "{} did not close {ROLLOVERS_PROMISED} files at every worker (fewest: {}, predicted: \
             {}). Take smaller files or a longer run time.",
            client_names(&clients),
            count(summary.promise.happened_min.unwrap_or(0)),
            summary
                .promise
                .predicted_min
                .map_or("nothing".to_owned(), |fewest| format!("{fewest:.1}")),
        );
        found.push(warn(WarningCode::RolloversMissed, clients, message));
    }
    found.extend(about(
        summary,
        WarningCode::Forced,
        |client| client.job.as_ref().is_some_and(|job| job.force),
        |who, _| format!("{who} ran with force: a prediction of too few rollovers was overruled."),
    ));
    found
}

fn heartbeats(summary: &Summary) -> Vec<Warning> {
    about(
        summary,
        WarningCode::HeartbeatsMissed,
        |client| client.heartbeats.missed > 0 || client.heartbeats.absent > 0,
        |who, clients| {
            format!(
                "{who}: {} of {} to workers had no answer in time, {} did not come at all.",
                count(sum(clients, |c| c.heartbeats.missed)),
                counted(sum(clients, |c| c.heartbeats.asked), "heartbeat question"),
                counted(sum(clients, |c| c.heartbeats.absent), "heartbeat"),
            )
        },
    )
    .into_iter()
    .collect()
}

fn clocks(summary: &Summary) -> Vec<Warning> {
    let mut found = Vec::new();
    found.extend(about(
        summary,
        WarningCode::ClockStepped,
        |client| {
            client.integrity.clock_moved_us > CLOCK_STEP_US
                || client.integrity.start_by_server_clock
        },
        |who, clients| {
            let moved = clients.iter().map(|c| c.integrity.clock_moved_us);
            format!(
                "{who}: the wall clock was set while the run went on (by up to {}) or does not fit \
                 the server's. Durations are not affected, starts are placed as well as can be.",
                us(moved.max().unwrap_or(0))
            )
        },
    ));
    if summary.totals.start_skew_us > START_SKEW_US {
        let message = format!(
            "Clients started up to {} apart, so the first and last seconds are not the same load; \
             the common window is the part in which all were at work.",
            us(summary.totals.start_skew_us)
        );
        found.push(warn(WarningCode::StartSkew, Vec::new(), message));
    }
    found
}

/// File systems that live in memory.
const MEMORY_FILE_SYSTEMS: [&str; 3] = ["tmpfs", "ramfs", "devtmpfs"];

fn in_memory(worker: &WorkerSummary) -> bool {
    let file_system = worker
        .storage
        .as_ref()
        .and_then(|s| s.file_system.as_deref());
    file_system.is_some_and(|name| MEMORY_FILE_SYSTEMS.contains(&name))
}

/// Buffered writes whose data fit the host's memory: either all that was written or the files that
/// exist at a time.
fn cached(client: &ClientSummary) -> bool {
    let (Some(job), Some(host)) = (&client.job, &client.host) else {
        return false;
    };
    let Some(memory_bytes) = host.memory_bytes else {
        return false;
    };
    let file_bytes = job.workers.iter().map(|worker| worker.file_bytes);
    let kept_bytes = file_bytes
        .fold(0, u64::saturating_add)
        .saturating_mul(FILES_KEPT);
    let on_disk = !client.workers.iter().all(in_memory) || client.workers.is_empty();
    !job.direct
        && job.engine != Engine::Null
        && on_disk
        && (client.bytes < memory_bytes || kept_bytes < memory_bytes)
}

fn storage(summary: &Summary) -> Vec<Warning> {
    let mut found = Vec::new();
    found.extend(about(
        summary,
        WarningCode::NullEngine,
        |client| {
            client
                .job
                .as_ref()
                .is_some_and(|job| job.engine == Engine::Null)
        },
        |who, _| format!("{who} ran the null engine: the figures are the tool's own cost."),
    ));
    found.extend(about(
        summary,
        WarningCode::MemoryFileSystem,
        |client| client.workers.iter().any(in_memory),
        |who, _| format!("{who} wrote to a file system in memory: no disk was measured."),
    ));
    found.extend(about(summary, WarningCode::PageCache, cached, |who, _| {
        format!(
            "{who} wrote through the page cache, and the files fit the host's memory: write \
             latencies are mostly those of memory. Each file was synced before it was closed, so \
             sync latencies and throughput over whole files do include the disk."
        )
    }));
    found.extend(shared_devices(summary));
    found
}

/// Workers of one host that write to one device. Across hosts sharing is what is measured.
fn shared_devices(summary: &Summary) -> Option<Warning> {
    let mut users: BTreeMap<(&str, &str), (u64, BTreeSet<&str>)> = BTreeMap::new();
    for client in &summary.clients {
        let host = client
            .host
            .as_ref()
            .map_or("", |host| host.hostname.as_str());
        for worker in &client.workers {
            let Some(storage) = &worker.storage else {
                continue;
            };
            let named = storage.device.as_deref();
            let Some(device) = named.or(storage.mount_point.as_deref()) else {
                continue;
            };
            let user = users.entry((host, device)).or_default();
            user.0 += 1;
            user.1.insert(&client.client);
        }
    }
    users.retain(|_, (workers, _)| *workers > 1);
    let places: Vec<String> = users
        .iter()
        .map(|((host, device), (workers, _))| {
            let workers = counted(*workers, "worker");
            format!("{workers} on {} to {}", clean(host), clean(device))
        })
        .collect();
    let clients: BTreeSet<&str> = users
        .into_values()
        .flat_map(|(_, clients)| clients)
        .collect();
    let clients = clients.into_iter().map(str::to_owned).collect();
    let message = format!(
        "Workers of one host write to one device ({}): they compete, and their sum is what it \
         delivers.",
        names(&places)
    );
    (!places.is_empty()).then(|| warn(WarningCode::SharedDevice, clients, message))
}

fn speed(summary: &Summary) -> Vec<Warning> {
    let mut found = Vec::new();
    let bound = |worker: &WorkerSummary| {
        worker
            .cpu_share
            .is_some_and(|share| share > CPU_BOUND_SHARE)
    };
    found.extend(about(
        summary,
        WarningCode::CpuBound,
        |client| client.workers.iter().any(bound),
        |who, clients| {
            let shares = clients.iter().flat_map(|c| &c.workers);
            let most = shares.filter_map(|w| w.cpu_share).reduce(f64::max);
            format!(
                "{who} used up to {} of a CPU per worker: the client, not the storage, may be \
                 the limit.",
                percent(most)
            )
        },
    ));
    let (writes, asked) = (&summary.writes, 0.9999);
    if writes.count > 0 && !writes.trusts(asked) {
        let columns = writes.columns();
        let trusted = columns
            .iter()
            .rev()
            .find(|(name, quantile, _)| *name != "max" && writes.trusts(*quantile));
        let enough = trusted.map_or("no percentile".to_owned(), |(name, ..)| {
            format!("percentiles up to {name}")
        });
        let message = format!(
            "{} are enough for {enough}; higher ones (marked ~) are no more than the worst few \
             operations.",
            counted(writes.count, "write")
        );
        found.push(warn(WarningCode::FewOperations, Vec::new(), message));
    }
    found
}

/// A job without what may differ between comparable clients.
fn comparable(job: &Job) -> Job {
    let mut job = job.clone();
    (job.name, job.solution) = (String::new(), String::new());
    job.workers
        .iter_mut()
        .for_each(|worker| worker.path.clear());
    job
}

fn jobs(summary: &Summary) -> Vec<Warning> {
    let mut jobs = summary.clients.iter().filter_map(|c| c.job.as_ref());
    let Some(first) = jobs.next() else {
        return Vec::new();
    };
    let first = comparable(first);
    let mut fields: BTreeSet<&str> = BTreeSet::new();
    for job in jobs.map(comparable) {
        let chunks = |job: &Job| {
            job.workers
                .iter()
                .map(|w| w.chunk_bytes)
                .collect::<Vec<_>>()
        };
        let files = |job: &Job| job.workers.iter().map(|w| w.file_bytes).collect::<Vec<_>>();
        for (name, differs) in [
            ("run time", job.run_time_us != first.run_time_us),
            ("workers", job.workers.len() != first.workers.len()),
            ("chunk sizes", chunks(&job) != chunks(&first)),
            ("file sizes", files(&job) != files(&first)),
            ("engine", job.engine != first.engine),
            ("direct I/O", job.direct != first.direct),
            (
                "rate limit",
                job.rate_bytes_per_second != first.rate_bytes_per_second,
            ),
        ] {
            if differs {
                fields.insert(name);
            }
        }
    }
    if fields.is_empty() {
        return Vec::new();
    }
    let fields: Vec<&str> = fields.into_iter().collect();
    let message = format!(
        "The clients' jobs differ in {}: compare each client with itself in another run, not with \
         its neighbours.",
        names(&fields)
    );
    vec![warn(WarningCode::JobsDiffer, Vec::new(), message)]
}

/// Distinct values of something over the clients, if there is more than one.
fn differing<'a>(
    summary: &'a Summary,
    of: impl Fn(&'a ClientSummary) -> Vec<&'a str>,
) -> Option<Vec<&'a str>> {
    let values: BTreeSet<&str> = summary.clients.iter().flat_map(of).collect();
    (values.len() > 1).then(|| values.into_iter().collect())
}

fn systems(summary: &Summary) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut differ = |code, noun: &str, values: Option<Vec<&str>>| {
        if let Some(values) = values {
            let message = format!("Clients have different {noun}: {}.", names(&values));
            found.push(warn(code, Vec::new(), message));
        }
    };
    differ(
        WarningCode::SystemsDiffer,
        "kernels",
        differing(summary, |c| {
            c.host.iter().map(|host| host.kernel.as_str()).collect()
        }),
    );
    differ(
        WarningCode::SystemsDiffer,
        "versions of Pinnace",
        differing(summary, |c| {
            c.host.iter().map(|host| host.pinnace.as_str()).collect()
        }),
    );
    differ(
        WarningCode::FileSystemsDiffer,
        "file systems",
        differing(summary, |c| {
            let storage = c.workers.iter().filter_map(|w| w.storage.as_ref());
            storage.filter_map(|s| s.file_system.as_deref()).collect()
        }),
    );
    found
}
