//! The engine `psync`: one `pwrite` at a time from the worker's own thread, one clock read before
//! and one after it.
//!
//! Invariant: a file is always made new (`O_EXCL`, `O_NOFOLLOW`): data never goes through a link
//! somebody left at the name, nor into a file that has another name elsewhere.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Completion, Device, out_of_order};
use crate::buffer::AlignedBuffer;

/// Writes by `pwrite`.
#[derive(Debug)]
pub struct Psync {
    area: AlignedBuffer,
    flags: OFlags,
    file: Option<File>,
    done: Option<Completion>,
}

impl Psync {
    /// A device that writes from `area`, past the page cache if `direct`.
    pub fn new(area: AlignedBuffer, direct: bool) -> Self {
        let mut flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if direct {
            flags |= OFlags::DIRECT;
        }
        Self {
            area,
            flags,
            file: None,
            done: None,
        }
    }
}

impl Device for Psync {
    fn area(&mut self) -> &mut [u8] {
        self.area.as_mut_slice()
    }

    fn create(&mut self, path: &Path) -> io::Result<()> {
        self.file = None;
        let open = || rustix::fs::open(path, self.flags, Mode::RUSR | Mode::WUSR | Mode::RGRP);
        let opened = match open() {
            Err(Errno::EXIST) => {
                remove_stale(path)?;
                open()
            }
            opened => opened,
        };
        let direct = self.flags.contains(OFlags::DIRECT);
        match opened {
            Ok(file) => self.file = Some(File::from(file)),
            Err(Errno::INVAL) if direct => {
                // The kernel makes the file before it finds that the file system cannot.
                let _ = std::fs::remove_file(path);
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "this file system does not take O_DIRECT; run without direct I/O",
                ));
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    #[inline]
    fn submit(&mut self, window: Range<usize>, offset: u64) -> io::Result<()> {
        let file = self
            .file
            .as_ref()
            .ok_or_else(|| out_of_order("a write without a file"))?;
        let bytes = &self.area.as_slice()[window];
        loop {
            let began = Instant::now();
            let result = file.write_at(bytes, offset);
            let at = Instant::now();
            match result {
                Ok(bytes) => {
                    self.done = Some(Completion {
                        bytes,
                        took: at - began,
                        at,
                    });
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    #[inline]
    fn reap(&mut self) -> io::Result<Completion> {
        self.done
            .take()
            .ok_or_else(|| out_of_order("nothing to reap"))
    }

    fn sync(&mut self) -> io::Result<()> {
        let file = self
            .file
            .as_ref()
            .ok_or_else(|| out_of_order("a sync without a file"))?;
        file.sync_data()
    }

    fn close(&mut self) {
        self.file = None;
    }
}

/// Makes way at `path` if what is there can only be a data file left by a killed run.
fn remove_stale(path: &Path) -> io::Result<()> {
    if std::fs::symlink_metadata(path)?.file_type().is_file() {
        return std::fs::remove_file(path);
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "something that is no regular file is in the way; move it or choose another path",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Psync {
        let mut area = AlignedBuffer::zeroed(8192).unwrap();
        area.as_mut_slice().fill(7);
        Psync::new(area, false)
    }

    #[test]
    fn writes_what_it_is_told_where_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "left by a killed run, and longer").unwrap();
        let mut device = device();
        device.create(&path).unwrap();
        device.submit(0..3, 2).unwrap();
        assert_eq!(device.reap().unwrap().bytes, 3);
        device.sync().unwrap();
        device.close();
        assert_eq!(std::fs::read(&path).unwrap(), [0, 0, 7, 7, 7]);
    }

    #[test]
    fn never_follows_what_was_left_at_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, linked) = (dir.path().join("victim"), dir.path().join("linked"));
        std::fs::write(&victim, "precious").unwrap();
        let path = dir.path().join("f");
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        let error = device().create(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        std::fs::hard_link(&victim, &linked).unwrap();
        device().create(&linked).unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
        assert!(device().create(dir.path()).is_err());
    }

    #[test]
    fn refuses_the_wrong_order() {
        let mut device = device();
        assert!(device.submit(0..1, 0).is_err());
        assert!(device.reap().is_err());
        assert!(device.sync().is_err());
    }
}
