//! A file that gets its name once it is whole.
//!
//! Invariant: nobody ever sees a part of it under its name; where the file system can, it has no name at
//! all until then, so that not even a killed process leaves anything.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

/// Messages are in it: for its owner alone.
const MODE: u32 = 0o600;

pub(super) struct Unfinished {
    file: File,
    place: PathBuf,
    folder: PathBuf,
    /// The name it has meanwhile, once it has one.
    name: Option<PathBuf>,
}

impl Unfinished {
    /// One that shall be at `place`.
    pub(super) fn beside(place: &Path) -> io::Result<Self> {
        // Through a link to what it stands for; a device or folder is not to be replaced.
        let place = &fs::canonicalize(place).unwrap_or_else(|_| place.to_owned());
        if fs::metadata(place).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::other("what is there is no file"));
        }
        let file_name = place.file_name().unwrap_or_default();
        let parent = place.parent().filter(|path| !path.as_os_str().is_empty());
        let folder = parent.unwrap_or(Path::new(".")).to_owned();
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let (file, name) = match open(&folder, flags, Mode::from_raw_mode(MODE)) {
            Ok(file) => (File::from(file), None),
            // Not every file system has files without a name.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
                let name = folder.join(own_name(file_name));
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true).mode(MODE);
                (options.open(&name)?, Some(name))
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            file,
            place: place.to_owned(),
            folder,
            name,
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// It is whole: makes it durable and gives it its name.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.name.is_none() {
            let name = self
                .folder
                .join(own_name(self.place.file_name().unwrap_or_default()));
            let held = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            linkat(CWD, held, CWD, &name, AtFlags::SYMLINK_FOLLOW)?;
            self.name = Some(name);
        }
        if let Some(name) = &self.name {
            fs::rename(name, &self.place)?;
            self.name = None;
        }
        File::open(&self.folder)?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Best effort; the name says what it is.
            let _ = fs::remove_file(name);
        }
    }
}

fn own_name(file_name: &std::ffi::OsStr) -> String {
    let file_name = file_name.to_string_lossy();
    format!(".{file_name}.{}.unfinished", std::process::id())
}
