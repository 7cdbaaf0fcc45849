//! How a session begins: where the share is, and what the client does not know of it.
//!
//! Invariant: what is told is what is in the index when it is told; the session holds the share, so nobody else changes
//! it. Left to others: who may have a session.

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::sync::Welcome;

use super::Session;
use crate::index::{Index, NodeId};
use crate::server::recover::{Reading, Walk};
use crate::wire::{FrameError, FrameKind, RowFacts, RowsBuilder};

/// Bytes that a client may have under way on its first connection without an answer.
const WINDOW_BYTES: u64 = 8 << 20;
/// Bytes of one frame of rows.
pub(in crate::server) const ROWS_FRAME_BYTES: usize = 256 << 10;

impl Session {
    /// Says where the share is, and what the client does not know of it.
    pub(in crate::server) fn greet(&self) -> Result<(), FrameError> {
        if self.hello.recheck
            && let Err(error) = Walk::new(&self.share, Reading::Unknown).run()
        {
            tracing::warn!(%error, "the share cannot be compared with what is known of it");
        }
        let (welcome, after) = {
            let state = self.share.lock();
            let lineage = crate::server::hex(&state.marks.lineage);
            let knows = self.hello.lineage == lineage
                && self.hello.seq <= state.marks.seq
                && self.hello.seq >= state.marks.removals_from;
            let welcome = Welcome {
                v: DOCUMENT_VERSION,
                lineage,
                seq: state.marks.seq,
                durable: state.marks.durable_seq,
                token: self.token.clone(),
                whole: !knows,
                sets_owners: self.share.sets_owners,
                window_bytes: WINDOW_BYTES,
                place: crate::fs::place_of(&self.share.root).ok(),
            };
            (welcome, knows.then_some(self.hello.seq))
        };
        self.tell(FrameKind::Welcome, &welcome)?;
        if after != Some(welcome.seq) {
            self.send_rows(after)?;
        }
        Ok(self.send(FrameKind::RowsEnd, &[])?)
    }

    pub(super) fn send_rows(&self, after: Option<u64>) -> std::io::Result<()> {
        let mut rows = RowsBuilder::default();
        // Sent when the share is free again.
        let mut gone = Vec::new();
        let nodes: Vec<_> = {
            let state = self.share.lock();
            let removals = state.removals.iter();
            for (_, path) in removals.filter(|(seq, _)| after.is_some_and(|after| *seq > after)) {
                rows.push(path, None);
                if rows.bytes() > ROWS_FRAME_BYTES {
                    gone.push(rows.take());
                }
            }
            let is_new = |node: &_| after.is_none_or(|after| state.index.row(*node).seq > after);
            state.index.walk().filter(is_new).collect()
        };
        for frame in gone {
            self.send(FrameKind::Rows, &[&frame])?;
        }
        // Nobody else changes the index: the session holds the share.
        for some in nodes.chunks(1024) {
            let state = self.share.lock();
            for node in some.iter().filter(|node| state.index.contains(**node)) {
                rows.push(&state.index.path(*node), Some(&facts(&state.index, *node)));
            }
            drop(state);
            if rows.bytes() > ROWS_FRAME_BYTES {
                self.send(FrameKind::Rows, &[&rows.take()])?;
            }
        }
        if rows.bytes() > 0 {
            self.send(FrameKind::Rows, &[&rows.take()])?;
        }
        Ok(())
    }
}

pub(in crate::server) fn facts(index: &Index, node: NodeId) -> RowFacts {
    let row = index.row(node);
    RowFacts {
        meta: row.meta,
        content: row.content,
        seq: row.seq,
    }
}
