//! A full disk: refused with a reason, readable, emptied with urgent records, healed by space.

use pinnace_log::twin::{Survival, TwinDisk};
use pinnace_log::{AppendError, LogState, Options};

use crate::harness::{open, payload, small};

/// Fills a disk that has room for two and a half segments, then heals it by dropping.
fn cycle(no_allocate: bool) {
    let disk = TwinDisk::new();
    disk.set_no_allocate(no_allocate);
    disk.set_capacity(Some(8192 * 5 / 2));
    let up = open(&disk, small());
    let (mut last, mut cycles) = (0, 0);
    while cycles < 20 {
        let refusals = up.watcher.refusals();
        let lsn = match up.log.append(&[&payload(last + 1, 300)]) {
            Ok(lsn) => lsn,
            Err(error) => panic!("open, yet {error}"),
        };
        if up.watcher.fate(lsn, refusals) {
            last = lsn;
            continue;
        }
        cycles += 1;
        let healed = up.watcher.seen().healed;
        assert_eq!(up.watcher.seen().refused.last(), Some(&(lsn, lsn)));
        // Another thread is a moment away from the end of the refusal.
        while up.log.state() == LogState::Open {
            std::thread::yield_now();
        }
        let Err(AppendError::Full { reason }) = up.log.append(&[b"x"]) else {
            panic!("not full")
        };
        assert!(reason.contains("segment"), "{reason}");
        let position = up.watcher.seen().committed[&last];
        assert_eq!(
            up.log.read(position).unwrap(),
            payload(last, 300),
            "reading goes on"
        );
        if !no_allocate {
            // Room is kept for what gives space back. It waits for the refusal to be over.
            let lsn = loop {
                match up.log.append_urgent(&[b"consume"]) {
                    Ok(lsn) => break lsn,
                    Err(error) => assert!(matches!(error, AppendError::Full { .. }), "{error}"),
                }
            };
            assert!(
                up.watcher.fate(lsn, refusals + 1),
                "an urgent record was refused"
            );
            last = lsn;
        }
        let active = up.log.segments().last().unwrap().first_lsn;
        assert!(up.log.drop_segments_before(active).unwrap() > 0);
        drop(up.watcher.wait("healing", |seen| seen.healed > healed));
        assert_eq!(up.log.state(), LogState::Open);
    }
    let kept = up.log.segments()[0].first_lsn;
    drop(up);
    let up = open(&disk.after_crash(Survival::Nothing), small());
    assert!(up.replayed.keys().copied().eq(kept..=last));
    assert!(up.recovery.damage.is_empty());
}

#[test]
fn a_full_disk_refuses_then_heals_where_space_is_allocated_ahead() {
    cycle(false);
}

#[test]
fn a_full_disk_refuses_then_heals_where_it_is_not() {
    cycle(true);
}

#[test]
fn refused_records_stay_refused_after_a_crash_and_their_lsns_are_used_again() {
    let disk = TwinDisk::new();
    disk.set_no_allocate(true);
    let up = open(&disk, small());
    assert!(
        up.watcher
            .settled(up.log.append(&[&payload(1, 100)]).unwrap())
    );
    disk.set_capacity(Some(disk.used_bytes() + 50));
    let lsn = up.log.append(&[&[b'R'; 500]]).unwrap();
    assert!(!up.watcher.settled(lsn));
    disk.set_capacity(None);
    up.log.probe();
    drop(up.watcher.wait("healing", |seen| seen.healed == 1));
    let again = up.log.append(&[&payload(2, 100)]).unwrap();
    assert_eq!(again, lsn);
    assert!(up.watcher.fate(again, 1));
    for seed in 0..50 {
        let found = open(&disk.after_crash(Survival::Random(seed)), small());
        assert!(
            found
                .replayed
                .into_values()
                .eq([payload(1, 100), payload(2, 100)])
        );
    }
}

#[test]
fn a_log_opens_on_a_full_disk_to_be_read_and_emptied() {
    let disk = crate::harness::filled(&small(), 30, 300);
    disk.set_capacity(Some(disk.used_bytes()));
    let up = open(&disk, Options { ..small() });
    assert_eq!(up.replayed.len(), 30);
    let active = up.log.segments().last().unwrap().first_lsn;
    up.log.drop_segments_before(active).unwrap();
    for lsn in 31..=40 {
        assert_eq!(up.log.append(&[&payload(lsn, 300)]).unwrap(), lsn);
    }
    assert!(up.watcher.settled(40));
}

/// The first record of a refused batch was written whole. It must not come back, whatever the crash
/// keeps.
#[test]
fn a_refused_record_that_was_written_whole_does_not_come_back() {
    let disk = TwinDisk::new();
    disk.set_no_allocate(true);
    let up = open(&disk, small());
    disk.hold_syncs();
    up.log.append(&[&payload(1, 100)]).unwrap();
    // The committer takes the first record, then waits in its sync while the batch forms.
    while disk.used_bytes() < 4096 + 124 {
        std::thread::yield_now();
    }
    up.log.append(&[&[b'R'; 100]]).unwrap();
    up.log.append(&[&[b'S'; 100]]).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 200));
    disk.release_syncs();
    drop(
        up.watcher
            .wait("a refusal", |seen| seen.refused == [(2, 3)]),
    );
    for seed in 0..200 {
        let found = open(&disk.after_crash(Survival::Random(seed)), small());
        assert!(
            found.replayed.into_values().eq([payload(1, 100)]),
            "seed {seed}"
        );
    }
}
