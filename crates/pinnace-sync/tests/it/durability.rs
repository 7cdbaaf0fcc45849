//! What is certain when it is said.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use pinnace_proto::sync::Durability;
use pinnace_sync::client::{Connect, ConnectError, Settings, Stop, Tell, Told, mirror};
use pinnace_sync::server::{Link, Shares};
use pinnace_sync::wire::FrameKind;

use crate::pair::Pair;

/// Looks at the share when the server says that changes are in it, before the client can hear of it.
struct Witness {
    stream: UnixStream,
    shares: Arc<Shares>,
    seen: Sender<(u64, u64)>,
}

impl Write for Witness {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Frames as short as these go out in one write: length, kind, number.
        if let [_, _, _, _, kind, seq @ ..] = bytes
            && *kind == FrameKind::Committed as u8
        {
            let seq = u64::from_le_bytes(seq.try_into().unwrap());
            let durable = self.shares.info("s").unwrap().durable;
            self.seen.send((seq, durable)).unwrap();
        }
        self.stream.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

struct Wire {
    shares: Arc<Shares>,
    seen: Mutex<Sender<(u64, u64)>>,
}

fn link(stream: &UnixStream, writer: Box<dyn Write + Send>) -> Link {
    let close = stream.try_clone().unwrap();
    Link {
        reader: Box::new(stream.try_clone().unwrap()),
        writer,
        close: Some(Box::new(move || {
            let _ = close.shutdown(Shutdown::Both);
        })),
        address: "here".to_owned(),
    }
}

impl Connect for Wire {
    fn connect(&self) -> Result<Link, ConnectError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let witness = Witness {
            stream: theirs.try_clone().unwrap(),
            shares: self.shares.clone(),
            seen: self.seen.lock().unwrap().clone(),
        };
        let shares = self.shares.clone();
        std::thread::spawn(move || shares.serve("s", link(&theirs, Box::new(witness))));
        Ok(link(&ours, Box::new(ours.try_clone().unwrap())))
    }
}

struct Nobody;

impl Tell for Nobody {
    fn tell(&self, _: &Told<'_>) {}
}

#[test]
fn strict_changes_are_durable_when_they_are_acknowledged() {
    let pair = Pair::new();
    for number in 0..200 {
        std::fs::write(pair.source().join(format!("{number}")), "x").unwrap();
    }
    let (seen, acknowledged) = channel();
    let wire = Wire {
        shares: pair.shares.clone(),
        seen: Mutex::new(seen),
    };
    let settings = Settings {
        durability: Durability::Strict,
        ..pair.settings()
    };
    mirror(&settings, &wire, &Nobody, &Stop::default()).unwrap();
    drop(wire);
    let acknowledged: Vec<_> = acknowledged.try_iter().collect();
    assert!(!acknowledged.is_empty());
    for (seq, durable) in acknowledged {
        assert!(
            durable >= seq,
            "{seq} was acknowledged, {durable} was durable"
        );
    }
    pair.assert_equal();
}
