//! A queue as a stream of server-sent events.
//!
//! Invariant: a message is consumed only after it, and something after it, went to the socket; one
//! stream at a time reads a queue. Left to others: what a stream's request may ask for (`stream`), how
//! events are written (`events`), what waits to be sent (`feed`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use pinnace_topics::{Error, WakeId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer::{Answer, Failure};
use super::events::{EventForm, Shape};
use super::feed::{Feed, Reason};
use super::stream::{answer, permit, wish};
use super::{Context, topics};
use crate::harbour::Harbour;
use crate::limits::STREAM_PAGE_MESSAGES;

/// `GET /<topic>/<subscriber>`: the queue, message by message.
pub(super) fn read(
    context: &Context,
    topic: &str,
    subscriber: &str,
    request: &Request<Incoming>,
) -> Result<Answer, Failure> {
    permit(context)?;
    let wish = wish(request, Shape::Payload)?;
    let harbour = context.harbour.clone();
    if harbour
        .broker
        .queue_status(topic.as_bytes(), subscriber)
        .is_err()
    {
        return Err(topics::no_such_subscription(topic, subscriber));
    }
    let feed = context.feed(EventForm(wish.shape));
    let reader = QueueReader {
        turn: QueueStreams::take_over(&harbour.queue_streams, topic, subscriber, &feed),
        harbour,
        topic: topic.into(),
        subscriber: subscriber.into(),
    };
    let director = async move {
        let harbour = reader.harbour.clone();
        let reason = tokio::select! {
            () = harbour.stopped() => Reason::Stopping,
            reason = reader.conduct(wish.after, wish.heartbeat) => reason,
        };
        reader.turn.feed.close(reason);
    };
    Ok(answer(feed, director))
}

/// A stream that reads one queue.
struct QueueReader {
    harbour: Arc<Harbour>,
    topic: Box<str>,
    subscriber: Box<str>,
    turn: Turn,
}

impl QueueReader {
    /// Sends what waits, batch after batch; each is consumed once it and the next batch or heartbeat
    /// are on their way. A client that comes back with the last id it saw has everything up to it.
    async fn conduct(&self, after: Option<u64>, heartbeat: Duration) -> Reason {
        let feed = &self.turn.feed;
        let mut sent_through = after.unwrap_or(0);
        let mut consumable = after;
        let mut next_heartbeat = Instant::now() + heartbeat;
        loop {
            if feed.closed().is_some() {
                // The words were said by whoever closed it, and the queue is no longer ours.
                return Reason::Replaced;
            }
            if let Some(Err(reason)) = consumable.take().map(|through| self.consume(through)) {
                return reason;
            }
            let sent = match self.send(sent_through) {
                Ok(Some(through)) => Some(through),
                Ok(None) => match self.woken(sent_through, next_heartbeat).await {
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
            // Everything before the frame that has just gone out.
            consumable = (sent_through > 0).then_some(sent_through);
            sent_through = sent.unwrap_or(sent_through);
        }
    }

    /// Sends what waits behind `after` and says up to where; `None` when nothing does.
    fn send(&self, after: u64) -> Result<Option<u64>, Reason> {
        let broker = &self.harbour.broker;
        let (topic, max) = (self.topic.as_bytes(), STREAM_PAGE_MESSAGES);
        let peeked = broker.peek_after(topic, &self.subscriber, after, max);
        let peeked = peeked.map_err(|error| reason(&error))?;
        for message in &peeked.messages {
            self.turn.feed.tell(message);
        }
        Ok(peeked.through_seq)
    }

    fn consume(&self, through: u64) -> Result<(), Reason> {
        let (topic, broker) = (self.topic.as_bytes(), &self.harbour.broker);
        // Not waited for: what a crash undoes is sent again.
        let done = Box::new(|_| ());
        broker
            .consume(topic, &self.subscriber, through, done)
            .map_err(|error| reason(&error))
    }

    /// Waits until a message behind `after` may wait; false when it is time for a heartbeat.
    async fn woken(&self, after: u64, deadline: Instant) -> Result<bool, Reason> {
        let (wake, woken) = oneshot::channel();
        // The stream may have ended.
        let wake = Box::new(|| {
            let _ = wake.send(());
        });
        let (topic, broker) = (self.topic.as_bytes(), &self.harbour.broker);
        let id = broker.notify_after(topic, &self.subscriber, after, wake);
        let id = id.map_err(|error| reason(&error))?;
        let _forget = ForgetWake { reader: self, id };
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
    reader: &'a QueueReader,
    id: WakeId,
}

impl Drop for ForgetWake<'_> {
    fn drop(&mut self) {
        let QueueReader {
            harbour,
            topic,
            subscriber,
            ..
        } = self.reader;
        harbour
            .broker
            .cancel_notify(topic.as_bytes(), subscriber, self.id);
    }
}

/// Which stream reads each queue: the latest, so that a client whose connection broke unnoticed is
/// not locked out by its own past.
#[derive(Default)]
pub(crate) struct QueueStreams {
    readers: Mutex<HashMap<QueueKey, Arc<Feed>>>,
}

type QueueKey = (Box<str>, Box<str>);

impl QueueStreams {
    fn take_over(streams: &Arc<Self>, topic: &str, subscriber: &str, feed: &Arc<Feed>) -> Turn {
        let key: QueueKey = (topic.into(), subscriber.into());
        let earlier = streams.lock().insert(key.clone(), feed.clone());
        if let Some(earlier) = earlier {
            earlier.close(Reason::Replaced);
        }
        Turn {
            streams: streams.clone(),
            key,
            feed: feed.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<QueueKey, Arc<Feed>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to read a queue, until somebody takes over.
struct Turn {
    streams: Arc<QueueStreams>,
    key: QueueKey,
    feed: Arc<Feed>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut readers = self.streams.lock();
        if readers
            .get(&self.key)
            .is_some_and(|current| Arc::ptr_eq(current, &self.feed))
        {
            readers.remove(&self.key);
        }
    }
}
