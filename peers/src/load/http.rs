//! Messages over HTTP/1.1: keep-alive connections on one epoll loop, one request under way on each.
//!
//! Invariant: a request counts when its answer has wholly arrived with the status it must have; what
//! is fetched from a queue carries its number, and a number fetched twice is an error.

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{Timespec, epoll};

use super::Figures;
use super::clock::now_ns;
use super::spent::Meter;
use super::wire::{line, number};
use crate::limits::{ANSWER_BYTES_MAX, EXCHANGE_MAX, WARM_UP};

const READ_BYTES: usize = 16 << 10;

/// Where a server takes and gives messages.
#[derive(Clone, Copy, Debug)]
pub struct Paths {
    /// Posted to once, to subscribe.
    pub subscribe: Option<&'static str>,
    /// Posted to with each message.
    pub publish: &'static str,
    /// What is fetched from.
    pub fetch: &'static str,
    /// Whether a fetched message is gone.
    pub is_consumed: bool,
}

/// Which half is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// POST of messages.
    Publish,
    /// GET of what was published before.
    Fetch,
}

/// Runs one half for `duration` over `connections`.
///
/// # Errors
/// When an answer has another status than it must have, or a message is fetched twice.
pub fn run(
    (address, paths): (&str, &Paths),
    meter: &Meter,
    half: Half,
    (payload_bytes, connections): (usize, usize),
    duration: Duration,
) -> Result<Figures> {
    ensure!(payload_bytes >= 8, "a payload needs 8 bytes");
    if let Some(path) = paths.subscribe {
        ask(address, "POST", path, b"")?;
    }
    let mut load = Load::new(address, paths, payload_bytes, connections)?;
    match half {
        Half::Publish => load.phase(Half::Publish, WARM_UP)?,
        // Enough to fetch for as long, should fetching be far faster than publishing.
        Half::Fetch => {
            load.phase(Half::Publish, duration * 2)?;
            load.phase(Half::Fetch, WARM_UP)?;
        }
    }
    load.times_ns.clear();
    let (cpu_before, began) = (meter.cpu()?, Instant::now());
    load.phase(half, duration)?;
    let (cpu, seconds) = (meter.cpu()? - cpu_before, began.elapsed().as_secs_f64());
    let figures = Figures {
        published: load.times_ns.len() as u64,
        seconds,
        server_cpu_s: cpu.server.as_secs_f64(),
        generator_cpu_s: cpu.generator.as_secs_f64(),
        peak_rss_bytes: meter.memory()?.peak_rss_bytes,
        note: if load.is_empty {
            "the queue ran empty".to_owned()
        } else {
            String::new()
        },
        ..Figures::default()
    };
    Ok(figures.with_latencies(load.times_ns, Vec::new()))
}

/// One exchange on a connection of its own; the body of the answer.
///
/// # Errors
/// When it does not answer 2xx in time.
pub fn ask(address: &str, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
    Client::open(address)?.ask(method, path, body)
}

/// A blocking keep-alive connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    incoming: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
        stream.set_read_timeout(Some(EXCHANGE_MAX))?;
        stream.set_nodelay(true)?;
        let incoming = Vec::new();
        Ok(Self { stream, incoming })
    }

    /// One exchange; the body of the answer.
    ///
    /// # Errors
    /// When it does not answer 2xx in time.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = request(method, path, body.len());
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes)?;
        self.incoming.clear();
        loop {
            if let Some(found) = parse(&self.incoming)? {
                let body = self.incoming[found.body].to_vec();
                ensure!(
                    (200..300).contains(&found.status),
                    "{method} {path}: {}: {}",
                    found.status,
                    String::from_utf8_lossy(&body)
                );
                return Ok(body);
            }
            let mut part = [0; READ_BYTES];
            let count = self.stream.read(&mut part)?;
            ensure!(count > 0, "{method} {path}: closed without an answer");
            self.incoming.extend_from_slice(&part[..count]);
        }
    }
}

fn request(method: &str, path: &str, body_bytes: usize) -> Vec<u8> {
    let length = match method {
        "GET" => String::new(),
        _ => format!("Content-Length: {body_bytes}\r\n"),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: load\r\n{length}\r\n").into_bytes()
}

/// An answer at the front of received bytes.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    status: usize,
    body: std::ops::Range<usize>,
}

/// The answer at the front of `bytes`; `None` when it has not wholly arrived.
fn parse(bytes: &[u8]) -> Result<Option<Found>> {
    let Some((first, mut at)) = line(bytes) else {
        return Ok(None);
    };
    let status = number(first.get(9..12).context("not an HTTP answer")?)?;
    let mut body_bytes = 0;
    loop {
        let Some((header, length)) = line(&bytes[at..]) else {
            return Ok(None);
        };
        at += length;
        if header.is_empty() {
            break;
        }
        let colon = header.iter().position(|byte| *byte == b':');
        let (name, value) = header.split_at(colon.context("a header without a colon")?);
        if name.eq_ignore_ascii_case(b"content-length") {
            body_bytes = number(value[1..].trim_ascii())?;
            ensure!(
                body_bytes <= ANSWER_BYTES_MAX,
                "{body_bytes} bytes of answer"
            );
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            bail!("an answer in chunks");
        }
    }
    let body = at..at + body_bytes;
    Ok((bytes.len() >= body.end).then_some(Found { status, body }))
}

struct Load<'a> {
    paths: &'a Paths,
    epoll: std::os::fd::OwnedFd,
    connections: Vec<Connection>,
    post: Vec<u8>,
    payload_at: usize,
    get: Vec<u8>,
    published: u64,
    /// Numbers fetched so far.
    fetched: Vec<bool>,
    is_empty: bool,
    times_ns: Vec<u32>,
}

struct Connection {
    stream: TcpStream,
    incoming: Vec<u8>,
    sent_ns: u64,
}

impl<'a> Load<'a> {
    fn new(
        address: &str,
        paths: &'a Paths,
        payload_bytes: usize,
        connections: usize,
    ) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut open = Vec::new();
        for index in 0..connections {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            // Requests are small: only reading must not wait, and epoll says when it need not.
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            open.push(Connection {
                stream,
                incoming: Vec::new(),
                sent_ns: 0,
            });
        }
        let mut post = request("POST", paths.publish, payload_bytes);
        let payload_at = post.len();
        post.resize(payload_at + payload_bytes, b'.');
        Ok(Self {
            paths,
            epoll,
            connections: open,
            post,
            payload_at,
            get: request("GET", paths.fetch, 0),
            published: 0,
            fetched: Vec::new(),
            is_empty: false,
            times_ns: Vec::new(),
        })
    }
    /// Requests on all connections until the time is over, then waits for what is under way.
    fn phase(&mut self, half: Half, duration: Duration) -> Result<()> {
        let began = Instant::now();
        for index in 0..self.connections.len() {
            self.send(half, index)?;
        }
        let mut under_way = self.connections.len();
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 64];
        let limit = Timespec {
            tv_sec: i64::try_from(EXCHANGE_MAX.as_secs())?,
            tv_nsec: 0,
        };
        while under_way > 0 {
            let (ready, _) = match epoll::wait(&self.epoll, &mut events, Some(&limit)) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            ensure!(!ready.is_empty(), "no answer within {EXCHANGE_MAX:?}");
            let is_over = began.elapsed() >= duration;
            for event in ready.iter() {
                let index = event.data.u64() as usize;
                if !self.receive(half, index)? {
                    continue;
                }
                if is_over || self.is_empty {
                    under_way -= 1;
                } else {
                    self.send(half, index)?;
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, half: Half, index: usize) -> Result<()> {
        let bytes = match half {
            Half::Publish => {
                let number = self.published.to_le_bytes();
                self.post[self.payload_at..][..number.len()].copy_from_slice(&number);
                self.published += 1;
                &self.post
            }
            Half::Fetch => &self.get,
        };
        let connection = &mut self.connections[index];
        connection.sent_ns = now_ns();
        Ok(connection.stream.write_all(bytes)?)
    }

    /// Reads once; true when the answer is there.
    fn receive(&mut self, half: Half, index: usize) -> Result<bool> {
        let connection = &mut self.connections[index];
        let mut part = [0; READ_BYTES];
        let count = connection.stream.read(&mut part)?;
        ensure!(count > 0, "the server closed a connection");
        connection.incoming.extend_from_slice(&part[..count]);
        let Some(found) = parse(&connection.incoming)? else {
            return Ok(false);
        };
        ensure!(
            found.body.end == connection.incoming.len(),
            "more than one answer to a request"
        );
        let body = &connection.incoming[found.body];
        match (half, found.status) {
            (Half::Publish, 200..300) => {}
            (Half::Fetch, 200) if !self.paths.is_consumed => {}
            (Half::Fetch, 200) => {
                let number = body.first_chunk().copied().map(u64::from_le_bytes);
                let number = number.context("a message without a number")?;
                note(&mut self.fetched, number, self.published)?;
            }
            (Half::Fetch, 204) => self.is_empty = true,
            (_, status) => bail!("{status}: {}", String::from_utf8_lossy(body)),
        }
        if found.status != 204 {
            let time_ns = now_ns() - connection.sent_ns;
            self.times_ns
                .push(u32::try_from(time_ns).unwrap_or(u32::MAX));
        }
        connection.incoming.clear();
        Ok(true)
    }
}

/// Notes that `number` of `published` was fetched, which may happen once.
fn note(fetched: &mut Vec<bool>, number: u64, published: u64) -> Result<()> {
    ensure!(number < published, "message {number} of {published}");
    let index = usize::try_from(number)?;
    if fetched.len() <= index {
        fetched.resize(index + 1, false);
    }
    let before = std::mem::replace(&mut fetched[index], true);
    ensure!(!before, "message {number} was fetched twice");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_at_its_last_byte() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Type: a\r\ncontent-length: 3\r\n\r\nabc";
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]).unwrap(), None, "cut at {cut}");
        }
        let body = bytes.len() - 3..bytes.len();
        let expected = Found { status: 200, body };
        assert_eq!(parse(bytes).unwrap(), Some(expected));
        let none = parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!((none.status, none.body.len()), (204, 0));
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_number_is_fetched_once() {
        let mut fetched = Vec::new();
        for (number, expected) in [(3, true), (0, true), (3, false), (4, false)] {
            assert_eq!(note(&mut fetched, number, 4).is_ok(), expected, "{number}");
        }
    }
}
