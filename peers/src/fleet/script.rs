//! What a simulated client has to say at each tick: the events of a client with two workers, with
//! histograms of some 50 buckets, as a real one would tell them.
//!
//! A tick is one second of the simulated run: a sample at each, a heartbeat at every fifth,
//! resources at every tenth, a rollover of each worker at every seventh, shifted by worker. Figures
//! come from a generator seeded by the client's number, so that every run tells the same.

use pinnace_proto::event::{
    Activity, Body, Calibration, DiskFree, Heartbeat, Resources, Rollover, Sample, Started,
    StopReason, Stopped, WorkerHeartbeat, WorkerResources, WorkerSample, WorkerTotals,
};
use pinnace_proto::host::{HostFacts, PathFacts};
use pinnace_proto::job::{Engine, Job, MinFree, WorkerJob};
use pinnace_proto::{DOCUMENT_VERSION, Histogram};

/// Length of a tick, microseconds.
pub const TICK_US: u64 = 1_000_000;
const HEARTBEAT_TICKS: u64 = 5;
const RESOURCES_TICKS: u64 = 10;
const ROLLOVER_TICKS: u64 = 7;
const WORKERS: u32 = 2;
const CHUNK_BYTES: u64 = 10 << 20;
const FILE_BYTES: u64 = 1_000 << 20;
/// Writes of a worker in a tick; their latencies fill about 50 buckets.
const WRITES_PER_TICK: u64 = 130;
const GIB: u64 = 1 << 30;

/// The script of one client.
#[derive(Debug)]
pub struct Script {
    ticks: u64,
    random: u64,
    totals: Vec<WorkerTotals>,
}

impl Script {
    /// For client `number` and a run of `ticks` ticks.
    pub fn new(number: u32, ticks: u64) -> Self {
        let totals = (0..WORKERS).map(|worker| WorkerTotals {
            worker,
            answered: true,
            bytes: 0,
            rollovers: 0,
            busy_us: 0,
            cpu_us: 0,
            writes: Histogram::default(),
            syncs: Histogram::default(),
        });
        Self {
            ticks,
            random: u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            totals: totals.collect(),
        }
    }

    /// What the server is told when the client joins.
    pub fn heartbeat_us() -> u64 {
        HEARTBEAT_TICKS * TICK_US
    }

    /// Everything to be told at `tick`: the start at 0, the last word at the last.
    pub fn at(&mut self, tick: u64) -> Vec<Body> {
        if tick == 0 {
            return vec![self.started()];
        }
        let mut bodies = vec![self.sample(tick)];
        for worker in 0..WORKERS {
            if (tick + u64::from(worker)).is_multiple_of(ROLLOVER_TICKS) {
                bodies.push(self.rollover(worker));
            }
        }
        if tick.is_multiple_of(HEARTBEAT_TICKS) {
            bodies.push(heartbeat());
        }
        if tick.is_multiple_of(RESOURCES_TICKS) {
            bodies.push(resources(tick));
        }
        if tick == self.ticks {
            bodies.push(self.stopped());
        }
        bodies
    }

    fn started(&self) -> Body {
        let path = |worker: u32| format!("/srv/storage/disk-{worker}");
        let workers = (0..WORKERS).map(|worker| WorkerJob {
            path: path(worker),
            chunk_bytes: CHUNK_BYTES,
            file_bytes: FILE_BYTES,
        });
        let calibration = (0..WORKERS).map(|worker| Calibration {
            worker,
            bytes: 256 << 20,
            elapsed_us: 250_000,
            bytes_per_second: GIB as f64,
            rollovers: self.ticks as f64,
        });
        let paths = (0..WORKERS).map(|worker| PathFacts {
            path: path(worker),
            file_system: Some("ext4".to_owned()),
            total_bytes: 4_000 * GIB,
            free_bytes: 2_000 * GIB,
            ..PathFacts::default()
        });
        Body::Started(Started {
            job: Job {
                v: DOCUMENT_VERSION,
                name: "collector".to_owned(),
                solution: "simulated".to_owned(),
                run_time_us: self.ticks * TICK_US,
                heartbeat_us: HEARTBEAT_TICKS * TICK_US,
                monitor_us: RESOURCES_TICKS * TICK_US,
                sample_us: TICK_US,
                min_free: MinFree::Percent(5.0),
                engine: Engine::Psync,
                direct: false,
                keep_files: false,
                force: false,
                rate_bytes_per_second: None,
                workers: workers.collect(),
            },
            host: HostFacts {
                hostname: "simulated".to_owned(),
                kernel: "Linux 6.18".to_owned(),
                architecture: "x86_64".to_owned(),
                cpus: 2,
                pinnace: "simulated".to_owned(),
                ..HostFacts::default()
            },
            paths: paths.collect(),
            calibration: calibration.collect(),
        })
    }

    fn sample(&mut self, tick: u64) -> Body {
        let workers = (0..WORKERS).map(|worker| {
            let mut writes = Histogram::default();
            for _ in 0..WRITES_PER_TICK {
                let latency_ns = self.latency_ns();
                writes.record(latency_ns);
            }
            let mut syncs = Histogram::default();
            if (tick + u64::from(worker)).is_multiple_of(ROLLOVER_TICKS) {
                syncs.record(40_000_000 + self.next() % 9_000_000);
            }
            let bytes = WRITES_PER_TICK * CHUNK_BYTES;
            let totals = &mut self.totals[worker as usize];
            totals.bytes += bytes;
            totals.busy_us += TICK_US;
            totals.cpu_us += TICK_US / 3;
            totals.writes.merge(&writes);
            totals.syncs.merge(&syncs);
            WorkerSample {
                worker,
                bytes,
                writes,
                syncs,
            }
        });
        Body::Sample(Sample {
            workers: workers.collect(),
            from_us: (tick - 1) * TICK_US,
            to_us: tick * TICK_US,
        })
    }

    fn rollover(&mut self, worker: u32) -> Body {
        let totals = &mut self.totals[worker as usize];
        totals.rollovers += 1;
        let number = totals.rollovers;
        let file = |number: u64| format!("/srv/storage/disk-{worker}/pinnace-{worker}-{number:06}");
        Body::Rollover(Rollover {
            worker,
            number,
            file: file(number),
            bytes: FILE_BYTES,
            file_us: ROLLOVER_TICKS * TICK_US,
            sync_us: 44_000,
            next_file: file(number + 1),
        })
    }

    fn stopped(&self) -> Body {
        Body::Stopped(Stopped {
            reason: StopReason::Completed,
            ran_us: self.ticks * TICK_US,
            workers: self.totals.clone(),
            promise_held: true,
            files_removed: u64::from(3 * WORKERS),
            files_left: 0,
            process_cpu_us: self.totals.iter().map(|totals| totals.cpu_us).sum(),
            peak_rss_bytes: 48 << 20,
        })
    }

    /// A latency around 7 ms: most within 20 % of it, one in sixteen up to four times as long.
    fn latency_ns(&mut self) -> u64 {
        let drawn = self.next();
        let usual = 6_000_000 + (drawn >> 8) % 1_500_000 + (drawn >> 32) % 1_500_000;
        if drawn & 15 == 0 {
            usual * (1 + (drawn >> 4) % 4)
        } else {
            usual
        }
    }

    /// xorshift64: the same for every run.
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

fn heartbeat() -> Body {
    let workers = (0..WORKERS).map(|worker| WorkerHeartbeat {
        worker,
        answered: true,
        after_us: 4_100,
        activity: Activity::Writing,
    });
    Body::Heartbeat(Heartbeat {
        workers: workers.collect(),
        disks: vec![DiskFree {
            path: "/srv/storage/disk-0".to_owned(),
            free_bytes: 2_000 * GIB,
            total_bytes: 4_000 * GIB,
        }],
        next_us: HEARTBEAT_TICKS * TICK_US,
    })
}

fn resources(tick: u64) -> Body {
    let workers = (0..WORKERS).map(|worker| WorkerResources {
        worker,
        thread: 4_000 + worker,
        state: "D".to_owned(),
        user_us: tick * 20_000,
        system_us: tick * 300_000,
        cpu_share: 0.32,
        buffer_bytes: CHUNK_BYTES,
        voluntary_switches: tick * 140,
        involuntary_switches: tick * 3,
    });
    Body::Resources(Resources {
        interval_us: RESOURCES_TICKS * TICK_US,
        rss_bytes: 40 << 20,
        buffer_bytes: u64::from(WORKERS) * CHUNK_BYTES,
        process_cpu_us: tick * 640_000,
        workers: workers.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_tells_what_a_real_one_would() {
        let mut script = Script::new(3, 60);
        let mut kinds = std::collections::BTreeMap::<&str, u32>::new();
        for tick in 0..=60 {
            for body in script.at(tick) {
                *kinds.entry(body.kind()).or_default() += 1;
                if let Body::Sample(sample) = &body {
                    let buckets = sample.workers[0].writes.buckets().count();
                    assert!((30..=80).contains(&buckets), "{buckets} buckets");
                }
            }
        }
        let expected = [
            ("heartbeat", 12),
            ("resources", 6),
            ("rollover", 16),
            ("sample", 60),
            ("started", 1),
            ("stopped", 1),
        ];
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_run_tells_the_same() {
        let tell = |number| {
            (0..5)
                .flat_map(|tick| Script::new(number, 9).at(tick))
                .collect::<Vec<_>>()
        };
        assert_eq!(tell(1), tell(1));
        assert_ne!(tell(1), tell(2));
    }
}
