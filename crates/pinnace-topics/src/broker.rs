//! The broker: opening, subscriptions, and what the log's committer reports.
//!
//! Invariant: lock order is state, then routes, then the log's own; sinks and callbacks are called
//! with none of them held. Records are appended while the state is locked, so that the order of
//! records in the log is the order of the steps in the state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use pinnace_log::{Disk, Log, LogState, Lsn, Observer, Position, RealDisk};

use crate::error::{Error, OpenError, StoreError, printable};
use crate::limits::{
    IDENTITY_WINDOW_US_DEFAULT, QUEUE_BYTES_DEFAULT, QUEUE_MESSAGES_DEFAULT, QUEUES_DEFAULT,
};
use crate::live::Sink;
use crate::publisher::Publisher;
use crate::queues::Done;
use crate::reclaim;
use crate::replay::{Recovery, Replay};
use crate::routing::{Routes, SubscriptionId};
use crate::state::State;
use crate::steps::Call;
use crate::topic;

/// Microseconds since 1970, as the caller tells them.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How a broker stores messages.
#[derive(Debug, Clone)]
pub struct Options {
    /// How the log is kept.
    pub log: pinnace_log::Options,
    /// Messages that may wait in one queue; a publish beyond is refused.
    pub queue_messages_max: u64,
    /// Bytes (topic, headers, payload) that may wait in one queue; a publish beyond is refused.
    pub queue_bytes_max: u64,
    /// Queues that may exist.
    pub queues_max: usize,
    /// Messages that may be stored for all queues together; a publish beyond is refused.
    pub messages_max: u64,
    /// Their bytes (topic, headers, payload); a publish beyond is refused.
    pub bytes_max: u64,
    /// Microseconds for which a message's identity is remembered.
    pub identity_window_us: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            log: pinnace_log::Options::default(),
            queue_messages_max: QUEUE_MESSAGES_DEFAULT,
            queue_bytes_max: QUEUE_BYTES_DEFAULT,
            queues_max: QUEUES_DEFAULT,
            messages_max: u64::MAX,
            bytes_max: u64::MAX,
            identity_window_us: IDENTITY_WINDOW_US_DEFAULT,
        }
    }
}

/// Routes messages to live subscriptions and keeps them in queues. Clones are the same broker;
/// when the last one and the last publisher are gone, what waits is written and the log closed.
#[derive(Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) log: Log,
}

/// The part that the log's committer also needs while the log is being closed.
pub(crate) struct Core {
    state: Mutex<State>,
    pub(crate) routes: Routes,
    pub(crate) clock: Clock,
    pub(crate) options: Options,
    after_calls: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Inner {
    /// Calls `done` at once, for something that is done already. Where the storage has failed that is not
    /// certain of anything: it may have been in flight then.
    pub(crate) fn answer(&self, done: Done, seq: u64) {
        done(match self.log.state() {
            LogState::Failed(reason) => Err(StoreError::Failed(reason)),
            LogState::Open | LogState::Full(_) => Ok(seq),
        });
        self.core.called();
    }
}

impl Core {
    /// A number of callbacks have been called.
    pub(crate) fn called(&self) {
        if let Some(after_calls) = self.after_calls.get() {
            after_calls();
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// Opens the broker whose log is in `dir`, making it if there is none. The directory must be
    /// this process's alone.
    ///
    /// # Errors
    /// See `OpenError`. Damage is not an error; it is in the `Recovery`.
    pub fn open(
        dir: &Path,
        options: Options,
        clock: Clock,
    ) -> Result<(Broker, Recovery), OpenError> {
        Broker::open_on(Arc::new(RealDisk), dir, options, clock)
    }

    /// Like `open`, on a disk given by the caller.
    ///
    /// # Errors
    /// See `OpenError`.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        clock: Clock,
    ) -> Result<(Broker, Recovery), OpenError> {
        let mut replay = Replay::new(options.identity_window_us);
        let opened = Log::open(disk, dir, options.log.clone(), &mut |_, position, bytes| {
            replay.record(position, bytes)
        })?;
        let routes = Routes::default();
        let (mut state, recovery) = replay.finish(&routes, opened.recovery.clone());
        state.leases.start(clock());
        let core = Arc::new(Core {
            state: Mutex::new(state),
            routes,
            clock,
            options,
            after_calls: OnceLock::new(),
        });
        let broker = Arc::new(OnceLock::new());
        let committer = Committer {
            core: Arc::clone(&core),
            broker: Arc::clone(&broker),
            calls: Vec::new(),
        };
        let log = opened.start(Box::new(committer))?;
        let inner = Arc::new(Inner { core, log });
        // Nothing has been appended, so the committer has had no reason to look.
        let _ = broker.set(Arc::downgrade(&inner));
        Ok((Broker { inner }, recovery))
    }

    /// Starts a live subscription for the connection `owner`. Every subscription gets its own copy
    /// of a message, except that of a group's members only one gets it.
    ///
    /// # Errors
    /// `InvalidPattern`.
    pub fn subscribe(
        &self,
        pattern: &[u8],
        group: Option<&[u8]>,
        owner: u64,
        sink: Arc<dyn Sink>,
    ) -> Result<SubscriptionId, Error> {
        if !topic::is_valid_pattern(pattern) {
            return Err(Error::InvalidPattern {
                pattern: printable(pattern),
            });
        }
        Ok(self
            .inner
            .core
            .routes
            .subscribe(pattern, group, owner, sink))
    }

    /// Ends a live subscription. A publish that has already begun may still deliver to it. An id
    /// that is not known is ignored.
    pub fn unsubscribe(&self, id: SubscriptionId) {
        drop(self.inner.core.routes.unsubscribe(id));
    }

    /// Has a live subscription's messages taken by another sink: every message by one of the two, a
    /// publisher's later ones never by the earlier sink. An id that is not known is ignored.
    pub fn replace_sink(&self, id: SubscriptionId, sink: Arc<dyn Sink>) {
        drop(self.inner.core.routes.replace_sink(id, sink));
    }

    /// A publishing end, one for each connection.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        Publisher::new(Arc::clone(&self.inner))
    }

    /// Whether a message published to `topic` now would reach anybody.
    #[must_use]
    pub fn has_interest(&self, topic: &[u8]) -> bool {
        self.inner.core.routes.any(topic)
    }

    /// A number that changes whenever a subscription or queue comes or goes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.core.routes.generation()
    }

    /// Has `hook` called whenever a number of callbacks (`Done`, `TakeDone`) were called one after the other, so
    /// that what they left to be sent is sent together. Only the first hook counts. It must not block.
    pub fn after_calls(&self, hook: Box<dyn Fn() + Send + Sync>) {
        let _ = self.inner.core.after_calls.set(hook);
    }

    /// Asks a full storage to try whether there is space again, for a housekeeper to call.
    pub fn probe(&self) {
        self.inner.log.probe();
    }

    /// Blocks until a message of `bytes` would not be refused as `Busy`. Not to be called from a
    /// callback, nor on a thread that must not wait for a disk.
    pub fn wait_for_room(&self, bytes: usize) {
        self.inner.log.wait_for_room(bytes);
    }
}

/// Hears from the log what became of the records.
struct Committer {
    core: Arc<Core>,
    broker: Arc<OnceLock<Weak<Inner>>>,
    calls: Vec<Call>,
}

impl Committer {
    fn run_calls(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        for call in self.calls.drain(..) {
            // A door's mistake must not cost the others their callbacks and the log its thread.
            // The panic hook has reported it.
            let _ = catch_unwind(AssertUnwindSafe(|| call.run()));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| self.core.called()));
    }

    /// While the log is being closed there is no broker any more, and nothing is reclaimed.
    fn reclaim(&self) {
        if let Some(inner) = self.broker.get().and_then(Weak::upgrade) {
            reclaim::advance(&inner);
        }
    }
}

impl Observer for Committer {
    fn committed(&mut self, _first: Lsn, positions: &[Position]) {
        let reclaim = {
            let mut state = self.core.lock();
            for position in positions {
                state.commit(*position, &mut self.calls);
            }
            state.index.reclaim_due || state.reclaim.upto.is_some()
        };
        self.run_calls();
        if reclaim {
            self.reclaim();
        }
    }

    fn refused(&mut self, first: Lsn, _last: Lsn, reason: &str) {
        {
            let mut state = self.core.lock();
            let error = StoreError::Full(reason.to_owned());
            state.refuse(first, &error, &self.core.routes, &mut self.calls);
            // The next thing that is taken may make room.
            state.index.reclaim_due = true;
        }
        self.run_calls();
    }

    fn failed(&mut self, reason: &str) {
        let error = StoreError::Failed(reason.to_owned());
        self.core.lock().fail(&error, &mut self.calls);
        self.run_calls();
    }
}
