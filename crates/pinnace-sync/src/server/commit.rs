//! Puts staged packs into the share, one change after the other, in the order of their numbers.
//!
//! Invariant: after each change the share is what the source was at some moment; the index has a change once the share has
//! it, and the log of the index is written before the change is acknowledged. What cannot be done changes nothing, is told,
//! and does not stop what comes after. Left to others: what the client does about it, syncing (`session`).

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use pinnace_proto::sync::{Durability, TrashItem};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::dress::{Dresser, decode_attrs, print_of, times};
use super::recover::shown;
use super::share::{Share, ShareError, State};
use super::stage::stage_name;
use super::staged::{Act, Failure, FailureCode, New, Staged, StagedDir, Wanted, What};
use super::stream::Streams;
use crate::fs::stat_at;
use crate::index::{Change, Index, NodeId, Row};
use crate::meta::{Kind, Meta};
use crate::path;

/// What came of a pack.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Changes that could not be made.
    pub(super) failures: Vec<(u64, Failure)>,
    /// Paths that changed, for those who listen; not all if there are many.
    pub(super) paths: Vec<String>,
    /// How many changes there were.
    pub(super) changes: u64,
}

/// Paths of one event.
const PATHS_MAX: usize = 100;

/// Puts packs into the share.
pub(super) struct Committer<'a> {
    share: &'a Share,
    streams: &'a Streams,
    dresser: Dresser,
    durability: Durability,
    now_us: fn() -> u64,
}

/// One commit under way.
struct Commit<'a, 'b> {
    of: &'a Committer<'b>,
    state: &'a mut State,
    seq: u64,
    /// Directories of the pack that were opened.
    open: Vec<Option<(NodeId, OwnedFd)>>,
    dirs: &'a [StagedDir],
    /// Nodes of the pack's changes so far.
    nodes: Vec<Option<NodeId>>,
    /// Directories whose entries changed, and with them their times, which they get back at the end.
    touched: BTreeSet<NodeId>,
    changes: Vec<Change>,
    outcome: &'a mut Outcome,
}

impl<'a> Committer<'a> {
    pub(super) fn new(
        share: &'a Share,
        streams: &'a Streams,
        durability: Durability,
        now_us: fn() -> u64,
    ) -> Self {
        Self {
            share,
            streams,
            dresser: Dresser::new(share.sets_owners, durability),
            durability,
            now_us,
        }
    }

    /// Commits packs whose turn has come, in order.
    ///
    /// # Errors
    /// What is final: that the share's log cannot be written.
    pub(super) fn commit(&self, packs: Vec<Staged>) -> Result<Outcome, ShareError> {
        let mut outcome = Outcome::default();
        let mut state = self.share.lock();
        if let Some(why) = &state.failed {
            return Err(ShareError::Failed(why.clone()));
        }
        if rustix::fs::fstat(&self.share.root).is_ok_and(|stat| stat.st_nlink == 0) {
            return Err(ShareError::Removed);
        }
        let (mut changes, mut touched) = (Vec::new(), BTreeSet::new());
        for pack in packs {
            let last_seq = pack.first_seq + pack.acts.len() as u64 - 1;
            let mut commit = Commit {
                of: self,
                state: &mut state,
                seq: pack.first_seq,
                open: pack.dirs.iter().map(|_| None).collect(),
                dirs: &pack.dirs,
                nodes: Vec::with_capacity(pack.acts.len()),
                touched,
                changes,
                outcome: &mut outcome,
            };
            for act in pack.acts {
                commit.act(act);
            }
            (changes, touched) = (commit.changes, commit.touched);
            state.marks.seq = last_seq;
        }
        self.restore_times(&mut state, &touched, &mut changes);
        state.store.append(&changes)?;
        let marks = state.marks.clone();
        state.store.set_marks(&marks)?;
        if state.store.wants_checkpoint() {
            let state = &mut *state;
            state
                .store
                .checkpoint(&mut state.index, &state.marks, &state.removals)?;
        }
        Ok(outcome)
    }

    /// Gives directories back the times that their entries' changes took from them.
    fn restore_times(
        &self,
        state: &mut State,
        touched: &BTreeSet<NodeId>,
        changes: &mut Vec<Change>,
    ) {
        for node in touched {
            if !state.index.contains(*node) {
                continue;
            }
            let mut row = *state.index.row(*node);
            let restored = self
                .share
                .root
                .dir(&state.index.path(*node))
                .and_then(|fd| {
                    rustix::fs::futimens(&fd, &times(row.meta.mtime))?;
                    if self.durability == Durability::Strict {
                        rustix::fs::fsync(&fd)?;
                    }
                    print_of(&rustix::fs::fstat(&fd)?)
                });
            if let Ok(print) = restored {
                row.print = print;
                state.index.set_row(*node, row);
                changes.push(Change::Set { id: *node, row });
            }
        }
    }
}

impl Commit<'_, '_> {
    fn act(&mut self, act: Act) {
        let (dir, name) = act.at;
        let done = match act.what {
            What::Placed(number, new) => self.placed(dir, &name, number, new),
            What::Inner(new) => self.inner(dir, &name, new),
            What::Streamed(stream, wanted, content) => {
                let taken = self
                    .of
                    .streams
                    .finish(stream, &wanted, content, &self.of.dresser);
                taken.and_then(|(number, new)| self.placed(dir, &name, number, new))
            }
            What::Meta(kind, wanted) => self.meta(dir, &name, kind, &wanted),
            What::Link(target) => self.link(dir, &name, &target),
            What::Rename(from) => self.rename(&from, dir, &name),
            What::Exchange(a, b) => self.exchange(&a, &b),
            What::Remove => self.remove(dir, &name),
            What::Failed(failure) => Err(failure),
        };
        match done {
            Ok(node) => {
                self.nodes.push(node);
                if self.outcome.paths.len() < PATHS_MAX {
                    let path = match node {
                        Some(node) => self.state.index.path(node),
                        None => self.dir_path(dir, &name),
                    };
                    self.outcome.paths.push(shown(&path));
                }
                self.outcome.changes += 1;
            }
            Err(failure) => {
                self.nodes.push(None);
                self.outcome.failures.push((self.seq, failure));
            }
        }
        self.seq += 1;
    }

    fn dir_path(&self, dir: usize, name: &[u8]) -> Vec<u8> {
        match self.open.get(dir) {
            Some(Some((node, _))) => path::join(&self.state.index.path(*node), name),
            _ => name.to_vec(),
        }
    }

    /// Opens a directory of the pack, if it is not open yet.
    fn dir(&mut self, dir: usize) -> Result<NodeId, Failure> {
        if let Some(Some((node, _))) = self.open.get(dir) {
            return Ok(*node);
        }
        let missing = || Failure::new(FailureCode::Missing, "the directory is not there");
        let index = &self.state.index;
        let node = match self.dirs.get(dir).ok_or_else(missing)? {
            StagedDir::Known(path) => index.find(path),
            StagedDir::New(act) => self.nodes.get(*act).copied().flatten(),
        };
        let node = node.filter(|node| index.row(*node).meta.kind == Kind::Directory);
        let node = node.ok_or_else(missing)?;
        let fd = self.of.share.root.dir(&index.path(node))?;
        self.open[dir] = Some((node, fd));
        Ok(node)
    }

    fn fd(&self, dir: usize) -> Result<&OwnedFd, Failure> {
        match self.open.get(dir) {
            Some(Some((_, fd))) => Ok(fd),
            _ => Err(Failure::new(
                FailureCode::Missing,
                "the directory is not open",
            )),
        }
    }

    /// Moves what is in the stage to its place.
    fn placed(
        &mut self,
        dir: usize,
        name: &[u8],
        number: u64,
        new: New,
    ) -> Result<Option<NodeId>, Failure> {
        let staged = stage_name(number);
        let placed = self.dir(dir).and_then(|parent| {
            self.replace(dir, parent, name, &staged, new.meta.kind)?;
            Ok(parent)
        });
        let parent = match placed {
            Ok(parent) => parent,
            Err(failure) => {
                let stage = self.of.share.stage.as_fd();
                let _ = super::trash::remove_all(stage, staged.as_bytes());
                return Err(failure);
            }
        };
        // The rename has changed the inode, and with it what tells whether it is still the same.
        let print = print_of(&stat_at(self.fd(dir)?.as_fd(), name)?)?;
        self.touched.insert(parent);
        self.put(parent, name, New { print, ..new }).map(Some)
    }

    /// Renames from the stage, over what may be replaced; anything else goes to the trash first.
    fn replace(
        &mut self,
        dir: usize,
        parent: NodeId,
        name: &[u8],
        staged: &str,
        kind: Kind,
    ) -> Result<(), Failure> {
        let old = self.state.index.child(parent, name);
        let old = old.map(|node| *self.state.index.row(node));
        let stage = &self.of.share.stage;
        let may_replace = old.is_some_and(|old| old.meta.kind != Kind::Directory);
        if may_replace && kind != Kind::Directory {
            match rustix::fs::renameat(stage, staged, self.fd(dir)?, name) {
                Ok(()) => {
                    if let Some(old) = old.filter(|old| old.is_linked) {
                        self.refresh_links(old.print.inode, Some((parent, name)));
                    }
                    return Ok(());
                }
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let flags = RenameFlags::NOREPLACE;
        let first = rustix::fs::renameat_with(stage, staged, self.fd(dir)?, name, flags);
        if first != Err(Errno::EXIST) {
            return Ok(first?);
        }
        self.discard(dir, parent, name)?;
        rustix::fs::renameat_with(stage, staged, self.fd(dir)?, name, flags)?;
        Ok(())
    }

    /// Moves what is at a place to the trash, whether it is known or not.
    fn discard(&mut self, dir: usize, parent: NodeId, name: &[u8]) -> Result<(), Failure> {
        let known = self.state.index.child(parent, name);
        let stat = stat_at(self.fd(dir)?.as_fd(), name)?;
        let kind = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory => "directory",
            rustix::fs::FileType::Symlink => "symlink",
            _ => "file",
        };
        let beneath = known.map_or(0, |node| self.state.index.count_beneath(node));
        let item = TrashItem {
            id: 0,
            path: shown(&path::join(&self.state.index.path(parent), name)),
            kind: kind.to_owned(),
            removed_us: (self.of.now_us)(),
            entries: 1 + beneath as u64,
        };
        let Some(Some((_, fd))) = self.open.get(dir) else {
            return Err(Failure::new(
                FailureCode::Missing,
                "the directory is not open",
            ));
        };
        self.state.trash.take(fd.as_fd(), name, item)?;
        if let Some(node) = known {
            let row = *self.state.index.row(node);
            self.forget(node);
            if row.is_linked {
                self.refresh_links(row.print.inode, None);
            }
        }
        Ok(())
    }

    /// An entry is no longer there.
    fn forget(&mut self, node: NodeId) {
        let state = &mut *self.state;
        let path = state.index.path(node).into_boxed_slice();
        state.bytes -= bytes_beneath(&state.index, node);
        state.index.remove(node);
        state
            .marks
            .note_removal(&mut state.removals, self.seq, path);
        self.changes.push(Change::Remove {
            id: node,
            seq: self.seq,
        });
    }

    fn inner(&mut self, dir: usize, name: &[u8], new: New) -> Result<Option<NodeId>, Failure> {
        let missing = || Failure::new(FailureCode::Missing, "its directory could not be made");
        let parent = match self.dirs.get(dir) {
            Some(StagedDir::New(act)) => self.nodes.get(*act).copied().flatten(),
            _ => None,
        };
        self.put(parent.ok_or_else(missing)?, name, new).map(Some)
    }

    /// Writes what is there now into the index.
    fn put(&mut self, parent: NodeId, name: &[u8], new: New) -> Result<NodeId, Failure> {
        let state = &mut *self.state;
        let recipe = new.recipe.map(|recipe| state.store.add_recipe(&recipe));
        let recipe = recipe.transpose();
        let recipe = recipe.map_err(|e| Failure::new(FailureCode::System, e.to_string()))?;
        let row = Row {
            meta: new.meta,
            print: new.print,
            content: new.content,
            seq: self.seq,
            recipe,
            is_linked: false,
            is_racy: false,
        };
        Ok(self.put_row(parent, name, row))
    }

    fn put_row(&mut self, parent: NodeId, name: &[u8], row: Row) -> NodeId {
        let state = &mut *self.state;
        if let Some(old) = state.index.child(parent, name) {
            state.bytes -= bytes_beneath(&state.index, old);
        }
        state.bytes += bytes_of(&row.meta);
        let id = state.index.insert(parent, name, row);
        self.changes.push(Change::Put {
            id,
            parent,
            name: name.into(),
            row,
        });
        id
    }

    fn set_row(&mut self, node: NodeId, row: Row) {
        self.state.index.set_row(node, row);
        self.changes.push(Change::Set { id: node, row });
    }

    /// The node at a place of the pack; the directory itself where there is no name.
    fn node(&mut self, dir: usize, name: &[u8]) -> Result<NodeId, Failure> {
        let parent = self.dir(dir)?;
        if name.is_empty() {
            return Ok(parent);
        }
        let node = self.state.index.child(parent, name);
        node.ok_or_else(|| Failure::new(FailureCode::Missing, "the entry is not there"))
    }

    fn meta(
        &mut self,
        dir: usize,
        name: &[u8],
        kind: Kind,
        wanted: &Wanted,
    ) -> Result<Option<NodeId>, Failure> {
        let node = self.node(dir, name)?;
        let mut row = *self.state.index.row(node);
        if row.meta.kind != kind {
            return Err(Failure::new(
                FailureCode::Base,
                "the entry is of another kind",
            ));
        }
        let attrs = decode_attrs(&wanted.attrs)
            .map_err(|error| Failure::new(FailureCode::System, error.to_string()))?;
        let fd = self.fd(dir)?;
        row.print = if name.is_empty() {
            self.of.dresser.again(fd.as_fd(), wanted, &attrs)?
        } else if kind == Kind::Symlink {
            self.of.dresser.symlink(fd.as_fd(), name, wanted)?;
            print_of(&stat_at(fd.as_fd(), name)?)?
        } else {
            let file = open_to_dress(fd, name)?;
            if print_of(&rustix::fs::fstat(&file)?)?.inode != row.print.inode {
                let detail = "the entry on the server was replaced by somebody else";
                return Err(Failure::new(FailureCode::Base, detail));
            }
            self.of.dresser.again(file.as_fd(), wanted, &attrs)?
        };
        row.meta = wanted.meta(kind, row.meta.size);
        row.seq = self.seq;
        self.set_row(node, row);
        if row.is_linked {
            self.refresh_links(row.print.inode, None);
        }
        Ok(Some(node))
    }

    fn link(&mut self, dir: usize, name: &[u8], target: &[u8]) -> Result<Option<NodeId>, Failure> {
        let missing = || Failure::new(FailureCode::Missing, "the linked file is not there");
        let parent = self.dir(dir)?;
        let node = self.state.index.find(target).ok_or_else(missing)?;
        let mut row = *self.state.index.row(node);
        if row.meta.kind == Kind::Directory {
            return Err(missing());
        }
        let (target_dir, target_name) = path::split(target);
        let target_fd = self.of.share.root.dir(target_dir)?;
        let staged = stage_name(self.of.share.numbers.next());
        let stage = &self.of.share.stage;
        rustix::fs::linkat(&target_fd, target_name, stage, &staged, AtFlags::empty())?;
        let stat = stat_at(stage.as_fd(), staged.as_bytes())?;
        let placed = if stat.st_ino == row.print.inode {
            self.replace(dir, parent, name, &staged, row.meta.kind)
        } else {
            let detail = "the file on the server was replaced by somebody else";
            Err(Failure::new(FailureCode::Base, detail))
        };
        // A rename over another name of the same file does nothing, and leaves this name.
        let _ = rustix::fs::unlinkat(stage, &staged, AtFlags::empty());
        placed?;
        row.seq = self.seq;
        row.is_linked = true;
        self.touched.insert(parent);
        let node = self.put_row(parent, name, row);
        self.refresh_links(row.print.inode, None);
        Ok(Some(node))
    }

    /// All names of a file share its inode, which has changed.
    fn refresh_links(&mut self, inode: u64, except: Option<(NodeId, &[u8])>) {
        let nodes: Vec<NodeId> = self.state.index.with_inode(inode).collect();
        for node in nodes {
            let index = &self.state.index;
            let (parent, name) = (index.parent(node), index.name(node));
            if except.is_some_and(|except| (parent, name) == (Some(except.0), except.1)) {
                continue;
            }
            let Ok(stat) = self.of.share.root.stat(&index.path(node)) else {
                continue;
            };
            if let Ok(print) = print_of(&stat)
                && print.inode == inode
            {
                let mut row = *index.row(node);
                (row.print, row.is_linked) = (print, true);
                self.set_row(node, row);
            }
        }
    }

    fn rename(&mut self, from: &[u8], dir: usize, name: &[u8]) -> Result<Option<NodeId>, Failure> {
        let missing = || Failure::new(FailureCode::Missing, "what is to be renamed is not there");
        let parent = self.dir(dir)?;
        let node = self.state.index.find(from).ok_or_else(missing)?;
        let mut row = *self.state.index.row(node);
        let (from_dir, from_name) = path::split(from);
        let from_parent = self.state.index.parent(node).ok_or_else(missing)?;
        if path::is_within(&self.state.index.path(parent), from) {
            return Err(Failure::new(
                FailureCode::Missing,
                "a directory cannot go into itself",
            ));
        }
        let from_fd = self.of.share.root.dir(from_dir)?;
        if stat_at(from_fd.as_fd(), from_name)?.st_ino != row.print.inode {
            let detail = "the entry on the server was replaced by somebody else";
            return Err(Failure::new(FailureCode::Base, detail));
        }
        let flags = RenameFlags::NOREPLACE;
        let first = rustix::fs::renameat_with(&from_fd, from_name, self.fd(dir)?, name, flags);
        if first == Err(Errno::EXIST) {
            self.discard(dir, parent, name)?;
            rustix::fs::renameat_with(&from_fd, from_name, self.fd(dir)?, name, flags)?;
        } else {
            first?;
        }
        row.print = print_of(&stat_at(self.fd(dir)?.as_fd(), name)?)?;
        row.seq = self.seq;
        let state = &mut *self.state;
        state
            .marks
            .note_removal(&mut state.removals, self.seq, from.into());
        let renamed = state.index.rename(node, parent, name);
        renamed.map_err(|_| missing())?;
        self.changes.push(Change::Rename {
            id: node,
            parent,
            name: name.into(),
        });
        self.set_row(node, row);
        self.renew_beneath(node);
        self.touched.extend([parent, from_parent]);
        if row.is_linked {
            self.refresh_links(row.print.inode, None);
        }
        Ok(Some(node))
    }

    /// A client that missed the rename is told of everything that came along with it.
    fn renew_beneath(&mut self, node: NodeId) {
        let mut waiting: Vec<NodeId> = self.state.index.children(node).collect();
        while let Some(node) = waiting.pop() {
            let mut row = *self.state.index.row(node);
            row.seq = self.seq;
            self.set_row(node, row);
            waiting.extend(self.state.index.children(node));
        }
    }

    fn exchange(&mut self, a: &[u8], b: &[u8]) -> Result<Option<NodeId>, Failure> {
        let missing = || Failure::new(FailureCode::Missing, "what is to be exchanged is not there");
        let index = &self.state.index;
        let nodes = index.find(a).zip(index.find(b));
        let (node_a, node_b) = nodes.ok_or_else(missing)?;
        if path::is_within(a, b) || path::is_within(b, a) {
            return Err(Failure::new(
                FailureCode::Missing,
                "a directory cannot go into itself",
            ));
        }
        let parents = index.parent(node_a).zip(index.parent(node_b));
        let (parent_a, parent_b) = parents.ok_or_else(missing)?;
        let ((dir_a, name_a), (dir_b, name_b)) = (path::split(a), path::split(b));
        let (fd_a, fd_b) = (
            self.of.share.root.dir(dir_a)?,
            self.of.share.root.dir(dir_b)?,
        );
        rustix::fs::renameat_with(&fd_a, name_a, &fd_b, name_b, RenameFlags::EXCHANGE)?;
        let exchanged = self.state.index.exchange(node_a, node_b);
        exchanged.map_err(|_| missing())?;
        self.changes.push(Change::Exchange {
            a: node_a,
            b: node_b,
        });
        for (node, fd, name) in [(node_a, &fd_b, name_b), (node_b, &fd_a, name_a)] {
            let mut row = *self.state.index.row(node);
            row.print = print_of(&stat_at(fd.as_fd(), name)?)?;
            row.seq = self.seq;
            self.set_row(node, row);
            self.renew_beneath(node);
        }
        self.touched.extend([parent_a, parent_b]);
        Ok(Some(node_a))
    }

    fn remove(&mut self, dir: usize, name: &[u8]) -> Result<Option<NodeId>, Failure> {
        let parent = self.dir(dir)?;
        match self.discard(dir, parent, name) {
            Ok(()) => {}
            // Somebody was quicker: it is gone, as it should be.
            Err(Failure {
                code: FailureCode::Missing,
                ..
            }) => {
                if let Some(node) = self.state.index.child(parent, name) {
                    self.forget(node);
                }
            }
            Err(failure) => return Err(failure),
        }
        self.touched.insert(parent);
        Ok(None)
    }
}

fn bytes_of(meta: &Meta) -> u64 {
    match meta.kind {
        Kind::File => meta.size,
        _ => 0,
    }
}

fn bytes_beneath(index: &Index, node: NodeId) -> u64 {
    let (mut waiting, mut bytes) = (vec![node], 0);
    while let Some(node) = waiting.pop() {
        bytes += bytes_of(&index.row(node).meta);
        waiting.extend(index.children(node));
    }
    bytes
}

/// Opens a file or directory whose looks shall change, also one that this process may not read.
fn open_to_dress(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // Its owner may look away for a moment: nobody else gets more than they had.
            let held = rustix::fs::openat(
                dir,
                name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&held)?.st_mode) | Mode::RUSR;
            rustix::fs::chmod(&link, mode)?;
            Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}
