//! Large files on their way: written to the stage piece by piece as they come.
//!
//! Invariant: a stream that failed once takes no more and says why when its file is asked for; what is not asked for
//! goes with its session. Left to others: putting the file in its place (`commit`).

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use super::dress::{Dresser, decode_attrs};
use super::share::Share;
use super::stage::stage_name;
use super::staged::{Failure, FailureCode, New, Wanted};
use super::writing::{Base, Written, create};
use crate::meta::{ContentId, Kind};
use crate::wire::{Piece, WireError};

/// Streams that a session may have at once.
const STREAMS_MAX: usize = 64;

/// The streams of a session.
#[derive(Default)]
pub(super) struct Streams(Mutex<HashMap<u64, Stream>>);

struct Stream {
    number: u64,
    state: Result<(Written<OwnedFd>, Option<Base>), Failure>,
}

impl Streams {
    /// Takes the next piece of a stream.
    ///
    /// # Errors
    /// A piece that makes no sense at all, which ends the session.
    pub(super) fn piece(&self, share: &Share, piece: &Piece<'_>) -> Result<(), WireError> {
        let mut stream = self.take(share, piece)?;
        if let Ok((written, base)) = &mut stream.state
            && let Err(failure) = written.steps(base.as_ref(), &piece.steps, piece.bytes)
        {
            stream.state = Err(failure);
        }
        self.lock().insert(piece.stream, stream);
        Ok(())
    }

    fn take(&self, share: &Share, piece: &Piece<'_>) -> Result<Stream, WireError> {
        let mut streams = self.lock();
        let known = streams.remove(&piece.stream);
        match (known, &piece.begin) {
            (Some(stream), None) => Ok(stream),
            (None, Some(base)) => {
                if streams.len() >= STREAMS_MAX {
                    return Err(WireError::Value("more than 64 large files at once"));
                }
                drop(streams);
                let number = share.numbers.next();
                let state = begin(share, number, base.as_ref());
                Ok(Stream { number, state })
            }
            _ => Err(WireError::Value(
                "a stream begins once, with its first piece",
            )),
        }
    }

    /// The file of a stream, whole and verified: its number in the stage, and what it is.
    pub(super) fn finish(
        &self,
        stream: u64,
        wanted: &Wanted,
        content: ContentId,
        dresser: &Dresser,
    ) -> Result<(u64, New), Failure> {
        let unknown = || Failure::new(FailureCode::Content, "its bytes were not sent");
        let stream = self.lock().remove(&stream).ok_or_else(unknown)?;
        let (written, _) = stream.state?;
        let file = written.file().as_fd().try_clone_to_owned();
        let file = file.map_err(|e| Failure::new(FailureCode::System, e.to_string()))?;
        let (recipe, size) = written.end(content)?;
        let attrs = decode_attrs(&wanted.attrs)
            .map_err(|error| Failure::new(FailureCode::System, error.to_string()))?;
        let print = dresser.file(&file, wanted, &attrs)?;
        let new = New {
            meta: wanted.meta(Kind::File, size),
            print,
            content,
            recipe,
        };
        Ok((stream.number, new))
    }

    /// Removes what was not asked for.
    pub(super) fn abandon(&self, share: &Share) {
        for (_, stream) in self.lock().drain() {
            let name = stage_name(stream.number);
            let _ = rustix::fs::unlinkat(&share.stage, name, rustix::fs::AtFlags::empty());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin(
    share: &Share,
    number: u64,
    base: Option<&(&[u8], ContentId)>,
) -> Result<(Written<OwnedFd>, Option<Base>), Failure> {
    let base = base.map(|(path, content)| share.base(path, content));
    let base = base.transpose()?;
    let file = create(share.stage.as_fd(), stage_name(number).as_bytes(), 0o600)?;
    Ok((Written::new(file), base))
}
