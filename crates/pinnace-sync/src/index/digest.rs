//! One number for a whole tree: equal on two hosts when both have the same entries.
//!
//! ```text
//! directory   BLAKE3 derive_key("pinnace tree v1", its entries, by name)
//! entry       name_len u16 │ name │ kind u8 │ mode u32 │ uid u32 │ gid u32 │ mtime_secs i64 │ mtime_nanos u32
//!             │ size u64 │ attrs u64 │ content, 32 bytes; of a directory its digest
//! tree        as a directory whose one entry is the root, with an empty name
//! ```
//!
//! Invariant: it depends on what is mirrored and on nothing else: no fingerprint, no number of a change, no
//! order in which entries came. Left to others: what to do when two digests differ.

use super::{Index, NodeId};
use crate::meta::Kind;

/// A directory on the way down.
struct Level {
    /// Its entries, the last in order first.
    waiting: Vec<NodeId>,
    hasher: blake3::Hasher,
}

impl Index {
    /// The digest of the tree.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let context = blake3::Hasher::new_derive_key("pinnace tree v1");
        let mut above = vec![Level {
            waiting: vec![Self::ROOT],
            hasher: context.clone(),
        }];
        let mut entry = Vec::new();
        loop {
            let Some(level) = above.last_mut() else {
                return [0; 32];
            };
            let Some(id) = level.waiting.pop() else {
                let digest = *level.hasher.finalize().as_bytes();
                above.pop();
                match above.last_mut() {
                    Some(level) => level.hasher.update(&digest),
                    None => return digest,
                };
                continue;
            };
            entry.clear();
            self.entry_without_content(id, &mut entry);
            let row = self.row(id);
            if row.meta.kind == Kind::Directory {
                level.hasher.update(&entry);
                above.push(Level {
                    waiting: self.last_first(id),
                    hasher: context.clone(),
                });
            } else {
                entry.extend_from_slice(&row.content.0);
                level.hasher.update(&entry);
            }
        }
    }

    fn last_first(&self, dir: NodeId) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = self.children(dir).collect();
        ids.sort_unstable_by(|a, b| self.name(*b).cmp(self.name(*a)));
        ids
    }

    fn entry_without_content(&self, id: NodeId, bytes: &mut Vec<u8>) {
        let (name, meta) = (self.name(id), &self.row(id).meta);
        bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(name);
        bytes.push(meta.kind as u8);
        bytes.extend_from_slice(&meta.mode.to_le_bytes());
        bytes.extend_from_slice(&meta.uid.to_le_bytes());
        bytes.extend_from_slice(&meta.gid.to_le_bytes());
        bytes.extend_from_slice(&meta.mtime.secs.to_le_bytes());
        bytes.extend_from_slice(&meta.mtime.nanos.to_le_bytes());
        bytes.extend_from_slice(&meta.size.to_le_bytes());
        bytes.extend_from_slice(&meta.attrs.to_le_bytes());
    }
}
