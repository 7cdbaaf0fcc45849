//! Bytes to operations.
//!
//! Invariant: what was read can be worked with: names and paths are such, numbers are in their bounds, bodies are there.
//! Left to others: whether the operations make sense in a share.

use std::ops::Range;

use super::{
    DirRef, EXCHANGE, FILE, Facts, LINK, META, MKDIR, Op, PARTED_BYTES_MAX, PATCH, Place, REMOVE,
    RENAME, STREAMED, SYMLINK, Step,
};
use crate::meta::{ContentId, Kind, Stamp};
use crate::path;
use crate::wire::bytes::{Reader, WireError};
use crate::wire::pack::PACK_CHUNKS_MAX;

/// Reads operations of one pack, whose bodies they take one after the other.
pub(in crate::wire) struct OpReader<'a> {
    pub(in crate::wire) reader: Reader<'a>,
    /// How many directories the pack has so far.
    pub(in crate::wire) dirs: u32,
    /// How many chunks its files have so far.
    pub(in crate::wire) chunks: usize,
    pub(in crate::wire) bodies_taken: usize,
    pub(in crate::wire) bodies_bytes: usize,
}

impl<'a> OpReader<'a> {
    /// Reads an operation after its tag.
    pub(in crate::wire) fn op(&mut self, tag: u8) -> Result<Op<'a>, WireError> {
        Ok(match tag {
            MKDIR => Op::Mkdir {
                at: self.place()?,
                facts: self.facts()?,
            },
            FILE => self.file()?,
            SYMLINK => {
                let (at, facts) = (self.place()?, self.facts()?);
                let target = self.reader.bytes()?;
                if target.is_empty() || target.len() > path::PATH_BYTES_MAX {
                    return Err(WireError::Value("a symlink's target has 1 to 4095 bytes"));
                }
                if memchr::memchr(0, target).is_some() {
                    return Err(WireError::Value("a symlink's target holds no NUL"));
                }
                Op::Symlink { at, facts, target }
            }
            LINK => Op::Link {
                at: self.place()?,
                target: self.path()?,
            },
            META => self.meta()?,
            RENAME => Op::Rename {
                from: self.path()?,
                at: self.place()?,
            },
            EXCHANGE => Op::Exchange {
                a: self.path()?,
                b: self.path()?,
            },
            REMOVE => Op::Remove { at: self.place()? },
            PATCH => self.patch()?,
            STREAMED => Op::Streamed {
                at: self.place()?,
                facts: self.facts()?,
                content: self.content()?,
                stream: self.reader.number()?,
            },
            _ => return Err(WireError::Value("a change of an unknown kind")),
        })
    }

    fn file(&mut self) -> Result<Op<'a>, WireError> {
        let (at, facts, content) = (self.place()?, self.facts()?, self.content()?);
        let bytes = self.reader.number()?;
        let body = self.body(bytes)?;
        // Each cut takes a byte at least, so the count is bounded by what there is.
        let count = self.reader.number()?;
        if count > self.reader.left() as u64 {
            return Err(WireError::Short);
        }
        self.chunks += count as usize;
        if self.chunks > PACK_CHUNKS_MAX {
            return Err(WireError::Value(
                "the files of a pack have more than 65536 chunks",
            ));
        }
        let mut cuts = Vec::with_capacity(count as usize);
        let mut sum = 0u64;
        for _ in 0..count {
            let cut = self.chunk_bytes()?;
            sum += u64::from(cut);
            cuts.push(cut);
        }
        if count > 0 && sum != bytes {
            return Err(WireError::Value("chunks do not add up to their file"));
        }
        Ok(Op::File {
            at,
            facts,
            content,
            cuts,
            body,
        })
    }

    fn meta(&mut self) -> Result<Op<'a>, WireError> {
        let dir = self.dir()?;
        let name = self.reader.bytes()?;
        if !name.is_empty() {
            path::check_name(name)?;
        }
        let kind = Kind::from_number(self.reader.byte()?)
            .ok_or(WireError::Value("an entry of an unknown kind"))?;
        let at = Place { dir, name };
        let facts = self.facts()?;
        Ok(Op::Meta { at, kind, facts })
    }

    fn patch(&mut self) -> Result<Op<'a>, WireError> {
        let (at, facts, content) = (self.place()?, self.facts()?, self.content()?);
        let (base, base_content) = (self.path()?, self.content()?);
        let steps = steps(&mut self.reader)?;
        let body = self.body(new_bytes(&steps))?;
        Ok(Op::Patch {
            at,
            facts,
            content,
            base,
            base_content,
            steps,
            body,
        })
    }

    /// The next so many bytes of the bodies.
    fn body(&mut self, bytes: u64) -> Result<Range<usize>, WireError> {
        let begin = self.bodies_taken;
        let left = (self.bodies_bytes - begin) as u64;
        if bytes > left {
            return Err(WireError::Short);
        }
        self.bodies_taken += bytes as usize;
        Ok(begin..self.bodies_taken)
    }

    fn dir(&mut self) -> Result<DirRef, WireError> {
        let dir = self.reader.small()?;
        if dir < self.dirs {
            Ok(DirRef(dir))
        } else {
            Err(WireError::Value("a directory that the pack does not have"))
        }
    }

    pub(in crate::wire) fn place(&mut self) -> Result<Place<'a>, WireError> {
        let dir = self.dir()?;
        let name = self.reader.bytes()?;
        path::check_name(name)?;
        Ok(Place { dir, name })
    }

    /// A path that is not the root.
    fn path(&mut self) -> Result<&'a [u8], WireError> {
        let path = self.reader.bytes()?;
        path::check(path)?;
        if path.is_empty() {
            return Err(WireError::Value("the root is no entry"));
        }
        Ok(path)
    }

    fn content(&mut self) -> Result<ContentId, WireError> {
        self.reader.array().map(ContentId)
    }

    fn facts(&mut self) -> Result<Facts<'a>, WireError> {
        facts(&mut self.reader)
    }

    fn chunk_bytes(&mut self) -> Result<u32, WireError> {
        chunk_bytes(&mut self.reader)
    }
}

/// Facts, checked.
pub(in crate::wire) fn facts<'a>(reader: &mut Reader<'a>) -> Result<Facts<'a>, WireError> {
    let (mode, uid, gid) = (reader.small()?, reader.small()?, reader.small()?);
    let mtime = stamp(reader)?;
    if mode > 0o7777 {
        return Err(WireError::Value("a mode has twelve bits"));
    }
    let attrs = reader.bytes()?;
    Ok(Facts {
        mode,
        uid,
        gid,
        mtime,
        attrs,
    })
}

pub(in crate::wire) fn stamp(reader: &mut Reader<'_>) -> Result<Stamp, WireError> {
    let (secs, nanos) = (reader.signed()?, reader.small()?);
    if nanos > 999_999_999 {
        return Err(WireError::Value("a second has 1,000,000,000 nanoseconds"));
    }
    Ok(Stamp { secs, nanos })
}

fn chunk_bytes(reader: &mut Reader<'_>) -> Result<u32, WireError> {
    let bytes = reader.small()?;
    if bytes == 0 || bytes > crate::chunk::MAX_CHUNK_BYTES {
        return Err(WireError::Value("a chunk has 1 byte to 1 GiB"));
    }
    Ok(bytes)
}

/// How many bytes the steps take that are sent.
pub(in crate::wire) fn new_bytes(steps: &[Step]) -> u64 {
    let new = steps.iter().map(|step| match step {
        Step::New(bytes) | Step::NewPart(bytes) => u64::from(*bytes),
        _ => 0,
    });
    new.sum()
}

/// Steps of one piece, or of one file in a pack.
const STEPS_MAX: usize = 64 << 10;

/// Steps, checked but for the base's recipe.
pub(in crate::wire) fn steps(reader: &mut Reader<'_>) -> Result<Vec<Step>, WireError> {
    let count = reader.number()?;
    if count > STEPS_MAX as u64 {
        return Err(WireError::Value("more than 65536 steps at once"));
    }
    // A step takes a byte at least.
    if count > reader.left() as u64 {
        return Err(WireError::Short);
    }
    let mut steps = Vec::with_capacity(count as usize);
    // Bytes of the chunk that is being put together from parts.
    let mut parted = 0_u64;
    for _ in 0..count {
        let step = step(reader)?;
        match step {
            Step::Part { bytes, .. } | Step::NewPart(bytes) => parted += u64::from(bytes),
            Step::Parted if parted > 0 => parted = 0,
            _ if parted == 0 && step != Step::Parted => {}
            _ => return Err(WireError::Value("parts that are no chunk")),
        }
        if parted > PARTED_BYTES_MAX.into() {
            return Err(WireError::Value("a chunk in parts has at most 256 KiB"));
        }
        steps.push(step);
    }
    if parted > 0 {
        return Err(WireError::Value("parts that are no chunk"));
    }
    Ok(steps)
}

fn step(reader: &mut Reader<'_>) -> Result<Step, WireError> {
    Ok(match reader.byte()? {
        0 => {
            let (first, count) = (reader.small()?, reader.small()?);
            if count == 0 || first.checked_add(count).is_none() {
                return Err(WireError::Value("chunks to copy make no sense"));
            }
            Step::Copy { first, count }
        }
        1 => Step::New(chunk_bytes(reader)?),
        2 => Step::Hole(chunk_bytes(reader)?),
        3 => Step::Part {
            from: reader.number()?,
            bytes: chunk_bytes(reader)?,
        },
        4 => Step::NewPart(chunk_bytes(reader)?),
        5 => Step::Parted,
        _ => return Err(WireError::Value("a step of an unknown kind")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::op::put_steps;

    fn read(steps_in: &[Step]) -> Result<Vec<Step>, WireError> {
        let mut bytes = Vec::new();
        put_steps(&mut bytes, steps_in);
        steps(&mut Reader::new(&bytes))
    }

    #[test]
    fn steps_come_back() {
        let part = Step::Part {
            from: 1 << 40,
            bytes: 700,
        };
        let parted = [part, Step::NewPart(5), part, Step::Parted];
        let plain = [
            Step::Copy { first: 3, count: 9 },
            Step::New(8),
            Step::Hole(1),
        ];
        let all = [&parted[..], &plain, &parted, &parted].concat();
        assert_eq!(read(&all).unwrap(), all);
    }

    #[test]
    fn parts_that_are_no_chunk_are_refused() {
        let part = |bytes| Step::Part { from: 0, bytes };
        let many = vec![Step::Hole(1); STEPS_MAX + 1];
        for (bad, expected) in [
            (&many[..], "65536 steps"),
            (&[part(1)], "no chunk"),
            (&[Step::Parted], "no chunk"),
            (&[part(1), Step::New(1), Step::Parted], "no chunk"),
            (&[part(1), Step::Parted, Step::Parted], "no chunk"),
            (
                &[part(PARTED_BYTES_MAX), Step::NewPart(1), Step::Parted],
                "256 KiB",
            ),
            (&[part(0), Step::Parted], "1 byte"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
