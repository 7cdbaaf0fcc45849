//! What a broker has stored, as it is at one moment: for checks and for backups.
//!
//! Invariant: everything that was acknowledged before it was taken is in it, and nothing that is
//! reclaimed meanwhile is taken away from it. The state is a function of the records in order, so
//! records up to a moment are the state of that moment. Publishing never waits for it.

use std::sync::Arc;

use pinnace_log::SnapshotFile;

use crate::broker::{Broker, Inner};
use crate::reclaim;

/// The stored topics at one moment.
pub struct Snapshot {
    log: pinnace_log::Snapshot,
    // After the snapshot of the log: it looks at what that held.
    released: Released,
}

/// Looks for segments to give back, once the log's snapshot holds them no longer.
struct Released(Arc<Inner>);

impl Broker {
    /// What is stored now. May wait a little for a segment that is being given back.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            log: self.inner.log.snapshot(),
            released: Released(Arc::clone(&self.inner)),
        }
    }
}

impl Snapshot {
    /// Names of the log's segments, oldest first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.log.names()
    }

    /// A segment by its place among the names. Those before it are needed no longer.
    ///
    /// # Errors
    /// The system's reason.
    pub fn open(&self, place: usize) -> std::io::Result<SnapshotFile> {
        self.log.open(place)
    }

    /// Number of the last record in it.
    #[must_use]
    pub fn last_lsn(&self) -> u64 {
        self.log.last_lsn()
    }

    pub(crate) fn log(&self) -> &pinnace_log::Snapshot {
        &self.log
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.released.0
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        if self.0.log.take_withheld() {
            reclaim::look_again(&self.0);
        }
    }
}
