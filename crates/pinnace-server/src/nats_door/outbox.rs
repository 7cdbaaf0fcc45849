//! What a connection has yet to be sent: one buffer, written by whoever filled it last.
//!
//! Invariant: bytes leave in the order they were added, and nobody waits: a writer that finds the
//! socket full leaves the rest to the connection's writer task.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinnace_topics::Flush;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harbour::Harbour;
use crate::limits::{OUTBOX_BYTES_KEPT, PENDING_BYTES_MAX, PENDING_BYTES_PAUSE};
use crate::metrics::Metrics;

pub(crate) struct Outbox {
    socket: TcpStream,
    state: Mutex<State>,
    /// It is on somebody's list of connections to flush.
    touched: AtomicBool,
    /// Wakes the writer task: the socket was full.
    blocked: Notify,
    /// Wakes publishers that paused for a receiver.
    drained: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// Wakes the connection's own task: it was closed, or a subscription is used up.
    pub(super) attention: Notify,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// Bytes of `bytes` that are written already.
    written: usize,
    closed: Option<&'static str>,
    /// Subscriptions that had their last message.
    used_up: Vec<Box<[u8]>>,
    /// Messages added since the last write.
    messages: u64,
}

impl Outbox {
    pub(super) fn new(socket: TcpStream, harbour: &Harbour) -> Self {
        Self {
            socket,
            state: Mutex::default(),
            touched: AtomicBool::new(false),
            blocked: Notify::new(),
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
        self.add_counted(0, write)
    }

    #[inline]
    fn add_counted(&self, messages: u64, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.lock();
        if state.closed.is_some() {
            return false;
        }
        write(&mut state.bytes);
        state.messages += messages;
        if state.bytes.len() - state.written > PENDING_BYTES_MAX {
            state.closed = Some("slow consumer");
            drop(state);
            self.attention.notify_one();
            return false;
        }
        true
    }

    /// Adds a message; otherwise as `add`.
    #[inline]
    pub(super) fn add_message(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.add_counted(1, write)
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
                    metrics.sent_bytes.add(count as u64);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    state.closed.get_or_insert("write error");
                    return Err(error);
                }
            }
        }
        state.written = 0;
        state.bytes.clear();
        // Kept for the next burst: to get it from the system again costs more than to fill it.
        if state.bytes.capacity() > OUTBOX_BYTES_KEPT {
            state.bytes = Vec::new();
        }
        Ok(true)
    }

    /// The writer task: takes over whenever the socket was full. Ends when the socket does.
    pub(super) async fn drain_when_blocked(&self) {
        loop {
            self.blocked.notified().await;
            if self.drain().await.is_err() {
                self.attention.notify_one();
                return;
            }
        }
    }

    fn is_behind(&self) -> bool {
        let state = self.lock();
        state.closed.is_none() && state.bytes.len() - state.written > PENDING_BYTES_PAUSE
    }

    /// Writes all there is.
    pub(super) async fn drain(&self) -> std::io::Result<()> {
        while !self.write_some()? {
            if !self.is_behind() {
                self.drained.notify_waiters();
            }
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
            Ok(false) => self.blocked.notify_one(),
            Err(_) => self.attention.notify_one(),
        }
        self.is_behind()
    }
}
