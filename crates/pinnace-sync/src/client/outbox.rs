//! The connections of a session as the client writes to them.
//!
//! What has just happened goes out on the first connection, bulk data on the second, so that the one never waits behind the
//! other. Where the link is slower than the machine, packs are compressed: how much, is found by how long writing takes.
//!
//! Invariant: a frame goes out whole; the bytes of both connections together keep to the bandwidth. Left to others: what
//! is sent, and its numbers (`ledger`).

use std::io::{self, Write};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::wire::{FrameKind, write_frame};

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Control,
    Bulk,
}

/// No compression.
const STORED: i32 = 0;
/// A link that takes bytes faster than this is not worth compressing for, bytes a second.
const FAST_LINK: f64 = 250e6;
/// A link slower than this is worth a higher level, bytes a second.
const SLOW_LINK: f64 = 30e6;

/// Writes frames.
pub(super) struct Outbox {
    control: Mutex<Box<dyn Write + Send>>,
    bulk: Mutex<Box<dyn Write + Send>>,
    limit: Option<Mutex<Limit>>,
    level: AtomicI32,
    sent_bytes: AtomicU64,
    /// Whether the other end is so near that compressing never pays.
    is_near: bool,
}

impl Outbox {
    pub(super) fn new(
        control: Box<dyn Write + Send>,
        bulk: Box<dyn Write + Send>,
        bandwidth: Option<u64>,
        is_near: bool,
    ) -> Self {
        Self {
            control: Mutex::new(control),
            bulk: Mutex::new(bulk),
            limit: bandwidth.map(|bytes_per_s| Mutex::new(Limit::new(bytes_per_s))),
            level: AtomicI32::new(if is_near { STORED } else { 1 }),
            sent_bytes: AtomicU64::new(0),
            is_near,
        }
    }

    /// The level that packs are to be compressed with now.
    pub(super) fn level(&self) -> Option<i32> {
        let level = self.level.load(Ordering::Relaxed);
        (level != STORED).then_some(level)
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn send(&self, way: Way, kind: FrameKind, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = 5 + parts.iter().map(|part| part.len()).sum::<usize>();
        if let Some(limit) = &self.limit {
            limit
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .wait(bytes);
        }
        let writer = match way {
            Way::Control => &self.control,
            Way::Bulk => &self.bulk,
        };
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        write_frame(&mut *writer, kind, parts)?;
        drop(writer);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if way == Way::Bulk && !self.is_near && bytes > 64 << 10 {
            self.adapt(bytes as f64 / began.elapsed().as_secs_f64().max(1e-6));
        }
        Ok(())
    }

    fn adapt(&self, bytes_per_s: f64) {
        let level = match bytes_per_s {
            fast if fast > FAST_LINK => STORED,
            slow if slow < SLOW_LINK => 3,
            _ => 1,
        };
        self.level.store(level, Ordering::Relaxed);
    }
}

/// A bandwidth: bytes may go out when their time has come.
struct Limit {
    bytes_per_s: f64,
    free_at: Instant,
}

impl Limit {
    fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1) as f64,
            free_at: Instant::now(),
        }
    }

    fn wait(&mut self, bytes: usize) {
        let now = Instant::now();
        if let Some(early) = self.free_at.checked_duration_since(now) {
            std::thread::sleep(early);
        }
        let taken = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        self.free_at = self.free_at.max(now) + taken;
    }
}
