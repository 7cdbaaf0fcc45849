//! Packs: many changes sent as one piece, with the bytes of their files behind them.
//!
//! ```text
//! u8 codec (0 stored, 1 zstd) + 128 if it has to wait | u64 first seq | u32 bytes of changes | u32 bytes of bodies
//! | changes | bodies
//! ```
//! With zstd, changes and bodies are one compressed piece. Directories are named once: those that are there by
//! their path, new ones by the change that makes them.
//!
//! Invariant: a pack that was opened is bounded by what its head said, and its head by [`PACK_BYTES_MAX`]. Left to
//! others: when a pack is full, and whether compressing it pays.

use std::borrow::Cow;

use super::bytes::{Reader, put_bytes};
use super::op::{self, DIR, DirRef, Op, OpReader};
use super::{FRAME_BYTES_MAX, WireError};
use crate::path;

/// Bytes of a pack's changes and bodies, before compression.
pub const PACK_BYTES_MAX: usize = 9 << 20;
/// Changes of one pack.
pub const PACK_OPS_MAX: usize = 16 << 10;
/// Chunks of the files of one pack; whoever cuts by the rules has some hundreds.
pub const PACK_CHUNKS_MAX: usize = 64 << 10;

const HEAD_BYTES: usize = 1 + 8 + 4 + 4;
const STORED: u8 = 0;
const ZSTD: u8 = 1;
/// The pack reads what changes before it make.
const WAITS: u8 = 128;

/// A directory of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackDir<'a> {
    /// One that is there when the pack's turn comes.
    Known(&'a [u8]),
    /// One that the change of this number makes.
    New(u32),
}

/// A pack, read.
#[derive(Debug)]
pub struct Pack<'a> {
    /// Directories that changes refer to.
    pub dirs: Vec<PackDir<'a>>,
    /// The changes, in order.
    pub ops: Vec<Op<'a>>,
    /// Bytes of files.
    pub bodies: &'a [u8],
}

/// A pack as it came, decompressed.
#[derive(Debug)]
pub struct OpenedPack {
    /// Number of the first change; the others count on.
    pub first_seq: u64,
    /// It reads what changes before it make, so they have to be in the share before it is staged.
    pub waits: bool,
    bytes: Vec<u8>,
    begin: usize,
    ops_bytes: usize,
}

impl OpenedPack {
    /// Opens the body of a frame.
    ///
    /// # Errors
    /// What is wrong with its head or its compression.
    pub fn open(body: Vec<u8>) -> Result<Self, WireError> {
        let mut reader = Reader::new(&body);
        let flags = reader.byte()?;
        let (codec, waits) = (flags & !WAITS, flags & WAITS != 0);
        let first_seq = reader.u64()?;
        let (ops_bytes, bodies_bytes) = (reader.u32()? as usize, reader.u32()? as usize);
        let bytes = ops_bytes.saturating_add(bodies_bytes);
        if bytes > PACK_BYTES_MAX {
            return Err(WireError::Value("a pack is longer than 9 MiB"));
        }
        let (bytes, begin) = match codec {
            STORED if reader.left() == bytes => (body, HEAD_BYTES),
            ZSTD => (inflate(&body[HEAD_BYTES..], bytes)?, 0),
            STORED => return Err(WireError::Value("a pack is not as long as it says")),
            _ => return Err(WireError::Value("a pack in an unknown compression")),
        };
        Ok(Self {
            first_seq,
            waits,
            bytes,
            begin,
            ops_bytes,
        })
    }

    /// The memory it takes.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }

    /// Reads the changes.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn read(&self) -> Result<Pack<'_>, WireError> {
        let (ops_bytes, bodies) = self.bytes[self.begin..].split_at(self.ops_bytes);
        let mut reader = OpReader {
            reader: Reader::new(ops_bytes),
            dirs: 0,
            chunks: 0,
            bodies_taken: 0,
            bodies_bytes: bodies.len(),
        };
        let (mut dirs, mut ops) = (Vec::new(), Vec::new());
        while !reader.reader.is_empty() {
            let tag = reader.reader.byte()?;
            if tag == DIR {
                let dir = reader.reader.bytes()?;
                path::check(dir)?;
                dirs.push(PackDir::Known(dir));
            } else {
                let op = reader.op(tag)?;
                if matches!(op, Op::Mkdir { .. }) {
                    dirs.push(PackDir::New(ops.len() as u32));
                }
                ops.push(op);
            }
            reader.dirs = dirs.len() as u32;
            if ops.len() > PACK_OPS_MAX || dirs.len() > PACK_OPS_MAX {
                return Err(WireError::Value("a pack has more than 16384 changes"));
            }
        }
        if reader.bodies_taken < bodies.len() {
            return Err(WireError::Long);
        }
        Ok(Pack { dirs, ops, bodies })
    }
}

/// Decompresses to exactly so many bytes; what would become longer is refused when it has.
fn inflate(compressed: &[u8], bytes: usize) -> Result<Vec<u8>, WireError> {
    let broken = WireError::Value("what was compressed does not become what it says");
    let inflated = zstd::bulk::decompress(compressed, bytes).map_err(|_| broken)?;
    if inflated.len() == bytes {
        Ok(inflated)
    } else {
        Err(broken)
    }
}

/// Compresses, if that saves an eighth.
fn deflate(raw: &[u8], level: i32) -> Option<Vec<u8>> {
    let compressed = zstd::bulk::compress(raw, level).ok()?;
    (compressed.len() < raw.len() / 8 * 7).then_some(compressed)
}

/// Puts a pack together.
#[derive(Debug, Default)]
pub struct PackBuilder {
    ops: Vec<u8>,
    bodies: Vec<u8>,
    count: usize,
    dirs: u32,
    waits: bool,
}

impl PackBuilder {
    /// A directory that is there.
    pub fn dir(&mut self, path: &[u8]) -> DirRef {
        self.ops.push(DIR);
        put_bytes(&mut self.ops, path);
        self.dirs += 1;
        DirRef(self.dirs - 1)
    }

    /// A change. What its body has to be, where it has one, was appended to [`PackBuilder::bodies`] before. Returns
    /// the directory that it makes, if it makes one.
    pub fn push(&mut self, op: &Op<'_>) -> Option<DirRef> {
        op.write(&mut self.ops);
        self.count += 1;
        self.waits |= matches!(op, Op::Patch { .. });
        matches!(op, Op::Mkdir { .. }).then(|| {
            self.dirs += 1;
            DirRef(self.dirs - 1)
        })
    }

    /// The bytes of files.
    pub fn bodies(&mut self) -> &mut Vec<u8> {
        &mut self.bodies
    }

    /// How many changes it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ops.len() + self.bodies.len()
    }

    /// The body of the frame, in parts, with zstd at this level if there is one and it saves an eighth.
    #[must_use]
    pub fn finish(self, first_seq: u64, level: Option<i32>) -> Vec<Vec<u8>> {
        let Self {
            ops, bodies, waits, ..
        } = self;
        let mut head = Vec::with_capacity(HEAD_BYTES + ops.len());
        let (ops_bytes, bodies_bytes) = (ops.len() as u32, bodies.len() as u32);
        let mut begin = |codec: u8| {
            head.push(codec | if waits { WAITS } else { 0 });
            head.extend_from_slice(&first_seq.to_le_bytes());
            head.extend_from_slice(&ops_bytes.to_le_bytes());
            head.extend_from_slice(&bodies_bytes.to_le_bytes());
        };
        let compressed = level.and_then(|level| deflate(&[&ops[..], &bodies].concat(), level));
        if let Some(compressed) = compressed {
            begin(ZSTD);
            return vec![head, compressed];
        }
        begin(STORED);
        head.extend_from_slice(&ops);
        vec![head, bodies]
    }
}

/// A piece of a large file.
///
/// ```text
/// number of the stream | u8 1 if it begins + 2 if it is compressed | if it begins: base path (empty: none), base's content id
/// | steps | bytes of the new chunks, with zstd if it is compressed
/// ```
#[derive(Debug)]
pub struct Piece<'a> {
    /// Which stream.
    pub stream: u64,
    /// Where the chunks to copy come from, in the first piece; `None` in the others.
    pub begin: Option<Option<(&'a [u8], crate::ContentId)>>,
    /// What comes next.
    pub steps: Vec<op::Step>,
    /// The bytes of the [`op::Step::New`].
    pub bytes: Cow<'a, [u8]>,
}

const BEGINS: u8 = 1;
const COMPRESSED: u8 = 2;

impl<'a> Piece<'a> {
    /// Reads the body of a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let stream = reader.number()?;
        let flags = reader.byte()?;
        if flags & !(BEGINS | COMPRESSED) != 0 {
            return Err(WireError::Value("a flag of a piece that does not exist"));
        }
        let mut begin = None;
        if flags & BEGINS != 0 {
            let base = reader.bytes()?;
            path::check(base)?;
            let content = crate::ContentId(reader.array()?);
            begin = Some((!base.is_empty()).then_some((base, content)));
        }
        let steps = op::steps(&mut reader)?;
        let rest = reader.take(reader.left())?;
        let new_bytes = op::new_bytes(&steps);
        let bytes = match flags & COMPRESSED != 0 {
            true if new_bytes > FRAME_BYTES_MAX as u64 => return Err(WireError::Long),
            true => Cow::Owned(inflate(rest, new_bytes as usize)?),
            false if new_bytes == rest.len() as u64 => Cow::Borrowed(rest),
            false => return Err(WireError::Value("a piece is not as long as its chunks")),
        };
        Ok(Self {
            stream,
            begin,
            steps,
            bytes,
        })
    }

    /// The body of the frame, in parts, with zstd at this level if there is one and it saves an eighth.
    #[must_use]
    pub fn parts(&self, level: Option<i32>) -> (Vec<u8>, Cow<'_, [u8]>) {
        let compressed = level.and_then(|level| deflate(&self.bytes, level));
        let mut out = Vec::new();
        super::put_number(&mut out, self.stream);
        let begins = if self.begin.is_some() { BEGINS } else { 0 };
        out.push(begins | if compressed.is_some() { COMPRESSED } else { 0 });
        if let Some(base) = &self.begin {
            let (path, content) = base.unwrap_or_default();
            put_bytes(&mut out, path);
            out.extend_from_slice(&content.0);
        }
        op::put_steps(&mut out, &self.steps);
        (
            out,
            compressed.map_or(Cow::Borrowed(&*self.bytes), Cow::Owned),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(bytes: &[u8], count: u32) -> Piece<'_> {
        Piece {
            stream: 7,
            begin: Some(None),
            steps: vec![op::Step::New(count)],
            bytes: bytes.into(),
        }
    }

    #[test]
    fn a_piece_is_compressed_where_that_saves_something() {
        let text = b"the same again and ".repeat(500);
        let mut noise = vec![0; text.len()];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for (bytes, most) in [(&text, text.len() / 8), (&noise, noise.len() + 100)] {
            let piece = piece(bytes, bytes.len() as u32);
            let (head, sent) = piece.parts(Some(1));
            assert!(sent.len() <= most, "{} bytes", sent.len());
            let body = [&head[..], &sent].concat();
            let read = Piece::read(&body).unwrap();
            assert_eq!((read.bytes, read.steps), (piece.bytes, piece.steps));
        }
    }

    #[test]
    fn a_piece_becomes_no_longer_than_it_says_and_than_a_frame() {
        let zeros = vec![0; 64 << 20];
        for (count, expected) in [
            (
                1000,
                WireError::Value("what was compressed does not become what it says"),
            ),
            (zeros.len() as u32, WireError::Long),
            (1 << 30, WireError::Long),
        ] {
            let piece = piece(&zeros, count);
            let (head, sent) = piece.parts(Some(1));
            let body = [&head[..], &sent].concat();
            assert_eq!(Piece::read(&body).unwrap_err(), expected, "{count}");
        }
    }
}
