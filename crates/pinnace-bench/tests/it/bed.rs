//! What every test here needs: a directory, a job for it, and a run whose reports are kept.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pinnace_bench::device::Devices;
use pinnace_bench::device::twin::{Fault, Twins};
use pinnace_bench::{Outcome, Plan, Report, Stop, plan, run_on};
use pinnace_proto::event::{self, Body, StopReason};
use pinnace_proto::job::{Engine, Job, MinFree, WorkerJob};
use tempfile::TempDir;

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
/// No test run takes nearly this long; one that does hangs.
pub(crate) const HANGS: Duration = Duration::from_secs(30);

/// A directory and a job that writes in it.
pub(crate) struct Bed {
    pub(crate) dir: TempDir,
    pub(crate) job: Job,
    pub(crate) stuck_grace_us: Option<u64>,
}

impl Bed {
    /// Workers of these chunk and file sizes that run for `run_ms`.
    pub(crate) fn new(workers: &[(u64, u64)], run_ms: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap().to_owned();
        let workers = workers
            .iter()
            .map(|(chunk_bytes, file_bytes)| WorkerJob {
                path: path.clone(),
                chunk_bytes: *chunk_bytes,
                file_bytes: *file_bytes,
            })
            .collect();
        let job = Job {
            v: 1,
            name: "test".to_owned(),
            solution: String::new(),
            run_time_us: run_ms * 1_000,
            heartbeat_us: 100_000,
            monitor_us: 150_000,
            sample_us: 50_000,
            min_free: MinFree::Bytes(0),
            engine: Engine::Psync,
            direct: false,
            keep_files: false,
            force: false,
            rate_bytes_per_second: None,
            workers,
        };
        Self {
            dir,
            job,
            stuck_grace_us: None,
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        let mut plan = plan(&self.job, "c").unwrap();
        plan.stuck_grace_us = self.stuck_grace_us.unwrap_or(plan.stuck_grace_us);
        plan
    }

    /// Starts the run in a thread of its own.
    pub(crate) fn start(&self, faults: Vec<(u32, Fault)>) -> Running {
        let devices: Arc<dyn Devices> = match self.job.engine {
            Engine::Psync => Arc::new(Twins { faults }),
            engine => Arc::new(engine),
        };
        let (plan, stop) = (self.plan(), Stop::new());
        let (tell, reports) = channel();
        let (end, ended) = channel();
        let thread = thread::spawn({
            let stop = stop.clone();
            move || {
                let mut sink = |report: Report| drop(tell.send(report));
                let outcome = run_on(&plan, devices, "0123456789abcdef", &mut sink, &stop);
                end.send(outcome).unwrap();
            }
        });
        Running {
            stop,
            reports,
            seen: RefCell::default(),
            ended,
            thread,
        }
    }

    pub(crate) fn run(&self, faults: Vec<(u32, Fault)>) -> Run {
        self.start(faults).finish()
    }

    /// The names in the directory.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        names(self.dir.path())
    }
}

pub(crate) fn names(dir: &Path) -> BTreeSet<String> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// A run under way.
pub(crate) struct Running {
    pub(crate) stop: Stop,
    reports: Receiver<Report>,
    /// Reports that were waited past.
    seen: RefCell<Vec<Report>>,
    ended: Receiver<Outcome>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Waits for the first report that `wanted` accepts.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Body) -> bool) -> Report {
        loop {
            let report = self.reports.recv_timeout(HANGS).expect("the run hangs");
            self.seen.borrow_mut().push(report.clone());
            if wanted(&report.body) {
                return report;
            }
        }
    }

    /// Waits until `worker` has rolled over `number` times.
    pub(crate) fn wait_for_rollover(&self, worker: u32, number: u64) {
        let is_it = |body: &Body| matches!(body, Body::Rollover(r) if r.worker == worker && r.number >= number);
        if !self.seen.borrow().iter().any(|report| is_it(&report.body)) {
            self.wait_for(is_it);
        }
    }

    /// Interrupts the run and waits for its end.
    pub(crate) fn interrupt(self) -> Run {
        self.stop.request(StopReason::Interrupted);
        self.finish()
    }

    /// Waits for the end.
    pub(crate) fn finish(self) -> Run {
        let outcome = self.ended.recv_timeout(HANGS).expect("the run hangs");
        self.thread.join().unwrap();
        let mut reports = self.seen.into_inner();
        reports.extend(self.reports.try_iter());
        assert_eq!(
            reports.last().unwrap().body,
            Body::Stopped(outcome.stopped.clone())
        );
        Run { reports, outcome }
    }
}

/// A run that ended.
pub(crate) struct Run {
    pub(crate) reports: Vec<Report>,
    pub(crate) outcome: Outcome,
}

macro_rules! bodies {
    ($name:ident, $variant:ident) => {
        pub(crate) fn $name(&self) -> Vec<&event::$variant> {
            self.reports
                .iter()
                .filter_map(|report| match &report.body {
                    Body::$variant(body) => Some(body),
                    _ => None,
                })
                .collect()
        }
    };
}

impl Run {
    bodies!(heartbeats, Heartbeat);
    bodies!(resources, Resources);
    bodies!(samples, Sample);
    bodies!(rollovers, Rollover);
    bodies!(errors, Error);

    /// The figures of all samples add up to the totals, and the histograms to the bytes.
    pub(crate) fn assert_sums(&self, job: &Job) {
        let samples = self.samples();
        let mut from_us = 0;
        for sample in &samples {
            assert_eq!(sample.from_us, from_us, "samples leave a gap");
            assert!(sample.to_us >= sample.from_us);
            from_us = sample.to_us;
        }
        for (index, totals) in self.outcome.stopped.workers.iter().enumerate() {
            let of = |pick: fn(&event::WorkerSample) -> u64| -> u64 {
                samples
                    .iter()
                    .map(|sample| pick(&sample.workers[index]))
                    .sum()
            };
            assert_eq!(of(|w| w.bytes), totals.bytes);
            assert_eq!(of(|w| w.writes.count()), totals.writes.count());
            assert_eq!(of(|w| w.syncs.count()), totals.syncs.count());
            assert_eq!(of(|w| w.writes.sum_ns()), totals.writes.sum_ns());
            let WorkerJob {
                chunk_bytes,
                file_bytes,
                ..
            } = job.workers[index];
            let files = totals.bytes / file_bytes;
            let chunks = files * file_bytes.div_ceil(chunk_bytes)
                + (totals.bytes % file_bytes).div_ceil(chunk_bytes);
            assert_eq!(totals.writes.count(), chunks, "one latency per chunk");
            assert_eq!(
                totals.busy_us,
                (totals.writes.sum_ns() + totals.syncs.sum_ns()) / 1_000
            );
            let rollovers = self
                .rollovers()
                .iter()
                .filter(|r| r.worker == index as u32)
                .count();
            assert_eq!(totals.rollovers, rollovers as u64);
            assert_eq!(totals.rollovers, totals.syncs.count());
        }
    }
}
