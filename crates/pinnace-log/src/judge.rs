//! What the bytes of a segment mean, given what was acknowledged: which records are kept, what is
//! damage, where the torn end begins.
//!
//! Invariant: recovery and checks ask here, so that a check reports what opening the log would
//! find. The rules are numbered in `docs/formats/log.md`, section Recovery.

use crate::Lsn;
use crate::record::{HEADER_BYTES, Header};
use crate::scan::{Found, Gap, Scan, scan};

/// Where a segment is looked at from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// Offset at which the next record is due.
    pub(crate) at: usize,
    /// Its lsn.
    pub(crate) lsn: Lsn,
    /// Greatest lsn claimed durable so far.
    pub(crate) claim: Lsn,
}

/// What a segment holds from there on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Records that count.
    pub(crate) kept: Vec<Found>,
    /// Gaps in what was acknowledged.
    pub(crate) damage: Vec<Gap>,
    /// Everything up to this lsn was acknowledged.
    pub(crate) durable: Lsn,
    /// First byte after the last record that counts.
    pub(crate) end: usize,
    /// What stands behind it and is neither zeros nor the marker a quiet log ends with.
    pub(crate) rest: Option<Rest>,
}

/// Bytes behind the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rest {
    /// First byte after the last that is not zero.
    pub(crate) used: usize,
    /// Whole records among them.
    pub(crate) records: usize,
}

/// Judges a segment's `bytes`. `limit` is the lsn after the last one it was acknowledged with; `None`
/// for the last segment, where only its own headers tell.
pub(crate) fn judge(bytes: &[u8], salt: u32, due: Due, limit: Option<Lsn>) -> Verdict {
    let mut scan = scan(bytes, salt, due.at, due.lsn, limit.unwrap_or(Lsn::MAX));
    let durable = limit.map_or(due.claim.max(scan.claim), |limit| limit - 1);
    let (kept, damage) = weigh(&scan, durable);
    let whole = scan.found.len() - kept;
    scan.found.truncate(kept);
    let end = scan
        .found
        .last()
        .map_or(due.at, |found| found.offset + HEADER_BYTES + found.len);
    let is_clean = scan.used <= end || is_marker_only(scan.used, end, bytes, salt);
    Verdict {
        rest: (!is_clean).then_some(Rest {
            used: scan.used,
            records: whole,
        }),
        kept: scan.found,
        damage,
        durable,
        end,
    }
}

/// How many of the records are kept, and the gaps that are damage, given that everything up to
/// `durable` was acknowledged.
fn weigh(scan: &Scan, durable: Lsn) -> (usize, Vec<Gap>) {
    let mut damage = Vec::new();
    for gap in &scan.gaps {
        if gap.last_lsn <= durable {
            damage.push(*gap);
            continue;
        }
        // The first gap that reaches beyond what was acknowledged ends the log.
        if gap.first_lsn <= durable {
            damage.push(Gap {
                last_lsn: durable,
                ..*gap
            });
        }
        let kept = scan
            .found
            .partition_point(|found| found.lsn < gap.first_lsn);
        return (kept, damage);
    }
    if scan.next_lsn <= durable {
        damage.push(Gap {
            offset: scan.end,
            end: scan.used,
            first_lsn: scan.next_lsn,
            last_lsn: durable,
        });
    }
    (scan.found.len(), damage)
}

/// Whether the only thing after the last record is the marker a quiet log ends with.
fn is_marker_only(used: usize, end: usize, bytes: &[u8], salt: u32) -> bool {
    used <= end + HEADER_BYTES
        && matches!(
            Header::parse(bytes.get(end..).unwrap_or_default(), salt),
            Some(Header::Marker { .. })
        )
}
