//! The segment that is being written: where its next record goes, and the space ahead of it.
//!
//! Invariant: nothing but zeros stands behind `end`, apart from a marker. Left to others: when to
//! sync, and what it means that one failed (`committer`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::disk::{DiskFile, write_full};
use crate::limits::{SEGMENT_HEADER_BYTES, ZEROS_AHEAD_BYTES, ZEROS_FOR_BYTES_MAX};
use crate::segment::Segment;

pub(crate) struct Active {
    pub(crate) segment: Option<Arc<Segment>>,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where the next record goes.
    pub(crate) end: u32,
    /// Whether space up to the segment's full size is allocated.
    pub(crate) allocated: bool,
    /// Everything in front of this has been written, if only with zeros.
    written: u32,
}

impl Active {
    /// Goes on where the last of `segments` ends.
    pub(crate) fn new(
        segments: &VecDeque<Arc<Segment>>,
        file: Arc<dyn DiskFile>,
        allocated: bool,
    ) -> Active {
        let segment = segments.back().cloned();
        let end = segment
            .as_ref()
            .map_or(SEGMENT_HEADER_BYTES, |s| s.used_bytes() as u32);
        Active {
            segment,
            file,
            end,
            allocated,
            written: end,
        }
    }

    /// Begins a segment that was just made.
    pub(crate) fn fresh(segment: Arc<Segment>, file: Arc<dyn DiskFile>, allocated: bool) -> Active {
        Active {
            segment: Some(segment),
            file,
            end: SEGMENT_HEADER_BYTES,
            allocated,
            written: SEGMENT_HEADER_BYTES,
        }
    }

    /// Writes a batch at the end, which stays where it is until the batch is synced, and sees to it
    /// that the space behind a small one is more than allocated: the first sync over space that was
    /// not written before has to note that it is in use now, which doubles what a sync costs. One
    /// larger write of zeros takes that from hundreds of small batches.
    pub(crate) fn write(&mut self, batch: &[u8], segment_bytes: u32) -> io::Result<()> {
        static ZEROS: [u8; ZEROS_AHEAD_BYTES as usize] = [0; ZEROS_AHEAD_BYTES as usize];
        write_full(&*self.file, batch, u64::from(self.end))?;
        let end = self.end + batch.len() as u32;
        if end > self.written && self.allocated {
            self.written = end;
            if batch.len() < ZEROS_FOR_BYTES_MAX {
                let count = ZEROS_AHEAD_BYTES.min(segment_bytes.saturating_sub(end));
                write_full(&*self.file, &ZEROS[..count as usize], u64::from(end))?;
                self.written += count;
            }
        }
        Ok(())
    }

    /// Cuts what was written behind the end off, and the space ahead with it; to be synced.
    pub(crate) fn cut(&mut self) -> io::Result<()> {
        (self.allocated, self.written) = (false, self.end);
        self.file.truncate(u64::from(self.end))
    }
}
