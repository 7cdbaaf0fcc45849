//! Totals, coverage, percentiles and time lines follow from the record.

use pinnace_proto::Histogram;
use pinnace_proto::event::{Body, StopReason};
use pinnace_proto::run::ClientState;
use pinnace_report::{FigureSource, Gap, PromiseOutcome, summarize};

use crate::built::{MIB, OPENED_US, Plan, SECOND, run};

#[test]
fn coverage_counts_each_client_up_to_its_end() {
    let lost = Plan::named("lost").with(|plan| plan.dies_us = Some(5 * SECOND));
    let short = Plan::named("short").with(|plan| plan.job.run_time_us = 10 * SECOND);
    for (plans, planned_s, reported_s) in [
        (vec![], 0, 0),
        (vec![Plan::named("a")], 20, 20),
        (vec![Plan::named("a"), lost.clone()], 40, 25),
        (vec![Plan::named("a"), lost.clone(), short], 50, 35),
        (vec![lost], 20, 5),
    ] {
        let coverage = summarize(&run(&plans)).coverage;
        assert_eq!(coverage.planned_us, planned_s * SECOND);
        assert_eq!(coverage.reported_us, reported_s * SECOND);
        let share = (planned_s > 0).then(|| reported_s as f64 / planned_s as f64);
        assert_eq!(coverage.share, share);
    }
}

#[test]
fn an_interrupted_client_covers_what_it_did_and_a_running_one_what_it_told() {
    let mut record = run(&[Plan::named("a").with(|plan| plan.reason = StopReason::Interrupted)]);
    for event in &mut record.clients[0].events {
        if let Body::Stopped(stopped) = &mut event.body {
            stopped.ran_us = 7 * SECOND;
        }
    }
    assert_eq!(summarize(&record).coverage.reported_us, 7 * SECOND);
    record.clients[0].state = ClientState::Running;
    record.clients[0]
        .events
        .retain(|event| event.elapsed_us <= 3 * SECOND);
    assert_eq!(summarize(&record).coverage.reported_us, 3 * SECOND);
}

#[test]
fn totals_are_the_final_word_or_else_the_samples() {
    let whole = summarize(&run(&[Plan::named("a")]));
    assert_eq!(whole.clients[0].workers[0].source, FigureSource::Stopped);
    assert_eq!(whole.totals.bytes, 20 * 64 * MIB);
    assert_eq!(whole.totals.rollovers, 10);
    assert_eq!(whole.totals.bytes_per_second, Some(64.0 * MIB as f64));

    let dead = Plan::named("a").with(|plan| plan.dies_us = Some(6 * SECOND));
    let dead = summarize(&run(&[dead]));
    assert_eq!(dead.clients[0].workers[0].source, FigureSource::Samples);
    assert_eq!(dead.totals.bytes, 6 * 64 * MIB);
    assert_eq!(dead.totals.writes, 6 * 64);
    assert_eq!((dead.totals.rollovers, dead.totals.syncs), (3, 3));
}

#[test]
fn a_worker_without_a_final_word_is_counted_by_its_samples() {
    let two = Plan::named("a").with(|plan| {
        let second = plan.job.workers[0].clone();
        plan.job.workers.push(second);
    });
    let mut record = run(&[two]);
    for event in &mut record.clients[0].events {
        if let Body::Stopped(stopped) = &mut event.body {
            stopped.workers[1].answered = false;
            stopped.workers[1].bytes = 1;
        }
    }
    let summary = summarize(&record);
    let sources: Vec<FigureSource> = summary.clients[0]
        .workers
        .iter()
        .map(|worker| worker.source)
        .collect();
    assert_eq!(sources, [FigureSource::Stopped, FigureSource::Samples]);
    assert_eq!(summary.totals.bytes, 2 * 20 * 64 * MIB);
}

#[test]
fn percentiles_of_the_run_are_those_of_one_merged_histogram() {
    let fast = Plan::named("fast").with(|plan| plan.write_us = 100);
    let slow = Plan::named("slow").with(|plan| plan.write_us = 40_000);
    let record = run(&[fast, slow]);
    let mut merged = Histogram::default();
    for event in record.clients.iter().flat_map(|client| &client.events) {
        if let Body::Sample(sample) = &event.body {
            sample
                .workers
                .iter()
                .for_each(|worker| merged.merge(&worker.writes));
        }
    }
    let summary = summarize(&record);
    for (name, quantile, value) in summary.writes.columns() {
        let exact = if name == "max" {
            merged.max_ns()
        } else {
            merged.quantile_ns(quantile)
        };
        assert_eq!(value, exact, "{name}");
    }
    // A mean of the clients' percentiles would be something else entirely.
    let p99 = |place: usize| summary.clients[place].writes.p99_ns.unwrap();
    assert_ne!(summary.writes.p99_ns, Some(u64::midpoint(p99(0), p99(1))));
}

#[test]
fn the_common_window_is_where_everyone_worked() {
    let late = Plan::named("late").with(|plan| plan.starts_us = 2 * SECOND);
    let dead = Plan::named("dead").with(|plan| plan.dies_us = Some(10 * SECOND));
    let summary = summarize(&run(&[Plan::named("a"), late.clone(), dead]));
    let window = summary.totals.common_window.unwrap();
    assert_eq!((window.from_us, window.to_us), (2 * SECOND, 10 * SECOND));
    assert_eq!(window.bytes, 3 * 8 * 64 * MIB);
    assert_eq!(summary.totals.start_skew_us, 2 * SECOND);
    assert_eq!(summary.totals.duration_us, 22 * SECOND);
    assert_eq!(summary.totals.first_end_us, Some(10 * SECOND));

    let apart = late.with(|plan| plan.starts_us = 60 * SECOND);
    let summary = summarize(&run(&[Plan::named("a"), apart]));
    assert_eq!(summary.totals.common_window, None);
}

#[test]
fn the_time_line_has_the_rates_the_gaps_and_the_loss() {
    let silent = Plan::named("a").with(|plan| plan.silent = 4..8);
    let lost = Plan::named("b").with(|plan| plan.dies_us = Some(12 * SECOND));
    let summary = summarize(&run(&[silent, lost]));
    let rates = &summary.clients[0].series.bytes_per_second;
    assert_eq!(rates.len(), 20);
    assert_eq!(
        (rates[3], rates[4], rates[8]),
        (Some(64 * MIB), None, Some(64 * MIB))
    );
    let gap = |from, to| Gap {
        from_us: from * SECOND,
        to_us: to * SECOND,
    };
    assert_eq!(summary.clients[0].gaps, [gap(4, 8)]);
    assert_eq!(summary.clients[1].gaps, [gap(12, 20)]);
    assert_eq!(summary.clients[1].lost.unwrap().at_us, 12 * SECOND);
    assert_eq!(summary.series.bytes_per_second[3], Some(128 * MIB));
    assert_eq!(summary.series.bytes_per_second[13], Some(64 * MIB));
    let marks = &summary.clients[0].rollover_marks;
    assert_eq!((marks.len(), marks[0].at_us), (10, 2 * SECOND));
}

#[test]
fn starts_follow_the_clients_clock_only_while_it_can_be() {
    for (starts_us, expected_us, by_server) in
        [(1_500_000, 1_500_000, false), (3_600 * SECOND, 0, true)]
    {
        let mut record = run(&[Plan::named("a"), Plan::named("b")]);
        let client = &mut record.clients[1];
        client
            .events
            .iter_mut()
            .for_each(|event| event.at_us += starts_us);
        if !by_server {
            client.last_heard_us += starts_us;
        }
        let summary = summarize(&record);
        let b = &summary.clients[1];
        assert_eq!(b.integrity.start_by_server_clock, by_server, "{starts_us}");
        assert!(b.start_us.abs_diff(expected_us) < 1_000, "{}", b.start_us);
        assert_eq!(summary.started_us, Some(OPENED_US));
    }
}

#[test]
fn heartbeats_are_asked_answered_missed_and_absent() {
    let two = Plan::named("a").with(|plan| {
        let second = plan.job.workers[0].clone();
        plan.job.workers.push(second);
        plan.deaf = 5..11;
    });
    let lost = Plan::named("b").with(|plan| plan.dies_us = Some(6 * SECOND));
    let summary = summarize(&run(&[two, lost]));
    let beats = &summary.clients[0].heartbeats;
    assert_eq!((beats.received, beats.absent), (4, 0));
    assert_eq!((beats.asked, beats.answered, beats.missed), (8, 6, 2));
    assert_eq!(summary.clients[0].workers[0].heartbeats_missed, 2);
    assert_eq!(summary.clients[1].heartbeats.received, 1);
    assert_eq!(summary.clients[1].heartbeats.absent, 2);
}

#[test]
fn cpu_and_memory_are_those_of_the_final_word_or_of_what_was_seen() {
    let summary = summarize(&run(&[
        Plan::named("a").with(|plan| plan.cpu_share = 0.4),
        Plan::named("b").with(|plan| {
            plan.cpu_share = 0.7;
            plan.dies_us = Some(9 * SECOND);
        }),
    ]));
    for (client, share) in [(0, 0.4), (1, 0.7)] {
        let worker = &summary.clients[client].workers[0];
        assert!(
            (worker.cpu_share.unwrap() - share).abs() < 0.01,
            "{worker:?}"
        );
        assert_eq!(worker.buffer_bytes, Some(2 * MIB));
    }
    assert_eq!(summary.clients[0].process.peak_rss_bytes, Some(26 * MIB));
    assert!(summary.clients[1].process.cpu_us.is_some());
}

#[test]
fn the_promise_is_judged_by_the_worker_with_the_fewest_rollovers() {
    let large = |mib: u64| Plan::named("a").with(|plan| plan.job.workers[0].file_bytes = mib * MIB);
    for (plan, outcome, fewest) in [
        (large(640), PromiseOutcome::Held, 2),
        (large(641), PromiseOutcome::Missed, 1),
        (large(2_000), PromiseOutcome::Missed, 0),
    ] {
        let promise = summarize(&run(&[Plan::named("b"), plan])).promise;
        assert_eq!(
            (promise.outcome, promise.happened_min),
            (outcome, Some(fewest))
        );
    }
    let mut open = run(&[large(2_000)]);
    open.clients[0].state = ClientState::Running;
    open.clients[0].events.pop();
    assert_eq!(summarize(&open).promise.outcome, PromiseOutcome::Open);
    assert_eq!(
        summarize(&run(&[])).promise.outcome,
        PromiseOutcome::Unknown
    );
}
