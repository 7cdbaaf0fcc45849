//! One worker, run by hand: `rollover PATH CHUNK FILE SECONDS [null]`, then one line of bytes,
//! seconds and CPU. It is what the engine's own cost is measured with.

#![allow(clippy::print_stdout, reason = "the line it prints is what it is for")]

use std::error::Error;

use pinnace_bench::{Stop, plan, run};
use pinnace_proto::job::{Engine, Job, MinFree, WorkerJob};
use pinnace_proto::units::{parse_duration, parse_size};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, chunk, file, seconds, rest @ ..] = arguments.as_slice() else {
        return Err("usage: rollover PATH CHUNK FILE SECONDS [null]".into());
    };
    let second = 1_000_000;
    let job = Job {
        v: 1,
        name: "rollover".to_owned(),
        solution: String::new(),
        run_time_us: u64::try_from(parse_duration(seconds)?.as_micros())?,
        heartbeat_us: 5 * second,
        monitor_us: 10 * second,
        sample_us: second,
        min_free: MinFree::Percent(5.0),
        engine: if rest.first().is_some_and(|word| word == "null") {
            Engine::Null
        } else {
            Engine::Psync
        },
        direct: rest.first().is_some_and(|word| word == "direct"),
        keep_files: false,
        force: true,
        rate_bytes_per_second: None,
        workers: vec![WorkerJob {
            path: path.clone(),
            chunk_bytes: parse_size(chunk)?,
            file_bytes: parse_size(file)?,
        }],
    };
    let plan = plan(&job, "example")?;
    let stopped = run(&plan, "example", &mut |_| {}, &Stop::new()).stopped;
    let worker = &stopped.workers[0];
    let gib = worker.bytes as f64 / (1u64 << 30) as f64;
    let seconds = stopped.ran_us as f64 / 1e6;
    let (worker_cpu, cpu) = (
        worker.cpu_us as f64 / 1e6,
        stopped.process_cpu_us as f64 / 1e6,
    );
    println!(
        "{gib:.3} GiB in {seconds:.3} s: {:.3} GiB/s, worker CPU {:.4} s/GiB, process CPU {:.4} s/GiB, \
         p50 {} µs, p99 {} µs, {} rollovers",
        gib / seconds,
        worker_cpu / gib,
        cpu / gib,
        worker.writes.quantile_ns(0.5).unwrap_or(0) / 1000,
        worker.writes.quantile_ns(0.99).unwrap_or(0) / 1000,
        worker.rollovers,
    );
    Ok(())
}
