//! What can be wrong with a job before it runs. Every message names the path or field, what is
//! wrong with it, and what to do.
//!
//! Left to others: exit codes; [`ErrorKind`] is what the binary picks them by.

use std::io;

use pinnace_proto::units::show_size;

/// What sort of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The job makes no sense as written.
    Usage,
    /// The machine does not let it be done.
    Failed,
    /// It could be done but would fill a disk beyond the floor.
    Unsafe,
    /// A stop was requested.
    Stopped,
}

/// Why a job cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A field of the job has a value that makes no sense.
    #[error("{field}: {wrong}; {advice}")]
    Field {
        /// The field, as written in the job.
        field: String,
        /// What is wrong.
        wrong: String,
        /// What to do.
        advice: &'static str,
    },
    /// A worker's path does not exist.
    #[error("worker {worker}: path `{path}` does not exist; make it or choose another")]
    NoPath {
        /// Worker, from 0.
        worker: u32,
        /// Its path.
        path: String,
    },
    /// A worker's path is no directory.
    #[error("worker {worker}: path `{path}` is not a directory; name the directory to write in")]
    NotADirectory {
        /// Worker, from 0.
        worker: u32,
        /// Its path.
        path: String,
    },
    /// A worker's path cannot be written to.
    #[error(
        "worker {worker}: no files can be made in `{path}` ({source}); change its permissions or choose another"
    )]
    NotWritable {
        /// Worker, from 0.
        worker: u32,
        /// Its path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A path could not be looked at.
    #[error(
        "worker {worker}: `{path}` cannot be examined ({source}); check that its file system is there"
    )]
    Unreadable {
        /// Worker, from 0.
        worker: u32,
        /// Its path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not enough room for three files of each worker above the floor.
    #[error(
        "`{path}`: the workers on this file system need {} for three files each, \
         but only {} are free above the floor of {}; \
         free some, choose a smaller file size, or lower min_free",
        show_size(*needed_bytes), show_size(*room_bytes), show_size(*floor_bytes)
    )]
    NoRoom {
        /// Path of the first worker on the file system.
        path: String,
        /// What the workers on it need together.
        needed_bytes: u64,
        /// What is free above the floor.
        room_bytes: u64,
        /// The floor.
        floor_bytes: u64,
    },
    /// The buffers do not fit in memory.
    #[error(
        "the workers' buffers take {} but {} of memory are available; choose smaller chunks or fewer workers",
        show_size(*needed_bytes), show_size(*available_bytes)
    )]
    NoMemory {
        /// What the buffers take together.
        needed_bytes: u64,
        /// Memory available.
        available_bytes: u64,
    },
}

impl PlanError {
    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Field { .. } | Self::NoPath { .. } | Self::NotADirectory { .. } => {
                ErrorKind::Usage
            }
            Self::NotWritable { .. } | Self::Unreadable { .. } | Self::NoMemory { .. } => {
                ErrorKind::Failed
            }
            Self::NoRoom { .. } => ErrorKind::Unsafe,
        }
    }
}

/// Why the speed could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// Something failed at a worker's path.
    #[error(
        "worker {worker}: calibration could not {operation} `{path}`: {source}; check the path and its file system"
    )]
    Io {
        /// Worker, from 0.
        worker: u32,
        /// `open`, `write` or `sync`.
        operation: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A worker's storage did not answer in time.
    #[error(
        "worker {worker}: `{path}` did not finish its calibration in {limit_seconds} s; check that its file system answers"
    )]
    Stuck {
        /// Worker, from 0.
        worker: u32,
        /// Its path.
        path: String,
        /// How long it was waited for.
        limit_seconds: u64,
    },
    /// Memory or a thread could not be had.
    #[error(
        "worker {worker}: calibration could not start: {message}; choose smaller chunks or fewer workers"
    )]
    NoStart {
        /// Worker, from 0.
        worker: u32,
        /// What could not be had.
        message: String,
    },
    /// A stop was requested meanwhile.
    #[error("stopped during calibration")]
    Stopped,
}

impl CalibrationError {
    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if is_disk_full(source) => ErrorKind::Unsafe,
            Self::Io { .. } | Self::Stuck { .. } | Self::NoStart { .. } => ErrorKind::Failed,
            Self::Stopped => ErrorKind::Stopped,
        }
    }
}

/// True when there is no room left, on the disk or in the user's quota.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
