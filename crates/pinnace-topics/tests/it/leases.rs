//! Leases: acknowledged, given back, over by themselves, repeated, dead letters, a disk that fails.

use std::time::{Duration, Instant};

use pinnace_log::twin::{Survival, TwinDisk};
use pinnace_topics::{Broker, Error, LeaseId, Leased, Overflow, QueueOptions, Start, StoreError};

use crate::harness::{create, done, open, publish, small, take, texts};

const MINUTE: Duration = Duration::from_secs(60);

fn lease(broker: &Broker, max: usize, until: Instant) -> Option<Leased> {
    broker.lease(b"t", "q", max, until).unwrap()
}

/// Payloads with their counts of deliveries.
fn shown(leased: &Leased) -> Vec<(String, u32)> {
    let message = |leased: &pinnace_topics::LeasedMessage| {
        let text = String::from_utf8(leased.message.payload.clone()).unwrap();
        (text, leased.deliveries)
    };
    leased.messages.iter().map(message).collect()
}

fn acknowledge(broker: &Broker, lease: LeaseId, only: Option<&[u64]>) -> Result<u64, Error> {
    let (call, fate) = done();
    broker.acknowledge(b"t", "q", lease, only, call)?;
    fate.wait().map_err(Error::Store)
}

fn filled(disk: &TwinDisk, count: usize) -> Broker {
    let (broker, _) = open(disk, small());
    create(&broker, "t", "q");
    let mut publisher = broker.publisher();
    for n in 1..=count {
        publish(&mut publisher, "t", n.to_string().as_bytes());
    }
    broker
}

#[test]
fn a_leased_message_is_nobody_elses_until_it_is_over() {
    let disk = TwinDisk::new();
    let broker = filled(&disk, 3);
    let now = Instant::now();
    let first = lease(&broker, 2, now + MINUTE).unwrap();
    assert_eq!(shown(&first), [("1".into(), 1), ("2".into(), 1)]);
    assert_eq!(texts(&broker.peek(b"t", "q", 9).unwrap().messages), ["3"]);
    let status = broker.queue_status(b"t", "q").unwrap();
    assert_eq!(
        (status.messages, status.leased, status.first_seq),
        (3, 2, Some(1))
    );
    assert_eq!(broker.next_lease_end(), Some(now + MINUTE));
    let almost = now + MINUTE - Duration::from_nanos(1);
    assert_eq!(broker.tick(almost).next, Some(now + MINUTE));
    assert_eq!(texts(&broker.peek(b"t", "q", 9).unwrap().messages), ["3"]);
    broker
        .extend(b"t", "q", first.lease, now + 2 * MINUTE)
        .unwrap();
    broker.tick(now + MINUTE);
    assert_eq!(
        broker.queue_status(b"t", "q").unwrap().leased,
        2,
        "it was extended"
    );
    assert_eq!(broker.tick(now + 2 * MINUTE).next, None);
    let waiting = broker.peek(b"t", "q", 9).unwrap().messages;
    assert_eq!(texts(&waiting), ["1", "2", "3"], "in their place");
    let lost = acknowledge(&broker, first.lease, None);
    assert!(matches!(lost, Err(Error::NoSuchLease)), "{lost:?}");
    let again = lease(&broker, 9, now + 3 * MINUTE).unwrap();
    assert_eq!(
        shown(&again),
        [("1".into(), 2), ("2".into(), 2), ("3".into(), 1)]
    );
    assert_eq!(lease(&broker, 9, now + MINUTE), None, "none waits");
}

#[test]
fn an_acknowledgement_is_durable_in_parts_and_may_be_repeated() {
    let disk = TwinDisk::new();
    let broker = filled(&disk, 4);
    let until = Instant::now() + MINUTE;
    let leased = lease(&broker, 3, until).unwrap();
    assert_eq!(acknowledge(&broker, leased.lease, Some(&[2])), Ok(2));
    let (after, _) = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(
        texts(&take(&after, "t", "q", 9)),
        ["1", "3", "4"],
        "leases end with the process"
    );
    assert!(matches!(
        acknowledge(&broker, leased.lease, Some(&[2])),
        Err(Error::NoSuchLease)
    ));
    assert_eq!(acknowledge(&broker, leased.lease, None), Ok(3));
    assert!(acknowledge(&broker, leased.lease, None).is_ok(), "repeated");
    let (after, _) = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(texts(&take(&after, "t", "q", 9)), ["4"]);
    let stale = acknowledge(&after, leased.lease, None);
    assert!(
        matches!(stale, Err(Error::NoSuchLease)),
        "from before the restart: {stale:?}"
    );
}

#[test]
fn a_repeated_acknowledgement_waits_for_the_disk_like_the_first() {
    let disk = TwinDisk::new();
    let broker = filled(&disk, 1);
    let leased = lease(&broker, 1, Instant::now() + MINUTE).unwrap();
    disk.hold_syncs();
    let ((first, told), (second, told_too)) = (done(), done());
    broker
        .acknowledge(b"t", "q", leased.lease, None, first)
        .unwrap();
    broker
        .acknowledge(b"t", "q", leased.lease, None, second)
        .unwrap();
    assert_eq!((told.now(), told_too.now()), (None, None));
    disk.release_syncs();
    assert_eq!((told.wait(), told_too.wait()), (Ok(1), Ok(1)));
}

#[test]
fn what_is_given_back_waits_again_and_wakes() {
    let broker = filled(&TwinDisk::new(), 2);
    let now = Instant::now();
    let leased = lease(&broker, 2, now + MINUTE).unwrap();
    let (sender, woken) = std::sync::mpsc::channel();
    broker
        .notify(b"t", "q", Box::new(move || sender.send(()).unwrap()))
        .unwrap();
    assert!(woken.try_recv().is_err());
    assert_eq!(broker.give_back(b"t", "q", leased.lease, now), Ok(vec![]));
    woken.recv().unwrap();
    assert_eq!(texts(&take(&broker, "t", "q", 1)), ["1"]);
    let again = broker.give_back(b"t", "q", leased.lease, now);
    assert_eq!(again, Err(Error::NoSuchLease));
    create(&broker, "t", "other");
    let leased = lease(&broker, 1, now + MINUTE).unwrap();
    let (call, _) = done();
    let others = broker.acknowledge(b"t", "other", leased.lease, None, call);
    assert_eq!(others, Err(Error::NoSuchLease), "of another queue");
}

#[test]
fn a_deleted_queue_ends_its_leases() {
    let disk = TwinDisk::new();
    let broker = filled(&disk, 3);
    let leased = lease(&broker, 2, Instant::now() + MINUTE).unwrap();
    crate::harness::delete(&broker, "t", "q");
    assert_eq!(broker.next_lease_end(), None);
    create(&broker, "t", "q");
    let gone = acknowledge(&broker, leased.lease, None);
    assert_eq!(gone, Err(Error::NoSuchLease));
    assert_eq!(broker.topics()[0].messages, 0, "nothing is held for nobody");
}

#[test]
fn dead_letters_come_after_their_deliveries_and_stay_until_they_are_buried() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    let options = QueueOptions {
        deliveries_max: Some(2),
        dead_letter: Some((*b"t.dead").into()),
        ..QueueOptions::default()
    };
    let (call, fate) = done();
    let created = broker.create_queue_with(b"t", "q", Start::New, Some(options.clone()), call);
    assert!(created.unwrap() && fate.wait().is_ok());
    publish(&mut broker.publisher(), "t", b"poison");
    publish(&mut broker.publisher(), "t", b"good");
    let mut now = Instant::now();
    for delivery in 1..=2 {
        now += MINUTE;
        let leased = lease(&broker, 1, now).unwrap();
        assert_eq!(shown(&leased), [("poison".into(), delivery)]);
        let dead = broker.tick(now).dead_letters;
        assert_eq!(dead.len(), usize::from(delivery == 2));
        let Some(dead) = dead.into_iter().next() else {
            continue;
        };
        assert_eq!((dead.deliveries, dead.name.as_str()), (2, "q"));
        assert_eq!(
            (dead.topic.as_slice(), dead.message.seq),
            (&b"t.dead"[..], 1)
        );
        assert_eq!(
            texts(&broker.peek(b"t", "q", 9).unwrap().messages),
            ["good"]
        );
        // Nobody buried it in time: it comes again, and is not delivered any more.
        now += MINUTE;
        let again = broker.tick(now).dead_letters;
        assert_eq!(again.len(), 1);
        assert_eq!(acknowledge(&broker, again[0].lease, None), Ok(1));
    }
    let (broker, _) = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(texts(&take(&broker, "t", "q", 9)), ["good"]);
    let kept = broker.queue_status(b"t", "q").unwrap().options;
    assert_eq!(kept, Some(options), "options survive");
}

#[test]
fn options_change_on_asking_and_only_then() {
    let disk = TwinDisk::new();
    let broker = filled(&disk, 1);
    let options = QueueOptions {
        messages_max: Some(7),
        overflow: Overflow::Expire,
        ..QueueOptions::default()
    };
    for (asked, expected) in [(Some(&options), true), (None, true)] {
        let (call, fate) = done();
        let created = broker.create_queue_with(b"t", "q", Start::New, asked.cloned(), call);
        assert_eq!((created, fate.wait().is_ok()), (Ok(false), true));
        let (after, _) = open(&disk.after_crash(Survival::Nothing), small());
        let status = after.queue_status(b"t", "q").unwrap();
        assert_eq!(
            (status.options.as_ref() == Some(&options), status.messages),
            (expected, 1)
        );
    }
    let options = QueueOptions {
        dead_letter: Some((*b"a..b").into()),
        ..options
    };
    let (call, _) = done();
    let refused = broker.create_queue_with(b"t", "q", Start::New, Some(options), call);
    assert!(
        matches!(refused, Err(Error::InvalidDeadLetterTopic { .. })),
        "{refused:?}"
    );
}

/// An error of the disk is not damage: what could not be read is still there.
#[test]
fn a_disk_that_cannot_be_read_costs_no_message() {
    // A part that cannot be read, not an operation that fails: the log writes now and then, too, when it finds the time.
    // Each is long enough to be read by itself.
    let all = [1, 2, 3].map(|n| format!("{n}").repeat(1_900));
    for (kept, text) in all.iter().enumerate() {
        let disk = TwinDisk::new();
        let broker = filled(&disk, 0);
        let mut publisher = broker.publisher();
        for text in &all {
            publish(&mut publisher, "t", text.as_bytes());
        }
        let text = text.as_bytes();
        let place = disk.paths().into_iter().find_map(|path| {
            let bytes = disk.contents(&path)?;
            let mut parts = bytes.windows(text.len());
            Some((parts.position(|part| part == text)?, path))
        });
        let (at, path) = place.unwrap();
        disk.spoil(&path, at..at + 1);
        let until = Instant::now() + MINUTE;
        match broker.lease(b"t", "q", 3, until) {
            Ok(Some(leased)) => assert_eq!(leased.messages.len(), kept),
            Err(Error::Store(StoreError::Unreadable(_))) => assert_eq!(kept, 0),
            other => panic!("{other:?}"),
        }
        assert_eq!(broker.queue_status(b"t", "q").unwrap().damaged, 0);
        broker.tick(until);
        match crate::harness::try_take(&broker, "t", "q", 3) {
            Ok(Ok(taken)) => assert_eq!(texts(&taken), all[..kept]),
            Err(Error::Store(StoreError::Unreadable(_))) => assert_eq!(kept, 0),
            other => panic!("{other:?}"),
        }
        disk.mend();
        assert_eq!(texts(&take(&broker, "t", "q", 9)), all[kept..]);
    }
}
