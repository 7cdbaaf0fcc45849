//! Memory that starts on a sector boundary, without unsafe code: a `Vec` with one sector to spare,
//! of which the aligned part is used. The `Vec` is never resized, so the alignment holds.
//!
//! Left to others: what the bytes are (`payload`).

use crate::limits::SECTOR_BYTES;

/// Bytes aligned to [`SECTOR_BYTES`], every page of them already touched.
#[derive(Debug)]
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zeroed bytes, or `None` when the memory cannot be had.
    pub fn zeroed(len: usize) -> Option<Self> {
        let whole = len.checked_add(SECTOR_BYTES)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(whole).ok()?;
        bytes.resize(whole, 0);
        let start = bytes.as_ptr().align_offset(SECTOR_BYTES);
        (start < SECTOR_BYTES).then_some(Self { bytes, start, len })
    }

    /// All of it.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// All of it, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_sector_whatever_its_size() {
        for len in [1, 4096, 5000, 1 << 20] {
            let mut buffer = AlignedBuffer::zeroed(len).unwrap();
            assert_eq!(buffer.as_slice().as_ptr() as usize % SECTOR_BYTES, 0);
            assert_eq!((buffer.len(), buffer.as_mut_slice().len()), (len, len));
            assert!(!buffer.is_empty());
        }
        assert!(AlignedBuffer::zeroed(usize::MAX).is_none());
        assert!(AlignedBuffer::zeroed(usize::MAX / 2).is_none());
    }
}
