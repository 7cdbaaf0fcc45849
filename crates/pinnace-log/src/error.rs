//! What can go wrong, told so that a person can act on it.
//!
//! Invariant: every message says what was wrong, where, and what to do. Callers decide by variant,
//! never by text.

use std::io;
use std::path::PathBuf;

use crate::Lsn;

/// Why a log could not be opened. Nothing was changed on disk unless the error came from a write.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused an operation.
    #[error("{path}: cannot {action}: {source}")]
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
        "{path}: log format version {found}, but this program reads up to version {supported}; \
         use the newer program (nothing was changed)"
    )]
    NewerVersion {
        /// The segment.
        path: PathBuf,
        /// The version in its header.
        found: u32,
        /// The newest version this program reads.
        supported: u32,
    },
    /// Neither header copy of the only segment holds.
    #[error(
        "{path}: both copies of the segment header are damaged and no other segment is there to \
         stand in; restore the directory from a backup (nothing was changed)"
    )]
    HeaderLost {
        /// The segment.
        path: PathBuf,
    },
    /// A segment carries another log's salt.
    #[error("{path}: this segment belongs to another log; move it out of the directory")]
    ForeignSegment {
        /// The segment.
        path: PathBuf,
    },
    /// The options contradict each other.
    #[error("log options: {reason}")]
    BadOptions {
        /// Which relation does not hold.
        reason: String,
    },
    /// The caller's replay function refused a record.
    #[error("record {lsn} in {segment}: {reason}")]
    Replay {
        /// The record.
        lsn: Lsn,
        /// Name of its segment.
        segment: String,
        /// The caller's reason.
        reason: String,
    },
}

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// As many bytes as allowed already wait for the disk.
    #[error("{waiting_bytes} bytes already wait for the disk; try again when it has caught up")]
    Busy {
        /// Bytes waiting now.
        waiting_bytes: usize,
    },
    /// The payload is larger than a record may be.
    #[error("a record of {bytes} bytes; at most {max_bytes} are allowed")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
        /// The limit.
        max_bytes: u32,
    },
    /// No space. The log opens again by itself when a probe finds space.
    #[error("the log's disk is full: {reason}; free space, or take and delete messages")]
    Full {
        /// The operation that found no space.
        reason: String,
    },
    /// A write or a sync failed; what is durable is known, but nothing can be added.
    #[error("the log has failed: {reason}; check the disk, then restart to recover")]
    Failed {
        /// The operation that failed.
        reason: String,
    },
    /// The log is being closed.
    #[error("the log is closed")]
    Closed,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The segment was dropped.
    #[error("the segment of this record was dropped")]
    Gone,
    /// The bytes at this place do not add up.
    #[error("{segment}, offset {offset}: the record is damaged; keep the file and check the disk")]
    Damaged {
        /// Name of the segment.
        segment: String,
        /// Offset of the record's first byte.
        offset: u32,
    },
    /// The operating system refused the read.
    #[error("{segment}, offset {offset}: cannot read: {source}")]
    Io {
        /// Name of the segment.
        segment: String,
        /// Offset of the record's first byte.
        offset: u32,
        /// The system's reason.
        source: io::Error,
    },
}

/// Whether an error means "no space", which heals, rather than "broken", which does not.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
