//! The log of an index: changes, one behind the other, each with its length and sum.
//!
//! Invariant: what is read is a prefix of what was appended. A record that does not hold ends the log when no
//! whole record is behind it: that is what a crash leaves. With one behind it, it is damage. Left to others:
//! what the records mean.

use super::record::Change;

/// Bytes of the largest payload: a row with the longest name, and some room.
const PAYLOAD_BYTES_MAX: usize = 1024;
/// Bytes before a payload: its length and the sum.
const FRAME_BYTES: usize = 8;

/// How a log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With a whole record.
    Whole,
    /// With something that is none, at this byte.
    Torn(usize),
    /// It is damaged at this byte.
    Damaged(usize),
}

/// Appends a change as a record.
pub(super) fn push(change: &Change, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; FRAME_BYTES]);
    change.encode(bytes);
    let len = (bytes.len() - start - FRAME_BYTES) as u32;
    bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
    let sum = sum_of(&bytes[start..]);
    bytes[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Gives every change to `apply`, from a byte on, until the end or the first that it refuses.
pub(super) fn replay<E>(
    bytes: &[u8],
    start: usize,
    mut apply: impl FnMut(usize, Option<Change>) -> Result<(), E>,
) -> Result<End, E> {
    let mut at = start;
    while at < bytes.len() {
        let Some(record) = record_at(bytes, at) else {
            let is_behind = |later: usize| record_at(bytes, later).is_some();
            return Ok(if (at + 1..bytes.len()).any(is_behind) {
                End::Damaged(at)
            } else {
                End::Torn(at)
            });
        };
        apply(at, Change::decode(&record[FRAME_BYTES..]))?;
        at += record.len();
    }
    Ok(End::Whole)
}

/// The whole record at a byte, with its frame.
fn record_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let (len, _) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len) as usize;
    if !(1..=PAYLOAD_BYTES_MAX).contains(&len) {
        return None;
    }
    let record = bytes.get(at..at + FRAME_BYTES + len)?;
    let sum = record[4..].first_chunk::<4>()?;
    (u32::from_le_bytes(*sum) == sum_of(record)).then_some(record)
}

/// The sum over length and payload.
fn sum_of(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[FRAME_BYTES..])
}
