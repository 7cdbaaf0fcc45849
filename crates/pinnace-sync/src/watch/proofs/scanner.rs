//! A small scanner as an engine would have it: it watches, then lists, and believes what it saw. What it
//! believes has to become what there is.
//!
//! The rules that make it so: a path is looked at through the directories that were believed to lead to it, by
//! descriptor, and where they do not any more it waits for what will be told of them; after a rename both paths
//! are looked at again, and one into a directory that is not believed in is a deletion; a directory is listed anew
//! unless it is the one believed in, with the same watch.

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};

use super::*;

/// What is compared in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    inode: u64,
    mode: u32,
    size: i64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    known: Known,
    dir: Option<DirId>,
}

pub(super) struct Scanner {
    root: OwnedFd,
    entries: BTreeMap<Vec<u8>, Entry>,
    dirty: BTreeSet<Vec<u8>>,
    overflows: usize,
}

fn known(stat: &Stat) -> Known {
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Known {
        inode: stat.st_ino,
        mode: stat.st_mode,
        size: if is_dir { 0 } else { stat.st_size },
    }
}

fn open_dir(parent: &OwnedFd, name: &[u8]) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).ok()
}

fn names(dir: &OwnedFd) -> Vec<Vec<u8>> {
    let entries = Dir::read_from(dir).unwrap().map(Result::unwrap);
    let names = entries.map(|entry| entry.file_name().to_bytes().to_vec());
    names.filter(|name| name != b"." && name != b"..").collect()
}

/// The keys of what lies at or beneath a path.
fn within<'a>(keys: impl Iterator<Item = &'a Vec<u8>>, path: &[u8]) -> Vec<Vec<u8>> {
    keys.filter(|key| crate::path::is_within(key, path))
        .cloned()
        .collect()
}

impl Scanner {
    pub(super) fn new(bed: &Bed) -> Self {
        let mut scanner = Self {
            root: open(&bed.root()),
            entries: BTreeMap::new(),
            dirty: BTreeSet::new(),
            overflows: 0,
        };
        scanner.begin(&bed.watch);
        scanner
    }

    pub(super) fn overflows(&self) -> usize {
        self.overflows
    }

    fn begin(&mut self, watch: &Watch) {
        self.entries.clear();
        let root = Entry {
            known: known(&fstat(&self.root).unwrap()),
            dir: Some(watch.root()),
        };
        self.entries.insert(Vec::new(), root);
        let root = openat(&self.root, ".", OFlags::RDONLY, Mode::empty()).unwrap();
        for name in names(&root) {
            self.look(watch, &name);
        }
    }

    /// Takes a batch, and looks at what it says.
    pub(super) fn batch(&mut self, watch: &Watch, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Changed { path, .. } => {
                    self.dirty.insert(path);
                }
                Event::Renamed { from, to, .. } => self.renamed(&from, &to),
                Event::Overflow => {
                    self.overflows += 1;
                    self.begin(watch);
                }
                Event::RootGone => panic!("the root is there"),
                Event::Cookie(_) => {}
            }
        }
        for path in std::mem::take(&mut self.dirty) {
            self.look(watch, &path);
        }
    }

    fn renamed(&mut self, from: &[u8], to: &[u8]) {
        self.forget(to);
        if !self.is_dir(crate::path::split(to).0) {
            // It went into what is believed gone; whoever comes to know that directory lists it.
            self.forget(from);
            self.dirty.insert(from.to_vec());
            return;
        }
        for old in within(self.entries.keys(), from) {
            let new = [to, &old[from.len()..]].concat();
            let entry = self.entries.remove(&old).unwrap();
            self.entries.insert(new, entry);
        }
        for old in within(self.dirty.iter(), from) {
            self.dirty.remove(&old);
            self.dirty.insert([to, &old[from.len()..]].concat());
        }
        self.dirty.extend([from.to_vec(), to.to_vec()]);
    }

    fn is_dir(&self, path: &[u8]) -> bool {
        self.entries
            .get(path)
            .is_some_and(|entry| entry.dir.is_some())
    }

    fn forget(&mut self, path: &[u8]) {
        for path in within(self.entries.keys(), path) {
            self.entries.remove(&path);
        }
    }

    /// Compares a path with what is there.
    fn look(&mut self, watch: &Watch, path: &[u8]) {
        if path.is_empty() {
            let stat = fstat(&self.root).unwrap();
            self.entries.get_mut(path).unwrap().known = known(&stat);
            return;
        }
        let (above, name) = crate::path::split(path);
        let Some(Entry {
            dir: Some(parent), ..
        }) = self.entries.get(above).copied()
        else {
            // Whoever comes to know the directory lists it.
            return;
        };
        let Some(dir) = self.open_believed(above) else {
            self.dirty.insert(path.to_vec());
            return;
        };
        match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(_) => self.forget(path),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                if self.look_at_dir(watch, parent, &dir, path).is_none() {
                    self.dirty.insert(path.to_vec());
                }
            }
            Ok(stat) => {
                self.forget(path);
                let known = known(&stat);
                self.entries
                    .insert(path.to_vec(), Entry { known, dir: None });
            }
        }
    }

    fn look_at_dir(
        &mut self,
        watch: &Watch,
        parent: DirId,
        above: &OwnedFd,
        path: &[u8],
    ) -> Option<()> {
        let name = crate::path::split(path).1;
        let dir = open_dir(above, name)?;
        let id = watch.add(parent, name, dir.as_fd()).ok()?;
        let known = known(&fstat(&dir).unwrap());
        let before = self.entries.get(path).copied();
        let entry = Entry {
            known,
            dir: Some(id),
        };
        let is_same = before
            .is_some_and(|before| before.dir == Some(id) && before.known.inode == known.inode);
        if !is_same {
            self.forget(path);
        }
        self.entries.insert(path.to_vec(), entry);
        if !is_same {
            for name in names(&dir) {
                self.look(watch, &crate::path::join(path, &name));
            }
        }
        Some(())
    }

    /// Opens a directory by a way on which every directory is the one believed in.
    fn open_believed(&self, path: &[u8]) -> Option<OwnedFd> {
        let mut dir = openat(&self.root, ".", OFlags::RDONLY, Mode::empty()).unwrap();
        let mut so_far = Vec::new();
        for name in path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
        {
            so_far = crate::path::join(&so_far, name);
            dir = open_dir(&dir, name)?;
            let inode = fstat(&dir).unwrap().st_ino;
            if inode != self.entries.get(&so_far)?.known.inode {
                return None;
            }
        }
        Some(dir)
    }

    /// Looks at all that has happened so far, until nothing is left to wait for.
    pub(super) fn settle(&mut self, bed: &Bed) {
        for _ in 0..10 {
            let cookie = Event::Cookie(bed.watch.cookie().unwrap());
            let mut is_there = false;
            while !is_there {
                let batch = bed.events.recv_timeout(DEADLINE).unwrap();
                is_there = batch.contains(&cookie);
                self.batch(&bed.watch, batch);
            }
            if self.dirty.is_empty() {
                return;
            }
        }
        panic!("nothing was told of {:?}", self.dirty);
    }

    /// Takes what has come, without waiting.
    pub(super) fn peek(&mut self, bed: &Bed) {
        while let Ok(batch) = bed.events.try_recv() {
            self.batch(&bed.watch, batch);
        }
    }

    /// What is believed must be what is there.
    #[track_caller]
    pub(super) fn check(&self, bed: &Bed) {
        let mut real = BTreeMap::new();
        walk(&self.root, b"", &mut real);
        let believed: BTreeMap<_, _> = self
            .entries
            .iter()
            .filter(|(path, _)| !path.is_empty())
            .map(|(path, entry)| (path.clone(), entry.known))
            .collect();
        let show = |entries: BTreeMap<Vec<u8>, Known>| -> Vec<_> {
            entries
                .into_iter()
                .map(|(path, known)| (crate::path::show(&path).into_owned(), known))
                .collect()
        };
        assert_eq!(show(believed), show(real));
        for (path, entry) in &self.entries {
            let id = entry.dir;
            if id.is_some() {
                assert_eq!(bed.watch.dir_at(path), id, "{}", crate::path::show(path));
            }
        }
    }

    /// And no more than that is watched. Where several hands move directories while the scanner is ahead of the events,
    /// one that has left the tree may be watched for longer.
    #[track_caller]
    pub(super) fn check_watches(&self, bed: &Bed) {
        let dirs = self.entries.values().filter(|entry| entry.dir.is_some());
        assert_eq!(bed.watch.watched(), dirs.count());
    }
}

fn walk(dir: &OwnedFd, path: &[u8], found: &mut BTreeMap<Vec<u8>, Known>) {
    let dir = openat(dir, ".", OFlags::RDONLY, Mode::empty()).unwrap();
    for name in names(&dir) {
        let path = crate::path::join(path, &name);
        let stat = statat(&dir, &name[..], AtFlags::SYMLINK_NOFOLLOW).unwrap();
        found.insert(path.clone(), known(&stat));
        if let Some(dir) = open_dir(&dir, &name) {
            walk(&dir, &path, found);
        }
    }
}
