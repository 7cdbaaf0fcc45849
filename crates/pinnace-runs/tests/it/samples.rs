//! Events as a small client would send them.

use pinnace_proto::event::{
    Body, Heartbeat, Lost, LostReason, SERVER_INSTANCE, Sample, Started, StopReason, Stopped,
    WorkerSample, WorkerTotals,
};
use pinnace_proto::host::HostFacts;
use pinnace_proto::job::{Engine, Job, MinFree, WorkerJob};
use pinnace_proto::{Event, Histogram};
use pinnace_runs::Received;

pub const INSTANCE: &str = "0123456789abcdef";

pub fn received(run: &str, client: &str, instance: &str, n: u64, body: Body) -> Received {
    let event = Event {
        v: 1,
        run: run.into(),
        client: client.into(),
        instance: instance.into(),
        n,
        at_us: 1_000_000 * n,
        elapsed_us: 1_000_000 * n,
        body,
    };
    let document = serde_json::to_string(&event).unwrap();
    Received {
        received_us: 5_000_000 + n,
        event,
        document,
    }
}

pub fn of(run: &str, client: &str, n: u64, body: Body) -> Received {
    received(run, client, INSTANCE, n, body)
}

pub fn lost(run: &str, client: &str, n: u64) -> Received {
    let body = Body::Lost(Lost {
        reason: LostReason::Connection,
        last_heard_us: 1,
    });
    received(run, client, SERVER_INSTANCE, n, body)
}

pub fn started() -> Body {
    Body::Started(Started {
        job: Job {
            v: 1,
            name: "nightly".into(),
            solution: "nvme".into(),
            run_time_us: 10_000_000,
            heartbeat_us: 5_000_000,
            monitor_us: 10_000_000,
            sample_us: 1_000_000,
            min_free: MinFree::Percent(5.0),
            engine: Engine::Psync,
            direct: false,
            keep_files: false,
            force: false,
            rate_bytes_per_second: None,
            workers: vec![WorkerJob {
                path: "/mnt/a".into(),
                chunk_bytes: 10,
                file_bytes: 100,
            }],
        },
        host: HostFacts::default(),
        paths: vec![],
        calibration: vec![],
    })
}

pub fn sample(bytes: u64) -> Body {
    let mut writes = Histogram::default();
    writes.record(bytes);
    let worker = WorkerSample {
        worker: 0,
        bytes,
        writes,
        syncs: Histogram::default(),
    };
    Body::Sample(Sample {
        from_us: 0,
        to_us: 1_000_000,
        workers: vec![worker],
    })
}

pub fn heartbeat() -> Body {
    Body::Heartbeat(Heartbeat {
        workers: vec![],
        disks: vec![],
        next_us: 5_000_000,
    })
}

pub fn stopped(bytes: u64, reason: StopReason) -> Body {
    Body::Stopped(Stopped {
        reason,
        ran_us: 10_000_000,
        workers: vec![WorkerTotals {
            worker: 0,
            answered: true,
            bytes,
            rollovers: 2,
            busy_us: 9,
            cpu_us: 3,
            writes: Histogram::default(),
            syncs: Histogram::default(),
        }],
        promise_held: true,
        files_removed: 3,
        files_left: 0,
        process_cpu_us: 5,
        peak_rss_bytes: 6,
    })
}
