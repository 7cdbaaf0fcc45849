//! All subscribers on one epoll loop, counting by comparing.
//!
//! Invariant: a delivery is counted only when its frame is byte for byte what it must be around the
//! payload and the payload carries the next number of its topic; a gap, a repeat or a stranger ends
//! the measurement.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{Timespec, epoll};

use super::clock::now_ns;
use super::publisher::Stamp;
use super::wire::{Item, Template, Wire};
use crate::limits::{DELIVERY_STALL_MAX, RECEIVE_BYTES, RECEIVE_LOOK};

/// How far publishers and subscribers are, shared by their threads.
#[derive(Debug)]
pub struct Progress {
    topics: Vec<Topic>,
    failed: AtomicBool,
}

#[derive(Debug)]
struct Topic {
    /// Deliveries over all its subscribers, in all phases.
    delivered: AtomicU64,
    subscribers: u64,
    /// Messages each subscriber must have; all ones while the publisher is at work.
    goal: AtomicU64,
}

const UNKNOWN: u64 = u64::MAX;

impl Progress {
    /// For topics with so many reading subscribers each.
    pub fn new(subscribers: &[u64]) -> Self {
        let topic = |count: &u64| Topic {
            delivered: AtomicU64::new(0),
            subscribers: *count,
            goal: AtomicU64::new(UNKNOWN),
        };
        Self {
            topics: subscribers.iter().map(topic).collect(),
            failed: AtomicBool::new(false),
        }
    }

    /// Messages of a topic that its subscribers have on average.
    pub fn seen_by_all(&self, topic: usize) -> u64 {
        let topic = &self.topics[topic];
        let delivered = topic.delivered.load(Ordering::Relaxed);
        delivered
            .checked_div(topic.subscribers)
            .unwrap_or(UNKNOWN / 2)
    }

    /// A publisher is done with its phase, having published `sent` in all phases.
    pub fn published(&self, topic: usize, sent: u64) {
        self.topics[topic].goal.store(sent, Ordering::Release);
    }

    /// Another phase begins.
    pub fn begin(&self) {
        for topic in &self.topics {
            topic.goal.store(UNKNOWN, Ordering::Release);
        }
    }

    /// Somebody has given up: the others need not go on.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has given up.
    pub fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// One subscribed connection.
pub struct Subscriber {
    stream: TcpStream,
    topic: usize,
    expected: Template,
    /// The front of a frame that has not wholly arrived.
    tail: Vec<u8>,
    received: u64,
}

impl Subscriber {
    /// Reads `expected` deliveries of `topic` from `stream`.
    pub fn new(stream: TcpStream, topic: usize, expected: Template) -> Self {
        Self {
            stream,
            topic,
            expected,
            tail: Vec::new(),
            received: 0,
        }
    }
}

/// The loop and its subscribers.
pub struct Receiver<'a> {
    wire: &'a dyn Wire,
    epoll: OwnedFd,
    subscribers: Vec<Subscriber>,
    buffer: Vec<u8>,
}

/// What a phase showed, nanoseconds; empty unless it was asked for.
#[derive(Debug, Default)]
pub struct Latencies {
    /// From the send to the arrival.
    pub from_send_ns: Vec<u32>,
    /// From when the send was due.
    pub from_due_ns: Vec<u32>,
}

impl Latencies {
    fn add(&mut self, payload: &[u8], now_ns: u64) {
        if let Some(stamp) = Stamp::get(payload) {
            let since = |then: u64| u32::try_from(now_ns.saturating_sub(then)).unwrap_or(u32::MAX);
            self.from_send_ns.push(since(stamp.sent_ns));
            self.from_due_ns.push(since(stamp.due_ns));
        }
    }
}

impl<'a> Receiver<'a> {
    /// A loop over `subscribers`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(wire: &'a dyn Wire, subscribers: Vec<Subscriber>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, subscriber) in subscribers.iter().enumerate() {
            subscriber.stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &subscriber.stream, data, epoll::EventFlags::IN)?;
        }
        Ok(Self {
            wire,
            epoll,
            subscribers,
            buffer: vec![0; RECEIVE_BYTES],
        })
    }

    /// Receives until every subscriber has all that was published, and says when that was.
    ///
    /// # Errors
    /// When a delivery is not what it must be, or nothing comes for a while.
    pub fn phase(&mut self, progress: &Progress, stamped: bool) -> Result<(Instant, Latencies)> {
        let mut latencies = stamped.then(Latencies::default);
        let mut last = Instant::now();
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 256];
        let look = Timespec {
            tv_sec: 0,
            tv_nsec: RECEIVE_LOOK.subsec_nanos().into(),
        };
        while !self.is_complete(progress) {
            let (ready, _) = match epoll::wait(&self.epoll, &mut events, Some(&look)) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            if ready.is_empty() {
                self.check_stall(progress, last.elapsed())?;
                continue;
            }
            for event in ready.iter() {
                let index = event.data.u64() as usize;
                let subscriber = &mut self.subscribers[index];
                subscriber
                    .read(self.wire, &mut self.buffer, latencies.as_mut(), progress)
                    .with_context(|| format!("subscriber {index}"))?;
            }
            last = Instant::now();
        }
        Ok((last, latencies.unwrap_or_default()))
    }

    fn is_complete(&self, progress: &Progress) -> bool {
        let complete = |subscriber: &Subscriber| {
            let goal = &progress.topics[subscriber.topic].goal;
            goal.load(Ordering::Acquire) == subscriber.received
        };
        // Without a subscriber nothing is awaited.
        self.subscribers.iter().all(complete)
    }

    fn check_stall(&self, progress: &Progress, silent: Duration) -> Result<()> {
        ensure!(!progress.is_failed(), "a publisher gave up");
        if silent < DELIVERY_STALL_MAX {
            return Ok(());
        }
        let lacking = self.subscribers.iter().map(|subscriber| {
            let goal = progress.topics[subscriber.topic]
                .goal
                .load(Ordering::Acquire);
            (goal != UNKNOWN).then(|| goal.abs_diff(subscriber.received))
        });
        match lacking.sum::<Option<u64>>() {
            Some(lost) => bail!("{lost} deliveries are missing after {silent:?} of silence"),
            None => bail!("no delivery for {silent:?} while publishing"),
        }
    }
}

impl Subscriber {
    /// Reads once and counts what has wholly arrived.
    fn read(
        &mut self,
        wire: &dyn Wire,
        buffer: &mut [u8],
        latencies: Option<&mut Latencies>,
        progress: &Progress,
    ) -> Result<()> {
        let kept = self.tail.len();
        buffer[..kept].copy_from_slice(&self.tail);
        let count = match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let before = self.received;
        let bytes = &buffer[..kept + count];
        let taken = self.take(wire, bytes, latencies)?;
        self.tail.clear();
        self.tail.extend_from_slice(&bytes[taken..]);
        let delivered = &progress.topics[self.topic].delivered;
        delivered.fetch_add(self.received - before, Ordering::Relaxed);
        Ok(())
    }

    /// Counts the frames at the front of `bytes` and says how long they are.
    fn take(
        &mut self,
        wire: &dyn Wire,
        bytes: &[u8],
        mut latencies: Option<&mut Latencies>,
    ) -> Result<usize> {
        let Template {
            bytes: frame,
            payload,
        } = &self.expected;
        let (head, end) = (&frame[..payload.start], &frame[payload.end..]);
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            if let Some(found) = rest.get(..frame.len())
                && found.starts_with(head)
            {
                let stamp = &found[payload.clone()];
                let number = stamp.first_chunk().copied().map(u64::from_le_bytes);
                ensure!(
                    found.ends_with(end) && number == Some(self.received),
                    "message {number:?} came where {} was due",
                    self.received
                );
                if let Some(latencies) = latencies.as_deref_mut() {
                    latencies.add(stamp, now_ns());
                }
                self.received += 1;
                taken += frame.len();
            } else if rest.len() < frame.len()
                && rest.starts_with(&head[..head.len().min(rest.len())])
            {
                return Ok(taken);
            } else {
                let Some((length, item)) = wire.next(rest)? else {
                    return Ok(taken);
                };
                match item {
                    Item::Asked(answer) => self.stream.write_all(answer)?,
                    Item::Message(_) => bail!("a message with a frame nobody expects"),
                    Item::Fence | Item::Answer(_) | Item::Other => {}
                }
                taken += length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::wire::nats::Nats;
    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (here, listener.accept().unwrap().0)
    }

    fn deliveries(numbers: &[u64]) -> Vec<u8> {
        let template = Nats.delivery("t", 1, None, 16);
        let frame = |number: &u64| {
            let mut bytes = template.bytes.clone();
            bytes[template.payload.start..][..8].copy_from_slice(&number.to_le_bytes());
            bytes
        };
        numbers.iter().flat_map(frame).collect()
    }

    fn take(bytes: &[u8]) -> Result<(u64, usize)> {
        let mut one = Subscriber::new(pair().0, 0, Nats.delivery("t", 1, None, 16));
        let taken = one.take(&Nats, bytes, None)?;
        Ok((one.received, taken))
    }

    #[test]
    fn what_is_counted_was_compared() {
        let three = deliveries(&[0, 1, 2]);
        let frame = three.len() / 3;
        for cut in 0..=three.len() {
            let expected = (cut / frame) as u64;
            assert_eq!(
                take(&three[..cut]).unwrap(),
                (expected, cut / frame * frame)
            );
        }
        for wrong in [&[1][..], &[0, 2], &[0, 0], &[0, 1, 0]] {
            assert!(take(&deliveries(wrong)).is_err(), "{wrong:?}");
        }
        let mut torn = three.clone();
        torn[frame - 1] = b'x';
        assert!(take(&torn).is_err());
        let mut stranger = three;
        stranger[4] = b'u';
        assert!(take(&stranger).is_err());
    }

    #[test]
    fn a_question_between_messages_is_answered() {
        let (mut far, near) = pair();
        let mut bytes = deliveries(&[0]);
        bytes.extend_from_slice(b"PING\r\n");
        bytes.extend_from_slice(&deliveries(&[1]));
        far.write_all(&bytes).unwrap();
        let expected = Nats.delivery("t", 1, None, 16);
        let mut receiver = Receiver::new(&Nats, vec![Subscriber::new(near, 0, expected)]).unwrap();
        let progress = Progress::new(&[1]);
        progress.published(0, 2);
        receiver.phase(&progress, false).unwrap();
        assert_eq!(progress.seen_by_all(0), 2);
        let mut answer = [0; 6];
        far.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"PONG\r\n");
    }
}
