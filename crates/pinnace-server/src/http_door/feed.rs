//! What a stream has yet to be sent: a bounded buffer between the broker, which never waits, and a
//! connection that takes what its socket takes.
//!
//! Invariant: messages leave in the order they came, the numbers told as ids only rise, and a feed
//! that was closed takes nothing more: what is in it is still sent, its last words at the end. Left
//! to others: how a message is written, and what is dropped when (`slow::backlog`).

use std::collections::HashSet;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use pinnace_topics::{Batch, Flush, Kept, Stored};

use tokio::sync::Notify;

use super::envelope::Envelope;
use super::form::{Form, Reason};
use super::line::Line;
use crate::harbour::Harbour;
use crate::limits::{STREAM_PENDING_BYTES_PAUSE, STUCK_AFTER};
use crate::metrics::Metrics;
use crate::slow::backlog::{Backlog, Pushed, Waiting};
use crate::slow::{Choice, SlowPolicy};

pub(super) struct Feed {
    form: Box<dyn Form>,
    pub(super) line: Arc<Line>,
    /// What becomes of it when it is behind.
    choice: Choice,
    /// For the log.
    client: SocketAddr,
    pattern: Box<[u8]>,
    state: Mutex<State>,
    /// More waits than may: a queue is needed.
    pub(super) overflowed: Notify,
    /// Something was taken.
    pub(super) progress: Notify,
    /// It is on somebody's list of receivers to flush.
    touched: AtomicBool,
    /// Wakes publishers that paused for a receiver.
    drained: Arc<Notify>,
    metrics: Arc<Metrics>,
}

pub(super) struct State {
    pub(super) bytes: Vec<u8>,
    /// While older messages are read from storage: what came meanwhile.
    held: Option<Vec<Held>>,
    held_bytes: usize,
    /// What waits behind `bytes`, unless the client is simply to be disconnected.
    pub(super) backlog: Backlog<Held>,
    last_id: u64,
    pub(super) closed: Option<Reason>,
    /// The connection's task, while it waits for bytes.
    reader: Option<Waker>,
    /// Flushes of the line when bytes were last taken.
    pub(super) taken_at: u64,
    /// Messages added since then.
    messages: u64,
    /// When something was last taken, or it came to be behind.
    progressed: Option<Instant>,
}

/// A message that is written and waits.
pub(super) struct Held {
    seq: Option<u64>,
    /// Known where it matters.
    topic: Box<[u8]>,
    bytes: Box<[u8]>,
}

impl Waiting for Held {
    fn topic(&self) -> &[u8] {
        &self.topic
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl State {
    fn pending_bytes(&self) -> usize {
        self.bytes.len() + self.held_bytes + self.backlog.bytes()
    }

    /// Whether it helps to wait: a client that reads nothing stays behind.
    fn is_worth_a_pause(&mut self) -> bool {
        if self.closed.is_some() || self.pending_bytes() <= STREAM_PENDING_BYTES_PAUSE {
            return false;
        }
        let progressed = *self.progressed.get_or_insert_with(Instant::now);
        progressed.elapsed() < STUCK_AFTER
    }

    /// The number to tell the client: a place to come back to only ever moves forward.
    fn id(&mut self, seq: Option<u64>) -> Option<u64> {
        let seq = seq.filter(|seq| *seq > self.last_id)?;
        self.last_id = seq;
        Some(seq)
    }

    pub(super) fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Feed {
    pub(super) fn new(
        form: impl Form,
        choice: Choice,
        (client, pattern): (SocketAddr, &str),
        line: Arc<Line>,
        harbour: &Harbour,
    ) -> Self {
        let state = State {
            bytes: Vec::new(),
            held: None,
            held_bytes: 0,
            backlog: Backlog::new(&choice),
            last_id: 0,
            closed: None,
            reader: None,
            taken_at: 0,
            messages: 0,
            progressed: None,
        };
        Self {
            form: Box::new(form),
            line,
            choice,
            client,
            pattern: pattern.as_bytes().into(),
            state: Mutex::new(state),
            overflowed: Notify::new(),
            progress: Notify::new(),
            touched: AtomicBool::new(false),
            drained: harbour.drained.clone(),
            metrics: harbour.metrics.clone(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a live message; false when the feed is closed, or so full that it now is.
    pub(super) fn deliver(
        self: &Arc<Self>,
        envelope: &Envelope<'_>,
        kept: Option<&Kept>,
        batch: &mut Batch,
    ) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed.is_some() {
            return false;
        }
        if state.backlog.has_queued(kept) {
            return true;
        }
        let pushed = self.add(state, envelope, kept);
        match pushed {
            Pushed::TooMuch => self.give_up_locked(state),
            Pushed::Overflows => self.overflowed.notify_one(),
            Pushed::Waits | Pushed::Queued | Pushed::Dropped { .. } => {}
        }
        drop(guard);
        if let Pushed::Dropped { count, is_first } = pushed {
            let policy = self.choice.policy;
            self.metrics.http.count_dropped(policy, count);
            if is_first {
                policy.log_first_drop(self.client, &self.pattern);
            }
        }
        if !self.touched.load(Ordering::Relaxed) && !self.touched.swap(true, Ordering::AcqRel) {
            batch.touch(self.clone());
        }
        true
    }

    /// Puts a live message where it has to wait.
    fn add(&self, state: &mut State, envelope: &Envelope<'_>, kept: Option<&Kept>) -> Pushed {
        let seq = envelope.seq;
        let is_simple = self.choice.policy == SlowPolicy::Disconnect;
        let goes_at_once = is_simple || self.has_room(state) && state.backlog.lets_pass();
        if state.held.is_none() && goes_at_once {
            state.messages += 1;
            let id = state.id(seq);
            self.form.begin(&mut state.bytes, id);
            self.form.message(&mut state.bytes, envelope);
        } else {
            let mut bytes = Vec::new();
            self.form.message(&mut bytes, envelope);
            let message = Held {
                seq,
                topic: match self.choice.policy {
                    SlowPolicy::NewestOnly => envelope.topic.into(),
                    _ => Box::default(),
                },
                bytes: bytes.into(),
            };
            let Some(held) = &mut state.held else {
                return state.backlog.push(message, kept);
            };
            state.held_bytes += message.bytes.len();
            held.push(message);
        }
        let may_wait = is_simple || state.held.is_some();
        if may_wait && state.bytes.len() + state.held_bytes > self.choice.pending_bytes_max {
            return Pushed::TooMuch;
        }
        Pushed::Waits
    }

    /// Whether what comes next need not wait behind what is to be taken.
    pub(super) fn has_room(&self, state: &State) -> bool {
        state.bytes.len() <= self.choice.bytes_ahead(STREAM_PENDING_BYTES_PAUSE)
    }

    /// Moves what waits to where it is taken from, while there is room.
    pub(super) fn advance(&self, state: &mut State) {
        while state.closed.is_none()
            && self.has_room(state)
            && let Some((message, dropped)) = state.backlog.pop()
        {
            if dropped > 0 {
                self.form.dropped(&mut state.bytes, dropped);
            }
            self.write_held(state, &message);
        }
    }

    fn write_held(&self, state: &mut State, message: &Held) {
        state.messages += 1;
        let id = state.id(message.seq);
        self.form.begin(&mut state.bytes, id);
        state.bytes.extend_from_slice(&message.bytes);
    }

    /// Ends the feed of a client that is too far behind.
    pub(super) fn give_up_locked(&self, state: &mut State) {
        self.close_locked(state, Reason::SlowConsumer);
        self.metrics.http.slow_consumers.add(1);
        // Its client may never read again.
        self.line.condemn();
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
            self.write_held(state, &message);
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
            state.backlog.clear();
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
        self.advance(&mut state);
        if state.bytes.is_empty() {
            if state.closed.is_some() {
                return Poll::Ready(None);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let was_behind = state.pending_bytes() > STREAM_PENDING_BYTES_PAUSE;
        state.progressed = was_behind.then(Instant::now);
        let bytes = mem::take(&mut state.bytes);
        state.taken_at = self.line.flushes();
        let messages = mem::take(&mut state.messages);
        drop(state);
        self.progress.notify_waiters();
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
            let state = self.lock();
            if state.bytes.is_empty() && state.backlog.is_empty() {
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
        self.advance(&mut state);
        state.wake();
        state.is_worth_a_pause()
    }
}
