//! Each warning has a run that calls for it and one, almost the same, that does not.

use pinnace_proto::event::{Body, Error, StopReason};
use pinnace_proto::job::Engine;
use pinnace_proto::run::RunRecord;
use pinnace_report::{WarningCode, summarize};

use crate::built::{GIB, MIB, Plan, SECOND, run};

fn codes(record: &RunRecord) -> Vec<WarningCode> {
    let warnings = summarize(record).warnings;
    assert!(
        warnings
            .iter()
            .all(|warning| warning.message.ends_with('.'))
    );
    assert!(warnings.is_sorted_by_key(|warning| warning.grade));
    warnings.into_iter().map(|warning| warning.code).collect()
}

/// The first run has the warning, the second has not.
fn check(code: WarningCode, due: &RunRecord, not_due: &RunRecord) {
    assert!(
        codes(due).contains(&code),
        "{code:?} is missing: {:?}",
        codes(due)
    );
    assert!(!codes(not_due).contains(&code), "{code:?} is out of place");
}

fn one(change: impl FnOnce(&mut Plan)) -> RunRecord {
    run(&[Plan::named("a").with(change)])
}

fn two(change: impl FnOnce(&mut Plan)) -> RunRecord {
    run(&[Plan::named("a"), Plan::named("b").with(change)])
}

/// A plain run in which something was done to the events of its client.
fn edited(edit: impl Fn(&mut Body)) -> RunRecord {
    let mut record = one(|_| {});
    record.clients[0]
        .events
        .iter_mut()
        .for_each(|event| edit(&mut event.body));
    record
}

fn plain() -> RunRecord {
    one(|_| {})
}

#[test]
fn a_clean_run_has_nothing_to_say_but_its_size() {
    assert_eq!(codes(&plain()), [WarningCode::FewOperations]);
}

#[test]
fn endings() {
    let lost = |s: u64| two(move |plan| plan.dies_us = Some(s * SECOND));
    check(WarningCode::ClientLost, &lost(10), &plain());
    check(WarningCode::CoverageLow, &lost(10), &lost(19));
    for (reason, code) in [
        (StopReason::Interrupted, WarningCode::Interrupted),
        (StopReason::DiskFull, WarningCode::DiskFull),
        (StopReason::Failed, WarningCode::ClientFailed),
    ] {
        check(code, &one(|plan| plan.reason = reason), &plain());
    }
    let none = one(|plan| plan.bytes_per_second = 0);
    check(WarningCode::NoData, &none, &plain());
}

#[test]
fn many_lost_clients_are_one_warning() {
    let plans: Vec<Plan> = (0..9)
        .map(|n| Plan::named(&format!("c{n}")).with(|plan| plan.dies_us = Some(SECOND)))
        .collect();
    let lost = codes(&run(&plans))
        .into_iter()
        .filter(|code| *code == WarningCode::ClientLost);
    assert_eq!(lost.count(), 1);
}

#[test]
fn errors_and_events_that_do_not_fit() {
    let mut failed = plain();
    let mut event = failed.clients[0].events[3].clone();
    event.n = 99;
    event.body = Body::Error(Error {
        worker: Some(0),
        operation: "write".to_owned(),
        path: Some("/srv/bench/a/data-1".to_owned()),
        message: "Input/output error".to_owned(),
    });
    failed.clients[0].events.push(event);
    check(WarningCode::ErrorsSeen, &failed, &plain());

    let more = edited(|body| {
        if let Body::Stopped(stopped) = body {
            stopped.workers[0].bytes += 1;
        }
    });
    check(WarningCode::TotalsDiffer, &more, &plain());
    check(
        WarningCode::SamplesMissing,
        &one(|plan| plan.silent = 5..9),
        &one(|plan| plan.silent = 5..6),
    );

    let mut doubled = plain();
    doubled.clients[0]
        .events
        .extend(plain().clients[0].events.clone());
    check(WarningCode::OddEvents, &doubled, &plain());
    let restarted = {
        let mut record = plain();
        let events = &mut record.clients[0].events;
        let half = events.len() / 2;
        events[half..]
            .iter_mut()
            .for_each(|event| event.instance = "other".to_owned());
        record
    };
    check(WarningCode::ClientRestarted, &restarted, &plain());
}

#[test]
fn promises_heartbeats_and_clocks() {
    check(
        WarningCode::RolloversMissed,
        &one(|plan| plan.job.workers[0].file_bytes = 2 * GIB),
        &plain(),
    );
    check(
        WarningCode::Forced,
        &one(|plan| plan.job.force = true),
        &plain(),
    );
    check(
        WarningCode::HeartbeatsMissed,
        &one(|plan| plan.deaf = 5..6),
        &plain(),
    );
    let stepped = |by_us: u64| {
        let mut record = plain();
        let events = record.clients[0].events.iter_mut();
        events.skip(20).for_each(|event| event.at_us -= by_us);
        record
    };
    check(
        WarningCode::ClockStepped,
        &stepped(SECOND),
        &stepped(SECOND / 4),
    );
    let late = |us: u64| two(move |plan| plan.starts_us = us);
    check(WarningCode::StartSkew, &late(1_200_000), &late(900_000));
}

#[test]
fn storage_that_is_not_what_it_seems() {
    let null = one(|plan| plan.job.engine = Engine::Null);
    check(WarningCode::NullEngine, &null, &plain());
    let tmpfs = one(|plan| plan.path.file_system = Some("tmpfs".to_owned()));
    check(WarningCode::MemoryFileSystem, &tmpfs, &plain());

    let buffered = |memory_bytes: u64| {
        one(move |plan| {
            plan.job.direct = false;
            plan.host.memory_bytes = Some(memory_bytes);
        })
    };
    check(WarningCode::PageCache, &buffered(128 * GIB), &plain());
    // 1.25 GiB written in files of which three are 384 MiB: more than this host holds.
    check(
        WarningCode::PageCache,
        &buffered(512 * MIB),
        &buffered(256 * MIB),
    );

    let shared = |device: &str| {
        run(&[
            Plan::named("a").with(|plan| plan.host.hostname = "n".to_owned()),
            Plan::named("b").with(|plan| {
                plan.host.hostname = "n".to_owned();
                plan.path.device = Some(device.to_owned());
            }),
        ])
    };
    check(WarningCode::SharedDevice, &shared("rbd0"), &shared("rbd1"));
    check(WarningCode::SharedDevice, &shared("rbd0"), &two(|_| {}));
}

#[test]
fn speed_limits_and_differences() {
    check(
        WarningCode::CpuBound,
        &one(|plan| plan.cpu_share = 0.95),
        &one(|plan| plan.cpu_share = 0.85),
    );
    let writes = |chunk_bytes: u64| {
        one(move |plan| {
            plan.job.workers[0].chunk_bytes = chunk_bytes;
            plan.write_us = 5;
        })
    };
    check(WarningCode::FewOperations, &writes(16_384), &writes(8_192));
    check(
        WarningCode::JobsDiffer,
        &two(|plan| plan.job.workers[0].chunk_bytes = 2 * MIB),
        &two(|plan| plan.job.name = "other".to_owned()),
    );
    check(
        WarningCode::SystemsDiffer,
        &two(|plan| plan.host.kernel = "Linux 5.15.0".to_owned()),
        &two(|plan| plan.host.os = None),
    );
    check(
        WarningCode::FileSystemsDiffer,
        &two(|plan| plan.path.file_system = Some("ext4".to_owned())),
        &two(|plan| plan.path.file_system = None),
    );
}
