//! Old contents that new ones are made of.
//!
//! Invariant: whole chunks are verified by the recipe as they are read. Bytes read for parts are not: whoever puts a chunk
//! together from them verifies the whole. Left to others: who holds such a file, and writing.

use std::os::fd::OwnedFd;

use super::staged::{Failure, FailureCode};
use crate::chunk::{Chunk, ChunkId, Part, Recipe, parts};

/// Bytes of an old content that are read and written at once.
const RUN_BYTES: u64 = 1 << 20;

/// An old content that is there as it is known.
pub(super) struct Base {
    pub(super) file: OwnedFd,
    pub(super) recipe: Recipe,
    /// Where each chunk begins, and the end.
    offsets: Vec<u64>,
}

impl Base {
    pub(super) fn new(file: OwnedFd, recipe: Recipe) -> Self {
        let offsets = recipe.offsets();
        Self {
            file,
            recipe,
            offsets,
        }
    }

    /// Chunks that follow each other.
    pub(super) fn chunks(&self, first: usize, count: usize) -> Result<Runs<'_>, Failure> {
        let chunks = self.recipe.chunks.get(first..first.saturating_add(count));
        let outside = || Failure::new(FailureCode::Base, "chunks the old content does not have");
        Ok(Runs {
            rest: chunks.ok_or_else(outside)?,
            from: self.offsets.get(first).copied().unwrap_or_default(),
        })
    }

    /// Reads a stretch into this buffer and verifies it.
    pub(super) fn read(&self, run: &Run<'_>, mut buffer: Vec<u8>) -> Result<Vec<u8>, Failure> {
        buffer.clear();
        crate::fs::read_exactly(&self.file, run.from, run.bytes, &mut buffer)?;
        let mut rest = &buffer[..];
        let is_right = buffer.len() == run.bytes
            && (run.chunks.iter().filter(|chunk| chunk.id != ChunkId::HOLE)).all(|chunk| {
                let (bytes, after) = rest.split_at(chunk.bytes as usize);
                rest = after;
                ChunkId::of(bytes) == chunk.id
            });
        if is_right {
            Ok(buffer)
        } else {
            let detail = "the file on the server is not what was mirrored there";
            Err(Failure::new(FailureCode::Base, detail))
        }
    }

    /// Appends bytes from an offset on, whatever they are by now.
    pub(super) fn read_part(
        &self,
        from: u64,
        bytes: u32,
        into: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let before = into.len();
        crate::fs::read_exactly(&self.file, from, bytes as usize, into)?;
        if into.len() == before + bytes as usize {
            Ok(())
        } else {
            let detail = "the file on the server is shorter than what was mirrored there";
            Err(Failure::new(FailureCode::Base, detail))
        }
    }

    /// Bytes of chunks that follow each other; `None` if there are none such, or a hole among them.
    pub(super) fn data_bytes(&self, first: u32, count: u32) -> Option<u64> {
        let end = first.checked_add(count)?;
        let chunks = self.recipe.chunks.get(first as usize..end as usize)?;
        let bytes = chunks.iter().map(|chunk| match chunk.id {
            ChunkId::HOLE => None,
            _ => Some(u64::from(chunk.bytes)),
        });
        bytes.sum()
    }

    /// Appends the parts of chunks that follow each other, as their bytes are by now.
    pub(super) fn parts(
        &self,
        first: u32,
        count: u32,
        into: &mut Vec<Part>,
    ) -> Result<(), Failure> {
        let mut buffer = Vec::new();
        for run in self.chunks(first as usize, count as usize)? {
            buffer.clear();
            self.read_part(run.from, run.bytes as u32, &mut buffer)?;
            let mut rest = &buffer[..];
            for chunk in run.chunks {
                let (bytes, behind) = rest.split_at(chunk.bytes as usize);
                rest = behind;
                into.extend(parts(bytes));
            }
        }
        Ok(())
    }
}

/// Chunks of an old content in stretches, which may be as many as the chunks.
pub(super) struct Runs<'a> {
    pub(super) rest: &'a [Chunk],
    from: u64,
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        let is_hole = self.rest.first()?.id == ChunkId::HOLE;
        let mut bytes = 0;
        let run = self.rest.iter().take_while(|chunk| {
            bytes += u64::from(chunk.bytes);
            bytes <= RUN_BYTES && chunk.id != ChunkId::HOLE
        });
        let (chunks, after) = self.rest.split_at(run.count().max(1));
        let bytes: u64 = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        let from = self.from;
        (self.rest, self.from) = (after, from + bytes);
        Some(Run {
            chunks,
            from,
            bytes: if is_hole { 0 } else { bytes as usize },
        })
    }
}

/// A stretch of an old content: a hole, or chunks without one.
pub(super) struct Run<'a> {
    pub(super) chunks: &'a [Chunk],
    from: u64,
    /// Bytes to read.
    bytes: usize,
}
