//! A TCP proxy on loopback that counts what passes and, when told to, makes the way long and narrow: each
//! piece is kept for a delay and leaves no faster than a rate, the same for every program measured. It
//! stands in for a kernel queue where there is none to configure.
//!
//! ```text
//! client ── read ─▶ Line: when may this piece leave? ─▶ queue (bounded) ─▶ wait ─▶ write ── server
//! ```
//!
//! Invariant: bytes come out as they went in, in order; what is on the way is bounded for each direction
//! of each connection, and a full queue is not read into. All connections share one line a direction.
//!
//! Left to others: what is sent through it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::limits::{
    PROXY_DELAY_MAX, PROXY_PIECE_BYTES, PROXY_QUEUE_BYTES, PROXY_READ_BYTES, PROXY_RECEIVE_BYTES,
};
use crate::load::clock::{be_punctual, pause};

/// How long and how narrow the way is, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Way {
    /// From one end to the other.
    pub delay: Duration,
    /// Bits a second; without it as fast as the machine is.
    pub rate_bits: Option<u64>,
}

/// Bytes that passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Passed {
    /// From clients to the server.
    pub up_bytes: u64,
    /// From the server to clients.
    pub down_bytes: u64,
}

impl Passed {
    /// Both directions.
    pub fn total(self) -> u64 {
        self.up_bytes + self.down_bytes
    }
}

/// A running proxy; it takes no more connections when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    up: Arc<Line>,
    down: Arc<Line>,
    is_ended: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts one before `server`, on a free port of loopback.
    ///
    /// # Errors
    /// When it cannot listen or the way is too long.
    pub fn start(server: &str, way: Way) -> Result<Self> {
        ensure!(way.delay <= PROXY_DELAY_MAX, "a delay of {:?}", way.delay);
        ensure!(way.rate_bits != Some(0), "a rate of nothing");
        let listener = TcpListener::bind("127.0.0.1:0")?;
        if way.rate_bits.is_some() {
            // Taken over by what is accepted.
            set_socket_recv_buffer_size(&listener, PROXY_RECEIVE_BYTES)?;
        }
        let address = listener.local_addr()?;
        let [up, down] = [Arc::new(Line::new(way)), Arc::new(Line::new(way))];
        let is_ended = Arc::new(AtomicBool::new(false));
        let server = server.to_owned();
        let (lines, ended) = ([Arc::clone(&up), Arc::clone(&down)], Arc::clone(&is_ended));
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                // A connection that cannot be made ends for the client too: it is dropped here.
                let _ = client.map(|client| connect(client, &server, &lines));
            }
        });
        Ok(Self {
            address,
            up,
            down,
            is_ended,
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What has passed so far.
    pub fn passed(&self) -> Passed {
        Passed {
            up_bytes: self.up.passed_bytes.load(Ordering::Acquire),
            down_bytes: self.down.passed_bytes.load(Ordering::Acquire),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Release);
        // Wakes the thread that accepts; it cannot be told otherwise.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// One direction of the way, shared by all connections.
#[derive(Debug)]
struct Line {
    way: Way,
    free_at: Mutex<Option<Instant>>,
    passed_bytes: AtomicU64,
}

impl Line {
    fn new(way: Way) -> Self {
        Self {
            way,
            free_at: Mutex::new(None),
            passed_bytes: AtomicU64::new(0),
        }
    }

    /// Puts a piece that came `now` on the line: when it arrives at the other end.
    fn arrival(&self, now: Instant, bytes: usize) -> Instant {
        self.passed_bytes.fetch_add(bytes as u64, Ordering::AcqRel);
        let Some(rate_bits) = self.way.rate_bits else {
            return now + self.way.delay;
        };
        let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / rate_bits as f64);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = free_at.map_or(now, |free_at| free_at.max(now)) + takes;
        *free_at = Some(sent);
        sent + self.way.delay
    }

    fn piece_bytes(&self) -> usize {
        match self.way.rate_bits {
            Some(_) => PROXY_PIECE_BYTES,
            None => PROXY_READ_BYTES,
        }
    }
}

/// What may still be put on the way, bytes.
#[derive(Debug, Default)]
struct Room {
    used_bytes: Mutex<usize>,
    freed: Condvar,
}

impl Room {
    fn take(&self, bytes: usize) {
        let used = self
            .used_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_full = |used: &mut usize| *used > 0 && *used + bytes > PROXY_QUEUE_BYTES;
        let waited = self.freed.wait_while(used, is_full);
        *waited.unwrap_or_else(PoisonError::into_inner) += bytes;
    }

    fn free(&self, bytes: usize) {
        let used = self.used_bytes.lock();
        *used.unwrap_or_else(PoisonError::into_inner) -= bytes;
        self.freed.notify_one();
    }
}

fn connect(client: TcpStream, server: &str, [up, down]: &[Arc<Line>; 2]) -> Result<()> {
    let server = TcpStream::connect(server)?;
    for socket in [&client, &server] {
        socket.set_nodelay(true)?;
        if up.way.rate_bits.is_some() {
            set_socket_recv_buffer_size(socket, PROXY_RECEIVE_BYTES)?;
        }
    }
    carry(client.try_clone()?, server.try_clone()?, Arc::clone(up));
    carry(server, client, Arc::clone(down));
    Ok(())
}

/// Carries bytes one way until their source ends, on two threads that end with the connection.
fn carry(mut from: TcpStream, mut to: TcpStream, line: Arc<Line>) {
    if line.way == Way::default() {
        std::thread::spawn(move || {
            let mut buffer = vec![0; line.piece_bytes()];
            while let Some(bytes) = piece(&mut from, &mut buffer) {
                line.arrival(Instant::now(), bytes.len());
                if to.write_all(bytes).is_err() {
                    let _ = from.shutdown(Shutdown::Both);
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
        return;
    }
    let (put, queue) = mpsc::channel::<(Instant, Vec<u8>)>();
    let room = Arc::new(Room::default());
    let freeing = Arc::clone(&room);
    std::thread::spawn(move || {
        let mut buffer = vec![0; line.piece_bytes()];
        while let Some(bytes) = piece(&mut from, &mut buffer) {
            room.take(bytes.len());
            let arrival = line.arrival(Instant::now(), bytes.len());
            if put.send((arrival, bytes.to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        let mut is_open = be_punctual().is_ok();
        for (arrival, bytes) in queue {
            let left = arrival.saturating_duration_since(Instant::now());
            // The reader is freed also when nobody takes the bytes, so that it sees its end.
            is_open = is_open && pause(left).is_ok() && to.write_all(&bytes).is_ok();
            freeing.free(bytes.len());
        }
        let _ = to.shutdown(if is_open {
            Shutdown::Write
        } else {
            Shutdown::Both
        });
    });
}

/// The next bytes; `None` at the end.
fn piece<'a>(from: &mut TcpStream, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    loop {
        match from.read(buffer) {
            Ok(0) => return None,
            Ok(read) => return Some(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// What the way turned out to be.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Checked {
    /// Median time there and back, milliseconds.
    pub round_trip_ms: f64,
    /// Of a transfer of some megabytes in one direction, its beginning left out, Mbit/s.
    pub rate_mbit: f64,
}

/// Measures the way of a proxy against a server of its own.
///
/// # Errors
/// When the proxy cannot be started or breaks off.
pub fn check(way: Way) -> Result<Checked> {
    const TRIPS: usize = 15;
    const HEAD_BYTES: usize = 512 << 10;
    const BODY_BYTES: usize = 6 << 20;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let proxy = Proxy::start(&listener.local_addr()?.to_string(), way)?;
    let serving = std::thread::spawn(move || -> std::io::Result<f64> {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut byte = [0];
        for _ in 0..TRIPS {
            socket.read_exact(&mut byte)?;
            socket.write_all(&byte)?;
        }
        socket.read_exact(&mut vec![0; HEAD_BYTES])?;
        let began = Instant::now();
        socket.read_exact(&mut vec![0; BODY_BYTES])?;
        Ok(BODY_BYTES as f64 * 8.0 / 1e6 / began.elapsed().as_secs_f64())
    });
    let mut client = TcpStream::connect(proxy.address())?;
    client.set_nodelay(true)?;
    let mut times = Vec::new();
    for _ in 0..TRIPS {
        let began = Instant::now();
        client.write_all(&[1])?;
        client.read_exact(&mut [0])?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    client.write_all(&vec![2; HEAD_BYTES + BODY_BYTES])?;
    let rate = serving.join();
    let rate_mbit = rate.map_err(|_| anyhow::anyhow!("the check's server broke off"))??;
    times.sort_by(f64::total_cmp);
    Ok(Checked {
        round_trip_ms: times[TRIPS / 2],
        rate_mbit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_queue_on_the_line_and_then_take_the_delay() {
        let way = Way {
            delay: Duration::from_millis(25),
            rate_bits: Some(8_000_000),
        };
        let (line, now) = (Line::new(way), Instant::now());
        let after = |milliseconds| now + Duration::from_millis(milliseconds);
        // A thousand bytes take a millisecond.
        assert_eq!(line.arrival(now, 1_000), after(26));
        assert_eq!(line.arrival(now, 2_000), after(28));
        assert_eq!(line.arrival(after(1), 1_000), after(29));
        // An idle line saves nothing up.
        assert_eq!(line.arrival(after(100), 1_000), after(126));
        let unlimited = Line::new(Way::default());
        assert_eq!(unlimited.arrival(now, 1_000_000), now);
        assert_eq!(line.passed_bytes.load(Ordering::Acquire), 5_000);
    }

    #[test]
    fn bytes_come_through_whole_and_are_counted_each_way() {
        let narrow = Way {
            delay: Duration::from_micros(100),
            rate_bits: Some(10_000_000_000),
        };
        for way in [Way::default(), narrow] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let proxy = Proxy::start(&listener.local_addr().unwrap().to_string(), way).unwrap();
            let serving = std::thread::spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                let mut told = Vec::new();
                socket.read_to_end(&mut told).unwrap();
                socket.write_all(b"enough").unwrap();
                told
            });
            let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
            let mut client = TcpStream::connect(proxy.address()).unwrap();
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "enough");
            assert!(serving.join().unwrap() == sent);
            let expected = Passed {
                up_bytes: 3_000_000,
                down_bytes: 6,
            };
            assert_eq!(proxy.passed(), expected, "{way:?}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_ends_the_connection() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let proxy = Proxy::start(&gone.unwrap().to_string(), Way::default()).unwrap();
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        // The end, or a reset: either way nothing comes.
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    }

    #[test]
    fn a_way_that_cannot_be_is_refused() {
        let nothing = Way {
            rate_bits: Some(0),
            ..Way::default()
        };
        let for_ever = Way {
            delay: Duration::from_secs(3_600),
            ..Way::default()
        };
        for way in [nothing, for_ever] {
            assert!(Proxy::start("127.0.0.1:1", way).is_err());
        }
    }
}
