//! From a job to a plan: every field and path checked, what the paths are known, nothing written.
//!
//! Invariant: a [`Plan`] only exists for a job that passed every check, and carries all that a run
//! needs; making one writes nothing, so it serves a dry run too.
//!
//! Left to others: defaults (the binary), the speed (`calibrate`), the promise (`promise`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pinnace_proto::event::{Calibration, Started};
use pinnace_proto::host::{HostFacts, PathFacts};
use pinnace_proto::job::{Job, MinFree};
use pinnace_proto::units::show_size;
use rustix::fs::Access;

use crate::error::PlanError;
use crate::facts;
use crate::limits::{
    FILES_AT_ONCE, MAX_CHUNK_BYTES, MAX_WORKERS, MIN_INTERVAL_US, SECTOR_BYTES, STUCK_GRACE_US,
};
use crate::payload::pool_bytes;

/// A job that passed every check.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The job.
    pub job: Job,
    /// How the names of the data files begin: `pinnace-<client>`.
    pub prefix: String,
    /// The storage behind each worker's path, in the order of `job.workers`.
    pub paths: Vec<PathFacts>,
    /// The file systems in use.
    pub(crate) file_systems: Vec<FileSystem>,
    /// How long a stuck worker's final word is waited for, microseconds; [`STUCK_GRACE_US`] unless
    /// changed.
    pub stuck_grace_us: u64,
}

/// One file system the job writes to.
#[derive(Clone, Debug)]
pub(crate) struct FileSystem {
    /// Path of the first worker on it.
    pub(crate) path: String,
    pub(crate) floor_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
}

impl Plan {
    /// The body of the client's first event.
    pub fn started(&self, host: HostFacts, calibration: Vec<Calibration>) -> Started {
        Started {
            job: self.job.clone(),
            host,
            paths: self.paths.clone(),
            calibration,
        }
    }

    /// Name and place of file `number` (from 1) of `worker` (from 0).
    pub fn data_file(&self, worker: u32, number: u64) -> PathBuf {
        self.file(worker, &number.to_string())
    }

    /// Changes the floor of free space, in bytes, that the run stops at on every file system.
    pub fn set_floor(&mut self, floor_bytes: u64) {
        self.file_systems
            .iter_mut()
            .for_each(|fs| fs.floor_bytes = floor_bytes);
    }

    pub(crate) fn file(&self, worker: u32, tag: &str) -> PathBuf {
        let folder = self
            .job
            .workers
            .get(worker as usize)
            .map_or("", |w| w.path.as_str());
        Path::new(folder).join(format!("{}-{worker}-{tag}.dat", self.prefix))
    }

    /// Bytes of all workers' buffers.
    pub fn buffer_bytes(&self) -> u64 {
        self.job
            .workers
            .iter()
            .map(|w| buffer_bytes(w.chunk_bytes))
            .fold(0, u64::saturating_add)
    }
}

/// Checks `job` and the paths it names, for a client called `client`.
///
/// # Errors
/// The first thing that is wrong: fields first, then paths, then room.
pub fn plan(job: &Job, client: &str) -> Result<Plan, PlanError> {
    check_client(client)?;
    check_fields(job)?;
    for (index, worker) in job.workers.iter().enumerate() {
        check_sizes(index, worker.chunk_bytes, worker.file_bytes, job.direct)?;
    }
    let mut paths = Vec::with_capacity(job.workers.len());
    let mut needs: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
    for (index, worker) in job.workers.iter().enumerate() {
        let device = check_path(index as u32, &worker.path)?;
        let facts = facts::path_facts(Path::new(&worker.path))
            .map_err(|source| unreadable(index as u32, &worker.path, source))?;
        paths.push(facts);
        let need = needs.entry(device).or_insert((index, 0));
        need.1 = need
            .1
            .saturating_add(worker.file_bytes.saturating_mul(FILES_AT_ONCE));
    }
    let mut file_systems = Vec::new();
    for (first_worker, needed_bytes) in needs.into_values() {
        file_systems.push(check_room(
            &paths[first_worker],
            needed_bytes,
            job.min_free,
        )?);
    }
    let plan = Plan {
        job: job.clone(),
        prefix: format!("pinnace-{client}"),
        paths,
        file_systems,
        stuck_grace_us: STUCK_GRACE_US,
    };
    check_memory(plan.buffer_bytes())?;
    Ok(plan)
}

fn field(field: impl Into<String>, wrong: impl Into<String>, advice: &'static str) -> PlanError {
    PlanError::Field {
        field: field.into(),
        wrong: wrong.into(),
        advice,
    }
}

fn unreadable(worker: u32, path: &str, source: std::io::Error) -> PlanError {
    PlanError::Unreadable {
        worker,
        path: path.to_owned(),
        source,
    }
}

fn check_client(client: &str) -> Result<(), PlanError> {
    if client.is_empty() || client.contains(['/', '\0']) {
        let wrong = format!("`{client}` cannot be part of a file name");
        return Err(field("client", wrong, "use letters, digits and `-`"));
    }
    Ok(())
}

fn check_fields(job: &Job) -> Result<(), PlanError> {
    if job.workers.is_empty() {
        return Err(field(
            "workers",
            "there are none",
            "name at least one path to write in",
        ));
    }
    if job.workers.len() > MAX_WORKERS {
        let wrong = format!("{} are more than {MAX_WORKERS}", job.workers.len());
        return Err(field("workers", wrong, "spread them over several clients"));
    }
    for (name, value) in [
        ("run_time", job.run_time_us),
        ("heartbeat", job.heartbeat_us),
        ("monitor", job.monitor_us),
        ("sample", job.sample_us),
    ] {
        if value < MIN_INTERVAL_US {
            let wrong = format!("{value} µs is too short");
            return Err(field(
                name,
                wrong,
                "give at least a millisecond, better seconds",
            ));
        }
    }
    if job.rate_bytes_per_second == Some(0) {
        return Err(field(
            "rate",
            "nothing would ever be written",
            "leave it out for full speed",
        ));
    }
    match job.min_free {
        MinFree::Percent(percent) if !(0.0..100.0).contains(&percent) => {
            let wrong = format!("{percent} % is no share of a disk");
            Err(field("min_free", wrong, "give 0 to 99 percent, or bytes"))
        }
        _ => Ok(()),
    }
}

fn check_sizes(index: usize, chunk: u64, file: u64, direct: bool) -> Result<(), PlanError> {
    let name = |what: &str| format!("workers[{index}].{what}");
    if chunk == 0 {
        return Err(field(
            name("chunk_size"),
            "it is zero",
            "give a size such as 1M",
        ));
    }
    if file == 0 {
        return Err(field(
            name("file_size"),
            "it is zero",
            "give a size such as 64M",
        ));
    }
    if chunk > MAX_CHUNK_BYTES {
        let wrong = format!(
            "{} is more than {}",
            show_size(chunk),
            show_size(MAX_CHUNK_BYTES)
        );
        return Err(field(name("chunk_size"), wrong, "choose a smaller chunk"));
    }
    if chunk > file {
        let wrong = format!(
            "a chunk of {} is larger than a file of {}",
            show_size(chunk),
            show_size(file)
        );
        return Err(field(
            name("chunk_size"),
            wrong,
            "choose a smaller chunk or a larger file",
        ));
    }
    for (what, bytes) in [("chunk_size", chunk), ("file_size", file)] {
        if direct && !bytes.is_multiple_of(SECTOR_BYTES as u64) {
            let wrong = format!("{bytes} bytes cannot be written with direct I/O");
            return Err(field(
                name(what),
                wrong,
                "use a multiple of 4k, or run without direct I/O",
            ));
        }
    }
    Ok(())
}

/// Checks that files can be made in `path`; returns the number of its file system.
fn check_path(worker: u32, path: &str) -> Result<u64, PlanError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(PlanError::NoPath {
                worker,
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(PlanError::NotADirectory {
                worker,
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(unreadable(worker, path, error)),
    };
    if !metadata.is_dir() {
        return Err(PlanError::NotADirectory {
            worker,
            path: path.to_owned(),
        });
    }
    rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
        PlanError::NotWritable {
            worker,
            path: path.to_owned(),
            source: errno.into(),
        }
    })?;
    Ok(metadata.dev())
}

fn check_room(
    facts: &PathFacts,
    needed_bytes: u64,
    min_free: MinFree,
) -> Result<FileSystem, PlanError> {
    let floor_bytes = min_free.bytes_of(facts.total_bytes);
    let room_bytes = facts.free_bytes.saturating_sub(floor_bytes);
    if room_bytes < needed_bytes {
        let path = facts.path.clone();
        return Err(PlanError::NoRoom {
            path,
            needed_bytes,
            room_bytes,
            floor_bytes,
        });
    }
    Ok(FileSystem {
        path: facts.path.clone(),
        floor_bytes,
        free_bytes: facts.free_bytes,
        total_bytes: facts.total_bytes,
    })
}

fn check_memory(needed_bytes: u64) -> Result<(), PlanError> {
    match facts::memory_available_bytes() {
        Some(available_bytes) if needed_bytes > available_bytes => Err(PlanError::NoMemory {
            needed_bytes,
            available_bytes,
        }),
        _ => Ok(()),
    }
}

/// Bytes of the buffer of a worker with this chunk size.
pub(crate) fn buffer_bytes(chunk_bytes: u64) -> u64 {
    usize::try_from(chunk_bytes)
        .ok()
        .and_then(pool_bytes)
        .map_or(u64::MAX, |bytes| bytes as u64)
}

#[cfg(test)]
mod tests {
    use pinnace_proto::job::{Engine, WorkerJob};

    use super::*;

    fn job(path: &str) -> Job {
        Job {
            v: 1,
            name: "t".to_owned(),
            solution: String::new(),
            run_time_us: 1_000_000,
            heartbeat_us: 5_000_000,
            monitor_us: 10_000_000,
            sample_us: 1_000_000,
            min_free: MinFree::Bytes(0),
            engine: Engine::Psync,
            direct: false,
            keep_files: false,
            force: false,
            rate_bytes_per_second: None,
            workers: vec![WorkerJob {
                path: path.to_owned(),
                chunk_bytes: 4096,
                file_bytes: 1 << 20,
            }],
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Job), kind: ErrorKind, words: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let mut job = job(dir.path().to_str().unwrap());
        assert!(plan(&job, "c").is_ok());
        change(&mut job);
        let error = plan(&job, "c").unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
    }

    use crate::error::ErrorKind;

    #[test]
    fn says_which_field_is_wrong() {
        let usage = ErrorKind::Usage;
        check(|j| j.workers.clear(), usage, &["workers", "at least one"]);
        check(
            |j| j.workers = vec![j.workers[0].clone(); 1025],
            usage,
            &["1025", "1024"],
        );
        check(|j| j.run_time_us = 0, usage, &["run_time", "too short"]);
        check(|j| j.heartbeat_us = 0, usage, &["heartbeat"]);
        check(|j| j.monitor_us = 999, usage, &["monitor"]);
        check(|j| j.sample_us = 0, usage, &["sample"]);
        check(|j| j.rate_bytes_per_second = Some(0), usage, &["rate"]);
        check(
            |j| j.min_free = MinFree::Percent(100.0),
            usage,
            &["min_free", "100 %"],
        );
        check(
            |j| j.min_free = MinFree::Percent(f64::NAN),
            usage,
            &["min_free"],
        );
        check(
            |j| j.workers[0].chunk_bytes = 0,
            usage,
            &["workers[0].chunk_size", "zero"],
        );
        check(
            |j| j.workers[0].file_bytes = 0,
            usage,
            &["workers[0].file_size", "zero"],
        );
        check(
            |j| j.workers[0].chunk_bytes = 2 << 20,
            usage,
            &["2 MiB", "1 MiB", "larger"],
        );
        check(
            |j| (j.workers[0].chunk_bytes, j.workers[0].file_bytes) = (1 << 31, 1 << 32),
            usage,
            &["2 GiB is more than 1 GiB"],
        );
        check(
            |j| (j.direct, j.workers[0].chunk_bytes) = (true, 5000),
            usage,
            &["chunk_size", "multiple of 4k"],
        );
        check(
            |j| (j.direct, j.workers[0].file_bytes) = (true, 10_000),
            usage,
            &["file_size", "direct I/O"],
        );
    }

    #[test]
    fn says_what_is_wrong_with_a_path() {
        let append = |name: &'static str| move |j: &mut Job| j.workers[0].path += name;
        check(
            append("/none"),
            ErrorKind::Usage,
            &["/none", "does not exist"],
        );
        check(
            append("/file"),
            ErrorKind::Usage,
            &["/file", "not a directory"],
        );
        check(
            append("/file/below"),
            ErrorKind::Usage,
            &["not a directory"],
        );
        check(
            |j| j.workers[0].path = "/proc/self".to_owned(),
            ErrorKind::Failed,
            &["/proc/self"],
        );
    }

    #[test]
    fn says_how_much_room_is_needed_and_there() {
        check(
            |j| j.workers[0].file_bytes = 1 << 60,
            ErrorKind::Unsafe,
            &["3145728 TiB", "free above the floor"],
        );
        check(
            |j| j.min_free = MinFree::Bytes(u64::MAX),
            ErrorKind::Unsafe,
            &["0 B are free"],
        );
        check(
            |j| {
                // One worker fits where two do not.
                let free = facts::path_facts(Path::new(&j.workers[0].path))
                    .unwrap()
                    .free_bytes;
                j.workers[0].file_bytes = free / 5;
                assert!(plan(j, "c").is_ok());
                j.workers.push(j.workers[0].clone());
            },
            ErrorKind::Unsafe,
            &["the workers on this file system"],
        );
    }

    #[test]
    fn a_last_chunk_may_be_shorter_and_workers_may_share_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let mut job = job(dir.path().to_str().unwrap());
        job.workers[0].file_bytes = 10_000;
        job.workers.push(job.workers[0].clone());
        let plan = plan(&job, "host-1").unwrap();
        assert_eq!(plan.file_systems.len(), 1);
        assert_eq!(
            plan.data_file(1, 7),
            dir.path().join("pinnace-host-1-1-7.dat")
        );
        // Free space may differ between the two looks.
        assert_eq!(plan.paths[0].mount_point, plan.paths[1].mount_point);
        assert!(super::plan(&job, "a/b").is_err());
        assert!(super::plan(&job, "").is_err());
    }
}
