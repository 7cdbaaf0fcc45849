//! A durable append-only log: segments, checksums, group commit, recovery.
//!
//! What it keeps: a record reported as committed is read back byte for byte after any crash, or
//! its damage is reported with its exact place; a record is never reported as committed when it
//! might not be durable. The bytes on disk are described in `docs/formats/log.md`.
//!
//! What it leaves to others: what the records mean, who may open the directory (take a lock
//! before opening it), and when old segments may go.

mod active;
mod candidates;
mod check;
mod committer;
mod disk;
mod error;
mod judge;
mod limits;
mod log;
mod quarantine;
mod record;
mod recovery;
mod scan;
mod segment;
mod snapshot;
mod sync_times;
pub mod twin;

pub use check::{Visit, Visited, check};
pub use disk::{Disk, DiskFile, RealDisk};
pub use error::{AppendError, OpenError, ReadError};
pub use limits::{
    BUFFER_BYTES_DEFAULT, OPEN_SEGMENTS_MAX, RECORD_BYTES_DEFAULT, RECORD_OVERHEAD_BYTES,
    SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
pub use log::{Log, LogState, Observer, Opened, Options, Position, SegmentInfo};
pub use recovery::{Damage, Recovery, Replay, TornTail};
pub use snapshot::{Snapshot, SnapshotFile};
pub use sync_times::{SYNC_CLASSES_US, SyncTimes};

/// Log sequence number: records count 1, 2, 3 …; 0 means "before the first".
pub type Lsn = u64;
