//! Puts staged packs into the share, one change after the other, in the order of their numbers.
//!
//! Invariant: after each change the share is what the source was at some moment; the index has a change once the share has
//! it, and the log of the index is written before the change is acknowledged. What cannot be done changes nothing, is told,
//! and does not stop what comes after. Left to others: what the client does about it, syncing (`session`); each change
//! is in `placing` or `changing`.

mod changing;
mod placing;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pinnace_proto::sync::Durability;

use rustix::io::Errno;

use super::dress::{Dresser, print_of, times};
use super::recover::shown;
use super::share::{Share, ShareError, State};
use super::staged::{Act, Failure, FailureCode, Staged, StagedDir, What};
use crate::index::{Change, NodeId, StoreError};
use crate::meta::Kind;
use crate::path;

/// What came of a pack.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Changes that could not be made.
    pub(super) failures: Vec<(u64, Failure)>,
    /// Paths that changed, for those who listen; not all if there are many.
    pub(super) paths: Vec<String>,
    /// How many changes there were.
    pub(super) changes: u64,
}

/// Directories of a pack that are held open at a time.
const OPEN_MAX: usize = 128;
/// Time without a change after which the next one is not expected at once.
const QUIET: Duration = Duration::from_secs(1);
/// Paths of one event.
const PATHS_MAX: usize = 100;

/// Puts packs into the share.
pub(super) struct Committer<'a> {
    share: &'a Share,
    dresser: Dresser,
    durability: Durability,
    now_us: fn() -> u64,
}

/// One commit under way.
struct Commit<'a, 'b> {
    of: &'a Committer<'b>,
    state: &'a mut State,
    seq: u64,
    /// Directories of the pack that were opened, and how many they are.
    open: Vec<Option<(NodeId, OwnedFd)>>,
    open_count: usize,
    dirs: &'a [StagedDir],
    /// Nodes of the pack's changes so far.
    nodes: Vec<Option<NodeId>>,
    /// Directories whose entries changed, and with them their times, which they get back at the end.
    touched: BTreeSet<NodeId>,
    changes: Vec<Change>,
    outcome: &'a mut Outcome,
}

impl<'a> Committer<'a> {
    pub(super) fn new(share: &'a Share, durability: Durability, now_us: fn() -> u64) -> Self {
        Self {
            share,
            dresser: Dresser::new(share.sets_owners, durability),
            durability,
            now_us,
        }
    }

    /// Commits packs whose turn has come, in order.
    ///
    /// # Errors
    /// What ends the session: the share is gone, or what is in it now cannot be recorded.
    pub(super) fn commit(&self, packs: Vec<Staged>) -> Result<Outcome, ShareError> {
        let mut outcome = Outcome::default();
        let mut state = self.share.lock();
        state.check()?;
        if rustix::fs::fstat(&self.share.root).is_ok_and(|stat| stat.st_nlink == 0) {
            return Err(ShareError::Removed);
        }
        let (mut changes, mut touched) = (Vec::new(), BTreeSet::new());
        for pack in packs {
            let last_seq = pack.first_seq + pack.acts.len() as u64 - 1;
            let mut commit = Commit {
                of: self,
                state: &mut state,
                seq: pack.first_seq,
                open: pack.dirs.iter().map(|_| None).collect(),
                open_count: 0,
                dirs: &pack.dirs,
                nodes: Vec::with_capacity(pack.acts.len()),
                touched,
                changes,
                outcome: &mut outcome,
            };
            for act in pack.acts {
                commit.act(act);
            }
            (changes, touched) = (commit.changes, commit.touched);
            state.marks.seq = last_seq;
        }
        self.restore_times(&mut state, &touched, &mut changes);
        let recorded = record(&mut state, changes);
        recorded.map_err(|error| state.note_failure(error))?;
        Ok(outcome)
    }

    /// Gives directories back the times that their entries' changes took from them.
    fn restore_times(
        &self,
        state: &mut State,
        touched: &BTreeSet<NodeId>,
        changes: &mut Vec<Change>,
    ) {
        for node in touched {
            if !state.index.contains(*node) {
                continue;
            }
            let mut row = *state.index.row(*node);
            let known = row.print.inode;
            let restored = self
                .share
                .root
                .dir(&state.index.path(*node))
                .and_then(|fd| {
                    if print_of(&rustix::fs::fstat(&fd)?)?.inode != known {
                        return Err(Errno::STALE);
                    }
                    rustix::fs::futimens(&fd, &times(row.meta.mtime))?;
                    if self.durability == Durability::Strict {
                        rustix::fs::fsync(&fd)?;
                    }
                    print_of(&rustix::fs::fstat(&fd)?)
                });
            if let Ok(print) = restored {
                row.print = print;
                state.index.set_row(*node, row);
                changes.push(Change::Set { id: *node, row });
            }
        }
    }
}

/// Writes into the log what has changed, with the marks that go with it.
fn record(state: &mut State, mut changes: Vec<Change>) -> Result<(), StoreError> {
    changes.push(Change::Marks(state.marks.clone()));
    state.store.append(&changes)?;
    state.recorded_at = Instant::now();
    if state.store.needs_checkpoint() {
        checkpoint(state)?;
    }
    Ok(())
}

/// Writes a snapshot that is wanted, if no change came lately: others wait while it is written.
///
/// # Errors
/// A sync failed.
pub(super) fn checkpoint_if_quiet(share: &Share) -> Result<(), ShareError> {
    let mut state = share.lock();
    let is_quiet = state.recorded_at.elapsed() >= QUIET;
    if !is_quiet || !state.store.wants_checkpoint() || state.check().is_err() {
        return Ok(());
    }
    checkpoint(&mut state).map_err(|error| state.note_failure(error))
}

fn checkpoint(state: &mut State) -> Result<(), StoreError> {
    let (index, marks) = (&mut state.index, &state.marks);
    match state.store.checkpoint(index, marks, &state.removals) {
        Ok(()) => Ok(()),
        Err(error @ StoreError::Io { action: "sync", .. }) => Err(error),
        Err(error) => {
            // Without room for a shorter log the long one goes on, if it still can.
            tracing::warn!(%error, "a snapshot of what is known of a share cannot be written");
            state.store.set_marks(marks)
        }
    }
}

impl Commit<'_, '_> {
    fn act(&mut self, act: Act) {
        let (dir, name) = act.at;
        let done = match act.what {
            What::Placed(number, new) => self.placed(dir, &name, number, new),
            What::Inner(new) => self.inner(dir, &name, new),
            What::Meta(kind, wanted) => self.meta(dir, &name, kind, &wanted),
            What::Link(target) => self.link(dir, &name, &target),
            What::Rename(from) => self.rename(&from, dir, &name),
            What::Exchange(a, b) => self.exchange(&a, &b),
            What::Remove => self.remove(dir, &name),
            What::Failed(failure) => Err(failure),
        };
        match done {
            Ok(node) => {
                self.nodes.push(node);
                if self.outcome.paths.len() < PATHS_MAX {
                    let path = match node {
                        Some(node) => self.state.index.path(node),
                        None => self.dir_path(dir, &name),
                    };
                    self.outcome.paths.push(shown(&path));
                }
                self.outcome.changes += 1;
            }
            Err(failure) => {
                self.nodes.push(None);
                self.outcome.failures.push((self.seq, failure));
            }
        }
        self.seq += 1;
    }

    fn dir_path(&self, dir: usize, name: &[u8]) -> Vec<u8> {
        match self.open.get(dir) {
            Some(Some((node, _))) => path::join(&self.state.index.path(*node), name),
            _ => name.to_vec(),
        }
    }

    /// Opens a directory of the pack, if it is not open yet.
    fn dir(&mut self, dir: usize) -> Result<NodeId, Failure> {
        if let Some(Some((node, _))) = self.open.get(dir) {
            return Ok(*node);
        }
        let missing = || Failure::new(FailureCode::Missing, "the directory is not there");
        let index = &self.state.index;
        let node = match self.dirs.get(dir).ok_or_else(missing)? {
            StagedDir::Known(path) => index.find(path),
            StagedDir::New(act) => self.nodes.get(*act).copied().flatten(),
        };
        let node = node.filter(|node| index.row(*node).meta.kind == Kind::Directory);
        let node = node.ok_or_else(missing)?;
        let fd = self.of.share.root.dir(&index.path(node))?;
        if self.open_count >= OPEN_MAX {
            self.open.fill_with(|| None);
            self.open_count = 0;
        }
        self.open[dir] = Some((node, fd));
        self.open_count += 1;
        Ok(node)
    }

    /// Directories that go are directories of the pack no longer: what they were called may soon be something else.
    fn close_within(&mut self, gone: NodeId) {
        let index = &self.state.index;
        let is_within = |node: NodeId| {
            let mut at = Some(node);
            while let Some(node) = at.filter(|node| *node != gone) {
                at = index.parent(node);
            }
            at.is_some()
        };
        for slot in &mut self.open {
            if slot.as_ref().is_some_and(|(node, _)| is_within(*node)) {
                *slot = None;
                self.open_count -= 1;
            }
        }
        for dir in self.dirs {
            if let StagedDir::New(act) = dir
                && let Some(node) = self.nodes.get_mut(*act)
                && node.is_some_and(is_within)
            {
                *node = None;
            }
        }
    }

    fn fd(&self, dir: usize) -> Result<&OwnedFd, Failure> {
        match self.open.get(dir) {
            Some(Some((_, fd))) => Ok(fd),
            _ => Err(Failure::new(
                FailureCode::Missing,
                "the directory is not open",
            )),
        }
    }
}
