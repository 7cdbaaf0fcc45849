//! One change of a tree, as it is sent.
//!
//! Invariant: an operation is whole in itself: together with the directories of its pack it says everything that the
//! server needs, apart from the bytes of large files. Left to others: packs, and carrying it out.

use std::ops::Range;

use super::bytes::{Reader, WireError, put_bytes, put_number, put_signed};
use crate::meta::{ContentId, Kind, Stamp};
use crate::path;

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
}

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

impl Place<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.dir.0.into());
        put_bytes(out, self.name);
    }
}

impl Facts<'_> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for number in [self.mode, self.uid, self.gid] {
            put_number(out, number.into());
        }
        put_signed(out, self.mtime.secs);
        put_number(out, self.mtime.nanos.into());
        put_bytes(out, self.attrs);
    }
}

pub(super) fn put_steps(out: &mut Vec<u8>, steps: &[Step]) {
    put_number(out, steps.len() as u64);
    for step in steps {
        let (tag, number) = match *step {
            Step::Copy { first, count } => {
                out.push(0);
                put_number(out, first.into());
                put_number(out, count.into());
                continue;
            }
            Step::New(bytes) => (1, bytes),
            Step::Hole(bytes) => (2, bytes),
        };
        out.push(tag);
        put_number(out, number.into());
    }
}

impl Op<'_> {
    /// Appends the operation. Its body, if it has one, lies next in the pack's bodies.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Op::Mkdir { at, facts } => {
                out.push(MKDIR);
                at.put(out);
                facts.put(out);
            }
            Op::File {
                at,
                facts,
                content,
                cuts,
                body,
            } => {
                out.push(FILE);
                at.put(out);
                facts.put(out);
                out.extend_from_slice(&content.0);
                put_number(out, body.len() as u64);
                put_number(out, cuts.len() as u64);
                for cut in cuts {
                    put_number(out, (*cut).into());
                }
            }
            Op::Symlink { at, facts, target } => {
                out.push(SYMLINK);
                at.put(out);
                facts.put(out);
                put_bytes(out, target);
            }
            Op::Link { at, target } => {
                out.push(LINK);
                at.put(out);
                put_bytes(out, target);
            }
            Op::Meta { at, kind, facts } => {
                out.push(META);
                at.put(out);
                out.push(*kind as u8);
                facts.put(out);
            }
            Op::Rename { from, at } => {
                out.push(RENAME);
                put_bytes(out, from);
                at.put(out);
            }
            Op::Exchange { a, b } => {
                out.push(EXCHANGE);
                put_bytes(out, a);
                put_bytes(out, b);
            }
            Op::Remove { at } => {
                out.push(REMOVE);
                at.put(out);
            }
            Op::Patch {
                at,
                facts,
                content,
                base,
                base_content,
                steps,
                ..
            } => {
                out.push(PATCH);
                at.put(out);
                facts.put(out);
                out.extend_from_slice(&content.0);
                put_bytes(out, base);
                out.extend_from_slice(&base_content.0);
                put_steps(out, steps);
            }
            Op::Streamed {
                at,
                facts,
                content,
                stream,
            } => {
                out.push(STREAMED);
                at.put(out);
                facts.put(out);
                out.extend_from_slice(&content.0);
                put_number(out, *stream);
            }
        }
    }
}

/// Reads operations of one pack, whose bodies they take one after the other.
pub(super) struct OpReader<'a> {
    pub(super) reader: Reader<'a>,
    /// How many directories the pack has so far.
    pub(super) dirs: u32,
    pub(super) bodies_taken: usize,
    pub(super) bodies_bytes: usize,
}

impl<'a> OpReader<'a> {
    /// Reads an operation after its tag.
    pub(super) fn op(&mut self, tag: u8) -> Result<Op<'a>, WireError> {
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

    pub(super) fn place(&mut self) -> Result<Place<'a>, WireError> {
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
pub(super) fn facts<'a>(reader: &mut Reader<'a>) -> Result<Facts<'a>, WireError> {
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

pub(super) fn stamp(reader: &mut Reader<'_>) -> Result<Stamp, WireError> {
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
pub(super) fn new_bytes(steps: &[Step]) -> u64 {
    let new = steps.iter().map(|step| match step {
        Step::New(bytes) => u64::from(*bytes),
        _ => 0,
    });
    new.sum()
}

/// Steps, checked but for the base's recipe.
pub(super) fn steps(reader: &mut Reader<'_>) -> Result<Vec<Step>, WireError> {
    let count = reader.number()?;
    // A step takes two bytes at least.
    if count > reader.left() as u64 / 2 {
        return Err(WireError::Short);
    }
    let mut steps = Vec::with_capacity(count as usize);
    for _ in 0..count {
        steps.push(match reader.byte()? {
            0 => {
                let (first, count) = (reader.small()?, reader.small()?);
                if count == 0 || first.checked_add(count).is_none() {
                    return Err(WireError::Value("chunks to copy make no sense"));
                }
                Step::Copy { first, count }
            }
            1 => Step::New(chunk_bytes(reader)?),
            2 => Step::Hole(chunk_bytes(reader)?),
            _ => return Err(WireError::Value("a step of an unknown kind")),
        });
    }
    Ok(steps)
}
