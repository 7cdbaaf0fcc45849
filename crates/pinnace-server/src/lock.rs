//! One server per data folder: an advisory lock on `<data>/lock`, which also says who holds it.
//!
//! The lock goes with the process, so a killed server leaves nothing to clean up.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const FILE: &str = "lock";

/// Why the data folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another server works there.
    #[error(
        "the data folder {data} is in use by another pinnace server{holder}; stop it, or give another --data"
    )]
    InUse {
        /// The folder.
        data: PathBuf,
        /// ` (process 123)`, when known.
        holder: String,
    },
    /// The folder cannot be made or written.
    #[error(
        "the data folder {data} cannot be used: {source}; give a folder you may write with --data"
    )]
    Unusable {
        /// The folder.
        data: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Holds the folder while it lives.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Keeps servers out of a folder without changing anything in it.
    pub(crate) fn look(data: &Path) -> Result<Option<Self>, LockError> {
        let mut file = match File::open(data.join(FILE)) {
            Ok(file) => file,
            // No server ever worked there.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let data = data.to_owned();
                return Err(LockError::Unusable { data, source });
            }
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(_) => Err(in_use(data, &mut file)),
        }
    }

    /// Makes the folder when it is not there and locks it.
    pub(crate) fn take(data: &Path) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable {
            data: data.to_owned(),
            source,
        };
        std::fs::create_dir_all(data).map_err(unusable)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(data.join(FILE))
            .map_err(unusable)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(in_use(data, &mut file));
        }
        file.set_len(0).map_err(unusable)?;
        file.rewind().map_err(unusable)?;
        writeln!(file, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

fn in_use(data: &Path, file: &mut File) -> LockError {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    let holder = match text.trim().parse::<u32>() {
        Ok(pid) => format!(" (process {pid})"),
        Err(_) => String::new(),
    };
    LockError::InUse {
        data: data.to_owned(),
        holder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_server_and_is_free_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("new/data");
        let lock = DataLock::take(&data).unwrap();
        let error = DataLock::take(&data).unwrap_err().to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(lock);
        DataLock::take(&data).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::write(&data, "x").unwrap();
        assert!(matches!(
            DataLock::take(&data),
            Err(LockError::Unusable { .. })
        ));
    }
}
