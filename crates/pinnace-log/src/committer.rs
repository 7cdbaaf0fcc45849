//! The one thread that writes: takes what waits, writes it, syncs once, tells the observer.
//!
//! Invariant: the observer hears `committed` only for records that a successful sync covered; a
//! failed sync is never tried again. While the disk works the next batch forms; nothing is ever
//! delayed on purpose.

use std::io;
use std::mem;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crate::Lsn;
use crate::active::Active;
use crate::disk::write_full;
use crate::error::is_full;
use crate::limits::{BUFFER_KEEP_BYTES, SEGMENT_HEADER_BYTES};
use crate::log::{Mark, Observer, Phase, Position, Shared};
use crate::record::{HEADER_BYTES, marker};
use crate::segment::{self, Segment};

/// Records taken from the buffer.
struct Batch {
    first_lsn: Lsn,
    bytes: Vec<u8>,
    marks: Vec<Mark>,
}

/// Why a batch, or the rest of it, was not committed.
enum Stop {
    /// No space; `settled` records of the batch were committed.
    Full { settled: usize, reason: String },
    /// Broken.
    Failed(String),
}

/// Runs until the log is closed or fails.
pub(crate) fn run(shared: &Arc<Shared>, active: Active, observer: Box<dyn Observer>) {
    let _guard = FailOnUnwind(shared);
    let mut committer = Committer {
        shared,
        active,
        observer,
        positions: Vec::new(),
    };
    let mut spare = (Vec::new(), Vec::new());
    loop {
        let (batch, probe) = match committer.next(&mut spare) {
            Some(work) => work,
            None => return committer.close(),
        };
        if probe && let Err(reason) = committer.probe() {
            return committer.fail(&reason);
        }
        match committer.commit(&batch) {
            Ok(()) => {}
            Err(Stop::Full { settled, reason }) => {
                committer.refuse(batch.first_lsn + settled as Lsn, reason);
            }
            Err(Stop::Failed(reason)) => return committer.fail(&reason),
        }
        if let Err(reason) = committer.mark_if_idle() {
            return committer.fail(&reason);
        }
        spare = (batch.bytes, batch.marks);
        spare.0.clear();
        spare.0.shrink_to(BUFFER_KEEP_BYTES);
        spare.1.clear();
    }
}

struct Committer<'a> {
    shared: &'a Shared,
    active: Active,
    observer: Box<dyn Observer>,
    positions: Vec<Position>,
}

impl Committer<'_> {
    /// Sleeps until there is something to do; `None` when closed and everything is written. The
    /// batch may be empty when only a probe is asked for.
    fn next(&self, spare: &mut (Vec<u8>, Vec<Mark>)) -> Option<(Batch, bool)> {
        let mut state = self.shared.lock();
        while state.marks.is_empty() && !state.probe {
            if state.closing {
                return None;
            }
            state = self
                .shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        // Threads that are ready to append go first, so that one sync serves them too. It costs nothing when
        // there are none, and on busy CPUs it halves the syncs for a record.
        drop(state);
        std::thread::yield_now();
        state = self.shared.lock();
        let bytes = mem::replace(&mut state.buffer, mem::take(&mut spare.0));
        let marks = mem::replace(&mut state.marks, mem::take(&mut spare.1));
        let first_lsn = state.next_lsn - marks.len() as Lsn;
        let probe = mem::take(&mut state.probe);
        drop(state);
        self.shared.room.notify_all();
        Some((
            Batch {
                first_lsn,
                bytes,
                marks,
            },
            probe,
        ))
    }

    /// Writes and syncs a batch, in as many runs as it crosses segments.
    fn commit(&mut self, batch: &Batch) -> Result<(), Stop> {
        let segment_bytes = self.shared.options.segment_bytes;
        let soft_limit = segment_bytes - self.shared.options.reserve_bytes();
        let (mut settled, mut at) = (0, 0);
        let mut use_reserve = false;
        while settled < batch.marks.len() {
            let mut run_bytes = 0;
            let mut count = 0;
            for mark in &batch.marks[settled..] {
                let may_fill = if use_reserve && mark.urgent {
                    segment_bytes
                } else {
                    soft_limit
                };
                if self.active.end + run_bytes + mark.bytes > may_fill {
                    break;
                }
                run_bytes += mark.bytes;
                count += 1;
            }
            if count > 0 {
                let first_lsn = batch.first_lsn + settled as Lsn;
                let bytes = &batch.bytes[at..at + run_bytes as usize];
                self.write_run(first_lsn, bytes, &batch.marks[settled..settled + count])
                    .map_err(|stop| stop.after(settled))?;
                settled += count;
                at += run_bytes as usize;
                continue;
            }
            match self.roll(batch.first_lsn + settled as Lsn) {
                Ok(()) => use_reserve = false,
                // Once more, now into the reserve.
                Err(Stop::Full { .. }) if batch.marks[settled].urgent && !use_reserve => {
                    use_reserve = true;
                }
                Err(stop) => return Err(stop.after(settled)),
            }
        }
        Ok(())
    }

    /// Writes records that fit the active segment, syncs, and tells the observer.
    fn write_run(&mut self, first_lsn: Lsn, bytes: &[u8], marks: &[Mark]) -> Result<(), Stop> {
        let active = &mut self.active;
        match active.write(bytes, self.shared.options.segment_bytes) {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                take_back(active)?;
                return Err(Stop::full("write to a segment", &error));
            }
            Err(error) => return Err(Stop::failed("write to a segment", &error)),
        }
        let began = Instant::now();
        let synced = active.file.sync_data();
        self.shared.sync_clock.count(began.elapsed());
        synced.map_err(|error| Stop::failed("sync a segment", &error))?;
        let ordinal = active.segment.as_ref().map_or(0, |segment| segment.ordinal);
        self.positions.clear();
        for mark in marks {
            self.positions.push(Position {
                segment: ordinal,
                offset: active.end,
            });
            active.end += mark.bytes;
        }
        let mut state = self.shared.lock();
        if let Some(segment) = &active.segment {
            // Under the lock, for whoever takes a snapshot.
            segment.set_used_bytes(active.end);
        }
        state.durable_lsn = first_lsn + marks.len() as Lsn - 1;
        drop(state);
        self.observer.committed(first_lsn, &self.positions);
        Ok(())
    }

    /// Seals the active segment and goes on in a new one that starts with `first_lsn`. Everything
    /// before it is durable already, each run having been synced.
    fn roll(&mut self, first_lsn: Lsn) -> Result<(), Stop> {
        let shared = self.shared;
        let (file, allocated) = segment::make(
            &*shared.disk,
            &shared.dir,
            first_lsn,
            shared.salt,
            shared.options.segment_bytes,
        )
        .map_err(|error| {
            if is_full(&error.source) && !error.final_ {
                Stop::full(error.action, &error.source)
            } else {
                Stop::failed(error.action, &error.source)
            }
        })?;
        // Gives the reserve back. Should it fail, the space is only lost until the segment is dropped.
        let _ = self.active.file.truncate(u64::from(self.active.end));
        let ordinal = self
            .active
            .segment
            .as_ref()
            .map_or(0, |segment| segment.ordinal + 1);
        let path = shared.dir.join(segment::file_name(first_lsn));
        let used = u64::from(SEGMENT_HEADER_BYTES);
        let segment = Arc::new(Segment::new(
            ordinal,
            first_lsn,
            path,
            used,
            Some(Arc::clone(&file)),
        ));
        shared.segments.push(Arc::clone(&segment));
        self.active = Active::fresh(segment, file, allocated);
        self.heal();
        Ok(())
    }

    /// Tries whether there is space again.
    fn probe(&mut self) -> Result<(), String> {
        if !matches!(self.shared.lock().phase, Phase::Full(_)) {
            return Ok(());
        }
        let soft_limit = self.shared.options.segment_bytes - self.shared.options.reserve_bytes();
        // Space for the largest record here, or else a whole new segment.
        let largest = self
            .shared
            .options
            .record_bytes_max
            .saturating_add(HEADER_BYTES as u32);
        if !self.active.allocated {
            let segment_bytes = u64::from(self.shared.options.segment_bytes);
            match self.active.file.allocate(segment_bytes) {
                Ok(()) => self.active.allocated = true,
                // Only a write can tell, so let the next one try.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(error) if is_full(&error) => return Ok(()),
                Err(error) => return Err(format!("cannot allocate a segment: {error}")),
            }
        }
        if soft_limit.saturating_sub(self.active.end) >= largest {
            self.heal();
            return Ok(());
        }
        let next_lsn = {
            let state = self.shared.lock();
            state.durable_lsn + 1
        };
        // A segment without a record cannot make way for another of the same name.
        if self
            .active
            .segment
            .as_ref()
            .is_some_and(|segment| segment.first_lsn == next_lsn)
        {
            self.heal();
            return Ok(());
        }
        match self.roll(next_lsn) {
            Ok(()) | Err(Stop::Full { .. }) => Ok(()),
            Err(Stop::Failed(reason)) => Err(reason),
        }
    }

    fn heal(&mut self) {
        {
            let mut state = self.shared.lock();
            if !matches!(state.phase, Phase::Full(_)) {
                return;
            }
            state.phase = Phase::Open;
        }
        self.observer.healed();
    }

    /// Refuses everything from `first` on, also what was buffered meanwhile.
    fn refuse(&mut self, first: Lsn, reason: String) {
        let last = {
            let mut state = self.shared.lock();
            let last = state.next_lsn - 1;
            state.buffer.clear();
            state.marks.clear();
            state.next_lsn = first;
            state.phase = Phase::Refusing(reason.clone());
            last
        };
        self.observer.refused(first, last, &reason);
        self.shared.lock().phase = Phase::Full(reason);
        self.shared.room.notify_all();
    }

    fn fail(&mut self, reason: &str) {
        fail_state(self.shared, reason);
        self.observer.failed(reason);
    }

    /// Says behind the last record that it is durable, if there is time for it. Not synced: a
    /// killed process loses nothing of it, and the next sync takes it along.
    fn mark_if_idle(&mut self) -> Result<(), String> {
        let durable = {
            let state = self.shared.lock();
            if !state.marks.is_empty() {
                return Ok(());
            }
            state.durable_lsn
        };
        self.write_marker(durable)
    }

    fn write_marker(&mut self, durable: Lsn) -> Result<(), String> {
        let active = &self.active;
        if active.end as usize + HEADER_BYTES > self.shared.options.segment_bytes as usize {
            return Ok(());
        }
        let marker = marker(self.shared.salt, durable);
        match write_full(&*active.file, &marker, u64::from(active.end)) {
            Err(error) if !is_full(&error) => Err(format!("cannot write a marker: {error}")),
            _ => Ok(()),
        }
    }

    fn close(&mut self) {
        let durable = self.shared.lock().durable_lsn;
        let closed = self.write_marker(durable).and_then(|()| {
            self.active
                .file
                .sync_data()
                .map_err(|error| format!("cannot sync on close: {error}"))
        });
        if let Err(reason) = closed {
            self.fail(&reason);
        }
    }
}

/// Takes the bytes of a failed batch off the disk, durably, so that their lsns may be used again.
fn take_back(active: &mut Active) -> Result<(), Stop> {
    active
        .cut()
        .map_err(|error| Stop::failed("cut a segment", &error))?;
    active
        .file
        .sync_data()
        .map_err(|error| Stop::failed("sync a cut segment", &error))
}

impl Stop {
    fn full(action: &str, error: &io::Error) -> Stop {
        Stop::Full {
            settled: 0,
            reason: format!("cannot {action}: {error}"),
        }
    }

    fn failed(action: &str, error: &io::Error) -> Stop {
        Stop::Failed(format!("cannot {action}: {error}"))
    }

    fn after(self, settled: usize) -> Stop {
        match self {
            Stop::Full { reason, .. } => Stop::Full { settled, reason },
            Stop::Failed(reason) => Stop::Failed(reason),
        }
    }
}

fn fail_state(shared: &Shared, reason: &str) {
    let mut state = shared.lock();
    if !matches!(state.phase, Phase::Failed(_)) {
        state.phase = Phase::Failed(reason.to_owned());
    }
    state.buffer = Vec::new();
    state.marks = Vec::new();
    drop(state);
    shared.room.notify_all();
}

/// An observer that panics must not leave appenders waiting for a thread that is gone.
struct FailOnUnwind<'a>(&'a Shared);

impl Drop for FailOnUnwind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            fail_state(self.0, "the committer thread ended by a panic");
        }
    }
}
