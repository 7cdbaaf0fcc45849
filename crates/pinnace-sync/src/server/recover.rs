//! Compares a share's directory with what is known of it when it is opened.
//!
//! Between a rename and the record of it the server may have been killed; while it was down anybody may have changed the
//! share. What is there as it is known stays; what is not is read, and becomes known as a change of its own, which the
//! client hears of like of any other and undoes where its source says so.
//!
//! Invariant: afterwards the index says what is there. Left to others: telling the client, repairing.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::Dir;
use rustix::io::Errno;

use super::share::{Share, ShareError, State};
use crate::chunk::{self, Recipe};
use crate::fs::{Attrs, attrs_digest, boot_id, open_file, stat_at};
use crate::index::{Change, Index, NodeId, Row, Store};
use crate::meta::{ContentId, Fingerprint, Kind, Meta, of_stat};
use crate::path;

/// Makes the index say what is there.
pub(super) fn reconcile(share: &Share) -> Result<(), ShareError> {
    let mut state = share.lock();
    let boot = boot_id();
    // A crash of the machine may have taken the end of the log, and a client may know changes by numbers that are given to
    // others now: what it knows is compared with all there is.
    if state.marks.lineage == [0; 16] || state.marks.boot != boot {
        state.marks.lineage = super::random();
    }
    // After a crash of the machine what was not synced may be there in part, whatever its inode says.
    let durable = state.marks.durable_seq;
    let reading = match state.marks.boot == boot {
        true => Reading::Unknown,
        false => Reading::After(durable),
    };
    state.marks.boot = boot;
    let (seq, is_new) = (state.marks.seq, state.index.is_empty());
    drop(state);
    let found = Walk {
        seq: seq + 1,
        ..Walk::new(share, reading)
    };
    let found = found.run()?;
    let mut state = share.lock();
    if !found.is_empty() {
        if !is_new {
            tracing::info!(
                entries = found.len(),
                "the share was changed by others, or a crash cut changes off"
            );
        }
        state.marks.seq = seq + 1;
    }
    let marks = state.marks.clone();
    state.store.set_marks(&marks)?;
    state.bytes = bytes_of(&state.index);
    Ok(())
}

/// Bytes of all files.
fn bytes_of(index: &Index) -> u64 {
    let rows = index.walk().map(|node| index.row(node));
    rows.filter(|row| row.meta.kind == Kind::File)
        .map(|row| row.meta.size)
        .sum()
}

/// What is read again, besides what is not known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    /// Nothing.
    Unknown,
    /// What changed after a moment.
    After(u64),
    /// All of it.
    Everything,
}

/// A walk through the share.
pub(super) struct Walk<'a> {
    share: &'a Share,
    /// The change that what is found counts as.
    seq: u64,
    reading: Reading,
    changes: Vec<Change>,
    found: Vec<Vec<u8>>,
}

impl<'a> Walk<'a> {
    /// What it finds counts as part of the last change.
    pub(super) fn new(share: &'a Share, reading: Reading) -> Self {
        Self {
            share,
            seq: share.progress().0,
            reading,
            changes: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Compares everything. The share is free for others between two directories. Returns the paths that were
    /// different.
    pub(super) fn run(mut self) -> Result<Vec<Vec<u8>>, ShareError> {
        let mut waiting = vec![Vec::new()];
        while let Some(dir) = waiting.pop() {
            let mut state = self.share.lock();
            state.check()?;
            if dir.is_empty() {
                let root = self.root(&mut state);
                root.map_err(|error| ShareError::at(Path::new("."))(error.into()))?;
            }
            let Some(node) = state.index.find(&dir) else {
                continue;
            };
            match self.dir(&mut state, node, &dir, &mut waiting) {
                Ok(()) => {}
                // It went meanwhile: its parent was or will be compared.
                Err(Errno::NOENT) if !dir.is_empty() => {}
                Err(error) => {
                    let at = shown(&dir);
                    return Err(ShareError::at(Path::new(&at))(error.into()));
                }
            }
            let changes = std::mem::take(&mut self.changes);
            if !changes.is_empty() {
                let appended = state.store.append(&changes);
                appended.map_err(|error| state.note_failure(error))?;
            }
        }
        Ok(self.found)
    }

    /// The share's directory itself, which may have been made anew. One that nothing is known of is left to the client.
    fn root(&mut self, state: &mut State) -> Result<(), Errno> {
        let known = *state.index.row(Index::ROOT);
        let Some((mut meta, print, _)) = of_stat(&rustix::fs::fstat(&self.share.root)?) else {
            return Ok(());
        };
        if known.print == Fingerprint::UNKNOWN || known.print == print {
            return Ok(());
        }
        meta.attrs = attrs_digest(&Attrs::read(&self.share.root)?.encode());
        let row = Row {
            meta,
            print,
            seq: self.seq,
            ..known
        };
        self.found.push(Vec::new());
        state.index.set_row(Index::ROOT, row);
        self.changes.push(Change::Set {
            id: Index::ROOT,
            row,
        });
        Ok(())
    }

    fn dir(
        &mut self,
        state: &mut State,
        dir: NodeId,
        at: &[u8],
        waiting: &mut Vec<Vec<u8>>,
    ) -> Result<(), Errno> {
        let fd = self.share.root.dir(at)?;
        let mut seen = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            // Others can make what no path can say; a client could not be told of it.
            if at.len() + 1 + name.len() > path::PATH_BYTES_MAX {
                continue;
            }
            let stat = match stat_at(fd.as_fd(), name) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            let Some((meta, print, links)) = of_stat(&stat) else {
                continue;
            };
            let known = state.index.child(dir, name);
            let known = known.filter(|node| {
                let row = state.index.row(*node);
                self.is_known(row, &meta, &print)
                    && self.is_right(&state.store, row, fd.as_fd(), name)
            });
            let node = match known {
                Some(node) => node,
                None => self.learn(state, fd.as_fd(), (dir, name), (meta, print, links))?,
            };
            seen.push(node);
            if meta.kind == Kind::Directory {
                waiting.push(path::join(at, name));
            }
        }
        let gone: Vec<NodeId> = {
            seen.sort_unstable();
            let children = state.index.children(dir);
            children
                .filter(|node| seen.binary_search(node).is_err())
                .collect()
        };
        for node in gone {
            let path = state.index.path(node);
            self.changes.push(Change::Remove {
                id: node,
                seq: self.seq,
            });
            state
                .marks
                .note_removal(&mut state.removals, self.seq, path.clone().into());
            self.found.push(path);
            state.index.remove(node);
        }
        Ok(())
    }

    /// Whether an entry is what is known of it, as far as a look tells.
    fn is_known(&self, row: &Row, meta: &Meta, print: &Fingerprint) -> bool {
        let is_doubtful = matches!(self.reading, Reading::After(durable) if row.seq > durable);
        row.meta.kind == meta.kind
            && row.print == *print
            && row.meta.size == meta.size
            && !is_doubtful
    }

    /// Whether its content is what is known of it, where that is to be read.
    fn is_right(&self, store: &Store, row: &Row, dir: BorrowedFd<'_>, name: &[u8]) -> bool {
        if !matches!(self.reading, Reading::Everything) {
            return true;
        }
        let mut meta = row.meta;
        let recipe = row.recipe.map(|recipe| store.recipe(recipe).ok());
        let read = read_again(dir, name, &mut meta, recipe);
        read.is_ok_and(|content| content == row.content && meta.attrs == row.meta.attrs)
    }

    fn learn(
        &mut self,
        state: &mut State,
        fd: BorrowedFd<'_>,
        (dir, name): (NodeId, &[u8]),
        (mut meta, print, links): (Meta, Fingerprint, u64),
    ) -> Result<NodeId, Errno> {
        self.found.push(path::join(&state.index.path(dir), name));
        if matches!(self.reading, Reading::After(_)) {
            read_from_disk(fd, name);
        }
        let (content, recipe) = read_content(fd, name, &mut meta)?;
        let recipe = match recipe {
            Some(recipe) => state.store.add_recipe(&recipe).map(Some),
            None => Ok(None),
        };
        // The owners that could not be set stay known, unless somebody else's hand is to be seen.
        let row = Row {
            meta,
            print,
            content,
            seq: self.seq,
            recipe: recipe.map_err(|_| Errno::IO)?,
            is_linked: links > 1 && meta.kind != Kind::Directory,
            is_racy: false,
        };
        let id = state.index.insert(dir, name, row);
        self.changes.push(Change::Put {
            id,
            parent: dir,
            name: name.into(),
            row,
        });
        Ok(id)
    }
}

/// Reads an entry's content and attributes.
fn read_content(
    dir: BorrowedFd<'_>,
    name: &[u8],
    meta: &mut Meta,
) -> Result<(ContentId, Option<Recipe>), Errno> {
    let flags = rustix::fs::OFlags::RDONLY
        | rustix::fs::OFlags::DIRECTORY
        | rustix::fs::OFlags::NOFOLLOW
        | rustix::fs::OFlags::CLOEXEC;
    match meta.kind {
        Kind::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
            Ok((ContentId(*blake3::hash(target.as_bytes()).as_bytes()), None))
        }
        Kind::Directory => {
            let fd = rustix::fs::openat(dir, name, flags, rustix::fs::Mode::empty())?;
            meta.attrs = attrs_digest(&Attrs::read(&fd)?.encode());
            Ok((ContentId::default(), None))
        }
        Kind::File => {
            let file = open_file(dir, name)?;
            meta.attrs = attrs_digest(&Attrs::read(&file)?.encode());
            chunk::content_of_file(&file, meta.size, has_holes(&file)?)
        }
    }
}

/// Has the next reader of a file read it from the disk: what is in memory may be what a failed write left there.
pub(super) fn read_from_disk(dir: BorrowedFd<'_>, name: &[u8]) {
    if let Ok(file) = open_file(dir, name) {
        // Where there is no such thing there is nothing in memory either, or nothing else to be had.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

/// Whether a file takes less room than it is long.
fn has_holes(file: impl AsFd) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_blocks as u64) * 512 < stat.st_size as u64)
}

/// Reads content again that is known in chunks: cut where it was cut then.
pub(super) fn read_again(
    dir: BorrowedFd<'_>,
    name: &[u8],
    meta: &mut Meta,
    recipe: Option<Option<Recipe>>,
) -> Result<ContentId, Errno> {
    let Some(recipe) = recipe else {
        return read_content(dir, name, meta).map(|(content, _)| content);
    };
    let recipe = recipe.ok_or(Errno::IO)?;
    let file = open_file(dir, name)?;
    meta.attrs = attrs_digest(&Attrs::read(&file)?.encode());
    Ok(chunk::recut(&file, &recipe)?.content_id())
}

/// For messages: a path that people can read.
pub(super) fn shown(at: &[u8]) -> String {
    path::show(at).into_owned()
}
