//! How a session begins: the greeting, what the server has that is not known here, the second connection.
//!
//! Left to others: what the session does.

use std::time::Instant;

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::sync::{Attach, Hello, Refused, Welcome};

use super::ledger::Ledger;
use super::outbox::Reach;
use super::session::Ended;
use super::{Connect, ConnectError, MirrorError, Settings};
use crate::chunk::CHUNKING_VERSION;
use crate::fs::{Root, boot_text, place_of};
use crate::ids::hex;
use crate::index::{Change, Index, Marks, NodeId};
use crate::server::Link;
use crate::wire::{FrameError, FrameKind, WireError, read_frame, read_rows, write_frame};

/// What a server may say before it answers for the first time.
const EARLY_MAX: usize = 100;

/// What came before it could be heard.
pub(super) type Frames = Vec<(FrameKind, Vec<u8>)>;

/// What a client says first.
pub(super) fn hello(settings: &Settings, replica: &str, marks: &Marks, forget: bool) -> Hello {
    Hello {
        v: DOCUMENT_VERSION,
        share: settings.share.clone(),
        name: settings.name.clone(),
        replica: replica.to_owned(),
        lineage: if forget {
            String::new()
        } else {
            hex(&marks.lineage)
        },
        seq: marks.seq,
        durability: settings.durability,
        chunking: CHUNKING_VERSION,
        only_looks: settings.dry_run,
        recheck: forget,
    }
}

/// What a connection that broke before the session began means.
pub(super) fn unbegun(error: &FrameError) -> Result<Ended, MirrorError> {
    let detail = error.to_string();
    match error {
        FrameError::Wire(_) => Err(MirrorError::Connect(ConnectError {
            detail,
            is_final: true,
        })),
        _ => Ok(Ended::Unbegun(detail)),
    }
}

/// The bytes of hexadecimal digits.
pub(super) fn unhex(text: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).unwrap_or("0");
        *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
    }
    bytes
}

/// Greets the server.
pub(super) fn greet(
    link: &mut Link,
    hello: &Hello,
) -> Result<Result<Welcome, Refused>, FrameError> {
    let json = serde_json::to_vec(hello).unwrap_or_default();
    write_frame(&mut link.writer, FrameKind::Hello, &[&json])?;
    let mut body = Vec::new();
    let broken = |_| WireError::Value("a document does not fit its schema");
    match read_frame(&mut link.reader, &mut body)? {
        FrameKind::Welcome => Ok(Ok(serde_json::from_slice(&body).map_err(broken)?)),
        FrameKind::Refused => Ok(Err(serde_json::from_slice(&body).map_err(broken)?)),
        _ => Err(WireError::Value("no greeting").into()),
    }
}

/// Takes what the server has that is not known here.
pub(super) fn learn(link: &mut Link, ledger: &Ledger, welcome: &Welcome) -> Result<(), FrameError> {
    let (mut body, mut seen) = (Vec::new(), Vec::new());
    loop {
        match read_frame(&mut link.reader, &mut body)? {
            FrameKind::Rows => {
                let mut state = ledger.lock();
                let mut changes = Vec::new();
                read_rows(&body, |path, facts| {
                    seen.extend(state.take_row(path, facts, &mut changes));
                })?;
                state.log(&changes);
            }
            FrameKind::RowsEnd => break,
            _ => return Err(WireError::Value("rows were expected").into()),
        }
    }
    let mut state = ledger.lock();
    let state = &mut *state;
    if welcome.whole {
        seen.sort_unstable();
        let rest = state
            .index
            .walk()
            .filter(|node| seen.binary_search(node).is_err());
        let rest: Vec<NodeId> = rest.filter(|node| *node != Index::ROOT).collect();
        let mut changes = Vec::new();
        for node in rest {
            if state.index.contains(node) {
                state.index.remove(node);
                changes.push(Change::Remove { id: node, seq: 0 });
            }
        }
        state.log(&changes);
    }
    state.marks.seq = welcome.seq;
    state.log(&[Change::Marks(state.marks.clone())]);
    Ok(())
}

/// How far away the server is, and what it said before it answered: a sync of earlier changes, a question.
pub(super) fn reach(link: &mut Link, welcome: &Welcome) -> Result<(Reach, Frames), FrameError> {
    let (began, mut early) = (Instant::now(), Vec::new());
    write_frame(&mut link.writer, FrameKind::Ping, &[])?;
    loop {
        let mut body = Vec::new();
        match read_frame(&mut link.reader, &mut body)? {
            FrameKind::Pong => return Ok((Reach::of(is_here(welcome), began.elapsed()), early)),
            kind if early.len() < EARLY_MAX => early.push((kind, body)),
            _ => return Err(WireError::Value("an answer was expected").into()),
        }
    }
}

/// Makes the session's second connection.
pub(super) fn attach(connect: &dyn Connect, welcome: &Welcome) -> Result<Link, ConnectError> {
    let mut link = connect.connect()?;
    let attach = Attach {
        v: DOCUMENT_VERSION,
        token: welcome.token.clone(),
    };
    let json = serde_json::to_vec(&attach).unwrap_or_default();
    let sent = write_frame(&mut link.writer, FrameKind::Attach, &[&json]);
    sent.map_err(|error| ConnectError {
        detail: error.to_string(),
        is_final: false,
    })?;
    Ok(link)
}

/// Whether the server is on this host, as far as it says.
fn is_here(welcome: &Welcome) -> bool {
    let place = welcome.place.as_ref();
    place.is_some_and(|place| !place.boot.is_empty() && place.boot == boot_text())
}

/// Refuses a source that holds the share, or lies in the folder of the server's data: what is mirrored would be mirrored
/// again, without an end.
pub(super) fn check_apart(root: &Root, welcome: &Welcome) -> Result<(), MirrorError> {
    /// The data folder is above `shares`, and that above the share.
    const DATA_ABOVE: usize = 2;
    let own = place_of(root).ok();
    let (Some(own), Some(share)) = (own, &welcome.place) else {
        return Ok(());
    };
    if own.boot.is_empty() || own.boot != share.boot {
        return Ok(());
    }
    if own
        .above
        .first()
        .is_some_and(|root| share.above.contains(root))
    {
        return Err(MirrorError::Overlap(
            "the server keeps its data inside the source, so what is mirrored would be mirrored again; mirror a directory \
             that does not hold it",
        ));
    }
    let data = share.above.get(DATA_ABOVE);
    if data.is_some_and(|data| own.above.contains(data)) {
        return Err(MirrorError::Overlap(
            "the source lies inside the server's data, where every change is the server's own; mirror another directory",
        ));
    }
    Ok(())
}
