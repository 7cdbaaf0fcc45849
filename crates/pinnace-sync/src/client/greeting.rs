//! The beginning of a session: who is there, what the server has, how far away it is, and the second connection.
//!
//! Invariant: what was learned is in the log before anything is compared. Left to others: connecting, comparing.

use std::time::{Duration, Instant};

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::sync::{Attach, Hello, Refused, Welcome};

use super::ledger::Ledger;
use super::{Connect, ConnectError, MirrorError};
use crate::index::{Change, Index, NodeId};
use crate::server::Link;
use crate::wire::{FrameError, FrameKind, WireError, read_frame, read_rows, write_frame};

/// A server that answers this quickly is so near that compressing does not pay.
const NEAR: Duration = Duration::from_millis(2);

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

pub(super) fn is_near(link: &mut Link) -> Result<bool, FrameError> {
    let began = Instant::now();
    write_frame(&mut link.writer, FrameKind::Ping, &[])?;
    match read_frame(&mut link.reader, &mut Vec::new())? {
        FrameKind::Pong => Ok(began.elapsed() < NEAR),
        _ => Err(WireError::Value("an answer was expected").into()),
    }
}

pub(super) fn attach(connect: &dyn Connect, welcome: &Welcome) -> Result<Link, MirrorError> {
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
