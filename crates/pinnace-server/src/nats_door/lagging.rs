//! The receiving end of a NATS subscription that, when it is behind, is not simply disconnected.
//!
//! ```text
//!   deliver ──▶ Subscription ──▶ outbox ──▶ socket      while little waits there
//!       └─────▶ backlog ────────────▲                   otherwise; moved when there is room
//! ```
//!
//! Invariant: what this subscription adds to the outbox is added under its lock, so messages leave in
//! order; whoever makes room in the outbox, or is told that there is some, moves what waits. A client
//! is told what was dropped by a header of the next message. Left to others: what is dropped when
//! (`slow::backlog`), the queue of a subscription that spills (`slow::spill`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinnace_topics::{Batch, Flush, Kept, Message, QueueId, Sink, Stored};
use tokio::sync::Notify;

use super::held::{Held, told_dropped};
use super::outbox::{Outbox, REPLACED, SLOW_CONSUMER};
use super::sink::Subscription;
use crate::harbour::Harbour;
use crate::limits::PENDING_BYTES_PAUSE;
use crate::metrics::{DoorMetrics, Metrics};
use crate::slow::backlog::{Backlog, Pushed};
use crate::slow::behind::{Look, Subscriber};
use crate::slow::spill::{Failed, Spilling};
use crate::slow::{Choice, SlowPolicy};

/// A connection's subscriptions that are behind.
pub(super) struct Laggards {
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
    connection: u64,
    behind: Mutex<VecDeque<Arc<Lagging>>>,
    /// Something was written, or may be.
    progress: Notify,
}

impl Laggards {
    pub(super) fn new(outbox: Arc<Outbox>, harbour: &Harbour, connection: u64) -> Self {
        Self {
            outbox,
            metrics: harbour.metrics.clone(),
            connection,
            behind: Mutex::default(),
            progress: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Lagging>>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection has ended.
    pub(super) fn forget(&self) {
        let behind = std::mem::take(&mut *self.lock());
        drop(behind);
    }

    /// Moves on what waits, for the connection's own task; in turn, so that none starves.
    pub(super) fn advance(&self) {
        let count = self.lock().len();
        for _ in 0..count {
            let Some(lagging) = self.lock().pop_front() else {
                break;
            };
            lagging.flush();
            let mut state = lagging.lock();
            if state.backlog.is_empty() {
                state.is_listed = false;
            } else {
                self.lock().push_back(lagging.clone());
            }
        }
        self.progress.notify_waiters();
    }

    /// Returns once `is_there` says so.
    async fn reached(&self, mut is_there: impl FnMut() -> bool + Send) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if is_there() {
                return;
            }
            if !self.outbox.is_blocked() {
                // Nobody is about to write: the connection's task is to have a look.
                self.outbox.attention.notify_one();
            }
            progress.await;
        }
    }
}

pub(super) struct Lagging {
    laggards: Arc<Laggards>,
    subscription: Arc<Subscription>,
    pattern: Box<[u8]>,
    state: Mutex<State>,
    /// It is on somebody's list of receivers to flush.
    touched: AtomicBool,
    /// More waits than may: a queue is needed.
    overflowed: Notify,
    /// How much the outbox has written once it has written what was told from the queue.
    told: AtomicU64,
}

struct State {
    backlog: Backlog<Held>,
    /// Bytes in the outbox beyond which messages wait.
    bytes_ahead: usize,
    /// It is among its connection's laggards.
    is_listed: bool,
    /// Its client wants no more of it.
    is_stopped: bool,
}

/// What the broker knows of it.
pub(super) struct LaggingSink(pub(super) Arc<Lagging>);

impl Sink for LaggingSink {
    fn deliver(&self, message: &Message<'_>, batch: &mut Batch) -> bool {
        self.0.take(message, None, batch)
    }

    fn deliver_kept(&self, message: &Message<'_>, kept: &Kept, batch: &mut Batch) -> bool {
        self.0.take(message, Some(kept), batch)
    }
}

impl Lagging {
    pub(super) fn new(
        laggards: Arc<Laggards>,
        subscription: Arc<Subscription>,
        pattern: &[u8],
        choice: &Choice,
    ) -> Self {
        let state = State {
            backlog: Backlog::new(choice),
            bytes_ahead: choice.bytes_ahead(PENDING_BYTES_PAUSE),
            is_listed: false,
            is_stopped: false,
        };
        Self {
            laggards,
            subscription,
            pattern: pattern.into(),
            state: Mutex::new(state),
            touched: AtomicBool::new(false),
            overflowed: Notify::new(),
            told: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has ended; what waits goes nowhere.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        state.backlog.clear();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// Holds to another choice from now on.
    pub(super) fn choose(&self, choice: &Choice) {
        let mut state = self.lock();
        state.bytes_ahead = choice.bytes_ahead(PENDING_BYTES_PAUSE);
        let pushed = state.backlog.choose(choice);
        drop(state);
        self.note(&pushed, choice.policy);
    }

    fn take(
        self: &Arc<Self>,
        message: &Message<'_>,
        kept: Option<&Kept>,
        batch: &mut Batch,
    ) -> bool {
        if self.subscription.withholds(message.topic) {
            return false;
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.is_stopped {
            return false;
        }
        if state.backlog.has_queued(kept) {
            return true;
        }
        if state.backlog.lets_pass() && self.has_room(state) {
            return self.subscription.deliver(message, batch);
        }
        if !self.subscription.takes_another_after(state.backlog.len()) {
            return false;
        }
        let policy = state.backlog.policy();
        let pushed = state.backlog.push(Held::of(message), kept);
        if !std::mem::replace(&mut state.is_listed, true) {
            self.laggards.lock().push_back(self.clone());
        }
        drop(guard);
        self.note(&pushed, policy);
        if !self.touched.swap(true, Ordering::AcqRel) {
            batch.touch(self.clone());
        }
        true
    }

    /// Whether a message can go out now. A publisher's batch may be more than a client wants to have
    /// waiting, so what the socket takes is written before anybody is said to be behind.
    fn has_room(&self, state: &State) -> bool {
        let outbox = &self.laggards.outbox;
        let has_room = || outbox.pending_bytes() <= state.bytes_ahead;
        has_room() || {
            if !outbox.is_blocked() {
                outbox.flush();
            }
            has_room()
        }
    }

    /// Counts, logs and hands on what a push led to.
    fn note(&self, pushed: &Pushed, policy: SlowPolicy) {
        match *pushed {
            Pushed::Waits | Pushed::Queued => {}
            Pushed::Overflows => self.overflowed.notify_one(),
            Pushed::TooMuch => self.laggards.outbox.close(SLOW_CONSUMER),
            Pushed::Dropped { count, is_first } => {
                self.laggards.metrics.nats.count_dropped(policy, count);
                if is_first {
                    policy.log_first_drop(self.laggards.connection, &self.pattern);
                }
            }
        }
    }

    /// Moves what waits to the outbox while there is room; whether anything was moved.
    fn advance(&self) -> bool {
        let outbox = &self.laggards.outbox;
        let mut guard = self.lock();
        let state = &mut *guard;
        // The outbox is flushed by the caller.
        let mut batch = Batch::default();
        let mut moved = false;
        while outbox.pending_bytes() <= state.bytes_ahead
            && let Some((held, dropped)) = state.backlog.pop()
        {
            moved = true;
            let mut message = held.message();
            let headers = told_dropped(message.headers, dropped);
            message.headers = headers.as_deref().unwrap_or(message.headers);
            if !self.subscription.deliver(&message, &mut batch) {
                // It is closed or had its last message.
                state.backlog.clear();
            }
        }
        let is_left = !state.backlog.is_empty() && !state.backlog.is_held();
        drop(guard);
        if is_left && !moved && !outbox.is_blocked() {
            // Another subscription was faster; whoever wrote its messages does not know of this one.
            outbox.attention.notify_one();
        }
        moved
    }
}

impl Flush for Lagging {
    fn flush(&self) -> bool {
        self.touched.store(false, Ordering::Release);
        let outbox = &self.laggards.outbox;
        loop {
            let wants_a_pause = outbox.flush();
            if outbox.is_blocked() || !self.advance() {
                return wants_a_pause;
            }
        }
    }
}

impl Subscriber for Lagging {
    fn look(&self) -> Look {
        self.lock().backlog.look()
    }
}

impl Spilling for Lagging {
    async fn overflowed(&self) {
        self.overflowed.notified().await;
    }

    fn begin(&self) {
        self.lock().backlog.begin_spill();
    }

    fn spill_to(&self, queue: QueueId) {
        self.lock().backlog.spill_to(queue);
        self.flush();
    }

    fn end(&self) {
        if self.lock().backlog.end_spill() {
            self.overflowed.notify_one();
        }
        self.flush();
    }

    async fn room(&self) {
        self.laggards
            .reached(|| {
                self.flush();
                let state = self.lock();
                let pending = self.laggards.outbox.pending_bytes();
                state.backlog.is_empty() && pending <= state.bytes_ahead
            })
            .await;
    }

    fn tell(&self, message: &Stored) -> bool {
        let message = Message {
            topic: &message.topic,
            reply: None,
            headers: &message.headers,
            payload: &message.payload,
        };
        let mut batch = Batch::default();
        let guard = self.lock();
        let is_told = self.subscription.deliver(&message, &mut batch);
        self.told
            .store(self.laggards.outbox.mark(), Ordering::Relaxed);
        drop(guard);
        batch.flush();
        is_told
    }

    async fn sent(&self) {
        let told = self.told.load(Ordering::Relaxed);
        let outbox = &self.laggards.outbox;
        self.laggards
            .reached(|| {
                if !outbox.is_blocked() {
                    outbox.flush();
                }
                outbox.has_written(told)
            })
            .await;
    }

    fn fail(&self, why: Failed) {
        self.laggards.outbox.close(match why {
            Failed::NoQueue => SLOW_CONSUMER,
            Failed::Replaced => REPLACED,
        });
    }

    fn metrics<'a>(&self, harbour: &'a Harbour) -> &'a DoorMetrics {
        &harbour.metrics.nats
    }
}
