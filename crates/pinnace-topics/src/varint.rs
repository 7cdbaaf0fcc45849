//! Numbers as records hold them, written and read.
//!
//! Invariant: reading takes any bytes without a panic, and never allocates more than they could
//! stand for.

use crate::limits::SEQ_MAX;

/// Seven bits to the byte, lowest first, high bit set on all but the last.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A count, then each number as its distance from the one before.
pub(crate) fn ascending(out: &mut Vec<u8>, numbers: impl ExactSizeIterator<Item = u64>) {
    varint(out, numbers.len() as u64);
    let mut last = 0;
    for number in numbers {
        varint(out, number - last);
        last = number;
    }
}

/// What is left to be read.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn ascending(&mut self) -> Option<Vec<u64>> {
        let count = usize::try_from(self.varint()?).ok()?;
        // Each number takes a byte at least, so a wrong count cannot ask for much.
        if count > self.0.len() {
            return None;
        }
        let mut numbers = Vec::with_capacity(count);
        for _ in 0..count {
            let distance = self.varint()?;
            numbers.push(match numbers.last() {
                // None stands twice.
                Some(last) if distance > 0 => distance.checked_add(*last)?,
                Some(_) => return None,
                None => distance,
            });
        }
        Some(numbers)
    }

    /// The number of a message.
    pub(crate) fn seq(&mut self) -> Option<u64> {
        self.varint().filter(|seq| (1..=SEQ_MAX).contains(seq))
    }

    /// Numbers of messages.
    pub(crate) fn seqs(&mut self) -> Option<Vec<u64>> {
        let seqs = self.ascending()?;
        let begins = seqs.first().is_none_or(|first| *first > 0);
        let ends = seqs.last().is_none_or(|last| *last <= SEQ_MAX);
        (begins && ends).then_some(seqs)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.varint()?.try_into().ok()
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn take(&mut self, bytes: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(bytes).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}
