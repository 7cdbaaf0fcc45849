//! A pack whose content lies in the stage, verified, and waits for its turn to be put into the share.
//!
//! Invariant: whatever can be done before the turn has been done: the rest is renames, and changes of what is there.
//! Left to others: making it (`stage`), putting it in place (`commit`).

use crate::chunk::Recipe;
use crate::meta::{ContentId, Fingerprint, Kind, Meta, Stamp};
use crate::wire::{Facts, Pack, PackDir, Place};

/// A pack in the stage.
pub(super) struct Staged {
    pub(super) first_seq: u64,
    pub(super) dirs: Vec<StagedDir>,
    pub(super) acts: Vec<Act>,
    /// The memory it takes.
    pub(super) held_bytes: usize,
}

/// A directory of the pack.
pub(super) enum StagedDir {
    /// It is in the share when the pack's turn comes.
    Known(Box<[u8]>),
    /// This act makes it.
    New(usize),
}

/// One change.
pub(super) struct Act {
    /// Directory of the pack, and name.
    pub(super) at: (usize, Box<[u8]>),
    pub(super) what: What,
}

pub(super) enum What {
    /// It is in the stage under this name.
    Placed(u64, New),
    /// It is in a directory of the same pack already.
    Inner(New),
    Meta(Kind, Wanted),
    Link(Box<[u8]>),
    Rename(Box<[u8]>),
    Exchange(Box<[u8]>, Box<[u8]>),
    Remove,
    /// It cannot be made.
    Failed(Failure),
}

/// The memory that acts and directories take until their turn.
pub(super) fn held_bytes(acts: &[Act], dirs: &[StagedDir]) -> usize {
    let acts = acts.iter().map(|act| {
        let more = match &act.what {
            What::Placed(_, new) | What::Inner(new) => {
                let recipe = new.recipe.as_ref();
                recipe.map_or(0, |recipe| size_of_val(recipe.chunks.as_slice()))
            }
            What::Meta(_, wanted) => wanted.attrs.len(),
            What::Link(path) | What::Rename(path) => path.len(),
            What::Exchange(a, b) => a.len() + b.len(),
            What::Failed(failure) => failure.detail.len(),
            What::Remove => 0,
        };
        size_of::<Act>() + act.at.1.len() + more
    });
    let dirs = dirs.iter().map(|dir| match dir {
        StagedDir::Known(path) => size_of::<StagedDir>() + path.len(),
        StagedDir::New(_) => size_of::<StagedDir>(),
    });
    acts.sum::<usize>() + dirs.sum::<usize>()
}

/// A new entry.
pub(super) struct New {
    pub(super) meta: Meta,
    pub(super) print: Fingerprint,
    pub(super) content: ContentId,
    pub(super) recipe: Option<Recipe>,
}

/// What an entry shall be like.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Stamp,
    pub(super) attrs: Box<[u8]>,
}

impl Wanted {
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        Self {
            mode: facts.mode,
            uid: facts.uid,
            gid: facts.gid,
            mtime: facts.mtime,
            attrs: facts.attrs.into(),
        }
    }

    pub(super) fn meta(&self, kind: Kind, size: u64) -> Meta {
        Meta {
            kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            size,
            attrs: crate::fs::attrs_digest(&self.attrs),
        }
    }
}

/// Why a change could not be made; what the client does about it depends on the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of reason.
    pub code: FailureCode,
    /// What happened.
    pub detail: String,
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FailureCode {
    /// The old content is not there, or not what the client thinks.
    Base = 1,
    /// The directory, or what was to be renamed or linked, is not there.
    Missing = 2,
    /// There is no room.
    Space = 3,
    /// The bytes are not those that were announced.
    Content = 4,
    /// The system refuses it.
    System = 5,
}

impl FailureCode {
    /// The code of this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        let codes = [
            Self::Base,
            Self::Missing,
            Self::Space,
            Self::Content,
            Self::System,
        ];
        codes.into_iter().find(|code| *code as u8 == number)
    }
}

impl Failure {
    pub(super) fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { code, detail }
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        use rustix::io::Errno;
        let code = match error {
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => FailureCode::Space,
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => FailureCode::Missing,
            _ => FailureCode::System,
        };
        Self::new(code, std::io::Error::from(error).to_string())
    }
}

/// The places of a pack's changes, apart from its bytes.
pub(super) fn outline(pack: &Pack<'_>) -> Vec<StagedDir> {
    let dirs = pack.dirs.iter().map(|dir| match dir {
        PackDir::Known(path) => StagedDir::Known((*path).into()),
        PackDir::New(act) => StagedDir::New(*act as usize),
    });
    dirs.collect()
}

pub(super) fn place(place: &Place<'_>) -> (usize, Box<[u8]>) {
    (place.dir.0 as usize, place.name.into())
}
