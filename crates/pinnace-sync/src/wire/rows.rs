//! Rows of the server's index, which it tells a client that does not know them.
//!
//! ```text
//! for each: u8 (1 there, 0 gone) | bytes shared with the path before | the rest of the path
//!           | if it is there: u8 kind | facts | size | attrs digest | content id | seq
//! ```
//! Invariant: as for all messages: what was read is valid. Left to others: which rows, and what they lead to.

use super::bytes::{Reader, WireError, put_bytes, put_number};
use super::op::{self, Facts};
use crate::meta::{ContentId, Kind, Meta};
use crate::path;

/// What a row says of an entry that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowFacts {
    /// What is mirrored of it.
    pub meta: Meta,
    /// Its content.
    pub content: ContentId,
    /// The change that made it so.
    pub seq: u64,
}

/// Puts frames of rows together.
#[derive(Debug, Default)]
pub struct RowsBuilder {
    out: Vec<u8>,
    before: Vec<u8>,
}

impl RowsBuilder {
    /// A row; of an entry that is gone when there are no facts.
    pub fn push(&mut self, path: &[u8], facts: Option<&RowFacts>) {
        let same = self.before.iter().zip(path).take_while(|(a, b)| a == b);
        let shared = same.count();
        let out = &mut self.out;
        out.push(u8::from(facts.is_some()));
        put_number(out, shared as u64);
        put_bytes(out, &path[shared..]);
        if let Some(RowFacts { meta, content, seq }) = facts {
            out.push(meta.kind as u8);
            let facts = Facts {
                mode: meta.mode,
                uid: meta.uid,
                gid: meta.gid,
                mtime: meta.mtime,
                attrs: &[],
            };
            facts.put(out);
            put_number(out, meta.size);
            put_number(out, meta.attrs);
            out.extend_from_slice(&content.0);
            put_number(out, *seq);
        }
        self.before.clear();
        self.before.extend_from_slice(path);
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    /// The body of a frame; the next one begins.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        self.before.clear();
        std::mem::take(&mut self.out)
    }
}

/// Reads a frame of rows, one after the other.
///
/// # Errors
/// What is wrong with one, after those before it were told.
pub fn read_rows(
    body: &[u8],
    mut tell: impl FnMut(&[u8], Option<RowFacts>),
) -> Result<(), WireError> {
    let mut reader = Reader::new(body);
    let mut path = Vec::new();
    while !reader.is_empty() {
        let is_there = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(WireError::Value("a row is there or gone")),
        };
        let shared = reader.number()?;
        if shared > path.len() as u64 {
            return Err(WireError::Value("a path shares more than there is"));
        }
        path.truncate(shared as usize);
        path.extend_from_slice(reader.bytes()?);
        path::check(&path)?;
        let facts = if is_there {
            Some(row(&mut reader)?)
        } else {
            None
        };
        tell(&path, facts);
    }
    Ok(())
}

fn row(reader: &mut Reader<'_>) -> Result<RowFacts, WireError> {
    let kind =
        Kind::from_number(reader.byte()?).ok_or(WireError::Value("an entry of an unknown kind"))?;
    let facts = op::facts(reader)?;
    let (size, attrs) = (reader.number()?, reader.number()?);
    let meta = Meta {
        kind,
        mode: facts.mode,
        uid: facts.uid,
        gid: facts.gid,
        mtime: facts.mtime,
        size,
        attrs,
    };
    let content = ContentId(reader.array()?);
    let seq = reader.number()?;
    Ok(RowFacts { meta, content, seq })
}
