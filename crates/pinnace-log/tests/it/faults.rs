//! The N-th operation fails, for every N: no false acknowledgement, no panic, no hang.

use std::collections::BTreeMap;

use pinnace_log::twin::{Fault, Survival, TwinDisk};
use pinnace_log::{AppendError, LogState, Lsn};

use crate::harness::{Up, filled, open, payload, small, try_open};

/// What the workload was told.
#[derive(Default)]
struct Told {
    acknowledged: BTreeMap<Lsn, Vec<u8>>,
    /// Appended and neither acknowledged nor refused.
    unknown: BTreeMap<Lsn, Vec<u8>>,
    dropped_below: Lsn,
}

/// Opens, appends over several segments, reads, drops, closes. `tag` makes payloads of a second
/// try differ from those of the first.
fn workload(disk: &TwinDisk, told: &mut Told) {
    let Ok(up) = try_open(disk, small()) else {
        return;
    };
    let mut tag = 0;
    for _ in 0..14 {
        let mut group = Vec::new();
        for _ in 0..2 {
            tag += 1;
            let body = payload(tag * 1_000_000, 700);
            let refusals = up.watcher.refusals();
            match up.log.append(&[&body]) {
                Ok(lsn) => group.push((lsn, refusals, body)),
                Err(AppendError::Full { .. }) => {}
                Err(_) => break,
            }
        }
        settle(&up, group, told);
    }
    let committed = up.watcher.seen().committed.clone();
    for (lsn, position) in committed {
        if let Ok(body) = up.log.read(position) {
            assert_eq!(body, told.acknowledged[&lsn], "a wrong payload");
        }
    }
    let segments = up.log.segments();
    told.dropped_below = segments[1.min(segments.len() - 1)].first_lsn;
    let _ = up.log.drop_segments_before(told.dropped_below);
}

fn settle(up: &Up, group: Vec<(Lsn, usize, Vec<u8>)>, told: &mut Told) {
    for (lsn, refusals, body) in group {
        if up.watcher.fate(lsn, refusals) {
            told.acknowledged.insert(lsn, body);
        } else if up.watcher.seen().failed.is_some() {
            told.unknown.insert(lsn, body);
        }
    }
}

fn check(disk: &TwinDisk, told: &Told, context: &str) {
    let up = open(disk, small());
    for (lsn, body) in &told.acknowledged {
        let found = up.replayed.get(lsn);
        if *lsn >= told.dropped_below || found.is_some() {
            assert_eq!(found, Some(body), "{context}: acknowledged {lsn}");
        }
    }
    for (lsn, body) in up.replayed.range(7..) {
        let known = told.acknowledged.get(lsn).or_else(|| told.unknown.get(lsn));
        assert_eq!(
            known,
            Some(body),
            "{context}: recovered {lsn} was refused or never appended"
        );
    }
    assert!(
        up.recovery.damage.is_empty(),
        "{context}: {:?}",
        up.recovery
    );
}

#[test]
fn every_operation_may_fail() {
    let base = || filled(&small(), 6, 700);
    let operations = {
        let disk = base();
        let before = disk.operations();
        let mut told = Told::default();
        workload(&disk, &mut told);
        assert_eq!(told.acknowledged.len(), 28);
        check(&disk.after_crash(Survival::Nothing), &told, "no fault");
        disk.operations() - before
    };
    assert!(operations > 80, "{operations} operations");
    for fault in [Fault::Eio, Fault::Enospc, Fault::ShortWrite] {
        for sticky in [false, true] {
            for n in 1..=operations + 5 {
                let disk = base();
                disk.fail_nth(n, fault, sticky);
                let mut told = Told::default();
                workload(&disk, &mut told);
                disk.mend();
                for survival in [Survival::Nothing, Survival::Everything, Survival::Random(n)] {
                    let context = format!("{fault:?}, sticky {sticky}, n {n}, {survival:?}");
                    check(&disk.after_crash(survival), &told, &context);
                }
            }
        }
    }
}

#[test]
fn the_first_failed_sync_is_final() {
    let disk = TwinDisk::new();
    let up = open(&disk, small());
    assert!(up.watcher.settled(up.log.append(&[b"good"]).unwrap()));
    // The write, the zeros behind it, then the sync.
    drop(up);
    let up = open(&disk, small());
    disk.fail_nth(3, Fault::Eio, false);
    let lsn = up.log.append(&[b"lost"]).unwrap();
    assert!(!up.watcher.settled(lsn));
    let syncs = disk.syncs();
    let Err(AppendError::Failed { reason }) = up.log.append(&[b"later"]) else {
        panic!()
    };
    assert!(reason.contains("sync"), "{reason}");
    assert!(matches!(up.log.state(), LogState::Failed(_)));
    assert_eq!(disk.syncs(), syncs, "a failed sync was tried again");
    assert_eq!(
        up.log.read(up.positions[&1]).unwrap(),
        b"good",
        "reading goes on"
    );
    drop(up);
    let up = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(up.replayed.into_values().collect::<Vec<_>>(), [b"good"]);
}
