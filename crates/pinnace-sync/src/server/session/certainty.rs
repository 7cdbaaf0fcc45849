//! What the client is told of its changes: that they are there, that they stay.
//!
//! Invariant: `Committed` is sent after the share and the log of its index have the change, `Durable` after both were
//! synced; failures are told before the acknowledgement that covers them. Left to others: committing itself.

use std::os::fd::AsFd;
use std::sync::Arc;

use pinnace_proto::sync::Durability;

use super::Session;
use crate::server::commit::Outcome;
use crate::server::replaced::Replaced;
use crate::server::share::{Share, ShareError};
use crate::wire::FrameKind;

impl Session {
    pub(super) fn acknowledge(&self, outcome: &Outcome) {
        let (seq, _) = self.share.progress();
        let is_strict = self.hello.durability == Durability::Strict;
        // What is strict is on the disk before anything is said of it.
        let _gone = match is_strict.then(|| self.make_durable()) {
            None => Vec::new(),
            Some(Some((durable, gone))) if durable >= seq => gone,
            Some(_) => return self.end(),
        };
        let told = || -> std::io::Result<()> {
            for (seq, failure) in &outcome.failures {
                let parts = [&seq.to_le_bytes()[..], &[failure.code as u8]];
                self.send(
                    FrameKind::Failed,
                    &[parts[0], parts[1], failure.detail.as_bytes()],
                )?;
            }
            self.send(FrameKind::Committed, &[&seq.to_le_bytes()])?;
            if is_strict {
                self.send(FrameKind::Durable, &[&seq.to_le_bytes()])?;
            }
            Ok(())
        };
        if told().is_err() {
            self.end();
        }
        self.share.wake();
        if self.hello.durability == Durability::None {
            // With any other a sync is made anyway.
            self.share.settle();
        }
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
        if let Some((seq, _gone)) = self.make_durable() {
            let _ = self.send(FrameKind::Durable, &[&seq.to_le_bytes()]);
        }
    }

    /// Syncs everything that is committed now. Returns up to where it is durable, and what is to be dropped once that was
    /// told; `None` if that ended the session.
    fn make_durable(&self) -> Option<(u64, Vec<Replaced>)> {
        let seq = {
            let state = self.share.lock();
            if state.check().is_err() || state.marks.durable_seq == state.marks.seq {
                return Some((state.marks.durable_seq, Vec::new()));
            }
            state.marks.seq
        };
        match self.share.sync(seq) {
            Ok(gone) => Some((seq, gone)),
            Err(error) => {
                self.refuse(error.code(), &error.to_string());
                None
            }
        }
    }
}

impl Share {
    /// Syncs the file system that the share, its index and its trash are on, and lets go of large files that were kept
    /// until then. Dropping those takes a while: that is for when nobody waits.
    fn sync(&self, seq: u64) -> Result<Vec<Replaced>, ShareError> {
        let _alone = self.lock_syncing();
        let replaced = {
            let mut state = self.lock();
            if let Some(why) = &state.failed {
                return Err(ShareError::Failed(why.clone()));
            }
            // Whoever synced meanwhile has done it.
            if state.marks.durable_seq >= seq && state.replaced.is_empty() {
                return Ok(Vec::new());
            }
            std::mem::take(&mut state.replaced)
        };
        if let Err(error) = rustix::fs::syncfs(&self.stage) {
            let why = format!("a sync failed: {}", std::io::Error::from(error));
            self.fail(&why);
            return Err(ShareError::Failed(why));
        }
        let mut state = self.lock();
        let mut marks = state.marks.clone();
        marks.durable_seq = marks.durable_seq.max(seq);
        // If this word is lost, less is known to be durable than is.
        let recorded = state.store.set_marks(&marks);
        recorded.map_err(|error| state.note_failure(error))?;
        state.marks.durable_seq = marks.durable_seq;
        // Once it was opened anew elsewhere the stage is not its own.
        if state.check().is_ok() {
            replaced
                .iter()
                .for_each(|old| old.let_go(self.stage.as_fd()));
        }
        drop(state);
        self.wake();
        Ok(replaced)
    }

    /// Syncs on a thread of its own if large files are kept until then and nobody else is about to.
    pub(super) fn settle(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.replaced.is_empty() || std::mem::replace(&mut state.is_settling, true) {
            return;
        }
        drop(state);
        let share = self.clone();
        let thread = std::thread::Builder::new().name("pn-settle".into());
        let started = thread.spawn(move || while share.settle_once() {});
        if let Err(error) = started {
            // They are kept until the next sync, or until the share is opened anew.
            self.lock().is_settling = false;
            tracing::warn!(%error, "no thread to sync large files");
        }
    }

    /// Syncs if files are kept until then. Returns whether there may be more of them.
    fn settle_once(&self) -> bool {
        let mut state = self.lock();
        if state.replaced.is_empty() || state.check().is_err() {
            state.is_settling = false;
            return false;
        }
        let seq = state.marks.seq;
        drop(state);
        // A failure is final, and known by then.
        self.sync(seq).is_ok()
    }
}
