//! Gives what was made its owner, mode, attributes and times, in the order in which none undoes another.
//!
//! Invariant: where the server may not set owners it leaves them alone and does not fail; the index has them all the
//! same. Left to others: making things.

use std::os::fd::{AsFd, BorrowedFd};

use pinnace_proto::sync::Durability;
use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::staged::Wanted;
use crate::fs::Attrs;
use crate::meta::{Fingerprint, Stamp, of_stat};
use crate::wire::WireError;

/// Decodes attributes. None at all is the usual case.
pub(super) fn decode_attrs(encoded: &[u8]) -> Result<Option<Attrs>, WireError> {
    (!encoded.is_empty())
        .then(|| Attrs::decode(encoded))
        .transpose()
}

/// Times to set: the access time stays as it is.
pub(super) fn times(mtime: Stamp) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs,
            tv_nsec: mtime.nanos.into(),
        },
    }
}

/// How things are dressed in this session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dresser {
    sets_owners: bool,
    syncs: bool,
    uid: u32,
    gid: u32,
}

impl Dresser {
    pub(super) fn new(sets_owners: bool, durability: Durability) -> Self {
        Self {
            sets_owners,
            syncs: durability == Durability::Strict,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    /// A new file, which has its content.
    pub(super) fn file(
        &self,
        file: impl AsFd,
        wanted: &Wanted,
        attrs: &Option<Attrs>,
    ) -> Result<Fingerprint, Errno> {
        // One that has just been made belongs to this process; most are to.
        if (wanted.uid, wanted.gid) != (self.uid, self.gid) {
            self.own(file.as_fd(), wanted)?;
        }
        if let Some(attrs) = attrs {
            attrs.write(&file)?;
        }
        self.finish(file.as_fd(), wanted)
    }

    /// A directory, new or old, once it has all its entries.
    pub(super) fn directory(
        &self,
        dir: BorrowedFd<'_>,
        wanted: &Wanted,
        attrs: &Option<Attrs>,
    ) -> Result<Fingerprint, Errno> {
        self.own(dir, wanted)?;
        if let Some(attrs) = attrs {
            attrs.write(dir)?;
        }
        self.finish(dir, wanted)
    }

    /// A file or directory that is there already.
    pub(super) fn again(
        &self,
        of: BorrowedFd<'_>,
        wanted: &Wanted,
        attrs: &Option<Attrs>,
    ) -> Result<Fingerprint, Errno> {
        self.own(of, wanted)?;
        let attrs = attrs.clone().unwrap_or_default();
        let has_all = attrs.write(of)?;
        let mode = Mode::from_raw_mode(rustix::fs::fstat(of)?.st_mode);
        // They are for who may write, and its owner may do that for a moment: the mode is set behind them.
        if !has_all
            && !mode.contains(Mode::WUSR)
            && rustix::fs::fchmod(of, mode | Mode::WUSR).is_ok()
        {
            attrs.write(of)?;
        }
        self.finish(of, wanted)
    }

    /// A symlink that is held itself, by `O_PATH`; it has no mode and no attributes of its own.
    pub(super) fn symlink(
        &self,
        held: BorrowedFd<'_>,
        wanted: &Wanted,
    ) -> Result<Fingerprint, Errno> {
        if self.sets_owners {
            let (uid, gid) = owner(wanted);
            rustix::fs::chownat(held, "", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        rustix::fs::utimensat(held, "", &times(wanted.mtime), AtFlags::EMPTY_PATH)?;
        print_of(&rustix::fs::fstat(held)?)
    }

    fn own(&self, of: BorrowedFd<'_>, wanted: &Wanted) -> Result<(), Errno> {
        if !self.sets_owners {
            return Ok(());
        }
        let (uid, gid) = owner(wanted);
        rustix::fs::fchown(of, uid, gid)
    }

    fn finish(&self, of: BorrowedFd<'_>, wanted: &Wanted) -> Result<Fingerprint, Errno> {
        rustix::fs::futimens(of, &times(wanted.mtime))?;
        let mut stat = rustix::fs::fstat(of)?;
        if stat.st_mode & 0o7777 != wanted.mode {
            rustix::fs::fchmod(of, Mode::from_raw_mode(wanted.mode))?;
            stat = rustix::fs::fstat(of)?;
        }
        if self.syncs {
            rustix::fs::fsync(of)?;
        }
        print_of(&stat)
    }
}

fn owner(wanted: &Wanted) -> (Option<Uid>, Option<Gid>) {
    // All ones would mean that the owner stays.
    let some = |id: u32| (id != u32::MAX).then_some(id);
    (
        some(wanted.uid).map(Uid::from_raw),
        some(wanted.gid).map(Gid::from_raw),
    )
}

pub(super) fn print_of(stat: &Stat) -> Result<Fingerprint, Errno> {
    of_stat(stat).map(|(_, print, _)| print).ok_or(Errno::INVAL)
}
