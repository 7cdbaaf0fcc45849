//! The files of an index on disk: what they begin with, how they are made, and what can go wrong.
//!
//! Invariant: a file of the folder appears under its name only with its head, synced. Left to others: what
//! stands behind the head.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::record::Fields;
use crate::chunk::CHUNKING_VERSION;

/// The format's version.
pub(super) const VERSION: u32 = 1;
/// Bytes of the head of a log or a file of recipes, and of what every head begins with but for the sum.
pub(super) const HEAD_BYTES: usize = 32;

/// What a file of the folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Snapshot,
    Log,
    Recipes,
}

impl Role {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Snapshot => b"PINNIXS\0",
            Self::Log => b"PINNIXL\0",
            Self::Recipes => b"PINNIXR\0",
        }
    }
}

/// Why an index could not be opened, changed or read. In memory nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused an operation.
    #[error("{path}: cannot {action}: {source}", path = .path.display())]
    Io {
        /// What was being done, as a verb: "create", "read", "sync".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Written by a newer program.
    #[error(
        "{path}: index format version {found}, but this program reads up to version {VERSION}; use the newer \
         program, or delete the folder to have the tree compared anew (nothing was changed)",
        path = .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in its head.
        found: u32,
    },
    /// An earlier write failed halfway; nothing can be appended until a checkpoint has made a new log.
    #[error("{path}: an earlier write failed; a checkpoint starts the log anew", path = .path.display())]
    Failed {
        /// The log.
        path: PathBuf,
    },
    /// There is no recipe here, or not the one that was: content has to be cut anew.
    #[error("{path}: no whole recipe at byte {offset}", path = .path.display())]
    NoRecipe {
        /// The file of recipes.
        path: PathBuf,
        /// Where it should have been.
        offset: u64,
    },
}

/// Why a file could not be loaded.
#[derive(Debug)]
pub(super) enum LoadError {
    /// The caller has to know.
    Store(StoreError),
    /// The file is not what was written: the index is lost, in these words.
    Damage(String),
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Says where and at what an operation failed.
pub(super) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// What every head begins with: magic, version, chunking and a number.
pub(super) fn start_head(role: Role, number: u64) -> Vec<u8> {
    let mut head = role.magic().to_vec();
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&u32::from(CHUNKING_VERSION).to_le_bytes());
    head.extend_from_slice(&number.to_le_bytes());
    head
}

/// Ends a head with its sum.
pub(super) fn seal_head(mut head: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&head);
    head.extend_from_slice(&sum.to_le_bytes());
    head
}

/// The number in a head, and what stands between it and the sum.
pub(super) fn open_head<'a>(
    role: Role,
    path: &Path,
    head: &'a [u8],
) -> Result<(u64, Fields<'a>), LoadError> {
    let damage = || LoadError::Damage(format!("{}: the head is damaged", path.display()));
    let (sealed, sum) = head.split_last_chunk::<4>().ok_or_else(damage)?;
    let mut fields = Fields(sealed);
    let start = (|| Some((fields.array()?, fields.u32()?, fields.u32()?, fields.u64()?)))();
    let (magic, version, chunking, number) = start.ok_or_else(damage)?;
    // These and the sum keep their place in every later format, so a newer file is told from a broken one.
    if magic != *role.magic() || crc32c::crc32c(sealed) != u32::from_le_bytes(*sum) {
        return Err(damage());
    }
    if version > VERSION {
        return Err(LoadError::Store(StoreError::Newer {
            path: path.to_owned(),
            found: version,
        }));
    }
    if chunking != u32::from(CHUNKING_VERSION) {
        let words = "files were cut by other rules then";
        return Err(LoadError::Damage(format!("{}: {words}", path.display())));
    }
    Ok((number, fields))
}

/// The head of a log or a file of recipes.
pub(super) fn plain_head(role: Role, number: u64) -> Vec<u8> {
    let mut head = start_head(role, number);
    head.extend_from_slice(&[0; 4]);
    seal_head(head)
}

/// Makes a file that holds its head, in place of the one of this name. It can be read and written.
pub(super) fn create(dir: &Path, name: &str, role: Role, number: u64) -> Result<File, StoreError> {
    let fresh = dir.join(format!("{name}.new"));
    let mut file = create_new(&fresh)?;
    file.write_all(&plain_head(role, number))
        .map_err(io_error("write", &fresh))?;
    put_in_place(&file, &fresh, &dir.join(name))?;
    sync_dir(dir)?;
    Ok(file)
}

/// An empty file that can be read and written.
pub(super) fn create_new(path: &Path) -> Result<File, StoreError> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(io_error("create", path))
}

/// Syncs a file and gives it its name.
pub(super) fn put_in_place(file: &File, fresh: &Path, path: &Path) -> Result<(), StoreError> {
    file.sync_all().map_err(io_error("sync", fresh))?;
    std::fs::rename(fresh, path).map_err(io_error("rename", fresh))
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("sync", dir))
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// The content of a file, if it is there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}
