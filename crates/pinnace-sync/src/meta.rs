//! What there is to know of one entry of a tree: what is mirrored of it, and what only this host knows.
//!
//! Invariant: [`Meta`] means the same on both hosts; a [`Fingerprint`] means something only on the host that
//! took it. Left to others: reading them from a file system, storing and sending them.

use rustix::fs::{FileType, Stat};

/// A moment as the file system has it: seconds since 1970, which may be negative, and nanoseconds after that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Whole seconds, rounded down.
    pub secs: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What kinds of entries are mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link, mirrored as it is and never followed.
    Symlink = 3,
}

impl Kind {
    /// The kind of this number, as it is stored and sent.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::File, Self::Directory, Self::Symlink]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    /// The kind of a type of file; `None` for devices, sockets and FIFOs, which are not mirrored.
    #[must_use]
    pub fn from_file_type(file_type: FileType) -> Option<Self> {
        match file_type {
            FileType::RegularFile => Some(Self::File),
            FileType::Directory => Some(Self::Directory),
            FileType::Symlink => Some(Self::Symlink),
            _ => None,
        }
    }
}

/// What is mirrored of an entry besides its name and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: at most `0o7777`. Of a symlink `0o777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When the content last changed.
    pub mtime: Stamp,
    /// Bytes of a file's content or of a symlink's target; 0 for a directory.
    pub size: u64,
    /// A digest of the extended attributes ([`crate::meta::ATTRS_NONE`] when there are none).
    pub attrs: u64,
}

/// The digest of no extended attributes.
pub const ATTRS_NONE: u64 = 0;

/// What tells, on one host, whether an entry is still what it was: the inode, and when that last changed in any way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Number of the inode; 0 means that nothing is known.
    pub inode: u64,
    /// When the inode last changed.
    pub ctime: Stamp,
}

impl Fingerprint {
    /// Nothing is known: equal to no entry there is.
    pub const UNKNOWN: Self = Self {
        inode: 0,
        ctime: Stamp { secs: 0, nanos: 0 },
    };
}

/// Identifies content. Of a file that is stored whole, the BLAKE3 of its bytes; of one in chunks, that of its
/// recipe ([`crate::chunk`]); of a symlink, the BLAKE3 of its target; of a directory, zeros.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ContentId(pub [u8; 32]);

impl std::fmt::Debug for ContentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in &self.0[..8] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…")
    }
}

/// Meta and fingerprint of an entry, and how many names it has; `None` for what is not mirrored. Attributes are
/// not in a stat: they come out as none.
#[must_use]
pub fn of_stat(stat: &Stat) -> Option<(Meta, Fingerprint, u64)> {
    let kind = Kind::from_file_type(FileType::from_raw_mode(stat.st_mode))?;
    let meta = Meta {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Stamp {
            secs: stat.st_mtime,
            nanos: stat.st_mtime_nsec as u32,
        },
        size: if kind == Kind::Directory {
            0
        } else {
            stat.st_size as u64
        },
        attrs: ATTRS_NONE,
    };
    let print = Fingerprint {
        inode: stat.st_ino,
        ctime: Stamp {
            secs: stat.st_ctime,
            nanos: stat.st_ctime_nsec as u32,
        },
    };
    Some((meta, print, stat.st_nlink))
}
