//! Old segments are given back: disk use stays bounded whatever lags behind, restarts are exact.

use std::collections::{BTreeMap, VecDeque};

use pinnace_log::twin::{Survival, TwinDisk};
use pinnace_topics::Start;

use crate::harness::{create, create_from, open, publish, small, take, texts};

#[test]
fn publishing_and_taking_for_ever_stays_small_and_restarts_exactly() {
    let disk = TwinDisk::new();
    let (mut broker, _) = open(&disk, small());
    let mut disk = disk;
    create(&broker, "t", "fast");
    create(&broker, "t", "slow");
    create(&broker, "idle", "never used");
    let mut publisher = broker.publisher();
    let mut slow = VecDeque::new();
    let mut most = 0;
    for n in 0..3000_u64 {
        let text = format!("{n:0250}");
        assert_eq!(
            publish(&mut publisher, "t", text.as_bytes()).seq,
            Some(n + 1)
        );
        slow.push_back(text.clone());
        assert_eq!(texts(&take(&broker, "t", "fast", 5)), [text]);
        if n % 50 == 49 {
            let taken = texts(&take(&broker, "t", "slow", 50));
            assert_eq!(taken, slow.drain(..50).collect::<Vec<_>>());
        }
        most = most.max(disk.used_bytes());
        if n % 137 == 0 {
            let crashed = disk.after_crash(Survival::Random(n));
            let (after, recovery) = open(&crashed, small());
            assert!(recovery.log.damage.is_empty(), "{:?}", recovery.log);
            assert_eq!((recovery.queues, recovery.undefined_queues), (3, 0));
            assert_eq!(
                texts(&after.peek(b"t", "slow", 99).unwrap().messages),
                Vec::from(slow.clone())
            );
            if n % 274 == 0 {
                (broker, disk) = (after, crashed);
                publisher = broker.publisher();
            }
        }
    }
    // 3000 messages are 1 MB; 50 of them, all that is ever needed, are 16 KiB.
    assert!(most < 12 * 8192, "{most} bytes were in use");
}

#[test]
fn a_forgotten_queue_does_not_pin_the_log() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "old", "forgotten");
    create(&broker, "old", "done");
    create(&broker, "t", "busy");
    let mut publisher = broker.publisher();
    for text in ["one", "two"] {
        publish(&mut publisher, "old", text.as_bytes());
    }
    assert_eq!(take(&broker, "old", "done", 9).len(), 2);
    // Joins later, so its claim is in none of the original records.
    create_from(&broker, "old", "late", Start::First);
    for n in 0..2000 {
        publish(&mut publisher, "t", &[b'x'; 200]);
        take(&broker, "t", "busy", 1);
        assert!(
            disk.used_bytes() < 8 * 8192,
            "{n}: {} bytes",
            disk.used_bytes()
        );
    }
    let (broker, recovery) = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(recovery.undefined_queues, 0);
    assert_eq!(texts(&take(&broker, "old", "forgotten", 9)), ["one", "two"]);
    assert_eq!(texts(&take(&broker, "old", "late", 1)), ["one"]);
    assert!(
        take(&broker, "old", "done", 9).is_empty(),
        "what it took is not given again"
    );
    assert_eq!(publish(&mut broker.publisher(), "t", b"x").seq, Some(2003));
}

#[test]
fn numbers_are_not_used_again_when_everything_has_gone() {
    let mut disk = TwinDisk::new();
    let mut seq = 0;
    for round in 0..12 {
        let (broker, _) = open(&disk, small());
        create(&broker, "t", "q");
        let mut publisher = broker.publisher();
        for _ in 0..40 {
            seq += 1;
            assert_eq!(
                publish(&mut publisher, "t", &[1; 300]).seq,
                Some(seq),
                "round {round}"
            );
        }
        take(&broker, "t", "q", 100);
        crate::harness::delete(&broker, "t", "q");
        disk = disk.after_crash(Survival::Nothing);
    }
}

/// However many of the dropped segments a crash brings back, the state is the same: what was copied
/// is not there twice, what was given up does not rise again.
#[test]
fn a_crash_in_the_middle_of_dropping_changes_nothing() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "old", "forgotten");
    create(&broker, ">", "all");
    let mut publisher = broker.publisher();
    for n in 0..300 {
        publish(
            &mut publisher,
            if n % 20 == 0 { "old" } else { "new" },
            &[b'x'; 250],
        );
        if n % 5 == 4 {
            take(&broker, ">", "all", 5);
        }
        if n % 30 == 29 {
            take(&broker, "old", "forgotten", 1);
        }
        if n == 100 {
            create_from(&broker, "*", "late", Start::First);
            crate::harness::delete(&broker, "*", "late");
            create_from(&broker, "old", "late", Start::First);
        }
    }
    let contents = |broker: &pinnace_topics::Broker| {
        [("old", "forgotten"), (">", "all"), ("old", "late")]
            .map(|(pattern, name)| broker.peek(pattern.as_bytes(), name, 999).unwrap())
    };
    let expected = contents(&broker);
    drop(broker);
    let kept = disk.paths();
    let mut files: BTreeMap<_, _> = disk.removed().into_iter().collect();
    for path in &kept {
        files.insert(path.clone(), disk.contents(path).unwrap());
    }
    files.retain(|path, _| path.extension().is_some_and(|extension| extension == "log"));
    assert!(files.len() > kept.len() + 5, "segments were dropped");
    for back in 0..=files.len() - kept.len() {
        let image = TwinDisk::new();
        for (path, bytes) in files.iter().skip(files.len() - kept.len() - back) {
            image.put(path, bytes.clone());
        }
        let (broker, recovery) = open(&image, small());
        assert!(
            recovery.log.damage.is_empty(),
            "{back} back: {:?}",
            recovery.log
        );
        assert_eq!(
            (recovery.queues, recovery.undefined_queues),
            (3, 0),
            "{back} back"
        );
        assert_eq!(contents(&broker), expected, "{back} back");
    }
}
