//! Opening a log whose files hold anything: it opens or refuses, no file goes, and what is appended then is
//! there the next time. Of the records it finds nothing is asked but their order: whole records in wrong
//! places, which no disk makes of a log, may count at one time and not at another.
//!
//! The first byte says whether the sums of headers and records are made right, so that what they seal is
//! tried too, and the second how the rest is parted into two segments.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pinnace_log::twin::TwinDisk;
use pinnace_log::{Log, Observer, Options, Position};

const SEGMENT_HEADER: usize = 4096;
const COPIES: [usize; 2] = [0, 2048];
const COPY: usize = 32;
const RECORD_HEADER: usize = 24;

struct Nobody;

impl Observer for Nobody {
    fn committed(&mut self, _: u64, _: &[Position]) {}
    fn refused(&mut self, _: u64, _: u64, _: &str) {}
    fn failed(&mut self, _: &str) {}
}

/// The file of a segment: both copies of its header, then its records, without the zeros between.
fn segment(compact: &[u8], seal: bool) -> Vec<u8> {
    let (headers, records) = compact.split_at(compact.len().min(2 * COPY));
    let mut file = vec![0; SEGMENT_HEADER];
    for (at, copy) in COPIES.into_iter().zip(headers.chunks(COPY)) {
        file[at..at + copy.len()].copy_from_slice(copy);
        if seal {
            let sum = crc32c::crc32c(&file[at..at + 28]);
            file[at + 28..at + COPY].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let salt = file[24..28].to_vec();
    file.extend_from_slice(records);
    let mut at = SEGMENT_HEADER;
    while seal && at + RECORD_HEADER <= file.len() {
        let (header, rest) = file[at..].split_at_mut(RECORD_HEADER);
        let length = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
        // The marker has no payload.
        let payload = if length == u32::MAX as usize {
            &[]
        } else {
            &rest[..length.min(rest.len())]
        };
        let sum = crc32c::crc32c(payload);
        if length != u32::MAX as usize {
            header[4..8].copy_from_slice(&sum.to_le_bytes());
        }
        let sum = crc32c::crc32c_append(crc32c::crc32c(&salt), &header[4..]);
        header[..4].copy_from_slice(&sum.to_le_bytes());
        at += RECORD_HEADER + payload.len();
    }
    file
}

/// The log's records, unless it is refused.
fn open(disk: &TwinDisk, more: Option<&[u8]>) -> Option<Vec<(u64, Vec<u8>)>> {
    let options = Options {
        segment_bytes: 16 << 10,
        record_bytes_max: 2048,
        buffer_bytes_max: 1 << 20,
        salt: Some(7),
    };
    let mut records: Vec<(u64, Vec<u8>)> = Vec::new();
    let disk = Arc::new(disk.clone());
    let opened = Log::open(disk, Path::new("log"), options, &mut |lsn, _, payload| {
        assert!(records.last().is_none_or(|(last, _)| *last < lsn));
        records.push((lsn, payload.to_vec()));
        Ok(())
    });
    let opened = opened.ok()?;
    if let Some(more) = more {
        let log = opened.start(Box::new(Nobody)).expect("a thread");
        let lsn = log.append(&[more]).expect("room");
        records.push((lsn, more.to_vec()));
    }
    Some(records)
}

fuzz_target!(|bytes: &[u8]| {
    let [flags, split, rest @ ..] = bytes else {
        return;
    };
    let (first, second) = rest.split_at(rest.len() * usize::from(*split) / 256);
    let disk = TwinDisk::new();
    for (segment_of, compact) in [(1, first), (4, second)] {
        let path = format!("log/{segment_of:020}.log");
        if !compact.is_empty() {
            disk.put(Path::new(&path), segment(compact, flags & 1 == 1));
        }
    }
    let Some(found) = open(&disk, None) else {
        return;
    };
    // Half of all numbers are left to those who come later.
    if found.last().is_some_and(|(lsn, _)| *lsn >= u64::MAX >> 2) {
        return;
    }
    let appended = open(&disk, Some(b"after")).expect("it opened before");
    let again = open(&disk, None).expect("it opened before");
    assert!(
        again.ends_with(&appended[appended.len() - 1..]),
        "it is not there"
    );
    assert!(disk.removed().is_empty(), "a file went");
});
