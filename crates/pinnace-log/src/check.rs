//! Reading a whole log to see whether it still is what was acknowledged: of a log that nobody has
//! open, and of a snapshot of one that is in use.
//!
//! Invariant: nothing is written, and what opening the log would report is reported, by the same
//! judgement. Whole records are walked through a small buffer; a segment is read into memory only
//! where the walk meets something that is no record. Left to others: what the records mean.

use std::ops::ControlFlow;
use std::path::Path;

use crate::Lsn;
use crate::candidates::{self, common_salt};
use crate::disk::{Disk, DiskFile, read_full};
use crate::error::OpenError;
use crate::judge::{Due, Verdict, judge};
use crate::limits::{CHECK_BLOCK_BYTES, CHECK_WINDOW_BYTES, SEGMENT_HEADER_BYTES};
use crate::record::{HEADER_BYTES, Header, payload_crc};
use crate::recovery::{Damage, Recovery, TornTail};
use crate::segment::HeaderBlock;

/// A record as a check meets it.
#[derive(Debug, Clone, Copy)]
pub struct Visited<'a> {
    /// Its number.
    pub lsn: Lsn,
    /// Name of its segment.
    pub segment: &'a str,
    /// Offset of its first byte in the segment.
    pub offset: u64,
    /// What it holds.
    pub payload: &'a [u8],
}

/// The caller's view of each whole record, in lsn order. A break ends the check.
pub type Visit<'a> = dyn FnMut(Visited<'_>) -> ControlFlow<()> + 'a;

/// Checks the log in `dir`, which nobody may have open. `None` when `visit` ended it.
///
/// # Errors
/// As for opening. Damage is not an error; it is in the `Recovery`.
pub fn check(
    disk: &dyn Disk,
    dir: &Path,
    visit: &mut Visit<'_>,
) -> Result<Option<Recovery>, OpenError> {
    let (candidates, _leftovers) = candidates::list(disk, dir, &|path| disk.open_to_read(path))?;
    let Some(salt) = common_salt(&candidates)? else {
        return Ok(Some(Recovery::default()));
    };
    let mut checker = Checker::new(salt, visit);
    for (index, candidate) in candidates.iter().enumerate() {
        let bytes = candidate.file.len();
        let source = Source {
            name: &candidate.name,
            first_lsn: candidate.first_lsn,
            header: candidate.header,
            file: &*candidate.file,
            bytes: bytes.map_err(candidates::io_error("read", &candidate.path))?,
        };
        let limit = candidates.get(index + 1).map(|next| next.first_lsn);
        if checker.segment(&source, limit).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(checker.findings))
}

/// A segment to be checked.
pub(crate) struct Source<'a> {
    pub(crate) name: &'a str,
    pub(crate) first_lsn: Lsn,
    pub(crate) header: HeaderBlock,
    pub(crate) file: &'a dyn DiskFile,
    /// How far it is looked at.
    pub(crate) bytes: u64,
}

/// Checks segments one after the other.
pub(crate) struct Checker<'a, 'v> {
    salt: u32,
    pub(crate) findings: Recovery,
    visit: &'a mut Visit<'v>,
}

impl<'a, 'v> Checker<'a, 'v> {
    pub(crate) fn new(salt: u32, visit: &'a mut Visit<'v>) -> Self {
        Self {
            salt,
            findings: Recovery::default(),
            visit,
        }
    }

    /// Checks one segment. `limit` is the lsn after the last one that was acknowledged in it; `None`
    /// when nobody knows.
    pub(crate) fn segment(&mut self, source: &Source<'_>, limit: Option<Lsn>) -> ControlFlow<()> {
        self.header(source);
        if self.findings.segments > 0 && source.first_lsn > self.findings.last_lsn + 1 {
            let lsns = (self.findings.last_lsn + 1, source.first_lsn - 1);
            self.damage(source, (0, 0), Some(lsns));
        }
        self.findings.segments += 1;
        let due = self.walk(source, limit)?;
        if limit == Some(due.lsn) {
            self.findings.last_lsn = due.lsn - 1;
            return ControlFlow::Continue(());
        }
        let bytes = read_around(source);
        let verdict = judge(&bytes, self.salt, due, limit);
        self.judged(source, &verdict, &bytes, limit.is_none())?;
        let last = verdict.kept.last().map_or(due.lsn - 1, |found| found.lsn);
        self.findings.last_lsn = last.max(verdict.durable).max(self.findings.last_lsn);
        ControlFlow::Continue(())
    }

    /// Visits whole records from the first on, as far as they follow each other. Says what is due then.
    fn walk(&mut self, source: &Source<'_>, limit: Option<Lsn>) -> ControlFlow<(), Due> {
        let mut due = Due {
            at: SEGMENT_HEADER_BYTES as usize,
            lsn: source.first_lsn,
            claim: source.first_lsn - 1,
        };
        let mut window = Window::new(source);
        while limit.is_none_or(|limit| due.lsn < limit) {
            let Some((claim, bytes)) = window.record(due, self.salt) else {
                break;
            };
            (self.visit)(Visited {
                lsn: due.lsn,
                segment: source.name,
                offset: due.at as u64,
                payload: &bytes[HEADER_BYTES..],
            })?;
            self.findings.records += 1;
            due.claim = due.claim.max(claim);
            due.at += bytes.len();
            due.lsn += 1;
        }
        ControlFlow::Continue(due)
    }

    fn judged(
        &mut self,
        source: &Source<'_>,
        verdict: &Verdict,
        bytes: &[u8],
        is_last: bool,
    ) -> ControlFlow<()> {
        for gap in &verdict.damage {
            let lsns = Some((gap.first_lsn, gap.last_lsn));
            self.damage(source, (gap.offset, gap.end), lsns);
        }
        for found in &verdict.kept {
            (self.visit)(Visited {
                lsn: found.lsn,
                segment: source.name,
                offset: found.offset as u64,
                payload: &bytes[found.offset + HEADER_BYTES..][..found.len],
            })?;
            self.findings.records += 1;
        }
        if let (true, Some(rest)) = (is_last, verdict.rest) {
            self.findings.torn = Some(TornTail {
                segment: source.name.to_owned(),
                offset: verdict.end as u64,
                bytes: (rest.used - verdict.end) as u64,
                records: rest.records as u64,
                copy: None,
            });
        }
        ControlFlow::Continue(())
    }

    fn header(&mut self, source: &Source<'_>) {
        if let Some(range) = source.header.hurt() {
            self.damage(source, range, None);
        }
    }

    fn damage(
        &mut self,
        source: &Source<'_>,
        (offset, end): (usize, usize),
        lsns: Option<(Lsn, Lsn)>,
    ) {
        self.findings.damage.push(Damage {
            segment: source.name.to_owned(),
            offset: offset as u64,
            bytes: (end - offset) as u64,
            lsns,
            copy: None,
        });
    }
}

/// A part of a segment in memory.
struct Window<'a> {
    file: &'a dyn DiskFile,
    file_bytes: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(source: &Source<'a>) -> Self {
        Self {
            file: source.file,
            file_bytes: source.bytes,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// The record that is due, if it stands there whole, with what it claims durable.
    fn record(&mut self, due: Due, salt: u32) -> Option<(Lsn, &[u8])> {
        let head = Header::parse(self.get(due.at as u64, HEADER_BYTES)?, salt)?;
        let Header::Record {
            lsn,
            len,
            payload_crc: sum,
            durable,
        } = head
        else {
            return None;
        };
        if lsn != due.lsn {
            return None;
        }
        let record = self.get(due.at as u64, HEADER_BYTES + len as usize)?;
        (payload_crc(&[&record[HEADER_BYTES..]]) == sum).then_some((durable, record))
    }

    /// Bytes of the segment; `None` beyond its end, and where the disk does not give them.
    fn get(&mut self, at: u64, len: usize) -> Option<&[u8]> {
        if at + len as u64 > self.file_bytes {
            return None;
        }
        if at < self.start || at + len as u64 > self.start + self.bytes.len() as u64 {
            let ahead = CHECK_WINDOW_BYTES.max(len) as u64;
            self.start = at;
            self.bytes
                .resize(ahead.min(self.file_bytes - at) as usize, 0);
            let read = read_full(self.file, &mut self.bytes, at);
            self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        }
        let from = (at - self.start) as usize;
        self.bytes.get(from..from + len)
    }
}

/// All bytes of a segment. Blocks that the disk does not give are zeros, which are no record.
fn read_around(source: &Source<'_>) -> Vec<u8> {
    let mut bytes = vec![0; source.bytes as usize];
    if let Ok(read) = read_full(source.file, &mut bytes, 0) {
        bytes.truncate(read);
        return bytes;
    }
    for (index, block) in bytes.chunks_mut(CHECK_BLOCK_BYTES).enumerate() {
        let offset = (index * CHECK_BLOCK_BYTES) as u64;
        if read_full(source.file, block, offset).is_err() {
            block.fill(0);
        }
    }
    bytes
}
