//! The wire format by hand: a client for tests that can send anything, and the bytes of every change.
//!
//! Left to others: what is sent, and what is to be answered.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pinnace_proto::sync::{Attach, Durability, Hello, Refused, Welcome};
use pinnace_sync::chunk::CHUNKING_VERSION;
use pinnace_sync::server::{FailureCode, Link};
use pinnace_sync::wire::{FrameError, FrameKind, read_frame, write_frame};

use crate::pair::Pair;

/// Whoever hears nothing for so long hears nothing more.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// What the server is to answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The session is over, with this code.
    Refused(String),
    /// The connection is over without a word.
    Closed,
    /// It is in the share.
    Committed,
    /// It could not be made.
    Failed(FailureCode),
}

pub(crate) fn protocol() -> Answer {
    Answer::Refused("protocol".to_owned())
}

pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    pub(crate) token: String,
    /// The number of the next change.
    pub(crate) next: u64,
    pub(crate) serving: Vec<JoinHandle<()>>,
    /// Further connections, which last as long as the session.
    pub(crate) kept: Vec<UnixStream>,
}

impl Client {
    /// A connection of which the server knows nothing.
    pub(crate) fn new(pair: &Pair) -> Self {
        let mut serving = Vec::new();
        let stream = connect(pair, &mut serving);
        Self {
            stream,
            token: String::new(),
            next: 0,
            serving,
            kept: Vec::new(),
        }
    }

    pub(crate) fn greeted(pair: &Pair) -> Self {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let mut client = Self::new(pair);
            let json = serde_json::to_vec(&hello("hostile")).unwrap();
            client.send(FrameKind::Hello, &json);
            let mut body = Vec::new();
            let kind = read_frame(&mut client.stream, &mut body).unwrap();
            if kind == FrameKind::Welcome {
                let welcome: Welcome = serde_json::from_slice(&body).unwrap();
                while read_frame(&mut client.stream, &mut body).unwrap() == FrameKind::Rows {}
                (client.token, client.next) = (welcome.token, welcome.seq + 1);
                return client;
            }
            // The one before may not have been noticed to have gone.
            let words = String::from_utf8_lossy(&body).into_owned();
            assert!(
                words.contains("held") && Instant::now() < deadline,
                "{words}"
            );
            client.end();
        }
    }

    /// A further connection of the session.
    pub(crate) fn attach(&mut self, pair: &Pair, token: &str) -> UnixStream {
        let mut bulk = connect(pair, &mut self.serving);
        let attach = Attach {
            v: 1,
            token: token.to_owned(),
        };
        let json = serde_json::to_vec(&attach).unwrap();
        write_frame(&mut bulk, FrameKind::Attach, &[&json]).unwrap();
        bulk
    }

    /// The server may have closed already: then the answer says so.
    pub(crate) fn send(&mut self, kind: FrameKind, body: &[u8]) {
        let _ = write_frame(&mut self.stream, kind, &[body]);
    }

    /// Sends changes under the next numbers.
    pub(crate) fn pack(&mut self, count: u64, changes: &[u8], bodies: &[u8]) {
        let pack = pack(0, self.next, changes, bodies);
        self.next += count;
        self.send(FrameKind::Pack, &pack);
    }

    pub(crate) fn answer(&mut self) -> Answer {
        answer(&mut self.stream, self.next - 1)
    }

    /// Goes, and waits until the server has noticed. It has not panicked.
    pub(crate) fn end(self) {
        self.stream.shutdown(Shutdown::Both).unwrap_or(());
        drop((self.stream, self.kept));
        for serving in self.serving {
            assert!(serving.join().is_ok(), "the server panicked");
        }
    }
}

pub(crate) fn connect(pair: &Pair, serving: &mut Vec<JoinHandle<()>>) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    ours.set_write_timeout(Some(DEADLINE)).unwrap();
    let close = theirs.try_clone().unwrap();
    let link = Link {
        reader: Box::new(theirs.try_clone().unwrap()),
        writer: Box::new(theirs.try_clone().unwrap()),
        close: Some(Box::new(move || {
            let _ = close.shutdown(Shutdown::Both);
        })),
        address: "hostile".to_owned(),
    };
    let shares = pair.shares.clone();
    serving.push(std::thread::spawn(move || {
        shares.serve("s", link);
        // The transport closes what is served no more.
        let _ = theirs.shutdown(Shutdown::Both);
    }));
    ours
}

pub(crate) fn hello(replica: &str) -> Hello {
    Hello {
        v: 1,
        share: "s".to_owned(),
        name: "hostile\u{1b}[2J".to_owned(),
        replica: replica.to_owned(),
        lineage: String::new(),
        seq: 0,
        durability: Durability::None,
        chunking: CHUNKING_VERSION,
        only_looks: false,
        recheck: false,
    }
}

/// What is said about everything up to a number.
pub(crate) fn answer(from: &mut UnixStream, last: u64) -> Answer {
    let (mut body, mut failure) = (Vec::new(), None);
    loop {
        match read_frame(from, &mut body) {
            Ok(FrameKind::Failed) => failure = FailureCode::from_number(body[8]),
            Ok(FrameKind::Committed) => {
                let seq = u64::from_le_bytes(body[..].try_into().unwrap());
                if seq >= last {
                    return failure.map_or(Answer::Committed, Answer::Failed);
                }
            }
            Ok(FrameKind::Refused) => {
                let refused: Refused = serde_json::from_slice(&body).unwrap();
                return Answer::Refused(refused.code);
            }
            Ok(_) => {}
            Err(FrameError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the server does not answer")
            }
            Err(_) => return Answer::Closed,
        }
    }
}

pub(crate) fn number(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

pub(crate) fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&number(bytes.len() as u64), bytes].concat()
}

pub(crate) fn dir(path: &[u8]) -> Vec<u8> {
    [&[0][..], &bytes(path)].concat()
}

pub(crate) fn at(dir: u64, name: &[u8]) -> Vec<u8> {
    [number(dir), bytes(name)].concat()
}

pub(crate) fn facts() -> Vec<u8> {
    let [uid, gid] = [
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    ];
    let owner = [number(uid.into()), number(gid.into())].concat();
    [&number(0o644)[..], &owner, &[2, 0, 0]].concat()
}

pub(crate) fn mkdir(in_dir: u64, name: &[u8]) -> Vec<u8> {
    [&[1][..], &at(in_dir, name), &facts()].concat()
}

/// A file without content.
pub(crate) fn file(in_dir: u64, name: &[u8]) -> Vec<u8> {
    let id = *blake3::hash(b"").as_bytes();
    [&[2][..], &at(in_dir, name), &facts(), &id, &[0, 0]].concat()
}

pub(crate) fn link(in_dir: u64, name: &[u8], target: &[u8]) -> Vec<u8> {
    [&[4][..], &at(in_dir, name), &bytes(target)].concat()
}

pub(crate) fn meta(in_dir: u64, name: &[u8], kind: u8) -> Vec<u8> {
    [&[5][..], &at(in_dir, name), &[kind], &facts()].concat()
}

pub(crate) fn rename(from: &[u8], in_dir: u64, name: &[u8]) -> Vec<u8> {
    [&[6][..], &bytes(from), &at(in_dir, name)].concat()
}

pub(crate) fn exchange(a: &[u8], b: &[u8]) -> Vec<u8> {
    [&[7][..], &bytes(a), &bytes(b)].concat()
}

pub(crate) fn remove(in_dir: u64, name: &[u8]) -> Vec<u8> {
    [&[8][..], &at(in_dir, name)].concat()
}

/// A patch of what is at `base` by steps that are no new bytes.
pub(crate) fn patch(in_dir: u64, name: &[u8], base: &[u8], id: [u8; 32], steps: &[u8]) -> Vec<u8> {
    let place = at(in_dir, name);
    let base = [&bytes(base)[..], &id].concat();
    [&[9][..], &place, &facts(), &[0; 32], &base, steps].concat()
}

pub(crate) fn streamed(in_dir: u64, name: &[u8], stream: u64) -> Vec<u8> {
    let place = at(in_dir, name);
    [&[10][..], &place, &facts(), &[0; 32], &number(stream)].concat()
}

pub(crate) fn pack(flags: u8, first: u64, changes: &[u8], bodies: &[u8]) -> Vec<u8> {
    let lengths = [changes, bodies].map(|part| (part.len() as u32).to_le_bytes());
    let first = first.to_le_bytes();
    [
        &[flags][..],
        &first,
        &lengths[0],
        &lengths[1],
        changes,
        bodies,
    ]
    .concat()
}
