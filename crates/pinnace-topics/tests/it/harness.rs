//! What the tests share: a broker on a twin disk, sinks that remember, calls that wait for `done`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pinnace_log::twin::TwinDisk;
use pinnace_topics::{
    Batch, Broker, Done, Error, Flush, Message, Options, PublishError, Published, Publisher,
    Recovery, Sink, Start, StoreError, Stored,
};

/// Small segments, so that a few messages roll.
pub(crate) fn small() -> Options {
    let log = pinnace_log::Options {
        segment_bytes: 8192,
        record_bytes_max: 2048,
        buffer_bytes_max: 1 << 20,
        salt: Some(5),
    };
    Options {
        log,
        ..Options::default()
    }
}

pub(crate) fn open(disk: &TwinDisk, options: Options) -> (Broker, Recovery) {
    let clock = Arc::new(|| 1_700_000_000_000_000);
    Broker::open_on(Arc::new(disk.clone()), Path::new("log"), options, clock).unwrap()
}

pub(crate) fn message<'a>(topic: &'a str, payload: &'a [u8]) -> Message<'a> {
    Message {
        topic: topic.as_bytes(),
        reply: None,
        headers: b"",
        payload,
    }
}

/// A `done` and where its outcome arrives. Not everybody waits for it.
pub(crate) fn done() -> (Done, Fate) {
    let (sender, receiver) = channel();
    (
        Box::new(move |outcome| drop(sender.send(outcome))),
        Fate(receiver),
    )
}

pub(crate) struct Fate(Receiver<Result<u64, StoreError>>);

impl Fate {
    pub(crate) fn wait(&self) -> Result<u64, StoreError> {
        self.0
            .recv_timeout(Duration::from_secs(60))
            .expect("done was not called")
    }

    /// The outcome if it is there already.
    pub(crate) fn now(&self) -> Option<Result<u64, StoreError>> {
        self.0.try_recv().ok()
    }
}

pub(crate) fn create(broker: &Broker, pattern: &str, name: &str) -> bool {
    create_from(broker, pattern, name, Start::New)
}

pub(crate) fn create_from(broker: &Broker, pattern: &str, name: &str, from: Start) -> bool {
    let (done, fate) = done();
    let created = broker
        .create_queue(pattern.as_bytes(), name, from, done)
        .unwrap();
    fate.wait().unwrap();
    created
}

pub(crate) fn delete(broker: &Broker, pattern: &str, name: &str) -> bool {
    let (done, fate) = done();
    let deleted = broker.delete_queue(pattern.as_bytes(), name, done).unwrap();
    fate.wait().unwrap();
    deleted
}

/// Publishes and waits until it is durable, if any queue matches.
pub(crate) fn publish(publisher: &mut Publisher, topic: &str, payload: &[u8]) -> Published {
    try_publish(publisher, topic, payload).unwrap().unwrap()
}

pub(crate) fn try_publish(
    publisher: &mut Publisher,
    topic: &str,
    payload: &[u8],
) -> Result<Result<Published, StoreError>, PublishError> {
    let (done, fate) = done();
    let mut batch = Batch::default();
    let published = publisher.publish(&message(topic, payload), None, &mut batch, Some(done))?;
    batch.flush();
    match published.seq {
        Some(seq) => Ok(fate.wait().map(|durable| {
            assert_eq!(durable, seq);
            published
        })),
        None => Ok(Ok(published)),
    }
}

pub(crate) fn try_take(
    broker: &Broker,
    pattern: &str,
    name: &str,
    max: usize,
) -> Result<Result<Vec<Stored>, StoreError>, Error> {
    let (sender, receiver) = channel();
    let done = Box::new(move |outcome| sender.send(outcome).unwrap());
    broker.take(pattern.as_bytes(), name, max, done)?;
    let taken = receiver
        .recv_timeout(Duration::from_secs(60))
        .expect("done was not called");
    Ok(taken.map(|taken| {
        taken.receipt.confirm();
        taken.messages
    }))
}

pub(crate) fn take(broker: &Broker, pattern: &str, name: &str, max: usize) -> Vec<Stored> {
    try_take(broker, pattern, name, max).unwrap().unwrap()
}

/// The payloads of a take, as text.
pub(crate) fn texts(stored: &[Stored]) -> Vec<String> {
    stored
        .iter()
        .map(|message| String::from_utf8(message.payload.clone()).unwrap())
        .collect()
}

/// A sink that remembers, and that can be closed.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) got: Mutex<Vec<(String, String)>>,
    pub(crate) closed: AtomicBool,
    pub(crate) connection: Arc<Connection>,
}

#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) flushes: AtomicUsize,
}

impl Flush for Connection {
    fn flush(&self) -> bool {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        false
    }
}

impl Inbox {
    pub(crate) fn new() -> Arc<Inbox> {
        Arc::default()
    }

    pub(crate) fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

impl Sink for Inbox {
    fn deliver(&self, message: &Message<'_>, batch: &mut Batch) -> bool {
        if self.closed.load(Ordering::Relaxed) {
            return false;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        self.got
            .lock()
            .unwrap()
            .push((text(message.topic), text(message.payload)));
        batch.touch(Arc::clone(&self.connection) as Arc<dyn Flush>);
        true
    }
}
