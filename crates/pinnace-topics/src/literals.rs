//! Queues on patterns without wildcards, found by the hash of the whole topic.
//!
//! Invariant: a pattern is here while a queue is on it. There may be a million of them with one
//! queue each, so an entry is a shared text and, mostly, a single id; the tree of patterns would
//! spend several times that on its nodes.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Groups of parents; see `is_parent`.
const PARENTS: usize = 1 << 14;

pub(crate) struct Literals {
    table: HashTable<Literal>,
    hasher: RandomState,
    /// How many patterns have their last token below each group of parents.
    parents: Box<[u32]>,
}

struct Literal {
    text: Arc<[u8]>,
    ids: Ids,
}

/// Mostly one.
#[expect(
    clippy::box_collection,
    reason = "eight bytes less in each of a million entries"
)]
enum Ids {
    One(u32),
    Many(Box<Vec<u32>>),
}

impl Ids {
    fn as_slice(&self) -> &[u32] {
        match self {
            Ids::One(id) => std::slice::from_ref(id),
            Ids::Many(ids) => ids,
        }
    }
}

impl Default for Literals {
    fn default() -> Literals {
        Literals {
            table: HashTable::new(),
            hasher: RandomState::new(),
            parents: vec![0; PARENTS].into_boxed_slice(),
        }
    }
}

impl Literals {
    /// The queues on exactly this topic.
    pub(crate) fn get(&self, topic: &[u8]) -> &[u32] {
        if self.table.is_empty() {
            return &[];
        }
        let hash = self.hasher.hash_one(topic);
        let found = self.table.find(hash, |literal| *literal.text == *topic);
        found.map_or(&[], |literal| literal.ids.as_slice())
    }

    pub(crate) fn add(&mut self, pattern: &Arc<[u8]>, id: u32) {
        let hash = self.hasher.hash_one(&**pattern);
        let hasher = &self.hasher;
        let entry = self.table.entry(
            hash,
            |literal| literal.text == *pattern,
            |literal| hasher.hash_one(&*literal.text),
        );
        match entry {
            Entry::Vacant(vacant) => {
                vacant.insert(Literal {
                    text: Arc::clone(pattern),
                    ids: Ids::One(id),
                });
                if let Some(parent) = self.parent(pattern) {
                    self.parents[parent] += 1;
                }
            }
            Entry::Occupied(mut occupied) => match &mut occupied.get_mut().ids {
                Ids::Many(ids) => ids.push(id),
                ids @ Ids::One(_) => {
                    let first = ids.as_slice().iter().copied();
                    *ids = Ids::Many(Box::new(first.chain([id]).collect()));
                }
            },
        }
    }

    pub(crate) fn remove(&mut self, pattern: &[u8], id: u32) {
        let hash = self.hasher.hash_one(pattern);
        let found = self
            .table
            .find_entry(hash, |literal| *literal.text == *pattern);
        let Ok(mut entry) = found else { return };
        if let Ids::Many(ids) = &mut entry.get_mut().ids {
            ids.retain(|other| *other != id);
            if !ids.is_empty() {
                return;
            }
        } else if entry.get().ids.as_slice() != [id] {
            return;
        }
        entry.remove();
        if let Some(parent) = self.parent(pattern) {
            self.parents[parent] -= 1;
        }
    }

    /// Whether a topic that differs from this one in its last token may be here. Can be true without
    /// need.
    pub(crate) fn may_have_siblings(&self, topic: &[u8]) -> bool {
        self.parent(topic)
            .is_none_or(|parent| self.parents[parent] > 0)
    }

    fn parent(&self, topic: &[u8]) -> Option<usize> {
        let dot = topic.iter().rposition(|byte| *byte == b'.')?;
        Some(self.hasher.hash_one(&topic[..dot]) as usize % PARENTS)
    }

    /// Every pattern with its number of queues.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let counted = |literal: &'_ Literal| literal.ids.as_slice().len();
        self.table
            .iter()
            .map(move |literal| (&*literal.text, counted(literal)))
    }
}
