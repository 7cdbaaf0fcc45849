//! Will every worker roll over at least twice? Arithmetic on measured speeds, before the run.
//!
//! Invariant: advice is on the safe side: a file or run time that is advised, judged at the same
//! speed, passes.

use pinnace_proto::event::Calibration;
use pinnace_proto::job::{Job, WorkerJob};
use pinnace_proto::units::{show_duration, show_size};
use std::time::Duration;

use crate::limits::{ADVICE_MARGIN, ROLLOVERS_PROMISED};

/// The job cannot roll over twice at every worker.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explain())]
pub struct Infeasible {
    /// The largest file size, in bytes, with which every worker would do; `None` when its chunk or
    /// the run time rules out any.
    pub largest_file_bytes: Option<u64>,
    /// The shortest run time, in whole seconds, in which every worker would do.
    pub shortest_run_time_us: u64,
    /// One entry per worker that would not do.
    pub workers: Vec<Advice>,
}

/// What one worker would need.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// Worker, from 0.
    pub worker: u32,
    /// Its path.
    pub path: String,
    /// Its speed, bytes per second.
    pub bytes_per_second: f64,
    /// Rollovers to be expected.
    pub rollovers: f64,
    /// The largest file, a multiple of the chunk, that would roll over twice; `None` when not even
    /// a file of one chunk would.
    pub largest_file_bytes: Option<u64>,
    /// The shortest run time that would do, whole seconds, in microseconds.
    pub shortest_run_time_us: u64,
}

/// Rollovers to be expected of a worker.
pub fn rollovers(bytes_per_second: f64, run_time_us: u64, file_bytes: u64) -> f64 {
    bytes_per_second * (run_time_us as f64 / 1e6) / file_bytes.max(1) as f64
}

/// Checks the promise of two rollovers against the measured speeds. A forced job always passes.
///
/// # Errors
/// [`Infeasible`], with what would do, when a worker is expected to roll over less than twice.
pub fn judge(job: &Job, calibration: &[Calibration]) -> Result<(), Infeasible> {
    let workers: Vec<Advice> = calibration
        .iter()
        .filter(|c| c.rollovers < ROLLOVERS_PROMISED)
        .filter_map(|c| {
            Some(advise(
                job.workers.get(c.worker as usize)?,
                c,
                job.run_time_us,
            ))
        })
        .collect();
    if workers.is_empty() || job.force {
        return Ok(());
    }
    Err(Infeasible {
        largest_file_bytes: workers
            .iter()
            .map(|advice| advice.largest_file_bytes)
            .min()
            .flatten(),
        shortest_run_time_us: workers
            .iter()
            .map(|a| a.shortest_run_time_us)
            .max()
            .unwrap_or(0),
        workers,
    })
}

fn advise(worker: &WorkerJob, calibration: &Calibration, run_time_us: u64) -> Advice {
    let speed = calibration.bytes_per_second.max(f64::MIN_POSITIVE);
    let safe = speed / (ROLLOVERS_PROMISED * ADVICE_MARGIN);
    let file_bytes = (safe * (run_time_us as f64 / 1e6)) as u64;
    let chunk = worker.chunk_bytes.max(1);
    let seconds = (worker.file_bytes as f64 / safe).ceil();
    Advice {
        worker: calibration.worker,
        path: worker.path.clone(),
        bytes_per_second: calibration.bytes_per_second,
        rollovers: calibration.rollovers,
        largest_file_bytes: Some(file_bytes / chunk * chunk).filter(|bytes| *bytes > 0),
        shortest_run_time_us: (seconds as u64).saturating_mul(1_000_000),
    }
}

impl Infeasible {
    fn explain(&self) -> String {
        let mut text = String::new();
        for advice in &self.workers {
            text += &format!(
                "worker {} on `{}` would roll over only {:.1} times at {}/s; ",
                advice.worker,
                advice.path,
                advice.rollovers,
                show_size(advice.bytes_per_second as u64)
            );
        }
        let run_time = show_duration(Duration::from_micros(self.shortest_run_time_us));
        match self.largest_file_bytes {
            Some(bytes) => {
                text + &format!(
                    "use a file size of at most {}, or run for at least {run_time}",
                    show_size(bytes)
                )
            }
            None => text + &format!("run for at least {run_time}, or use smaller chunks and files"),
        }
    }
}

#[cfg(test)]
mod tests {
    use pinnace_proto::job::{Engine, MinFree};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn job(chunk_bytes: u64, file_bytes: u64, seconds: u64, force: bool) -> Job {
        Job {
            v: 1,
            name: String::new(),
            solution: String::new(),
            run_time_us: seconds * 1_000_000,
            heartbeat_us: 5_000_000,
            monitor_us: 10_000_000,
            sample_us: 1_000_000,
            min_free: MinFree::Bytes(0),
            engine: Engine::Psync,
            direct: false,
            keep_files: false,
            force,
            rate_bytes_per_second: None,
            workers: vec![WorkerJob {
                path: "/p".to_owned(),
                chunk_bytes,
                file_bytes,
            }],
        }
    }

    fn judged(job: &Job, bytes_per_second: f64) -> Result<(), Infeasible> {
        let rollovers = rollovers(bytes_per_second, job.run_time_us, job.workers[0].file_bytes);
        let calibration = Calibration {
            worker: 0,
            bytes: 1,
            elapsed_us: 1,
            bytes_per_second,
            rollovers,
        };
        judge(job, &[calibration])
    }

    #[test]
    fn two_rollovers_are_exactly_enough() {
        let job = job(MIB, 10 * MIB, 2, false);
        assert!(judged(&job, 10.0 * MIB as f64).is_ok());
        assert!(judged(&job, 9.99 * MIB as f64).is_err());
    }

    #[test]
    fn advice_is_a_multiple_of_the_chunk_and_passes_when_followed() {
        for (chunk, file, seconds, speed) in [
            (10 * MIB, 1024 * MIB, 30, 50e6),
            (MIB, 512 * MIB, 10, 20e6),
            (4096, 64 * MIB, 1, 1e6),
            (1000, 10 * MIB, 3, 12_345.0),
        ] {
            let error = judged(&job(chunk, file, seconds, false), speed).unwrap_err();
            let largest = error.largest_file_bytes.unwrap();
            assert_eq!(largest % chunk, 0);
            assert!(judged(&job(chunk, largest, seconds, false), speed).is_ok());
            assert!(judged(&job(chunk, largest * 2, seconds, false), speed / 1.1).is_err());
            let longer = error.shortest_run_time_us / 1_000_000;
            assert_eq!(error.shortest_run_time_us % 1_000_000, 0);
            assert!(judged(&job(chunk, file, longer, false), speed).is_ok());
            assert!(
                error.to_string().contains("file size of at most"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_chunk_too_large_for_any_file_leaves_only_time() {
        let error = judged(&job(64 * MIB, 64 * MIB, 1, false), 1e6).unwrap_err();
        assert_eq!(error.largest_file_bytes, None);
        assert_eq!(error.shortest_run_time_us, 162_000_000);
        assert!(
            judged(&job(64 * MIB, 64 * MIB, 1, true), 1e6).is_ok(),
            "forced"
        );
        assert!(
            judged(&job(64 * MIB, 64 * MIB, 1, false), 0.0).is_err(),
            "no speed at all"
        );
    }
}
