//! A queue as a stream of server-sent events.
//!
//! Invariant: a message is lent to the stream, and given away for good only after it, and something
//! behind it, went to the socket; whatever ends the stream gives the rest back. One stream at a time
//! reads a queue. Left to others: what a stream's request may ask for (`stream`), how
//! events are written (`events`), what waits to be sent (`feed`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Request;
use pinnace_topics::{Error, LeaseId, WakeId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer::{Answer, Failure};
use super::events::Shape;
use super::feed::Feed;
use super::form::Reason;
use super::request::Payload;
use super::stream::{self, answer, permit, wish};
use super::{Context, topics};
use crate::dead_letters;
use crate::harbour::Harbour;
use crate::limits::{STREAM_PAGE_MESSAGES, UNACKNOWLEDGED_MAX};

/// `GET /<topic>/<subscriber>`: the queue, message by message.
pub(super) fn read(
    context: &Context,
    topic: &str,
    subscriber: &str,
    request: &Request<Payload>,
) -> Result<Answer, Failure> {
    permit(context)?;
    let wish = wish(request, Shape::Payload, None)?;
    let harbour = context.harbour.clone();
    if harbour
        .broker
        .queue_status(topic.as_bytes(), subscriber)
        .is_err()
    {
        return Err(topics::no_such_subscription(topic, subscriber));
    }
    let choice = context.usual_choice().disconnecting();
    let feed = stream::feed(context, wish.shape, choice, topic);
    let reader = QueueReader {
        turn: Turn::take(&harbour, topic, subscriber, &feed),
    };
    let director = async move {
        let reason = tokio::select! {
            () = harbour.stopped() => Reason::Stopping,
            reason = reader.conduct(wish.after, wish.heartbeat) => reason,
        };
        reader.turn.reader.feed.close(reason);
    };
    Ok(answer(context, feed, director))
}

/// A stream that reads one queue.
struct QueueReader {
    turn: Turn,
}

impl QueueReader {
    /// Sends what waits, batch after batch; each is acknowledged once it and the next batch or
    /// heartbeat are on their way.
    async fn conduct(&self, after: Option<u64>, heartbeat: Duration) -> Reason {
        let feed = &self.turn.reader.feed;
        if let Some(Err(reason)) = after.map(|through| self.consume(through)) {
            return reason;
        }
        let mut sent = None;
        let mut next_heartbeat = Instant::now() + heartbeat;
        while feed.closed().is_none() {
            let lease = match self.send(heartbeat) {
                Ok(Some(lease)) => Some(lease),
                Ok(None) => match self.woken(next_heartbeat).await {
                    Ok(true) => continue,
                    Ok(false) => {
                        feed.beat();
                        None
                    }
                    Err(reason) => return reason,
                },
                Err(reason) => return reason,
            };
            feed.flushed().await;
            next_heartbeat = Instant::now() + heartbeat;
            // What was sent before the frame that has just gone out.
            if let Some(Err(reason)) = sent.take().map(|lease| self.acknowledge(lease)) {
                return reason;
            }
            sent = lease;
        }
        // The words were said by whoever closed it.
        Reason::Replaced
    }

    /// A client that comes back with the last number it saw has everything up to it.
    fn consume(&self, through: u64) -> Result<(), Reason> {
        let (topic, broker) = (self.turn.key.0.as_bytes(), &self.turn.harbour.broker);
        // Not waited for: what a crash undoes is sent again.
        let done = Box::new(|_| ());
        let consumed = broker.consume(topic, &self.turn.key.1, through, done);
        consumed.map_err(|error| reason(&error))
    }

    /// Borrows and sends what waits; `None` when nothing does.
    fn send(&self, heartbeat: Duration) -> Result<Option<LeaseId>, Reason> {
        let Turn {
            harbour,
            key,
            reader,
        } = &self.turn;
        let (topic, name, max) = (key.0.as_bytes(), &key.1, STREAM_PAGE_MESSAGES);
        // Acknowledged at the next heartbeat at the latest, unless the socket is stuck; then the
        // connection ends before the lease does.
        let until = std::time::Instant::now() + heartbeat + 2 * UNACKNOWLEDGED_MAX;
        let leased = harbour.broker.lease(topic, name, max, until);
        let Some(leased) = leased.map_err(|error| reason(&error))? else {
            return Ok(None);
        };
        reader.borrow(leased.lease);
        for leased in &leased.messages {
            reader.feed.tell(&leased.message);
        }
        Ok(Some(leased.lease))
    }

    fn acknowledge(&self, lease: LeaseId) -> Result<(), Reason> {
        let Turn {
            harbour,
            key,
            reader,
        } = &self.turn;
        if !reader.settle(lease) {
            return Err(Reason::Replaced);
        }
        let done = Box::new(|_| ());
        let (topic, name) = (key.0.as_bytes(), &key.1);
        let acknowledged = harbour.broker.acknowledge(topic, name, lease, None, done);
        acknowledged.map_err(|error| reason(&error))
    }

    /// Waits until a message may wait; false when it is time for a heartbeat.
    async fn woken(&self, deadline: Instant) -> Result<bool, Reason> {
        let (wake, woken) = oneshot::channel();
        // The stream may have ended.
        let wake = Box::new(|| {
            let _ = wake.send(());
        });
        let (topic, broker) = (self.turn.key.0.as_bytes(), &self.turn.harbour.broker);
        let id = broker.notify(topic, &self.turn.key.1, wake);
        let id = id.map_err(|error| reason(&error))?;
        let _forget = ForgetWake {
            turn: &self.turn,
            id,
        };
        tokio::select! {
            _ = woken => Ok(true),
            () = tokio::time::sleep_until(deadline) => Ok(false),
        }
    }
}

fn reason(error: &Error) -> Reason {
    match error {
        Error::NoSuchQueue { .. } => Reason::Unsubscribed,
        _ => Reason::Storage,
    }
}

/// Takes a wake back when a wait ends, also when its client went away.
struct ForgetWake<'a> {
    turn: &'a Turn,
    id: WakeId,
}

impl Drop for ForgetWake<'_> {
    fn drop(&mut self) {
        let Turn { harbour, key, .. } = self.turn;
        harbour
            .broker
            .cancel_notify(key.0.as_bytes(), &key.1, self.id);
    }
}

/// Which stream reads each queue: the latest, so that a client whose connection broke unnoticed is
/// not locked out by its own past.
#[derive(Default)]
pub(crate) struct QueueStreams {
    readers: Mutex<HashMap<QueueKey, Arc<Reader>>>,
}

/// Topic and subscriber.
type QueueKey = (Box<str>, Box<str>);

/// A stream as its successor sees it.
struct Reader {
    feed: Arc<Feed>,
    /// What it borrowed and has not acknowledged.
    leases: Mutex<Vec<LeaseId>>,
}

impl Reader {
    fn lock(&self) -> MutexGuard<'_, Vec<LeaseId>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn borrow(&self, lease: LeaseId) {
        self.lock().push(lease);
    }

    /// Takes a lease off its list; false when it was given back already.
    fn settle(&self, lease: LeaseId) -> bool {
        let mut leases = self.lock();
        let count = leases.len();
        leases.retain(|other| *other != lease);
        leases.len() < count
    }

    /// Lets everything that was not acknowledged wait again.
    fn give_back(&self, harbour: &Arc<Harbour>, key: &QueueKey) {
        let leases = std::mem::take(&mut *self.lock());
        // The latest first: each goes to the front of the queue.
        for lease in leases.into_iter().rev() {
            let now = std::time::Instant::now();
            let topic = key.0.as_bytes();
            match harbour.broker.give_back(topic, &key.1, lease, now) {
                Ok(letters) => dead_letters::bury(harbour, letters),
                Err(error) => {
                    let (topic, subscriber) = (&key.0, &key.1);
                    tracing::debug!(%topic, %subscriber, %error, "nothing to give back");
                }
            }
        }
    }
}

impl QueueStreams {
    fn lock(&self) -> MutexGuard<'_, HashMap<QueueKey, Arc<Reader>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to read a queue, until somebody takes over.
struct Turn {
    harbour: Arc<Harbour>,
    key: QueueKey,
    reader: Arc<Reader>,
}

impl Turn {
    fn take(harbour: &Arc<Harbour>, topic: &str, subscriber: &str, feed: &Arc<Feed>) -> Self {
        let key: QueueKey = (topic.into(), subscriber.into());
        let reader = Arc::new(Reader {
            feed: feed.clone(),
            leases: Mutex::default(),
        });
        let mut readers = harbour.queue_streams.lock();
        if let Some(earlier) = readers.insert(key.clone(), reader.clone()) {
            earlier.feed.close(Reason::Replaced);
            earlier.give_back(harbour, &key);
        }
        drop(readers);
        Self {
            harbour: harbour.clone(),
            key,
            reader,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.reader.give_back(&self.harbour, &self.key);
        let mut readers = self.harbour.queue_streams.lock();
        if readers
            .get(&self.key)
            .is_some_and(|current| Arc::ptr_eq(current, &self.reader))
        {
            readers.remove(&self.key);
        }
    }
}
