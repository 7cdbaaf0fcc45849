//! Renames in directories that nobody may write, not even their owner.
//!
//! Who is root never notices. Anybody else may neither add to a directory without the right to write nor take from it, even
//! if it is their own, nor move it to another one. But its owner may set its mode: the right is there for the moment of the
//! rename.
//!
//! Invariant: nobody but the owner gets more than they had, and every mode is put back, also after a failure. What a crash
//! leaves is found like what others change.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Renames like the system call of that name, in directories that are held.
pub(super) fn rename(
    (from, name): (BorrowedFd<'_>, &[u8]),
    (to, new_name): (BorrowedFd<'_>, &[u8]),
    flags: RenameFlags,
) -> Result<(), Errno> {
    let rename = || rustix::fs::renameat_with(from, name, to, new_name, flags);
    let refused = match rename() {
        Err(Errno::ACCESS) => Err(Errno::ACCESS),
        done => return done,
    };
    // A directory that moves has to be written to itself: it says what it lies in.
    let moved = hold(from, name)?;
    let other = match flags.contains(RenameFlags::EXCHANGE) {
        true => Some(hold(to, new_name)?),
        false => None,
    };
    let dirs = [
        Some(from),
        Some(to),
        Some(moved.as_fd()),
        other.as_ref().map(AsFd::as_fd),
    ];
    let mut lifted = Vec::new();
    for dir in dirs.into_iter().flatten() {
        if let Ok(Some(mode)) = lift(dir) {
            lifted.push((dir, mode));
        }
    }
    let renamed = if lifted.is_empty() { refused } else { rename() };
    let mut put_back = Ok(());
    for (dir, mode) in lifted.into_iter().rev() {
        put_back = put_back.and(set_mode(dir, mode));
    }
    renamed.and(put_back)
}

/// Gives a directory's owner all rights in it. Returns the mode that it had, if it was another.
fn lift(dir: BorrowedFd<'_>) -> Result<Option<Mode>, Errno> {
    let stat = rustix::fs::fstat(dir)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if !FileType::from_raw_mode(stat.st_mode).is_dir() || mode.contains(Mode::RWXU) {
        return Ok(None);
    }
    set_mode(dir, mode | Mode::RWXU)?;
    Ok(Some(mode))
}

/// Sets the mode of what is held, also of what cannot be opened.
fn set_mode(held: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
    rustix::fs::chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), mode)
}

/// Holds an entry, whatever it is, without opening it.
pub(super) fn hold(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}
