//! A tree, held by a descriptor of its root.
//!
//! Invariant: everything is opened with `openat2` beneath the root and without symlinks, in one system call, so
//! that there is no moment between a check and its use. Left to others: who may open what.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// How often a path is tried that changes while the kernel walks it.
const TRIES: usize = 64;

/// An open tree.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens the directory at a path of this host, which its owner chose.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map(Self)
    }

    /// The directory at a path inside the tree; empty for the root.
    ///
    /// # Errors
    /// What the system says; [`Errno::LOOP`] or [`Errno::NOTDIR`] if something in it is a symlink.
    pub fn dir(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        open_beneath(self.0.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a file inside the tree for reading.
    ///
    /// # Errors
    /// What the system says.
    pub fn file(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        open_beneath(
            self.0.as_fd(),
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOATIME,
        )
        .or_else(|error| match error {
            // Only the owner may leave the access time alone.
            Errno::PERM => open_beneath(self.0.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK),
            error => Err(error),
        })
    }

    /// What is at a path inside the tree.
    ///
    /// # Errors
    /// What the system says.
    pub fn stat(&self, path: &[u8]) -> Result<Stat, Errno> {
        if path.is_empty() {
            return rustix::fs::fstat(&self.0);
        }
        let (dir, name) = crate::path::split(path);
        if dir.is_empty() {
            return stat_at(self.0.as_fd(), name);
        }
        stat_at(self.dir(dir)?.as_fd(), name)
    }
}

impl From<OwnedFd> for Root {
    /// The tree of a directory that is open.
    fn from(dir: OwnedFd) -> Self {
        Self(dir)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open_beneath(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
            // Something was renamed while the path was walked.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens the file `name` in a held directory for reading, without waiting for anything and without following it.
///
/// # Errors
/// What the system says; [`Errno::LOOP`] if it is a symlink.
pub fn open_file(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(dir, name, flags, Mode::empty()),
        result => result,
    }
}

/// What `name` in a held directory is; a symlink is what it is itself.
///
/// # Errors
/// What the system says.
pub fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// What an open file is.
///
/// # Errors
/// What the system says.
pub fn stat_of(file: impl AsFd) -> Result<Stat, Errno> {
    rustix::fs::fstat(file)
}

/// Appends `bytes` bytes of a file from an offset, or fewer where it ends earlier.
///
/// # Errors
/// What the system says.
pub fn read_exactly(
    file: impl AsFd,
    offset: u64,
    bytes: usize,
    into: &mut Vec<u8>,
) -> Result<(), Errno> {
    let (begin, end) = (into.len(), into.len() + bytes);
    into.reserve(bytes);
    while into.len() < end {
        let offset = offset + (into.len() - begin) as u64;
        let wanted = end - into.len();
        // The vector may have more room than is wanted; what is read too much goes.
        match rustix::io::pread(&file, rustix::buffer::spare_capacity(into), offset) {
            Ok(0) => break,
            Ok(count) if count > wanted => into.truncate(end),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
