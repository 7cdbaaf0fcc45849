//! `/<topic>` and `/<topic>/<subscriber>`: publish, subscribe, fetch, unsubscribe.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::PoisonError;
use std::time::Duration;

use base64::Engine as _;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use pinnace_proto::api::{QueueEntry, TopicEntry};
use pinnace_topics::{
    Batch, Broker, Done, Message, PublishError, Start, StoreError, Stored, WakeId,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Context;
use super::answer::{self, Answer, Failure};
use super::request;
use crate::caller::Action;
use crate::limits::{FETCH_MESSAGES_MAX, PAYLOAD_BYTES_MAX, WAIT_MAX};

/// `POST /<topic>`: 200 once the message is as safe as its subscribers asked for.
pub(super) async fn publish(
    context: &Context,
    topic: &str,
    request: Request<Incoming>,
) -> Result<Answer, Failure> {
    permit(context, Action::Publish)?;
    request::parameters(request.uri(), &[])?;
    let headers = request::to_block(request.headers());
    let payload = request::body(request, PAYLOAD_BYTES_MAX.saturating_sub(headers.len())).await?;
    let message = Message {
        topic: topic.as_bytes(),
        reply: None,
        headers: &headers,
        payload: &payload,
    };
    let began = std::time::Instant::now();
    let (published, stored) = {
        let mut publisher = context
            .publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        let mut stored = None;
        let done = || -> Option<Done> {
            let (done, waits) = told_once_synced();
            stored = Some(waits);
            Some(done)
        };
        let published =
            context
                .harbour
                .publish_for(&mut publisher, &message, None, &mut batch, done);
        batch.flush();
        let metrics = &context.harbour.metrics.http;
        metrics.publish_to_deliver.add(began.elapsed(), 1);
        if let Ok(published) = &published {
            context.note("http", &message, published);
        }
        (published.map_err(publish_failure)?, stored)
    };
    let mut answer = answer::empty();
    let headers = answer.headers_mut();
    if let (Some(_), Some(stored)) = (published.seq, stored) {
        let seq = synced(stored).await?;
        headers.insert("pinnace-seq", HeaderValue::from(seq));
    }
    headers.insert("pinnace-queues", HeaderValue::from(published.queues));
    headers.insert("pinnace-live", HeaderValue::from(published.live));
    Ok(answer)
}

/// `GET /<topic>`: who subscribes, and what waits for them.
pub(super) fn show(context: &Context, topic: &str) -> Result<Answer, Failure> {
    permit(context, Action::Look)?;
    let broker = &context.harbour.broker;
    let entry = entries(broker)
        .into_iter()
        .find(|entry| entry.topic == topic);
    let mut entry = entry.unwrap_or_else(|| TopicEntry {
        topic: topic.to_owned(),
        live: 0,
        subscribers: Vec::new(),
    });
    for queue in &mut entry.subscribers {
        let oldest = broker.peek(topic.as_bytes(), &queue.name, 1);
        let oldest = oldest
            .ok()
            .and_then(|peeked| peeked.messages.into_iter().next());
        queue.oldest_us = oldest.map(|message| message.published_us);
    }
    answer::json(&entry)
}

/// Every topic or pattern that somebody is subscribed to, with its queues.
pub(super) fn entries(broker: &Broker) -> Vec<TopicEntry> {
    let mut queues: BTreeMap<Vec<u8>, Vec<QueueEntry>> = BTreeMap::new();
    for status in broker.queues() {
        queues.entry(status.pattern).or_default().push(QueueEntry {
            name: status.name,
            waiting: status.messages,
            oldest_seq: status.first_seq,
            oldest_us: None,
        });
    }
    let subscribed = broker
        .topics()
        .into_iter()
        .filter(|t| t.subscriptions + t.queues > 0);
    subscribed
        .map(|status| TopicEntry {
            topic: String::from_utf8_lossy(&status.topic).into_owned(),
            live: status.subscriptions as u64,
            subscribers: queues.remove(&status.topic).unwrap_or_default(),
        })
        .collect()
}

/// `POST /<topic>/<subscriber>`: 200, also when it was subscribed already.
pub(super) async fn subscribe(
    context: &Context,
    topic: &str,
    subscriber: &str,
    request: &Request<Incoming>,
) -> Result<Answer, Failure> {
    permit(context, Action::Subscribe)?;
    let mut start = Start::New;
    for (_, value) in request::parameters(request.uri(), &["from"])? {
        start = match value.as_str() {
            "first" => Start::First,
            "new" => Start::New,
            other => {
                let detail = format!("from is `first` or `new`, not `{other}`");
                return Err(Failure::bad_request("bad-parameter", detail));
            }
        };
    }
    let (done, stored) = told_once_synced();
    context
        .harbour
        .broker
        .create_queue(topic.as_bytes(), subscriber, start, done)
        .map_err(queue_failure)?;
    synced(stored).await?;
    Ok(answer::empty())
}

/// `DELETE /<topic>/<subscriber>`: 200, or 404 when there was no such subscription.
pub(super) async fn unsubscribe(
    context: &Context,
    topic: &str,
    subscriber: &str,
) -> Result<Answer, Failure> {
    permit(context, Action::Subscribe)?;
    let (done, stored) = told_once_synced();
    let existed = context
        .harbour
        .broker
        .delete_queue(topic.as_bytes(), subscriber, done)
        .map_err(queue_failure)?;
    if !existed {
        return Err(no_such_subscription(topic, subscriber));
    }
    synced(stored).await?;
    Ok(answer::empty())
}

/// `GET /<topic>/<subscriber>`: the next message, consumed; 204 when none waits.
pub(super) async fn fetch(
    context: &Context,
    topic: &str,
    subscriber: &str,
    request: &Request<Incoming>,
) -> Result<Answer, Failure> {
    permit(context, Action::Subscribe)?;
    let mut wait = Duration::ZERO;
    let mut max = None;
    for (name, value) in request::parameters(request.uri(), &["wait", "max"])? {
        if name == "wait" {
            wait = request::duration("wait", &value, WAIT_MAX)?;
        } else {
            max = Some(message_count(&value)?);
        }
    }
    let deadline = Instant::now() + wait;
    loop {
        let messages = take(context, topic, subscriber, max.unwrap_or(1)).await?;
        if let (Some(_), false) = (max, messages.is_empty()) {
            return Ok(answer::with_body("application/x-ndjson", lines(&messages)));
        }
        if let Some(message) = messages.into_iter().next() {
            return Ok(single(message));
        }
        if !somebody_published(context, topic, subscriber, deadline).await? {
            return Ok(answer::status(StatusCode::NO_CONTENT));
        }
    }
}

fn message_count(text: &str) -> Result<usize, Failure> {
    match text.parse() {
        Ok(count) if (1..=FETCH_MESSAGES_MAX).contains(&count) => Ok(count),
        _ => {
            let detail = format!("max is a number from 1 to {FETCH_MESSAGES_MAX}, not `{text}`");
            Err(Failure::bad_request("bad-parameter", detail))
        }
    }
}

async fn take(
    context: &Context,
    topic: &str,
    subscriber: &str,
    max: usize,
) -> Result<Vec<Stored>, Failure> {
    let (done, taken) = oneshot::channel();
    let result = context.harbour.broker.take(
        topic.as_bytes(),
        subscriber,
        max,
        Box::new(|result| drop(done.send(result))),
    );
    match result {
        Ok(()) => {}
        Err(pinnace_topics::Error::NoSuchQueue { .. }) => {
            return Err(no_such_subscription(topic, subscriber));
        }
        Err(error) => return Err(queue_failure(error)),
    }
    match taken.await {
        Ok(result) => {
            let taken = result.map_err(store_failure)?;
            taken.receipt.confirm();
            let metrics = &context.harbour.metrics.http;
            metrics.sent_messages.add(taken.messages.len() as u64);
            Ok(taken.messages)
        }
        Err(_) => Err(Failure::unavailable("the server is stopping")),
    }
}

/// Waits until a message may wait in the queue; false when the time is over.
async fn somebody_published(
    context: &Context,
    topic: &str,
    subscriber: &str,
    deadline: Instant,
) -> Result<bool, Failure> {
    if Instant::now() >= deadline {
        return Ok(false);
    }
    let (wake, woken) = oneshot::channel();
    let wake = Box::new(|| {
        // The fetch may have given up waiting.
        let _ = wake.send(());
    });
    let broker = &context.harbour.broker;
    let id = broker
        .notify(topic.as_bytes(), subscriber, wake)
        .map_err(|_| no_such_subscription(topic, subscriber))?;
    let _forget = ForgetWake {
        broker,
        topic,
        subscriber,
        id,
    };
    tokio::select! {
        _ = woken => Ok(true),
        () = tokio::time::sleep_until(deadline) => Ok(false),
        () = context.harbour.stopped() => Ok(false),
    }
}

/// Takes a wake back when the fetch ends, also when its client went away.
struct ForgetWake<'a> {
    broker: &'a Broker,
    topic: &'a str,
    subscriber: &'a str,
    id: WakeId,
}

impl Drop for ForgetWake<'_> {
    fn drop(&mut self) {
        self.broker
            .cancel_notify(self.topic.as_bytes(), self.subscriber, self.id);
    }
}

fn single(message: Stored) -> Answer {
    let mut answer = answer::empty();
    request::restore_headers(&message.headers, answer.headers_mut());
    answer
        .headers_mut()
        .insert("pinnace-seq", HeaderValue::from(message.seq));
    *answer.body_mut() = Bytes::from(message.payload).into();
    answer
}

/// One JSON object a line: `text` when the payload is UTF-8, else `base64`.
fn lines(messages: &[Stored]) -> String {
    let mut lines = String::new();
    for message in messages {
        let mut headers = HeaderMap::new();
        request::restore_headers(&message.headers, &mut headers);
        let headers: serde_json::Map<_, _> = headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into(),
                )
            })
            .collect();
        let (encoding, payload) = match std::str::from_utf8(&message.payload) {
            Ok(text) => ("text", text.to_owned()),
            Err(_) => {
                let encoder = base64::engine::general_purpose::STANDARD;
                ("base64", encoder.encode(&message.payload))
            }
        };
        let line = serde_json::json!({
            "seq": message.seq,
            "topic": String::from_utf8_lossy(&message.topic),
            "published_us": message.published_us,
            "headers": headers,
            encoding: payload,
        });
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{line}");
    }
    lines
}

fn permit(context: &Context, action: Action) -> Result<(), Failure> {
    if context.caller.may(action) {
        Ok(())
    } else {
        Err(Failure::forbidden())
    }
}

/// A callback for the broker, and where its word arrives.
fn told_once_synced() -> (Done, oneshot::Receiver<Result<u64, StoreError>>) {
    let (tell, told) = oneshot::channel();
    // The request may have been given up meanwhile.
    (Box::new(|result| drop(tell.send(result))), told)
}

async fn synced(stored: oneshot::Receiver<Result<u64, StoreError>>) -> Result<u64, Failure> {
    match stored.await {
        Ok(result) => result.map_err(store_failure),
        Err(_) => Err(Failure::unavailable("the server is stopping")),
    }
}

pub(super) fn no_such_subscription(topic: &str, subscriber: &str) -> Failure {
    let detail = format!(
        "`{subscriber}` is not subscribed to `{topic}`; subscribe with POST /{topic}/{subscriber}"
    );
    Failure::not_found("no-such-subscription", detail)
}

fn publish_failure(error: PublishError) -> Failure {
    match error {
        PublishError::QueueLimit { .. } => Failure::no_room("queue-limit", error.to_string()),
        PublishError::Store(error) => store_failure(error),
        _ => Failure::bad_request("bad-message", error.to_string()),
    }
}

fn queue_failure(error: pinnace_topics::Error) -> Failure {
    match error {
        pinnace_topics::Error::NoSuchQueue { .. } => {
            Failure::not_found("no-such-subscription", error.to_string())
        }
        pinnace_topics::Error::Store(error) => store_failure(error),
        _ => Failure::bad_request("bad-subscription", error.to_string()),
    }
}

fn store_failure(error: StoreError) -> Failure {
    match error {
        StoreError::Full(_) => Failure::no_room("storage-full", error.to_string()),
        StoreError::TooLarge { .. } => Failure::too_large(PAYLOAD_BYTES_MAX),
        _ => Failure::unavailable(error.to_string()),
    }
}
