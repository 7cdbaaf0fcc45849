//! For tests: a disk in memory that fails and crashes on command.
//!
//! Invariant: it keeps the promises listed in `docs/formats/log.md` under "What is assumed of the
//! disk", and no others: what a failed sync covered is never made durable by a later one, unsynced
//! writes survive a crash in part and out of order, names survive only once their directory is
//! synced. It is public so that crates built on the log can be tested on it.

mod change;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};
use change::{Change, Dice, FileState, NameChange};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An input/output error.
    Eio,
    /// No space left.
    Enospc,
    /// A write that takes only half of the bytes (at least one); other operations succeed.
    ShortWrite,
}

/// What becomes of unsynced changes in a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// All are lost.
    Nothing,
    /// All are kept, as when only the process dies.
    Everything,
    /// Each is kept, lost, or torn at any byte, as the seed decides.
    Random(u64),
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct TwinDisk(Arc<Mutex<Inner>>, Arc<Gate>);

/// Where syncs of files wait while they are held.
#[derive(Default)]
struct Gate {
    held: Mutex<bool>,
    opened: Condvar,
}

#[derive(Default)]
struct Inner {
    files: HashMap<u64, FileState>,
    next_file: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the directory was synced.
    name_changes: Vec<NameChange>,
    operations: u64,
    syncs: u64,
    /// Names that were removed, with the file each had.
    removed: Vec<(PathBuf, u64)>,
    fault: Option<(u64, Fault, bool)>,
    capacity_bytes: Option<u64>,
    no_allocate: bool,
    /// Parts of files that cannot be read.
    bad: Vec<(u64, std::ops::Range<usize>)>,
}

impl TwinDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> TwinDisk {
        TwinDisk::default()
    }

    /// The `n`-th operation from now (1 is the next) fails, and with `sticky` every later one.
    pub fn fail_nth(&self, n: u64, fault: Fault, sticky: bool) {
        let mut inner = self.lock();
        inner.fault = Some((inner.operations + n, fault, sticky));
    }

    /// Operations fail no more, and every part can be read.
    pub fn mend(&self) {
        let mut inner = self.lock();
        (inner.fault, inner.bad) = (None, Vec::new());
    }

    /// Makes every later sync of a file wait until `release_syncs`.
    pub fn hold_syncs(&self) {
        *self.1.held.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Lets the syncs go on.
    pub fn release_syncs(&self) {
        *self.1.held.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.1.opened.notify_all();
    }

    /// Limits the sum of all file lengths, in bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity_bytes = bytes;
    }

    /// Makes `allocate` answer `Unsupported`, as some file systems do.
    pub fn set_no_allocate(&self, yes: bool) {
        self.lock().no_allocate = yes;
    }

    /// Operations so far that could have failed.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Syncs of files and directories so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The files removed so far, in order, each with the bytes it had at that moment.
    #[must_use]
    pub fn removed(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let inner = self.lock();
        let bytes = |id| inner.files.get(id).map(|file| file.current.clone());
        let removed = inner.removed.iter();
        removed
            .filter_map(|(path, id)| Some((path.clone(), bytes(id)?)))
            .collect()
    }

    /// Sum of all file lengths, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Paths of all files.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    /// A file's bytes as a reader sees them.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.lock();
        let id = inner.names.get(path)?;
        Some(inner.files.get(id)?.current.clone())
    }

    /// Puts a file there, durably.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut inner = self.lock();
        let id = inner.add_file();
        inner.files.insert(id, FileState::durable(bytes));
        inner.names.insert(path.to_owned(), id);
        inner.durable_names.insert(path.to_owned(), id);
    }

    /// Flips a bit of a file, in the cache and on the medium.
    pub fn rot(&self, path: &Path, offset: usize) {
        let mut inner = self.lock();
        let Some(id) = inner.names.get(path).copied() else {
            return;
        };
        if let Some(file) = inner.files.get_mut(&id) {
            for bytes in [&mut file.current, &mut file.durable] {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte ^= 1;
                }
            }
        }
    }

    /// Makes a part of a file unreadable, as a bad sector is.
    pub fn spoil(&self, path: &Path, part: std::ops::Range<usize>) {
        let mut inner = self.lock();
        if let Some(id) = inner.names.get(path).copied() {
            inner.bad.push((id, part));
        }
    }

    /// A new disk as this one could be found after a crash now. This one is not changed.
    #[must_use]
    pub fn after_crash(&self, survival: Survival) -> TwinDisk {
        let inner = self.lock();
        let mut dice = Dice(match survival {
            Survival::Random(seed) => seed,
            _ => 0,
        });
        let mut names = inner.durable_names.clone();
        for change in &inner.name_changes {
            if survival.keeps(&mut dice) {
                change.apply(&mut names);
            }
        }
        let mut after = Inner {
            next_file: inner.next_file,
            ..Inner::default()
        };
        for (path, id) in names {
            let Some(file) = inner.files.get(&id) else {
                continue;
            };
            let bytes = file.after_crash(survival, &mut dice);
            after.files.insert(id, FileState::durable(bytes));
            after.names.insert(path.clone(), id);
            after.durable_names.insert(path, id);
        }
        TwinDisk(Arc::new(Mutex::new(after)), Arc::default())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add_file(&mut self) -> u64 {
        self.next_file += 1;
        self.files.insert(self.next_file, FileState::default());
        self.next_file
    }

    fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .filter_map(|id| self.files.get(id))
            .map(|file| file.current.len() as u64)
            .sum()
    }

    /// Counts an operation; true when it shall be a short write.
    fn step(&mut self) -> io::Result<bool> {
        self.operations += 1;
        match self.fault {
            Some((at, fault, sticky))
                if self.operations == at || (sticky && self.operations > at) =>
            {
                match fault {
                    Fault::Eio => Err(io::Error::other("input/output error (twin)")),
                    Fault::Enospc => Err(io::ErrorKind::StorageFull.into()),
                    Fault::ShortWrite => Ok(true),
                }
            }
            _ => Ok(false),
        }
    }

    fn file(&mut self, id: u64) -> io::Result<&mut FileState> {
        self.files
            .get_mut(&id)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Applies a change unless the disk is too small for it.
    fn change(&mut self, id: u64, change: Change) -> io::Result<()> {
        let grows = {
            let len = self.file(id)?.current.len();
            let end = match &change {
                Change::Write(offset, data) => offset + data.len(),
                Change::Resize(len) => *len,
            };
            end.saturating_sub(len) as u64
        };
        let room = self
            .capacity_bytes
            .map_or(u64::MAX, |max| max.saturating_sub(self.used_bytes()));
        if grows > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.file(id)?;
        change.apply(&mut file.current);
        file.changes.push(change);
        Ok(())
    }
}

impl Disk for TwinDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.lock().step().map(|_| ())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut inner = self.lock();
        inner.step()?;
        let in_dir = inner.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(in_dir
            .filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.step()?;
        if inner.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = inner.add_file();
        inner.names.insert(path.to_owned(), id);
        inner
            .name_changes
            .push(NameChange::Add(path.to_owned(), id));
        Ok(Arc::new(TwinFile {
            disk: self.clone(),
            id,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.step()?;
        let id = *inner.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(TwinFile {
            disk: self.clone(),
            id,
        }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.step()?;
        if !inner.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        change.apply(&mut inner.names);
        inner.name_changes.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.step()?;
        let id = inner.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        inner.removed.push((path.to_owned(), id));
        inner.name_changes.push(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.syncs += 1;
        inner.step()?;
        let (synced, left): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.name_changes)
            .into_iter()
            .partition(|change| {
                let (NameChange::Add(path, _)
                | NameChange::Remove(path)
                | NameChange::Rename(path, _)) = change;
                path.parent() == Some(dir)
            });
        inner.name_changes = left;
        for change in synced {
            change.apply(&mut inner.durable_names);
        }
        Ok(())
    }
}

struct TwinFile {
    disk: TwinDisk,
    id: u64,
}

impl DiskFile for TwinFile {
    fn len(&self) -> io::Result<u64> {
        let mut inner = self.disk.lock();
        inner.step()?;
        Ok(inner.file(self.id)?.current.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.lock();
        inner.step()?;
        let len = inner.file(self.id)?.current.len();
        let from = (offset as usize).min(len);
        let n = buffer.len().min(len - from);
        let is_bad = |(id, part): &(u64, std::ops::Range<usize>)| {
            *id == self.id && part.start < from + n && from < part.end
        };
        if inner.bad.iter().any(is_bad) {
            return Err(io::Error::other("input/output error (twin)"));
        }
        buffer[..n].copy_from_slice(&inner.file(self.id)?.current[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.lock();
        let short = inner.step()?;
        let mut n = if short {
            bytes.len().div_ceil(2)
        } else {
            bytes.len()
        };
        // As Linux does, a disk that fills up takes what fits and refuses the next write.
        if let Some(max) = inner.capacity_bytes {
            let room = max.saturating_sub(inner.used_bytes());
            let in_place = (inner.file(self.id)?.current.len() as u64).saturating_sub(offset);
            n = n.min((in_place + room) as usize);
            if n == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        inner.change(self.id, Change::Write(offset as usize, bytes[..n].to_vec()))?;
        Ok(n)
    }

    fn sync_data(&self) -> io::Result<()> {
        let gate = &self.disk.1;
        let held = gate.held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            gate.opened
                .wait_while(held, |held| *held)
                .unwrap_or_else(PoisonError::into_inner),
        );
        let mut inner = self.disk.lock();
        inner.syncs += 1;
        let outcome = inner.step();
        let file = inner.file(self.id)?;
        let changes = std::mem::take(&mut file.changes);
        if let Err(error) = outcome {
            // As Linux does: the pages are clean now, whatever the medium holds.
            file.doomed.extend(changes);
            return Err(error);
        }
        for change in changes {
            change.apply(&mut file.durable);
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.step()?;
        inner.change(self.id, Change::Resize(len as usize))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.step()?;
        if inner.no_allocate {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if inner.file(self.id)?.current.len() as u64 >= len {
            return Ok(());
        }
        inner.change(self.id, Change::Resize(len as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_synced_surely_survives() {
        let disk = TwinDisk::new();
        let (dir, path) = (Path::new("d"), Path::new("d/a"));
        let file = disk.create(path).unwrap();
        file.write_at(b"old", 0).unwrap();
        assert!(
            disk.after_crash(Survival::Nothing).paths().is_empty(),
            "the name was not synced"
        );
        disk.sync_dir(dir).unwrap();
        let crashed = disk.after_crash(Survival::Nothing);
        assert_eq!(
            crashed.contents(path).unwrap(),
            b"",
            "the bytes were not synced"
        );
        file.sync_data().unwrap();
        file.write_at(b"NEW", 0).unwrap();
        assert_eq!(
            disk.after_crash(Survival::Nothing).contents(path).unwrap(),
            b"old"
        );
        assert_eq!(
            disk.after_crash(Survival::Everything)
                .contents(path)
                .unwrap(),
            b"NEW"
        );
        let torn = (0..200).any(|seed| {
            let found = disk
                .after_crash(Survival::Random(seed))
                .contents(path)
                .unwrap();
            found != b"old" && found != b"NEW"
        });
        assert!(torn, "a random crash tears writes");
    }

    #[test]
    fn a_failed_sync_is_not_mended_by_the_next() {
        let disk = TwinDisk::new();
        let file = disk.create(Path::new("d/a")).unwrap();
        disk.sync_dir(Path::new("d")).unwrap();
        file.write_at(b"x", 0).unwrap();
        disk.fail_nth(1, Fault::Eio, false);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        let crashed = disk.after_crash(Survival::Nothing);
        assert_eq!(crashed.contents(Path::new("d/a")).unwrap(), b"");
    }
}
