//! Power cuts: what was acknowledged is recovered, and nothing that was never appended.

use std::path::Path;

use pinnace_log::twin::{Fault, Survival, TwinDisk};

use crate::harness::{open, payload, small, try_open};

/// Appends in groups of changing size, and crashes after each group, while the last may be in
/// flight.
#[test]
fn acknowledged_is_recovered_and_recovered_was_appended() {
    let mut torn = 0;
    for seed in 0..60_u64 {
        let disk = TwinDisk::new();
        let up = open(&disk, small());
        let mut appended = 0;
        for group in 0..8 {
            for _ in 0..=(seed + group * 3) % 5 {
                appended += 1;
                let len = (appended * 97 + seed * 31) as usize % 900;
                assert_eq!(up.log.append(&[&payload(appended, len)]).unwrap(), appended);
            }
            // Read before the image is taken: whatever is acknowledged now must be in it.
            let acknowledged = up.watcher.seen().committed.len() as u64;
            for image in 0..6 {
                let crashed = disk.after_crash(Survival::Random(seed * 1000 + group * 10 + image));
                let found = open(&crashed, small());
                let context = format!("seed {seed}, group {group}, image {image}");
                let count = found.replayed.len() as u64;
                assert!(
                    (acknowledged..=appended).contains(&count),
                    "{context}: {count}"
                );
                for (expected, (lsn, body)) in (1..).zip(&found.replayed) {
                    let len = (expected * 97 + seed * 31) as usize % 900;
                    assert_eq!(
                        (*lsn, body),
                        (expected, &payload(expected, len)),
                        "{context}"
                    );
                }
                assert!(
                    found.recovery.damage.is_empty(),
                    "{context}: {:?}",
                    found.recovery
                );
                torn += usize::from(found.recovery.torn.is_some());
                // And a second crash at once changes nothing.
                drop(found.log);
                let again = open(&crashed.after_crash(Survival::Nothing), small());
                assert_eq!(again.replayed, found.replayed, "{context}");
            }
            assert!(up.watcher.settled(appended));
        }
    }
    assert!(torn > 0, "no image had a torn tail: the test tests nothing");
}

/// The images of a kill: everything written is there, so everything written is recovered.
#[test]
fn a_killed_process_loses_nothing_acknowledged_at_any_moment() {
    let disk = TwinDisk::new();
    let up = open(&disk, small());
    for lsn in 1..=200 {
        up.log.append(&[&payload(lsn, 120)]).unwrap();
        let acknowledged = up.watcher.seen().committed.len();
        let found = open(&disk.after_crash(Survival::Everything), small());
        assert!(found.replayed.len() >= acknowledged);
        assert!(found.recovery.damage.is_empty());
    }
}

/// Crash, recover, go on, again and again.
#[test]
fn crashes_between_recoveries_pile_up_without_loss() {
    let mut disk = TwinDisk::new();
    let mut next = 1;
    for round in 0..40 {
        let up = open(&disk, small());
        let kept = up.replayed.len() as u64;
        assert!(kept + 1 >= next, "round {round}: {kept} of {next}");
        let mut lsn = kept;
        for _ in 0..3 {
            lsn = up.log.append(&[&payload(lsn + 1, 400)]).unwrap();
        }
        assert!(up.watcher.settled(lsn));
        next = lsn + 1;
        up.log.append(&[&payload(lsn + 1, 400)]).unwrap();
        let crashed = disk.after_crash(Survival::Random(round));
        drop(up);
        for (lsn, body) in &open(&crashed.after_crash(Survival::Nothing), small()).replayed {
            assert_eq!(body, &payload(*lsn, 400));
        }
        disk = crashed;
    }
}

/// A sync fails, the process is restarted, the bytes are still in the cache: the classic trap. What
/// the restarted log serves must be on the medium.
#[test]
fn what_recovery_serves_is_durable_even_after_a_failed_sync() {
    let disk = TwinDisk::new();
    let up = open(&disk, small());
    assert!(
        up.watcher
            .settled(up.log.append(&[&payload(1, 50)]).unwrap())
    );
    drop(up);
    let up = open(&disk, small());
    disk.fail_nth(2, Fault::Eio, false);
    assert!(
        !up.watcher
            .settled(up.log.append(&[&payload(2, 50)]).unwrap())
    );
    drop(up);
    let served = open(&disk, small()).replayed;
    assert_eq!(served.len(), 2, "the bytes are in the cache");
    let crashed = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(crashed.replayed, served);
    assert!(crashed.recovery.damage.is_empty());
}

/// Power fails in the middle of a recovery: what it was about to keep may be gone, but must not look
/// like damage; with `hurt`, only the damage that is there is reported.
fn crash_while_recovering(hurt: bool) {
    let mut stopped = 0;
    for n in 1..40 {
        let disk = TwinDisk::new();
        let up = open(&disk, small());
        for lsn in 1..=2 {
            assert!(
                up.watcher
                    .settled(up.log.append(&[&payload(lsn, 50)]).unwrap())
            );
        }
        drop(up);
        let up = open(&disk, small());
        disk.fail_nth(2, Fault::Eio, false);
        assert!(
            !up.watcher
                .settled(up.log.append(&[&payload(3, 50)]).unwrap())
        );
        drop(up);
        if hurt {
            disk.rot(Path::new("log/00000000000000000001.log"), 4096 + 30);
        }
        disk.fail_nth(n, Fault::Eio, true);
        stopped += usize::from(try_open(&disk, small()).is_err());
        for seed in 0..60 {
            let found = open(&disk.after_crash(Survival::Random(seed)), small());
            let context = format!("n {n}, seed {seed}: {:?}", found.recovery);
            let damage: Vec<_> = found.recovery.damage.iter().map(|d| d.lsns).collect();
            assert_eq!(
                damage,
                if hurt { vec![Some((1, 1))] } else { vec![] },
                "{context}"
            );
            assert_eq!(found.replayed[&2], payload(2, 50), "{context}");
        }
    }
    assert!(stopped > 8, "only {stopped} recoveries were stopped");
}

#[test]
fn a_crash_in_the_middle_of_recovery_makes_no_damage() {
    crash_while_recovering(false);
}

#[test]
fn a_crash_in_the_middle_of_recovery_makes_no_more_damage() {
    crash_while_recovering(true);
}
