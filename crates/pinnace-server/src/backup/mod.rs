//! Backups of the stored topics: one file that holds the log and the created topics of one moment.
//!
//! Invariant: a backup is whole or it is refused; nothing of one is put in place before all of it was
//! verified and synced. Left to others: what a moment is (`pinnace_topics::Snapshot`), how the bytes
//! travel (the HTTP door) and where the file is kept (the binary).

mod format;
mod restoring;
mod sending;

use std::io::Read;

pub use format::BackupError;
use format::{Part, Reader};
pub use restoring::{RestoreError, Restored, restore};
pub(crate) use sending::send;

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupFacts {
    /// The moment whose state it is, microseconds since 1970.
    pub created_us: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Bytes of the whole file.
    pub bytes: u64,
}

/// The file with the created topics, in a backup as in a data folder.
const CHANNELS: &str = "channels";
/// The log's folder, likewise.
const LOG: &str = "log";

/// Reads a backup to its end and verifies every sum.
pub fn verify_backup(source: impl Read) -> Result<BackupFacts, BackupError> {
    let mut reader = Reader::begin(source)?;
    let mut segments = 0;
    while let Some(part) = reader.next()? {
        if let Part::File { name, .. } = part {
            segments += u64::from(name != CHANNELS);
        }
    }
    Ok(BackupFacts {
        created_us: reader.created_us,
        segments,
        bytes: reader.bytes(),
    })
}
