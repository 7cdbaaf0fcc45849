//! Power cuts: what was acknowledged is recovered, and nothing that was never appended.

use pinnace_log::twin::{Survival, TwinDisk};

use crate::harness::{open, payload, small};

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

/// A failed sync, a crash, and the unsynced bytes partly there: the classic trap.
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
