//! From flags, environment and files to the orders of a run's clients.
//!
//! Chunk sizes of a list go one to each client when there are as many as clients, else one to each
//! worker; a single size is the first client's, and each further client doubles it.

use std::path::PathBuf;

use jiff::Timestamp;
use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::job::{Job, WorkerJob};
use pinnace_proto::name;
use pinnace_proto::units::parse_size;

use super::Order;
use crate::failure::{Failure, Result};
use crate::settings::Layers;

/// Time between samples.
const SAMPLE_US: u64 = 1_000_000;
/// Doubling the chunk for each client ends here.
const CLIENTS_MAX: usize = 64;

/// What was asked for beside the settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) workers: Option<usize>,
    pub(crate) clients: usize,
    pub(crate) run: Option<String>,
    pub(crate) offline: bool,
}

/// One order per client.
pub(crate) fn resolve(request: &Request, layers: &Layers) -> Result<Vec<Order>> {
    if request.clients == 0 || request.clients > CLIENTS_MAX {
        let message = format!(
            "--clients: {} is not from 1 to {CLIENTS_MAX}",
            request.clients
        );
        return Err(Failure::usage(message));
    }
    let run = match &request.run {
        Some(run) => checked_name("--run", run)?,
        None => new_run_id(),
    };
    let job = job_without_workers(layers)?;
    let names = client_names(request, layers)?;
    let server = if request.offline {
        None
    } else {
        Some(layers.server()?)
    };
    let mut orders = Vec::new();
    for (index, client) in names.into_iter().enumerate() {
        let workers = workers_of(request, layers, index)?;
        orders.push(Order {
            job: Job {
                workers,
                ..job.clone()
            },
            run: run.clone(),
            client,
            instance: format!("{:016x}", random()),
            server: server.clone(),
            events: events_folder(),
        });
    }
    Ok(orders)
}

fn job_without_workers(layers: &Layers) -> Result<Job> {
    Ok(Job {
        v: DOCUMENT_VERSION,
        name: layers
            .text("job.name")
            .unwrap_or_else(|| "bench".to_owned()),
        solution: layers.text("job.solution").unwrap_or_default(),
        run_time_us: layers.duration_us("job.run_time")?,
        heartbeat_us: layers.duration_us("client.heartbeat")?,
        monitor_us: layers.duration_us("client.monitor")?,
        sample_us: SAMPLE_US,
        min_free: layers.min_free("job.min_free")?,
        engine: layers.engine("job.engine")?,
        direct: layers.yes("job.direct")?,
        keep_files: layers.yes("job.keep_files")?,
        force: layers.yes("job.force")?,
        rate_bytes_per_second: layers.size("job.rate")?,
        workers: Vec::new(),
    })
}

fn workers_of(request: &Request, layers: &Layers, client: usize) -> Result<Vec<WorkerJob>> {
    let chunks = layers.sizes("job.chunk_size")?;
    let files = layers.sizes("job.file_size")?;
    let from_file = request.paths.is_empty() && !layers.workers().is_empty();
    let mut paths: Vec<String> = if from_file {
        let path = |worker: &crate::settings::WorkerEntry| {
            worker.path.as_ref().map(|p| p.text().to_owned())
        };
        let paths: Option<Vec<_>> = layers.workers().iter().map(path).collect();
        paths.ok_or_else(|| Failure::usage("a worker of the job has no `path`"))?
    } else {
        request
            .paths
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect()
    };
    if paths.is_empty() {
        return Err(Failure::usage("the job writes nowhere")
            .hint("name a directory with --path (once per worker), or workers in a job file"));
    }
    let count = request.workers.unwrap_or(paths.len());
    if count < paths.len() {
        let message = format!(
            "--workers: {count} workers cannot write in {} paths",
            paths.len()
        );
        return Err(Failure::usage(message));
    }
    paths = paths.iter().cycle().take(count).cloned().collect();
    let mut workers = Vec::new();
    for (index, path) in paths.into_iter().enumerate() {
        let entry = layers.workers().get(index).filter(|_| from_file);
        let own = |scalar: Option<&crate::settings::Scalar>, key: &str| match scalar {
            Some(scalar) => parse_size(scalar.text())
                .map(Some)
                .map_err(|error| Failure::usage(format!("worker {index}, {key}: {error}"))),
            None => Ok(None),
        };
        let chunk = own(entry.and_then(|e| e.chunk_size.as_ref()), "chunk_size")?;
        let file = own(entry.and_then(|e| e.file_size.as_ref()), "file_size")?;
        workers.push(WorkerJob {
            path,
            chunk_bytes: match chunk {
                Some(bytes) => bytes,
                None => chunk_of(&chunks, request, client, index, count)?,
            },
            file_bytes: match file {
                Some(bytes) => bytes,
                None => share("--file-size", &files, request, client, index, count)?,
            },
        });
    }
    Ok(workers)
}

fn chunk_of(
    chunks: &[u64],
    request: &Request,
    client: usize,
    worker: usize,
    workers: usize,
) -> Result<u64> {
    match chunks {
        [first] => first
            .checked_shl(client as u32)
            .filter(|bytes| bytes >> client == *first)
            .ok_or_else(|| {
                Failure::usage("--chunk-size: doubling it for each client leads beyond 64 bits")
            }),
        _ => share("--chunk-size", chunks, request, client, worker, workers),
    }
}

/// The size of a list that is meant for this worker of this client.
fn share(
    flag: &str,
    sizes: &[u64],
    request: &Request,
    client: usize,
    worker: usize,
    workers: usize,
) -> Result<u64> {
    let size = match sizes {
        [only] => Some(*only),
        _ if sizes.len() == request.clients && request.clients > 1 => sizes.get(client).copied(),
        _ if sizes.len() == workers => sizes.get(worker).copied(),
        _ => None,
    };
    size.ok_or_else(|| {
        Failure::usage(format!(
            "{flag}: {} sizes fit neither {} clients nor {workers} workers",
            sizes.len(),
            request.clients
        ))
        .hint("give one size, one per client or one per worker")
    })
}

fn client_names(request: &Request, layers: &Layers) -> Result<Vec<String>> {
    let base = match layers.text("client.id") {
        Some(id) => checked_name("--id", &id)?,
        None => {
            let host = rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned();
            let host: String = name::from_text(&host).chars().take(40).collect();
            format!("{host}-{:04x}", random() & 0xffff)
        }
    };
    if request.clients == 1 {
        return Ok(vec![base]);
    }
    (1..=request.clients)
        .map(|n| checked_name("--id", &format!("{base}-{n}")))
        .collect()
}

fn checked_name(flag: &str, text: &str) -> Result<String> {
    match name::check(text) {
        Ok(name) => Ok(name.to_owned()),
        Err(error) => Err(Failure::usage(format!("{flag} `{text}`: {error}"))),
    }
}

/// Sorts by time, and two started in one second still differ.
fn new_run_id() -> String {
    let now = Timestamp::now().strftime("%Y%m%d-%H%M%S");
    format!("{now}-{:04x}", random() & 0xffff)
}

/// A random number from the keys the standard library hashes with.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// Where event logs are kept: the user's state folder.
fn events_folder() -> PathBuf {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or(home);
    state
        .unwrap_or_else(std::env::temp_dir)
        .join("pinnace/events")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(list: &str, clients: usize, workers: usize) -> Result<Vec<Vec<u64>>> {
        let mut layers = Layers::load(Some(std::path::Path::new("/dev/null")))?;
        layers.flag("job.chunk_size", Some(list));
        let paths = (0..workers)
            .map(|n| PathBuf::from(format!("/p{n}")))
            .collect();
        let request = Request {
            paths,
            clients,
            offline: true,
            ..Request::default()
        };
        let orders = resolve(&request, &layers)?;
        let of = |order: &Order| order.job.workers.iter().map(|w| w.chunk_bytes).collect();
        Ok(orders.iter().map(of).collect())
    }

    #[test]
    fn a_single_size_doubles_from_client_to_client() {
        assert_eq!(chunks("10", 3, 1).unwrap(), [[10], [20], [40]]);
        assert_eq!(chunks("10", 1, 2).unwrap(), [[10, 10]]);
    }

    #[test]
    fn a_list_goes_to_clients_or_to_workers() {
        assert_eq!(chunks("1,2,3", 3, 2).unwrap(), [[1, 1], [2, 2], [3, 3]]);
        assert_eq!(chunks("1,2", 3, 2).unwrap(), [[1, 2], [1, 2], [1, 2]]);
        assert_eq!(chunks("1,2", 1, 2).unwrap(), [[1, 2]]);
        assert!(
            chunks("1,2,3", 2, 2)
                .unwrap_err()
                .message()
                .contains("3 sizes")
        );
        assert!(chunks("1,x", 2, 2).is_err());
    }

    #[test]
    fn nowhere_and_nobody_are_refused() {
        let layers = Layers::load(Some(std::path::Path::new("/dev/null"))).unwrap();
        for clients in [0, CLIENTS_MAX + 1] {
            let request = Request {
                clients,
                ..Request::default()
            };
            assert!(
                resolve(&request, &layers)
                    .unwrap_err()
                    .message()
                    .contains("--clients")
            );
        }
        let request = Request {
            clients: 1,
            ..Request::default()
        };
        assert!(
            resolve(&request, &layers)
                .unwrap_err()
                .message()
                .contains("nowhere")
        );
    }
}
