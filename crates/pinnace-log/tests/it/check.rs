//! Checks: they report what opening would find, of logs at rest and in use, and change nothing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use pinnace_log::twin::TwinDisk;
use pinnace_log::{Lsn, Recovery, Snapshot, Visited, check};

use crate::harness::{DIR, Up, filled, open, payload, small};

const FIRST: &str = "log/00000000000000000001.log";
const HEADER: usize = 4096;

/// What a check of a log at rest finds, with every record it met.
fn checked(disk: &TwinDisk) -> (Recovery, BTreeMap<Lsn, Vec<u8>>) {
    let mut seen = BTreeMap::new();
    let found = check(disk, Path::new(DIR), &mut collect(&mut seen));
    (found.unwrap().unwrap(), seen)
}

fn collect(
    seen: &mut BTreeMap<Lsn, Vec<u8>>,
) -> impl FnMut(Visited<'_>) -> ControlFlow<()> + use<'_> {
    |record| {
        let twice = seen.insert(record.lsn, record.payload.to_vec());
        assert_eq!(twice, None, "{} twice", record.lsn);
        ControlFlow::Continue(())
    }
}

/// Checks a log, then opens it: both find the same, and the check changed nothing.
fn check_then_open(disk: &TwinDisk, context: &str) {
    let contents = |disk: &TwinDisk| {
        let paths = disk.paths().into_iter();
        paths
            .map(|path| (disk.contents(&path), path))
            .collect::<Vec<_>>()
    };
    let before = contents(disk);
    let (found, seen) = checked(disk);
    assert_eq!(contents(disk), before, "{context}");
    let Up {
        mut recovery,
        replayed,
        ..
    } = open(disk, small());
    for damage in &mut recovery.damage {
        damage.copy = None;
    }
    if let Some(torn) = &mut recovery.torn {
        torn.copy = None;
    }
    assert_eq!(found, recovery, "{context}");
    assert_eq!(seen, replayed, "{context}");
}

#[test]
fn a_check_finds_what_opening_finds() {
    let whole = filled(&small(), 30, 300);
    let names = whole.paths();
    let copy = |change: &dyn Fn(&Path, &mut Vec<u8>) -> bool| {
        let disk = TwinDisk::new();
        for name in &names {
            let mut bytes = whole.contents(name).unwrap();
            if change(name, &mut bytes) {
                disk.put(name, bytes);
            }
        }
        disk
    };
    check_then_open(&copy(&|_, _| true), "whole");
    for (place, name) in names.iter().enumerate() {
        check_then_open(&copy(&|n, _| n != name), &format!("without {place}"));
        for byte in (0..HEADER + 3 * 324 + 60).step_by(13) {
            let hurt = copy(&|n, bytes| {
                if n == name && byte < bytes.len() {
                    bytes[byte] ^= 0x10;
                }
                true
            });
            check_then_open(&hurt, &format!("segment {place}, byte {byte}"));
        }
        let blank = copy(&|n, bytes| {
            if n == name {
                bytes[..HEADER].fill(0xaa);
            }
            true
        });
        check_then_open(&blank, &format!("header block {place}"));
    }
    let last = names.last().unwrap();
    for cut in (HEADER..HEADER + 3 * 324).step_by(41) {
        let hurt = copy(&|n, bytes| {
            if n == last {
                bytes.truncate(cut);
            }
            true
        });
        check_then_open(&hurt, &format!("cut at {cut}"));
    }
}

#[test]
fn a_block_that_cannot_be_read_is_damage_and_the_rest_is_checked() {
    let disk = filled(&small(), 30, 300);
    // The payloads of records 2 to 4, and none of another's header.
    let hurt = HEADER + 324 + 30..HEADER + 4 * 324 - 10;
    disk.spoil(Path::new(FIRST), hurt);
    let (found, seen) = checked(&disk);
    let [damage] = &found.damage[..] else {
        panic!("{found:?}")
    };
    let (first, last) = damage.lsns.unwrap();
    // What the disk does not give it does not give by the block.
    assert!(first <= 2 && last >= 4, "{found:?}");
    assert_eq!(seen.len() as u64, 30 - (last - first + 1));
}

#[test]
fn an_empty_folder_is_an_empty_log_and_a_visitor_may_end_a_check() {
    let disk = TwinDisk::new();
    assert_eq!(checked(&disk).0, Recovery::default());
    let disk = filled(&small(), 3, 300);
    let ended = check(&disk, Path::new(DIR), &mut |_| ControlFlow::Break(()));
    assert_eq!(ended.unwrap(), None);
}

fn found_in(snapshot: &Snapshot) -> (Recovery, Vec<Lsn>) {
    let mut seen = BTreeMap::new();
    let found = snapshot.check(&mut collect(&mut seen)).unwrap().unwrap();
    (found, seen.into_keys().collect())
}

fn append(up: &Up, count: u64, len: usize) {
    for _ in 0..count {
        let lsn = up.log.durable_lsn() + 1;
        assert_eq!(up.log.append(&[&payload(lsn, len)]).unwrap(), lsn);
        assert!(up.watcher.settled(lsn));
    }
}

#[test]
fn a_snapshot_is_the_log_of_its_moment() {
    let disk = TwinDisk::new();
    let up = open(&disk, small());
    for count in [0, 5, 40] {
        append(&up, count, 300);
        let until = up.log.durable_lsn();
        let snapshot = up.log.snapshot();
        append(&up, 20, 300);
        let (found, seen) = found_in(&snapshot);
        assert_eq!(seen, (1..=until).collect::<Vec<_>>());
        assert_eq!((found.last_lsn, found.torn), (until, None));
        assert_eq!((found.damage, snapshot.last_lsn()), (vec![], until));
    }
    // What was acknowledged and is hurt meanwhile, in a sealed segment and in the active one.
    let last = up.log.durable_lsn();
    for lsn in [3, last] {
        let at = up.watcher.seen().committed[&lsn];
        let name = up.log.snapshot().names().remove(at.segment as usize);
        disk.rot(&Path::new(DIR).join(name), at.offset as usize + 40);
    }
    let (found, seen) = found_in(&up.log.snapshot());
    let lsns: Vec<_> = found
        .damage
        .iter()
        .filter_map(|damage| damage.lsns)
        .collect();
    assert_eq!(lsns, [(3, 3), (last, last)]);
    assert_eq!(seen.len() as u64, last - 2);
}

#[test]
fn segments_stay_while_a_snapshot_needs_them() {
    let disk = TwinDisk::new();
    let up = open(&disk, small());
    append(&up, 60, 300);
    let last = up.log.durable_lsn();
    let names = up.log.snapshot().names();
    let (snapshot, other) = (up.log.snapshot(), up.log.snapshot());
    let drop_all = || up.log.drop_segments_before(last).unwrap();
    assert_eq!(drop_all(), 0);
    assert!(up.log.take_withheld() && !up.log.take_withheld());
    // Reading goes forward and gives back what is behind it.
    for place in [0, 2] {
        let file = snapshot.open(place).unwrap();
        let mut bytes = vec![0; file.bytes as usize + 1];
        assert_eq!(file.read(&mut bytes, 0).unwrap() as u64, file.bytes);
        assert_eq!(drop_all(), 0);
    }
    drop(other);
    assert_eq!(drop_all(), 2);
    assert_eq!(found_in(&up.log.snapshot()).0.damage, []);
    drop(snapshot);
    assert_eq!(drop_all(), names.len() - 3);
    assert!(up.log.take_withheld());
}
