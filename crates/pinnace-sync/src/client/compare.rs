//! Compares what is at a path with what the server has there, and packs what makes the two equal.
//!
//! The one code path of the mirror: a first sync, a change that was just seen, an overflow and a sweep come through here
//! and differ only in what they feed in.
//!
//! Invariant: an entry counts as equal only by a fingerprint that was taken before its content was read and was the same
//! afterwards. Deletions are only collected here, and only from directories that were read to their end. Left to others:
//! which paths (`scan`, `live`), whether deletions are believed (`guard`), reading contents (`content`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, Stat};
use rustix::io::Errno;

use super::content::is_racy;
use super::packer::{Found, Packer};
use super::rules::RULES;
use super::scan::{Depth, Task};
use super::{Mirror, Skip, held};
use crate::fs::{Attrs, attrs_digest, stat_at};
use crate::index::Row;
use crate::meta::{Fingerprint, Kind, Meta, of_stat};
use crate::path;

/// How often it is looked whether a directory is in two places.
const LOOKS: usize = 4;

/// An entry of a directory as it was seen.
pub(super) struct Seen<'a> {
    /// The directory it is in, open.
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    pub(super) at: Vec<u8>,
    pub(super) meta: Meta,
    pub(super) print: Fingerprint,
    pub(super) names: u64,
    pub(super) has_holes: bool,
    /// What the server has there.
    pub(super) row: Option<Row>,
}

impl Seen<'_> {
    pub(super) fn found(&self, attrs: u64, is_racy: bool) -> Found {
        Found {
            meta: Meta { attrs, ..self.meta },
            print: self.print,
            is_linked: self.names > 1 && self.meta.kind != Kind::Directory,
            is_racy,
        }
    }
}

impl Mirror<'_> {
    /// Compares a directory: itself, then its entries. Returns what is to be compared next.
    pub(super) fn compare_dir(
        &self,
        packer: &mut Packer<'_>,
        at: &[u8],
        depth: Depth,
    ) -> Vec<Task> {
        let fd = match self.open_dir(at) {
            Ok(Some(fd)) => fd,
            Ok(None) => return Vec::new(),
            Err(error) => {
                if depth == Depth::All {
                    held(&self.deep).insert(at.to_vec());
                }
                self.unreadable(at, error);
                return Vec::new();
            }
        };
        // Watched before it is looked at: what changes in between is told, its own times too. One that was not watched
        // until now may have entries that nobody told of, also if it is the same inode; and it may be another than the
        // one that was seen here when it was listed.
        let was_watched = self.watch_dir(at, &fd);
        let is_known = match self.compare_own(packer, at, &fd) {
            Ok(is_known) => is_known,
            Err(error) => {
                self.unreadable(at, error);
                return Vec::new();
            }
        };
        let depth = match depth {
            Depth::Own if was_watched && is_known => return Vec::new(),
            Depth::Entries if is_known => Depth::Entries,
            _ => Depth::All,
        };
        match self.compare_entries(packer, at, &fd, depth) {
            Ok(tasks) => tasks,
            Err(error) => {
                // What could not be listed may be there all the same.
                self.unreadable(at, error);
                Vec::new()
            }
        }
    }

    /// Opens a directory of the source.
    fn open_dir(&self, at: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let fd = self.root.dir(at)?;
        if rustix::fs::fstat(&fd)?.st_dev != self.device {
            self.skip(at, Skip::OtherFileSystem);
            return Ok(None);
        }
        self.unskip(at);
        Ok(Some(fd))
    }

    /// What was to be compared cannot be read. One that is not there any more is compared once more by its name: it may have
    /// been moved, and then its rename takes along that it is still to be compared.
    fn unreadable(&self, at: &[u8], error: Errno) {
        if !at.is_empty() && matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) {
            held(&self.unwatched).remove(at);
            self.keep_mark(at);
        } else {
            self.skip(at, Skip::Unreadable(error));
        }
    }

    /// Compares a directory itself. Whether it is the one that is known there, with what is beneath it.
    fn compare_own(&self, packer: &mut Packer<'_>, at: &[u8], fd: &OwnedFd) -> Result<bool, Errno> {
        let stat = rustix::fs::fstat(fd)?;
        let Some((mut meta, print, _)) = of_stat(&stat) else {
            return Ok(true);
        };
        let row = self.row(at);
        let is_same =
            |row: Row| row.meta.kind == Kind::Directory && row.print == print && !row.is_racy;
        if row.is_some_and(is_same) {
            return Ok(true);
        }
        let is_racy = is_racy(print.ctime);
        let attrs = Attrs::read(fd)?.encode();
        meta.attrs = attrs_digest(&attrs);
        let found = Found {
            meta,
            print,
            is_linked: false,
            is_racy,
        };
        let row = row.filter(|row| row.meta.kind == Kind::Directory);
        match row {
            None => {
                if self.is_moved_dir(packer, at, &meta, print) {
                    return self.compare_own(packer, at, fd);
                }
                packer.mkdir(at, &found, &attrs);
            }
            Some(row) if row.meta == meta => self.note_print(at, print, is_racy),
            Some(row) => {
                let row = Row {
                    meta,
                    print,
                    is_racy,
                    ..row
                };
                packer.meta(at, &found, &attrs, row);
            }
        }
        Ok(row.is_some_and(|row| row.print.inode == print.inode))
    }

    fn compare_entries(
        &self,
        packer: &mut Packer<'_>,
        at: &[u8],
        fd: &OwnedFd,
        depth: Depth,
    ) -> Result<Vec<Task>, Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        self.read_rules(at, fd, names.iter().any(|name| name == RULES));
        let seen = self.look(at, fd, &names)?;
        self.collect_gone(at, &seen);
        Ok(self.compare_seen(packer, seen, depth))
    }

    /// Compares some entries of a directory.
    pub(super) fn compare_names(
        &self,
        packer: &mut Packer<'_>,
        at: &[u8],
        names: &[Vec<u8>],
    ) -> Vec<Task> {
        let fd = match self.open_dir(at) {
            Ok(Some(fd)) => fd,
            Ok(None) => return Vec::new(),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !at.is_empty() => {
                self.keep_marks(at, names);
                return Vec::new();
            }
            Err(error) => {
                self.skip(at, Skip::Unreadable(error));
                return Vec::new();
            }
        };
        let known = self.row(at).map(|row| row.print.inode);
        let is_other = rustix::fs::fstat(&fd)
            .is_ok_and(|stat| known.is_some_and(|known| known != stat.st_ino));
        if is_other {
            self.keep_marks(at, names);
        }
        let mut tasks = Vec::new();
        if names.iter().any(|name| name == RULES) {
            let is_there = stat_at(fd.as_fd(), RULES).is_ok();
            if self.read_rules(at, &fd, is_there) {
                let path = at.to_vec();
                tasks.push(Task::dir(path, Depth::All));
            }
        }
        match self.look(at, &fd, names) {
            Ok(seen) => {
                let is_seen = |name: &Vec<u8>| seen.iter().any(|seen| seen.name == name);
                let gone = names.iter().filter(|name| !is_seen(name));
                let gone: Vec<_> = gone.map(|name| path::join(at, name)).collect();
                tasks.extend(self.compare_seen(packer, seen, Depth::Own));
                for path in gone {
                    self.collect(path);
                }
                // A change of its entries is a change of the directory. If it is another, all its entries differ.
                match self.compare_own(packer, at, &fd) {
                    Ok(true) => {}
                    Ok(false) => tasks.push(Task::dir(at.to_vec(), Depth::All)),
                    Err(error) => self.unreadable(at, error),
                }
            }
            Err(error) => self.unreadable(at, error),
        }
        tasks
    }

    /// Looks at entries of a directory; those that are left out or gone are not in the answer.
    fn look<'n>(
        &self,
        at: &[u8],
        fd: &'n OwnedFd,
        names: &'n [Vec<u8>],
    ) -> Result<Vec<Seen<'n>>, Errno> {
        let mut seen = Vec::with_capacity(names.len());
        for name in names {
            let stat = match stat_at(fd.as_fd(), name) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            let path = path::join(at, name);
            if let Some(entry) = self.admit(fd.as_fd(), name, path, &stat) {
                seen.push(entry);
            }
        }
        let state = self.ledger.lock();
        if let Some(dir) = state.index.find(at) {
            for entry in &mut seen {
                let node = state.index.child(dir, entry.name);
                entry.row = node.map(|node| *state.index.row(node));
            }
        }
        Ok(seen)
    }

    /// Whether an entry is mirrored at all.
    fn admit<'n>(
        &self,
        dir: BorrowedFd<'n>,
        name: &'n [u8],
        at: Vec<u8>,
        stat: &Stat,
    ) -> Option<Seen<'n>> {
        let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
        if self.filter.is_excluded(&at, is_dir) {
            return None;
        }
        let Some((meta, print, names)) = of_stat(stat) else {
            self.skip(&at, Skip::Kind);
            return None;
        };
        if at.len() > path::PATH_BYTES_MAX {
            self.skip(&at, Skip::Long);
            return None;
        }
        Some(Seen {
            dir,
            name,
            at,
            meta,
            print,
            names,
            has_holes: (stat.st_blocks as u64) * 512 < stat.st_size as u64,
            row: None,
        })
    }

    /// Compares entries that were seen. Directories are compared later.
    fn compare_seen(
        &self,
        packer: &mut Packer<'_>,
        seen: Vec<Seen<'_>>,
        depth: Depth,
    ) -> Vec<Task> {
        let mut tasks = Vec::new();
        for entry in seen {
            if entry.meta.kind == Kind::Directory {
                self.note_compared(0);
                let is_known = entry.row.is_some_and(|row| {
                    row.meta.kind == Kind::Directory && row.print.inode == entry.print.inode
                });
                // Inside one that is new nothing is known; inside one that is known events tell.
                let is_deep = held(&self.deep).remove(&entry.at);
                let depth = match depth {
                    _ if is_deep => Depth::All,
                    Depth::Own if is_known => Depth::Own,
                    Depth::Entries if is_known => continue,
                    _ => Depth::All,
                };
                tasks.push(Task::dir(entry.at, depth));
                continue;
            }
            let is_same = entry.row.is_some_and(|row| {
                row.print == entry.print
                    && row.meta.size == entry.meta.size
                    && row.meta.kind == entry.meta.kind
                    && !row.is_racy
            });
            let is_same = !held(&self.closed).remove(&entry.at) && is_same;
            if !is_same && let Err(error) = self.compare_content(packer, &entry) {
                self.skip(&entry.at, Skip::Unreadable(error));
            }
            self.note_compared(entry.meta.size);
        }
        tasks
    }

    pub(super) fn row(&self, at: &[u8]) -> Option<Row> {
        let state = self.ledger.lock();
        let node = state.index.find(at)?;
        Some(*state.index.row(node))
    }

    /// The entry is what the server has; only this host's knowledge of it is renewed.
    pub(super) fn note_print(&self, at: &[u8], print: Fingerprint, is_racy: bool) {
        self.ledger.note(at, |row| {
            row.print = print;
            row.is_racy = is_racy;
        });
    }

    /// Collects what the server has of a directory and the source has not.
    fn collect_gone(&self, at: &[u8], seen: &[Seen<'_>]) {
        let state = self.ledger.lock();
        let Some(dir) = state.index.find(at) else {
            return;
        };
        let mut names: Vec<&[u8]> = seen.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        let gone = state.index.children(dir).map(|node| state.index.name(node));
        let gone = gone.filter(|name| names.binary_search(name).is_err());
        let gone: Vec<_> = gone.map(|name| path::join(at, name)).collect();
        drop(state);
        for path in gone {
            self.collect(path);
        }
    }

    /// Whether a directory is one that the server has elsewhere; then it is moved there. It may be back there already,
    /// and will be found so: it must not be in the index twice, or what is known beneath it goes with the wrong one.
    fn is_moved_dir(
        &self,
        packer: &mut Packer<'_>,
        at: &[u8],
        meta: &Meta,
        print: Fingerprint,
    ) -> bool {
        let Some((from, row)) = self.same_inode(at, print).into_iter().next() else {
            return false;
        };
        if row.meta.kind != meta.kind || self.is_at_both(&from, at, print.inode) {
            return false;
        }
        // What is packed so far may be about its parent.
        packer.send();
        packer.rename(&from, print.inode, at, Fingerprint::UNKNOWN);
        self.filter.rename_dir(&from, at);
        self.row(at).is_some_and(|now| now.seq > row.seq)
    }

    /// Whether a directory is in two places for good, as one that is mounted in the other is. One that only moves to and
    /// fro is not met in both every time.
    fn is_at_both(&self, one: &[u8], other: &[u8], inode: u64) -> bool {
        (0..LOOKS).all(|_| self.is_there(one, inode) && self.is_there(other, inode))
    }
}
