//! What the client is told of its changes: that they are there, that they stay.
//!
//! Invariant: `Committed` is sent after the share and the log of its index have the change, `Durable` after both were
//! synced; failures are told before the acknowledgement that covers them. Left to others: committing itself.

use pinnace_proto::sync::Durability;
use rustix::io::Errno;

use super::Session;
use crate::server::commit::Outcome;
use crate::server::share::Share;
use crate::wire::FrameKind;

impl Session {
    pub(super) fn acknowledge(&self, outcome: &Outcome) {
        let (seq, _) = self.share.progress();
        let told = || -> std::io::Result<()> {
            for (seq, failure) in &outcome.failures {
                let parts = [&seq.to_le_bytes()[..], &[failure.code as u8]];
                self.send(
                    FrameKind::Failed,
                    &[parts[0], parts[1], failure.detail.as_bytes()],
                )?;
            }
            self.send(FrameKind::Committed, &[&seq.to_le_bytes()])?;
            if self.hello.durability == Durability::Strict {
                self.sync_now();
            }
            Ok(())
        };
        if told().is_err() {
            self.end();
        }
        self.share.wake();
        if outcome.changes > 0 {
            self.listener
                .changed(&self.name, seq, outcome.changes, &outcome.paths);
        }
    }

    /// The thread that syncs what was committed, many changes at once.
    pub(super) fn sync(&self) {
        if self.hello.durability != Durability::Batch {
            return;
        }
        loop {
            let state = self.share.wait_while(self.share.lock(), |state| {
                !self.is_over() && state.marks.seq == state.marks.durable_seq
            });
            drop(state);
            if self.is_over() {
                return;
            }
            self.sync_now();
        }
    }

    /// Syncs everything that is committed now, and says so.
    pub(super) fn sync_now(&self) {
        let seq = {
            let state = self.share.lock();
            if state.failed.is_some() || state.marks.durable_seq == state.marks.seq {
                let seq = state.marks.durable_seq;
                drop(state);
                let _ = self.send(FrameKind::Durable, &[&seq.to_le_bytes()]);
                return;
            }
            state.marks.seq
        };
        match self.share.sync(seq) {
            Ok(()) => {
                let _ = self.send(FrameKind::Durable, &[&seq.to_le_bytes()]);
            }
            Err(error) => {
                let why = std::io::Error::from(error).to_string();
                self.share.fail(&format!("a sync failed: {why}"));
                self.refuse("storage", &format!("a sync failed: {why}"));
            }
        }
    }
}

impl Share {
    /// Syncs the file system that the share, its index and its trash are on.
    fn sync(&self, seq: u64) -> Result<(), Errno> {
        rustix::fs::syncfs(&self.stage)?;
        let mut state = self.lock();
        state.marks.durable_seq = state.marks.durable_seq.max(seq);
        let marks = state.marks.clone();
        // If this word is lost, less is known to be durable than is.
        state.store.set_marks(&marks).map_err(|_| Errno::IO)?;
        drop(state);
        self.wake();
        Ok(())
    }
}
