//! By what entries are found: their parent and name, their inode, their content.
//!
//! Invariant: a table holds numbers of slots and no keys; what a slot's key is, the arena says, so an entry is
//! taken out before its key changes and put in after. Left to others: keeping to that.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::Row;
use super::arena::Arena;
use super::keys::Keys;
use crate::chunk::WHOLE_BYTES_MAX;
use crate::meta::{ContentId, Kind};

/// So many entries of one content are found by it; with more, any lookup would become slow.
const COPIES_MAX: usize = 16;

/// The tables of an index.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    by_name: HashTable<u32>,
    by_inode: HashTable<u32>,
    by_content: HashTable<u32>,
    keys: Keys,
}

impl Tables {
    /// Empty, with room for so many entries.
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self {
            by_name: HashTable::with_capacity(entries),
            by_inode: HashTable::with_capacity(entries),
            by_content: HashTable::new(),
            keys: Keys::new(),
        }
    }

    /// The entry of this name in a directory.
    pub(super) fn named(&self, arena: &Arena, dir: u32, name: &[u8]) -> Option<u32> {
        let is_it = |slot: &u32| arena.parent(*slot) == dir && arena.name(*slot) == name;
        let found = self.by_name.find(self.keys.name(dir, name), is_it);
        found.copied()
    }

    /// The entries that had this inode when they were last seen.
    pub(super) fn with_inode<'a>(
        &'a self,
        arena: &'a Arena,
        inode: u64,
    ) -> impl Iterator<Item = u32> + 'a {
        let same = self.by_inode.iter_hash(self.keys.number(inode)).copied();
        same.filter(move |slot| arena.row(*slot).print.inode == inode)
    }

    /// An entry that is found by this content.
    pub(super) fn with_content(&self, arena: &Arena, content: &ContentId) -> Option<u32> {
        let is_it = |slot: &u32| arena.row(*slot).content == *content;
        let found = self.by_content.find(self.keys.content(&content.0), is_it);
        found.copied()
    }

    /// Puts in entries that are in no table; `None` when one has the place and name of another. Table by table and
    /// with the hashes at hand, the memory that one entry waits for is fetched while the next one is begun.
    pub(super) fn add_all(&mut self, arena: &Arena, slots: &[u32]) -> Option<()> {
        let keys = &self.keys;
        let name = |slot: &u32| keys.name(arena.parent(*slot), arena.name(*slot));
        let inode = |slot: &u32| keys.number(arena.row(*slot).print.inode);
        let mut hashes: Vec<u64> = slots.iter().map(name).collect();
        for (slot, hash) in slots.iter().zip(&hashes) {
            let is_same = |other: &u32| {
                arena.parent(*other) == arena.parent(*slot)
                    && arena.name(*other) == arena.name(*slot)
            };
            match self.by_name.entry(*hash, is_same, name) {
                Entry::Vacant(vacant) => vacant.insert(*slot),
                Entry::Occupied(_) => return None,
            };
        }
        hashes.clear();
        hashes.extend(slots.iter().map(inode));
        for (slot, hash) in slots.iter().zip(&hashes) {
            if arena.row(*slot).print.inode != 0 {
                self.by_inode.insert_unique(*hash, *slot, inode);
            }
        }
        for slot in slots {
            self.add_content(arena, *slot);
        }
        Some(())
    }

    pub(super) fn add_name(&mut self, arena: &Arena, slot: u32) {
        let keys = &self.keys;
        let hash = |slot: &u32| keys.name(arena.parent(*slot), arena.name(*slot));
        self.by_name.insert_unique(hash(&slot), slot, hash);
    }

    pub(super) fn drop_name(&mut self, arena: &Arena, slot: u32) {
        let hash = self.keys.name(arena.parent(slot), arena.name(slot));
        drop_slot(&mut self.by_name, hash, slot);
    }

    pub(super) fn add_inode(&mut self, arena: &Arena, slot: u32) {
        let keys = &self.keys;
        if arena.row(slot).print.inode != 0 {
            let hash = |slot: &u32| keys.number(arena.row(*slot).print.inode);
            self.by_inode.insert_unique(hash(&slot), slot, hash);
        }
    }

    pub(super) fn drop_inode(&mut self, arena: &Arena, slot: u32) {
        let inode = arena.row(slot).print.inode;
        if inode != 0 {
            drop_slot(&mut self.by_inode, self.keys.number(inode), slot);
        }
    }

    pub(super) fn add_content(&mut self, arena: &Arena, slot: u32) {
        let keys = &self.keys;
        let Some(content) = content_key(arena.row(slot)) else {
            return;
        };
        let hash = |slot: &u32| keys.content(&arena.row(*slot).content.0);
        let copies = self.by_content.iter_hash(hash(&slot));
        let copies = copies.filter(|slot| arena.row(**slot).content == *content);
        if copies.take(COPIES_MAX).count() < COPIES_MAX {
            self.by_content.insert_unique(hash(&slot), slot, hash);
        }
    }

    pub(super) fn drop_content(&mut self, arena: &Arena, slot: u32) {
        if let Some(content) = content_key(arena.row(slot)) {
            drop_slot(&mut self.by_content, self.keys.content(&content.0), slot);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let tables = [&self.by_name, &self.by_inode, &self.by_content];
        tables.iter().map(|table| table.allocation_size()).sum()
    }
}

/// The content by which an entry is found, if it is.
pub(super) fn content_key(row: &Row) -> Option<&ContentId> {
    let is_key = row.meta.kind == Kind::File && row.meta.size >= WHOLE_BYTES_MAX;
    is_key.then_some(&row.content)
}

fn drop_slot(table: &mut HashTable<u32>, hash: u64, slot: u32) {
    if let Ok(entry) = table.find_entry(hash, |other| *other == slot) {
        entry.remove();
    }
}
