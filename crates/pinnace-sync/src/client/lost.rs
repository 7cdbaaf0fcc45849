//! What was to be compared in a directory that is not where it was: it may be on its way elsewhere.
//!
//! Invariant: a path is given up only when neither the index nor the watcher knows its directory, and if one may be under
//! another name then, everything is compared. Left to others: comparing it again (`live`, `session`).

use std::sync::atomic::Ordering;

use super::{Mirror, held};
use crate::meta::Kind;
use crate::path;

impl Mirror<'_> {
    /// The directory that these names were told of is elsewhere by now. Its rename will be told too, and takes the names
    /// along; if it was deleted, that will be told.
    pub(super) fn keep_marks(&self, at: &[u8], names: &[Vec<u8>]) {
        for name in names {
            self.keep_mark(&path::join(at, name));
        }
    }

    pub(super) fn keep_mark(&self, at: &[u8]) {
        let dir = path::split(at).0;
        let is_known = self
            .row(dir)
            .is_some_and(|row| row.meta.kind == Kind::Directory);
        let is_told = self.ledger.has_events()
            || self
                .watch
                .as_ref()
                .is_some_and(|watch| watch.dir_at(dir).is_some());
        // What was read from the kernel a moment ago may be neither in the tree nor among the events.
        let is_first = held(&self.kept).insert(at.to_vec());
        if is_known || is_told || is_first {
            self.again_later(at.to_vec());
        } else {
            held(&self.kept).remove(at);
            // Deleted, as a rule; but while directories wander it may be somewhere under a name it was not told of.
            let has_moved = self.has_moved.load(Ordering::Relaxed);
            self.is_doubtful.fetch_or(has_moved, Ordering::Relaxed);
        }
    }
}
