//! What was deleted from a share, kept for a while.
//!
//! Each thing lies in the trash directory under its number; `items` beside it has a line of JSON for each.
//!
//! Invariant: what leaves the share goes here in one rename, whatever it is, also what the mirror has never written;
//! nothing in it is followed. Left to others: when it is too old.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use pinnace_proto::sync::TrashItem;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::share::ShareError;

/// The trash of one share.
#[derive(Debug)]
pub(super) struct Trash {
    dir: OwnedFd,
    folder: PathBuf,
    items: Vec<TrashItem>,
    next: u64,
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
        let mut items: Vec<TrashItem> = Vec::new();
        if let Ok(file) = File::open(folder.join("items")) {
            // A line that a crash cut in two speaks of a thing that can still be found by its number.
            let lines = BufReader::new(file).lines().map_while(Result::ok);
            items.extend(lines.filter_map(|line| serde_json::from_str(&line).ok()));
        }
        items.retain(|item| crate::fs::stat_at(dir.as_fd(), name(item.id).as_bytes()).is_ok());
        let next = highest(&dir)?.max(items.iter().map(|item| item.id).max().unwrap_or(0)) + 1;
        Ok(Self {
            dir,
            folder: folder.to_owned(),
            items,
            next,
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
        rustix::fs::renameat_with(dir, entry, &self.dir, name(item.id), RenameFlags::NOREPLACE)?;
        self.next += 1;
        self.note(&item)?;
        self.items.push(item);
        Ok(())
    }

    fn note(&self, item: &TrashItem) -> Result<(), Errno> {
        let line = serde_json::to_string(item).unwrap_or_default() + "\n";
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
        self.items.iter().rev().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Removes for good what was deleted before a moment. Returns how many things went.
    pub(super) fn expire(&mut self, before_us: u64) -> Result<usize, Errno> {
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.items)
            .into_iter()
            .partition(|item| item.removed_us < before_us);
        self.items = kept;
        for item in &gone {
            remove_all(self.dir.as_fd(), name(item.id).as_bytes())?;
        }
        if !gone.is_empty() {
            let lines: String = self.items.iter().fold(String::new(), |lines, item| {
                lines + &serde_json::to_string(item).unwrap_or_default() + "\n"
            });
            let (new, old) = (self.folder.join("items.new"), self.folder.join("items"));
            std::fs::write(&new, lines)
                .and_then(|()| std::fs::rename(&new, &old))
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        Ok(gone.len())
    }
}

fn name(id: u64) -> String {
    format!("{id:x}")
}

/// The highest number of a thing.
fn highest(dir: &OwnedFd) -> Result<u64, ShareError> {
    let failed = |error: Errno| ShareError::at(Path::new("trash"))(error.into());
    let mut highest = 0;
    for entry in Dir::read_from(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let number = entry.file_name().to_str().ok();
        let number = number.and_then(|name| u64::from_str_radix(name, 16).ok());
        highest = highest.max(number.unwrap_or(0));
    }
    Ok(highest)
}

fn open_dir(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Removes an entry for good, with all that is in it. However deep it is, two directories are open at a time: what is
/// deeper is lifted beside it first.
pub(super) fn remove_all(dir: BorrowedFd<'_>, entry: &[u8]) -> Result<(), Errno> {
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
                    rustix::fs::renameat(&inside, found, dir, beside.as_slice())?;
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
}
