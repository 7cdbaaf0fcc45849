//! Runs on which nothing goes wrong, and runs that are ended early.

use std::collections::HashSet;

use pinnace_bench::{Stop, host_facts, run};
use pinnace_proto::event::{Activity, Body, StopReason, WorkerTotals};
use pinnace_proto::job::{Engine, MinFree};

use crate::bed::{Bed, HANGS, KIB, MIB};

#[test]
fn three_workers_roll_over_and_leave_nothing_behind() {
    let bed = Bed::new(
        &[(64 * KIB, MIB), (128 * KIB, MIB), (256 * KIB, MIB)],
        1_500,
    );
    let run = bed.run(vec![]);
    let stopped = &run.outcome.stopped;
    assert_eq!(
        (stopped.reason, run.outcome.errors),
        (StopReason::Completed, 0)
    );
    assert!(stopped.promise_held, "{stopped:?}");
    run.assert_sums(&bed.job);
    for worker in &stopped.workers {
        assert!(worker.answered && worker.rollovers >= 2 && worker.busy_us > 0);
        assert!(worker.busy_us <= stopped.ran_us);
    }
    assert!(stopped.process_cpu_us > 0 && stopped.peak_rss_bytes > 0);
    assert!(
        (3..=9).contains(&stopped.files_removed),
        "{}",
        stopped.files_removed
    );
    assert_eq!((stopped.files_left, bed.files().len()), (0, 0));
    // On time: what was under way at the deadline is finished, nothing else is begun.
    let late_us = stopped.ran_us - bed.job.run_time_us;
    let longest = |w: &WorkerTotals| w.writes.max_ns().max(w.syncs.max_ns()).unwrap_or(0) / 1_000;
    let under_way_us = stopped.workers.iter().map(longest).max().unwrap();
    assert!(late_us < under_way_us + 250_000, "{late_us} µs late");
    assert!(run.resources().len() >= 2 && run.heartbeats().len() >= 2 && run.samples().len() >= 5);
}

#[test]
fn rollovers_name_the_files_in_order() {
    let bed = Bed::new(&[(64 * KIB, MIB)], 60_000);
    let running = bed.start(vec![]);
    running.wait_for_rollover(0, 3);
    let run = running.interrupt();
    let rollovers = run.rollovers();
    assert!(rollovers.len() >= 2);
    for (index, rollover) in rollovers.iter().enumerate() {
        assert_eq!(rollover.number, index as u64 + 1);
        assert_eq!(rollover.bytes, MIB);
        assert!(rollover.file_us >= rollover.sync_us && rollover.sync_us > 0);
        let plan = bed.plan();
        assert_eq!(
            rollover.file,
            plan.data_file(0, rollover.number).to_str().unwrap()
        );
        assert_eq!(
            rollover.next_file,
            plan.data_file(0, rollover.number + 1).to_str().unwrap()
        );
    }
}

#[test]
fn the_newest_two_finished_files_are_kept_while_running() {
    // The pace leaves time to look at the directory between two rollovers.
    let mut bed = Bed::new(&[(64 * KIB, 256 * KIB)], 30_000);
    bed.job.rate_bytes_per_second = Some(2 * MIB);
    let running = bed.start(vec![]);
    running.wait_for_rollover(0, 4);
    // The sample is taken after the worker went on from the rollover.
    running.wait_for(|body| matches!(body, Body::Sample(_)));
    running.wait_for(|body| matches!(body, Body::Sample(_)));
    let files = bed.files();
    let run = running.interrupt();
    assert!((2..=3).contains(&files.len()), "{files:?}");
    assert!(!files.contains("pinnace-c-0-1.dat"), "{files:?}");
    assert!(run.outcome.stopped.files_removed >= 2 && bed.files().is_empty());
}

#[test]
fn no_two_sectors_of_a_run_are_equal() {
    let mut bed = Bed::new(&[(64 * KIB, 512 * KIB), (20_480, 512 * KIB)], 60_000);
    bed.job.keep_files = true;
    let running = bed.start(vec![]);
    running.wait_for_rollover(0, 4);
    running.wait_for_rollover(1, 4);
    let run = running.interrupt();
    let names = bed.files();
    assert_eq!(run.outcome.stopped.files_left, names.len() as u64);
    assert_eq!(run.outcome.stopped.files_removed, 0);
    let mut seen = HashSet::new();
    for name in &names {
        for sector in std::fs::read(bed.dir.path().join(name))
            .unwrap()
            .chunks(4096)
        {
            assert!(seen.insert(sector.to_vec()), "{name} repeats a sector");
        }
    }
    assert!(
        names.len() >= 4 && seen.len() >= 4 * 128,
        "{} sectors in {names:?}",
        seen.len()
    );
}

#[test]
fn a_last_chunk_may_be_shorter() {
    let bed = Bed::new(&[(100_000, 250_000)], 60_000);
    let running = bed.start(vec![]);
    running.wait_for_rollover(0, 2);
    let run = running.interrupt();
    run.assert_sums(&bed.job);
    assert!(
        run.rollovers()
            .iter()
            .all(|rollover| rollover.bytes == 250_000)
    );
}

#[test]
fn direct_io_writes_or_says_why_not() {
    let mut bed = Bed::new(&[(64 * KIB, 256 * KIB)], 300);
    bed.job.direct = true;
    let run = bed.run(vec![]);
    match run.outcome.stopped.reason {
        StopReason::Completed => run.assert_sums(&bed.job),
        reason => {
            assert_eq!(reason, StopReason::Failed);
            assert!(
                run.errors()[0].message.contains("O_DIRECT"),
                "{:?}",
                run.errors()
            );
        }
    }
    assert!(bed.files().is_empty());
}

#[test]
fn an_interrupt_ends_the_run_at_once_even_while_pacing() {
    let mut bed = Bed::new(&[(MIB, 8 * MIB), (MIB, 8 * MIB)], 3_600_000);
    bed.job.rate_bytes_per_second = Some(1024);
    let running = bed.start(vec![]);
    let is_pacing = |body: &Body| match body {
        Body::Heartbeat(beat) => beat.workers.iter().all(|w| w.activity == Activity::Pacing),
        _ => false,
    };
    let beat = running.wait_for(is_pacing);
    let Body::Heartbeat(heartbeat) = beat.body else {
        unreachable!()
    };
    assert!(
        heartbeat.workers.iter().all(|w| w.answered),
        "a pacing worker answers: {heartbeat:?}"
    );
    let run = running.interrupt();
    let stopped = &run.outcome.stopped;
    assert_eq!(stopped.reason, StopReason::Interrupted);
    assert!(!stopped.promise_held);
    assert!(stopped.workers.iter().all(|w| w.answered && w.bytes == MIB));
    assert!(
        stopped.ran_us - beat.elapsed_us < 1_000_000,
        "took {} µs",
        stopped.ran_us
    );
    assert!(bed.files().is_empty());
    assert!(HANGS.as_micros() as u64 > stopped.ran_us);
}

#[test]
fn a_stop_before_the_start_writes_next_to_nothing() {
    let bed = Bed::new(&[(64 * KIB, MIB)], 60_000);
    let stop = Stop::new();
    stop.request(StopReason::Interrupted);
    let outcome = run(&bed.plan(), "x", &mut |_| {}, &stop);
    assert_eq!(outcome.stopped.reason, StopReason::Interrupted);
    assert_eq!(outcome.stopped.workers[0].bytes, 0);
    assert!(bed.files().is_empty());
}

#[test]
fn the_pace_is_held() {
    let mut bed = Bed::new(&[(32 * KIB, MIB), (64 * KIB, 4 * MIB)], 1_000);
    bed.job.rate_bytes_per_second = Some(8 * MIB);
    // A stall of the disk is not made up for, so the rate is only exact where there is none.
    bed.job.engine = Engine::Null;
    let run = bed.run(vec![]);
    let stopped = &run.outcome.stopped;
    for worker in &stopped.workers {
        let rate = worker.bytes as f64 / (stopped.ran_us as f64 / 1e6);
        let off = rate / (8.0 * MIB as f64) - 1.0;
        assert!(
            off.abs() < 0.05,
            "worker {} is {:.1} % off",
            worker.worker,
            off * 100.0
        );
        let waited = stopped.ran_us - worker.busy_us;
        assert!(
            waited > stopped.ran_us / 5,
            "waiting is not in the latencies"
        );
    }
    run.assert_sums(&bed.job);
}

#[test]
fn the_floor_of_free_space_ends_the_run() {
    let mut bed = Bed::new(&[(64 * KIB, MIB)], 60_000);
    bed.job.rate_bytes_per_second = Some(MIB);
    let mut plan = bed.plan();
    // Planned with room, then the disk fills up: the floor is raised under the run.
    plan.set_floor(u64::MAX);
    let mut errors = Vec::new();
    let mut sink = |report: pinnace_bench::Report| {
        if let Body::Error(error) = report.body {
            errors.push(error);
        }
    };
    let outcome = run(&plan, "x", &mut sink, &Stop::new());
    assert_eq!(outcome.stopped.reason, StopReason::DiskFull);
    assert!(
        errors[0].message.contains("less than the floor"),
        "{errors:?}"
    );
    assert!(outcome.stopped.ran_us < 5_000_000 && bed.files().is_empty());
    bed.job.min_free = MinFree::Percent(100.0);
    assert!(pinnace_bench::plan(&bed.job, "c").is_err());
}

#[test]
fn files_left_by_a_killed_run_are_replaced() {
    let bed = Bed::new(&[(64 * KIB, 256 * KIB)], 60_000);
    for number in 1..=3 {
        std::fs::write(bed.plan().data_file(0, number), vec![1; 1 << 20]).unwrap();
    }
    let running = bed.start(vec![]);
    running.wait_for_rollover(0, 3);
    let run = running.interrupt();
    assert_eq!(run.outcome.errors, 0);
    assert!(bed.files().is_empty());
}

#[test]
fn the_null_engine_counts_and_makes_no_files() {
    let mut bed = Bed::new(&[(MIB, 1024 * MIB)], 200);
    bed.job.engine = Engine::Null;
    let run = bed.run(vec![]);
    run.assert_sums(&bed.job);
    let stopped = &run.outcome.stopped;
    assert!(stopped.workers[0].bytes > MIB);
    assert_eq!((stopped.files_removed, stopped.files_left), (0, 0));
    assert_eq!(stopped.reason, StopReason::Completed);
}

#[test]
fn the_started_body_carries_job_machine_and_paths() {
    let bed = Bed::new(&[(64 * KIB, MIB), (64 * KIB, MIB)], 100);
    let started = bed.plan().started(host_facts(), vec![]);
    assert_eq!(started.job, bed.job);
    assert_eq!(started.paths.len(), 2);
    assert!(started.paths[0].file_system.is_some() && !started.host.hostname.is_empty());
}
