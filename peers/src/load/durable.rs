//! Durable publish: so many under way on one connection, each acknowledged once it is stored.
//!
//! Invariant: acknowledgements are counted by the sequence they carry, which must go up by one each,
//! so that none is missing and none is for another message.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::Figures;
use super::clock::now_ns;
use super::http;
use super::line::{Line, Target};
use super::spent::Meter;
use super::wire::nats::Nats;
use super::wire::resp::Resp;
use super::wire::{Item, Template, Wire};
use crate::limits::{BATCH_BYTES, EXCHANGE_MAX, WARM_UP};

const TOPIC: &str = "bench";
const INBOX: &str = "inbox.1";
const READ_BYTES: usize = 64 << 10;

/// How a server stores and acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Pinnace: a topic that has a queue; the reply subject gets `{"seq":N}`.
    Queue,
    /// JetStream: a stream over the topic; the reply subject gets `{"stream":…,"seq":N}`.
    JetStream,
    /// Redis: an entry of a stream; the answer is its id.
    Stream,
}

impl Store {
    /// The protocol it is reached by.
    pub fn wire(self) -> &'static dyn Wire {
        match self {
            Self::Queue | Self::JetStream => &Nats,
            Self::Stream => &Resp,
        }
    }
}

/// Publishes for `duration` with `window` under way.
///
/// # Errors
/// When a publish is not acknowledged, or out of order.
pub fn run(
    (target, http): (&Target<'_>, &str),
    meter: &Meter,
    store: Store,
    (payload_bytes, window): (usize, usize),
    duration: Duration,
) -> Result<Figures> {
    ensure!(payload_bytes >= 8, "a payload needs 8 bytes");
    prepare(target, http, store)?;
    let frame = match store {
        Store::Stream => Resp.append(TOPIC, payload_bytes),
        _ => target.wire.publish(TOPIC, Some(INBOX), payload_bytes),
    };
    let mut writer = Writer::open(target, store, vec![frame], window)?;
    writer.phase(Until::after(WARM_UP))?;
    writer.times_ns.clear();
    let (cpu_before, before, began) = (meter.cpu()?, writer.acknowledged, Instant::now());
    writer.phase(Until::after(duration))?;
    let (cpu, seconds) = (meter.cpu()? - cpu_before, began.elapsed().as_secs_f64());
    let figures = Figures {
        published: writer.acknowledged - before,
        seconds,
        server_cpu_s: cpu.server.as_secs_f64(),
        generator_cpu_s: cpu.generator.as_secs_f64(),
        peak_rss_bytes: meter.memory()?.peak_rss_bytes,
        ..Figures::default()
    };
    Ok(figures.with_latencies(writer.times_ns, Vec::new()))
}

/// Publishes `count` messages to queues of Pinnace, one topic after the other and again.
///
/// # Errors
/// As [`run`].
pub fn fill(
    target: &Target<'_>,
    topics: &[String],
    (payload_bytes, window): (usize, usize),
    count: usize,
) -> Result<()> {
    let frame = |topic: &String| target.wire.publish(topic, Some(INBOX), payload_bytes);
    let frames = topics.iter().map(frame).collect();
    let mut writer = Writer::open(target, Store::Queue, frames, window)?;
    writer.phase(Until::Sent(count as u64))
}

/// When a phase ends.
#[derive(Clone, Copy, Debug)]
enum Until {
    Time(Instant),
    Sent(u64),
}

impl Until {
    fn after(duration: Duration) -> Self {
        Self::Time(Instant::now() + duration)
    }
}

/// Makes what stores the topic.
fn prepare(target: &Target<'_>, http: &str, store: Store) -> Result<()> {
    match store {
        Store::Queue => {
            http::ask(http, "POST", &format!("/{TOPIC}/one"), b"")?;
        }
        Store::JetStream => {
            let mut line = Line::open(target, 0, &[INBOX])?;
            let config = serde_json::json!({
                "name": TOPIC, "subjects": [TOPIC], "storage": "file", "retention": "limits",
            });
            let subject = format!("$JS.API.STREAM.CREATE.{TOPIC}");
            let answer = line.ask(&subject, INBOX, config.to_string().as_bytes())?;
            let answer: Value = serde_json::from_slice(&answer).context("JetStream's answer")?;
            ensure!(answer["error"].is_null(), "JetStream says {answer}");
        }
        Store::Stream => {}
    }
    Ok(())
}

struct Writer<'a> {
    wire: &'a dyn Wire,
    store: Store,
    stream: TcpStream,
    /// Sent in turns.
    frames: Vec<Template>,
    window: usize,
    /// When each of those under way was sent.
    under_way: VecDeque<u64>,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    times_ns: Vec<u32>,
    sent: u64,
    acknowledged: u64,
    last_seq: Option<u64>,
}

impl<'a> Writer<'a> {
    fn open(
        target: &Target<'a>,
        store: Store,
        frames: Vec<Template>,
        window: usize,
    ) -> Result<Self> {
        let topics: &[&str] = if store == Store::Stream {
            &[]
        } else {
            &[INBOX]
        };
        let stream = Line::open(target, 1, topics)?.into_stream()?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            wire: target.wire,
            store,
            stream,
            frames,
            window,
            under_way: VecDeque::new(),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            times_ns: Vec::new(),
            sent: 0,
            acknowledged: 0,
            last_seq: None,
        })
    }

    /// Publishes until the phase is over, then waits for what is under way.
    fn phase(&mut self, until: Until) -> Result<()> {
        loop {
            let room = match until {
                Until::Time(end) if Instant::now() >= end => 0,
                Until::Time(_) => u64::MAX,
                Until::Sent(count) => count - self.sent,
            };
            if room == 0 && self.under_way.is_empty() {
                return Ok(());
            }
            self.fill(room);
            self.write()?;
            self.read()?;
        }
    }

    /// Puts as many publishes into the outgoing bytes as the window and `room` allow.
    fn fill(&mut self, mut room: u64) {
        while room > 0 && self.under_way.len() < self.window && self.outgoing.len() < BATCH_BYTES {
            let frame = &self.frames[self.sent as usize % self.frames.len()];
            let start = self.outgoing.len() + frame.payload.start;
            self.outgoing.extend_from_slice(&frame.bytes);
            self.outgoing[start..start + 8].copy_from_slice(&self.sent.to_le_bytes());
            self.under_way.push_back(now_ns());
            self.sent += 1;
            room -= 1;
        }
    }

    fn write(&mut self) -> Result<()> {
        let mut written = 0;
        while written < self.outgoing.len() {
            match self.stream.write(&self.outgoing[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing.drain(..written);
        Ok(())
    }

    /// Waits for acknowledgements, or for room to write more, and counts what came.
    fn read(&mut self) -> Result<()> {
        let more = if self.outgoing.is_empty() {
            PollFlags::empty()
        } else {
            PollFlags::OUT
        };
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN | more)];
        let limit = Timespec {
            tv_sec: i64::try_from(EXCHANGE_MAX.as_secs())?,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&limit))? == 0 {
            bail!(
                "{} publishes were not acknowledged within {EXCHANGE_MAX:?}",
                self.under_way.len()
            );
        }
        if !fds[0].revents().contains(PollFlags::IN) {
            return Ok(());
        }
        let kept = self.incoming.len();
        self.incoming.resize(kept + READ_BYTES, 0);
        let read = self.stream.read(&mut self.incoming[kept..]);
        let count = read.as_ref().copied().unwrap_or(0);
        self.incoming.truncate(kept + count);
        ensure!(read? > 0, "the server closed the connection");
        self.take()
    }

    fn take(&mut self) -> Result<()> {
        let now_ns = now_ns();
        let mut taken = 0;
        while let Some((length, item)) = self.wire.next(&self.incoming[taken..])? {
            match item {
                Item::Message(range) | Item::Answer(range) => {
                    let bytes = &self.incoming[taken..][range];
                    let seq = sequence(self.store, bytes)?;
                    if let (Some(seq), Some(last)) = (seq, self.last_seq) {
                        ensure!(seq == last + 1, "acknowledged as {seq} after {last}");
                    }
                    self.last_seq = seq;
                    let sent_ns = self.under_way.pop_front();
                    let sent_ns = sent_ns.context("an acknowledgement nobody waits for")?;
                    self.times_ns
                        .push(u32::try_from(now_ns - sent_ns).unwrap_or(u32::MAX));
                    self.acknowledged += 1;
                }
                Item::Asked(answer) => self.outgoing.extend_from_slice(answer),
                Item::Fence | Item::Other => {}
            }
            taken += length;
        }
        self.incoming.drain(..taken);
        Ok(())
    }
}

/// The sequence an acknowledgement carries; `None` for Redis, whose ids are times.
fn sequence(store: Store, bytes: &[u8]) -> Result<Option<u64>> {
    if store == Store::Stream {
        return Ok(None);
    }
    // Small and always of the same shape: looked for rather than parsed, to spare the generator.
    let text = std::str::from_utf8(bytes)?;
    let (_, after) = text
        .split_once("\"seq\":")
        .with_context(|| format!("not acknowledged: {text}"))?;
    let digits = after.trim_start();
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    Ok(Some(digits[..end].parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_of_both_servers() {
        for (store, bytes, expected) in [
            (Store::Queue, &b"{\"seq\":12}"[..], Some(12)),
            (Store::JetStream, b"{\"stream\":\"s\", \"seq\": 7}", Some(7)),
            (Store::Stream, b"1700000000000-0", None),
        ] {
            assert_eq!(sequence(store, bytes).unwrap(), expected);
        }
        assert!(sequence(Store::Queue, b"{\"error\":\"full\"}").is_err());
    }
}
