//! Every limit of the broker at one below it, at it and at one above it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pinnace_log::twin::TwinDisk;
use pinnace_topics::{
    Batch, Broker, IDENTITY_BYTES_MAX, Options, QUEUE_NAME_BYTES_MAX, QueueOptions, Start,
    TOPIC_BYTES_MAX, TOPIC_TOKENS_MAX,
};

use crate::harness::{Inbox, create, done, message, open, small, try_publish};

/// One below the limit and the limit itself work; one above is refused.
fn check(what: &str, limit: usize, works: impl Fn(usize) -> bool) {
    for (size, expected) in [(limit - 1, true), (limit, true), (limit + 1, false)] {
        assert_eq!(works(size), expected, "{what}: {size} of {limit}");
    }
}

fn broker(options: Options) -> Broker {
    open(&TwinDisk::new(), options).0
}

/// A topic of so many bytes, in tokens that are short enough.
fn topic_of_bytes(bytes: usize) -> String {
    "a".repeat(bytes)
}

fn topic_of_tokens(tokens: usize) -> String {
    vec!["a"; tokens].join(".")
}

fn creates(broker: &Broker, pattern: &str, name: &str, options: Option<QueueOptions>) -> bool {
    let (call, fate) = done();
    let created = broker.create_queue_with(pattern.as_bytes(), name, Start::New, options, call);
    created.is_ok_and(|_| fate.wait().is_ok())
}

#[test]
fn names() {
    let broker = broker(small());
    let publishes = |topic: &str| {
        try_publish(&mut broker.publisher(), topic, b"").is_ok_and(|told| told.is_ok())
    };
    let subscribes = |pattern: &str| {
        let inbox = Inbox::new();
        broker.subscribe(pattern.as_bytes(), None, 1, inbox).is_ok()
    };
    for (what, limit, make) in [
        (
            "bytes",
            TOPIC_BYTES_MAX,
            topic_of_bytes as fn(usize) -> String,
        ),
        ("tokens", TOPIC_TOKENS_MAX, topic_of_tokens),
    ] {
        check(what, limit, |size| publishes(&make(size)));
        check(what, limit, |size| subscribes(&make(size)));
    }
    // Its definition is a record, which these options make smaller than the longest pattern.
    check("tokens", TOPIC_TOKENS_MAX, |tokens| {
        creates(&broker, &topic_of_tokens(tokens), "q", None)
    });
    check("name of a queue", QUEUE_NAME_BYTES_MAX, |bytes| {
        creates(&broker, "t", &"q".repeat(bytes), None)
    });
    let dead_letters = |size| QueueOptions {
        dead_letter: Some(topic_of_tokens(size).into_bytes().into()),
        ..QueueOptions::default()
    };
    check("topic of dead letters", TOPIC_TOKENS_MAX, |tokens| {
        creates(&broker, "t", "q", Some(dead_letters(tokens)))
    });
    check("identity", IDENTITY_BYTES_MAX, |bytes| {
        let id = vec![b'i'; bytes];
        let message = message("t", b"");
        let mut publisher = broker.publisher();
        let published = publisher.publish_once(&message, &id, None, &mut Batch::default(), None);
        published.is_ok()
    });
}

/// Whether the last of so many messages of three bytes is taken.
fn takes_messages(options: Options, own: QueueOptions, count: usize) -> bool {
    let broker = broker(options);
    assert!(creates(&broker, "t", "q", Some(own)));
    let mut publisher = broker.publisher();
    let mut told = (0..count).map(|_| try_publish(&mut publisher, "t", b"xy").is_ok());
    let before = told.by_ref().take(count - 1).all(|taken| taken);
    assert!(before, "the last is the first that may be refused");
    told.next().unwrap()
}

#[test]
fn what_queues_and_the_broker_hold() {
    let own = QueueOptions::default;
    check("messages of a queue", 3, |count| {
        let own = QueueOptions {
            messages_max: Some(3),
            ..own()
        };
        takes_messages(small(), own, count)
    });
    check("messages of every queue", 3, |count| {
        let options = Options {
            queue_messages_max: 3,
            ..small()
        };
        takes_messages(options, own(), count)
    });
    check("messages of the broker", 3, |count| {
        let options = Options {
            messages_max: 3,
            ..small()
        };
        takes_messages(options, own(), count)
    });
    let bytes = 100;
    let alone = |options: Options, own: QueueOptions, bytes: usize| {
        let broker = broker(options);
        assert!(creates(&broker, "t", "q", Some(own)));
        try_publish(&mut broker.publisher(), "t", &vec![b'x'; bytes - 1]).is_ok()
    };
    check("bytes of a queue", bytes, |size| {
        let own = QueueOptions {
            bytes_max: Some(100),
            ..own()
        };
        alone(small(), own, size)
    });
    check("bytes of every queue", bytes, |size| {
        let options = Options {
            queue_bytes_max: 100,
            ..small()
        };
        alone(options, own(), size)
    });
    check("bytes of the broker", bytes, |size| {
        let options = Options {
            bytes_max: 100,
            ..small()
        };
        alone(options, own(), size)
    });
    check("queues", 3, |count| {
        let broker = broker(Options {
            queues_max: 3,
            ..small()
        });
        (0..count).all(|n| creates(&broker, "t", &n.to_string(), None))
    });
    // A message's record is its head (here of seven bytes), its topic and its payload.
    check("a record", small().log.record_bytes_max as usize, |size| {
        let broker = open_at(1);
        create(&broker, "t", "q");
        try_publish(&mut broker.publisher(), "t", &vec![b'x'; size - 8])
            .is_ok_and(|told| told.is_ok())
    });
}

/// A broker whose clock stands so low that times take one byte.
fn open_at(now_us: u64) -> Broker {
    let disk = Arc::new(TwinDisk::new());
    let path = std::path::Path::new("log");
    let clock = Arc::new(move || now_us);
    Broker::open_on(disk, path, small(), clock).unwrap().0
}

#[test]
fn who_waits_for_a_queue() {
    let broker = broker(small());
    check("wakes", 65_536, |count| {
        create(&broker, "t", "q");
        let all = (0..count).all(|_| broker.notify(b"t", "q", Box::new(|| ())).is_ok());
        crate::harness::delete(&broker, "t", "q");
        all
    });
}

/// Messages of one topic that wait in a queue, in a log of the usual size.
fn filled(count: usize, now_us: &Arc<AtomicU64>, options: Option<QueueOptions>) -> Broker {
    let (disk, clock) = (Arc::new(TwinDisk::new()), Arc::clone(now_us));
    let clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let path = std::path::Path::new("log");
    let broker = Broker::open_on(disk, path, Options::default(), clock)
        .unwrap()
        .0;
    assert!(creates(&broker, "t", "q", options));
    let (mut publisher, mut batch) = (broker.publisher(), Batch::default());
    for _ in 0..count {
        let published = publisher.publish(&message("t", b""), None, &mut batch, None);
        assert_eq!(published.unwrap().queues, 1);
    }
    let (call, fate) = done();
    broker.settle(call);
    fate.wait().unwrap();
    broker
}

#[test]
fn what_one_tick_drops() {
    let aging = QueueOptions {
        age_max_us: Some(1),
        ..QueueOptions::default()
    };
    for (count, left) in [(99_999, 0), (100_000, 0), (100_001, 1)] {
        let now_us = Arc::new(AtomicU64::new(1));
        let broker = filled(count, &now_us, Some(aging.clone()));
        now_us.store(9, Ordering::Relaxed);
        broker.tick(Instant::now());
        let status = broker.queue_status(b"t", "q").unwrap();
        assert_eq!(status.messages, left, "{count}");
    }
}

#[test]
fn what_one_page_looks_at() {
    let now_us = Arc::new(AtomicU64::new(1));
    for (count, is_last) in [(65_535, true), (65_536, true), (65_537, false)] {
        let broker = filled(count, &now_us, None);
        let page = broker.page(b"another", 0, 9).unwrap();
        assert_eq!((page.last, page.messages.len()), (is_last, 0), "{count}");
        assert_eq!(page.through_seq, count.min(65_536) as u64);
    }
}
