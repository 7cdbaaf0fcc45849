//! What was deleted from a share, kept for a while.
//!
//! Each thing lies in the trash directory under its number; `items` beside it has a line of JSON for each.
//!
//! Invariant: what leaves the share goes here in one rename, whatever it is, also what the mirror has never written;
//! nothing in it is followed. Things that a crash left without their line get one when the trash is opened, so that
//! nothing stays for ever. Left to others: when it is looked at, and the clock.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pinnace_proto::sync::TrashItem;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::lift;
use super::share::ShareError;
use crate::archive::{PackError, pack};
use crate::fs::Root;

/// How long a deletion is kept.
pub const TRASH_KEPT: Duration = Duration::from_hours(7 * 24);
/// How often the trash of a share that is open is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// The trash of one share.
#[derive(Debug)]
pub(super) struct Trash {
    dir: Arc<OwnedFd>,
    folder: PathBuf,
    items: Vec<Kept>,
    next: u64,
    /// When it is to be looked at again.
    look_at_us: u64,
}

/// A line of `items`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    item: TrashItem,
    /// Its last name in hexadecimal digits, where the path shows it otherwise than it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Kept {
    /// The name that it had in its directory.
    fn last_name(&self) -> Vec<u8> {
        let shown = crate::path::split(self.item.path.as_bytes()).1;
        let digits = self.name.as_deref().and_then(super::unhex);
        digits.unwrap_or_else(|| shown.to_vec())
    }

    fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// Something in a trash, held where it lies.
#[derive(Debug)]
pub struct Thing {
    dir: OwnedFd,
    entry: Vec<u8>,
    name: Vec<u8>,
}

impl Thing {
    /// Writes it with all that is in it as an archive, under its last name.
    ///
    /// # Errors
    /// It cannot be read or written; what was written is then no whole archive.
    pub fn pack(&self, out: &mut dyn Write) -> Result<(), PackError> {
        pack(self.dir.as_fd(), &self.entry, &self.name, out)
    }
}

/// What is too old, and not listed any more.
pub(super) struct Expired {
    dir: Arc<OwnedFd>,
    ids: Vec<u64>,
}

impl Expired {
    /// Removes it for good. May take as long as there is something to remove.
    pub(super) fn remove(&self) -> Result<(), Errno> {
        let mut ids = self.ids.iter();
        ids.try_for_each(|id| remove_all(self.dir.as_fd(), name(*id).as_bytes()))
    }
}

impl Trash {
    /// Opens it, or makes it.
    pub(super) fn open(folder: &Path) -> Result<Self, ShareError> {
        std::fs::create_dir_all(folder.join("things")).map_err(ShareError::at(folder))?;
        let dir = open_dir(
            rustix::fs::CWD,
            folder.join("things").as_os_str().as_encoded_bytes(),
        )
        .map_err(|error| ShareError::at(folder)(error.into()))?;
        let mut items: Vec<Kept> = Vec::new();
        if let Ok(file) = File::open(folder.join("items")) {
            // A line that a crash cut in two speaks of a thing that can still be found by its number.
            let lines = BufReader::new(file).lines().map_while(Result::ok);
            items.extend(lines.filter_map(|line| serde_json::from_str(&line).ok()));
        }
        items.retain(|kept| crate::fs::stat_at(dir.as_fd(), name(kept.item.id).as_bytes()).is_ok());
        adopt(&dir, &mut items).map_err(|error| ShareError::at(folder)(error.into()))?;
        let next = items.iter().map(|kept| kept.item.id).max().unwrap_or(0) + 1;
        Ok(Self {
            dir: Arc::new(dir),
            folder: folder.to_owned(),
            items,
            next,
            look_at_us: 0,
        })
    }

    /// Takes what is at a place, with all that is in it.
    pub(super) fn take(
        &mut self,
        dir: BorrowedFd<'_>,
        entry: &[u8],
        mut item: TrashItem,
    ) -> Result<(), Errno> {
        item.id = self.next;
        let kept = name(item.id);
        let to = (self.dir.as_fd(), kept.as_bytes());
        lift::rename((dir, entry), to, RenameFlags::NOREPLACE)?;
        self.next += 1;
        let is_shown = crate::path::split(item.path.as_bytes()).1 == entry;
        let name = (!is_shown).then(|| super::hex(entry));
        let kept = Kept { item, name };
        self.note(&kept.line())?;
        self.items.push(kept);
        Ok(())
    }

    fn note(&self, line: &str) -> Result<(), Errno> {
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .append(true)
            .create(true)
            .open(self.folder.join("items"));
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// What is in it, the newest first.
    pub(super) fn items(&self) -> Vec<TrashItem> {
        self.items
            .iter()
            .rev()
            .map(|kept| kept.item.clone())
            .collect()
    }

    /// A thing, or what is at a path inside it, to be read without the share's lock; `None` if there is no such thing.
    pub(super) fn find(&self, id: u64, inside: &[u8]) -> Result<Option<Thing>, Errno> {
        let Some(kept) = self.items.iter().find(|kept| kept.item.id == id) else {
            return Ok(None);
        };
        if inside.is_empty() {
            let dir = rustix::io::dup(&*self.dir)?;
            return Ok(Some(Thing {
                dir,
                entry: name(id).into_bytes(),
                name: kept.last_name(),
            }));
        }
        let (above, last) = crate::path::split(inside);
        let found = open_dir(&*self.dir, name(id).as_bytes()).and_then(|thing| {
            let dir = Root::from(thing).dir(above)?;
            crate::fs::stat_at(dir.as_fd(), last).map(|_| dir)
        });
        match found {
            Ok(dir) => Ok(Some(Thing {
                dir,
                entry: last.to_vec(),
                name: last.to_vec(),
            })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Takes from the list what has been kept long enough; nothing if it was looked at in the last hour. What is left to do
    /// takes longer than anybody should hold the share.
    pub(super) fn take_expired(&mut self, now_us: u64) -> Option<Expired> {
        if now_us < self.look_at_us {
            return None;
        }
        self.look_at_us = now_us.saturating_add(LOOK_EVERY.as_micros() as u64);
        let before_us = now_us.saturating_sub(TRASH_KEPT.as_micros() as u64);
        let gone = self
            .items
            .extract_if(.., |kept| kept.item.removed_us < before_us);
        let ids: Vec<u64> = gone.map(|kept| kept.item.id).collect();
        let dir = self.dir.clone();
        (!ids.is_empty()).then_some(Expired { dir, ids })
    }

    /// Writes the list anew, without what was removed for good. Until then its lines speak of things that are not there,
    /// or are found to be too old once more.
    pub(super) fn rewrite(&self) -> Result<(), Errno> {
        let lines: String = self.items.iter().map(Kept::line).collect();
        let (new, old) = (self.folder.join("items.new"), self.folder.join("items"));
        std::fs::write(&new, lines)
            .and_then(|()| std::fs::rename(&new, &old))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

fn name(id: u64) -> String {
    format!("{id:x}")
}

/// Gives things without a line one of their own, and removes what is left of things that were being removed.
fn adopt(dir: &OwnedFd, items: &mut Vec<Kept>) -> Result<(), Errno> {
    let (mut unknown, mut halves) = (Vec::new(), Vec::new());
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let found = entry.file_name().to_bytes();
        let text = std::str::from_utf8(found).ok();
        match text.and_then(|text| u64::from_str_radix(text, 16).ok()) {
            Some(id) if items.iter().any(|kept| kept.item.id == id) => {}
            Some(id) => unknown.push(id),
            None if matches!(found, b"." | b"..") => {}
            None => halves.push(found.to_vec()),
        }
    }
    let mut halves = halves.iter();
    halves.try_for_each(|half| remove_all(dir.as_fd(), half))?;
    unknown.sort_unstable();
    for id in unknown {
        let stat = crate::fs::stat_at(dir.as_fd(), name(id).as_bytes())?;
        let item = TrashItem {
            id,
            path: format!("unknown-{id}"),
            kind: kind_of(&stat).to_owned(),
            // The rename that brought it here was the last that happened to it.
            removed_us: (stat.st_ctime.max(0) as u64) * 1_000_000,
            entries: 1,
        };
        items.push(Kept { item, name: None });
    }
    Ok(())
}

/// What a thing is, in a word.
pub(super) fn kind_of(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        _ => "file",
    }
}

fn open_dir(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Removes an entry for good, with all that is in it. However deep it is, two directories are open at a time: what is
/// deeper is lifted beside it first.
pub(crate) fn remove_all(dir: BorrowedFd<'_>, entry: &[u8]) -> Result<(), Errno> {
    let mut waiting = vec![entry.to_vec()];
    let mut lifted = 0u64;
    while let Some(name) = waiting.last().cloned() {
        match rustix::fs::unlinkat(dir, name.as_slice(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {
                waiting.pop();
                continue;
            }
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        let inside = match open_dir(dir, &name) {
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(dir, name.as_slice(), Mode::RWXU, AtFlags::empty())?;
                open_dir(dir, &name)?
            }
            opened => opened?,
        };
        let mut is_writable = false;
        for found in Dir::read_from(&inside)? {
            let found = found?;
            let found = found.file_name().to_bytes();
            if matches!(found, b"." | b"..") {
                continue;
            }
            if !is_writable {
                rustix::fs::fchmod(&inside, Mode::RWXU)?;
                is_writable = true;
            }
            match rustix::fs::unlinkat(&inside, found, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => {
                    let beside = [
                        &entry[..entry.len().min(64)],
                        format!(".{lifted:x}").as_bytes(),
                    ]
                    .concat();
                    lifted += 1;
                    let to = (dir, beside.as_slice());
                    lift::rename((inside.as_fd(), found), to, RenameFlags::empty())?;
                    waiting.push(beside);
                }
                Err(error) => return Err(error),
            }
        }
        match rustix::fs::unlinkat(dir, name.as_slice(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => waiting.retain(|waiting| *waiting != name),
            // Something came in meanwhile: once more.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_trees_go_with_two_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        let held = crate::fs::Root::open(folder.path()).unwrap();
        let mut dir = held.dir(b"").unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&dir, "d", Mode::RWXU).unwrap();
            dir = open_dir(&dir, b"d").unwrap();
            std::os::unix::fs::symlink("/", folder.path().join("l")).unwrap();
            rustix::fs::renameat(&held, "l", &dir, "l").unwrap();
        }
        remove_all(held.as_fd(), b"d").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_crash_left_without_a_line_is_listed_and_halves_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let things = folder.path().join("things");
        drop(Trash::open(folder.path()).unwrap());
        std::fs::create_dir_all(things.join("1f/d")).unwrap();
        std::fs::create_dir_all(things.join("7.0/d")).unwrap();
        std::fs::write(folder.path().join("items"), "{\"id\":31,\"pa").unwrap();
        let trash = Trash::open(folder.path()).unwrap();
        let items = trash.items();
        assert_eq!(items.len(), 1);
        assert_eq!(
            (items[0].id, items[0].path.as_str()),
            (0x1f, "unknown-31"),
            "{items:?}"
        );
        assert!(items[0].removed_us > 0);
        assert!(!things.join("7.0").exists());
        assert_eq!(trash.next, 0x20);
    }

    #[test]
    fn names_that_no_text_shows_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let held = Root::open(folder.path()).unwrap();
        let mut trash = Trash::open(folder.path()).unwrap();
        // As text it would be the escaped form of another name, or no text at all.
        for (path, entry) in [
            ("d/\\xff", &b"\xff"[..]),
            ("d/a", b"a"),
            ("\\xff/\\\\", b"\\"),
        ] {
            rustix::fs::mkdirat(&held, entry, Mode::RWXU).unwrap();
            let item = TrashItem {
                id: 0,
                path: path.to_owned(),
                kind: "directory".to_owned(),
                removed_us: 1,
                entries: 1,
            };
            trash.take(held.as_fd(), entry, item).unwrap();
        }
        let trash = Trash::open(folder.path()).unwrap();
        let names = [1, 2, 3].map(|id| trash.find(id, b"").unwrap().unwrap().name);
        assert_eq!(names, [&b"\xff"[..], b"a", b"\\"]);
        assert!(trash.find(4, b"").unwrap().is_none());
        assert!(trash.find(2, b"../1").unwrap_err() == Errno::XDEV);
    }
}
