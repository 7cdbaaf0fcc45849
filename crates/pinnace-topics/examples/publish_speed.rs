//! How fast publishing is here: the live path, a topic per message, and durable with 1 to 64
//! publishers on a real disk.
//!
//! `cargo run --release -p pinnace-topics --example publish_speed -- <directory>`; the directory is
//! made and holds the log. Figures go to standard output, one line each.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pinnace_topics::{Batch, Broker, Message, Options, Sink, Start};

#[derive(Default)]
struct Counter(AtomicU64);

impl Sink for Counter {
    fn deliver(&self, _: &Message<'_>, _: &mut Batch) -> bool {
        // One writer in the measured loop: a plain load and store, so that the sink costs little.
        self.0
            .store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        true
    }
}

fn message<'a>(topic: &'a [u8], payload: &'a [u8]) -> Message<'a> {
    Message {
        topic,
        reply: None,
        headers: b"",
        payload,
    }
}

fn live(broker: &Broker) {
    const COUNT: u64 = 20_000_000;
    let sink = Arc::new(Counter::default());
    let id = broker
        .subscribe(b"bench.live", None, 1, Arc::clone(&sink) as _)
        .unwrap();
    let mut publisher = broker.publisher();
    let mut batch = Batch::default();
    let time = |name: &str, count: u64, step: &mut dyn FnMut(u64)| {
        let start = Instant::now();
        (0..count).for_each(&mut *step);
        let ns = start.elapsed().as_nanos() as f64 / count as f64;
        println!("{name}: {ns:.1} ns for each publish");
    };
    time("live, one topic, one subscription", COUNT, &mut |_| {
        publisher
            .publish(&message(b"bench.live", &[0; 16]), None, &mut batch, None)
            .unwrap();
    });
    assert_eq!(sink.0.load(Ordering::Relaxed), COUNT);
    broker
        .subscribe(b"bench.*", None, 1, Arc::clone(&sink) as _)
        .unwrap();
    let topics: Vec<String> = (0..1000).map(|n| format!("bench.topic{n}")).collect();
    time(
        "live, 1000 topics in turn, one subscription",
        COUNT,
        &mut |n| {
            let topic = topics[n as usize % topics.len()].as_bytes();
            publisher
                .publish(&message(topic, &[0; 16]), None, &mut batch, None)
                .unwrap();
        },
    );
    let mut text = *b"bench.00000000";
    time("live, a new topic each time", COUNT / 20, &mut |n| {
        text[6..].copy_from_slice(format!("{n:08}").as_bytes());
        publisher
            .publish(&message(&text, &[0; 16]), None, &mut batch, None)
            .unwrap();
    });
    broker.unsubscribe(id);
}

/// Each publisher waits for its acknowledgement before the next message.
fn durable(broker: &Broker, publishers: u64) {
    let each = 20_000 / publishers.max(8);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..publishers {
            scope.spawn(|| {
                let mut publisher = broker.publisher();
                let mut batch = Batch::default();
                for _ in 0..each {
                    let (sender, receiver) = channel();
                    let done = Box::new(move |outcome| drop(sender.send(outcome)));
                    let message = message(b"stored", &[7; 128]);
                    publisher
                        .publish(&message, None, &mut batch, Some(done))
                        .unwrap();
                    receiver.recv().unwrap().unwrap();
                }
            });
        }
    });
    let rate = (publishers * each) as f64 / start.elapsed().as_secs_f64();
    println!("durable, {publishers} publishers, each waiting: {rate:.0} messages/s acknowledged");
}

/// One publisher that does not wait until the end.
fn pipelined(broker: &Broker) {
    const COUNT: u64 = 1_000_000;
    let (sender, receiver) = channel();
    let mut publisher = broker.publisher();
    let mut batch = Batch::default();
    let start = Instant::now();
    for n in 0..COUNT {
        let sender = (n == COUNT - 1).then(|| sender.clone());
        loop {
            let sender = sender.clone();
            let done = Box::new(move |_| {
                if let Some(sender) = sender {
                    sender.send(()).unwrap();
                }
            });
            match publisher.publish(&message(b"stored", &[7; 128]), None, &mut batch, Some(done)) {
                Ok(_) => break,
                Err(_) => broker.wait_for_room(512),
            }
        }
    }
    let published = start.elapsed();
    receiver.recv().unwrap();
    let rate = COUNT as f64 / start.elapsed().as_secs_f64();
    let ns = published.as_nanos() as f64 / COUNT as f64;
    println!("durable, pipelined: {rate:.0} messages/s acknowledged, {ns:.0} ns for each publish");
}

fn take_all(broker: &Broker) {
    let start = Instant::now();
    let mut count = 0;
    loop {
        let (sender, receiver) = channel();
        let done = Box::new(move |outcome| drop(sender.send(outcome)));
        broker.take(b"stored", "q", 1000, done).unwrap();
        let taken = receiver.recv().unwrap().unwrap();
        taken.receipt.confirm();
        match taken.messages.len() {
            0 => break,
            taken => count += taken,
        }
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("takes of 1000: {rate:.0} messages/s");
}

fn main() {
    let dir = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("publish-speed"), Into::into);
    let options = Options {
        queue_messages_max: 10_000_000,
        ..Options::default()
    };
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_micros() as u64
    };
    let (broker, recovery) = Broker::open(&dir, options.clone(), Arc::new(now)).unwrap();
    println!("opened with {} messages", recovery.messages);
    live(&broker);
    let (sender, receiver) = channel();
    let done = Box::new(move |outcome| drop(sender.send(outcome)));
    broker
        .create_queue(b"stored", "q", Start::New, done)
        .unwrap();
    receiver.recv().unwrap().unwrap();
    for publishers in [1, 8, 32, 64] {
        durable(&broker, publishers);
    }
    pipelined(&broker);
    drop(broker);
    let start = Instant::now();
    let (broker, recovery) = Broker::open(&dir, options, Arc::new(now)).unwrap();
    println!(
        "reopened with {} messages in {:?}",
        recovery.messages,
        start.elapsed()
    );
    take_all(&broker);
    println!("{} bytes stored at the end", broker.stored_bytes());
}
