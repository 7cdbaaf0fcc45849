//! The names of an index, one behind the other in one allocation.
//!
//! ```text
//! │ len u8 │ name │ len u8 │ name │ …      a name is found by the offset of its length
//! ```
//!
//! Invariant: an offset that [`Names::add`] returned names the same bytes until the name is dropped or the whole
//! is rebuilt. Left to others: who holds which offset, and rebuilding when half of it is garbage.

use crate::path::NAME_BYTES_MAX;

/// Below so many bytes of garbage nothing is rebuilt.
const GARBAGE_BYTES_MIN: usize = 64 << 10;

/// A growing heap of names.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    garbage_bytes: usize,
}

impl Names {
    /// Room for so many bytes, of which each name takes one more than it has.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            garbage_bytes: 0,
        }
    }

    /// Keeps a name; what is above the length of a name is cut, which no caller does.
    ///
    /// # Panics
    /// With more than 4 GiB of names, long after [`super::Index::is_full`] said so.
    pub(super) fn add(&mut self, name: &[u8]) -> u32 {
        debug_assert!(name.len() <= NAME_BYTES_MAX);
        let offset = self.bytes.len();
        assert!(offset <= u32::MAX as usize, "more than 4 GiB of names");
        let len = name.len().min(NAME_BYTES_MAX);
        grow_gently(&mut self.bytes, len + 1);
        self.bytes.push(len as u8);
        self.bytes.extend_from_slice(&name[..len]);
        offset as u32
    }

    pub(super) fn get(&self, offset: u32) -> &[u8] {
        let at = offset as usize;
        let len = usize::from(self.bytes[at]);
        &self.bytes[at + 1..at + 1 + len]
    }

    /// Nobody will ask for this name any more.
    pub(super) fn drop_name(&mut self, offset: u32) {
        self.garbage_bytes += 1 + usize::from(self.bytes[offset as usize]);
    }

    /// Whether more than half is garbage.
    pub(super) fn wants_rebuilding(&self) -> bool {
        self.garbage_bytes > GARBAGE_BYTES_MIN && self.garbage_bytes * 2 > self.bytes.len()
    }

    /// Bytes in use, with the garbage.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of names that are in use, with their lengths.
    pub(super) fn live_bytes(&self) -> usize {
        self.bytes.len() - self.garbage_bytes
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Grows by a sixteenth and not by doubling: for what is large, and moves seldom enough, memory counts more.
pub(super) fn grow_gently<T>(items: &mut Vec<T>, more: usize) {
    if items.capacity() - items.len() < more {
        items.reserve_exact(more.max(items.len() / 16).max(64));
    }
}
