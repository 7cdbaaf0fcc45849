//! The list of data files a run has on disk, so that they can be removed whichever way it ends.
//!
//! Invariant: a name is listed before its file is made and struck off after it is removed; once the
//! ledger is closed no further file is made (a worker that hung past the end included), so closing
//! and removing leaves nothing behind.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The files of one run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<PathBuf>,
    closed: bool,
}

/// How a clean-up went.
#[derive(Debug, Default)]
pub(crate) struct CleanUp {
    pub(crate) removed: u64,
    pub(crate) left: Vec<(PathBuf, io::Error)>,
}

impl Ledger {
    /// Lists a file that is about to be made; false when the run is over and it must not be.
    pub(crate) fn add(&self, path: &Path) -> bool {
        let mut state = self.state();
        if !state.closed && !state.files.iter().any(|file| file == path) {
            state.files.push(path.to_owned());
        }
        !state.closed
    }

    /// To be called after a file was made: removes it if the run ended meanwhile, and says false.
    pub(crate) fn still_open(&self, path: &Path) -> bool {
        if self.state().closed {
            let _ = std::fs::remove_file(path);
            return false;
        }
        true
    }

    /// Removes one file during the run; one that is gone already is fine (the null engine makes
    /// none). One that cannot be removed stays listed.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        // Not under the lock: removing a large file takes a while.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.state().files.retain(|file| file != path);
        Ok(())
    }

    /// Closes the ledger and says which files are there.
    pub(crate) fn close(&self) -> Vec<PathBuf> {
        let mut state = self.state();
        state.closed = true;
        state.files.clone()
    }

    /// Closes the ledger and removes every file. A name whose file was never made counts as nothing.
    pub(crate) fn clean_up(&self) -> CleanUp {
        let mut outcome = CleanUp::default();
        for path in self.close() {
            match std::fs::remove_file(&path) {
                Ok(()) => outcome.removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    outcome.left.push((path, error));
                    continue;
                }
            }
            self.state().files.retain(|file| *file != path);
        }
        outcome
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what is left when dropped, for every way out of a run that is not its end.
#[derive(Debug)]
pub(crate) struct CleanUpOnDrop<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) keep: bool,
}

impl Drop for CleanUpOnDrop<'_> {
    fn drop(&mut self) {
        if !self.keep {
            self.ledger.clean_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_what_is_listed_and_admits_nothing_after() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::default();
        let paths: Vec<_> = ["a", "b", "never-made"].map(|n| dir.path().join(n)).into();
        for path in &paths {
            assert!(ledger.add(path) && ledger.add(path));
        }
        std::fs::write(&paths[0], "").unwrap();
        std::fs::write(&paths[1], "").unwrap();
        assert!(ledger.still_open(&paths[0]));
        ledger.remove(&paths[0]).unwrap();
        ledger.remove(&paths[0]).unwrap();
        assert!(ledger.remove(dir.path()).is_err());
        let outcome = ledger.clean_up();
        assert_eq!((outcome.removed, outcome.left.len()), (1, 0));
        let late = dir.path().join("late");
        assert!(!ledger.add(&late));
        std::fs::write(&late, "").unwrap();
        assert!(!ledger.still_open(&late));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_removed_is_told_and_the_guard_cleans_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::default();
        let (file, folder) = (dir.path().join("file"), dir.path().join("folder"));
        std::fs::create_dir(&folder).unwrap();
        ledger.add(&folder);
        assert_eq!(ledger.clean_up().left.len(), 1);
        let second = Ledger::default();
        second.add(&file);
        std::fs::write(&file, "").unwrap();
        drop(CleanUpOnDrop {
            ledger: &second,
            keep: true,
        });
        assert!(file.exists());
        drop(CleanUpOnDrop {
            ledger: &second,
            keep: false,
        });
        assert!(!file.exists());
    }
}
