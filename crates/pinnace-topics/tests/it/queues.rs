//! Queues: order, restart, limits, waiting, peek and consume, start, damage, concurrency.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use pinnace_log::Disk;
use pinnace_log::twin::{Survival, TwinDisk};
use pinnace_topics::{Batch, Error, Options, PublishError, Start, StorageState};

use crate::harness::{
    create, create_from, delete, done, message, open, publish, small, take, texts, try_publish,
};

#[test]
fn everything_acknowledged_is_there_after_a_power_cut() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "a.>", "all");
    create(&broker, "a.b", "one");
    let mut publisher = broker.publisher();
    let full = pinnace_topics::Message {
        topic: b"a.b",
        reply: Some(b"_INBOX.1"),
        headers: b"NATS/1.0\r\nX: 1\r\n\r\n",
        payload: b"\0\xff binary",
    };
    let (done, fate) = done();
    publisher
        .publish(&full, None, &mut Batch::default(), Some(done))
        .unwrap();
    assert_eq!(fate.wait(), Ok(1));
    assert_eq!(publish(&mut publisher, "a.c", b"second").seq, Some(2));
    assert_eq!(take(&broker, "a.>", "all", 1)[0].seq, 1);
    let (broker, recovery) = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(
        (
            recovery.queues,
            recovery.messages,
            recovery.undefined_queues
        ),
        (2, 2, 0)
    );
    let one = take(&broker, "a.b", "one", 10);
    assert_eq!(one.len(), 1);
    assert_eq!(
        (one[0].seq, one[0].published_us),
        (1, 1_700_000_000_000_000)
    );
    assert_eq!(
        (&one[0].topic[..], &one[0].headers[..]),
        (full.topic, full.headers)
    );
    assert_eq!(one[0].payload, full.payload);
    assert_eq!(texts(&take(&broker, "a.>", "all", 10)), ["second"]);
    assert_eq!(
        publish(&mut broker.publisher(), "a.b", b"x").seq,
        Some(3),
        "numbers go on"
    );
}

#[test]
fn a_new_queue_can_start_with_what_is_still_stored() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "a.*", "q");
    let mut publisher = broker.publisher();
    for (topic, text) in [("a.x", "1"), ("a.y", "2"), ("a.x", "3")] {
        publish(&mut publisher, topic, text.as_bytes());
    }
    assert_eq!(texts(&take(&broker, "a.*", "q", 1)), ["1"]);
    create_from(&broker, "a.x", "late", Start::First);
    create_from(&broker, ">", "later", Start::First);
    create_from(&broker, ">", "new", Start::New);
    publish(&mut publisher, "a.x", b"4");
    let (broker, _) = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(texts(&take(&broker, "a.x", "late", 9)), ["3", "4"]);
    assert_eq!(texts(&take(&broker, ">", "later", 9)), ["2", "3", "4"]);
    assert_eq!(texts(&take(&broker, ">", "new", 9)), ["4"]);
    assert_eq!(texts(&take(&broker, "a.*", "q", 9)), ["2", "3", "4"]);
}

#[test]
fn peek_leaves_and_consume_gives_up() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "t", "q");
    let mut publisher = broker.publisher();
    for text in ["1", "2", "3"] {
        publish(&mut publisher, "t", text.as_bytes());
    }
    let peeked = broker.peek(b"t", "q", 2).unwrap().messages;
    assert_eq!(texts(&peeked), ["1", "2"]);
    assert_eq!(
        texts(&broker.peek(b"t", "q", 2).unwrap().messages),
        ["1", "2"]
    );
    let (call, fate) = done();
    broker.consume(b"t", "q", peeked[1].seq, call).unwrap();
    fate.wait().unwrap();
    let (call, fate) = done();
    broker.consume(b"t", "q", peeked[1].seq, call).unwrap();
    fate.wait().unwrap();
    let (broker, _) = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(texts(&broker.peek(b"t", "q", 9).unwrap().messages), ["3"]);
    assert!(matches!(
        broker.peek(b"t", "x", 1),
        Err(Error::NoSuchQueue { .. })
    ));
}

#[test]
fn a_wake_is_called_once_when_a_message_waits_or_the_queue_goes() {
    let (broker, _) = open(&TwinDisk::new(), small());
    create(&broker, "t", "q");
    let mut publisher = broker.publisher();
    let (sender, woken) = channel();
    let wake = |name: &'static str| {
        let sender = sender.clone();
        Box::new(move || sender.send(name).unwrap())
    };
    broker.notify(b"t", "q", wake("waiting")).unwrap();
    let cancelled = broker.notify(b"t", "q", wake("cancelled")).unwrap();
    broker.cancel_notify(b"t", "q", cancelled);
    assert!(woken.try_recv().is_err());
    publish(&mut publisher, "t", b"1");
    assert_eq!(woken.recv_timeout(Duration::from_secs(60)), Ok("waiting"));
    broker.notify(b"t", "q", wake("at once")).unwrap();
    assert_eq!(woken.try_recv(), Ok("at once"));
    take(&broker, "t", "q", 1);
    broker.notify(b"t", "q", wake("deleted")).unwrap();
    publish(&mut publisher, "other", b"1");
    assert!(woken.try_recv().is_err());
    delete(&broker, "t", "q");
    assert_eq!(woken.recv_timeout(Duration::from_secs(60)), Ok("deleted"));
    assert!(matches!(
        broker.notify(b"t", "q", wake("x")),
        Err(Error::NoSuchQueue { .. })
    ));
    drop(sender);
    assert!(
        woken.recv().is_err(),
        "nobody was called twice, the cancelled one never"
    );
}

#[test]
fn a_full_queue_refuses_for_everybody_and_opens_again() {
    let options = Options {
        queue_messages_max: 3,
        queue_bytes_max: 100,
        ..small()
    };
    let (broker, _) = open(&TwinDisk::new(), options);
    let inbox = crate::harness::Inbox::new();
    broker
        .subscribe(b">", None, 1, std::sync::Arc::clone(&inbox) as _)
        .unwrap();
    create(&broker, "t", "q");
    create(&broker, ">", "other");
    let mut publisher = broker.publisher();
    for _ in 0..3 {
        publish(&mut publisher, "t", b"x");
    }
    let refused = try_publish(&mut publisher, "t", b"x");
    assert!(
        matches!(refused, Err(PublishError::QueueLimit { messages: 3, .. })),
        "{refused:?}"
    );
    assert_eq!(inbox.count(), 3, "not delivered live either");
    take(&broker, "t", "q", 1);
    take(&broker, ">", "other", 3);
    publish(&mut publisher, "t", &[b'x'; 95]);
    let refused = try_publish(&mut publisher, "t", b"x");
    let Err(PublishError::QueueLimit { name, bytes, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((name.as_str(), bytes), ("q", 100));
    assert_eq!(broker.queue_status(b"t", "q").unwrap().messages, 3);
}

#[test]
fn names_and_numbers_of_queues_are_limited() {
    let (broker, _) = open(
        &TwinDisk::new(),
        Options {
            queues_max: 2,
            ..small()
        },
    );
    for (pattern, name) in [("a..b", "q"), ("a", ""), ("a", "x\ny")] {
        let refused = broker.create_queue(pattern.as_bytes(), name, Start::New, done().0);
        assert!(refused.is_err(), "{pattern} {name:?}");
    }
    create(&broker, "a", &"n".repeat(256));
    let refused = broker.create_queue(b"a", &"n".repeat(257), Start::New, done().0);
    assert!(matches!(
        refused,
        Err(Error::InvalidName {
            bytes: 257,
            max_bytes: 256
        })
    ));
    create(&broker, "a", "2");
    let refused = broker.create_queue(b"a", "3", Start::New, done().0);
    assert_eq!(refused, Err(Error::TooManyQueues { queues: 2 }));
    assert_eq!(broker.queues().len(), 2);
}

#[test]
fn concurrent_publishers_keep_their_order_and_takers_share() {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 300;
    let disk = TwinDisk::new();
    let mut options = small();
    options.log.segment_bytes = 64 << 10;
    let (broker, _) = open(&disk, options);
    create(&broker, "t.*", "watched");
    create(&broker, "t.*", "shared");
    let arrived = AtomicUsize::new(0);
    let arrived = &arrived;
    let all = std::thread::scope(|scope| {
        for p in 0..PUBLISHERS {
            let broker = broker.clone();
            scope.spawn(move || {
                let mut publisher = broker.publisher();
                let mut batch = Batch::default();
                let mut last = None;
                for n in 0..EACH {
                    let (call, fate) = done();
                    let (topic, text) = (format!("t.{p}"), n.to_string());
                    let message = message(&topic, text.as_bytes());
                    publisher
                        .publish(&message, None, &mut batch, Some(call))
                        .unwrap();
                    last = Some(fate);
                }
                last.unwrap().wait().unwrap();
            });
        }
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let broker = broker.clone();
                scope.spawn(move || {
                    let mut got = Vec::new();
                    loop {
                        let (sender, woken) = channel();
                        let wake = Box::new(move || sender.send(()).unwrap());
                        if broker.notify(b"t.*", "shared", wake).is_err() {
                            return got;
                        }
                        woken.recv_timeout(Duration::from_secs(60)).unwrap();
                        let Ok(taken) = crate::harness::try_take(&broker, "t.*", "shared", 7)
                        else {
                            return got;
                        };
                        let taken = taken.unwrap();
                        arrived.fetch_add(taken.len(), Ordering::Relaxed);
                        got.extend(taken);
                    }
                })
            })
            .collect();
        let mut watched = Vec::new();
        while watched.len() < PUBLISHERS * EACH {
            let (sender, woken) = channel();
            broker
                .notify(
                    b"t.*",
                    "watched",
                    Box::new(move || sender.send(()).unwrap()),
                )
                .unwrap();
            woken.recv_timeout(Duration::from_secs(60)).unwrap();
            watched.extend(take(&broker, "t.*", "watched", 50));
        }
        // All of them: what is between the queue and its taker goes with the queue.
        let limit = Instant::now() + Duration::from_secs(120);
        while arrived.load(Ordering::Relaxed) < PUBLISHERS * EACH {
            assert!(Instant::now() < limit, "some reached nobody");
            std::thread::yield_now();
        }
        delete(&broker, "t.*", "shared");
        let mut shared: Vec<_> = takers.into_iter().flat_map(|t| t.join().unwrap()).collect();
        shared.sort_by_key(|message| message.seq);
        assert_eq!(shared, watched, "each message went to exactly one taker");
        watched
    });
    let mut next: HashMap<Vec<u8>, usize> = HashMap::new();
    for (seq, message) in (1..).zip(all) {
        assert_eq!(message.seq, seq, "no gap");
        let expected = next.entry(message.topic).or_default();
        assert_eq!(
            String::from_utf8(message.payload).unwrap(),
            expected.to_string()
        );
        *expected += 1;
    }
}

/// Breaks the payload that contains `needle` on the disk.
fn hurt(disk: &TwinDisk, needle: &[u8]) {
    for path in disk.paths() {
        let bytes = disk.contents(&path).unwrap();
        if let Some(at) = bytes
            .windows(needle.len())
            .position(|window| window == needle)
        {
            let file = disk.open(&path).unwrap();
            file.write_at(b"?", at as u64).unwrap();
        }
    }
}

#[test]
fn a_damaged_message_is_left_out_counted_and_in_nobodys_way() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "t", "q");
    create(&broker, "t", "r");
    let mut publisher = broker.publisher();
    for text in ["first", "second", "third"] {
        publish(&mut publisher, "t", text.as_bytes());
    }
    hurt(&disk, b"first");
    assert_eq!(
        texts(&take(&broker, "t", "q", 1)),
        ["second"],
        "not empty: one waits behind it"
    );
    assert_eq!(broker.queue_status(b"t", "q").unwrap().damaged, 1);
    assert_eq!(
        texts(&broker.peek(b"t", "r", 9).unwrap().messages),
        ["second", "third"]
    );
    assert_eq!(broker.state(), StorageState::Ok);
    let (broker, recovery) = open(&disk.after_crash(Survival::Everything), small());
    assert_eq!(recovery.log.damage.len(), 1, "reported on opening");
    assert_eq!(texts(&take(&broker, "t", "r", 9)), ["second", "third"]);
}

#[test]
fn one_damaged_definition_costs_no_queue() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "the.pattern", "the name");
    publish(&mut broker.publisher(), "the.pattern", b"kept");
    drop(broker);
    hurt(&disk, b"the.pattern");
    let (broker, recovery) = open(&disk, small());
    assert_eq!(
        (recovery.log.damage.len(), recovery.undefined_queues),
        (1, 0)
    );
    assert_eq!(
        texts(&take(&broker, "the.pattern", "the name", 9)),
        ["kept"]
    );
    assert!(
        disk.paths()
            .iter()
            .any(|path| path.starts_with(Path::new("log/quarantine")))
    );
}

#[test]
fn a_callback_that_panics_costs_nobody_else_anything() {
    let (broker, _) = open(&TwinDisk::new(), small());
    create(&broker, "t", "q");
    let mut publisher = broker.publisher();
    let bad = Box::new(|_| panic!("a door's mistake, thrown on purpose"));
    publisher
        .publish(&message("t", b"1"), None, &mut Batch::default(), Some(bad))
        .unwrap();
    publish(&mut publisher, "t", b"2");
    assert_eq!(texts(&take(&broker, "t", "q", 9)), ["1", "2"]);
}

#[test]
fn nothing_is_given_out_or_acknowledged_before_it_is_durable() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    let inbox = crate::harness::Inbox::new();
    broker
        .subscribe(b"t", None, 1, std::sync::Arc::clone(&inbox) as _)
        .unwrap();
    create(&broker, "t", "q");
    let mut publisher = broker.publisher();
    publish(&mut publisher, "t", b"durable");
    disk.hold_syncs();
    let (call, published) = done();
    let second = message("t", b"not yet");
    publisher
        .publish(&second, None, &mut Batch::default(), Some(call))
        .unwrap();
    let (call, created) = done();
    assert!(broker.create_queue(b"t", "r", Start::First, call).unwrap());
    let (call, created_too) = done();
    assert!(!broker.create_queue(b"t", "r", Start::First, call).unwrap());
    let (sender, taken) = channel();
    let take_all = Box::new(move |outcome| sender.send(outcome).unwrap());
    broker.take(b"t", "q", 9, take_all).unwrap();
    let (sender, woken) = channel();
    broker
        .notify(b"t", "q", Box::new(move || sender.send(()).unwrap()))
        .unwrap();
    assert_eq!(
        inbox.count(),
        2,
        "live subscriptions do not wait for the disk"
    );
    assert_eq!(
        texts(&broker.peek(b"t", "q", 9).unwrap().messages),
        [""; 0],
        "taken, or not durable"
    );
    assert_eq!(
        texts(&broker.peek(b"t", "r", 9).unwrap().messages),
        ["durable"]
    );
    for fate in [&published, &created, &created_too] {
        assert_eq!(fate.now(), None);
    }
    assert!(taken.try_recv().is_err() && woken.try_recv().is_err());
    disk.release_syncs();
    let minute = Duration::from_secs(60);
    let taken = taken.recv_timeout(minute).unwrap().unwrap();
    assert_eq!(texts(&taken.messages), ["durable"]);
    taken.receipt.confirm();
    assert_eq!(published.wait(), Ok(2));
    assert!(created.wait().is_ok() && created_too.wait().is_ok());
    assert_eq!(woken.recv_timeout(minute), Ok(()));
    assert_eq!(texts(&take(&broker, "t", "q", 9)), ["not yet"]);
    assert_eq!(texts(&take(&broker, "t", "r", 9)), ["durable", "not yet"]);
}

/// A taker that vanishes before it had its messages loses none: they wait again, in their place,
/// also after a restart, and for nobody else.
#[test]
fn what_did_not_arrive_goes_back_to_its_place() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "t", "q");
    create(&broker, "t", "other");
    let mut publisher = broker.publisher();
    for text in ["1", "2", "3", "4"] {
        publish(&mut publisher, "t", text.as_bytes());
    }
    assert_eq!(texts(&take(&broker, "t", "other", 2)), ["1", "2"]);
    let (sender, taken) = channel();
    let call = Box::new(move |outcome| sender.send(outcome).unwrap());
    broker.take(b"t", "q", 3, call).unwrap();
    let taken = taken.recv().unwrap().unwrap();
    assert_eq!(texts(&taken.messages), ["1", "2", "3"]);
    assert_eq!(
        texts(&take(&broker, "t", "q", 9)),
        ["4"],
        "given to nobody else meanwhile"
    );
    drop(taken);
    publish(&mut publisher, "t", b"5");
    let (broker, recovery) = open(&disk.after_crash(Survival::Nothing), small());
    assert!(recovery.log.damage.is_empty());
    assert_eq!(texts(&take(&broker, "t", "q", 9)), ["1", "2", "3", "5"]);
    assert_eq!(texts(&take(&broker, "t", "other", 9)), ["3", "4", "5"]);
}
