//! Finding the records in a segment's bytes, also around damage.
//!
//! Invariant: a record is found only if both of its sums hold and its lsn is above that of every
//! record before it; every lsn missing in between is named by exactly one gap. Whether a gap is
//! damage or a torn tail is decided by `recovery`, which knows what was claimed durable.

use crate::Lsn;
use crate::record::{HEADER_BYTES, Header, payload_crc, u64_at};

/// A whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Of the header's first byte.
    pub(crate) offset: usize,
    pub(crate) lsn: Lsn,
    /// Payload bytes.
    pub(crate) len: usize,
}

/// Bytes in which records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) offset: usize,
    /// First byte after the gap.
    pub(crate) end: usize,
    pub(crate) first_lsn: Lsn,
    pub(crate) last_lsn: Lsn,
}

/// What a segment holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) found: Vec<Found>,
    /// Gaps that are followed by a whole record.
    pub(crate) gaps: Vec<Gap>,
    /// Greatest lsn that a header in this segment claims to be durable.
    pub(crate) claim: Lsn,
    /// The lsn due after the last whole record.
    pub(crate) next_lsn: Lsn,
    /// First byte after the last whole record.
    pub(crate) end: usize,
    /// First byte after the last byte that is not zero, at least `end`.
    pub(crate) used: usize,
}

/// Scans `bytes` from `start`, where the record `first_lsn` is due. Records at or above `limit` are
/// not this segment's to have.
pub(crate) fn scan(bytes: &[u8], salt: u32, start: usize, first_lsn: Lsn, limit: Lsn) -> Scan {
    let mut scan = Scan {
        next_lsn: first_lsn,
        end: start,
        ..Scan::default()
    };
    let mut gap: Option<usize> = None;
    let mut at = start;
    while at + HEADER_BYTES <= bytes.len() {
        match Header::parse(&bytes[at..], salt) {
            Some(Header::Record {
                lsn,
                len,
                payload_crc: sum,
                durable,
            }) if lsn >= scan.next_lsn && lsn < limit => {
                let body = at + HEADER_BYTES;
                let end = body + len as usize;
                let Some(payload) = bytes.get(body..end) else {
                    gap.get_or_insert(at);
                    at = next_candidate(bytes, at + 1, scan.next_lsn);
                    continue;
                };
                scan.claim = scan.claim.max(durable);
                if payload_crc(&[payload]) == sum {
                    if lsn > scan.next_lsn {
                        scan.gaps.push(Gap {
                            offset: gap.unwrap_or(at),
                            end: at,
                            first_lsn: scan.next_lsn,
                            last_lsn: lsn - 1,
                        });
                    }
                    gap = None;
                    scan.found.push(Found {
                        offset: at,
                        lsn,
                        len: len as usize,
                    });
                    scan.next_lsn = lsn + 1;
                    scan.end = end;
                } else {
                    // The header holds, so the next record starts right after this payload.
                    gap.get_or_insert(at);
                }
                at = end;
            }
            Some(Header::Marker { durable }) if durable < limit => {
                scan.claim = scan.claim.max(durable);
                gap.get_or_insert(at);
                at = next_candidate(bytes, at + HEADER_BYTES, scan.next_lsn);
            }
            _ => {
                gap.get_or_insert(at);
                at = next_candidate(bytes, at + 1, scan.next_lsn);
            }
        }
    }
    scan.used = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1)
        .max(scan.end);
    scan
}

/// The next place from `at` on whose lsn field is possible, or the end. Taking sums only there
/// makes the search run at memory speed.
fn next_candidate(bytes: &[u8], mut at: usize, next_lsn: Lsn) -> usize {
    const STRIDE: usize = 256;
    // A segment cannot hold more records than it has room for headers.
    let span = (bytes.len() / HEADER_BYTES) as u64;
    // A marker may stand for any lsn, but one below the due lsn claims nothing new except the lsn
    // right in front.
    let low = next_lsn.saturating_sub(1);
    while at + HEADER_BYTES <= bytes.len() {
        // The lsn is not zero, so no header starts where 16 zeros follow: leap over allocated space.
        if let Some(block) = bytes.get(at..at + STRIDE)
            && block.iter().fold(0, |or, &byte| or | byte) == 0
        {
            at += STRIDE - 16;
            continue;
        }
        let lsn = u64_at(bytes, at + 8);
        if lsn >= low && lsn - low <= span + 1 {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{marker, record_header};

    const SALT: u32 = 77;

    fn push(bytes: &mut Vec<u8>, lsn: Lsn, durable: Lsn, payload: &[u8]) {
        let sum = payload_crc(&[payload]);
        bytes.extend(record_header(SALT, lsn, durable, payload.len() as u32, sum));
        bytes.extend(payload);
    }

    /// Records 1 to 5 of 10 bytes each, one batch of two and three of one.
    fn five() -> Vec<u8> {
        let mut bytes = Vec::new();
        for (lsn, durable) in [(1, 0), (2, 0), (3, 2), (4, 3), (5, 4)] {
            push(&mut bytes, lsn, durable, &[lsn as u8; 10]);
        }
        bytes
    }

    fn lsns(scan: &Scan) -> Vec<Lsn> {
        scan.found.iter().map(|found| found.lsn).collect()
    }

    #[test]
    fn whole_records_and_the_claim() {
        let mut bytes = five();
        let end = bytes.len();
        bytes.extend(marker(SALT, 5));
        bytes.extend([0; 5000]);
        let scan = scan(&bytes, SALT, 0, 1, Lsn::MAX);
        assert_eq!(lsns(&scan), [1, 2, 3, 4, 5]);
        assert_eq!((scan.claim, scan.next_lsn, scan.end), (5, 6, end));
        assert_eq!(scan.used, end + HEADER_BYTES - 4);
        assert!(scan.gaps.is_empty());
    }

    #[test]
    fn each_hurt_byte_costs_one_record() {
        let good = five();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            bytes.extend([0; 600]);
            let scan = scan(&bytes, SALT, 0, 1, Lsn::MAX);
            let lost = at as u64 / 34 + 1;
            let kept: Vec<Lsn> = (1..=5).filter(|&lsn| lsn != lost).collect();
            assert_eq!(lsns(&scan), kept, "byte {at}");
            let gaps: Vec<_> = scan
                .gaps
                .iter()
                .map(|g| (g.offset, g.end, g.first_lsn))
                .collect();
            let start = (lost as usize - 1) * 34;
            let expected = if lost == 5 {
                vec![]
            } else {
                vec![(start, start + 34, lost)]
            };
            assert_eq!(gaps, expected, "byte {at}");
        }
    }

    #[test]
    fn a_record_inside_a_payload_is_never_found() {
        // Another log's bytes, and this log's own earlier bytes, as a message.
        let mut foreign = Vec::new();
        foreign.extend(record_header(SALT + 1, 3, 2, 4, payload_crc(&[b"evil"])));
        foreign.extend(b"evil");
        let mut bytes = five();
        let own = bytes[34..68].to_vec();
        let outer = bytes.len();
        push(&mut bytes, 6, 5, &[foreign, own].concat());
        push(&mut bytes, 7, 6, b"after");
        bytes[outer] ^= 1;
        let scan = scan(&bytes, SALT, 0, 1, Lsn::MAX);
        assert_eq!(lsns(&scan), [1, 2, 3, 4, 5, 7]);
    }

    #[test]
    fn what_lies_beyond_the_limit_is_ignored() {
        let scan = scan(&five(), SALT, 0, 1, 4);
        assert_eq!(lsns(&scan), [1, 2, 3]);
        assert_eq!((scan.claim, scan.next_lsn, scan.end), (2, 4, 3 * 34));
    }
}
