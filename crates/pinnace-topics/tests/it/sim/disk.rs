//! The twin disk with a gate in front of its syncs, and a word when the log has nothing more to do.
//!
//! Invariant: while the gate is shut the log's thread stands at a sync or sleeps, and the simulation knows
//! which. So what a crash finds on the disk depends on the seed alone, although the log has a thread.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use pinnace_log::twin::TwinDisk;
use pinnace_log::{Disk, DiskFile};

/// Bytes of the marker that the log writes when nothing waits; no record of a broker is so small.
const MARKER_BYTES: usize = 24;

#[derive(Default)]
struct State {
    shut: bool,
    /// The log's thread stands at the gate.
    waiting: bool,
    /// The log has nothing to do.
    idle: bool,
}

#[derive(Default)]
struct Gate(Mutex<State>, Condvar);

impl Gate {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
        self.1.notify_all();
    }

    /// Waits for the log's thread, or gives up on a log that hangs.
    fn wait(&self, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let limit = Duration::from_secs(120);
        let state = self.0.lock().unwrap();
        let (state, timeout) = self
            .1
            .wait_timeout_while(state, limit, |state| !until(state))
            .unwrap();
        assert!(!timeout.timed_out(), "the log hangs");
        state
    }
}

/// Clones are the same disk.
#[derive(Clone)]
pub(super) struct GatedDisk {
    pub(super) twin: TwinDisk,
    gate: Arc<Gate>,
}

impl GatedDisk {
    /// With an open gate.
    pub(super) fn new(twin: TwinDisk) -> GatedDisk {
        GatedDisk {
            twin,
            gate: Arc::default(),
        }
    }

    pub(super) fn shut(&self) {
        self.gate.change(|state| state.shut = true);
    }

    pub(super) fn open(&self) {
        self.gate.change(|state| state.shut = false);
    }

    /// Waits until the log's thread has written what it was given and stands at the gate.
    pub(super) fn wait_for_sync(&self) {
        drop(self.gate.wait(|state| state.waiting));
    }

    /// Lets the log's thread through, until it has nothing more to do.
    pub(super) fn sync(&self) {
        self.gate
            .change(|state| (state.shut, state.idle) = (false, false));
        self.gate.wait(|state| state.idle).shut = true;
    }
}

impl Disk for GatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.twin.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.twin.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.gated(self.twin.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.gated(Disk::open(&self.twin, path)?))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.twin.open_to_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.twin.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.twin.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.twin.sync_dir(dir)
    }
}

impl GatedDisk {
    fn gated(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let gate = Arc::clone(&self.gate);
        Arc::new(GatedFile { file, gate })
    }
}

struct GatedFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl DiskFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let written = self.file.write_at(bytes, offset);
        self.gate
            .change(|state| state.idle = bytes.len() == MARKER_BYTES);
        written
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.change(|state| state.waiting = true);
        self.gate.wait(|state| !state.shut).waiting = false;
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
}
