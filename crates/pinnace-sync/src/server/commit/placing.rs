//! Putting what is in the stage into its place, and what was there into the trash.
//!
//! Invariant: an old file gives way to a new one in one rename; what was not the mirror's goes to the trash too. Left to
//! others: changes of what is there (`changing`), what becomes of a large file that gave way (`replaced`).

use std::os::fd::AsFd;

use pinnace_proto::sync::TrashItem;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::Commit;
use crate::fs::stat_at;
use crate::index::{Change, Index, NodeId, Row};
use crate::meta::{Fingerprint, Kind, Meta};
use crate::path;
use crate::server::dress::print_of;
use crate::server::lift;
use crate::server::recover::shown;
use crate::server::replaced::{LARGE_BYTES, REPLACED_MAX, Replaced};
use crate::server::stage::stage_name;
use crate::server::staged::{Failure, FailureCode, New, StagedDir};
use crate::server::trash::remove_all;

impl Commit<'_, '_> {
    /// Moves what is in the stage to its place.
    pub(super) fn placed(
        &mut self,
        dir: usize,
        name: &[u8],
        number: u64,
        new: New,
    ) -> Result<Option<NodeId>, Failure> {
        let staged = stage_name(number);
        let placed = self.dir(dir).and_then(|parent| {
            if !self.exchange_large(dir, parent, name, number, &new.meta) {
                self.replace(dir, parent, name, &staged, new.meta.kind)?;
            }
            Ok(parent)
        });
        let parent = match placed {
            Ok(parent) => parent,
            Err(failure) => {
                let stage = self.of.share.stage.as_fd();
                let _ = remove_all(stage, staged.as_bytes());
                return Err(failure);
            }
        };
        // The rename has changed the inode, and with it what tells whether it is still the same.
        let print = print_of(&stat_at(self.fd(dir)?.as_fd(), name)?)?;
        let is_it = print.inode == new.print.inode;
        let print = if is_it { print } else { Fingerprint::UNKNOWN };
        self.touched.insert(parent);
        self.put(parent, name, New { print, ..new }).map(Some)
    }

    /// Renames from the stage, over what may be replaced; anything else goes to the trash first.
    pub(super) fn replace(
        &mut self,
        dir: usize,
        parent: NodeId,
        name: &[u8],
        staged: &str,
        kind: Kind,
    ) -> Result<(), Failure> {
        let old = self.state.index.child(parent, name);
        let old = old.map(|node| *self.state.index.row(node));
        let staged = (self.of.share.stage.as_fd(), staged.as_bytes());
        let may_replace = old.is_some_and(|old| old.meta.kind != Kind::Directory);
        if may_replace && kind != Kind::Directory {
            match lift::rename(staged, (self.fd(dir)?.as_fd(), name), RenameFlags::empty()) {
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
        let first = lift::rename(staged, (self.fd(dir)?.as_fd(), name), flags);
        if first != Err(Errno::EXIST) {
            first?;
            // What is known to be here was gone.
            if let Some(node) = self.state.index.child(parent, name) {
                self.forget(node);
            }
            return Ok(());
        }
        self.discard(dir, parent, name)?;
        lift::rename(staged, (self.fd(dir)?.as_fd(), name), flags)?;
        Ok(())
    }

    /// Lets a large file give way without waiting for the disk, where that can be done.
    fn exchange_large(
        &mut self,
        dir: usize,
        parent: NodeId,
        name: &[u8],
        number: u64,
        new: &Meta,
    ) -> bool {
        let state = &mut *self.state;
        let old = state.index.child(parent, name);
        let old = old.map(|node| *state.index.row(node));
        let are_files = |old: &Row| old.meta.kind == Kind::File && new.kind == Kind::File;
        // Other names of the old file would be told when it goes, which is later.
        let old = old.filter(|old| are_files(old) && !old.is_linked);
        let Some(old) = old.filter(|old| old.meta.size.max(new.size) >= LARGE_BYTES) else {
            return false;
        };
        let Some(Some((_, fd))) = self.open.get(dir) else {
            return false;
        };
        if state.replaced.len() >= REPLACED_MAX {
            return false;
        }
        let path = path::join(&state.index.path(parent), name);
        let stage = self.of.share.stage.as_fd();
        let at = (fd.as_fd(), name, &path[..]);
        let replaced = Replaced::by_exchange(stage, number, at, &old.print);
        let is_done = replaced.is_some();
        state.replaced.extend(replaced);
        is_done
    }

    /// Moves what is at a place to the trash, whether it is known or not.
    pub(super) fn discard(
        &mut self,
        dir: usize,
        parent: NodeId,
        name: &[u8],
    ) -> Result<(), Failure> {
        let known = self.state.index.child(parent, name);
        let stat = stat_at(self.fd(dir)?.as_fd(), name)?;
        let beneath = known.map_or(0, |node| self.state.index.count_beneath(node));
        let item = TrashItem {
            id: 0,
            path: shown(&path::join(&self.state.index.path(parent), name)),
            kind: crate::server::trash::kind_of(&stat).to_owned(),
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
    pub(super) fn forget(&mut self, node: NodeId) {
        if self.state.index.row(node).meta.kind == Kind::Directory {
            self.close_within(node);
        }
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

    pub(super) fn inner(
        &mut self,
        dir: usize,
        name: &[u8],
        new: New,
    ) -> Result<Option<NodeId>, Failure> {
        let missing = || Failure::new(FailureCode::Missing, "its directory could not be made");
        let parent = match self.dirs.get(dir) {
            Some(StagedDir::New(act)) => self.nodes.get(*act).copied().flatten(),
            _ => None,
        };
        self.put(parent.ok_or_else(missing)?, name, new).map(Some)
    }

    /// Writes what is there now into the index.
    pub(super) fn put(&mut self, parent: NodeId, name: &[u8], new: New) -> Result<NodeId, Failure> {
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

    pub(super) fn put_row(&mut self, parent: NodeId, name: &[u8], row: Row) -> NodeId {
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

    pub(super) fn set_row(&mut self, node: NodeId, row: Row) {
        self.state.index.set_row(node, row);
        self.changes.push(Change::Set { id: node, row });
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
