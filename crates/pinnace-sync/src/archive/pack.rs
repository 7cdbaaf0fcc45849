//! Writes an entry, with all that is in it, as an archive.
//!
//! Invariant: the names of the archive begin with the name it is given; one directory is open at a time, and each is found
//! from the first one. Left to others: what becomes of the bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, Stat};
use rustix::io::Errno;

use super::PIECE_BYTES;
use super::head::{BLOCK, Head, What};
use crate::fs::{Attrs, Root, open_file, stat_at};
use crate::meta::{Kind, Meta, of_stat};
use crate::path;

/// Why there is no archive, or none to its end.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// An entry cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// Which, for people.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// Nobody takes the bytes.
    #[error("the archive cannot be written: {0}")]
    Write(io::Error),
}

/// Packs the entry `entry` of a directory under another name.
///
/// # Errors
/// See [`PackError`]; what was written is then no whole archive.
pub fn pack(
    dir: BorrowedFd<'_>,
    entry: &[u8],
    name: &[u8],
    out: &mut dyn Write,
) -> Result<(), PackError> {
    let mut packer = Packer {
        out,
        links: HashMap::new(),
        piece: vec![0; PIECE_BYTES],
    };
    let failed = failed_at(name);
    let stat = stat_at(dir, entry).map_err(&failed)?;
    match of_stat(&stat) {
        Some((meta, ..)) if meta.kind == Kind::Directory => {
            let opened = open_dir(dir, entry).map_err(&failed)?;
            packer.tree(&Root::from(opened), name)?;
        }
        Some(_) => packer.entry(dir, entry, &stat, name)?,
        None => return Err(failed(Errno::OPNOTSUPP)),
    }
    // Two empty blocks are its end.
    packer.write(&[0; 2 * BLOCK])
}

fn failed_at(at: &[u8]) -> impl Fn(Errno) -> PackError {
    |error| PackError::Read {
        path: path::show(at).into_owned(),
        error: error.into(),
    }
}

fn open_dir(dir: BorrowedFd<'_>, entry: &[u8]) -> Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, entry, flags, Mode::empty())
}

struct Packer<'a> {
    out: &'a mut dyn Write,
    /// Where files with several names were packed first.
    links: HashMap<(u64, u64), Vec<u8>>,
    piece: Vec<u8>,
}

impl Packer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.out.write_all(bytes).map_err(PackError::Write)
    }

    /// A directory and everything beneath it: itself, what is in it, then its directories.
    fn tree(&mut self, root: &Root, name: &[u8]) -> Result<(), PackError> {
        let mut waiting = vec![Vec::new()];
        while let Some(at) = waiting.pop() {
            let shown = match at.is_empty() {
                true => name.to_vec(),
                false => path::join(name, &at),
            };
            let failed = failed_at(&shown);
            let fd = root.dir(&at).map_err(&failed)?;
            let stat = rustix::fs::fstat(&fd).map_err(&failed)?;
            let attrs = Attrs::read(&fd).map_err(&failed)?;
            if let Some((meta, ..)) = of_stat(&stat) {
                self.write(&head(&shown, What::Directory, &meta, attrs).write())?;
            }
            let mut dirs = Vec::new();
            for found in names(&fd).map_err(&failed)? {
                let inner = path::join(&shown, &found);
                let stat = stat_at(fd.as_fd(), &found).map_err(failed_at(&inner))?;
                match of_stat(&stat) {
                    Some((meta, ..)) if meta.kind == Kind::Directory => {
                        dirs.push(path::join(&at, &found));
                    }
                    Some(_) => self.entry(fd.as_fd(), &found, &stat, &inner)?,
                    // Somebody else's: a mirror has none of them.
                    None => tracing::info!(path = %path::show(&inner), "left out of an archive"),
                }
            }
            waiting.extend(dirs.into_iter().rev());
        }
        Ok(())
    }

    /// A file or symlink.
    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        entry: &[u8],
        stat: &Stat,
        shown: &[u8],
    ) -> Result<(), PackError> {
        let failed = failed_at(shown);
        let Some((meta, _, names)) = of_stat(stat) else {
            return Err(failed(Errno::OPNOTSUPP));
        };
        if names > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                let what = What::Link(first.clone());
                return self.write(&head(shown, what, &meta, Attrs::default()).write());
            }
            self.links.insert(inode, shown.to_vec());
        }
        if meta.kind == Kind::Symlink {
            let target = rustix::fs::readlinkat(dir, entry, Vec::new()).map_err(failed)?;
            let what = What::Symlink(target.into_bytes());
            return self.write(&head(shown, what, &meta, Attrs::default()).write());
        }
        let file = open_file(dir, entry).map_err(&failed)?;
        let attrs = Attrs::read(&file).map_err(&failed)?;
        let what = What::File(meta.size);
        self.write(&head(shown, what, &meta, attrs).write())?;
        self.content(File::from(file), meta.size, shown)
    }

    /// As many bytes as the head says, filled up to a whole block.
    fn content(&mut self, mut file: File, bytes: u64, shown: &[u8]) -> Result<(), PackError> {
        let mut left = bytes;
        while left > 0 {
            let wanted = left.min(PIECE_BYTES as u64) as usize;
            let piece = &mut self.piece[..wanted];
            file.read_exact(piece).map_err(|error| PackError::Read {
                path: path::show(shown).into_owned(),
                error,
            })?;
            self.out.write_all(piece).map_err(PackError::Write)?;
            left -= wanted as u64;
        }
        let over = bytes.next_multiple_of(BLOCK as u64) - bytes;
        self.write(&[0; BLOCK][..over as usize])
    }
}

fn head(path: &[u8], what: What, meta: &Meta, attrs: Attrs) -> Head {
    Head {
        path: path.to_vec(),
        what,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        mtime: meta.mtime,
        attrs,
    }
}

/// The names in a directory, in order, so that the same tree is the same archive.
fn names(dir: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}
