//! Appending, reading back, group commit, limits, and closing.

use std::path::Path;
use std::sync::Arc;

use pinnace_log::twin::TwinDisk;
use pinnace_log::{AppendError, Log, OpenError, Options, ReadError, RealDisk};

use crate::harness::{DIR, Watcher, filled, open, payload, small, try_open};

#[test]
fn what_was_appended_is_read_back_now_and_after_reopening() {
    let disk = TwinDisk::new();
    let up = open(&disk, small());
    for lsn in 1..=40 {
        let whole = payload(lsn, lsn as usize * 40);
        let (a, b) = whole.split_at(5);
        assert_eq!(up.log.append(&[a, b]).unwrap(), lsn);
    }
    assert!(up.watcher.settled(40));
    let committed = up.watcher.seen().committed.clone();
    for (lsn, position) in &committed {
        assert_eq!(
            up.log.read(*position).unwrap(),
            payload(*lsn, *lsn as usize * 40)
        );
    }
    let segments = up.log.segments();
    assert!(segments.len() > 3 && segments[0].first_lsn == 1);
    drop(up);
    let up = open(&disk, small());
    assert_eq!(up.replayed.len(), 40);
    for (lsn, position) in &up.positions {
        assert_eq!(up.replayed[lsn], payload(*lsn, *lsn as usize * 40));
        assert_eq!(up.log.read(*position).unwrap(), up.replayed[lsn]);
    }
    assert_eq!((up.recovery.torn, up.recovery.damage.len()), (None, 0));
    assert_eq!(up.log.append(&[b"next"]).unwrap(), 41);
}

#[test]
fn many_appenders_share_few_syncs() {
    const THREADS: u64 = 16;
    const EACH: u64 = 500;
    let disk = TwinDisk::new();
    let up = open(
        &disk,
        Options {
            segment_bytes: 4 << 20,
            ..small()
        },
    );
    let before = disk.syncs();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    up.log.append(&[&[1; 100]]).unwrap();
                }
            });
        }
    });
    assert!(up.watcher.settled(THREADS * EACH));
    let syncs = disk.syncs() - before;
    let calls = up.watcher.seen().calls as u64;
    assert_eq!(syncs, calls, "one sync for one batch");
    assert!(
        syncs < THREADS * EACH / 4,
        "{syncs} syncs for {} records",
        THREADS * EACH
    );
}

#[test]
fn limits_hold_at_the_limit_and_one_beyond() {
    let disk = TwinDisk::new();
    let up = open(&disk, small());
    up.log.append(&[&[0; 2048]]).unwrap();
    let refused = up.log.append(&[&[0; 2049]]);
    assert_eq!(
        refused,
        Err(AppendError::TooLarge {
            bytes: 2049,
            max_bytes: 2048
        })
    );
    for options in [
        Options {
            segment_bytes: 100,
            ..small()
        },
        Options {
            record_bytes_max: 8192 - 4096 - 512 - 23,
            ..small()
        },
        Options {
            buffer_bytes_max: 2048,
            ..small()
        },
    ] {
        let refused = try_open(&TwinDisk::new(), options);
        assert!(matches!(refused, Err(OpenError::BadOptions { .. })));
    }
    let most = Options {
        record_bytes_max: 8192 - 4096 - 512 - 24,
        ..small()
    };
    let up = open(&TwinDisk::new(), most);
    up.log.append(&[&[1; 8192 - 4096 - 512 - 24]]).unwrap();
    assert!(up.watcher.settled(1));
}

#[test]
fn a_full_buffer_is_busy_and_waiting_for_room_ends() {
    let options = Options {
        buffer_bytes_max: 2072,
        ..small()
    };
    let up = open(&TwinDisk::new(), options);
    let (mut taken, mut busy) = (0, 0);
    while busy < 20 {
        match up.log.append(&[&[7; 1000]]) {
            Ok(lsn) => taken = lsn,
            Err(AppendError::Busy { waiting_bytes }) => {
                assert!(waiting_bytes > 2072 - 1024);
                busy += 1;
                up.log.wait_for_room(1000);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(up.watcher.settled(taken));
}

#[test]
fn closing_writes_what_waits() {
    let disk = TwinDisk::new();
    let up = open(&disk, small());
    for lsn in 1..=100 {
        up.log.append(&[&payload(lsn, 50)]).unwrap();
    }
    let watcher = up.watcher.clone();
    drop(up.log);
    assert_eq!(watcher.seen().committed.len(), 100);
    let crashed = disk.after_crash(pinnace_log::twin::Survival::Nothing);
    assert_eq!(open(&crashed, small()).replayed.len(), 100);
}

#[test]
fn dropped_segments_are_gone_and_nothing_else_is() {
    let disk = filled(&small(), 60, 300);
    let up = open(&disk, small());
    let segments = up.log.segments();
    let keep = segments[3].first_lsn;
    assert_eq!(up.log.drop_segments_before(keep - 1).unwrap(), 2);
    assert_eq!(up.log.drop_segments_before(keep).unwrap(), 1);
    assert!(matches!(
        up.log.read(up.positions[&1]),
        Err(ReadError::Gone)
    ));
    assert_eq!(
        up.log.read(up.positions[&keep]).unwrap(),
        payload(keep, 300)
    );
    let all = up.log.drop_segments_before(u64::MAX).unwrap();
    assert_eq!(all, segments.len() - 4, "the active one stays");
    let first = up.log.segments()[0].first_lsn;
    drop(up);
    let up = open(&disk, small());
    assert_eq!(up.replayed.keys().next().copied().unwrap_or(first), first);
    assert!(up.recovery.damage.is_empty());
    assert_eq!(up.log.append(&[b"x"]).unwrap(), 61, "lsns go on");
}

#[test]
fn a_replay_that_refuses_ends_the_opening_with_the_place() {
    let disk = filled(&small(), 3, 10);
    let opened = Log::open(Arc::new(disk), Path::new(DIR), small(), &mut |lsn, _, _| {
        if lsn == 2 {
            Err("kind 9 is unknown".to_owned())
        } else {
            Ok(())
        }
    });
    let Err(OpenError::Replay { lsn: 2, reason, .. }) = opened else {
        panic!("opened")
    };
    assert_eq!(reason, "kind 9 is unknown");
}

#[test]
fn the_real_disk_works_like_the_twin() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for round in 0..3_u64 {
        let mut count = 0;
        let opened = Log::open(Arc::new(RealDisk), &path, small(), &mut |lsn, _, body| {
            assert_eq!(body, payload(lsn, 200));
            count += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(count, round * 50);
        let watcher = Watcher::default();
        let log = opened.start(Box::new(watcher.clone())).unwrap();
        for lsn in round * 50 + 1..=round * 50 + 50 {
            assert_eq!(log.append(&[&payload(lsn, 200)]).unwrap(), lsn);
        }
        assert!(watcher.settled(round * 50 + 50));
        let position = watcher.seen().committed[&(round * 50 + 7)];
        assert_eq!(log.read(position).unwrap(), payload(round * 50 + 7, 200));
    }
}
