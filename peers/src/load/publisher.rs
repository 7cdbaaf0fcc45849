//! One publisher: batches of 64 KiB, each payload numbered, or single messages at a fixed rate.
//!
//! Invariant: a phase ends when the server has carried out everything published in it, and, where it
//! answers publishes, answered each.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clock::{be_punctual, now_ns, sleep_until_ns};
use super::receiver::Progress;
use super::wire::{Item, Template, Wire};
use crate::limits::{BATCH_BYTES, PUBLISH_STALL_MAX, WINDOW_LOOK_NS};

const READ_BYTES: usize = 64 << 10;

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the server takes them.
    Flood,
    /// So many a second, each when it is due whatever became of those before.
    Open(f64),
}

/// A connection that publishes to one topic.
pub struct Publisher<'a> {
    wire: &'a dyn Wire,
    stream: TcpStream,
    /// False on the floor: nobody is there to answer.
    fenced: bool,
    window: Option<u64>,
    topic: usize,
    frame_bytes: usize,
    payload_at: usize,
    batch: Vec<u8>,
    incoming: Vec<u8>,
    fences: u64,
    answers: u64,
    /// What the server asked to hear: it must not come between the halves of a frame.
    owed: Vec<u8>,
    /// Messages published so far, which is the number of the next.
    pub sent: u64,
}

impl<'a> Publisher<'a> {
    /// Publishes `frame` over `stream`, counted under number `topic`.
    ///
    /// # Errors
    /// When the socket is gone, or the payload has no room for a number.
    pub fn new(
        wire: &'a dyn Wire,
        stream: TcpStream,
        frame: &Template,
        topic: usize,
        window: Option<u64>,
        fenced: bool,
    ) -> Result<Self> {
        stream.set_nonblocking(true)?;
        ensure!(frame.payload.len() >= 8, "a payload needs 8 bytes");
        let frames = (BATCH_BYTES / frame.bytes.len()).max(1);
        Ok(Self {
            wire,
            stream,
            fenced,
            window,
            topic,
            frame_bytes: frame.bytes.len(),
            payload_at: frame.payload.start,
            batch: frame.bytes.repeat(frames),
            incoming: Vec::new(),
            fences: 0,
            answers: 0,
            owed: Vec::new(),
            sent: 0,
        })
    }

    /// Publishes for `duration_ns`, then waits until the server has carried it out and says how far
    /// it got.
    ///
    /// # Errors
    /// When the server takes nothing for a while, complains, or answers too little.
    pub fn phase(&mut self, pace: Pace, duration_ns: u64, progress: &Progress) -> Result<()> {
        be_punctual()?;
        let begin_ns = now_ns();
        match pace {
            Pace::Flood => self.flood(begin_ns + duration_ns, progress)?,
            Pace::Open(rate) => self.paced(rate, begin_ns, duration_ns)?,
        }
        if self.fenced {
            self.fence()?;
        }
        progress.published(self.topic, self.sent);
        Ok(())
    }

    fn flood(&mut self, end_ns: u64, progress: &Progress) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        let frames = (batch.len() / self.frame_bytes) as u64;
        while now_ns() < end_ns && !progress.is_failed() {
            while let Some(window) = self.window
                && self.sent + frames > progress.seen_by_all(self.topic) + window.max(frames)
                && !progress.is_failed()
            {
                self.take_incoming()?;
                sleep_until_ns(now_ns() + WINDOW_LOOK_NS)?;
            }
            for frame in batch.chunks_exact_mut(self.frame_bytes) {
                frame[self.payload_at..][..8].copy_from_slice(&self.sent.to_le_bytes());
                self.sent += 1;
            }
            self.push(&batch)?;
            if self.wire.answers_publishes() {
                self.take_incoming()?;
            }
        }
        self.batch = batch;
        Ok(())
    }

    fn paced(&mut self, rate: f64, begin_ns: u64, duration_ns: u64) -> Result<()> {
        let interval_ns = 1e9 / rate;
        let messages = (duration_ns as f64 / interval_ns) as u64;
        let mut frame = self.batch[..self.frame_bytes].to_vec();
        for index in 0..messages {
            let due_ns = begin_ns + (index as f64 * interval_ns) as u64;
            sleep_until_ns(due_ns)?;
            let stamp = Stamp {
                number: self.sent,
                sent_ns: now_ns(),
                due_ns,
            };
            stamp.put(&mut frame[self.payload_at..]);
            self.sent += 1;
            self.push(&frame)?;
            if self.wire.answers_publishes() {
                self.take_incoming()?;
            }
        }
        Ok(())
    }

    /// Writes what is owed and all of `bytes`, which are whole frames.
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.owed.is_empty() {
            let owed = std::mem::take(&mut self.owed);
            self.write(&owed)?;
        }
        self.write(bytes)
    }

    /// Writes all of `bytes`; answers are read while the server does not take more.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::OUT)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // The server may have said why before it closed.
                    self.take_incoming().context("publishing")?;
                    return Err(error).context("publishing");
                }
            }
        }
        Ok(())
    }

    /// Waits until the socket can be read or is `ready` otherwise, and reads.
    fn wait(&mut self, ready: PollFlags) -> Result<()> {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN | ready)];
        let limit = Timespec {
            tv_sec: i64::try_from(PUBLISH_STALL_MAX.as_secs())?,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&limit))? == 0 {
            bail!("the server took and said nothing for {PUBLISH_STALL_MAX:?}");
        }
        if fds[0].revents().contains(PollFlags::IN) {
            self.take_incoming()?;
        }
        Ok(())
    }

    /// Reads what there is and counts it.
    fn take_incoming(&mut self) -> Result<()> {
        loop {
            let kept = self.incoming.len();
            self.incoming.resize(kept + READ_BYTES, 0);
            let read = self.stream.read(&mut self.incoming[kept..]);
            let count = read.as_ref().copied().unwrap_or(0);
            self.incoming.truncate(kept + count);
            match read {
                Ok(0) => bail!("the server closed the publisher's connection"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("reading answers"),
            }
            let mut taken = 0;
            while let Some((length, item)) = self.wire.next(&self.incoming[taken..])? {
                taken += length;
                match item {
                    Item::Fence => self.fences += 1,
                    Item::Answer(_) => self.answers += 1,
                    Item::Asked(answer) => self.owed.extend_from_slice(answer),
                    Item::Message(_) | Item::Other => {}
                }
            }
            self.incoming.drain(..taken);
            if count < READ_BYTES {
                return Ok(());
            }
        }
    }

    fn fence(&mut self) -> Result<()> {
        let mut bytes = Vec::new();
        self.wire.fence(&mut bytes);
        let awaited = self.fences + 1;
        self.push(&bytes)?;
        while self.fences < awaited {
            self.wait(PollFlags::empty())?;
        }
        ensure!(
            !self.wire.answers_publishes() || self.answers == self.sent,
            "{} of {} publishes were answered",
            self.answers,
            self.sent
        );
        Ok(())
    }
}

/// What stands at the front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its number in its topic, from 0.
    pub number: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// When it was due.
    pub due_ns: u64,
}

impl Stamp {
    /// Bytes a payload with a whole stamp needs.
    pub const BYTES: usize = 24;

    fn put(self, payload: &mut [u8]) {
        let fields = [self.number, self.sent_ns, self.due_ns];
        for (place, field) in payload.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
    }

    /// Reads it back; `None` when the payload is too short.
    pub fn get(payload: &[u8]) -> Option<Self> {
        let field = |at: usize| {
            let bytes = payload.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        Some(Self {
            number: field(0)?,
            sent_ns: field(8)?,
            due_ns: field(16)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::wire::nats::Nats;
    use super::*;

    #[test]
    fn an_answer_owed_never_splits_a_frame() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut far = listener.accept().unwrap().0;
        let frame = Nats.publish("t", None, 16_384);
        let mut publisher = Publisher::new(&Nats, near, &frame, 0, None, true).unwrap();
        let progress = Progress::new(&[0]);
        let received = std::thread::scope(|scope| {
            let publishing = scope.spawn(|| publisher.phase(Pace::Flood, 20_000_000, &progress));
            // A server that asks while the socket is full, and reads only after that.
            far.write_all(b"PING\r\n").unwrap();
            let (mut bytes, mut pings, mut frames, mut pongs) = (Vec::new(), 1, 0u64, 0);
            while !bytes.ends_with(b"PING\r\n") {
                let mut part = [0; 50_000];
                let count = far.read(&mut part).unwrap();
                bytes.extend_from_slice(&part[..count]);
                while bytes.len() >= frame.bytes.len() {
                    let length = if bytes.starts_with(b"PONG\r\n") {
                        pongs += 1;
                        6
                    } else {
                        assert!(bytes.starts_with(b"PUB t 16384\r\n"));
                        frames += 1;
                        frame.bytes.len()
                    };
                    bytes.drain(..length);
                    if pings < 3 {
                        far.write_all(b"PING\r\n").unwrap();
                        pings += 1;
                    }
                }
            }
            pongs += bytes.windows(6).filter(|six| six == b"PONG\r\n").count();
            far.write_all(b"PONG\r\n").unwrap();
            publishing.join().unwrap().unwrap();
            assert!(pongs > 0 && frames > 0, "{pongs} of {pings}");
            frames
        });
        assert_eq!(received, publisher.sent);
    }

    #[test]
    fn a_stamp_is_read_back() {
        let stamp = Stamp {
            number: 7,
            sent_ns: u64::MAX,
            due_ns: 1,
        };
        let mut payload = [0; 40];
        stamp.put(&mut payload);
        assert_eq!(Stamp::get(&payload), Some(stamp));
        assert_eq!(payload[Stamp::BYTES..], [0; 40 - Stamp::BYTES]);
        assert_eq!(Stamp::get(&payload[..Stamp::BYTES - 1]), None);
    }
}
