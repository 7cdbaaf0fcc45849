//! The index in memory.
//!
//! Memory of an entry, about 200 bytes, which a test holds:
//!
//! ```text
//! 144   the row          20   parent, first child, siblings, name (4 bytes each)
//! 1 + n the name         6-11 in each table: by name, by inode, and by content for files in chunks
//! ```
//!
//! Invariant: every entry but the root is found by its parent and name; by inode if that is known; and by
//! content if it is a file in chunks, unless many have the same. No operation recurses: a tree may be as deep as
//! it likes. Left to others: what the changes are ([`super::Change`]) and keeping them ([`super::Store`]).

use super::arena::{Arena, NONE, ROOT, SLOTS_MAX};
use super::tables::{Tables, content_key};
use super::{NodeId, RecipeRef, Row};
use crate::meta::{ContentId, Kind};
use crate::path;

/// Bytes of names from which on an index says that it is full.
const NAME_BYTES_FULL: usize = 3 << 30;

/// Why an entry cannot be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// The root has no other place.
    #[error("the root of a tree cannot be moved")]
    Root,
    /// One of the two places lies in the other.
    #[error("a directory cannot be moved into itself or onto what it lies in")]
    Within,
    /// Its new place is in what is no directory.
    #[error("an entry can only be moved into a directory")]
    NotADirectory,
}

/// A tree of entries. Methods take the ids of entries that are there ([`Index::contains`]); what an id of
/// a removed entry gives is of no use.
#[derive(Clone, Debug)]
pub struct Index {
    arena: Arena,
    tables: Tables,
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    /// The root: a directory with an empty name.
    pub const ROOT: NodeId = NodeId(ROOT);

    /// Only a root, of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(1, 0)
    }

    /// As [`Index::new`], with room for so many slots and names of so many bytes.
    pub(super) fn with_capacity(slots: usize, name_bytes: usize) -> Self {
        Self {
            arena: Arena::with_capacity(slots, name_bytes),
            tables: Tables::with_capacity(slots),
        }
    }

    /// Entries without the root.
    #[must_use]
    pub fn len(&self) -> usize {
        self.arena.used() - 1
    }

    /// Whether there is nothing but the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no entry should be added any more: more than 100 million, or 3 GiB of names.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.arena.slots() >= SLOTS_MAX || self.arena.name_bytes() >= NAME_BYTES_FULL
    }

    /// The entry of this name in a directory.
    #[must_use]
    pub fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        let found = self.tables.named(&self.arena, dir.0, name);
        found.map(NodeId)
    }

    /// The entry at a path; the empty one is the root's.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<NodeId> {
        if path.is_empty() {
            return Some(Self::ROOT);
        }
        path.split(|byte| *byte == b'/')
            .try_fold(Self::ROOT, |dir, name| self.child(dir, name))
    }

    /// Where an entry is.
    #[must_use]
    pub fn path(&self, id: NodeId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = id;
        while let Some(parent) = self.parent(at) {
            names.push(self.name(at));
            at = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The last part of its path.
    #[must_use]
    pub fn name(&self, id: NodeId) -> &[u8] {
        self.arena.name(id.0)
    }

    /// The directory it is in; the root is in none.
    #[must_use]
    pub fn parent(&self, id: NodeId) -> Option<NodeId> {
        let parent = self.arena.parent(id.0);
        (parent != NONE).then_some(NodeId(parent))
    }

    /// What is in a directory, in no order.
    pub fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        chain(self.arena.first_child(id.0), |slot| self.arena.next(slot))
    }

    /// What is known of an entry.
    #[must_use]
    pub fn row(&self, id: NodeId) -> &Row {
        self.arena.row(id.0)
    }

    /// Whether this is the id of an entry. Ids of removed entries are given out again, as late as can be.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.arena.is_used(id.0)
    }

    /// Adds an entry to a directory, or changes the one of this name there as [`Index::set_row`] does. The name
    /// has 1 to 255 bytes and no slash ([`path::check_name`]).
    pub fn insert(&mut self, dir: NodeId, name: &[u8], row: Row) -> NodeId {
        match self.child(dir, name) {
            Some(id) => {
                self.set_row(id, row);
                id
            }
            None => {
                let id = NodeId(self.arena.next_slot());
                self.insert_at(id, dir, name, row);
                id
            }
        }
    }

    /// Adds an entry under an id that is not in use. No entry of this name is in the directory.
    pub(super) fn insert_at(&mut self, id: NodeId, dir: NodeId, name: &[u8], row: Row) {
        debug_assert!(path::check_name(name).is_ok() && self.child(dir, name).is_none());
        debug_assert!(self.row(dir).meta.kind == Kind::Directory);
        self.arena.fill(id.0, dir.0, name, &row);
        self.tables.add_name(&self.arena, id.0);
        self.tables.add_inode(&self.arena, id.0);
        self.tables.add_content(&self.arena, id.0);
    }

    /// Everything beneath an entry has come along with this change.
    pub fn renew_beneath(&mut self, id: NodeId, seq: u64) {
        let mut waiting: Vec<NodeId> = self.children(id).collect();
        while let Some(id) = waiting.pop() {
            let row = Row {
                seq,
                ..*self.row(id)
            };
            self.set_row(id, row);
            waiting.extend(self.children(id));
        }
    }

    /// Changes what is known of an entry. When it was a directory and is none any more, what was in it goes. The
    /// root stays a directory.
    pub fn set_row(&mut self, id: NodeId, row: Row) {
        let is_directory = row.meta.kind == Kind::Directory;
        if id == Self::ROOT && !is_directory {
            return;
        }
        if !is_directory && self.arena.first_child(id.0) != NONE {
            self.remove_beneath(id);
            self.arena.tidy_names();
        }
        let known = self.arena.row(id.0);
        let same_inode = known.print.inode == row.print.inode;
        let same_content = content_key(known) == content_key(&row);
        if !same_inode {
            self.tables.drop_inode(&self.arena, id.0);
        }
        if !same_content {
            self.tables.drop_content(&self.arena, id.0);
        }
        *self.arena.row_mut(id.0) = row;
        if !same_inode {
            self.tables.add_inode(&self.arena, id.0);
        }
        if !same_content {
            self.tables.add_content(&self.arena, id.0);
        }
    }

    /// Says where a recipe is now.
    pub(super) fn set_recipe(&mut self, id: NodeId, recipe: Option<RecipeRef>) {
        self.arena.row_mut(id.0).recipe = recipe;
    }

    /// Removes an entry with everything beneath it, and says how many that were. The root itself stays.
    pub fn remove(&mut self, id: NodeId) -> usize {
        let mut removed = self.remove_beneath(id);
        if id != Self::ROOT {
            self.remove_leaf(id.0);
            removed += 1;
        }
        self.arena.tidy_names();
        removed
    }

    fn remove_beneath(&mut self, id: NodeId) -> usize {
        let mut removed = 0;
        let mut at = id.0;
        loop {
            let child = self.arena.first_child(at);
            if child != NONE {
                at = child;
            } else if at == id.0 {
                return removed;
            } else {
                let parent = self.arena.parent(at);
                self.remove_leaf(at);
                removed += 1;
                at = parent;
            }
        }
    }

    fn remove_leaf(&mut self, slot: u32) {
        self.tables.drop_name(&self.arena, slot);
        self.tables.drop_inode(&self.arena, slot);
        self.tables.drop_content(&self.arena, slot);
        self.arena.empty(slot);
    }

    /// Moves an entry, with what is beneath it. What was at the new place goes.
    ///
    /// # Errors
    /// It is the root, would lie in itself, would replace what it lies in, or would be in what is no directory.
    /// Nothing was changed.
    pub fn rename(&mut self, id: NodeId, dir: NodeId, name: &[u8]) -> Result<(), MoveError> {
        debug_assert!(path::check_name(name).is_ok());
        if id == Self::ROOT {
            return Err(MoveError::Root);
        }
        if self.row(dir).meta.kind != Kind::Directory {
            return Err(MoveError::NotADirectory);
        }
        let target = self.child(dir, name);
        if target == Some(id) {
            return Ok(());
        }
        let replaces_own = target.is_some_and(|target| self.arena.is_within(id.0, target.0));
        if replaces_own || self.arena.is_within(dir.0, id.0) {
            return Err(MoveError::Within);
        }
        if let Some(target) = target {
            self.remove(target);
        }
        self.tables.drop_name(&self.arena, id.0);
        self.arena.relocate(id.0, dir.0, name);
        self.tables.add_name(&self.arena, id.0);
        self.arena.tidy_names();
        Ok(())
    }

    /// Two entries take each other's place.
    ///
    /// # Errors
    /// One of them is the root, or lies in the other. Nothing was changed.
    pub fn exchange(&mut self, a: NodeId, b: NodeId) -> Result<(), MoveError> {
        if a == Self::ROOT || b == Self::ROOT {
            return Err(MoveError::Root);
        }
        if a == b {
            return Ok(());
        }
        if self.arena.is_within(a.0, b.0) || self.arena.is_within(b.0, a.0) {
            return Err(MoveError::Within);
        }
        self.tables.drop_name(&self.arena, a.0);
        self.tables.drop_name(&self.arena, b.0);
        self.arena.swap(a.0, b.0);
        self.tables.add_name(&self.arena, a.0);
        self.tables.add_name(&self.arena, b.0);
        Ok(())
    }

    /// How many entries are beneath this one.
    #[must_use]
    pub fn count_beneath(&self, id: NodeId) -> usize {
        self.walk_from(id).count() - 1
    }

    /// The entries that had this inode when they were last seen: several when it is linked, none for 0.
    pub fn with_inode(&self, inode: u64) -> impl Iterator<Item = NodeId> + '_ {
        self.tables.with_inode(&self.arena, inode).map(NodeId)
    }

    /// A file in chunks with this content, if one is known. Of many copies only some are remembered, so that when
    /// those have gone, others may still be there.
    #[must_use]
    pub fn with_content(&self, content: &ContentId) -> Option<NodeId> {
        let found = self.tables.with_content(&self.arena, content);
        found.map(NodeId)
    }

    /// Everything, the root first and each directory before what is in it.
    pub fn walk(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.walk_from(Self::ROOT)
    }

    /// An entry and everything beneath it, each directory before what is in it.
    pub fn walk_from(&self, top: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        chain(top.0, move |slot| self.arena.behind(slot, top.0))
    }

    /// Bytes of memory it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.arena.memory_bytes() + self.tables.memory_bytes()
    }

    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Adds an entry under an id that is not in use. It is not found before it is entered, nor are the slots
    /// that are skipped free before they are gathered.
    pub(super) fn place(&mut self, id: NodeId, dir: NodeId, name: &[u8], row: &Row) {
        self.arena.lay_out(id.0 as usize + 1);
        self.arena.place(id.0, dir.0, name, row);
    }

    /// Makes placed entries found; `None` when one has the place and name of another.
    pub(super) fn enter(&mut self, slots: &[u32]) -> Option<()> {
        self.tables.add_all(&self.arena, slots)
    }

    /// Ends the placing: there are so many slots, and those that were not filled are free.
    pub(super) fn gather_free(&mut self, slots: usize) {
        self.arena.lay_out(slots);
        self.arena.gather_free();
    }
}

/// Entries from one on, each telling which follows.
fn chain(first: u32, next: impl Fn(u32) -> u32) -> impl Iterator<Item = NodeId> {
    let some = |slot: u32| (slot != NONE).then_some(slot);
    std::iter::successors(some(first), move |slot| some(next(*slot))).map(NodeId)
}
