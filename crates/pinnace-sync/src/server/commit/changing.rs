//! Changes of what is in the share already: its looks, its names, its end.
//!
//! Invariant: an entry is changed only if it is the one that is known to be there. Left to others: what is new
//! (`placing`).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::Commit;
use crate::fs::stat_at;
use crate::index::{Change, NodeId};
use crate::meta::{Fingerprint, Kind};
use crate::path;
use crate::server::dress::{decode_attrs, print_of};
use crate::server::lift;
use crate::server::stage::stage_name;
use crate::server::staged::{Failure, FailureCode, Wanted};

impl Commit<'_, '_> {
    /// The node at a place of the pack; the directory itself where there is no name.
    pub(super) fn node(&mut self, dir: usize, name: &[u8]) -> Result<NodeId, Failure> {
        let parent = self.dir(dir)?;
        if name.is_empty() {
            return Ok(parent);
        }
        let node = self.state.index.child(parent, name);
        node.ok_or_else(|| Failure::new(FailureCode::Missing, "the entry is not there"))
    }

    pub(super) fn meta(
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
            let link = lift::hold(fd.as_fd(), name)?;
            check_is(&link, row.print.inode)?;
            self.of.dresser.symlink(link.as_fd(), wanted)?
        } else {
            let file = open_to_dress(fd, name, row.print.inode)?;
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

    pub(super) fn link(
        &mut self,
        dir: usize,
        name: &[u8],
        target: &[u8],
    ) -> Result<Option<NodeId>, Failure> {
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
    pub(super) fn refresh_links(&mut self, inode: u64, except: Option<(NodeId, &[u8])>) {
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

    pub(super) fn rename(
        &mut self,
        from: &[u8],
        dir: usize,
        name: &[u8],
    ) -> Result<Option<NodeId>, Failure> {
        let missing = || Failure::new(FailureCode::Missing, "what is to be renamed is not there");
        let parent = self.dir(dir)?;
        let node = self.state.index.find(from).ok_or_else(missing)?;
        let mut row = *self.state.index.row(node);
        let (from_dir, from_name) = path::split(from);
        let from_parent = self.state.index.parent(node).ok_or_else(missing)?;
        let to = path::join(&self.state.index.path(parent), name);
        if to == from {
            return Ok(Some(node));
        }
        if path::is_within(&to, from) || path::is_within(from, &to) {
            return Err(within());
        }
        self.check_length(node, from.len(), to.len())?;
        let from_fd = self.of.share.root.dir(from_dir)?;
        check_inode(&stat_at(from_fd.as_fd(), from_name)?, row.print.inode)?;
        let flags = RenameFlags::NOREPLACE;
        let was = (from_fd.as_fd(), from_name);
        let first = lift::rename(was, (self.fd(dir)?.as_fd(), name), flags);
        if first == Err(Errno::EXIST) {
            self.discard(dir, parent, name)?;
            lift::rename(was, (self.fd(dir)?.as_fd(), name), flags)?;
        } else {
            first?;
            if let Some(gone) = self.state.index.child(parent, name) {
                self.forget(gone);
            }
        }
        row.print = print_if(&stat_at(self.fd(dir)?.as_fd(), name)?, row.print.inode);
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

    /// Whether everything beneath an entry can still be named when its path changes its length.
    fn check_length(&self, node: NodeId, before: usize, after: usize) -> Result<(), Failure> {
        let index = &self.state.index;
        if after <= before {
            return Ok(());
        }
        let mut waiting = vec![(node, after)];
        while let Some((node, bytes)) = waiting.pop() {
            if bytes > path::PATH_BYTES_MAX {
                let detail = path::BadPath::PathLong.to_string();
                return Err(Failure::new(FailureCode::System, detail));
            }
            let children = index.children(node);
            waiting.extend(children.map(|child| (child, bytes + 1 + index.name(child).len())));
        }
        Ok(())
    }

    /// A client that missed the rename is told of everything that came along with it.
    pub(super) fn renew_beneath(&mut self, node: NodeId) {
        let seq = self.seq;
        self.state.index.renew_beneath(node, seq);
        self.changes.push(Change::Renew { id: node, seq });
    }

    pub(super) fn exchange(&mut self, a: &[u8], b: &[u8]) -> Result<Option<NodeId>, Failure> {
        let missing = || Failure::new(FailureCode::Missing, "what is to be exchanged is not there");
        let index = &self.state.index;
        let nodes = index.find(a).zip(index.find(b));
        let (node_a, node_b) = nodes.ok_or_else(missing)?;
        if path::is_within(a, b) || path::is_within(b, a) {
            return Err(within());
        }
        self.check_length(node_a, a.len(), b.len())?;
        self.check_length(node_b, b.len(), a.len())?;
        let index = &self.state.index;
        let parents = index.parent(node_a).zip(index.parent(node_b));
        let (parent_a, parent_b) = parents.ok_or_else(missing)?;
        let ((dir_a, name_a), (dir_b, name_b)) = (path::split(a), path::split(b));
        let (fd_a, fd_b) = (
            self.of.share.root.dir(dir_a)?,
            self.of.share.root.dir(dir_b)?,
        );
        for (node, fd, name) in [(node_a, &fd_a, name_a), (node_b, &fd_b, name_b)] {
            let known = self.state.index.row(node).print.inode;
            check_inode(&stat_at(fd.as_fd(), name)?, known)?;
        }
        let (at_a, at_b) = ((fd_a.as_fd(), name_a), (fd_b.as_fd(), name_b));
        lift::rename(at_a, at_b, RenameFlags::EXCHANGE)?;
        let exchanged = self.state.index.exchange(node_a, node_b);
        exchanged.map_err(|_| missing())?;
        self.changes.push(Change::Exchange {
            a: node_a,
            b: node_b,
        });
        for (node, fd, name) in [(node_a, &fd_b, name_b), (node_b, &fd_a, name_a)] {
            let mut row = *self.state.index.row(node);
            row.print = print_if(&stat_at(fd.as_fd(), name)?, row.print.inode);
            row.seq = self.seq;
            self.set_row(node, row);
            self.renew_beneath(node);
        }
        self.touched.extend([parent_a, parent_b]);
        Ok(Some(node_a))
    }

    pub(super) fn remove(&mut self, dir: usize, name: &[u8]) -> Result<Option<NodeId>, Failure> {
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

fn within() -> Failure {
    let detail = "an entry cannot go into itself or replace what it lies in";
    Failure::new(FailureCode::Missing, detail)
}

/// Whether this is what is known to be there.
fn check_inode(stat: &Stat, known: u64) -> Result<(), Failure> {
    if stat.st_ino == known {
        return Ok(());
    }
    let detail = "the entry on the server was replaced by somebody else";
    Err(Failure::new(FailureCode::Base, detail))
}

fn check_is(held: &OwnedFd, known: u64) -> Result<(), Failure> {
    check_inode(&rustix::fs::fstat(held)?, known)
}

/// What tells whether an entry is still the same; nothing, if it is another by now.
fn print_if(stat: &Stat, known: u64) -> Fingerprint {
    let print = print_of(stat).ok().filter(|print| print.inode == known);
    print.unwrap_or(Fingerprint::UNKNOWN)
}

/// Opens a file or directory whose looks shall change, also one that this process may not read. It is the one with this
/// inode, or nothing is done to it.
fn open_to_dress(dir: &OwnedFd, name: &[u8], known: u64) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // Its owner may look away for a moment: nobody else gets more than they had.
            let held = lift::hold(dir.as_fd(), name)?;
            check_is(&held, known)?;
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&held)?.st_mode) | Mode::RUSR;
            rustix::fs::chmod(&link, mode)?;
            rustix::fs::openat(dir, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    check_is(&opened, known)?;
    Ok(opened)
}
