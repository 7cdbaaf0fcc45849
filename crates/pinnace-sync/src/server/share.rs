//! One share: its directory, what is known of it, its stage and its trash.
//!
//! Beside the share's directory lies a folder of ours with `index/`, `stage/` and `trash/`, on the same file system, so
//! that everything goes into the share by a rename.
//!
//! Invariant: the index says of an entry only what was true when it was put there; whether it still is, its fingerprint
//! tells. A failed sync is final: the share takes nothing more until the server is started anew. A failed write of what is
//! known (a full disk) only makes it stale: it is opened anew for the next session, and compared. Left to others: the
//! sessions that write into it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::base::Base;
use super::recover;
use super::replaced::{self, Replaced};
use super::stage::{Numbers, stage_name};
use super::staged::{Failure, FailureCode};
use super::trash::{Trash, remove_all};
use crate::fs::{Root, boot_id};
use crate::index::{Index, Marks, Store, StoreError};
use crate::meta::{ContentId, Kind, of_stat};

/// Why a share cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// A file or directory of the share or beside it.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What is known of the share cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The share's directory is on another file system than its stage.
    #[error(
        "{0} is on another file system than the server's data; a share has to be a directory of its own there"
    )]
    Elsewhere(PathBuf),
    /// Its directory is gone.
    #[error("the share's directory was removed; the next connection begins it anew")]
    Removed,
    /// What is there could not be recorded.
    #[error(
        "what is in the share could not be recorded; the next connection compares it anew ({0})"
    )]
    Stale(String),
    /// An earlier failure was final.
    #[error("the share stopped after a failure and goes on when the server is started anew: {0}")]
    Failed(String),
}

impl ShareError {
    /// The code by which a client is told: what passes by itself (room on the disk) is to be tried again.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Stale(_) => "again",
            Self::Store(error) if !is_final(error) => "again",
            _ => "storage",
        }
    }

    pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

/// Whether nothing can be said of what is on the disk: only a sync that failed leaves that open, because the system
/// forgets what it could not write. After any other failure the disk can be compared with what is known.
fn is_final(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { action: "sync", .. })
}

/// Where a share and what belongs to it lie.
#[derive(Clone, Debug)]
pub struct Places {
    /// The share itself, a plain directory.
    pub share: PathBuf,
    /// What is known of it, its stage and its trash.
    pub beside: PathBuf,
}

/// An open share.
#[derive(Debug)]
pub struct Share {
    pub(super) root: Root,
    pub(super) stage: OwnedFd,
    pub(super) numbers: Numbers,
    pub(super) sets_owners: bool,
    path: PathBuf,
    state: Mutex<State>,
    /// Held by who syncs: a failure is told once, and nobody may take what comes after it for a success.
    syncing: Mutex<()>,
    changed: Condvar,
}

/// What is known of a share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) index: Index,
    pub(super) store: Store,
    pub(super) marks: Marks,
    pub(super) removals: VecDeque<(u64, Box<[u8]>)>,
    pub(super) trash: Trash,
    /// Large files that gave way to others that may not be on the disk yet.
    pub(super) replaced: Vec<Replaced>,
    /// Whether a thread syncs because of those.
    pub(super) is_settling: bool,
    /// When the last change was written into the log.
    pub(super) recorded_at: Instant,
    /// Bytes of all files.
    pub(super) bytes: u64,
    pub(super) failed: Option<String>,
    /// Why what is known in memory is not what the log says; the share has to be opened anew.
    pub(super) stale: Option<String>,
}

impl State {
    /// Whether the share takes changes.
    pub(super) fn check(&self) -> Result<(), ShareError> {
        match (&self.failed, &self.stale) {
            (Some(why), _) => Err(ShareError::Failed(why.clone())),
            (None, Some(why)) => Err(ShareError::Stale(why.clone())),
            (None, None) => Ok(()),
        }
    }

    /// What was known could not be recorded. Returns what is to be said of it.
    pub(super) fn note_failure(&mut self, error: StoreError) -> ShareError {
        let why = error.to_string();
        if is_final(&error) {
            tracing::error!(why, "the share takes nothing more");
            self.failed.get_or_insert(why);
        } else {
            tracing::warn!(why, "the share is opened anew for the next session");
            self.stale.get_or_insert(why);
        }
        ShareError::Store(error)
    }
}

impl Share {
    /// Opens a share, or makes it. What lies in its directory is compared with what is known of it, and what is not
    /// known is read; a stage that a crash left is emptied.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn open(places: &Places) -> Result<Self, ShareError> {
        let (stage, index) = (places.beside.join("stage"), places.beside.join("index"));
        for folder in [&places.share, &stage] {
            std::fs::create_dir_all(folder).map_err(ShareError::at(folder))?;
        }
        let opened =
            |path: &Path| Root::open(path).map_err(|error| ShareError::at(path)(error.into()));
        let (root, stage_root) = (opened(&places.share)?, opened(&stage)?);
        let device = |of: &Root| rustix::fs::fstat(of).map(|stat| stat.st_dev).ok();
        if device(&root) != device(&stage_root) {
            return Err(ShareError::Elsewhere(places.share.clone()));
        }
        let stage_dir = stage_root
            .dir(b"")
            .map_err(|error| ShareError::at(&stage)(error.into()))?;
        let in_stage = |error: Errno| ShareError::at(&stage)(error.into());
        // Only this server works in it.
        rustix::fs::fchmod(&stage_dir, Mode::RWXU).map_err(in_stage)?;
        let (store, loaded) = Store::open(&index)?;
        let is_same_boot = loaded.marks.boot == boot_id();
        replaced::after_a_crash((&root, &stage_dir), &loaded.index, &store, is_same_boot)
            .and_then(|()| empty(&stage_dir))
            .map_err(in_stage)?;
        if let Some(why) = loaded.was_torn {
            tracing::warn!(share = %places.share.display(), why, "what was known of the share was damaged");
        }
        let sets_owners = may_set_owners(&stage_dir);
        let share = Self {
            root,
            stage: stage_dir,
            numbers: Numbers::default(),
            sets_owners,
            path: places.share.clone(),
            state: Mutex::new(State {
                index: loaded.index,
                store,
                marks: loaded.marks,
                removals: loaded.removals,
                trash: Trash::open(&places.beside.join("trash"))?,
                replaced: Vec::new(),
                is_settling: false,
                recorded_at: Instant::now(),
                bytes: 0,
                failed: None,
                stale: None,
            }),
            syncing: Mutex::default(),
            changed: Condvar::new(),
        };
        recover::reconcile(&share)?;
        Ok(share)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps others from syncing.
    pub(super) fn lock_syncing(&self) -> MutexGuard<'_, ()> {
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change of the state until `is_over` says so.
    pub(super) fn wait_while<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        mut is_waiting: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.changed
            .wait_while(state, |state| is_waiting(state))
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who waits for a change.
    pub(super) fn wake(&self) {
        self.changed.notify_all();
    }

    /// Whether it can be used as it is: what is known of it is recorded, and its directory still is where it should
    /// be, and not removed or replaced.
    pub(super) fn is_current(&self) -> bool {
        self.lock().stale.is_none() && self.is_in_place()
    }

    /// It is opened anew elsewhere: who still has it writes nothing more.
    pub(super) fn retire(&self) {
        let why = || "it was opened anew".to_owned();
        self.lock().stale.get_or_insert_with(why);
    }

    fn is_in_place(&self) -> bool {
        let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let there = rustix::fs::lstat(&self.path).map(identity);
        there.is_ok() && there == rustix::fs::fstat(&self.root).map(identity)
    }

    /// The digest of the tree as it is known, and its entries.
    pub(super) fn digest(&self) -> ([u8; 32], u64) {
        let state = self.lock();
        (state.index.digest(), state.index.len() as u64)
    }

    /// The old content at a path, if it is there and what the client thinks it is.
    pub(super) fn base(&self, path: &[u8], content: &ContentId) -> Result<Base, Failure> {
        let no_base = |detail: &str| Failure::new(FailureCode::Base, detail);
        let state = self.lock();
        let node = state.index.find(path);
        let row = node.map(|node| *state.index.row(node));
        let row = row.filter(|row| row.meta.kind == Kind::File && row.content == *content);
        let row = row.ok_or_else(|| no_base("the server does not have that content there"))?;
        let recipe = row
            .recipe
            .ok_or_else(|| no_base("the old content is not in chunks"))?;
        let recipe = state.store.recipe(recipe);
        drop(state);
        let recipe = recipe.map_err(|error| no_base(&error.to_string()))?;
        let file = self.root.file(path)?;
        let stat = rustix::fs::fstat(&file)?;
        let is_it = of_stat(&stat)
            .is_some_and(|(meta, print, _)| print == row.print && meta.size == row.meta.size);
        if !is_it {
            return Err(no_base(
                "the file on the server was changed by somebody else",
            ));
        }
        Ok(Base::new(file, recipe))
    }

    /// Removes something from the stage that does not get into the share.
    pub(super) fn discard_staged(&self, number: u64) {
        // What cannot be removed now is removed when the share is opened again.
        let _ = remove_all(self.stage.as_fd(), stage_name(number).as_bytes());
    }

    /// Removes for good what has been in the trash long enough, on a thread that is there only for as long as that takes.
    /// May be called as often as one likes: the trash says when it is to be looked at.
    pub(super) fn tend_trash(self: &Arc<Self>, now_us: u64) {
        let Some(expired) = self.lock().trash.take_expired(now_us) else {
            return;
        };
        let share = self.clone();
        let thread = std::thread::Builder::new().name("pn-trash".into());
        let started = thread.spawn(move || {
            let removed = expired.remove();
            // One that was removed meanwhile may have been opened anew, with a trash that knows more.
            let written = match share.is_current() {
                true => share.lock().trash.rewrite(),
                false => Ok(()),
            };
            if let Err(error) = removed.and(written) {
                tracing::warn!(%error, share = %share.path.display(), "what is too old in the trash cannot be removed");
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "no thread to remove what is too old in a trash");
        }
    }

    /// Nothing more is taken: what was acknowledged may not be on the disk. Who opens it next reads again what is not
    /// durable, as after a crash of the machine: the system forgets what it could not write.
    pub(super) fn fail(&self, why: &str) {
        tracing::error!(why, "the share takes nothing more");
        let mut state = self.lock();
        state.failed.get_or_insert_with(|| why.to_owned());
        let marks = Marks {
            boot: [0; 16],
            ..state.marks.clone()
        };
        if let Err(error) = state.store.set_marks(&marks) {
            tracing::error!(%error, "that could not be recorded: verify the share when the disk is well again");
        }
        drop(state);
        self.wake();
    }

    /// The last change in the share, and the last durable one.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        let state = self.lock();
        (state.marks.seq, state.marks.durable_seq)
    }

    /// Entries, bytes of files, things in the trash, and what is wrong.
    #[must_use]
    pub fn figures(&self) -> (u64, u64, u64, Option<String>) {
        let state = self.lock();
        (
            state.index.len() as u64,
            state.bytes,
            state.trash.len() as u64,
            state.failed.clone().or_else(|| state.stale.clone()),
        )
    }
}

/// Removes everything in a directory.
fn empty(dir: &OwnedFd) -> Result<(), Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names
        .iter()
        .try_for_each(|name| remove_all(dir.as_fd(), name))
}

/// Whether this process may give files away: tried with a file, because neither the user nor a capability tells
/// it for every file system.
fn may_set_owners(stage: &OwnedFd) -> bool {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(stage, "owner", flags, Mode::RUSR) else {
        return false;
    };
    let given = rustix::fs::fchown(
        &file,
        Some(Uid::from_raw(65533)),
        Some(Gid::from_raw(65533)),
    );
    let _ = rustix::fs::unlinkat(stage, "owner", rustix::fs::AtFlags::empty());
    given.is_ok()
}
