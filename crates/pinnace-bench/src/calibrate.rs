//! The calibration: writes on the real paths with the real chunks, all workers at once, to learn
//! what speed a run may expect.
//!
//! A worker writes one chunk and syncs it, then twice as much, and again, as long as the next round
//! is expected to fit in the time left; the last round, which is the longest, is the measurement.
//! So a slow disk is not given more than it can take, and a fast one gets enough to show its speed.
//!
//! Invariant: a worker writes at most one file or 256 MiB, whichever is smaller, but always one
//! chunk; a stop is seen before the next chunk; the calibration files are removed.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use pinnace_proto::event::{Calibration, StopReason};

use crate::clock::{Clock, micros};
use crate::device::{Device, Devices};
use crate::error::CalibrationError;
use crate::ledger::{Ledger, clean_up_within};
use crate::limits::{CALIBRATION_AIM_US, CALIBRATION_BYTES, CALIBRATION_LIMIT_US, STUCK_GRACE_US};
use crate::payload::Payload;
use crate::plan::Plan;
use crate::promise::rollovers;
use crate::stop::Stop;

/// Measures every worker's speed with the engine the job names.
///
/// # Errors
/// The first worker's that could not write; [`CalibrationError::Stuck`] for storage that does not
/// answer within 30 s; [`CalibrationError::Stopped`] after a stop.
pub fn calibrate(plan: &Plan, stop: &Stop) -> Result<Vec<Calibration>, CalibrationError> {
    calibrate_on(plan, Arc::new(plan.job.engine), stop)
}

/// [`calibrate`] on devices of the caller's choice.
///
/// # Errors
/// As [`calibrate`].
pub fn calibrate_on(
    plan: &Plan,
    devices: Arc<dyn Devices>,
    stop: &Stop,
) -> Result<Vec<Calibration>, CalibrationError> {
    // A stop of its own, so that one worker's failure ends the others and not the caller's run.
    let own = Stop::new();
    let _forward = stop.on_request({
        let own = own.clone();
        move || own.request(StopReason::Interrupted)
    });
    let ledger = Arc::new(Ledger::default());
    let result = run_trials(plan, devices, &own, &ledger);
    own.request(StopReason::Completed);
    clean_up_within(&ledger, Duration::from_micros(STUCK_GRACE_US));
    result
}

/// Runs all trials at once and gathers what they measured.
fn run_trials(
    plan: &Plan,
    devices: Arc<dyn Devices>,
    stop: &Stop,
    ledger: &Arc<Ledger>,
) -> Result<Vec<Calibration>, CalibrationError> {
    let (answers, answered) = channel();
    let _wake = stop.on_request({
        let answers = answers.clone();
        move || drop(answers.send(Answer::Stop))
    });
    let clock = Clock::start();
    let shared_plan = Arc::new(plan.clone());
    for worker in 0..plan.job.workers.len() as u32 {
        let trial = Trial {
            worker,
            plan: Arc::clone(&shared_plan),
            devices: Arc::clone(&devices),
            ledger: Arc::clone(ledger),
            stop: stop.clone(),
        };
        let answers: Sender<Answer> = answers.clone();
        thread::Builder::new()
            .name(format!("pn-calibrate-{worker}"))
            .spawn(move || drop(answers.send(Answer::Done(worker, trial.run()))))
            .map_err(|error| CalibrationError::NoStart {
                worker,
                message: error.to_string(),
            })?;
    }
    let mut measured: Vec<Option<Calibration>> = vec![None; plan.job.workers.len()];
    while let Some(missing) = measured.iter().position(Option::is_none) {
        let left = CALIBRATION_LIMIT_US.saturating_sub(clock.elapsed_us());
        match answered.recv_timeout(Duration::from_micros(left)) {
            Ok(Answer::Done(worker, result)) => measured[worker as usize] = Some(result?),
            Ok(Answer::Stop) => return Err(CalibrationError::Stopped),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(CalibrationError::Stuck {
                    worker: missing as u32,
                    path: plan.job.workers[missing].path.clone(),
                    limit_seconds: CALIBRATION_LIMIT_US / 1_000_000,
                });
            }
        }
    }
    Ok(measured.into_iter().flatten().collect())
}

enum Answer {
    Done(u32, Result<Calibration, CalibrationError>),
    Stop,
}

/// The calibration of one worker.
struct Trial {
    worker: u32,
    plan: Arc<Plan>,
    devices: Arc<dyn Devices>,
    ledger: Arc<Ledger>,
    stop: Stop,
}

impl Trial {
    fn run(&self) -> Result<Calibration, CalibrationError> {
        let job = &self.plan.job.workers[self.worker as usize];
        let chunk = usize::try_from(job.chunk_bytes).unwrap_or(usize::MAX);
        let no_memory = || CalibrationError::NoStart {
            worker: self.worker,
            message: "there is no memory for its buffer".to_owned(),
        };
        let (payload, area) =
            Payload::new("calibration", self.worker, chunk).ok_or_else(no_memory)?;
        let device = self.devices.device(self.worker, area, self.plan.job.direct);
        let mut rounds = Rounds {
            trial: self,
            path: self.plan.file(self.worker, "calibration"),
            device,
            payload,
            chunk: job.chunk_bytes,
            written: 0,
        };
        let (bytes, took) = rounds.measure(job.file_bytes)?;
        let measured = bytes as f64 / took.as_secs_f64().max(1e-9);
        let limit = self
            .plan
            .job
            .rate_bytes_per_second
            .map_or(f64::INFINITY, |rate| rate as f64);
        let bytes_per_second = measured.min(limit);
        Ok(Calibration {
            worker: self.worker,
            bytes,
            elapsed_us: micros(took),
            bytes_per_second,
            rollovers: rollovers(bytes_per_second, self.plan.job.run_time_us, job.file_bytes),
        })
    }
}

struct Rounds<'a> {
    trial: &'a Trial,
    path: std::path::PathBuf,
    device: Box<dyn Device>,
    payload: Payload,
    chunk: u64,
    written: u64,
}

impl Rounds<'_> {
    /// Writes rounds of doubling length; returns bytes and time of the longest.
    fn measure(&mut self, file_bytes: u64) -> Result<(u64, Duration), CalibrationError> {
        if !self.trial.ledger.add(&self.path) {
            return Err(CalibrationError::Stopped);
        }
        let created = self.device.create(&self.path);
        created.map_err(|source| self.io("open", source))?;
        if !self.trial.ledger.still_open(&self.path) {
            return Err(CalibrationError::Stopped);
        }
        let most = file_bytes.min(CALIBRATION_BYTES).max(self.chunk);
        let aim = Duration::from_micros(CALIBRATION_AIM_US);
        let began = Instant::now();
        let mut best = self.round(self.chunk)?;
        loop {
            // Whole chunks, so that with direct I/O every write is aligned.
            let room = (most - self.written) / self.chunk * self.chunk;
            let next = (best.0.saturating_mul(2)).min(room);
            // A round shorter than the best would measure the sync more than the writing.
            if next < best.0 || next == 0 {
                break;
            }
            let expected = best.1.mul_f64(next as f64 / best.0 as f64);
            if began.elapsed() + expected > aim {
                break;
            }
            best = self.round(next)?;
        }
        self.device.close();
        Ok(best)
    }

    /// Writes `bytes` and syncs them.
    fn round(&mut self, bytes: u64) -> Result<(u64, Duration), CalibrationError> {
        let began = Instant::now();
        let end = self.written + bytes;
        while self.written < end {
            if self.trial.stop.is_requested() {
                return Err(CalibrationError::Stopped);
            }
            let len = self.chunk.min(end - self.written) as usize;
            let window = self
                .payload
                .prepare(self.device.area(), 0, self.written, len);
            let mut done = 0;
            while done < len {
                let submitted = self
                    .device
                    .submit(window.start + done..window.end, self.written + done as u64)
                    .and_then(|()| self.device.reap());
                done += match submitted {
                    Ok(completion) if completion.bytes > 0 => completion.bytes,
                    Ok(_) => return Err(self.io("write", std::io::ErrorKind::WriteZero.into())),
                    Err(source) => return Err(self.io("write", source)),
                };
            }
            self.written += len as u64;
        }
        let synced = self.device.sync();
        synced.map_err(|source| self.io("sync", source))?;
        Ok((bytes, began.elapsed()))
    }

    fn io(&self, operation: &'static str, source: std::io::Error) -> CalibrationError {
        CalibrationError::Io {
            worker: self.trial.worker,
            operation,
            path: self.path.to_string_lossy().into_owned(),
            source,
        }
    }
}
