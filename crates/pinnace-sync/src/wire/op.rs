//! One change of a tree, as it is sent.
//!
//! Invariant: an operation is whole in itself: together with the directories of its pack it says everything that the
//! server needs, apart from the bytes of large files. Left to others: packs, and carrying it out.

mod read;
mod write;

pub(super) use read::{OpReader, facts, new_bytes, steps};
pub(super) use write::put_steps;

use std::ops::Range;

use crate::meta::{ContentId, Kind, Stamp};

/// A directory of a pack, by its number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirRef(pub u32);

/// Where an entry is: a directory and a name in it. No name is the directory itself, which only the root is
/// spoken of by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The directory.
    pub dir: DirRef,
    /// The name in it.
    pub name: &'a [u8],
}

/// What is mirrored of an entry besides name, kind and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Permission bits, at most `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When the content last changed.
    pub mtime: Stamp,
    /// Extended attributes, as [`crate::fs::Attrs`] encodes them; empty if there are none.
    pub attrs: &'a [u8],
}

/// How a new content comes from an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Chunks of the base, by their numbers in its recipe.
    Copy {
        /// The first.
        first: u32,
        /// How many.
        count: u32,
    },
    /// A chunk of so many bytes that are sent.
    New(u32),
    /// A chunk of so many zero bytes, kept as a hole.
    Hole(u32),
    /// Bytes of the base as the next part of a chunk.
    Part {
        /// Where they begin in the base.
        from: u64,
        /// How many.
        bytes: u32,
    },
    /// Bytes that are sent as the next part of a chunk.
    NewPart(u32),
    /// The parts since the chunk before are a chunk.
    Parted,
}

/// Bytes of a chunk that comes in parts: as many as the chunker gives one.
pub const PARTED_BYTES_MAX: u32 = crate::chunk::Class::Coarse.max_bytes() as u32;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// A directory that was not there.
    Mkdir {
        /// Where.
        at: Place<'a>,
        /// What it is like.
        facts: Facts<'a>,
    },
    /// A file with its whole content in the pack.
    File {
        /// Where.
        at: Place<'a>,
        /// What it is like.
        facts: Facts<'a>,
        /// Identifies the content.
        content: ContentId,
        /// Lengths of the chunks; empty for a file that is stored whole.
        cuts: Vec<u32>,
        /// The content, in the pack's bodies.
        body: Range<usize>,
    },
    /// A symbolic link.
    Symlink {
        /// Where.
        at: Place<'a>,
        /// What it is like.
        facts: Facts<'a>,
        /// What it says.
        target: &'a [u8],
    },
    /// A further name of a file that is there.
    Link {
        /// Where.
        at: Place<'a>,
        /// A path that has the file.
        target: &'a [u8],
    },
    /// Other facts of an entry whose content stays.
    Meta {
        /// Where.
        at: Place<'a>,
        /// What it has to be.
        kind: Kind,
        /// What it is like now.
        facts: Facts<'a>,
    },
    /// Another place for an entry with all that is in it.
    Rename {
        /// Where it was.
        from: &'a [u8],
        /// Where it goes.
        at: Place<'a>,
    },
    /// Two entries change places.
    Exchange {
        /// One.
        a: &'a [u8],
        /// The other.
        b: &'a [u8],
    },
    /// An entry goes, with all that is in it.
    Remove {
        /// Where.
        at: Place<'a>,
    },
    /// A file whose content is made of another's, at the same place or elsewhere.
    Patch {
        /// Where.
        at: Place<'a>,
        /// What it is like.
        facts: Facts<'a>,
        /// Identifies the new content.
        content: ContentId,
        /// A path that has the old content.
        base: &'a [u8],
        /// Identifies the old content.
        base_content: ContentId,
        /// How the new content comes about.
        steps: Vec<Step>,
        /// The bytes of the [`Step::New`], in the pack's bodies.
        body: Range<usize>,
    },
    /// A file whose content was sent in pieces before.
    Streamed {
        /// Where.
        at: Place<'a>,
        /// What it is like.
        facts: Facts<'a>,
        /// Identifies the content.
        content: ContentId,
        /// Which pieces.
        stream: u64,
    },
}

impl<'a> Op<'a> {
    /// Where it does something; an exchange has two places, which are paths.
    #[must_use]
    pub fn at(&self) -> Option<&Place<'a>> {
        match self {
            Op::Mkdir { at, .. }
            | Op::File { at, .. }
            | Op::Symlink { at, .. }
            | Op::Link { at, .. }
            | Op::Meta { at, .. }
            | Op::Rename { at, .. }
            | Op::Remove { at }
            | Op::Patch { at, .. }
            | Op::Streamed { at, .. } => Some(at),
            Op::Exchange { .. } => None,
        }
    }
}

/// Tags of operations; `DIR` is no operation but a directory that is there.
pub(super) const DIR: u8 = 0;
const MKDIR: u8 = 1;
const FILE: u8 = 2;
const SYMLINK: u8 = 3;
const LINK: u8 = 4;
const META: u8 = 5;
const RENAME: u8 = 6;
const EXCHANGE: u8 = 7;
const REMOVE: u8 = 8;
const PATCH: u8 = 9;
const STREAMED: u8 = 10;
