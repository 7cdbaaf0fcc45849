//! Slow connections: what is sent over them.
//!
//! Left to others: when exactly compressing begins and how hard it is done.

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pinnace_sync::client::{Connect, ConnectError, Outcome, Stop, Tell, Told, mirror};
use pinnace_sync::server::{Link, Shares};
use pinnace_sync::wire::{FrameKind, OpenedPack, read_frame};

use crate::pair::Pair;
use crate::story::noise;

/// What the link takes in a second.
const BYTES_PER_S: f64 = 10e6;
/// How long it takes for the shortest word: nobody is near then.
const LATENCY: Duration = Duration::from_millis(4);

/// One end of a slow link: it keeps what is sent, and takes its time.
struct End {
    stream: UnixStream,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.sent.lock().unwrap().extend_from_slice(&bytes[..count]);
        let taken = Duration::from_secs_f64(count as f64 / BYTES_PER_S);
        let until = Instant::now() + taken.max(LATENCY);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        Ok(count)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

struct Wire {
    shares: Arc<Shares>,
    /// What clients sent, by connection.
    sent: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
}

fn link(end: End) -> Link {
    let close = end.stream.try_clone().unwrap();
    Link {
        reader: Box::new(end.stream.try_clone().unwrap()),
        writer: Box::new(end),
        close: Some(Box::new(move || {
            let _ = close.shutdown(Shutdown::Both);
        })),
        address: "far away".to_owned(),
    }
}

impl Connect for Wire {
    fn connect(&self) -> Result<Link, ConnectError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let end = |stream: UnixStream| End {
            stream,
            sent: Arc::default(),
        };
        let (shares, theirs) = (self.shares.clone(), link(end(theirs)));
        std::thread::spawn(move || shares.serve("s", theirs));
        let ours = end(ours);
        self.sent.lock().unwrap().push(ours.sent.clone());
        Ok(link(ours))
    }
}

struct Nobody;

impl Tell for Nobody {
    fn tell(&self, _: &Told<'_>) {}
}

/// Lines of which each is another, as programs write them.
fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let lines = (0..).map(|line| format!("{seed} line {line} says what the others say\n"));
    let mut out: Vec<u8> = lines.take(bytes / 20).collect::<String>().into();
    out.truncate(bytes);
    out
}

/// Mirrors once, and returns what came of it, the bytes that were sent, and the packs among them: bytes of their frames and
/// of what is in them.
fn mirror_through(pair: &Pair) -> (Outcome, usize, Vec<(usize, usize)>) {
    let wire = Wire {
        shares: pair.shares.clone(),
        sent: Mutex::default(),
    };
    let outcome = mirror(&pair.settings(), &wire, &Nobody, &Stop::default()).unwrap();
    let (mut bytes, mut packs) = (0, Vec::new());
    for sent in wire.sent.lock().unwrap().iter() {
        let sent = sent.lock().unwrap();
        bytes += sent.len();
        let (mut from, mut body) = (&sent[..], Vec::new());
        while let Ok(kind) = read_frame(&mut from, &mut body) {
            if kind == FrameKind::Pack {
                let sent_bytes = body.len();
                let opened = OpenedPack::open(std::mem::take(&mut body)).unwrap();
                let pack = opened.read().unwrap();
                packs.push((sent_bytes, pack.bodies.len()));
            }
        }
    }
    (outcome, bytes, packs)
}

/// Files of all of which the content is such.
fn fill(pair: &Pair, content: fn(u64, usize) -> Vec<u8>, round: u64) -> usize {
    let sizes = [10_000, 50_000, 100_000, 300_000];
    let mut all = 0;
    for number in 0..16 {
        let bytes = sizes[number % sizes.len()];
        let at = pair.source().join(number.to_string());
        fs::write(at, content(100 * round + number as u64, bytes)).unwrap();
        all += bytes;
    }
    all
}

#[test]
fn what_compressing_makes_shorter_is_compressed_on_slow_links() {
    let pair = Pair::new();
    // New files, and then all of them with other contents.
    for round in 0..2 {
        let all = fill(&pair, text, round);
        let (_, bytes, packs) = mirror_through(&pair);
        assert!(bytes < all / 4, "{bytes} bytes for {all}: {packs:?}");
        pair.assert_equal();
    }
    let all = fill(&pair, noise, 3);
    let (outcome, bytes, packs) = mirror_through(&pair);
    assert!(bytes < all / 100 * 101, "{bytes} bytes for {all}");
    // As they are: what would come out of it is not shorter.
    let shortest = packs.iter().all(|(sent, bodies)| sent > bodies);
    assert!(shortest, "{packs:?}");
    pair.assert_equal();
    assert_eq!(outcome.skipped, []);
}
