//! The engine `null`: everything but the writing. A run on it shows what the tool itself costs, its
//! "latencies" the cost of reading the clock.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use super::{Completion, Device, out_of_order};
use crate::buffer::AlignedBuffer;

/// Writes nothing, makes no file.
#[derive(Debug)]
pub struct Null {
    area: AlignedBuffer,
    done: Option<Completion>,
}

impl Null {
    /// A device over `area`.
    pub fn new(area: AlignedBuffer) -> Self {
        Self { area, done: None }
    }
}

impl Device for Null {
    fn area(&mut self) -> &mut [u8] {
        self.area.as_mut_slice()
    }

    fn create(&mut self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    #[inline]
    fn submit(&mut self, window: Range<usize>, _offset: u64) -> io::Result<()> {
        let began = Instant::now();
        let at = Instant::now();
        self.done = Some(Completion {
            bytes: window.len(),
            took: at - began,
            at,
        });
        Ok(())
    }

    #[inline]
    fn reap(&mut self) -> io::Result<Completion> {
        self.done
            .take()
            .ok_or_else(|| out_of_order("nothing to reap"))
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn close(&mut self) {}
}
