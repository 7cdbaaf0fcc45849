//! What is known of a tree: every entry with its metadata, fingerprint and content id, in memory and on disk.
//! Both ends of a mirror use it.
//!
//! Invariant: an index that was loaded is one that was there: the state after some prefix of the changes that
//! were appended, or nothing at all. Losing it costs a comparison of the whole tree and nothing else. Left to
//! others: reading file systems, deciding what changed, and keeping a second process away from the folder.
//!
//! The bytes on disk are described in `docs/formats/index.md`.

mod arena;
mod digest;
mod files;
mod keys;
mod log;
mod marks;
mod names;
mod recipes;
mod record;
mod replay;
mod snapshot;
mod store;
mod tables;
mod tree;

pub use marks::{Marks, REMOVALS_MAX, Removals};
pub use recipes::RecipeRef;
pub use record::Change;
pub use store::{Loaded, Store, StoreError};
pub use tree::{Index, MoveError};

use crate::meta::{ATTRS_NONE, ContentId, Fingerprint, Kind, Meta, Stamp};

/// An entry of an index. It stays the same when the entry is renamed; after a removal it may in time stand for
/// another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub(crate) u32);

/// What is known of an entry besides where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What is mirrored of it.
    pub meta: Meta,
    /// What it looked like on this host when that was read.
    pub print: Fingerprint,
    /// Its content.
    pub content: ContentId,
    /// The number of the change that made it what it is.
    pub seq: u64,
    /// Where the chunks of its content are listed, if it is in chunks.
    pub recipe: Option<RecipeRef>,
    /// Whether it has more than one name on this host.
    pub is_linked: bool,
    /// Whether it was read so soon after it changed that a later change might look the same: the fingerprint
    /// proves nothing.
    pub is_racy: bool,
}

impl Row {
    /// A directory of which nothing is known yet: what the root of a new index is.
    pub const DIRECTORY: Self = Self {
        meta: Meta {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Stamp { secs: 0, nanos: 0 },
            size: 0,
            attrs: ATTRS_NONE,
        },
        print: Fingerprint::UNKNOWN,
        content: ContentId([0; 32]),
        seq: 0,
        recipe: None,
        is_linked: false,
        is_racy: false,
    };
}

#[cfg(test)]
mod trials;
