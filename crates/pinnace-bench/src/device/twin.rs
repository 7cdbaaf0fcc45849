//! The failing twin of `psync`: the same writes, and trouble on command. It exists so that what a
//! run does when storage fails is tested and not hoped for.
//!
//! Invariant: without a [`Fault`] a twin is `psync`, byte for byte.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use pinnace_proto::job::Engine;
use rustix::io::Errno;

use super::{Completion, Device, Devices};
use crate::buffer::AlignedBuffer;

/// What goes wrong, at one worker.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The disk is full (`ENOSPC`) once a worker has written this many bytes in all.
    FullAfter(u64),
    /// The write of this number fails (`EIO`), counted from 1 over all files.
    WriteFails(u64),
    /// The sync of this number fails (`EIO`), counted from 1.
    SyncFails(u64),
    /// The write of this number does not return until the gate is opened.
    WriteHangs(u64, Gate),
    /// Every write is cut to this many bytes.
    ShortWrites(usize),
    /// The worker's thread panics at the write of this number.
    Panics(u64),
    /// Making the device panics.
    CannotBeMade,
}

/// Holds a write until it is opened.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    /// Lets the write return, and every later one pass.
    pub fn open(&self) {
        *self.open.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.open.1.notify_all();
    }

    fn wait(&self) {
        let open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.open.1.wait_while(open, |open| !*open));
    }
}

/// Devices of which some have faults.
#[derive(Clone, Debug, Default)]
pub struct Twins {
    /// The fault of each worker that has one.
    pub faults: Vec<(u32, Fault)>,
}

impl Devices for Twins {
    fn device(&self, worker: u32, area: AlignedBuffer, direct: bool) -> Box<dyn Device> {
        let fault = self
            .faults
            .iter()
            .find(|(of, _)| *of == worker)
            .map(|(_, fault)| fault.clone());
        #[expect(clippy::panic, reason = "a device that panics is what this fault is")]
        if matches!(fault, Some(Fault::CannotBeMade)) {
            panic!("asked to");
        }
        let real = Engine::Psync.device(worker, area, direct);
        Box::new(Twin {
            real,
            fault,
            bytes: 0,
            writes: 0,
            syncs: 0,
        })
    }
}

struct Twin {
    real: Box<dyn Device>,
    fault: Option<Fault>,
    bytes: u64,
    writes: u64,
    syncs: u64,
}

impl Device for Twin {
    fn area(&mut self) -> &mut [u8] {
        self.real.area()
    }

    fn create(&mut self, path: &Path) -> io::Result<()> {
        self.real.create(path)
    }

    fn submit(&mut self, mut window: Range<usize>, offset: u64) -> io::Result<()> {
        self.writes += 1;
        self.bytes += window.len() as u64;
        match &self.fault {
            Some(Fault::FullAfter(bytes)) if self.bytes > *bytes => return Err(Errno::NOSPC.into()),
            Some(Fault::WriteFails(number)) if self.writes == *number => {
                return Err(Errno::IO.into());
            }
            Some(Fault::WriteHangs(number, gate)) if self.writes == *number => gate.wait(),
            Some(Fault::ShortWrites(most)) => window.end = window.end.min(window.start + most),
            #[expect(clippy::panic, reason = "a worker that panics is what this fault is")]
            Some(Fault::Panics(number)) if self.writes == *number => panic!("asked to"),
            _ => {}
        }
        self.real.submit(window, offset)
    }

    fn reap(&mut self) -> io::Result<Completion> {
        self.real.reap()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        match &self.fault {
            Some(Fault::SyncFails(number)) if self.syncs == *number => Err(Errno::IO.into()),
            _ => self.real.sync(),
        }
    }

    fn close(&mut self) {
        self.real.close();
    }
}
