//! What does not fit, what is too old, what comes twice, and who has not read yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pinnace_log::twin::{Survival, TwinDisk};
use pinnace_topics::{
    Batch, Broker, Options, Overflow, PublishError, Published, QueueOptions, Start, StoreError,
};

use crate::harness::{
    Inbox, create, done, message, open, publish, small, take, texts, try_publish,
};

fn create_with(broker: &Broker, name: &str, options: QueueOptions) {
    let (call, fate) = done();
    let created = broker.create_queue_with(b"t", name, Start::New, Some(options), call);
    assert!(created.unwrap() && fate.wait().is_ok());
}

fn waiting(broker: &Broker, name: &str) -> Vec<String> {
    texts(&broker.peek(b"t", name, 99).unwrap().messages)
}

#[test]
fn the_oldest_makes_room_where_that_was_asked_for() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    let options = QueueOptions {
        messages_max: Some(2),
        // The topic counts.
        bytes_max: Some(9),
        overflow: Overflow::DropOldest,
        ..QueueOptions::default()
    };
    create_with(&broker, "newest", options);
    create(&broker, "t", "all");
    let mut publisher = broker.publisher();
    for (text, left) in [
        ("1", vec!["1"]),
        ("2", vec!["1", "2"]),
        ("3", vec!["2", "3"]),
        ("1234567", vec!["1234567"]),
        ("12345678", vec!["12345678"]),
    ] {
        publish(&mut publisher, "t", text.as_bytes());
        assert_eq!(waiting(&broker, "newest"), left);
    }
    let dropped = broker.queue_status(b"t", "newest").unwrap().dropped;
    assert_eq!(dropped, 4);
    let refused = try_publish(&mut publisher, "t", b"123456789");
    assert!(
        matches!(refused, Err(PublishError::QueueLimit { .. })),
        "alone too large: {refused:?}"
    );
    assert_eq!(
        waiting(&broker, "newest"),
        ["12345678"],
        "for a refused one nothing goes"
    );
    let (after, _) = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(waiting(&after, "newest"), ["12345678"]);
    assert_eq!(waiting(&after, "all").len(), 5);
}

#[test]
fn a_subscriber_that_lags_too_far_expires_where_that_was_asked_for() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    let options = QueueOptions {
        messages_max: Some(1),
        overflow: Overflow::Expire,
        ..QueueOptions::default()
    };
    create_with(&broker, "sleeper", options);
    create(&broker, "t", "awake");
    let mut publisher = broker.publisher();
    assert_eq!(publish(&mut publisher, "t", b"1").queues, 2);
    assert_eq!(publish(&mut publisher, "t", b"2").queues, 1);
    assert!(broker.queue_status(b"t", "sleeper").is_err());
    let (after, _) = open(&disk.after_crash(Survival::Nothing), small());
    assert!(after.queue_status(b"t", "sleeper").is_err());
    assert_eq!(waiting(&after, "awake"), ["1", "2"]);
}

#[test]
fn a_queue_and_a_server_take_their_limit_and_no_more() {
    let options = Options {
        messages_max: 3,
        bytes_max: 100,
        ..small()
    };
    let (broker, _) = open(&TwinDisk::new(), options);
    create_with(
        &broker,
        "q",
        QueueOptions {
            messages_max: Some(2),
            ..QueueOptions::default()
        },
    );
    let mut publisher = broker.publisher();
    for text in ["1", "2"] {
        publish(&mut publisher, "t", text.as_bytes());
    }
    let full = try_publish(&mut publisher, "t", b"3");
    assert!(
        matches!(full, Err(PublishError::QueueLimit { messages: 2, .. })),
        "{full:?}"
    );
    let (call, fate) = done();
    broker.create_queue(b"u", "r", Start::New, call).unwrap();
    fate.wait().unwrap();
    publish(&mut publisher, "u", &[b'x'; 95]);
    let full = try_publish(&mut publisher, "u", b"");
    let limit = PublishError::ServerLimit {
        messages: 3,
        bytes: 100,
    };
    assert_eq!(full, Err(limit));
    take(&broker, "t", "q", 2);
    let full = try_publish(&mut publisher, "u", &[b'x'; 4]);
    assert!(
        matches!(
            full,
            Err(PublishError::ServerLimit {
                messages: 1,
                bytes: 96
            })
        ),
        "{full:?}"
    );
    publish(&mut publisher, "u", &[b'x'; 3]);
}

/// A broker whose clock the test sets.
fn clocked(disk: &TwinDisk, now_us: &Arc<AtomicU64>) -> Broker {
    let clock = Arc::clone(now_us);
    let clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let path = std::path::Path::new("log");
    Broker::open_on(Arc::new(disk.clone()), path, small(), clock)
        .unwrap()
        .0
}

#[test]
fn messages_that_are_too_old_go_at_the_tick() {
    let (disk, now_us) = (TwinDisk::new(), Arc::new(AtomicU64::new(1_000)));
    let broker = clocked(&disk, &now_us);
    create_with(
        &broker,
        "q",
        QueueOptions {
            age_max_us: Some(50),
            ..QueueOptions::default()
        },
    );
    create(&broker, "t", "all");
    let mut publisher = broker.publisher();
    publish(&mut publisher, "t", b"old");
    now_us.store(1_030, Ordering::Relaxed);
    publish(&mut publisher, "t", b"young");
    now_us.store(1_049, Ordering::Relaxed);
    broker.tick(Instant::now());
    assert_eq!(waiting(&broker, "q"), ["old", "young"]);
    now_us.store(1_050, Ordering::Relaxed);
    broker.tick(Instant::now());
    assert_eq!(waiting(&broker, "q"), ["young"]);
    assert_eq!(broker.queue_status(b"t", "q").unwrap().dropped, 1);
    let after = clocked(&disk.after_crash(Survival::Everything), &now_us);
    now_us.store(1_080, Ordering::Relaxed);
    after.tick(Instant::now());
    assert_eq!(waiting(&after, "q"), [""; 0], "the option survives");
    assert_eq!(waiting(&after, "all"), ["old", "young"]);
}

fn publish_once(broker: &Broker, topic: &str, id: &str) -> (Published, Result<u64, StoreError>) {
    let (call, fate) = done();
    let mut batch = Batch::default();
    let published = broker
        .publisher()
        .publish_once(
            &message(topic, b"x"),
            id.as_bytes(),
            None,
            &mut batch,
            Some(call),
        )
        .unwrap();
    let told = published.seq.map_or(Ok(0), |_| fate.wait());
    (published, told)
}

#[test]
fn a_repeated_publish_is_one_message_across_a_restart_for_the_window() {
    let (disk, now_us) = (TwinDisk::new(), Arc::new(AtomicU64::new(1_000)));
    let broker = clocked(&disk, &now_us);
    create(&broker, "t", "q");
    let inbox = Inbox::new();
    broker
        .subscribe(b"t", None, 1, Arc::clone(&inbox) as _)
        .unwrap();
    let (first, told) = publish_once(&broker, "t", "id");
    assert_eq!((first.duplicate, told), (false, Ok(1)));
    let (second, told) = publish_once(&broker, "t", "id");
    assert_eq!(
        (second.duplicate, second.seq, second.queues, told),
        (true, Some(1), 1, Ok(1))
    );
    assert_eq!(inbox.count(), 1);
    assert!(!publish_once(&broker, "t", "other").0.duplicate);
    assert!(
        !publish_once(&broker, "live", "id").0.duplicate,
        "another topic"
    );
    assert!(
        publish_once(&broker, "live", "id").0.duplicate,
        "also where nothing is stored"
    );
    let disk = disk.after_crash(Survival::Nothing);
    let broker = clocked(&disk, &now_us);
    let (again, told) = publish_once(&broker, "t", "id");
    assert_eq!((again.duplicate, again.seq, told), (true, Some(1), Ok(1)));
    now_us.store(
        1_000 + pinnace_topics::IDENTITY_WINDOW_US_DEFAULT,
        Ordering::Relaxed,
    );
    assert!(
        !publish_once(&broker, "t", "id").0.duplicate,
        "the window is over"
    );
    assert_eq!(waiting(&broker, "q"), ["x", "x", "x"]);
}

#[test]
fn a_repetition_is_acknowledged_no_sooner_than_the_first() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "t", "q");
    let mut publisher = broker.publisher();
    let mut batch = Batch::default();
    disk.hold_syncs();
    let mut once = || {
        let (call, fate) = done();
        let message = message("t", b"x");
        publisher
            .publish_once(&message, b"id", None, &mut batch, Some(call))
            .unwrap();
        fate
    };
    let (first, second) = (once(), once());
    assert_eq!((first.now(), second.now()), (None, None));
    disk.release_syncs();
    assert_eq!((first.wait(), second.wait()), (Ok(1), Ok(1)));
}

#[test]
fn a_refused_message_may_be_tried_again_under_its_identity() {
    let disk = TwinDisk::new();
    disk.set_no_allocate(true);
    let (broker, _) = open(&disk, small());
    create(&broker, "t", "q");
    // The queue's second definition may be on its way still, and it is the message that has no room.
    let (settled, fate) = done();
    broker.settle(settled);
    fate.wait().unwrap();
    disk.set_capacity(Some(0));
    let (_, refused) = publish_once(&broker, "t", "id");
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    disk.set_capacity(None);
    broker.probe();
    while broker.state() != pinnace_topics::StorageState::Ok {
        std::thread::yield_now();
    }
    let (again, told) = publish_once(&broker, "t", "id");
    assert_eq!((again.duplicate, told.is_ok()), (false, true));
    let id = [b'i'; pinnace_topics::IDENTITY_BYTES_MAX + 1];
    for (id, fits) in [
        (&id[..0], false),
        (&id[..1], true),
        (&id[1..], true),
        (&id[..], false),
    ] {
        let mut batch = Batch::default();
        let result =
            broker
                .publisher()
                .publish_once(&message("none", b""), id, None, &mut batch, None);
        assert_eq!(result.is_ok(), fits, "{} bytes", id.len());
    }
}

#[test]
fn who_has_not_read_a_message_is_known() {
    let (broker, _) = open(&TwinDisk::new(), small());
    create(&broker, "t", "alice");
    create(&broker, "t", "bob");
    create(&broker, "*", "carol");
    let mut publisher = broker.publisher();
    publish(&mut publisher, "t", b"1");
    publish(&mut publisher, "t", b"2");
    take(&broker, "t", "bob", 1);
    let names = |seq| {
        let holders = broker.holders(b"t", seq)?;
        Some(
            holders
                .into_iter()
                .map(|queue| queue.name)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(names(1).unwrap(), ["carol", "alice"]);
    assert_eq!(names(2).unwrap(), ["carol", "alice", "bob"]);
    assert_eq!(names(3), None);
    assert_eq!(broker.holders(b"u", 1), None, "of another topic");
}

/// Two queues have to make room, and one of them cannot: then the other one keeps what it has.
#[test]
fn for_a_message_that_is_refused_nothing_goes_anywhere() {
    let (broker, _) = open(&TwinDisk::new(), small());
    let options = QueueOptions {
        messages_max: Some(1),
        overflow: Overflow::DropOldest,
        ..QueueOptions::default()
    };
    create_with(&broker, "first", options.clone());
    create_with(&broker, "leased", options);
    let mut publisher = broker.publisher();
    publish(&mut publisher, "t", b"1");
    let until = Instant::now() + std::time::Duration::from_secs(60);
    let leased = broker.lease(b"t", "leased", 1, until).unwrap().unwrap();
    let refused = try_publish(&mut publisher, "t", b"2");
    assert!(
        matches!(refused, Err(PublishError::QueueLimit { .. })),
        "{refused:?}"
    );
    assert_eq!(waiting(&broker, "first"), ["1"]);
    let back = broker.give_back(b"t", "leased", leased.lease, until);
    assert_eq!(back, Ok(vec![]));
    publish(&mut publisher, "t", b"2");
    assert_eq!(
        [waiting(&broker, "first"), waiting(&broker, "leased")],
        [["2"], ["2"]]
    );
}
