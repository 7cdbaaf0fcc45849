//! Large files on their way: written to the stage piece by piece as they come.
//!
//! Invariant: a stream that failed once takes no more, has given its room back, and says why when its file is asked for;
//! what is not asked for goes with its session, or for a later one when there are too many. Left to others: what the
//! file looks like, and putting it in its place.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::base::Base;
use super::share::Share;
use super::stage::stage_name;
use super::staged::{Failure, FailureCode};
use super::writing::{Written, create};
use crate::chunk::{Part, Recipe};
use crate::meta::{ContentId, Fingerprint};
use crate::wire::{DETAIL_BYTES_MAX, Detail, Piece, WireError};

/// Streams that a session may have at once: a client reads no more files at a time.
const STREAMS_MAX: usize = 8;
/// Chunks of one file: a terabyte, as files of that size are cut.
const FILE_CHUNKS_MAX: usize = 16 << 20;
/// Chunks of all streams of a session and of their old contents together.
const CHUNKS_MAX: usize = 2 * FILE_CHUNKS_MAX;

/// The streams of a session.
#[derive(Default)]
pub(super) struct Streams(Mutex<Held>);

#[derive(Default)]
struct Held {
    streams: HashMap<u64, Stream>,
    /// Pieces that came so far.
    pieces: u64,
}

struct Stream {
    number: u64,
    /// Its latest piece.
    piece: u64,
    state: Result<(Written<OwnedFd>, Option<Base>), Failure>,
}

/// A file that is whole and verified.
pub(super) struct Done {
    /// Its number in the stage.
    pub(super) number: u64,
    pub(super) print: Fingerprint,
    pub(super) size: u64,
    pub(super) recipe: Option<Recipe>,
}

impl Stream {
    fn chunks(&self) -> usize {
        self.state.as_ref().map_or(0, |(written, base)| {
            let base = base.as_ref().map_or(0, |base| base.recipe.chunks.len());
            written.chunks() + base
        })
    }

    /// The parts of chunks of its old content; none once it has failed.
    fn parts(&mut self, share: &Share, ranges: &[(u32, u32)]) -> Result<Vec<Part>, WireError> {
        let mut parts = Vec::new();
        let Ok((_, Some(base))) = &self.state else {
            return Ok(parts);
        };
        let bytes = ranges.iter();
        let bytes = bytes.map(|(first, count)| base.data_bytes(*first, *count));
        let bytes: Option<u64> = bytes.sum();
        if bytes.is_none_or(|bytes| bytes > DETAIL_BYTES_MAX) {
            return Err(WireError::Value(
                "a question about chunks that have no parts",
            ));
        }
        let mut all = ranges.iter();
        let read = all.try_for_each(|(first, count)| base.parts(*first, *count, &mut parts));
        if let Err(failure) = read {
            parts.clear();
            self.fail(share, failure);
        }
        Ok(parts)
    }

    /// Nothing of it is needed any more.
    fn fail(&mut self, share: &Share, failure: Failure) {
        self.state = Err(failure);
        let _ = rustix::fs::unlinkat(&share.stage, stage_name(self.number), AtFlags::empty());
    }
}

impl Streams {
    /// Whether the next stream takes the place of an earlier one.
    pub(super) fn is_full(&self) -> bool {
        self.lock().streams.len() >= STREAMS_MAX
    }

    /// Takes the next piece of a stream.
    ///
    /// # Errors
    /// A piece that makes no sense at all, which ends the session.
    pub(super) fn piece(&self, share: &Share, piece: &Piece<'_>) -> Result<(), WireError> {
        let Some((mut stream, chunks_left)) = self.take(share, piece.stream, piece.begin)? else {
            return Ok(());
        };
        if let Ok((written, base)) = &mut stream.state {
            let chunks_max = FILE_CHUNKS_MAX.min(written.chunks() + chunks_left);
            let steps = written.steps(base.as_ref(), &piece.steps, &piece.bytes, chunks_max);
            if let Err(failure) = steps {
                stream.fail(share, failure);
            }
        }
        self.lock().streams.insert(piece.stream, stream);
        Ok(())
    }

    /// The parts of a stream's old content that are asked for; none if there is no such stream or content.
    ///
    /// # Errors
    /// A question that makes no sense, which ends the session.
    pub(super) fn parts(&self, share: &Share, asked: &Detail<'_>) -> Result<Vec<Part>, WireError> {
        let begin = asked.begin.map(Some);
        let Some((mut stream, _)) = self.take(share, asked.stream, begin)? else {
            return Ok(Vec::new());
        };
        let parts = stream.parts(share, &asked.ranges);
        self.lock().streams.insert(asked.stream, stream);
        parts
    }

    /// A stream by its name, which may begin now, and how many more chunks it may have; `None` if it is not there any
    /// more.
    fn take(
        &self,
        share: &Share,
        name: u64,
        begin: Option<Option<(&[u8], ContentId)>>,
    ) -> Result<Option<(Stream, usize)>, WireError> {
        let mut held = self.lock();
        held.pieces += 1;
        let now = held.pieces;
        if begin.is_some() && held.streams.contains_key(&name) {
            return Err(WireError::Value("a stream begins once"));
        }
        let known = held.streams.remove(&name);
        let mut stream = match (known, begin) {
            (Some(stream), _) => stream,
            (None, Some(base)) => {
                held.make_room(share);
                let number = share.numbers.next();
                let state = open(share, number, base);
                let piece = now;
                Stream {
                    number,
                    piece,
                    state,
                }
            }
            // It gave way to another, which is told when its file is asked for.
            (None, None) => return Ok(None),
        };
        stream.piece = now;
        let held_chunks: usize = held.streams.values().map(Stream::chunks).sum();
        let left = CHUNKS_MAX.checked_sub(held_chunks + stream.chunks());
        if left.is_none() {
            let detail = "there is no memory for so many large files at once";
            stream.fail(share, Failure::new(FailureCode::Space, detail));
        }
        Ok(Some((stream, left.unwrap_or(0))))
    }

    /// The file of a stream, whole and verified, dressed by its caller.
    pub(super) fn finish(
        &self,
        share: &Share,
        stream: u64,
        content: ContentId,
        dress: impl FnOnce(BorrowedFd<'_>) -> Result<Fingerprint, Errno>,
    ) -> Result<Done, Failure> {
        let unknown = || Failure::new(FailureCode::Content, "its bytes were not sent");
        let mut stream = self.lock().streams.remove(&stream).ok_or_else(unknown)?;
        let number = stream.number;
        let (written, _) = std::mem::replace(&mut stream.state, Err(unknown()))?;
        let done = written.end(content).and_then(|(file, recipe, size)| {
            let print = dress(file.as_fd())?;
            Ok(Done {
                number,
                print,
                size,
                recipe,
            })
        });
        if let Err(failure) = &done {
            stream.fail(share, failure.clone());
        }
        done
    }

    /// Removes what was not asked for.
    pub(super) fn abandon(&self, share: &Share) {
        for (_, mut stream) in self.lock().streams.drain() {
            stream.fail(
                share,
                Failure::new(FailureCode::Content, "it was not asked for"),
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Lets the stream go that had no piece for the longest time, if there is no room for another: a client leaves
    /// one behind when its file shrinks while it is read.
    fn make_room(&mut self, share: &Share) {
        while self.streams.len() >= STREAMS_MAX {
            let oldest = self.streams.iter().min_by_key(|(_, stream)| stream.piece);
            let Some(stream) = oldest.map(|(name, _)| *name) else {
                return;
            };
            if let Some(mut stream) = self.streams.remove(&stream) {
                stream.fail(share, Failure::new(FailureCode::Content, "it gave way"));
            }
        }
    }
}

fn open(
    share: &Share,
    number: u64,
    base: Option<(&[u8], ContentId)>,
) -> Result<(Written<OwnedFd>, Option<Base>), Failure> {
    let base = base.map(|(path, content)| share.base(path, &content));
    let base = base.transpose()?;
    let file = create(share.stage.as_fd(), stage_name(number).as_bytes(), 0o600)?;
    Ok((Written::new(file), base))
}
