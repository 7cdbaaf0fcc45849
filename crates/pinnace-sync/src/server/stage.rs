//! Carries out the part of a pack that nobody sees: files and new directories are made in the stage, beside the share and on
//! the same file system, and verified.
//!
//! A directory that is new in the pack is built with all the pack has for it under its final names, and goes to its place in
//! one rename; files for directories that are there already wait under a number.
//!
//! Invariant: nothing outside the stage is touched; what stands in a [`Staged`] has the content that was announced.
//! Left to others: when (`jobs`), writing files (`writing`), and everything after (`commit`).

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use pinnace_proto::sync::Durability;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::dress::{Dresser, decode_attrs};
use super::share::Share;
use super::staged::{
    Act, Failure, FailureCode, New, Staged, StagedDir, Wanted, What, held_bytes, outline, place,
};
use super::stream::Streams;
use super::writing::{Written, create, write_all, wrong_content};
use crate::chunk::{Chunk, ChunkId, Recipe};
use crate::meta::{ContentId, Kind};
use crate::path::{BadPath, PATH_BYTES_MAX};
use crate::wire::{Facts, Op, OpenedPack, PACK_CHUNKS_MAX, Pack, PackDir, Place, WireError};

/// New directories that one pack may hold: each is held open while the pack is staged.
pub const PACK_NEW_DIRS_MAX: usize = 128;

/// Numbers of what lies in a stage.
#[derive(Debug, Default)]
pub(super) struct Numbers(AtomicU64);

impl Numbers {
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The name of a number in the stage.
pub(super) fn stage_name(number: u64) -> String {
    format!("{number:x}")
}

/// Stages a pack.
///
/// # Errors
/// What is wrong with the pack as such, which ends the session. What is wrong with one change is in its act.
pub(super) fn stage(
    share: &Share,
    streams: &Streams,
    durability: Durability,
    opened: &OpenedPack,
) -> Result<Staged, WireError> {
    let pack = opened.read()?;
    let dirs = outline(&pack);
    let new = dirs.iter().filter(|dir| matches!(dir, StagedDir::New(_)));
    if new.count() > PACK_NEW_DIRS_MAX {
        return Err(WireError::Value("a pack makes more than 128 directories"));
    }
    let mut staging = Staging {
        share,
        streams,
        path_bytes: path_bytes(&pack),
        chunks_left: Cell::new(PACK_CHUNKS_MAX),
        dresser: Dresser::new(share.sets_owners, durability),
        open: dirs.iter().map(|_| None).collect(),
        next_dir: 0,
        pack: &pack,
        made: Vec::new(),
    };
    let mut acts = Vec::with_capacity(pack.ops.len());
    for op in &pack.ops {
        acts.push(staging.act(op)?);
    }
    staging.dress_directories(&mut acts);
    Ok(Staged {
        first_seq: opened.first_seq,
        held_bytes: held_bytes(&acts, &dirs),
        dirs,
        acts,
    })
}

/// How long the path of a name in a directory is.
fn joined(dir_bytes: usize, name: &[u8]) -> usize {
    dir_bytes + usize::from(dir_bytes > 0) + name.len()
}

/// How long the paths of a pack's directories are.
fn path_bytes(pack: &Pack<'_>) -> Vec<usize> {
    let mut bytes: Vec<usize> = Vec::with_capacity(pack.dirs.len());
    for dir in &pack.dirs {
        bytes.push(match dir {
            PackDir::Known(path) => path.len(),
            PackDir::New(act) => match pack.ops[*act as usize].at() {
                Some(at) => joined(bytes[at.dir.0 as usize], at.name),
                None => 0,
            },
        });
    }
    bytes
}

struct Staging<'a> {
    share: &'a Share,
    streams: &'a Streams,
    path_bytes: Vec<usize>,
    /// Chunks that files made of old ones may still have.
    chunks_left: Cell<usize>,
    dresser: Dresser,
    /// The pack's new directories that were made.
    open: Vec<Option<OwnedFd>>,
    /// Number of the next directory that a change makes.
    next_dir: usize,
    pack: &'a Pack<'a>,
    /// Acts that made directories, with the number of the directory.
    made: Vec<(usize, usize, Wanted)>,
}

impl Staging<'_> {
    fn act(&mut self, op: &Op<'_>) -> Result<Act, WireError> {
        if let Some(at) = op.at().filter(|at| self.is_long(at)) {
            if matches!(op, Op::Mkdir { .. }) {
                self.number_of_new_dir();
            }
            let failure = Failure::new(FailureCode::System, BadPath::PathLong.to_string());
            let (at, what) = (place(at), What::Failed(failure));
            return Ok(Act { at, what });
        }
        let (at, what) = match op {
            Op::Mkdir { at, facts } => (at, self.mkdir(at, facts)?),
            Op::File {
                at,
                facts,
                content,
                cuts,
                body,
            } => {
                let bytes = &self.pack.bodies[body.clone()];
                let wanted = Wanted::of(facts);
                let attrs = decode_attrs(facts.attrs)?;
                let made = verified(bytes, cuts, *content).and_then(|recipe| {
                    self.make(at, |dir, name| {
                        let file = create(dir, name, wanted.mode)?;
                        write_all(&file, bytes, 0)?;
                        let print = self.dresser.file(&file, &wanted, &attrs)?;
                        Ok(New {
                            meta: wanted.meta(Kind::File, bytes.len() as u64),
                            print,
                            content: *content,
                            recipe,
                        })
                    })
                });
                (at, made.unwrap_or_else(What::Failed))
            }
            Op::Symlink { at, facts, target } => {
                let wanted = Wanted::of(facts);
                let made = self.make(at, |dir, name| self.symlink(dir, name, target, &wanted));
                (at, made.unwrap_or_else(What::Failed))
            }
            Op::Patch { at, .. } => (at, self.patch(op)?),
            Op::Streamed {
                at,
                facts,
                content,
                stream,
            } => (at, self.streamed(facts, *stream, *content)?),
            Op::Link { at, target } => (at, What::Link((*target).into())),
            Op::Meta { at, kind, facts } => {
                decode_attrs(facts.attrs)?;
                (at, What::Meta(*kind, Wanted::of(facts)))
            }
            Op::Rename { from, at } => (at, What::Rename((*from).into())),
            Op::Remove { at } => (at, What::Remove),
            Op::Exchange { a, b } => {
                let what = What::Exchange((*a).into(), (*b).into());
                let at = (0, Box::default());
                return Ok(Act { at, what });
            }
        };
        let at = place(at);
        Ok(Act { at, what })
    }

    /// Whether a place is deeper than a path can say: nobody could open what is there.
    fn is_long(&self, at: &Place<'_>) -> bool {
        joined(self.path_bytes[at.dir.0 as usize], at.name) > PATH_BYTES_MAX
    }

    /// Makes an entry where it belongs: in its directory, if that is made here too, or in the stage.
    fn make(
        &self,
        at: &Place<'_>,
        make: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<New, Failure>,
    ) -> Result<What, Failure> {
        if let Some(dir) = &self.open[at.dir.0 as usize] {
            let name = at.name;
            let made = make(dir.as_fd(), name);
            if made.is_err() {
                // What is half made must not go to its place with its directory.
                let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
            }
            return made.map(What::Inner);
        }
        let number = self.share.numbers.next();
        let name = stage_name(number);
        let made = make(self.share.stage.as_fd(), name.as_bytes());
        if made.is_err() {
            let _ = rustix::fs::unlinkat(&self.share.stage, &name, AtFlags::empty());
        }
        made.map(|new| What::Placed(number, new))
    }

    fn mkdir(&mut self, at: &Place<'_>, facts: &Facts<'_>) -> Result<What, WireError> {
        let wanted = Wanted::of(facts);
        decode_attrs(facts.attrs)?;
        // The directory's number is the next one that was not known before.
        let number = self.number_of_new_dir();
        let act = self.pack_act(number);
        let made = self.make_dir(at, &wanted);
        Ok(match made {
            Ok((what, fd)) => {
                self.open[number] = Some(fd);
                self.made.push((act, number, wanted));
                what
            }
            Err(failure) => What::Failed(failure),
        })
    }

    fn make_dir(&self, at: &Place<'_>, wanted: &Wanted) -> Result<(What, OwnedFd), Failure> {
        let new = New {
            meta: wanted.meta(Kind::Directory, 0),
            print: crate::Fingerprint::UNKNOWN,
            content: ContentId::default(),
            recipe: None,
        };
        let inner = self.open[at.dir.0 as usize].as_ref();
        let (dir, name, what) = match inner {
            Some(dir) => (dir.as_fd(), at.name.to_vec(), What::Inner(new)),
            None => {
                let number = self.share.numbers.next();
                let name = stage_name(number).into_bytes();
                (self.share.stage.as_fd(), name, What::Placed(number, new))
            }
        };
        rustix::fs::mkdirat(dir, name.as_slice(), Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name.as_slice(), flags, Mode::empty())?;
        Ok((what, fd))
    }

    fn number_of_new_dir(&mut self) -> usize {
        while matches!(self.pack.dirs[self.next_dir], PackDir::Known(_)) {
            self.next_dir += 1;
        }
        self.next_dir += 1;
        self.next_dir - 1
    }

    fn pack_act(&self, dir: usize) -> usize {
        match self.pack.dirs[dir] {
            PackDir::New(act) => act as usize,
            PackDir::Known(_) => 0,
        }
    }

    fn symlink(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        target: &[u8],
        wanted: &Wanted,
    ) -> Result<New, Failure> {
        rustix::fs::symlinkat(target, dir, name)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        let print = self.dresser.symlink(held.as_fd(), wanted)?;
        Ok(New {
            meta: wanted.meta(Kind::Symlink, target.len() as u64),
            print,
            content: ContentId(*blake3::hash(target).as_bytes()),
            recipe: None,
        })
    }

    /// A file made of an old one. The pack was held back until the changes before it were in the share.
    fn patch(&self, op: &Op<'_>) -> Result<What, WireError> {
        let Op::Patch {
            at,
            facts,
            content,
            base,
            base_content,
            steps,
            body,
        } = op
        else {
            return Err(WireError::Value("no patch"));
        };
        let wanted = Wanted::of(facts);
        let attrs = decode_attrs(facts.attrs)?;
        let bytes = &self.pack.bodies[body.clone()];
        let made = self.make(at, |dir, name| {
            let base = self.share.base(base, base_content)?;
            let file = create(dir, name, wanted.mode)?;
            let mut written = Written::new(&file);
            written.steps(Some(&base), steps, bytes, self.chunks_left.get())?;
            let taken = self.chunks_left.get() - written.chunks();
            self.chunks_left.set(taken);
            let (_, recipe, size) = written.end(*content)?;
            let print = self.dresser.file(&file, &wanted, &attrs)?;
            Ok(New {
                meta: wanted.meta(Kind::File, size),
                print,
                content: *content,
                recipe,
            })
        });
        Ok(made.unwrap_or_else(What::Failed))
    }

    /// A file that came in pieces, all of them before this change.
    fn streamed(
        &self,
        facts: &Facts<'_>,
        stream: u64,
        content: ContentId,
    ) -> Result<What, WireError> {
        let (wanted, attrs) = (Wanted::of(facts), decode_attrs(facts.attrs)?);
        let made = self.streams.finish(self.share, stream, content, |file| {
            self.dresser.file(file, &wanted, &attrs)
        });
        let made = made.map(|done| {
            let new = New {
                meta: wanted.meta(Kind::File, done.size),
                print: done.print,
                content,
                recipe: done.recipe,
            };
            What::Placed(done.number, new)
        });
        Ok(made.unwrap_or_else(What::Failed))
    }

    /// Gives new directories their looks once they are filled, the deepest first.
    fn dress_directories(&self, acts: &mut [Act]) {
        for (act, dir, wanted) in self.made.iter().rev() {
            let Some(fd) = &self.open[*dir] else {
                continue;
            };
            let dressed = decode_attrs(&wanted.attrs)
                .map_err(|error| Failure::new(FailureCode::System, error.to_string()))
                .and_then(|attrs| Ok(self.dresser.directory(fd.as_fd(), wanted, &attrs)?));
            match (&mut acts[*act].what, dressed) {
                (What::Placed(_, new) | What::Inner(new), Ok(print)) => new.print = print,
                (what, Err(failure)) => *what = What::Failed(failure),
                (_, Ok(_)) => {}
            }
        }
    }
}

/// Checks content that came whole, and cuts it.
fn verified(bytes: &[u8], cuts: &[u32], content: ContentId) -> Result<Option<Recipe>, Failure> {
    let mut rest = bytes;
    let recipe = (!cuts.is_empty()).then(|| {
        let chunks = cuts.iter().map(|bytes| {
            let (chunk, after) = rest.split_at(*bytes as usize);
            rest = after;
            Chunk {
                bytes: *bytes,
                id: ChunkId::of(chunk),
            }
        });
        Recipe {
            chunks: chunks.collect(),
        }
    });
    let found = match &recipe {
        Some(recipe) => recipe.content_id(),
        None => ContentId(*blake3::hash(bytes).as_bytes()),
    };
    if found == content {
        Ok(recipe)
    } else {
        Err(wrong_content())
    }
}
