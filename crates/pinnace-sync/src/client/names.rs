//! Files that the server has under another name: further names of one file, and files that were renamed.
//!
//! Invariant: a name is linked only to what the server has as it is in the source now; of the names of a file that has
//! changed one is compared by its content, and the others are linked to it. Left to others: contents (`content`).

use super::compare::Seen;
use super::packer::Packer;
use super::{Mirror, held};
use crate::index::{Index, Row};
use crate::meta::{Fingerprint, Kind, Stamp};

/// Names of files with several names that are remembered at most; what changes in more of them within a moment, by names
/// that are gone at once, is left to the comparison of everything.
const LINKED_MAX: usize = 100_000;

pub(super) enum Elsewhere {
    Done,
    Moved(Row),
    Nowhere,
}

impl Mirror<'_> {
    /// Whether the server has the file under another name: a link, or one that was renamed.
    pub(super) fn elsewhere(&self, packer: &mut Packer<'_>, seen: &Seen<'_>) -> Elsewhere {
        self.note_linked(seen);
        if seen.names > 1 && (self.link(packer, seen) || !self.claims(seen)) {
            return Elsewhere::Done;
        }
        let is_known_here = seen
            .row
            .is_some_and(|row| row.print.inode == seen.print.inode);
        if is_known_here {
            return Elsewhere::Nowhere;
        }
        for (from, row) in self.same_inode(&seen.at, seen.print) {
            let is_same = row.meta.kind == Kind::File
                && row.meta.size == seen.meta.size
                && row.meta.mtime == seen.meta.mtime;
            if !is_same {
                continue;
            }
            let there = self.root.stat(&from).ok().map(|stat| stat.st_ino);
            if there == Some(seen.print.inode) {
                continue;
            }
            packer.send();
            // What was here may be what is there now.
            let swapped = seen.row.filter(|own| there == Some(own.print.inode));
            if let Some(own) = swapped {
                packer.exchange((&from, seen.print.inode), (&seen.at, own.print.inode));
                self.again(vec![from]);
            } else {
                let inode = seen.print.inode;
                packer.rename(&from, inode, &seen.at, Fingerprint::UNKNOWN);
            }
            let moved = self
                .row(&seen.at)
                .filter(|moved| moved.content == row.content);
            if let Some(moved) = moved {
                return Elsewhere::Moved(moved);
            }
        }
        Elsewhere::Nowhere
    }

    /// Whether this name of a file is the one whose content is compared now; the others come when the server has it.
    fn claims(&self, seen: &Seen<'_>) -> bool {
        let mut claimed = held(&self.claimed);
        let by = claimed
            .entry(seen.print.inode)
            .or_insert_with(|| seen.at.clone());
        let is_own = *by == seen.at;
        drop(claimed);
        if !is_own {
            self.again(vec![seen.at.clone()]);
        }
        is_own
    }

    /// Links a file that has other names, of which the server has one as it is now.
    pub(super) fn link(&self, packer: &mut Packer<'_>, seen: &Seen<'_>) -> bool {
        // One that looks as it did has to be read again, for nothing else would do it.
        if seen.row.is_some_and(|own| own.print == seen.print) {
            return false;
        }
        for (other, row) in self.same_inode(&seen.at, seen.print) {
            let mut meta = seen.meta;
            meta.attrs = row.meta.attrs;
            let is_current = row.print == seen.print && row.meta == meta;
            if !is_current || !self.is_there(&other, seen.print.inode) {
                continue;
            }
            let mut now = seen.found(row.meta.attrs, row.is_racy);
            now.is_linked = true;
            let recipe = row.recipe;
            packer.send();
            // Whether they are linked there already is not known here; if so, this changes nothing.
            packer.link(&seen.at, &now, &other, row.content);
            self.ledger.note(&seen.at, |own| own.recipe = recipe);
            return true;
        }
        false
    }

    /// The other names of a file that has changed. If it was sent, it is a file of its own in the share until they are
    /// linked to it.
    pub(super) fn look_at_other_names(&self, seen: &Seen<'_>, is_sent: bool) {
        if seen.names > 1 {
            let others = self.same_inode(&seen.at, seen.print);
            for (other, row) in others.iter().filter(|_| is_sent) {
                let print = Fingerprint {
                    ctime: Stamp::default(),
                    ..row.print
                };
                self.note_print(other, print, row.is_racy);
            }
            self.again(others.into_iter().map(|(path, _)| path).collect());
        }
    }

    /// Remembers a file with several names. A write is told of the name it went through alone, and of none when that name
    /// is gone before the event is read.
    fn note_linked(&self, seen: &Seen<'_>) {
        let mut linked = held(&self.linked);
        if seen.names > 1 && self.watch.is_some() && linked.len() < LINKED_MAX {
            linked.insert(seen.at.clone());
        }
        drop(linked);
        // Other names of what was here may have been written to by this one.
        let before = seen.row.filter(|row| row.print.inode != seen.print.inode);
        if let Some(before) = before {
            let others = self.same_inode(&seen.at, before.print);
            self.again(others.into_iter().map(|(path, _)| path).collect());
        }
    }

    /// Names of files with several names that are to be looked at once more before all is quiet. Whether there were any.
    pub(super) fn look_at_linked(&self) -> bool {
        let linked = std::mem::take(&mut *held(&self.linked));
        let has_any = !linked.is_empty();
        self.again(linked.into_iter().collect());
        has_any
    }

    /// Other names of the files that go with this entry: they may have been written to by a name that goes.
    pub(super) fn look_at_names_beneath(&self, at: &[u8]) {
        let state = self.ledger.lock();
        let mut waiting: Vec<_> = state.index.find(at).into_iter().collect();
        let mut others = Vec::new();
        while let Some(node) = waiting.pop() {
            let inode = state.index.row(node).print.inode;
            let beside = state.index.with_inode(inode).filter(|other| *other != node);
            others.extend(beside.map(|other| state.index.path(other)));
            waiting.extend(state.index.children(node));
        }
        drop(state);
        others.retain(|other| !crate::path::is_within(other, at));
        self.again(others);
    }

    /// What the server has of the same inode elsewhere.
    pub(super) fn same_inode(&self, at: &[u8], print: Fingerprint) -> Vec<(Vec<u8>, Row)> {
        let state = self.ledger.lock();
        let nodes = state.index.with_inode(print.inode);
        let nodes = nodes.filter(|node| *node != Index::ROOT);
        let others = nodes.map(|node| (state.index.path(node), *state.index.row(node)));
        others.filter(|(path, _)| path != at).collect()
    }

    /// Whether the source has this inode at a path.
    pub(super) fn is_there(&self, at: &[u8], inode: u64) -> bool {
        let stat = self.root.stat(at);
        stat.is_ok_and(|stat| stat.st_ino == inode)
    }
}
