//! Unpacks an archive of one entry into a directory.
//!
//! Everything is made beneath a new directory there, and what is whole is renamed to its name, over nothing that exists.
//!
//! Invariant: whatever the archive says, nothing outside that new directory is touched before the rename; whatever
//! happens, that directory is gone afterwards. Left to others: where the archive comes from, and into which directory.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::head::{BLOCK, Head, What};
use super::{PIECE_BYTES, UNPACKING};
use crate::fs::{Root, stat_at};
use crate::ids::{hex, random};
use crate::path;
use crate::server::remove_all;

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Its name in the directory.
    pub name: Vec<u8>,
    /// Entries, itself included.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Whether all owners are as they were; only a superuser may give files away.
    pub has_owners: bool,
}

/// Why nothing was unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Something of that name is there already.
    #[error("`{0}` is there already")]
    Exists(String),
    /// The archive ends too early or is none.
    #[error("the archive broke off: {0}")]
    Archive(io::Error),
    /// The system refuses.
    #[error("{path}: {error}")]
    Write {
        /// What could not be made, for people.
        path: String,
        /// What the system says.
        error: io::Error,
    },
}

/// Unpacks an archive that holds one entry, with what is in it, into a directory.
///
/// # Errors
/// See [`UnpackError`]; the directory is then as it was.
pub fn unpack(from: &mut dyn Read, into: &Root) -> Result<Unpacked, UnpackError> {
    let first = read_head(from)?.ok_or_else(|| archive("it is empty"))?;
    path::check_name(&first.path).map_err(|_| archive("it begins with no name"))?;
    let name = first.path.clone();
    if !matches!(stat_at(into.as_fd(), &name), Err(Errno::NOENT)) {
        return Err(UnpackError::Exists(path::show(&name).into_owned()));
    }
    let beside = [UNPACKING, hex(&random()).as_bytes()].concat();
    let failed = failed_at(&name);
    rustix::fs::mkdirat(into, &beside[..], Mode::RWXU).map_err(&failed)?;
    let unpacked = unpack_beside(from, first, into, &beside);
    let unpacked = unpacked.and_then(|(dir, held, unpacked)| {
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&dir, &name[..], into, &name[..], flags) {
            Ok(()) => held.finish().map(|()| unpacked).map_err(&failed),
            Err(Errno::EXIST) => Err(UnpackError::Exists(path::show(&name).into_owned())),
            Err(error) => Err(failed(error)),
        }
    });
    match (remove_all(into.as_fd(), &beside), unpacked) {
        (Err(error), Ok(_)) => Err(failed_at(&beside)(error)),
        (_, unpacked) => unpacked,
    }
}

fn unpack_beside(
    from: &mut dyn Read,
    first: Head,
    into: &Root,
    beside: &[u8],
) -> Result<(Root, Held, Unpacked), UnpackError> {
    let dir = into.dir(beside).map_err(failed_at(beside))?;
    let mut unpacker = Unpacker {
        unpacked: Unpacked {
            name: first.path.clone(),
            entries: 0,
            bytes: 0,
            has_owners: true,
        },
        dir: Root::from(dir),
        dirs: Vec::new(),
        last: None,
        piece: vec![0; PIECE_BYTES],
    };
    let mut next = Some(first);
    while let Some(head) = next {
        unpacker.entry(&head, from)?;
        next = read_head(from)?;
    }
    // The second empty block, and the end of whatever brought them: one that was cut off says so only there.
    io::copy(from, &mut io::sink()).map_err(UnpackError::Archive)?;
    let held = unpacker.dress_dirs()?;
    Ok((unpacker.dir, held, unpacker.unpacked))
}

/// A directory that has to be writable until it was moved, because that changes its `..`, and the mode it gets then.
struct Held(Option<(OwnedFd, Mode)>);

impl Held {
    fn finish(&self) -> Result<(), Errno> {
        match &self.0 {
            Some((dir, mode)) => rustix::fs::fchmod(dir, *mode),
            None => Ok(()),
        }
    }
}

fn archive(what: &'static str) -> UnpackError {
    UnpackError::Archive(io::Error::new(io::ErrorKind::InvalidData, what))
}

fn failed_at(at: &[u8]) -> impl Fn(Errno) -> UnpackError {
    |error| UnpackError::Write {
        path: path::show(at).into_owned(),
        error: error.into(),
    }
}

fn read_head(from: &mut dyn Read) -> Result<Option<Head>, UnpackError> {
    Head::read(from).map_err(UnpackError::Archive)
}

struct Unpacker {
    unpacked: Unpacked,
    /// The new directory.
    dir: Root,
    /// Directories get their modes and times when all is in them.
    dirs: Vec<Head>,
    /// The directory that the last entry was made in: the next is mostly in it too.
    last: Option<(Vec<u8>, OwnedFd)>,
    piece: Vec<u8>,
}

impl Unpacker {
    fn entry(&mut self, head: &Head, from: &mut dyn Read) -> Result<(), UnpackError> {
        let failed = failed_at(&head.path);
        if !path::is_within(&head.path, &self.unpacked.name) {
            return Err(archive("it holds more than one thing"));
        }
        let (above, name) = path::split(&head.path);
        let (at, parent) = match self.last.take().filter(|(at, _)| at == above) {
            Some(last) => last,
            None => (above.to_vec(), self.dir.dir(above).map_err(&failed)?),
        };
        self.make(parent.as_fd(), name, head, from)?;
        self.last = Some((at, parent));
        self.unpacked.entries += 1;
        Ok(())
    }

    fn make(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        head: &Head,
        from: &mut dyn Read,
    ) -> Result<(), UnpackError> {
        let failed = failed_at(&head.path);
        match &head.what {
            What::Directory => {
                rustix::fs::mkdirat(dir, name, Mode::RWXU).map_err(failed)?;
                self.dirs.push(head.clone());
            }
            What::Symlink(target) => {
                rustix::fs::symlinkat(&target[..], dir, name).map_err(&failed)?;
                let (uid, gid) = owner(head);
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                self.owned(rustix::fs::chownat(dir, name, uid, gid, flags))
                    .map_err(&failed)?;
                rustix::fs::utimensat(dir, name, &times(head), flags).map_err(failed)?;
            }
            What::Link(target) => {
                if !path::is_within(target, &self.unpacked.name) {
                    return Err(archive("a further name is of something else"));
                }
                let (above, first) = path::split(target);
                let above = self.dir.dir(above).map_err(&failed)?;
                rustix::fs::linkat(above, first, dir, name, AtFlags::empty()).map_err(failed)?;
            }
            What::File(bytes) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR);
                let mut file = File::from(file.map_err(&failed)?);
                self.content(&mut file, *bytes, head, from)?;
                self.dress(file.as_fd(), head).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Writes a file's bytes. Pieces of nothing but zeros become holes.
    fn content(
        &mut self,
        file: &mut File,
        bytes: u64,
        head: &Head,
        from: &mut dyn Read,
    ) -> Result<(), UnpackError> {
        let failed = |error: io::Error| UnpackError::Write {
            path: path::show(&head.path).into_owned(),
            error,
        };
        let mut left = bytes;
        while left > 0 {
            let piece = &mut self.piece[..left.min(PIECE_BYTES as u64) as usize];
            from.read_exact(piece).map_err(UnpackError::Archive)?;
            if piece.iter().all(|byte| *byte == 0) {
                file.seek_relative(piece.len() as i64).map_err(failed)?;
            } else {
                file.write_all(piece).map_err(failed)?;
            }
            left -= piece.len() as u64;
        }
        file.set_len(bytes).map_err(failed)?;
        self.unpacked.bytes += bytes;
        let over = bytes.next_multiple_of(BLOCK as u64) - bytes;
        let over = &mut [0; BLOCK][..over as usize];
        from.read_exact(over).map_err(UnpackError::Archive)
    }

    fn dress_dirs(&mut self) -> Result<Held, UnpackError> {
        let mut outermost = None;
        // From the inside: one that may be entered by nobody comes after what is in it.
        while let Some(mut head) = self.dirs.pop() {
            let failed = failed_at(&head.path);
            let dir = self.dir.dir(&head.path).map_err(&failed)?;
            let mode = head.mode;
            if self.dirs.is_empty() {
                head.mode |= 0o200;
            }
            self.dress(dir.as_fd(), &head).map_err(failed)?;
            outermost = Some((dir, Mode::from_raw_mode(mode)));
        }
        Ok(Held(outermost))
    }

    /// Owners first, because they take bits from the mode; the mode after attributes, one of which it is in.
    fn dress(&mut self, of: BorrowedFd<'_>, head: &Head) -> Result<(), Errno> {
        let (uid, gid) = owner(head);
        self.owned(rustix::fs::fchown(of, uid, gid))?;
        head.attrs.write(of)?;
        rustix::fs::fchmod(of, Mode::from_raw_mode(head.mode))?;
        rustix::fs::futimens(of, &times(head))
    }

    /// Who may not give files away keeps them.
    fn owned(&mut self, given: Result<(), Errno>) -> Result<(), Errno> {
        match given {
            Err(Errno::PERM) => self.unpacked.has_owners = false,
            given => given?,
        }
        Ok(())
    }
}

fn owner(head: &Head) -> (Option<Uid>, Option<Gid>) {
    // All ones would mean that the owner stays.
    let some = |id: u32| (id != u32::MAX).then_some(id);
    (
        some(head.uid).map(Uid::from_raw),
        some(head.gid).map(Gid::from_raw),
    )
}

fn times(head: &Head) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: head.mtime.secs,
            tv_nsec: head.mtime.nanos.into(),
        },
    }
}
