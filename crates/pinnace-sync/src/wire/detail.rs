//! What a client asks of an old content, of which more is left than its chunks tell: their parts.
//!
//! ```text
//! Detail   number of the stream | u8 1 if it begins | if it begins: base path, base's content id
//!          | count | for each: first chunk, count of chunks
//! Parts    number of the stream | for each part, in the order of the chunks: bytes, 8 bytes id
//! ```
//! Invariant: as for all messages: what was read is valid. Left to others: whether the base has such chunks, and what
//! their parts are good for.

use super::bytes::{Reader, WireError, put_bytes, put_number};
use crate::chunk::{Part, PartId};
use crate::meta::ContentId;
use crate::path;

/// Stretches that one question may ask about.
pub const DETAIL_RANGES_MAX: usize = 4096;
/// Bytes of the old content that one question may ask about.
pub const DETAIL_BYTES_MAX: u64 = 16 << 20;

/// A question about the parts of a base's chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail<'a> {
    /// For which stream.
    pub stream: u64,
    /// The base, if the stream begins with this.
    pub begin: Option<(&'a [u8], ContentId)>,
    /// Chunks by their numbers in the base's recipe: the first, and how many.
    pub ranges: Vec<(u32, u32)>,
}

impl<'a> Detail<'a> {
    /// Reads the body of a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let stream = reader.number()?;
        let begin = match reader.byte()? {
            0 => None,
            1 => {
                let base = reader.bytes()?;
                path::check(base)?;
                if base.is_empty() {
                    return Err(WireError::Value("the root is no file"));
                }
                Some((base, ContentId(reader.array()?)))
            }
            _ => return Err(WireError::Value("a flag that does not exist")),
        };
        let count = reader.number()?;
        if count > DETAIL_RANGES_MAX as u64 {
            return Err(WireError::Value(
                "a question about more than 4096 stretches",
            ));
        }
        let mut ranges = Vec::new();
        for _ in 0..count {
            ranges.push((reader.small()?, reader.small()?));
        }
        if reader.is_empty() {
            Ok(Self {
                stream,
                begin,
                ranges,
            })
        } else {
            Err(WireError::Long)
        }
    }

    /// The body of the frame.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, self.stream);
        out.push(u8::from(self.begin.is_some()));
        if let Some((path, content)) = &self.begin {
            put_bytes(&mut out, path);
            out.extend_from_slice(&content.0);
        }
        put_number(&mut out, self.ranges.len() as u64);
        for (first, count) in &self.ranges {
            put_number(&mut out, (*first).into());
            put_number(&mut out, (*count).into());
        }
        out
    }
}

/// The body of an answer.
#[must_use]
pub fn write_parts(stream: u64, parts: &[Part]) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + 10 * parts.len());
    put_number(&mut out, stream);
    for part in parts {
        put_number(&mut out, part.bytes.into());
        out.extend_from_slice(&part.id.0);
    }
    out
}

/// An answer: for which stream, and the parts.
///
/// # Errors
/// What is wrong with it.
pub fn read_parts(body: &[u8]) -> Result<(u64, Vec<Part>), WireError> {
    let mut reader = Reader::new(body);
    let stream = reader.number()?;
    let mut parts = Vec::new();
    while !reader.is_empty() {
        parts.push(Part {
            bytes: reader.small()?,
            id: PartId(reader.array()?),
        });
    }
    Ok((stream, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_come_back() {
        let base = (&b"a/b"[..], ContentId([7; 32]));
        for begin in [None, Some(base)] {
            let ranges = vec![(0, 1), (u32::MAX, 300)];
            let detail = Detail {
                stream: 500,
                begin,
                ranges,
            };
            assert_eq!(Detail::read(&detail.write()).unwrap(), detail);
        }
        let bytes = crate::chunk::noise(1, 9_000);
        let parts: Vec<_> = crate::chunk::parts(&bytes).collect();
        assert_eq!(read_parts(&write_parts(8, &parts)), Ok((8, parts)));
    }

    #[test]
    fn a_question_that_makes_no_sense_is_refused() {
        let ranges = vec![(1, 1); DETAIL_RANGES_MAX + 1];
        let begin = Some((&b"a/../b"[..], ContentId([7; 32])));
        let detail = |begin, ranges| Detail {
            stream: 1,
            begin,
            ranges,
        };
        let cut = detail(None, vec![(1, 1)]).write();
        for (body, expected) in [
            (detail(None, ranges).write(), "more than 4096"),
            (detail(begin, vec![]).write(), "are not names"),
            (
                detail(Some((b"", ContentId([7; 32]))), vec![]).write(),
                "the root",
            ),
            (cut[..cut.len() - 1].to_vec(), "in the middle"),
            ([&cut[..], b"x"].concat(), "left over"),
            (vec![1, 2], "a flag"),
        ] {
            let error = Detail::read(&body).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(read_parts(&[1, 1, 0]).unwrap_err(), WireError::Short);
    }
}
