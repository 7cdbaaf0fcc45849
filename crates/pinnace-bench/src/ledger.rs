//! The list of data files a run has on disk, so that they can be removed whichever way it ends.
//!
//! Invariant: a name is listed before its file is made and struck off after it is removed; once the
//! ledger is closed no further file is made (a worker that hung past the end included), so closing
//! and removing leaves nothing behind.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pinnace_proto::event::StopReason;

use crate::limits::STUCK_GRACE_US;
use crate::stop::Stop;

/// Name of the threads that remove files.
pub(crate) const CLEANUP_THREAD: &str = "pn-cleanup";

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

/// Cleans up in a thread of its own and waits for it at most `limit`: removing from a file system
/// that is gone does not return. `None` when it has not come back; the thread goes on trying.
pub(crate) fn clean_up_within(ledger: &Arc<Ledger>, limit: Duration) -> Option<CleanUp> {
    let (tell, told) = channel();
    let spawned = thread::Builder::new()
        .name(CLEANUP_THREAD.to_owned())
        .spawn({
            let ledger = Arc::clone(ledger);
            move || tell.send(ledger.clean_up())
        });
    match spawned {
        Ok(_) => told.recv_timeout(limit).ok(),
        Err(_) => Some(ledger.clean_up()),
    }
}

/// Ends a run and removes its files when dropped: for the ways out that are not its end, such as a
/// panic of the caller's sink.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) ledger: Arc<Ledger>,
    /// Told to end what still writes.
    pub(crate) stop: Stop,
    pub(crate) keep_files: bool,
    /// False once the run has come to its own end.
    pub(crate) armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        self.stop.request(StopReason::Failed);
        if !self.keep_files {
            clean_up_within(&self.ledger, Duration::from_micros(STUCK_GRACE_US));
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
        let second = Arc::new(second);
        let leave = |keep_files, armed| {
            let (ledger, stop) = (Arc::clone(&second), Stop::new());
            drop(Guard {
                ledger,
                stop: stop.clone(),
                keep_files,
                armed,
            });
            stop.reason()
        };
        assert_eq!(leave(false, false), None);
        assert_eq!(leave(true, true), Some(StopReason::Failed));
        assert!(file.exists());
        assert_eq!(leave(false, true), Some(StopReason::Failed));
        assert!(!file.exists());
    }
}
