//! Writing files in the stage, from what was sent and from old contents.
//!
//! Invariant: nothing is followed and nothing is opened that was there before; what is copied from an old content is
//! verified chunk by chunk. Left to others: which file, and what it looks like.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::staged::{Failure, FailureCode};
use crate::chunk::{Chunk, ChunkId, Recipe};
use crate::meta::ContentId;
use crate::wire::Step;

pub(super) fn wrong_content() -> Failure {
    Failure::new(
        FailureCode::Content,
        "the bytes that arrived are not those that were announced",
    )
}

/// Makes a file that nobody else has.
pub(super) fn create(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Special bits are set when the owner is, which would clear them.
    let mode = Mode::from_raw_mode(mode & 0o777) | Mode::RUSR | Mode::WUSR;
    rustix::fs::openat(dir, name, flags, mode)
}

pub(super) fn write_all(file: impl AsFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(&file, bytes, offset) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => {
                offset += count as u64;
                bytes = &bytes[count..];
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An old content that is there as it is known.
pub(super) struct Base {
    pub(super) file: OwnedFd,
    pub(super) recipe: Recipe,
    /// Where each chunk begins.
    offsets: Vec<u64>,
}

impl Base {
    pub(super) fn new(file: OwnedFd, recipe: Recipe) -> Self {
        let mut offset = 0;
        let offsets = recipe.chunks.iter().map(|chunk| {
            offset += u64::from(chunk.bytes);
            offset - u64::from(chunk.bytes)
        });
        let offsets = offsets.collect();
        Self {
            file,
            recipe,
            offsets,
        }
    }
}

/// A file that is being written from steps.
pub(super) struct Written<F> {
    file: F,
    offset: u64,
    chunks: Vec<Chunk>,
    buffer: Vec<u8>,
}

impl<F: AsFd> Written<F> {
    pub(super) fn new(file: F) -> Self {
        Self {
            file,
            offset: 0,
            chunks: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// How many chunks it has so far.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Writes what the steps say. What is copied is verified by the base's recipe. With more chunks than these it
    /// fails before they are written.
    pub(super) fn steps(
        &mut self,
        base: Option<&Base>,
        steps: &[Step],
        mut bytes: &[u8],
        chunks_max: usize,
    ) -> Result<(), Failure> {
        let more = steps.iter().map(|step| match step {
            Step::Copy { count, .. } => u64::from(*count),
            Step::New(_) | Step::Hole(_) => 1,
        });
        if self.chunks.len() as u64 + more.sum::<u64>() > chunks_max as u64 {
            let detail = format!("a file made of others has at most {chunks_max} chunks here");
            return Err(Failure::new(FailureCode::Space, detail));
        }
        for step in steps {
            match *step {
                Step::New(count) => {
                    let (chunk, rest) = bytes.split_at(count as usize);
                    bytes = rest;
                    write_all(&self.file, chunk, self.offset)?;
                    self.advance(ChunkId::of(chunk), count);
                }
                Step::Hole(count) => {
                    // Where there is no length yet nothing is written: the end is set when all is there.
                    self.advance(ChunkId::HOLE, count);
                }
                Step::Copy { first, count } => {
                    let no_base = || Failure::new(FailureCode::Base, "there is no old content");
                    self.copy(base.ok_or_else(no_base)?, first as usize, count as usize)?;
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, id: ChunkId, bytes: u32) {
        self.offset += u64::from(bytes);
        self.chunks.push(Chunk { bytes, id });
    }

    fn copy(&mut self, base: &Base, first: usize, count: usize) -> Result<(), Failure> {
        /// Bytes that are read and written at once.
        const COPY_BYTES: usize = 1 << 20;
        let chunks = base.recipe.chunks.get(first..first + count);
        let outside = || Failure::new(FailureCode::Base, "chunks the old content does not have");
        let chunks = chunks.ok_or_else(outside)?;
        let mut from = base.offsets.get(first).copied().unwrap_or_default();
        let mut rest = chunks;
        while let Some(chunk) = rest.first() {
            if chunk.id == ChunkId::HOLE {
                self.advance(chunk.id, chunk.bytes);
                from += u64::from(chunk.bytes);
                rest = &rest[1..];
                continue;
            }
            let mut bytes = 0;
            let run = rest.iter().take_while(|chunk| {
                bytes += chunk.bytes as usize;
                bytes <= COPY_BYTES && chunk.id != ChunkId::HOLE
            });
            let (run, after) = rest.split_at(run.count().max(1));
            rest = after;
            let bytes: usize = run.iter().map(|chunk| chunk.bytes as usize).sum();
            self.buffer.clear();
            crate::fs::read_exactly(&base.file, from, bytes, &mut self.buffer)?;
            self.verify(run, bytes)?;
            from += bytes as u64;
            self.put_buffer(run)?;
        }
        Ok(())
    }

    fn verify(&self, run: &[Chunk], bytes: usize) -> Result<(), Failure> {
        let mut rest = &self.buffer[..];
        let is_whole = rest.len() == bytes;
        let is_right = is_whole
            && run.iter().all(|chunk| {
                let (bytes, after) = rest.split_at(chunk.bytes as usize);
                rest = after;
                ChunkId::of(bytes) == chunk.id
            });
        if is_right {
            Ok(())
        } else {
            let detail = "the file on the server is not what was mirrored there";
            Err(Failure::new(FailureCode::Base, detail))
        }
    }

    fn put_buffer(&mut self, run: &[Chunk]) -> Result<(), Failure> {
        write_all(&self.file, &self.buffer, self.offset)?;
        for chunk in run {
            self.advance(chunk.id, chunk.bytes);
        }
        Ok(())
    }

    /// Ends the file and says what its recipe and length are.
    pub(super) fn end(self, content: ContentId) -> Result<(F, Option<Recipe>, u64), Failure> {
        let recipe = Recipe {
            chunks: self.chunks,
        };
        if recipe.content_id() != content {
            return Err(wrong_content());
        }
        // A hole at the end has left no trace in the length.
        rustix::fs::ftruncate(&self.file, self.offset)?;
        Ok((self.file, Some(recipe), self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_too_many_chunks_is_refused_before_they_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let held = crate::fs::Root::open(folder.path()).unwrap();
        let file = create(held.as_fd(), b"f", 0o600).unwrap();
        let mut written = Written::new(file);
        written.steps(None, &[Step::Hole(1); 5], &[], 8).unwrap();
        for steps in [
            &[Step::Hole(1); 4][..],
            &[Step::Copy {
                first: 0,
                count: u32::MAX,
            }],
        ] {
            let failure = written.steps(None, steps, &[], 8).unwrap_err();
            assert_eq!(failure.code, FailureCode::Space);
            assert_eq!(written.chunks(), 5);
        }
        written.steps(None, &[Step::Hole(1); 3], &[], 8).unwrap();
    }
}
