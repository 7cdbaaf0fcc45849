//! The log as it is at one moment, to be read at leisure while it goes on.
//!
//! Invariant: a snapshot holds exactly the records that were durable when it was taken, and the
//! segments they stand in are not dropped before it is done with them. Appending never waits for it.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::Lsn;
use crate::check::{Checker, Source, Visit};
use crate::disk::{DiskFile, read_full};
use crate::limits::SEGMENT_HEADER_BYTES;
use crate::log::{Log, Shared};
use crate::recovery::Recovery;
use crate::segment::{Segment, parse_header};

/// Which segments snapshots hold.
#[derive(Default)]
pub(crate) struct Pins {
    next: u64,
    /// The first segment each snapshot still needs.
    first_needed: BTreeMap<u64, u32>,
    /// Segments could have been dropped but for a snapshot.
    withheld: bool,
    /// A removal may not be durable, so that another could leave a hole.
    pub(crate) in_doubt: bool,
}

impl Pins {
    /// Whether this segment may go.
    pub(crate) fn release(&mut self, ordinal: u32) -> bool {
        let needed = self.first_needed.values().any(|first| *first <= ordinal);
        self.withheld |= needed;
        !needed
    }
}

/// The durable records of a log at one moment.
pub struct Snapshot {
    shared: Arc<Shared>,
    pin: u64,
    segments: Vec<Arc<Segment>>,
    /// Bytes of the last segment, up to the end of its last durable record.
    last_bytes: u64,
    last_lsn: Lsn,
}

/// A segment of a snapshot.
pub struct SnapshotFile {
    file: Arc<dyn DiskFile>,
    /// Bytes that belong to the snapshot.
    pub bytes: u64,
}

impl Log {
    /// The log as it is now. May wait for a segment that is being dropped.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let shared = Arc::clone(&self.shared);
        let mut pins = lock(&shared);
        // Both under one lock: the bytes are those of the records up to the lsn.
        let state = shared.lock();
        let segments = shared.segments.all();
        let last_bytes = segments.last().map_or(0, |segment| segment.used_bytes());
        let last_lsn = state.durable_lsn;
        drop(state);
        let pin = pins.next;
        pins.next += 1;
        let first = segments.first().map_or(0, |segment| segment.ordinal);
        pins.first_needed.insert(pin, first);
        drop(pins);
        Snapshot {
            shared,
            pin,
            segments,
            last_bytes,
            last_lsn,
        }
    }

    /// Whether segments have been kept for a snapshot that could have been dropped, since this was
    /// last asked.
    #[must_use]
    pub fn take_withheld(&self) -> bool {
        std::mem::take(&mut lock(&self.shared).withheld)
    }
}

impl Snapshot {
    /// Names of the segment files, oldest first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.segments.iter().map(|segment| segment.name()).collect()
    }

    /// The number that `Position` knows a segment by.
    #[must_use]
    pub fn ordinal(&self, name: &str) -> Option<u32> {
        let mut segments = self.segments.iter();
        Some(segments.find(|segment| segment.name() == name)?.ordinal)
    }

    /// Lsn of the last record in it.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// A segment by its place among the names. Those before it are needed no longer.
    ///
    /// # Errors
    /// The system's reason.
    pub fn open(&self, place: usize) -> io::Result<SnapshotFile> {
        let Some(segment) = self.segments.get(place) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        lock(&self.shared)
            .first_needed
            .insert(self.pin, segment.ordinal);
        let file = self.shared.disk.open_to_read(&segment.path)?;
        let is_last = place + 1 == self.segments.len();
        let bytes = if is_last {
            self.last_bytes
        } else {
            file.len()?
        };
        Ok(SnapshotFile { file, bytes })
    }

    /// Checks every record of it. `None` when `visit` ended the check.
    ///
    /// # Errors
    /// A segment cannot be opened.
    pub fn check(&self, visit: &mut Visit<'_>) -> io::Result<Option<Recovery>> {
        let mut checker = Checker::new(self.shared.salt, visit);
        for (place, segment) in self.segments.iter().enumerate() {
            let SnapshotFile { file, bytes } = self.open(place)?;
            let mut block = vec![0; SEGMENT_HEADER_BYTES as usize];
            let read = read_full(&*file, &mut block, 0).unwrap_or(0);
            let source = Source {
                name: &segment.name(),
                first_lsn: segment.first_lsn,
                header: parse_header(&block[..read]),
                file: &*file,
                bytes,
            };
            let next = self.segments.get(place + 1);
            let limit = next.map_or(self.last_lsn + 1, |next| next.first_lsn);
            if let ControlFlow::Break(()) = checker.segment(&source, Some(limit)) {
                return Ok(None);
            }
        }
        Ok(Some(checker.findings))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        lock(&self.shared).first_needed.remove(&self.pin);
    }
}

impl SnapshotFile {
    /// Fills `buffer` from `offset` as far as the segment goes, and returns the bytes read.
    ///
    /// # Errors
    /// The system's reason.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.bytes.saturating_sub(offset);
        let len = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        read_full(&*self.file, &mut buffer[..len], offset)
    }
}

/// The pins; nothing is dropped while they are held.
pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, Pins> {
    shared.pins.lock().unwrap_or_else(PoisonError::into_inner)
}
