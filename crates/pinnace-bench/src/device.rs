//! The seam between a worker and what carries out its writes, shaped for engines that keep several
//! writes under way: submit, then reap. One file per engine: [`psync`], [`null`], and [`twin`],
//! which fails on command.
//!
//! Invariant: the device owns the memory writes are made from, so an engine may register it with
//! the kernel; bytes of a write under way are not touched until it is reaped. A completion's times
//! enclose the write and nothing else.
//!
//! Left to others: what is written (`payload`), continuing short writes and counting (`worker`),
//! removing files (`ledger`).

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use pinnace_proto::job::Engine;

use crate::buffer::AlignedBuffer;

pub mod null;
pub mod psync;
pub mod twin;

/// Carries out the writes of one worker, one file at a time.
pub trait Device: Send {
    /// The memory that writes are made from.
    fn area(&mut self) -> &mut [u8];

    /// Makes `path` an empty file and the current one. An existing regular file is replaced;
    /// anything else there, a symlink above all, is an error.
    ///
    /// # Errors
    /// What the system said.
    fn create(&mut self, path: &Path) -> io::Result<()>;

    /// Starts writing `window` of the area at `offset` of the current file.
    ///
    /// # Errors
    /// What the system said; there is nothing to reap then.
    fn submit(&mut self, window: Range<usize>, offset: u64) -> io::Result<()>;

    /// Waits for the oldest write under way.
    ///
    /// # Errors
    /// What the system said of that write.
    fn reap(&mut self) -> io::Result<Completion>;

    /// Makes the current file's data durable (`fdatasync`).
    ///
    /// # Errors
    /// What the system said.
    fn sync(&mut self) -> io::Result<()>;

    /// Closes the current file.
    fn close(&mut self);
}

/// One finished write.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// Bytes written; may be fewer than asked for.
    pub bytes: usize,
    /// How long the write took.
    pub took: Duration,
    /// When it was finished.
    pub at: Instant,
}

/// Makes the device of each worker.
pub trait Devices: Send + Sync {
    /// A device for `worker` (from 0) that writes from `area`, past the page cache if `direct`.
    fn device(&self, worker: u32, area: AlignedBuffer, direct: bool) -> Box<dyn Device>;
}

/// The engines a job can name.
impl Devices for Engine {
    fn device(&self, _worker: u32, area: AlignedBuffer, direct: bool) -> Box<dyn Device> {
        match self {
            Self::Psync => Box::new(psync::Psync::new(area, direct)),
            Self::Null => Box::new(null::Null::new(area)),
        }
    }
}

/// The error of an engine that was asked to do things in an impossible order.
fn out_of_order(what: &str) -> io::Error {
    io::Error::other(format!(
        "{what}; this is a defect of Pinnace, please report it"
    ))
}
