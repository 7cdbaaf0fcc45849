//! The log as its users see it: open, append, read, drop, close.
//!
//! Invariant: `append` never waits for the disk and never calls the observer; the state mutex is
//! held for a copy into memory and no longer, never across a disk operation or a call back. So a
//! caller may append while holding a lock of its own that its observer also takes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::Lsn;
use crate::disk::{Disk, read_full};
use crate::error::{AppendError, OpenError, ReadError};
use crate::limits::{
    BUFFER_BYTES_DEFAULT, READ_AHEAD_BYTES, RECORD_BYTES_DEFAULT, RECORD_OVERHEAD_BYTES,
    RESERVE_BYTES_MAX, RESERVE_DIVISOR, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES,
};
use crate::record::{HEADER_BYTES, Header, payload_crc, record_header};
use crate::recovery::{self, Recovery, Replay};
use crate::segment::Segments;
use crate::snapshot::{self, Pins};
use crate::sync_times::SyncClock;
use crate::{active::Active, committer};

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size at which a segment is full, in bytes, allocated ahead where the file system can.
    pub segment_bytes: u32,
    /// Largest payload, in bytes.
    pub record_bytes_max: u32,
    /// Bytes that may wait for the disk before `append` answers `Busy`.
    pub buffer_bytes_max: usize,
    /// The number a new log's headers are sealed with; drawn at random when `None`.
    pub salt: Option<u32>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            record_bytes_max: RECORD_BYTES_DEFAULT,
            buffer_bytes_max: BUFFER_BYTES_DEFAULT,
            salt: None,
        }
    }
}

impl Options {
    /// Bytes at the end of a segment that only urgent records may use.
    #[must_use]
    pub fn reserve_bytes(&self) -> u32 {
        (self.segment_bytes / RESERVE_DIVISOR).min(RESERVE_BYTES_MAX)
    }

    fn check(&self) -> Result<(), OpenError> {
        let bad = |reason: String| Err(OpenError::BadOptions { reason });
        let Options {
            segment_bytes,
            record_bytes_max,
            buffer_bytes_max,
            ..
        } = *self;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes) {
            return bad(format!(
                "segment_bytes is {segment_bytes}; choose {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
            ));
        }
        let room = segment_bytes - SEGMENT_HEADER_BYTES - self.reserve_bytes();
        if record_bytes_max > room - RECORD_OVERHEAD_BYTES {
            return bad(format!(
                "record_bytes_max is {record_bytes_max}, but a segment of {segment_bytes} bytes \
                 has room for {}; choose larger segments or smaller records",
                room - RECORD_OVERHEAD_BYTES
            ));
        }
        // The distance from a buffered record to the last durable one is kept in 32 bits.
        if buffer_bytes_max < (record_bytes_max + RECORD_OVERHEAD_BYTES) as usize
            || buffer_bytes_max > 16 << 30
        {
            return bad(format!(
                "buffer_bytes_max is {buffer_bytes_max}; it must hold one record of \
                 {record_bytes_max} bytes, and at most 16 GiB"
            ));
        }
        Ok(())
    }
}

/// Where a committed record is. Valid as long as the log is open; small, to be kept in great
/// numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Counts the segments 0, 1, 2 … since the log was opened, oldest first.
    pub segment: u32,
    /// Offset of the record's header in the segment, in bytes.
    pub offset: u32,
}

/// Told about the fate of records, on the committer's thread, in lsn order, each lsn exactly once
/// (unless the log fails). No lock of the log is held. May append, read and drop; should not block.
pub trait Observer: Send {
    /// Records `first`, `first + 1`, … are durable; one position each.
    fn committed(&mut self, first: Lsn, positions: &[Position]);
    /// Records `first..=last`, which is everything not committed, were refused for want of space.
    /// Their lsns are used again. Until this returns, nothing is appended.
    fn refused(&mut self, first: Lsn, last: Lsn, reason: &str);
    /// There is space again.
    fn healed(&mut self) {}
    /// The log has failed: nothing beyond the last `committed` will be, and nothing more is told.
    fn failed(&mut self, reason: &str);
}

/// Whether the log takes records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogState {
    /// It does.
    Open,
    /// It takes urgent ones only, until there is space.
    Full(String),
    /// It does not, for good.
    Failed(String),
}

/// A segment as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Counts as in `Position`.
    pub ordinal: u32,
    /// Lsn of its first record.
    pub first_lsn: Lsn,
    /// Bytes up to the end of its last committed record.
    pub used_bytes: u64,
    /// Of these, the bytes of records with their headers.
    pub record_bytes: u64,
}

/// A recovered log that has no committer yet. Dropping it closes it.
pub struct Opened {
    /// What was found.
    pub recovery: Recovery,
    shared: Arc<Shared>,
    active: Active,
}

impl Opened {
    /// Starts the committer, which tells `observer` the fate of every record.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(self, observer: Box<dyn Observer>) -> Result<Log, OpenError> {
        let Opened { shared, active, .. } = self;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("log-committer".to_owned())
            .spawn(move || committer::run(&theirs, active, observer))
            .map_err(|source| OpenError::Io {
                action: "start a thread for",
                path: shared.dir.clone(),
                source,
            })?;
        Ok(Log {
            shared,
            thread: Some(thread),
        })
    }
}

/// An open log.
pub struct Log {
    pub(crate) shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the log's users and its committer share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) salt: u32,
    pub(crate) segments: Segments,
    state: Mutex<State>,
    /// The committer sleeps here.
    pub(crate) work: Condvar,
    /// Those who wait for room in the buffer sleep here.
    pub(crate) room: Condvar,
    /// Held while segments are dropped: one drop at a time, and none under a snapshot.
    pub(crate) pins: Mutex<Pins>,
    pub(crate) sync_clock: SyncClock,
}

pub(crate) struct State {
    /// Records waiting, encoded back to back.
    pub(crate) buffer: Vec<u8>,
    /// One for each record in `buffer`.
    pub(crate) marks: Vec<Mark>,
    pub(crate) next_lsn: Lsn,
    pub(crate) durable_lsn: Lsn,
    pub(crate) phase: Phase,
    /// The committer shall try whether there is space again.
    pub(crate) probe: bool,
    /// The committer shall write what waits, then end.
    pub(crate) closing: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Mark {
    /// Header and payload.
    pub(crate) bytes: u32,
    pub(crate) urgent: bool,
}

pub(crate) enum Phase {
    Open,
    /// The observer is being told of refused records; their lsns are not free yet.
    Refusing(String),
    Full(String),
    Failed(String),
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Opens the log in `dir`, making it if there is none, and hands every record to `replay` in
    /// lsn order. An error from `replay` ends the opening.
    ///
    /// # Errors
    /// See `OpenError`. Damage is not an error; it is in the `Recovery`.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        replay: &mut Replay<'_>,
    ) -> Result<Opened, OpenError> {
        options.check()?;
        let recovered = recovery::recover(&*disk, dir, &options, replay)?;
        let recovery = recovered.recovery;
        let active = Active::new(&recovered.segments, recovered.active, recovered.allocated);
        let state = State {
            buffer: Vec::new(),
            marks: Vec::new(),
            next_lsn: recovery.last_lsn + 1,
            durable_lsn: recovery.last_lsn,
            phase: Phase::Open,
            probe: false,
            closing: false,
        };
        let shared = Arc::new(Shared {
            disk,
            dir: dir.to_owned(),
            options,
            salt: recovered.salt,
            segments: Segments::new(recovered.segments),
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            pins: Mutex::default(),
            sync_clock: SyncClock::default(),
        });
        Ok(Opened {
            recovery,
            shared,
            active,
        })
    }

    /// Buffers a record whose payload is `parts` joined, and returns its lsn. The observer learns
    /// what became of it.
    ///
    /// # Errors
    /// See `AppendError`; the record is then nowhere.
    pub fn append(&self, parts: &[&[u8]]) -> Result<Lsn, AppendError> {
        self.append_as(parts, false)
    }

    /// Like `append`, for a record that helps to give space back: it may use the reserve of a
    /// full log.
    ///
    /// # Errors
    /// See `AppendError`; the record is then nowhere.
    pub fn append_urgent(&self, parts: &[&[u8]]) -> Result<Lsn, AppendError> {
        self.append_as(parts, true)
    }

    fn append_as(&self, parts: &[&[u8]], urgent: bool) -> Result<Lsn, AppendError> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let max_bytes = self.shared.options.record_bytes_max;
        if bytes > max_bytes as usize {
            return Err(AppendError::TooLarge { bytes, max_bytes });
        }
        let sum = payload_crc(parts);
        let mut state = self.shared.lock();
        match &state.phase {
            Phase::Open => {}
            Phase::Full(_) if urgent => {}
            Phase::Full(reason) => {
                let reason = reason.clone();
                // Whoever comes next may find that there is space again.
                state.probe = true;
                self.shared.work.notify_one();
                return Err(AppendError::Full { reason });
            }
            Phase::Refusing(reason) => {
                return Err(AppendError::Full {
                    reason: reason.clone(),
                });
            }
            Phase::Failed(reason) => {
                return Err(AppendError::Failed {
                    reason: reason.clone(),
                });
            }
        }
        if state.closing {
            return Err(AppendError::Closed);
        }
        let waiting_bytes = state.buffer.len();
        if waiting_bytes + HEADER_BYTES + bytes > self.shared.options.buffer_bytes_max {
            return Err(AppendError::Busy { waiting_bytes });
        }
        let lsn = state.next_lsn;
        state.next_lsn += 1;
        let header = record_header(self.shared.salt, lsn, state.durable_lsn, bytes as u32, sum);
        state.buffer.extend_from_slice(&header);
        for part in parts {
            state.buffer.extend_from_slice(part);
        }
        state.marks.push(Mark {
            bytes: (HEADER_BYTES + bytes) as u32,
            urgent,
        });
        if state.marks.len() == 1 {
            self.shared.work.notify_one();
        }
        Ok(lsn)
    }

    /// Waits until a record of `bytes` would not be `Busy`. Must not be called while holding a
    /// lock that the observer takes, nor on the committer's thread, where it returns at once.
    pub fn wait_for_room(&self, bytes: usize) {
        if self
            .thread
            .as_ref()
            .is_some_and(|t| t.thread().id() == std::thread::current().id())
        {
            return;
        }
        let mut state = self.shared.lock();
        while matches!(state.phase, Phase::Open)
            && !state.closing
            && !state.buffer.is_empty()
            && state.buffer.len() + HEADER_BYTES + bytes > self.shared.options.buffer_bytes_max
        {
            state = self
                .shared
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Reads the payload of a committed record and verifies it. Records that are not committed
    /// have no position yet and cannot be read.
    ///
    /// # Errors
    /// See `ReadError`.
    pub fn read(&self, position: Position) -> Result<Vec<u8>, ReadError> {
        let shared = &self.shared;
        let segment = shared
            .segments
            .get(position.segment)
            .ok_or(ReadError::Gone)?;
        let offset = position.offset;
        let io = |source| ReadError::Io {
            segment: segment.name(),
            offset,
            source,
        };
        let damaged = || ReadError::Damaged {
            segment: segment.name(),
            offset,
        };
        let file = match shared.segments.file(&*shared.disk, &segment) {
            Ok(file) => file,
            // It was dropped between the look into the list and the opening.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ReadError::Gone);
            }
            Err(error) => return Err(io(error)),
        };
        let mut head = [0; READ_AHEAD_BYTES];
        let got = read_full(&*file, &mut head, u64::from(offset)).map_err(io)?;
        let Some(Header::Record {
            len,
            payload_crc: sum,
            ..
        }) = Header::parse(&head[..got], shared.salt)
        else {
            return Err(damaged());
        };
        let len = len as usize;
        if len > shared.options.segment_bytes.max(SEGMENT_BYTES_DEFAULT) as usize {
            return Err(damaged());
        }
        let mut payload = vec![0; len];
        let here = len.min(got - HEADER_BYTES);
        payload[..here].copy_from_slice(&head[HEADER_BYTES..HEADER_BYTES + here]);
        if here < len {
            let rest = u64::from(offset) + (HEADER_BYTES + here) as u64;
            if read_full(&*file, &mut payload[here..], rest).map_err(io)? < len - here {
                return Err(damaged());
            }
        }
        if payload_crc(&[&payload]) != sum {
            return Err(damaged());
        }
        Ok(payload)
    }

    /// The segments, oldest first; the last one is active.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let info = |segment: Arc<crate::segment::Segment>| SegmentInfo {
            ordinal: segment.ordinal,
            first_lsn: segment.first_lsn,
            used_bytes: segment.used_bytes(),
            record_bytes: segment
                .used_bytes()
                .saturating_sub(u64::from(SEGMENT_HEADER_BYTES)),
        };
        self.shared.segments.all().into_iter().map(info).collect()
    }

    /// Drops the segments all of whose records are below `lsn`, oldest first, never the active
    /// one nor one that a snapshot needs, and returns how many. Each removal is durable before the next. Afterwards a full log
    /// tries whether there is space.
    ///
    /// # Errors
    /// The system's reason; segments dropped before it stay dropped.
    pub fn drop_segments_before(&self, lsn: Lsn) -> std::io::Result<usize> {
        let mut pins = snapshot::lock(&self.shared);
        let all = self.shared.segments.all();
        let mut dropped = 0;
        for pair in all.windows(2) {
            if pair[1].first_lsn > lsn || !pins.release(pair[0].ordinal) {
                break;
            }
            // Out of the list first: a reader gets `Gone`, never a missing file.
            self.shared.segments.pop_front();
            self.shared.disk.remove(&pair[0].path)?;
            self.shared.disk.sync_dir(&self.shared.dir)?;
            dropped += 1;
        }
        if dropped > 0 {
            self.probe();
        }
        Ok(dropped)
    }

    /// Asks a full log to try whether there is space again; the observer learns if there is.
    pub fn probe(&self) {
        let mut state = self.shared.lock();
        if matches!(state.phase, Phase::Full(_) | Phase::Refusing(_)) {
            state.probe = true;
            self.shared.work.notify_one();
        }
    }

    /// Whether the log takes records.
    #[must_use]
    pub fn state(&self) -> LogState {
        match &self.shared.lock().phase {
            Phase::Open => LogState::Open,
            Phase::Full(reason) | Phase::Refusing(reason) => LogState::Full(reason.clone()),
            Phase::Failed(reason) => LogState::Failed(reason.clone()),
        }
    }

    /// Lsn of the last durable record.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.shared.lock().durable_lsn
    }
}

impl Drop for Log {
    /// Writes what waits, tells the observer, and ends the committer.
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A committer that panicked has already left the log failed.
            let _ = thread.join();
        }
    }
}
