//! Changes of an index as bytes, and back: `docs/formats/index.md`, Records.
//!
//! Invariant: what is decoded is what was encoded; bytes that no change encodes to give `None`. Left to others:
//! sums around the bytes, and whether a change fits the index it is applied to.

use super::marks::Marks;
use super::{NodeId, RecipeRef, Row};
use crate::meta::{ContentId, Fingerprint, Kind, Meta, Stamp};

/// Bytes of a row.
pub(super) const ROW_BYTES: usize = 120;

/// The last place of a recipe in its file.
const RECIPE_OFFSET_MAX: u64 = 1 << 40;
/// Chunks of a recipe.
const RECIPE_CHUNKS_MAX: u32 = 1 << 25;

const HAS_RECIPE: u8 = 1;
const IS_LINKED: u8 = 2;
const IS_RACY: u8 = 4;

/// A change of an index, as it is kept in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// [`super::Index::insert`] gave this id.
    Put {
        /// The entry.
        id: NodeId,
        /// The directory it is in.
        parent: NodeId,
        /// Its name.
        name: Box<[u8]>,
        /// What is known of it.
        row: Row,
    },
    /// [`super::Index::set_row`].
    Set {
        /// The entry.
        id: NodeId,
        /// What is known of it.
        row: Row,
    },
    /// [`super::Index::remove`].
    Remove {
        /// The entry.
        id: NodeId,
        /// The number under which the removal is remembered; 0: it is not.
        seq: u64,
    },
    /// [`super::Index::rename`].
    Rename {
        /// The entry.
        id: NodeId,
        /// The directory it is in now.
        parent: NodeId,
        /// Its name there.
        name: Box<[u8]>,
    },
    /// [`super::Index::exchange`].
    Exchange {
        /// One entry.
        a: NodeId,
        /// The other.
        b: NodeId,
    },
    /// The marks are these now.
    Marks(Marks),
    /// [`super::Index::renew_beneath`].
    Renew {
        /// The entry.
        id: NodeId,
        /// The change that everything beneath it has come along with.
        seq: u64,
    },
}

impl Change {
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let mut head = |kind: u8, numbers: &[u32]| {
            bytes.push(kind);
            for number in numbers {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        };
        match self {
            Self::Put {
                id,
                parent,
                name,
                row,
            } => {
                head(1, &[id.0, parent.0]);
                encode_row(row, row.recipe, bytes);
                bytes.extend_from_slice(name);
            }
            Self::Set { id, row } => {
                head(2, &[id.0]);
                encode_row(row, row.recipe, bytes);
            }
            Self::Remove { id, seq } => {
                head(3, &[id.0]);
                bytes.extend_from_slice(&seq.to_le_bytes());
            }
            Self::Rename { id, parent, name } => {
                head(4, &[id.0, parent.0]);
                bytes.extend_from_slice(name);
            }
            Self::Exchange { a, b } => head(5, &[a.0, b.0]),
            Self::Marks(marks) => {
                head(6, &[]);
                marks.encode(bytes);
            }
            Self::Renew { id, seq } => {
                head(7, &[id.0]);
                bytes.extend_from_slice(&seq.to_le_bytes());
            }
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let [kind] = fields.array()?;
        let change = match kind {
            1 => Self::Put {
                id: fields.id()?,
                parent: fields.id()?,
                row: decode_row(&mut fields)?,
                name: fields.rest().into(),
            },
            2 => Self::Set {
                id: fields.id()?,
                row: decode_row(&mut fields)?,
            },
            3 => Self::Remove {
                id: fields.id()?,
                seq: fields.u64()?,
            },
            4 => Self::Rename {
                id: fields.id()?,
                parent: fields.id()?,
                name: fields.rest().into(),
            },
            5 => Self::Exchange {
                a: fields.id()?,
                b: fields.id()?,
            },
            6 => Self::Marks(Marks::decode(&mut fields)?),
            7 => Self::Renew {
                id: fields.id()?,
                seq: fields.u64()?,
            },
            _ => return None,
        };
        fields.0.is_empty().then_some(change)
    }
}

/// Appends a row, with another reference to its recipe than its own where those are being moved.
pub(super) fn encode_row(row: &Row, recipe: Option<RecipeRef>, bytes: &mut Vec<u8>) {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let flags = flag(recipe.is_some(), HAS_RECIPE)
        | flag(row.is_linked, IS_LINKED)
        | flag(row.is_racy, IS_RACY);
    let recipe = recipe.unwrap_or(RecipeRef {
        offset: 0,
        chunks: 0,
    });
    let meta = &row.meta;
    bytes.extend_from_slice(&[meta.kind as u8, flags, 0, 0]);
    for number in [
        meta.mode,
        meta.uid,
        meta.gid,
        meta.mtime.nanos,
        row.print.ctime.nanos,
        recipe.chunks,
        0,
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&meta.mtime.secs.to_le_bytes());
    bytes.extend_from_slice(&row.print.ctime.secs.to_le_bytes());
    for number in [
        meta.size,
        meta.attrs,
        row.print.inode,
        row.seq,
        recipe.offset,
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&row.content.0);
}

#[inline]
pub(super) fn decode_row(fields: &mut Fields<'_>) -> Option<Row> {
    let [kind, flags, _, _] = fields.array()?;
    let kind = Kind::from_number(kind)?;
    if flags & !(HAS_RECIPE | IS_LINKED | IS_RACY) != 0 {
        return None;
    }
    let (mode, uid, gid) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let (mtime_nanos, ctime_nanos) = (fields.u32()?, fields.u32()?);
    let (chunks, _) = (fields.u32()?, fields.u32()?);
    let (mtime_secs, ctime_secs) = (fields.u64()?.cast_signed(), fields.u64()?.cast_signed());
    let (size, attrs) = (fields.u64()?, fields.u64()?);
    let (inode, seq, offset) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let recipe = RecipeRef { offset, chunks };
    let recipe = (flags & HAS_RECIPE != 0).then_some(recipe);
    // No file of recipes is so large; one that was said to be could not be read or go on.
    let is_there = |recipe: RecipeRef| {
        recipe.offset <= RECIPE_OFFSET_MAX && recipe.chunks <= RECIPE_CHUNKS_MAX
    };
    recipe.is_none_or(is_there).then_some(())?;
    Some(Row {
        meta: Meta {
            kind,
            mode,
            uid,
            gid,
            mtime: Stamp {
                secs: mtime_secs,
                nanos: mtime_nanos,
            },
            size,
            attrs,
        },
        print: Fingerprint {
            inode,
            ctime: Stamp {
                secs: ctime_secs,
                nanos: ctime_nanos,
            },
        },
        content: ContentId(fields.array()?),
        seq,
        recipe,
        is_linked: flags & IS_LINKED != 0,
        is_racy: flags & IS_RACY != 0,
    })
}

/// Bytes of which fields are taken from the front.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn id(&mut self) -> Option<NodeId> {
        self.u32().map(NodeId)
    }

    pub(super) fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_where_no_file_reaches_is_none() {
        for (offset, chunks, is_row) in [
            (RECIPE_OFFSET_MAX, RECIPE_CHUNKS_MAX, true),
            (RECIPE_OFFSET_MAX + 1, 1, false),
            (u64::MAX, 1, false),
            (32, RECIPE_CHUNKS_MAX + 1, false),
        ] {
            let mut row = Row::DIRECTORY;
            (row.meta.kind, row.recipe) = (Kind::File, Some(RecipeRef { offset, chunks }));
            let mut bytes = Vec::new();
            encode_row(&row, row.recipe, &mut bytes);
            let found = decode_row(&mut Fields(&bytes));
            assert_eq!(found, is_row.then_some(row), "{offset} {chunks}");
        }
    }
}
