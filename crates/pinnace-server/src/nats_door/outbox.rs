//! What a connection has yet to be sent: one buffer, written by whoever filled it last.
//!
//! Invariant: bytes leave in the order they were added, and nobody waits: a writer that finds the
//! socket full leaves the rest to the connection's own task. Publishers are asked to pause for a
//! receiver that is behind and reads, never for one that is stuck.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pinnace_topics::Flush;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harbour::Harbour;
use crate::limits::{OUTBOX_BYTES_KEPT, OUTBOX_BYTES_SMALL, PENDING_BYTES_PAUSE, STUCK_AFTER};
use crate::metrics::Metrics;

/// Why a receiver that is too far behind is closed.
pub(super) const SLOW_CONSUMER: &str = "slow consumer";

/// Why a receiver is closed when another one spills to its queue.
pub(super) const REPLACED: &str = "replaced by another reader of its queue";

pub(crate) struct Outbox {
    socket: TcpStream,
    state: Mutex<State>,
    /// A receiver further behind is closed.
    pending_bytes_max: usize,
    /// It is on somebody's list of connections to flush.
    touched: AtomicBool,
    /// The socket was full: the connection's own task writes the rest.
    blocked: AtomicBool,
    /// Wakes publishers that paused for a receiver.
    drained: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// Wakes the connection's own task: the socket was full, it was closed, or a subscription is used
    /// up.
    pub(super) attention: Notify,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// Bytes of `bytes` that are written already.
    written: usize,
    /// Bytes that were ever written.
    written_ever: u64,
    closed: Option<&'static str>,
    /// Subscriptions that had their last message.
    used_up: Vec<Box<[u8]>>,
    /// Messages added since the last write.
    messages: u64,
    /// When the socket last took something of a buffer that is behind, or the buffer came to be so.
    progressed: Option<Instant>,
}

impl State {
    fn pending(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Gives the room of what is written back once that is most of the buffer, so that one which is
    /// never quite empty does not grow for ever.
    fn compact(&mut self) {
        if self.written > OUTBOX_BYTES_KEPT && self.written > self.pending() {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}

impl Outbox {
    pub(super) fn new(socket: TcpStream, harbour: &Harbour) -> Self {
        Self {
            socket,
            state: Mutex::default(),
            pending_bytes_max: harbour.slow_consumer.connection_bytes_max(),
            touched: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            drained: harbour.drained.clone(),
            metrics: harbour.metrics.clone(),
            attention: Notify::new(),
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes; false when the connection is closed or so far behind that it now is.
    #[inline]
    pub(super) fn add(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let write = |bytes: &mut Vec<u8>| {
            write(bytes);
            Some(())
        };
        self.add_counted(0, write).is_some()
    }

    /// Adds a message unless `write` says `None`; otherwise as `add`.
    #[inline]
    pub(super) fn add_message<T>(
        &self,
        write: impl FnOnce(&mut Vec<u8>) -> Option<T>,
    ) -> Option<T> {
        self.add_counted(1, write)
    }

    #[inline]
    fn add_counted<T>(
        &self,
        messages: u64,
        write: impl FnOnce(&mut Vec<u8>) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.lock();
        if state.closed.is_some() {
            return None;
        }
        let added = write(&mut state.bytes)?;
        state.messages += messages;
        if state.pending() > self.pending_bytes_max {
            state.closed = Some(SLOW_CONSUMER);
            drop(state);
            self.attention.notify_one();
            return None;
        }
        Some(added)
    }

    /// Adds the last words, also when the connection is closed already.
    pub(super) fn add_farewell(&self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.lock().bytes);
    }

    /// Bytes that wait to be written.
    pub(super) fn pending_bytes(&self) -> usize {
        self.lock().pending()
    }

    /// What it will have written ever once it has written what it holds now.
    pub(super) fn mark(&self) -> u64 {
        let state = self.lock();
        state.written_ever + state.pending() as u64
    }

    /// Whether it has written everything up to this mark.
    pub(super) fn has_written(&self, mark: u64) -> bool {
        self.lock().written_ever >= mark
    }

    /// Does something while nothing is added.
    pub(super) fn undisturbed<T>(&self, act: impl FnOnce() -> T) -> T {
        let _state = self.lock();
        act()
    }

    /// Bytes came in.
    pub(super) fn count_received(&self, bytes: usize) {
        self.metrics.nats.received_bytes.add(bytes as u64);
    }

    /// True for the one that has to put this connection on its list of those to flush.
    #[inline]
    pub(super) fn touch(&self) -> bool {
        !self.touched.load(Ordering::Relaxed) && !self.touched.swap(true, Ordering::AcqRel)
    }

    /// A subscription had its last message.
    pub(super) fn use_up(&self, sid: &[u8]) {
        self.lock().used_up.push(sid.into());
        self.attention.notify_one();
    }

    /// The subscriptions that had their last message since the last look.
    pub(super) fn used_up(&self) -> Vec<Box<[u8]>> {
        std::mem::take(&mut self.lock().used_up)
    }

    /// Why the connection is to end, if it is.
    pub(super) fn closed(&self) -> Option<&'static str> {
        self.lock().closed
    }

    /// No more is added from here on.
    pub(super) fn close(&self, reason: &'static str) {
        self.lock().closed.get_or_insert(reason);
        self.attention.notify_one();
    }

    /// Lets go of an empty buffer, for a connection on which nothing happens.
    pub(super) fn relax(&self) {
        let mut state = self.lock();
        if state.bytes.is_empty() {
            state.bytes = Vec::new();
        }
    }

    /// Writes what the socket takes now; true when nothing is left.
    fn write_some(&self) -> std::io::Result<bool> {
        let mut state = self.lock();
        let metrics = &self.metrics.nats;
        metrics
            .sent_messages
            .add(std::mem::take(&mut state.messages));
        while state.written < state.bytes.len() {
            match self.socket.try_write(&state.bytes[state.written..]) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    state.written += count;
                    state.written_ever += count as u64;
                    metrics.sent_bytes.add(count as u64);
                    if state.pending() > PENDING_BYTES_PAUSE {
                        state.progressed = Some(Instant::now());
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    state.compact();
                    return Ok(false);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    state.closed.get_or_insert("write error");
                    return Err(error);
                }
            }
        }
        state.written = 0;
        state.progressed = None;
        state.bytes.clear();
        // Kept for the next burst: to get it from the system again costs more than to fill it. A small one
        // comes back for less than what ten thousand connections would keep.
        if !(OUTBOX_BYTES_SMALL..=OUTBOX_BYTES_KEPT).contains(&state.bytes.capacity()) {
            state.bytes = Vec::new();
        }
        Ok(true)
    }

    /// Whether the socket was full when somebody last wrote.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Goes on where the socket was full, for the connection's own task once it is writable.
    pub(super) fn resume(&self) {
        let written = self.write_some();
        if !matches!(written, Ok(false)) {
            self.blocked.store(false, Ordering::Release);
        }
        if written.is_err() {
            self.close("write error");
        }
        if !self.is_behind() {
            self.drained.notify_waiters();
        }
    }

    fn is_behind(&self) -> bool {
        let state = self.lock();
        state.closed.is_none() && state.pending() > PENDING_BYTES_PAUSE
    }

    /// Whether it helps to wait: a receiver that reads nothing is behind until it is cut off, and
    /// nobody else shall be slower for it.
    fn is_worth_a_pause(&self) -> bool {
        let mut state = self.lock();
        if state.closed.is_some() || state.pending() <= PENDING_BYTES_PAUSE {
            return false;
        }
        let progressed = *state.progressed.get_or_insert_with(Instant::now);
        progressed.elapsed() < STUCK_AFTER
    }

    /// Writes all there is.
    pub(super) async fn drain(&self) -> std::io::Result<()> {
        while !self.write_some()? {
            self.socket.writable().await?;
        }
        self.drained.notify_waiters();
        Ok(())
    }
}

impl Flush for Outbox {
    fn flush(&self) -> bool {
        self.touched.store(false, Ordering::Release);
        match self.write_some() {
            Ok(true) => return false,
            Ok(false) => {
                if !self.blocked.swap(true, Ordering::AcqRel) {
                    self.attention.notify_one();
                }
            }
            Err(_) => self.attention.notify_one(),
        }
        self.is_worth_a_pause()
    }
}
