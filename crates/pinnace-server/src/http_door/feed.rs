//! What a stream has yet to be sent: a bounded buffer between the broker, which never waits, and a
//! connection that takes what its socket takes.
//!
//! Invariant: messages leave in the order they came, the numbers told as ids only rise, and a feed
//! that was closed takes nothing more: what is in it is still sent, its last words at the end. Left
//! to others: how a message is written.

use std::collections::HashSet;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use pinnace_topics::{Batch, Flush, Stored};

use tokio::sync::Notify;

use super::envelope::Envelope;
use super::line::Line;
use crate::harbour::Harbour;
use crate::limits::{STREAM_PENDING_BYTES_MAX, STREAM_PENDING_BYTES_PAUSE};
use crate::metrics::Metrics;

/// Writes messages in the form that a stream's client reads.
pub(super) trait Form: Send + Sync + 'static {
    /// Begins a message; `id` is its number unless an earlier one was higher.
    fn begin(&self, out: &mut Vec<u8>, id: Option<u64>);
    /// The rest of a message.
    fn message(&self, out: &mut Vec<u8>, envelope: &Envelope<'_>);
    /// Says that messages behind `after` are stored no more.
    fn gap(&self, out: &mut Vec<u8>, after: u64);
    /// A sign of life.
    fn heartbeat(&self, out: &mut Vec<u8>);
    /// The words after which a stream that was closed ends.
    fn farewell(&self, out: &mut Vec<u8>, reason: Reason);
}

/// Why a stream ends although its client did not ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The server is going down.
    Stopping,
    /// The client does not read as fast as messages come.
    SlowConsumer,
    /// Another stream reads this queue now.
    Replaced,
    /// The queue was deleted.
    Unsubscribed,
    /// Storage failed.
    Storage,
}

impl Reason {
    /// Stable word for programs.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Stopping => "server-stopping",
            Self::SlowConsumer => "slow-consumer",
            Self::Replaced => "replaced",
            Self::Unsubscribed => "no-such-subscription",
            Self::Storage => "storage-failed",
        }
    }

    /// A sentence for people.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Stopping => "the server is going down; connect again later",
            Self::SlowConsumer => {
                "messages came faster than this stream was read; connect again and read faster, or \
                 use a queue"
            }
            Self::Replaced => "another stream reads this queue now",
            Self::Unsubscribed => "the subscription was deleted",
            Self::Storage => "storage has failed; see /-/health",
        }
    }
}

pub(super) struct Feed {
    form: Box<dyn Form>,
    line: Arc<Line>,
    state: Mutex<State>,
    /// It is on somebody's list of receivers to flush.
    touched: AtomicBool,
    /// Wakes publishers that paused for a receiver.
    drained: Arc<Notify>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// While older messages are read from storage: what came meanwhile.
    held: Option<Vec<Held>>,
    held_bytes: usize,
    last_id: u64,
    closed: Option<Reason>,
    /// The connection's task, while it waits for bytes.
    reader: Option<Waker>,
    /// Flushes of the line when bytes were last taken.
    taken_at: u64,
    /// Messages added since then.
    messages: u64,
}

struct Held {
    seq: Option<u64>,
    bytes: Box<[u8]>,
}

impl State {
    fn pending_bytes(&self) -> usize {
        self.bytes.len() + self.held_bytes
    }

    /// The number to tell the client: a place to come back to only ever moves forward.
    fn id(&mut self, seq: Option<u64>) -> Option<u64> {
        let seq = seq.filter(|seq| *seq > self.last_id)?;
        self.last_id = seq;
        Some(seq)
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Feed {
    pub(super) fn new(form: impl Form, line: Arc<Line>, harbour: &Harbour) -> Self {
        Self {
            form: Box::new(form),
            line,
            state: Mutex::default(),
            touched: AtomicBool::new(false),
            drained: harbour.drained.clone(),
            metrics: harbour.metrics.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a live message; false when the feed is closed, or so full that it now is.
    pub(super) fn deliver(self: &Arc<Self>, envelope: &Envelope<'_>, batch: &mut Batch) -> bool {
        let seq = envelope.seq;
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed.is_some() {
            return false;
        }
        state.messages += 1;
        if let Some(held) = &mut state.held {
            let mut bytes = Vec::new();
            self.form.message(&mut bytes, envelope);
            state.held_bytes += bytes.len();
            let bytes = bytes.into_boxed_slice();
            held.push(Held { seq, bytes });
        } else {
            let id = state.id(seq);
            self.form.begin(&mut state.bytes, id);
            self.form.message(&mut state.bytes, envelope);
        }
        if state.pending_bytes() > STREAM_PENDING_BYTES_MAX {
            self.close_locked(state, Reason::SlowConsumer);
            self.metrics.http.slow_consumers.add(1);
            // Its client may never read again.
            self.line.condemn();
        }
        drop(guard);
        if !self.touched.load(Ordering::Relaxed) && !self.touched.swap(true, Ordering::AcqRel) {
            batch.touch(self.clone());
        }
        true
    }

    /// Adds a message read from storage.
    pub(super) fn tell(&self, message: &Stored) {
        let write = |bytes: &mut Vec<u8>, id: Option<u64>| {
            self.form.begin(bytes, id);
            self.form.message(bytes, &Envelope::stored(message));
        };
        self.lock().messages += 1;
        self.say(write, Some(message.seq));
    }

    /// Says that messages behind `after` are stored no more.
    pub(super) fn tell_gap(&self, after: u64) {
        self.remark(|bytes| self.form.gap(bytes, after));
    }

    /// Adds a sign of life.
    pub(super) fn beat(&self) {
        self.remark(|bytes| self.form.heartbeat(bytes));
    }

    /// Adds what is no message.
    pub(super) fn remark(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.say(|bytes, _| write(bytes), None);
    }

    fn say(&self, write: impl FnOnce(&mut Vec<u8>, Option<u64>), seq: Option<u64>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed.is_none() {
            let id = state.id(seq);
            write(&mut state.bytes, id);
            state.wake();
        }
    }

    /// From now on live messages wait until `release`.
    pub(super) fn hold(&self) {
        self.lock().held.get_or_insert_default();
    }

    /// Lets what was held go, except for messages that were read from storage meanwhile.
    pub(super) fn release(&self, told: &HashSet<u64>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.held_bytes = 0;
        for message in state.held.take().unwrap_or_default() {
            if message.seq.is_some_and(|seq| told.contains(&seq)) {
                continue;
            }
            let id = state.id(message.seq);
            self.form.begin(&mut state.bytes, id);
            state.bytes.extend_from_slice(&message.bytes);
        }
        state.wake();
    }

    /// Ends the feed: what is in it and the words for `reason` are its last.
    pub(super) fn close(&self, reason: Reason) {
        self.close_locked(&mut self.lock(), reason);
    }

    fn close_locked(&self, state: &mut State, reason: Reason) {
        if state.closed.is_none() {
            state.closed = Some(reason);
            // What is held has no place in the order yet; it is read again after the last id.
            state.held = None;
            self.form.farewell(&mut state.bytes, reason);
            state.wake();
        }
    }

    /// Why it was closed, if it was.
    pub(super) fn closed(&self) -> Option<Reason> {
        self.lock().closed
    }

    /// Like `poll_take`, awaited.
    pub(super) async fn take(&self) -> Option<Bytes> {
        std::future::poll_fn(|cx| self.poll_take(cx)).await
    }

    /// The bytes to be sent next; `None` once the feed is closed and empty.
    pub(super) fn poll_take(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.lock();
        if state.bytes.is_empty() {
            if state.closed.is_some() {
                return Poll::Ready(None);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let was_behind = state.pending_bytes() > STREAM_PENDING_BYTES_PAUSE;
        let bytes = mem::take(&mut state.bytes);
        state.taken_at = self.line.flushes();
        let messages = mem::take(&mut state.messages);
        drop(state);
        self.metrics.http.sent_messages.add(messages);
        if was_behind {
            self.drained.notify_waiters();
        }
        Poll::Ready(Some(bytes.into()))
    }

    /// Returns once everything added so far is with the operating system.
    pub(super) async fn flushed(&self) {
        std::future::poll_fn(|cx| {
            let state = self.lock();
            if state.bytes.is_empty() {
                return self.line.poll_flushed_since(state.taken_at, cx);
            }
            // The task that polls this is the one that takes the bytes, and polls again then.
            Poll::Pending
        })
        .await;
    }

    /// Returns once nothing waits to be taken.
    pub(super) async fn taken(&self) {
        std::future::poll_fn(|_| {
            if self.lock().bytes.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Flush for Feed {
    fn flush(&self) -> bool {
        self.touched.store(false, Ordering::Release);
        let mut state = self.lock();
        state.wake();
        state.closed.is_none() && state.pending_bytes() > STREAM_PENDING_BYTES_PAUSE
    }
}
