//! Opening a log: read every segment, decide what is damage and what is a torn tail, replay.
//!
//! Invariant: nothing that was claimed durable is cut or deleted, and nothing is served before it
//! is durable. The rules are numbered in `docs/formats/log.md`, section Recovery.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Lsn;
use crate::candidates::{self, Candidate, common_salt, io_error};
use crate::disk::{Disk, DiskFile, read_all, write_full};
use crate::error::{OpenError, is_full};
use crate::judge::{Due, Rest, judge};
use crate::limits::SEGMENT_HEADER_BYTES;
use crate::log::{Options, Position};
use crate::quarantine;
use crate::record::{HEADER_BYTES, marker};
use crate::scan::{Found, Gap};
use crate::segment::{self, HeaderBlock, Segment};

/// What opening a log found, or checking it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Segments in the directory, before a new one was made.
    pub segments: usize,
    /// Records replayed.
    pub records: u64,
    /// Lsn of the last record kept, or of the last one lost to damage if that is later; 0 in a new log.
    pub last_lsn: Lsn,
    /// The end that was cut off because a crash left it unfinished; never acknowledged data.
    pub torn: Option<TornTail>,
    /// Places where acknowledged data is hurt.
    pub damage: Vec<Damage>,
}

/// The unfinished end of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// Name of the segment.
    pub segment: String,
    /// Where the log now ends, in bytes.
    pub offset: u64,
    /// Bytes after that place which were not zero, up to the last such byte.
    pub bytes: u64,
    /// Whole records that stood behind the gap.
    pub records: u64,
    /// Where the bytes were kept, if whole records were among them.
    pub copy: Option<PathBuf>,
}

/// A place where acknowledged data is hurt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Name of the segment.
    pub segment: String,
    /// First byte.
    pub offset: u64,
    /// Length; 0 when the bytes are missing altogether.
    pub bytes: u64,
    /// First and last record lost; `None` when only spare information is hurt.
    pub lsns: Option<(Lsn, Lsn)>,
    /// Where the bytes were copied, if there were any and the copy could be made.
    pub copy: Option<PathBuf>,
}

/// What the log goes on from.
pub(crate) struct Recovered {
    pub(crate) recovery: Recovery,
    pub(crate) salt: u32,
    pub(crate) segments: VecDeque<Arc<Segment>>,
    pub(crate) active: Arc<dyn DiskFile>,
    /// Whether the active segment's space is allocated to its full size.
    pub(crate) allocated: bool,
}

/// The caller's view of each record: lsn, where it is, payload. An error ends the opening.
pub type Replay<'a> = dyn FnMut(Lsn, Position, &[u8]) -> Result<(), String> + 'a;

/// Recovers the log in `dir`, making it if there is none.
pub(crate) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    options: &Options,
    replay: &mut Replay<'_>,
) -> Result<Recovered, OpenError> {
    disk.create_dir(dir).map_err(io_error("create", dir))?;
    let (candidates, leftovers) = candidates::list(disk, dir, &|path| disk.open(path))?;
    let salt = common_salt(&candidates)?;
    for path in leftovers {
        disk.remove(&path).map_err(io_error("remove", &path))?;
    }
    let Some(salt) = salt else {
        return fresh(disk, dir, options);
    };
    let recovery = Recovery {
        segments: candidates.len(),
        ..Recovery::default()
    };
    let mut work = Work {
        disk,
        dir,
        options,
        salt,
        recovery,
        segments: VecDeque::new(),
        replay,
    };
    let mut tail = None;
    for (index, candidate) in candidates.iter().enumerate() {
        let limit = candidates.get(index + 1).map(|next| next.first_lsn);
        tail = Some(work.segment(index as u32, candidate, limit)?);
    }
    let Some(tail) = tail else {
        return fresh(disk, dir, options);
    };
    work.finish(tail)
}

/// Where the last segment ends.
struct Tail {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    end: usize,
    /// Bytes of the file.
    file_bytes: usize,
    /// Acknowledged records are missing in it, or its header, so it must not be written again.
    damaged: bool,
    /// Something that is not zero stands after `end`.
    dirty: bool,
    /// Offset and bytes of the records that are kept but were never claimed durable.
    unproven: (usize, Vec<u8>),
}

struct Work<'a, 'r> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    options: &'a Options,
    salt: u32,
    recovery: Recovery,
    segments: VecDeque<Arc<Segment>>,
    replay: &'a mut Replay<'r>,
}

impl Work<'_, '_> {
    /// Scans one segment, reports its damage, replays what it holds. `limit` is the first lsn of
    /// the next segment, `None` for the last.
    fn segment(
        &mut self,
        ordinal: u32,
        candidate: &Candidate,
        limit: Option<Lsn>,
    ) -> Result<Tail, OpenError> {
        let bytes = read_all(&*candidate.file).map_err(io_error("read", &candidate.path))?;
        let due = Due {
            at: SEGMENT_HEADER_BYTES as usize,
            lsn: candidate.first_lsn,
            claim: candidate.first_lsn - 1,
        };
        let verdict = judge(&bytes, self.salt, due, limit);
        self.header_damage(candidate, &bytes);
        if ordinal > 0 {
            self.missing_segment(candidate);
        }
        for gap in &verdict.damage {
            self.damage(candidate, &bytes, *gap);
        }
        let (kept, durable, end) = (&verdict.kept, verdict.durable, verdict.end);
        self.replay_kept(ordinal, candidate, kept, &bytes)?;
        self.recovery.records += kept.len() as u64;
        self.recovery.last_lsn = kept
            .last()
            .map_or(0, |found| found.lsn)
            .max(durable)
            .max(self.recovery.last_lsn);
        if let (None, Some(rest)) = (limit, verdict.rest) {
            self.torn(candidate, &bytes, end, rest);
        }
        self.segments.push_back(Arc::new(Segment::new(
            ordinal,
            candidate.first_lsn,
            candidate.path.clone(),
            end as u64,
            None,
        )));
        Ok(Tail {
            file: Arc::clone(&candidate.file),
            path: candidate.path.clone(),
            end,
            file_bytes: bytes.len(),
            damaged: !verdict.damage.is_empty() || candidate.header == HeaderBlock::Lost,
            dirty: verdict.rest.is_some(),
            unproven: unproven(kept, durable, end, &bytes),
        })
    }

    fn replay_kept(
        &mut self,
        ordinal: u32,
        candidate: &Candidate,
        kept: &[Found],
        bytes: &[u8],
    ) -> Result<(), OpenError> {
        for found in kept {
            let payload = &bytes[found.offset + HEADER_BYTES..][..found.len];
            let position = Position {
                segment: ordinal,
                offset: found.offset as u32,
            };
            (self.replay)(found.lsn, position, payload).map_err(|reason| OpenError::Replay {
                lsn: found.lsn,
                segment: candidate.name.clone(),
                reason,
            })?;
        }
        Ok(())
    }

    /// Reports records that are due before this segment: one in front was removed by other hands.
    fn missing_segment(&mut self, candidate: &Candidate) {
        let (first_lsn, last_lsn) = (self.recovery.last_lsn + 1, candidate.first_lsn - 1);
        if first_lsn <= last_lsn {
            let nowhere = Gap {
                offset: 0,
                end: 0,
                first_lsn,
                last_lsn,
            };
            self.damage(candidate, &[], nowhere);
        }
    }

    fn header_damage(&mut self, candidate: &Candidate, bytes: &[u8]) {
        if let Some((offset, end)) = candidate.header.hurt() {
            self.report(candidate, bytes, offset, end, None);
        }
    }

    fn damage(&mut self, candidate: &Candidate, bytes: &[u8], gap: Gap) {
        let lsns = Some((gap.first_lsn, gap.last_lsn));
        self.report(candidate, bytes, gap.offset, gap.end, lsns);
    }

    fn report(
        &mut self,
        candidate: &Candidate,
        bytes: &[u8],
        offset: usize,
        end: usize,
        lsns: Option<(Lsn, Lsn)>,
    ) {
        let hurt = bytes.get(offset..end.min(bytes.len())).unwrap_or_default();
        let what = match lsns {
            Some((first, last)) => format!("records {first} to {last} cannot be read"),
            None => "a spare copy of the header does not hold; no record is lost".to_owned(),
        };
        let note = format!(
            "segment {}\noffset {offset}\nlength {}\n{what}\nThe segment itself was not changed.\n",
            candidate.name,
            hurt.len(),
        );
        let copy = if hurt.is_empty() {
            None
        } else {
            quarantine::keep(self.disk, self.dir, &candidate.name, offset, hurt, &note)
        };
        self.recovery.damage.push(Damage {
            segment: candidate.name.clone(),
            offset: offset as u64,
            bytes: hurt.len() as u64,
            lsns,
            copy,
        });
    }

    fn torn(&mut self, candidate: &Candidate, bytes: &[u8], end: usize, rest: Rest) {
        let (used, whole) = (rest.used, rest.records);
        let note = format!(
            "segment {}\noffset {end}\nlength {}\n{whole} whole records stood behind a gap at the \
             end of the log. Nothing says that they had been acknowledged, so the log was cut.\n",
            candidate.name,
            used - end,
        );
        let copy = if whole == 0 {
            None
        } else {
            quarantine::keep(
                self.disk,
                self.dir,
                &candidate.name,
                end,
                &bytes[end..used],
                &note,
            )
        };
        self.recovery.torn = Some(TornTail {
            segment: candidate.name.clone(),
            offset: end as u64,
            bytes: (used - end) as u64,
            records: whole as u64,
            copy,
        });
    }

    /// Makes the end of the log fit to be written: cuts the tail, or starts a new segment after
    /// damage, and syncs what was kept.
    fn finish(mut self, tail: Tail) -> Result<Recovered, OpenError> {
        let (disk, dir, segment_bytes) = (self.disk, self.dir, self.options.segment_bytes);
        let error = |action| io_error(action, &tail.path);
        // A sync that failed before may have left these bytes in the cache, marked clean, and not on
        // the medium, where no later sync would bring them. Written again they are dirty again.
        let (offset, bytes) = &tail.unproven;
        write_full(&*tail.file, bytes, *offset as u64).map_err(error("write"))?;
        if tail.damaged {
            tail.file.sync_data().map_err(error("sync"))?;
            disk.sync_dir(dir).map_err(io_error("sync", dir))?;
            let first_lsn = self.recovery.last_lsn + 1;
            let (file, allocated) = make(disk, dir, first_lsn, self.salt, segment_bytes)?;
            // One that had lost its header and held nothing has been replaced.
            self.segments
                .pop_back_if(|last| last.first_lsn == first_lsn);
            let ordinal = self.segments.len() as u32;
            let path = dir.join(segment::file_name(first_lsn));
            let used = u64::from(SEGMENT_HEADER_BYTES);
            let segment = Segment::new(ordinal, first_lsn, path, used, Some(Arc::clone(&file)));
            self.segments.push_back(Arc::new(segment));
            return Ok(self.recovered(file, allocated));
        }
        if tail.dirty {
            tail.file.truncate(tail.end as u64).map_err(error("cut"))?;
        }
        let allocated = if !tail.dirty && tail.file_bytes >= segment_bytes as usize {
            true
        } else {
            match tail.file.allocate(u64::from(segment_bytes)) {
                Ok(()) => true,
                // Without space the log still opens, to be read and to be emptied.
                Err(e) if e.kind() == io::ErrorKind::Unsupported || is_full(&e) => false,
                Err(e) => return Err(error("allocate")(e)),
            }
        };
        tail.file.sync_data().map_err(error("sync"))?;
        disk.sync_dir(dir).map_err(io_error("sync", dir))?;
        // Only now, because the marker claims that what stands before it is durable.
        if tail.end + HEADER_BYTES <= segment_bytes as usize {
            let marker = marker(self.salt, self.recovery.last_lsn);
            match write_full(&*tail.file, &marker, tail.end as u64) {
                Err(e) if !is_full(&e) => return Err(error("write")(e)),
                _ => tail.file.sync_data().map_err(error("sync"))?,
            }
        }
        let file = Arc::clone(&tail.file);
        Ok(self.recovered(file, allocated))
    }

    fn recovered(self, active: Arc<dyn DiskFile>, allocated: bool) -> Recovered {
        let Work {
            recovery,
            salt,
            segments,
            ..
        } = self;
        Recovered {
            recovery,
            salt,
            segments,
            active,
            allocated,
        }
    }
}

/// The part of the kept records that stands above `durable`.
fn unproven(kept: &[Found], durable: Lsn, end: usize, bytes: &[u8]) -> (usize, Vec<u8>) {
    let first = kept.partition_point(|found| found.lsn <= durable);
    let offset = kept.get(first).map_or(end, |found| found.offset);
    // A file that was cut in its header ends before its records would.
    let unproven = bytes.get(offset..end).unwrap_or_default();
    (offset, unproven.to_vec())
}

fn fresh(disk: &dyn Disk, dir: &Path, options: &Options) -> Result<Recovered, OpenError> {
    // The hasher's keys are the one source of randomness at hand without another dependency.
    let salt = options
        .salt
        .unwrap_or_else(|| RandomState::new().hash_one(0x9e37_u16) as u32);
    let (active, allocated) = make(disk, dir, 1, salt, options.segment_bytes)?;
    let path = dir.join(segment::file_name(1));
    let used = u64::from(SEGMENT_HEADER_BYTES);
    let segment = Segment::new(0, 1, path, used, Some(Arc::clone(&active)));
    let segments = VecDeque::from([Arc::new(segment)]);
    Ok(Recovered {
        recovery: Recovery::default(),
        salt,
        segments,
        active,
        allocated,
    })
}

fn make(
    disk: &dyn Disk,
    dir: &Path,
    first_lsn: Lsn,
    salt: u32,
    segment_bytes: u32,
) -> Result<(Arc<dyn DiskFile>, bool), OpenError> {
    segment::make(disk, dir, first_lsn, salt, segment_bytes).map_err(|error| OpenError::Io {
        action: error.action,
        path: dir.join(segment::file_name(first_lsn)),
        source: error.source,
    })
}
