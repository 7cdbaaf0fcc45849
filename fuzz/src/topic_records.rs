//! A log with any records in it, opened as a broker: it opens or refuses; everything can be asked of one
//! that opened, and what is in it is in it after a restart.
//!
//! The input is records, each behind its length in one byte.

#![no_main]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use pinnace_log::twin::{Survival, TwinDisk};
use pinnace_log::{Log, Observer, Position};
use pinnace_topics::{Batch, Broker, Message, Options};

struct Nobody;

impl Observer for Nobody {
    fn committed(&mut self, _: u64, _: &[Position]) {}
    fn refused(&mut self, _: u64, _: u64, _: &str) {}
    fn failed(&mut self, _: &str) {}
}

fn options() -> Options {
    let log = pinnace_log::Options {
        segment_bytes: 8192,
        record_bytes_max: 2048,
        buffer_bytes_max: 1 << 20,
        salt: Some(7),
    };
    Options {
        log,
        ..Options::default()
    }
}

fn write(disk: &TwinDisk, mut input: &[u8]) {
    let disk = Arc::new(disk.clone());
    let opened = Log::open(disk, Path::new("log"), options().log, &mut |_, _, _| Ok(()));
    let log = opened
        .expect("a new log")
        .start(Box::new(Nobody))
        .expect("a thread");
    while let Some((length, rest)) = input.split_first() {
        let (record, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        log.append(&[record]).expect("room");
        input = rest;
    }
}

fn open(disk: &TwinDisk) -> Option<Broker> {
    let clock = Arc::new(|| 1_000_000);
    let disk = Arc::new(disk.clone());
    let opened = Broker::open_on(disk, Path::new("log"), options(), clock);
    let (broker, recovery) = opened.ok()?;
    assert!(recovery.log.damage.is_empty());
    Some(broker)
}

/// Numbers of what waits in each queue.
fn contents(broker: &Broker) -> Vec<(Vec<u8>, String, Vec<u64>)> {
    let seqs = |pattern: &[u8], name: &str| -> Vec<u64> {
        let peeked = broker.peek(pattern, name, 1_000).expect("it exists");
        peeked.messages.iter().map(|message| message.seq).collect()
    };
    let queues = broker.queues().into_iter();
    queues
        .map(|queue| {
            let seqs = seqs(&queue.pattern, &queue.name);
            (queue.pattern, queue.name, seqs)
        })
        .collect()
}

fn use_it(broker: &Broker) {
    let now = Instant::now();
    let held: u64 = broker.topics().iter().map(|topic| topic.messages).sum();
    assert!(held > 0 || contents(broker).iter().all(|(_, _, seqs)| seqs.is_empty()));
    broker.page(b">", 0, 100).expect("a pattern");
    for (pattern, name, _) in contents(broker) {
        let lease = broker.lease(&pattern, &name, 1, now + Duration::from_secs(1));
        lease.expect("it exists");
        let (sender, taken) = channel();
        let call = Box::new(move |outcome| drop(sender.send(outcome)));
        broker.take(&pattern, &name, 1, call).expect("it exists");
        drop(taken.recv().expect("an answer"));
    }
    let message = Message {
        topic: b"a",
        reply: None,
        headers: b"",
        payload: b"",
    };
    // It may be refused: records can set any limit.
    let _ = broker
        .publisher()
        .publish_once(&message, b"id", None, &mut Batch::default(), None);
    broker.tick(now + Duration::from_secs(2));
    let (sender, settled) = channel();
    broker.settle(Box::new(move |outcome| drop(sender.send(outcome))));
    let settled = settled.recv().expect("an answer");
    settled.expect("nothing fails");
}

fuzz_target!(|input: &[u8]| {
    let disk = TwinDisk::new();
    write(&disk, input);
    let Some(broker) = open(&disk) else {
        return;
    };
    let before = contents(&broker);
    drop(broker);
    let broker = open(&disk).expect("it opened before");
    assert_eq!(contents(&broker), before, "a restart changed it");
    use_it(&broker);
    let before = contents(&broker);
    let after = open(&disk.after_crash(Survival::Nothing)).expect("it opened before");
    // Except where a message came back in between: its copy need not be durable when it is seen.
    for (found, expected) in contents(&after).iter().zip(&before) {
        assert_eq!((&found.0, &found.1), (&expected.0, &expected.1));
    }
});
