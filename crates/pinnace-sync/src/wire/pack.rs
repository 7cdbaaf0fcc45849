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

use super::WireError;
use super::bytes::{Reader, put_bytes};
use super::op::{self, DIR, DirRef, Op, OpReader};
use crate::path;

/// Bytes of a pack's changes and bodies, before compression.
pub const PACK_BYTES_MAX: usize = 3 << 20;
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
            return Err(WireError::Value("a pack is longer than 3 MiB"));
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
    let broken = WireError::Value("a pack does not decompress to what it says");
    let inflated = zstd::bulk::decompress(compressed, bytes).map_err(|_| broken)?;
    if inflated.len() == bytes {
        Ok(inflated)
    } else {
        Err(broken)
    }
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
        if let Some(level) = level {
            let raw = [&ops[..], &bodies].concat();
            if let Ok(compressed) = zstd::bulk::compress(&raw, level)
                && compressed.len() < raw.len() / 8 * 7
            {
                begin(ZSTD);
                return vec![head, compressed];
            }
        }
        begin(STORED);
        head.extend_from_slice(&ops);
        vec![head, bodies]
    }
}

/// A piece of a large file.
///
/// ```text
/// number of the stream | u8 whether it begins | if so: base path (empty: none), base's content id
/// | steps | bytes of the new chunks
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
    pub bytes: &'a [u8],
}

impl<'a> Piece<'a> {
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
                let content = crate::ContentId(reader.array()?);
                Some((!base.is_empty()).then_some((base, content)))
            }
            _ => return Err(WireError::Value("a piece begins or does not")),
        };
        let steps = op::steps(&mut reader)?;
        let bytes = reader.take(reader.left())?;
        if op::new_bytes(&steps) != bytes.len() as u64 {
            return Err(WireError::Value("a piece is not as long as its chunks"));
        }
        Ok(Self {
            stream,
            begin,
            steps,
            bytes,
        })
    }

    /// What goes before the bytes.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let mut out = Vec::new();
        super::put_number(&mut out, self.stream);
        out.push(u8::from(self.begin.is_some()));
        if let Some(base) = &self.begin {
            let (path, content) = base.unwrap_or_default();
            put_bytes(&mut out, path);
            out.extend_from_slice(&content.0);
        }
        op::put_steps(&mut out, &self.steps);
        out
    }
}
