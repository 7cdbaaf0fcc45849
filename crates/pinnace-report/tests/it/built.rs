//! Runs made by hand: a plan per client becomes the events such a client would have sent.
//!
//! Invariant: deterministic; the figures of samples, rollovers and final words agree with each other
//! unless a plan says otherwise. Shared with `examples/sample_report.rs`.

use pinnace_proto::event::{
    Activity, Body, Calibration, DiskFree, Event, Heartbeat, Lost, LostReason, Resources, Rollover,
    Sample, Started, StopReason, Stopped, WorkerHeartbeat, WorkerResources, WorkerSample,
    WorkerTotals,
};
use pinnace_proto::host::{HostFacts, PathFacts};
use pinnace_proto::job::{Engine, Job, MinFree, WorkerJob};
use pinnace_proto::run::{ClientRecord, ClientState, RunHead, RunRecord, RunState};
use pinnace_proto::{DOCUMENT_VERSION, Histogram};

/// Wall clock at which the run opened: 2026-03-14 09:26:53 UTC.
pub(crate) const OPENED_US: u64 = 1_773_480_413_000_000;
pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// What one client does.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    /// Its wall clock at the start, relative to the run's opening.
    pub(crate) starts_us: u64,
    pub(crate) job: Job,
    pub(crate) host: HostFacts,
    pub(crate) path: PathFacts,
    /// Bytes of each worker per second.
    pub(crate) bytes_per_second: u64,
    /// Microseconds of one write.
    pub(crate) write_us: u64,
    pub(crate) cpu_share: f64,
    /// Samples end here without a word when it is `Some`.
    pub(crate) dies_us: Option<u64>,
    pub(crate) reason: StopReason,
    /// Seconds (from) without a sample.
    pub(crate) silent: std::ops::Range<u64>,
    /// Seconds whose heartbeat worker 0 does not answer.
    pub(crate) deaf: std::ops::Range<u64>,
    pub(crate) wobble: bool,
}

impl Plan {
    /// A client that runs 20 s, writes 64 MiB/s per worker and has nothing to warn about.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            starts_us: 0,
            job: Job {
                v: DOCUMENT_VERSION,
                name: "nightly".to_owned(),
                solution: "ceph-nvme".to_owned(),
                run_time_us: 20 * SECOND,
                heartbeat_us: 5 * SECOND,
                monitor_us: 2 * SECOND,
                sample_us: SECOND,
                min_free: MinFree::Percent(5.0),
                engine: Engine::Psync,
                direct: true,
                keep_files: false,
                force: false,
                rate_bytes_per_second: None,
                workers: vec![WorkerJob {
                    path: format!("/srv/bench/{name}"),
                    chunk_bytes: MIB,
                    file_bytes: 128 * MIB,
                }],
            },
            host: HostFacts {
                hostname: format!("node-{name}"),
                os: Some("Debian GNU/Linux 12 (bookworm)".to_owned()),
                kernel: "Linux 6.1.0-28-amd64".to_owned(),
                architecture: "x86_64".to_owned(),
                cpu_model: Some("AMD EPYC 7443P 24-Core Processor".to_owned()),
                cpus: 48,
                memory_bytes: Some(128 * GIB),
                memory_available_bytes: Some(119 * GIB),
                governor: Some("performance".to_owned()),
                clock_source: Some("tsc".to_owned()),
                pinnace: "0.1.0".to_owned(),
            },
            path: PathFacts {
                path: format!("/srv/bench/{name}"),
                file_system: Some("xfs".to_owned()),
                mount_point: Some("/srv/bench".to_owned()),
                source: Some("/dev/rbd0".to_owned()),
                mount_options: Some("rw,noatime,attr2,inode64,logbufs=8".to_owned()),
                device: Some("rbd0".to_owned()),
                device_model: None,
                scheduler: Some("none".to_owned()),
                rotational: Some(false),
                total_bytes: 1_800 * GIB,
                free_bytes: 1_421 * GIB,
            },
            bytes_per_second: 64 * MIB,
            write_us: 900,
            cpu_share: 0.3,
            dies_us: None,
            reason: StopReason::Completed,
            silent: 0..0,
            deaf: 0..0,
            wobble: false,
        }
    }

    /// The same with this change.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn workers(&self) -> u32 {
        self.job.workers.len() as u32
    }

    /// The client's record.
    pub(crate) fn record(&self) -> ClientRecord {
        let mut writer = Writer::new(self);
        writer.push(0, Body::Started(self.started()));
        let end_us = self.dies_us.unwrap_or(self.job.run_time_us);
        let mut at_us = 0;
        while at_us < end_us {
            let to_us = (at_us + self.job.sample_us).min(end_us);
            writer.interval(at_us, to_us);
            at_us = to_us;
        }
        let state = match self.dies_us {
            None => {
                let stopped = writer.stopped(end_us);
                writer.push(end_us, Body::Stopped(stopped));
                ClientState::Stopped
            }
            Some(_) => {
                writer.lost(end_us);
                ClientState::Lost
            }
        };
        ClientRecord {
            client: self.name.clone(),
            state,
            last_heard_us: OPENED_US + self.starts_us + end_us + 300,
            events: writer.events,
        }
    }

    fn started(&self) -> Started {
        let run_s = self.job.run_time_us as f64 / 1e6;
        Started {
            job: self.job.clone(),
            host: self.host.clone(),
            paths: vec![self.path.clone(); self.job.workers.len()],
            calibration: (0..self.workers())
                .zip(&self.job.workers)
                .map(|(worker, job)| Calibration {
                    worker,
                    bytes: 16 * MIB,
                    elapsed_us: 250_000,
                    bytes_per_second: self.bytes_per_second as f64 * 0.96,
                    rollovers: self.bytes_per_second as f64 * 0.96 * run_s / job.file_bytes as f64,
                })
                .collect(),
        }
    }
}

/// A run of these clients.
pub(crate) fn run(plans: &[Plan]) -> RunRecord {
    let clients: Vec<ClientRecord> = plans.iter().map(Plan::record).collect();
    let lost = clients
        .iter()
        .filter(|c| c.state == ClientState::Lost)
        .count() as u32;
    let whole = plans
        .iter()
        .all(|plan| plan.dies_us.is_none() && plan.reason == StopReason::Completed);
    RunRecord {
        v: DOCUMENT_VERSION,
        run: RunHead {
            id: "r7k2m9".to_owned(),
            name: "nightly".to_owned(),
            solution: "ceph-nvme".to_owned(),
            state: if whole {
                RunState::Complete
            } else {
                RunState::Partial
            },
            opened_us: OPENED_US,
            finished_us: clients.iter().map(|c| c.last_heard_us).max(),
            clients: clients.len() as u32,
            clients_lost: lost,
            bytes: 0,
            events: clients.iter().map(|c| c.events.len() as u64).sum(),
        },
        clients,
    }
}

/// One worker's state while its events are written.
#[derive(Clone, Default)]
struct Pen {
    bytes: u64,
    in_file: u64,
    file_from_us: u64,
    rollovers: u64,
    cpu_us: u64,
    writes: Histogram,
    syncs: Histogram,
}

struct Writer<'a> {
    plan: &'a Plan,
    events: Vec<Event>,
    pens: Vec<Pen>,
    seed: u64,
}

impl<'a> Writer<'a> {
    fn new(plan: &'a Plan) -> Self {
        let seed = plan.name.bytes().fold(7u64, |seed, b| {
            seed.wrapping_mul(31).wrapping_add(u64::from(b))
        });
        Self {
            plan,
            events: Vec::new(),
            pens: vec![Pen::default(); plan.job.workers.len()],
            seed,
        }
    }

    /// A number below `past`, by a linear congruence.
    fn random(&mut self, past: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % past.max(1)
    }

    fn push(&mut self, elapsed_us: u64, body: Body) {
        self.events.push(Event {
            v: DOCUMENT_VERSION,
            run: "r7k2m9".to_owned(),
            client: self.plan.name.clone(),
            instance: "00c0ffee00c0ffee".to_owned(),
            n: self.events.len() as u64 + 1,
            at_us: OPENED_US + self.plan.starts_us + elapsed_us,
            elapsed_us,
            body,
        });
    }

    fn lost(&mut self, elapsed_us: u64) {
        let heard = OPENED_US + self.plan.starts_us + elapsed_us + 300;
        self.push(
            0,
            Body::Lost(Lost {
                reason: LostReason::Heartbeats,
                last_heard_us: heard,
            }),
        );
        if let Some(event) = self.events.last_mut() {
            (event.n, event.at_us) = (0, heard + 15 * SECOND);
        }
    }

    /// Everything that happens between two samples.
    fn interval(&mut self, from_us: u64, to_us: u64) {
        let second = from_us / SECOND;
        let mut sample = Sample {
            from_us,
            to_us,
            workers: Vec::new(),
        };
        let mut rollovers = Vec::new();
        for worker in 0..self.pens.len() {
            let (figures, closed) = self.work(worker, from_us, to_us);
            sample.workers.push(figures);
            rollovers.extend(closed);
        }
        rollovers.into_iter().for_each(|(at_us, rollover)| {
            self.push(at_us, Body::Rollover(rollover));
        });
        if !self.plan.silent.contains(&second) {
            self.push(to_us, Body::Sample(sample));
        }
        if to_us.is_multiple_of(self.plan.job.heartbeat_us) {
            let heartbeat = self.heartbeat(to_us / SECOND);
            self.push(to_us, Body::Heartbeat(heartbeat));
        }
        if to_us.is_multiple_of(self.plan.job.monitor_us) {
            let resources = self.resources(to_us);
            self.push(to_us, Body::Resources(resources));
        }
    }

    fn work(
        &mut self,
        worker: usize,
        from_us: u64,
        to_us: u64,
    ) -> (WorkerSample, Vec<(u64, Rollover)>) {
        let job = self.plan.job.workers[worker].clone();
        let length_us = to_us - from_us;
        let share = match self.plan.wobble {
            true => 780 + self.random(320) + if self.random(9) == 0 { 0 } else { 120 },
            false => 1_000,
        };
        let target = self.plan.bytes_per_second as u128 * u128::from(length_us) * u128::from(share);
        let chunks = (target / 1_000_000_000) as u64 / job.chunk_bytes;
        let (mut writes, mut syncs) = (Histogram::default(), Histogram::default());
        let mut closed = Vec::new();
        for chunk in 0..chunks {
            let tail = if self.plan.wobble && self.random(60) == 0 {
                9
            } else {
                1
            };
            let jitter = self.random(self.plan.write_us * 600 + 1);
            writes.record((self.plan.write_us * 700 + jitter) * tail);
            let in_file = self.pens[worker].in_file + job.chunk_bytes;
            self.pens[worker].in_file = in_file;
            if in_file >= job.file_bytes {
                let at_us = from_us + length_us * (chunk + 1) / chunks;
                let rollover = self.close(worker, at_us, &job);
                syncs.record(rollover.sync_us * 1_000);
                closed.push((at_us, rollover));
            }
        }
        let pen = &mut self.pens[worker];
        pen.bytes += chunks * job.chunk_bytes;
        pen.cpu_us += (length_us as f64 * self.plan.cpu_share) as u64;
        pen.writes.merge(&writes);
        pen.syncs.merge(&syncs);
        let figures = WorkerSample {
            worker: worker as u32,
            bytes: chunks * job.chunk_bytes,
            writes,
            syncs,
        };
        (figures, closed)
    }

    fn close(&mut self, worker: usize, at_us: u64, job: &WorkerJob) -> Rollover {
        let sync_us = 60_000 + self.random(180_000);
        let pen = &mut self.pens[worker];
        pen.rollovers += 1;
        let file_us = at_us - pen.file_from_us;
        (pen.in_file, pen.file_from_us) = (0, at_us);
        Rollover {
            worker: worker as u32,
            number: pen.rollovers,
            file: format!("{}/data-{worker}-{:05}", job.path, pen.rollovers),
            bytes: job.file_bytes,
            file_us,
            sync_us: sync_us.min(file_us),
            next_file: format!("{}/data-{worker}-{:05}", job.path, pen.rollovers + 1),
        }
    }

    fn heartbeat(&mut self, second: u64) -> Heartbeat {
        Heartbeat {
            workers: (0..self.plan.workers())
                .map(|worker| {
                    let answered = worker != 0 || !self.plan.deaf.contains(&second);
                    WorkerHeartbeat {
                        worker,
                        answered,
                        after_us: if answered {
                            40 + self.random(900)
                        } else {
                            2 * SECOND
                        },
                        activity: if answered {
                            Activity::Writing
                        } else {
                            Activity::Syncing
                        },
                    }
                })
                .collect(),
            disks: vec![DiskFree {
                path: self.plan.path.path.clone(),
                free_bytes: self.plan.path.free_bytes,
                total_bytes: self.plan.path.total_bytes,
            }],
            next_us: self.plan.job.heartbeat_us,
        }
    }

    fn resources(&mut self, to_us: u64) -> Resources {
        let buffers = self.plan.job.workers.iter().map(|w| w.chunk_bytes * 2);
        let buffer_bytes = buffers.sum();
        Resources {
            interval_us: self.plan.job.monitor_us,
            rss_bytes: 21 * MIB + buffer_bytes + self.random(2 * MIB),
            buffer_bytes,
            process_cpu_us: self.pens.iter().map(|pen| pen.cpu_us).sum::<u64>() + 90_000,
            workers: (0..self.pens.len())
                .map(|worker| {
                    let wobble = if self.plan.wobble {
                        self.random(120) as f64 / 1_000.0
                    } else {
                        0.0
                    };
                    WorkerResources {
                        worker: worker as u32,
                        thread: 4_000 + worker as u32,
                        state: if self.random(4) == 0 { "R" } else { "D" }.to_owned(),
                        user_us: self.pens[worker].cpu_us / 5,
                        system_us: self.pens[worker].cpu_us / 5 * 4,
                        cpu_share: self.plan.cpu_share + wobble
                            - if wobble > 0.0 { 0.06 } else { 0.0 },
                        buffer_bytes: self.plan.job.workers[worker].chunk_bytes * 2,
                        voluntary_switches: to_us / 700,
                        involuntary_switches: to_us / 90_000,
                    }
                })
                .collect(),
        }
    }

    fn stopped(&mut self, end_us: u64) -> Stopped {
        Stopped {
            reason: self.plan.reason,
            ran_us: end_us,
            workers: (0..self.plan.workers())
                .zip(&self.pens)
                .map(|(worker, pen)| WorkerTotals {
                    worker,
                    answered: true,
                    bytes: pen.bytes,
                    rollovers: pen.rollovers,
                    busy_us: end_us * 97 / 100,
                    cpu_us: pen.cpu_us,
                    writes: pen.writes.clone(),
                    syncs: pen.syncs.clone(),
                })
                .collect(),
            promise_held: self.pens.iter().all(|pen| pen.rollovers >= 2),
            files_removed: 3,
            files_left: 0,
            process_cpu_us: self.pens.iter().map(|pen| pen.cpu_us).sum::<u64>() + 95_000,
            peak_rss_bytes: 26 * MIB,
        }
    }
}
