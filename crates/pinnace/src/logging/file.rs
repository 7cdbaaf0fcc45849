//! A log file that can be opened anew.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// The file at a path; lines go to the one that was there when it was last opened.
pub(crate) struct LogFile {
    path: PathBuf,
    file: RwLock<Arc<File>>,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: RwLock::new(Arc::new(append_to(path)?)),
        })
    }

    /// Goes on in whatever is at the path now, a new file if nothing is. On an error the old file
    /// goes on.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let file = Arc::new(append_to(&self.path)?);
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }

    /// Where lines go now.
    pub(super) fn current(&self) -> Arc<File> {
        self.file
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
