//! The queue that stands in for a live subscription while its reader is behind.
//!
//! ```text
//!   live ──── too much waits ───▶ queue begins ──▶ what waited, then the queue, page by page
//!    ▲                                                                 │
//!    └────────── queue empty: it ends, at an exact place ◀─────────────┘
//! ```
//!
//! Invariant: the reader gets each message once and each publisher's in order, and is the only one of its
//! queue; a message leaves the queue only after it was given to the operating system for the reader. So what a cut takes is what
//! waited in memory; the queue stays. Left to others: sockets, and which messages are in the queue
//! (`pinnace_topics::Kept`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinnace_topics::{Error, QueueId, StoreError, Stored, WakeId};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::harbour::Harbour;
use crate::limits::STREAM_PAGE_MESSAGES;
use crate::metrics::DoorMetrics;

/// A live subscription that spills.
pub(crate) trait Spilling: Send + Sync + 'static {
    /// Returns once more waits than may.
    fn overflowed(&self) -> impl Future<Output = ()> + Send;
    /// Holds back what waits and what comes.
    fn begin(&self);
    /// Goes on with what waits and is not in the queue.
    fn spill_to(&self, queue: QueueId);
    /// Messages come live again.
    fn end(&self);
    /// Returns once nothing waits and there is room for a message.
    fn room(&self) -> impl Future<Output = ()> + Send;
    /// Sends a message of the queue; false when the subscription has ended.
    fn tell(&self, message: &Stored) -> bool;
    /// Returns once everything told so far is with the operating system.
    fn sent(&self) -> impl Future<Output = ()> + Send;
    /// The reader is cut off and told why.
    fn fail(&self, why: Failed);
    fn metrics<'a>(&self, harbour: &'a Harbour) -> &'a DoorMetrics;
}

/// Why nothing is spilled for a subscription any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// There is no queue to spill to.
    NoQueue,
    /// Another subscription spills to this queue now.
    Replaced,
}

/// Spills for a subscription while it lives.
pub(crate) struct Keeper(JoinHandle<()>);

impl Keeper {
    /// For a subscription that is in effect and holds back what comes, until it is known whether messages
    /// kept earlier come first.
    pub(crate) fn start<S: Spilling>(
        harbour: Arc<Harbour>,
        pattern: &[u8],
        queue: &str,
        subscription: Arc<S>,
    ) -> Self {
        let spill = Spill {
            harbour,
            pattern: pattern.into(),
            queue: queue.into(),
            subscription,
        };
        let turn = Turn::take(&spill.harbour, pattern, queue);
        Self(tokio::spawn(async move {
            let kept = tokio::select! {
                kept = spill.keep() => kept,
                () = turn.replaced.notified() => return spill.subscription.fail(Failed::Replaced),
            };
            if let Err(error) = kept {
                let (queue, pattern) = (&spill.queue, String::from_utf8_lossy(&spill.pattern));
                tracing::warn!(%pattern, queue, %error, "nothing can be spilled; the subscriber is cut off");
                spill.subscription.fail(Failed::NoQueue);
            }
        }))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who reads each queue that is spilled to: the latest, so that a client whose connection broke
/// unnoticed is not locked out by its own past.
#[derive(Default)]
pub(crate) struct Readers(Mutex<HashMap<Key, Arc<Notify>>>);

/// A pattern and the name of its queue.
type Key = (Box<[u8]>, Box<str>);

impl Readers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to read a queue, until somebody takes over.
struct Turn {
    harbour: Arc<Harbour>,
    key: Key,
    replaced: Arc<Notify>,
}

impl Turn {
    fn take(harbour: &Arc<Harbour>, pattern: &[u8], queue: &str) -> Self {
        let turn = Self {
            harbour: harbour.clone(),
            key: (pattern.into(), queue.into()),
            replaced: Arc::new(Notify::new()),
        };
        let mut readers = harbour.spill_readers.lock();
        if let Some(earlier) = readers.insert(turn.key.clone(), turn.replaced.clone()) {
            earlier.notify_one();
        }
        drop(readers);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut readers = self.harbour.spill_readers.lock();
        if readers
            .get(&self.key)
            .is_some_and(|latest| Arc::ptr_eq(latest, &self.replaced))
        {
            readers.remove(&self.key);
        }
    }
}

/// Whether messages kept earlier under this name wait to be read first.
pub(crate) fn is_behind(harbour: &Harbour, pattern: &[u8], queue: &str) -> bool {
    harbour.broker.queue_status(pattern, queue).is_ok()
}

struct Spill<S> {
    harbour: Arc<Harbour>,
    pattern: Box<[u8]>,
    queue: Box<str>,
    subscription: Arc<S>,
}

impl<S: Spilling> Spill<S> {
    async fn keep(&self) -> Result<(), Error> {
        let (pattern, queue) = (&self.pattern, &self.queue);
        let mut is_behind = is_behind(&self.harbour, pattern, queue);
        if !is_behind {
            self.subscription.end();
        }
        loop {
            if !is_behind {
                self.subscription.overflowed().await;
                self.subscription.begin();
            }
            is_behind = false;
            let id = self.harbour.broker.begin_spill(pattern, queue)?;
            self.subscription.spill_to(id);
            self.subscription.metrics(&self.harbour).spills.add(1);
            let shown = String::from_utf8_lossy(pattern);
            tracing::warn!(pattern = %shown, %queue, "a subscriber is behind; its messages go to a queue");
            if !self.drain().await? {
                return Ok(());
            }
            self.subscription.end();
        }
    }

    /// Sends what is in the queue until it is empty and gone; false when the subscription ended before.
    async fn drain(&self) -> Result<bool, Error> {
        let (pattern, queue) = (&self.pattern, &self.queue);
        let broker = &self.harbour.broker;
        loop {
            let page = broker.peek(pattern, queue, STREAM_PAGE_MESSAGES)?;
            // What waits came before what was just read: nobody publishes the next message to the queue
            // before the one before has arrived.
            self.subscription.room().await;
            let Some(through) = page.through_seq else {
                if self.has_ended().await? {
                    return Ok(true);
                }
                self.woken().await?;
                continue;
            };
            let count = page.messages.len() as u64;
            for message in &page.messages {
                self.subscription.room().await;
                if !self.subscription.tell(message) {
                    return Ok(false);
                }
            }
            self.subscription.sent().await;
            self.subscription
                .metrics(&self.harbour)
                .spilled_messages
                .add(count);
            // Not waited for: what a crash undoes comes again.
            broker.consume(pattern, queue, through, Box::new(|_| ()))?;
        }
    }

    /// Ends the queue for good, unless something is in it.
    async fn has_ended(&self) -> Result<bool, Error> {
        let (told, ended) = oneshot::channel::<Result<u64, StoreError>>();
        // The keeper may have ended.
        let done = Box::new(|outcome| drop(told.send(outcome)));
        let broker = &self.harbour.broker;
        if !broker.end_spill(&self.pattern, &self.queue, done)? {
            return Ok(false);
        }
        // A deletion that was refused leaves a queue that goes on.
        Ok(!matches!(ended.await, Ok(Err(_))))
    }

    /// Waits until a durable message may be in the queue.
    async fn woken(&self) -> Result<(), Error> {
        let (wake, woken) = oneshot::channel();
        let wake = Box::new(|| {
            let _ = wake.send(());
        });
        let id = self
            .harbour
            .broker
            .notify(&self.pattern, &self.queue, wake)?;
        let _forget = ForgetWake { spill: self, id };
        let _ = woken.await;
        Ok(())
    }
}

/// Takes a wake back when its keeper ends.
struct ForgetWake<'a, S> {
    spill: &'a Spill<S>,
    id: WakeId,
}

impl<S> Drop for ForgetWake<'_, S> {
    fn drop(&mut self) {
        let Spill {
            harbour,
            pattern,
            queue,
            ..
        } = self.spill;
        harbour.broker.cancel_notify(pattern, queue, self.id);
    }
}
