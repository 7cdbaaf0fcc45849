//! What comes of changes that the server could not make.
//!
//! What was sent after such a change may have been decided on it: a further name of the file, a rename. Nothing of that is
//! taken for certain. Invariant: after a failure the index claims of the server only what it has for sure, in memory and
//! in the log. Left to others: trying again (`session`, `live`).

use super::state::{Retry, State};
use crate::index::{Change, NodeId, Row};
use crate::meta::{ContentId, Fingerprint};
use crate::path;
use crate::server::{Failure, FailureCode};

/// A change that failed, for those who try again.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) path: Vec<u8>,
    pub(super) failure: Failure,
}

impl State {
    /// A change could not be made.
    ///
    /// # Errors
    /// Why only comparing everything anew can tell what the server has.
    pub(super) fn fail(&mut self, seq: u64, failure: Failure) -> Result<(), String> {
        let found = self
            .pending
            .binary_search_by_key(&seq, |pending| pending.seq);
        let Ok(place) = found else {
            return Ok(());
        };
        let pending = &mut self.pending[place];
        pending.changes.clear();
        let (path, retry, node) = (pending.path.clone(), pending.retry, pending.node);
        let is_link = pending.target.is_some();
        if retry != Retry::Structure && self.index.find(path::split(&path).0).is_none() {
            // The directory could not be made; what is in it is compared along with it.
            return Ok(());
        }
        // One that has been moved meanwhile has taken with it what it is not.
        let is_lost = match failure.code {
            _ if retry == Retry::Structure || self.index.find(&path) != node => true,
            FailureCode::Missing => !is_link,
            _ => false,
        };
        let Some(node) = node.filter(|_| !is_lost) else {
            return Err(format!("{}: {}", path::show(&path), failure.detail));
        };
        self.doubt_names_of(node, place);
        match retry {
            Retry::New => self.take_back(node, place),
            _ => {
                let row = self.doubt(node, place);
                self.pending[place]
                    .changes
                    .push(Change::Set { id: node, row });
            }
        }
        self.troubles.push(Trouble { path, failure });
        Ok(())
    }

    /// Names that were linked to an entry since: what they are names of is not what it was meant to be.
    fn doubt_names_of(&mut self, node: NodeId, place: usize) {
        let later = self.pending.range(place + 1..);
        let linked: Vec<NodeId> = later
            .filter(|pending| pending.target == Some(node))
            .filter_map(|pending| pending.node)
            .collect();
        for linked in linked {
            if self.index.contains(linked) && linked != node {
                self.doubt(linked, place);
                let path = self.index.path(linked);
                let detail = "what it was linked to could not be stored".to_owned();
                let failure = Failure {
                    code: FailureCode::Base,
                    detail,
                };
                self.troubles.push(Trouble { path, failure });
            }
        }
    }

    /// The server has something there, of which nothing is known.
    fn doubt(&mut self, node: NodeId, place: usize) -> Row {
        let doubt = |row: &mut Row| {
            row.content = ContentId([0xff; 32]);
            (row.print, row.recipe) = (Fingerprint::UNKNOWN, None);
        };
        let mut row = *self.index.row(node);
        doubt(&mut row);
        self.index.set_row(node, row);
        for pending in self.pending.range_mut(place + 1..) {
            for change in &mut pending.changes {
                match change {
                    Change::Put { id, row, .. } | Change::Set { id, row } if *id == node => {
                        doubt(row);
                    }
                    _ => {}
                }
            }
        }
        row
    }

    /// The server has nothing there.
    fn take_back(&mut self, node: NodeId, place: usize) {
        let gone: Vec<NodeId> = self.index.walk_from(node).collect();
        self.index.remove(node);
        for pending in self.pending.range_mut(place + 1..) {
            pending.changes.retain(|change| match change {
                Change::Put { id, .. } | Change::Set { id, .. } => !gone.contains(id),
                _ => true,
            });
        }
    }
}
