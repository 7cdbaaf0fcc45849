//! The 24 bytes in front of every payload: encoding and checking.
//!
//! Invariant: `Header::parse` returns a header only if its sum holds under this log's salt. Pure
//! bytes; where records stand in a segment is known to `scan`, the layout is drawn in
//! `docs/formats/log.md`.

use crate::Lsn;
use crate::limits::{LSN_MAX, RECORD_OVERHEAD_BYTES};

/// Bytes of a record header.
pub(crate) const HEADER_BYTES: usize = RECORD_OVERHEAD_BYTES as usize;

/// Length that makes a header a marker.
const MARKER: u32 = u32::MAX;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// A payload of `len` bytes follows.
    Record {
        lsn: Lsn,
        len: u32,
        payload_crc: u32,
        durable: Lsn,
    },
    /// Nothing follows; every record up to `durable` was durable.
    Marker { durable: Lsn },
}

impl Header {
    /// Reads the header at the start of `bytes`.
    pub(crate) fn parse(bytes: &[u8], salt: u32) -> Option<Header> {
        let head = bytes.get(..HEADER_BYTES)?;
        let lsn = u64_at(head, 8);
        // Most wrong places fail here, before the sum is taken.
        if lsn > LSN_MAX || u32_at(head, 0) != seal(salt, head) {
            return None;
        }
        let (len, unsynced) = (u32_at(head, 16), u32_at(head, 20));
        if len == MARKER {
            return Some(Header::Marker { durable: lsn });
        }
        let durable = lsn.checked_sub(u64::from(unsynced))?;
        Some(Header::Record {
            lsn,
            len,
            payload_crc: u32_at(head, 4),
            durable,
        })
    }
}

/// The header of a record. `durable` is the last durable lsn as the record is buffered.
pub(crate) fn record_header(
    salt: u32,
    lsn: Lsn,
    durable: Lsn,
    len: u32,
    payload_crc: u32,
) -> [u8; HEADER_BYTES] {
    encode(salt, payload_crc, lsn, len, (lsn - durable) as u32)
}

/// A marker that claims every record up to `durable`.
pub(crate) fn marker(salt: u32, durable: Lsn) -> [u8; HEADER_BYTES] {
    encode(salt, 0, durable, MARKER, 0)
}

/// Sum over a payload given in parts.
pub(crate) fn payload_crc(parts: &[&[u8]]) -> u32 {
    parts
        .iter()
        .fold(0, |crc, part| crc32c::crc32c_append(crc, part))
}

fn encode(salt: u32, payload_crc: u32, lsn: Lsn, len: u32, unsynced: u32) -> [u8; HEADER_BYTES] {
    let mut head = [0; HEADER_BYTES];
    head[4..8].copy_from_slice(&payload_crc.to_le_bytes());
    head[8..16].copy_from_slice(&lsn.to_le_bytes());
    head[16..20].copy_from_slice(&len.to_le_bytes());
    head[20..24].copy_from_slice(&unsynced.to_le_bytes());
    let sum = seal(salt, &head);
    head[0..4].copy_from_slice(&sum.to_le_bytes());
    head
}

fn seal(salt: u32, head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &head[4..HEADER_BYTES])
}

/// Little-endian u32 at an offset; 0 beyond the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

/// Little-endian u64 at an offset; 0 beyond the end.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_a_wrong_salt_break_the_header() {
        let good = record_header(7, 1000, 990, 5, 0xdead_beef);
        let expected = Header::Record {
            lsn: 1000,
            len: 5,
            payload_crc: 0xdead_beef,
            durable: 990,
        };
        assert_eq!(Header::parse(&good, 7), Some(expected));
        assert_eq!(Header::parse(&good, 8), None);
        assert_eq!(Header::parse(&good[..23], 7), None);
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&bad, 7), None, "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_not_a_header_under_any_small_salt() {
        for salt in 0..1000 {
            assert_eq!(Header::parse(&[0; HEADER_BYTES], salt), None);
        }
        assert_eq!(
            Header::parse(&marker(3, 9), 3),
            Some(Header::Marker { durable: 9 })
        );
    }

    #[test]
    fn the_sum_of_parts_is_the_sum_of_the_whole() {
        assert_eq!(payload_crc(&[b"ab", b"", b"c"]), payload_crc(&[b"abc"]));
        assert_ne!(payload_crc(&[b"abd"]), payload_crc(&[b"abc"]));
    }
}
