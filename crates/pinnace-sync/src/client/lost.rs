//! What was to be compared in a directory that is not where it was: it may be on its way elsewhere.
//!
//! Invariant: a path is given up only when neither the index nor the watcher knows its directory and nothing that was read
//! from the kernel is still to be told. Left to others: comparing it again (`live`, `session`).

use super::Mirror;
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
        if is_known || self.is_told(dir) {
            self.again_later(at.to_vec());
        }
    }

    /// Whether the watcher has more to tell of a directory. The order matters: what has happened is first in its tree or
    /// still to be read and told, then it is an event.
    fn is_told(&self, dir: &[u8]) -> bool {
        let Some(watch) = &self.watch else {
            return false;
        };
        watch.dir_at(dir).is_some() || watch.is_behind() || self.ledger.has_events()
    }
}
