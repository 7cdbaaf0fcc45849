//! Large files that gave way to new ones, kept until those are on the disk.
//!
//! ext4 writes a file back within the rename that puts it in the place of another one: of two gigabytes that is seconds
//! for whoever renames. An exchange of the two names takes none. But after a power cut the name may then stand for a
//! file whose bytes never got to the disk. So the old file stays in the stage until a sync was made, with a note beside it:
//! a symlink whose name is the stage number and the old file's inode, and whose target is the path that the two share. After
//! a crash of the machine an old file goes back to its path if what is there is not what is known of it.
//!
//! Invariant: at every moment the old content or the whole new one is on the disk. Left to others: when a sync is made
//! (`session::certainty`), and what is in the share after a crash (`recover`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use super::dress::print_of;
use super::lift;
use super::recover::{read_again, read_from_disk, shown};
use super::stage::stage_name;
use crate::fs::{Root, stat_at};
use crate::index::{Index, Store};
use crate::meta::{Fingerprint, Kind};
use crate::path;

/// Bytes from which on a file is worth it.
pub(super) const LARGE_BYTES: u64 = 4 << 20;
/// Old files that are kept at once.
pub(super) const REPLACED_MAX: usize = 64;

/// An old file in the stage.
#[derive(Debug)]
pub(super) struct Replaced {
    number: u64,
    inode: u64,
    /// To free what it holds takes a while: that is when this is dropped.
    _held: OwnedFd,
}

impl Replaced {
    /// Exchanges what is in the stage under a number with a file that is known to be at a place. `None` if that cannot be done,
    /// or if another file than the known one is there; then nothing has changed.
    pub(super) fn by_exchange(
        stage: BorrowedFd<'_>,
        number: u64,
        (dir, name, path): (BorrowedFd<'_>, &[u8], &[u8]),
        known: &Fingerprint,
    ) -> Option<Self> {
        let held = lift::hold(dir, name).ok()?;
        // By more than its inode, whose number may be another's by now. Once it is held it is its own.
        let there = print_of(&rustix::fs::fstat(&held).ok()?).ok()?;
        let inode = there.inode;
        if there != *known {
            return None;
        }
        let replaced = Self {
            number,
            inode,
            _held: held,
        };
        rustix::fs::symlinkat(path, stage, replaced.note()).ok()?;
        let staged = stage_name(number);
        let exchange = || {
            lift::rename(
                (stage, staged.as_bytes()),
                (dir, name),
                RenameFlags::EXCHANGE,
            )
        };
        let is_it = exchange().and_then(|()| {
            let came_out = stat_at(stage, staged.as_bytes())?.st_ino;
            // Somebody has put another one there in this moment.
            match came_out == inode {
                true => Ok(()),
                false => exchange().and(Err(Errno::STALE)),
            }
        });
        if is_it.is_err() {
            let _ = rustix::fs::unlinkat(stage, replaced.note(), AtFlags::empty());
            return None;
        }
        Some(replaced)
    }

    fn note(&self) -> String {
        note_name(self.number, self.inode)
    }

    /// What took its place is on the disk.
    pub(super) fn let_go(&self, stage: BorrowedFd<'_>) {
        // What cannot be removed now is removed when the share is opened again.
        let _ = rustix::fs::unlinkat(stage, stage_name(self.number), AtFlags::empty());
        let _ = rustix::fs::unlinkat(stage, self.note(), AtFlags::empty());
    }
}

/// Before what a crash left in a stage is removed: if it was the machine's, puts old files back where what took their
/// place did not get to the disk whole.
///
/// # Errors
/// What the system says. Then the old files are still there.
pub(super) fn after_a_crash(
    (root, stage): (&Root, &OwnedFd),
    index: &Index,
    store: &Store,
    is_same_boot: bool,
) -> Result<(), Errno> {
    let mut notes = Vec::new();
    for entry in rustix::fs::Dir::read_from(stage)? {
        let entry = entry?;
        let name = entry.file_name().to_str().ok();
        notes.extend(name.and_then(read_note));
    }
    match (notes.is_empty(), is_same_boot) {
        (true, _) => Ok(()),
        // What was written is all there, and as safe as it can be once it is synced.
        (false, true) => rustix::fs::syncfs(stage),
        (false, false) => put_back((root, stage.as_fd()), index, store, notes),
    }
}

fn put_back(
    (root, stage): (&Root, BorrowedFd<'_>),
    index: &Index,
    store: &Store,
    mut notes: Vec<(u64, u64)>,
) -> Result<(), Errno> {
    // Of several at one path only the first one was on the disk for sure: it goes back last.
    notes.sort_unstable_by(|a, b| b.cmp(a));
    for (number, inode) in notes {
        let (staged, note) = (stage_name(number), note_name(number, inode));
        let is_old = stat_at(stage, staged.as_bytes()).is_ok_and(|stat| stat.st_ino == inode);
        let path = rustix::fs::readlinkat(stage, note, Vec::new());
        let Ok(path) = path.map(std::ffi::CString::into_bytes) else {
            continue;
        };
        if !is_old || is_right(root, index, store, &path) {
            continue;
        }
        let (parent, name) = path::split(&path);
        let dir = root.dir(parent)?;
        let old = (stage, staged.as_bytes());
        match lift::rename(old, (dir.as_fd(), name), RenameFlags::empty()) {
            // Somebody has made a directory there.
            Err(Errno::ISDIR) => continue,
            put_back => put_back?,
        }
        tracing::warn!(path = %shown(&path), "a crash cut a large file off; the one before it is there again");
    }
    Ok(())
}

fn note_name(number: u64, inode: u64) -> String {
    format!("{}.{inode:x}", stage_name(number))
}

/// The stage number and the inode that a note's name says.
fn read_note(name: &str) -> Option<(u64, u64)> {
    let (number, inode) = name.split_once('.')?;
    let read = |digits| u64::from_str_radix(digits, 16).ok();
    Some((read(number)?, read(inode)?))
}

/// Whether nothing is to be put back at a path: the file that is known to be there is, or none is known there any more.
fn is_right(root: &Root, index: &Index, store: &Store, path: &[u8]) -> bool {
    let node = index.find(path);
    let row = node.map(|node| *index.row(node));
    let Some(row) = row.filter(|row| row.meta.kind == Kind::File) else {
        return true;
    };
    let (parent, name) = path::split(path);
    let Ok(dir) = root.dir(parent) else {
        // Its directory did not get to the disk, or has gone.
        return true;
    };
    let there = stat_at(dir.as_fd(), name);
    let is_file = there.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    if !is_file {
        return false;
    }
    read_from_disk(dir.as_fd(), name);
    let mut meta = row.meta;
    let recipe = row.recipe.map(|recipe| store.recipe(recipe).ok());
    read_again(dir.as_fd(), name, &mut meta, recipe).is_ok_and(|content| content == row.content)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::server::recover::{Reading, Walk};
    use crate::server::{Places, Share};

    /// A share with one file, which has given way to others; everything is known as it is now.
    struct Given {
        folder: tempfile::TempDir,
        share: Share,
    }

    impl Given {
        fn new(old: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join("share/d")).unwrap();
            std::fs::write(folder.path().join("share/d/f"), old).unwrap();
            let places = Places {
                share: folder.path().join("share"),
                beside: folder.path().join("beside"),
            };
            let share = Share::open(&places).unwrap();
            Self { folder, share }
        }

        fn at(&self, path: &str) -> std::path::PathBuf {
            self.folder.path().join(path)
        }

        /// Exchanges the file with a new one; says whether that was done.
        fn exchange(&self, number: u64, new: &str, known: Option<Fingerprint>) -> bool {
            std::fs::write(self.at("beside/stage").join(stage_name(number)), new).unwrap();
            let dir = self.share.root.dir(b"d").unwrap();
            let there = print_of(&stat_at(dir.as_fd(), b"f").unwrap()).unwrap();
            let at = (dir.as_fd(), &b"f"[..], &b"d/f"[..]);
            let replaced = Replaced::by_exchange(
                self.share.stage.as_fd(),
                number,
                at,
                &known.unwrap_or(there),
            );
            Walk::new(&self.share, Reading::Unknown).run().unwrap();
            replaced.is_some()
        }

        fn recover(&self, is_same_boot: bool) -> Result<(), Errno> {
            let state = self.share.lock();
            let places = (&self.share.root, &self.share.stage);
            after_a_crash(places, &state.index, &state.store, is_same_boot)
        }

        fn read(&self) -> String {
            std::fs::read_to_string(self.at("share/d/f")).unwrap()
        }
    }

    fn lose(at: &Path) {
        std::fs::write(at, "").unwrap();
    }

    #[test]
    fn what_got_to_the_disk_stays_and_what_did_not_gives_way_to_what_was_there() {
        let given = Given::new("old");
        assert!(given.exchange(0, "new", None));
        assert_eq!(given.read(), "new");
        given.recover(false).unwrap();
        assert_eq!(given.read(), "new");
        lose(&given.at("share/d/f"));
        // A crash of the server alone loses nothing: what is there, somebody has written.
        given.recover(true).unwrap();
        assert_eq!(given.read(), "");
        given.recover(false).unwrap();
        assert_eq!(given.read(), "old");
    }

    #[test]
    fn a_name_that_was_not_written_is_there_again() {
        let given = Given::new("old");
        assert!(given.exchange(0, "new", None));
        std::fs::remove_file(given.at("share/d/f")).unwrap();
        given.recover(false).unwrap();
        assert_eq!(given.read(), "old");
    }

    #[test]
    fn of_several_old_files_the_first_comes_back() {
        let given = Given::new("first");
        for number in 0..20 {
            assert!(given.exchange(number, &format!("{number}"), None));
        }
        for number in 1..20 {
            lose(&given.at("beside/stage").join(stage_name(number)));
        }
        lose(&given.at("share/d/f"));
        given.recover(false).unwrap();
        assert_eq!(given.read(), "first");
    }

    #[test]
    fn what_is_not_the_old_file_is_not_put_anywhere() {
        let given = Given::new("old");
        assert!(given.exchange(0, "new", None));
        lose(&given.at("share/d/f"));
        // The exchange was not written, only the note of it.
        let staged = given.at("beside/stage").join(stage_name(0));
        std::fs::rename(&staged, given.at("elsewhere")).unwrap();
        std::fs::write(&staged, "staged").unwrap();
        given.recover(false).unwrap();
        assert_eq!(given.read(), "");
        std::fs::rename(given.at("elsewhere"), &staged).unwrap();
        // No file is known at its place any more.
        let mut state = given.share.lock();
        let node = state.index.find(b"d/f").unwrap();
        state.index.remove(node);
        drop(state);
        given.recover(false).unwrap();
        assert_eq!(given.read(), "");
    }

    #[test]
    fn a_directory_that_somebody_put_there_stays() {
        let given = Given::new("old");
        assert!(given.exchange(0, "new", None));
        std::fs::remove_file(given.at("share/d/f")).unwrap();
        std::fs::create_dir(given.at("share/d/f")).unwrap();
        given.recover(false).unwrap();
        assert!(given.at("share/d/f").is_dir());
    }

    #[test]
    fn another_file_than_the_known_one_is_not_exchanged() {
        let given = Given::new("old");
        assert!(!given.exchange(0, "new", Some(Fingerprint::UNKNOWN)));
        assert_eq!(given.read(), "old");
        let mut left = std::fs::read_dir(given.at("beside/stage")).unwrap();
        assert_eq!(left.next().unwrap().unwrap().file_name(), "0");
        assert!(left.next().is_none());
    }
}
