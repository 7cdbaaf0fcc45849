//! Writing files in the stage, from what was sent and from old contents.
//!
//! Invariant: nothing is followed and nothing is opened that was there before; what is copied from an old content is
//! verified chunk by chunk. Left to others: which file, and what it looks like.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::base::{Base, Run, Runs};
use super::staged::{Failure, FailureCode};
use crate::chunk::{Chunk, ChunkId, Recipe};
use crate::meta::ContentId;
use crate::wire::Step;

/// Bytes from which on a second thread pays.
const TWO_THREADS_BYTES: u64 = 4 << 20;
/// Stretches that are read before they are written.
const RUNS_AHEAD: usize = 2;

pub(super) fn wrong_content() -> Failure {
    Failure::new(
        FailureCode::Content,
        "the bytes that arrived are not those that were announced",
    )
}

fn no_base() -> Failure {
    Failure::new(FailureCode::Base, "there is no old content")
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

/// A file that is being written from steps.
pub(super) struct Written<F> {
    file: F,
    offset: u64,
    chunks: Vec<Chunk>,
    /// A chunk that is being put together.
    parted: Vec<u8>,
    /// Buffers to copy with: to get the memory anew each time would cost as much as the copying.
    spare: Vec<Vec<u8>>,
}

impl<F: AsFd> Written<F> {
    pub(super) fn new(file: F) -> Self {
        Self {
            file,
            offset: 0,
            chunks: Vec::new(),
            parted: Vec::new(),
            spare: Vec::new(),
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
            Step::New(_) | Step::Hole(_) | Step::Parted => 1,
            Step::Part { .. } | Step::NewPart(_) => 0,
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
                    let base = base.ok_or_else(no_base)?;
                    self.copy(base, first as usize, count as usize)?;
                }
                Step::Part { from, bytes } => {
                    let base = base.ok_or_else(no_base)?;
                    base.read_part(from, bytes, &mut self.parted)?;
                }
                Step::NewPart(count) => {
                    let (part, rest) = bytes.split_at(count as usize);
                    bytes = rest;
                    self.parted.extend_from_slice(part);
                }
                Step::Parted => {
                    write_all(&self.file, &self.parted, self.offset)?;
                    self.advance(ChunkId::of(&self.parted), self.parted.len() as u32);
                    self.parted.clear();
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
        let runs = base.chunks(first, count)?;
        let bytes = runs.rest.iter().map(|chunk| u64::from(chunk.bytes));
        if bytes.sum::<u64>() >= TWO_THREADS_BYTES {
            return self.copy_on_two_threads(base, runs);
        }
        for run in runs {
            let buffer = base.read(&run, self.spare.pop().unwrap_or_default())?;
            self.put(&run, &buffer)?;
            self.spare.push(buffer);
        }
        Ok(())
    }

    /// Reads and verifies on a thread of its own, which takes about as long as writing.
    fn copy_on_two_threads(&mut self, base: &Base, runs: Runs<'_>) -> Result<(), Failure> {
        let spare = Mutex::new(std::mem::take(&mut self.spare));
        let spare = || spare.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, buffers) = sync_channel(RUNS_AHEAD);
        let reading = || {
            let done = done;
            for run in runs {
                let buffer = spare().pop().unwrap_or_default();
                let read = base.read(&run, buffer).map(|buffer| (run, buffer));
                let is_last = read.is_err();
                // Nobody listens any more when writing failed.
                if done.send(read).is_err() || is_last {
                    break;
                }
            }
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("pn-copy".into());
            thread.spawn_scoped(scope, reading).map_err(|error| {
                Failure::new(
                    FailureCode::System,
                    format!("cannot start a thread: {error}"),
                )
            })?;
            for read in buffers {
                let (run, buffer) = read?;
                self.put(&run, &buffer)?;
                spare().push(buffer);
            }
            Ok::<_, Failure>(())
        })?;
        self.spare.append(&mut spare());
        Ok(())
    }

    fn put(&mut self, run: &Run<'_>, buffer: &[u8]) -> Result<(), Failure> {
        write_all(&self.file, buffer, self.offset)?;
        for chunk in run.chunks {
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
    use crate::chunk::noise;

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

    /// An old content of so many MiB with a hole in it, and the steps that copy all of it.
    fn base(mib: u64) -> (Base, Vec<Step>) {
        let file = tempfile::tempfile().unwrap();
        let bytes = noise(5, 1 << 20);
        for at in (0..mib).filter(|at| *at != 1) {
            write_all(&file, &bytes[at as usize..], at << 20).unwrap();
        }
        file.set_len(mib << 20).unwrap();
        let mut cutter = crate::chunk::Cutter::new(&file, mib << 20, true);
        let mut recipe = Recipe::default();
        while let Some((chunk, _)) = cutter.next_chunk().unwrap() {
            recipe.chunks.push(chunk);
        }
        let count = recipe.chunks.len() as u32;
        let copied = vec![Step::Copy { first: 0, count }];
        (Base::new(file.into(), recipe), copied)
    }

    #[test]
    fn what_is_copied_is_the_same_on_one_thread_and_on_two() {
        for mib in [3, 9] {
            let (base, steps) = base(mib);
            let content = base.recipe.content_id();
            let mut written = Written::new(tempfile::tempfile().unwrap());
            // A second time with the buffers of the first.
            for _ in 0..2 {
                written.offset = 0;
                written.chunks.clear();
                written.steps(Some(&base), &steps, &[], 1 << 20).unwrap();
            }
            let (file, recipe, bytes) = written.end(content).unwrap();
            assert_eq!(recipe.as_ref(), Some(&base.recipe));
            let read = |file| {
                let mut found = Vec::new();
                crate::fs::read_exactly(file, 0, bytes as usize, &mut found).unwrap();
                found
            };
            assert_eq!(bytes, mib << 20);
            assert!(read(file.as_fd()) == read(base.file.as_fd()));
        }
    }

    #[test]
    fn a_copy_that_cannot_be_made_says_why() {
        for mib in [3, 9] {
            let (base, steps) = base(mib);
            let full = std::fs::File::options().write(true).open("/dev/full");
            let mut written = Written::new(full.unwrap());
            let failure = written.steps(Some(&base), &steps, &[], 1 << 20);
            assert_eq!(failure.unwrap_err().code, FailureCode::Space);
            write_all(&base.file, b"other", (mib << 20) - 100).unwrap();
            let mut written = Written::new(tempfile::tempfile().unwrap());
            let failure = written.steps(Some(&base), &steps, &[], 1 << 20);
            assert_eq!(failure.unwrap_err().code, FailureCode::Base);
            let short = (mib << 20) - 50_000;
            rustix::fs::ftruncate(&base.file, short).unwrap();
            let failure = written.steps(Some(&base), &steps, &[], 1 << 20);
            assert_eq!(failure.unwrap_err().code, FailureCode::Base);
        }
    }
}
