//! Warnings about the conditions of a run: clocks, storage, speed of the clients, differences.
//!
//! Invariant: as in the parent; these runs are whole, but their figures may not mean what they seem
//! to.

use std::collections::{BTreeMap, BTreeSet};

use pinnace_proto::job::{Engine, Job};

use super::{about, warn};
use crate::limits::{CLOCK_STEP_US, CPU_BOUND_SHARE, FILES_KEPT, START_SKEW_US};
use crate::summary::{ClientSummary, Summary, WorkerSummary};
use crate::warning::{Warning, WarningCode};
use crate::words::{clean, counted, names, percent, us};

pub(super) fn clocks(summary: &Summary) -> Vec<Warning> {
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

pub(super) fn storage(summary: &Summary) -> Vec<Warning> {
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

pub(super) fn speed(summary: &Summary) -> Vec<Warning> {
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

pub(super) fn jobs(summary: &Summary) -> Vec<Warning> {
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

pub(super) fn systems(summary: &Summary) -> Vec<Warning> {
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
