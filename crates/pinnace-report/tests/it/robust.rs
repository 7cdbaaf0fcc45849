//! Broken, odd and huge records give a summary and every rendering of it.

use pinnace_proto::Histogram;
use pinnace_proto::event::{Body, Sample, WorkerSample};
use pinnace_proto::run::{ClientState, RunRecord};
use pinnace_report::{csv, csv_samples, html, summarize, text};

use crate::built::{Plan, SECOND, run};

fn usual() -> RunRecord {
    run(&[
        Plan::named("a"),
        Plan::named("b").with(|plan| plan.dies_us = Some(7 * SECOND)),
    ])
}

/// Everything that can be made of a record, and that the JSON reads back as it was.
fn render(record: &RunRecord) {
    let summary = summarize(record);
    let json = serde_json::to_string(&summary).unwrap();
    let read: pinnace_report::Summary = serde_json::from_str(&json).unwrap();
    assert_eq!(read.totals.bytes, summary.totals.bytes);
    assert_eq!(read.warnings, summary.warnings);
    assert!(html(&[summary.clone(), summary.clone()], 0).ends_with("</html>\n"));
    assert!(!text(&summary, 80, true).is_empty());
    assert!(csv(&summary).contains("\r\n") && csv_samples(record).contains("\r\n"));
}

#[test]
fn every_record_with_a_kind_of_event_missing_doubled_or_reversed() {
    let kinds = [
        "started",
        "heartbeat",
        "resources",
        "sample",
        "rollover",
        "error",
        "stopped",
        "lost",
    ];
    for kind in kinds {
        let (mut without, mut only, mut doubled) = (usual(), usual(), usual());
        for client in &mut without.clients {
            client.events.retain(|event| event.body.kind() != kind);
        }
        for client in &mut only.clients {
            client.events.retain(|event| event.body.kind() == kind);
        }
        for client in &mut doubled.clients {
            let again: Vec<_> = client.events.clone();
            client
                .events
                .extend(again.into_iter().filter(|event| event.body.kind() == kind));
            client.events.reverse();
        }
        [without, only, doubled].iter().for_each(render);
    }
}

#[test]
fn a_doubled_record_comes_to_the_same_figures() {
    let mut doubled = usual();
    for client in &mut doubled.clients {
        let again = client.events.clone();
        client.events.extend(again);
    }
    let (once, twice) = (summarize(&usual()), summarize(&doubled));
    assert_eq!(once.totals, twice.totals);
    assert_eq!(once.coverage, twice.coverage);
    assert_eq!(once.writes, twice.writes);
}

#[test]
fn empty_runs_in_every_state() {
    render(&run(&[]));
    for state in [
        ClientState::Running,
        ClientState::Stopped,
        ClientState::Lost,
    ] {
        let mut record = usual();
        for client in &mut record.clients {
            client.events.clear();
            client.state = state;
        }
        render(&record);
    }
}

#[test]
fn times_and_figures_at_the_edge_of_their_types() {
    for value in [0, 1, u64::MAX / 2, u64::MAX] {
        let mut record = usual();
        record.run.opened_us = value;
        for client in &mut record.clients {
            client.last_heard_us = value;
            for event in &mut client.events {
                (event.at_us, event.elapsed_us) = (value, value);
                match &mut event.body {
                    Body::Started(started) => {
                        started.job.run_time_us = value;
                        started.job.sample_us = value;
                        started.job.heartbeat_us = value;
                        started.calibration[0].rollovers = f64::NAN;
                        started.calibration[0].bytes_per_second = f64::INFINITY;
                    }
                    Body::Heartbeat(heartbeat) => heartbeat.next_us = value,
                    Body::Resources(resources) => {
                        resources.interval_us = value;
                        resources.workers[0].cpu_share = f64::NAN;
                        resources.workers[0].user_us = value;
                        resources.process_cpu_us = value;
                    }
                    Body::Sample(sample) => {
                        sample.to_us = value;
                        sample.workers[0].bytes = value;
                    }
                    Body::Rollover(rollover) => {
                        (rollover.file_us, rollover.sync_us) = (value, value);
                    }
                    Body::Stopped(stopped) => {
                        stopped.ran_us = value;
                        stopped.workers[0].bytes = value;
                        stopped.workers[0].rollovers = value;
                    }
                    Body::Error(_) | Body::Lost(_) => {}
                }
            }
        }
        render(&record);
    }
}

#[test]
fn a_sample_without_a_possible_interval_counts_but_has_no_place_in_time() {
    let mut record = usual();
    let mut event = record.clients[1].events[1].clone();
    event.n = 77;
    let mut writes = Histogram::default();
    writes.record(5_000);
    event.body = Body::Sample(Sample {
        from_us: 9,
        to_us: 9,
        workers: vec![WorkerSample {
            worker: 0,
            bytes: 1_000,
            writes,
            syncs: Histogram::default(),
        }],
    });
    record.clients[1].events.push(event);
    let (before, after) = (summarize(&usual()), summarize(&record));
    assert_eq!(after.totals.bytes, before.totals.bytes + 1_000);
    assert_eq!(after.series, before.series);
    assert_eq!(after.clients[1].integrity.impossible_samples, 1);
}

#[test]
fn a_client_that_was_started_again_is_the_sum_of_its_processes() {
    let mut record = run(&[Plan::named("a").with(|plan| plan.dies_us = Some(6 * SECOND))]);
    let again = run(&[Plan::named("a").with(|plan| {
        plan.starts_us = 8 * SECOND;
        plan.job.run_time_us = 12 * SECOND;
    })]);
    let first = &mut record.clients[0];
    first.events.retain(|event| event.body.kind() != "lost");
    first
        .events
        .extend(again.clients[0].events.iter().cloned().map(|mut event| {
            event.instance = "0123456789abcdef".to_owned();
            event
        }));
    first.state = ClientState::Stopped;
    first.last_heard_us = again.clients[0].last_heard_us;
    let summary = summarize(&record);
    let client = &summary.clients[0];
    assert_eq!(client.bytes, 18 * 64 * crate::built::MIB);
    assert_eq!((client.start_us, client.end_us), (0, 20 * SECOND));
    assert_eq!(client.reported_us, 20 * SECOND);
    assert_eq!(
        client.bytes_per_second,
        Some(64.0 * crate::built::MIB as f64)
    );
    render(&record);
}
