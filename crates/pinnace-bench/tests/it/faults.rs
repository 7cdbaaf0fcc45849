//! Runs on which storage fails: full disks, broken writes, writes that hang, panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pinnace_bench::device::twin::{Fault, Gate};
use pinnace_bench::{Report, Stop, run};
use pinnace_proto::event::{Activity, Body, StopReason};

use crate::bed::{Bed, KIB, MIB, Run};

const TWO: [(u64, u64); 2] = [(64 * KIB, MIB), (64 * KIB, MIB)];

/// One of two workers fails; the other works on to the end.
#[track_caller]
fn check_one_fails(fault: Fault, operation: &str, message: &str) -> Run {
    let bed = Bed::new(&TWO, 60_000);
    let running = bed.start(vec![(1, fault)]);
    running.wait_for(|body| matches!(body, Body::Error(_)));
    running.wait_for_rollover(0, 4);
    running.wait_for(|body| match body {
        Body::Heartbeat(beat) => {
            beat.workers[0].answered && beat.workers[1].activity == Activity::Ended
        }
        _ => false,
    });
    let run = running.interrupt();
    let stopped = &run.outcome.stopped;
    assert_eq!(
        stopped.reason,
        StopReason::Interrupted,
        "the other worked on"
    );
    let errors = run.errors();
    assert_eq!((errors.len(), run.outcome.errors), (1, 1), "{errors:?}");
    assert_eq!(
        (errors[0].worker, errors[0].operation.as_str()),
        (Some(1), operation)
    );
    assert!(errors[0].message.contains(message), "{errors:?}");
    assert!(stopped.workers[0].rollovers > stopped.workers[1].rollovers);
    assert!(stopped.workers.iter().all(|worker| worker.answered) && !stopped.promise_held);
    let last = run.heartbeats().last().unwrap().workers.clone();
    assert_eq!(
        (last[1].answered, last[1].activity),
        (false, Activity::Ended)
    );
    assert!(bed.files().is_empty(), "{:?}", bed.files());
    run
}

#[test]
fn a_failing_write_ends_its_worker_only() {
    let run = check_one_fails(Fault::WriteFails(20), "write", "os error 5");
    assert_eq!(run.outcome.stopped.workers[1].bytes, 19 * 64 * KIB);
    assert_eq!(run.outcome.stopped.workers[1].rollovers, 1);
    assert_eq!(
        run.errors()[0].path.as_deref().unwrap().rsplit('/').next(),
        Some("pinnace-c-1-2.dat")
    );
}

#[test]
fn a_failing_sync_ends_its_worker_only() {
    let run = check_one_fails(Fault::SyncFails(2), "sync", "os error 5");
    assert_eq!(run.outcome.stopped.workers[1].rollovers, 1);
}

#[test]
fn a_panic_ends_its_worker_only() {
    check_one_fails(Fault::Panics(5), "run", "panicked");
}

#[test]
fn a_full_disk_stops_the_whole_run() {
    let bed = Bed::new(&TWO, 60_000);
    let run = bed.run(vec![(0, Fault::FullAfter(5 * MIB + 1))]);
    let stopped = &run.outcome.stopped;
    assert_eq!(stopped.reason, StopReason::DiskFull);
    assert_eq!(stopped.workers[0].bytes, 5 * MIB);
    assert_eq!(run.errors()[0].operation, "write");
    assert!(stopped.workers.iter().all(|worker| worker.answered));
    assert!(stopped.ran_us < 20_000_000);
    assert!(bed.files().is_empty());
    run.assert_sums(&bed.job);
}

#[test]
fn a_run_of_which_every_worker_failed_has_failed() {
    let bed = Bed::new(&TWO, 60_000);
    let run = bed.run(vec![(0, Fault::WriteFails(1)), (1, Fault::WriteFails(3))]);
    assert_eq!(run.outcome.stopped.reason, StopReason::Failed);
    assert_eq!(run.errors().len(), 2);
    assert!(bed.files().is_empty());
}

#[test]
fn something_in_the_way_fails_at_open() {
    let bed = Bed::new(&[TWO[0]], 60_000);
    std::fs::create_dir(bed.plan().data_file(0, 1)).unwrap();
    let run = bed.run(vec![]);
    assert_eq!(run.outcome.stopped.reason, StopReason::Failed);
    assert_eq!(run.errors()[0].operation, "open");
    assert_eq!(bed.files().len(), 1, "what is not ours stays");
}

#[test]
fn short_writes_are_continued_and_count_once() {
    let bed = Bed::new(&[(64 * KIB, MIB)], 60_000);
    let running = bed.start(vec![(0, Fault::ShortWrites(10_000))]);
    running.wait_for_rollover(0, 2);
    let run = running.interrupt();
    assert_eq!(run.outcome.errors, 0);
    run.assert_sums(&bed.job);
}

#[test]
fn a_stuck_worker_is_reported_and_comes_back() {
    let mut bed = Bed::new(&TWO, 60_000);
    bed.job.rate_bytes_per_second = Some(4 * MIB);
    let gate = Gate::default();
    let running = bed.start(vec![(1, Fault::WriteHangs(5, gate.clone()))]);
    let heartbeat_of = |body: &Body, answered: bool| match body {
        Body::Heartbeat(beat) => beat.workers[1].answered == answered,
        _ => false,
    };
    let stuck = running.wait_for(|body| heartbeat_of(body, false));
    let Body::Heartbeat(beat) = stuck.body else {
        unreachable!()
    };
    assert_eq!(beat.workers[1].activity, Activity::Writing);
    assert!(beat.workers[1].after_us >= 50_000, "{beat:?}");
    assert!(beat.workers[0].answered && beat.workers[0].after_us < 50_000);
    assert!(beat.disks[0].free_bytes > 0 && beat.disks.len() == 1 && beat.next_us <= 100_000);
    let sample = running.wait_for(|body| matches!(body, Body::Sample(_)));
    let Body::Sample(sample) = sample.body else {
        unreachable!()
    };
    assert_eq!(
        sample.workers[1].writes.count(),
        0,
        "nothing is known of a stuck worker"
    );
    gate.open();
    running.wait_for(|body| heartbeat_of(body, true));
    running.stop.request(StopReason::Interrupted);
    let run = running.finish();
    assert!(
        run.outcome
            .stopped
            .workers
            .iter()
            .all(|worker| worker.answered)
    );
    assert!(bed.files().is_empty());
}

#[test]
fn a_worker_that_never_returns_does_not_hold_the_run_up() {
    let mut bed = Bed::new(&TWO, 300);
    bed.stuck_grace_us = Some(200_000);
    let gate = Gate::default();
    let running = bed.start(vec![(1, Fault::WriteHangs(40, gate.clone()))]);
    let run = running.finish();
    let stopped = &run.outcome.stopped;
    assert_eq!(stopped.reason, StopReason::Completed);
    assert!(stopped.workers[0].answered && !stopped.workers[1].answered);
    assert!(stopped.ran_us >= 500_000 && stopped.ran_us < 3_000_000);
    // What it had handed over before it hung is kept: at most all 39 writes.
    let last_known = stopped.workers[1].writes.count();
    assert!(
        last_known <= 39 && stopped.workers[1].rollovers == 2,
        "{last_known}"
    );
    assert_eq!(stopped.files_left, 0);
    assert!(
        bed.files().is_empty(),
        "its open file is removed from under it"
    );
    gate.open();
}

#[test]
fn a_sink_that_panics_still_leaves_nothing_behind() {
    let bed = Bed::new(&TWO, 60_000);
    let stop = Stop::new();
    let mut sink = |report: Report| assert!(!matches!(report.body, Body::Rollover(_)), "asked to");
    let result = catch_unwind(AssertUnwindSafe(|| run(&bed.plan(), "x", &mut sink, &stop)));
    assert!(result.is_err() && stop.is_requested());
    assert!(bed.files().is_empty(), "{:?}", bed.files());
}

#[test]
fn a_device_that_cannot_be_made_fails_its_worker_only() {
    let bed = Bed::new(&TWO, 60_000);
    let running = bed.start(vec![(0, Fault::CannotBeMade)]);
    running.wait_for_rollover(1, 2);
    let run = running.interrupt();
    assert_eq!(run.errors()[0].worker, Some(0));
    assert_eq!(run.outcome.stopped.workers[0].bytes, 0);
    assert!(run.outcome.stopped.workers[1].bytes >= 2 * MIB);
}
