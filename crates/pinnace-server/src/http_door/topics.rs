//! `/<topic>`: publish, and what there is to know of a topic; and what its neighbours share.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use hyper::Request;
use hyper::header::HeaderValue;
use pinnace_proto::api::{QueueEntry, QueueLimits, TopicEntry, Unread, UnreadBy};
use pinnace_topics::{Batch, Broker, Done, Message, PublishError, QueueStatus, StoreError};
use tokio::sync::oneshot;

use super::answer::{self, Answer, Failure};
use super::request::Payload;
use super::{Context, queues, request};
use crate::caller::Action;
use crate::harbour::Harbour;
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::mail::{self, Letter};

/// `POST /<topic>`: 200 once the message is as safe as its subscribers asked for.
pub(super) async fn publish(
    context: &Context,
    topic: &str,
    request: Request<Payload>,
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
            context.note("http", &context.caller, &message, published);
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
    if published.duplicate {
        headers.insert("pinnace-duplicate", HeaderValue::from_static("true"));
    }
    Ok(answer)
}

/// `GET /<topic>`: who subscribes, and what waits for them; or who has not taken a message yet.
pub(super) fn show(
    context: &Context,
    topic: &str,
    request: &Request<Payload>,
) -> Result<Answer, Failure> {
    permit(context, Action::Look)?;
    let broker = &context.harbour.broker;
    if let Some((_, seq)) = request::parameters(request.uri(), &["unread"])?.pop() {
        let seq = request::number("unread", &seq)?;
        return answer::json(&unread(broker, topic, seq));
    }
    let entry = entries(&context.harbour)
        .into_iter()
        .find(|entry| entry.topic == topic);
    let entry = entry.unwrap_or_else(|| TopicEntry {
        topic: topic.to_owned(),
        live: 0,
        subscribers: Vec::new(),
        behind: Vec::new(),
    });
    answer::json(&entry)
}

pub(crate) fn unread(broker: &Broker, topic: &str, seq: u64) -> Unread {
    let holders = broker.holders(topic.as_bytes(), seq);
    Unread {
        seq,
        stored: holders.is_some(),
        unread: holders
            .unwrap_or_default()
            .into_iter()
            .map(|queue| UnreadBy {
                topic: String::from_utf8_lossy(&queue.pattern).into_owned(),
                name: queue.name,
                waiting: queue.messages,
            })
            .collect(),
    }
}

/// Every topic or pattern that somebody is subscribed to, with its queues, and every topic that was
/// created; by topic.
pub(crate) fn entries(harbour: &Harbour) -> Vec<TopicEntry> {
    let broker = &harbour.broker;
    let mut queues: BTreeMap<Vec<u8>, Vec<QueueEntry>> = BTreeMap::new();
    for mut status in broker.queues() {
        let pattern = std::mem::take(&mut status.pattern);
        queues.entry(pattern).or_default().push(entry(status));
    }
    let subscribed = broker
        .topics()
        .into_iter()
        .filter(|t| t.subscriptions + t.queues > 0);
    let subscribed = subscribed.map(|status| TopicEntry {
        topic: String::from_utf8_lossy(&status.topic).into_owned(),
        live: status.subscriptions as u64,
        subscribers: queues.remove(&status.topic).unwrap_or_default(),
        behind: harbour.slow_subscribers.behind(&status.topic),
    });
    let mut entries: Vec<TopicEntry> = subscribed.collect();
    for topic in harbour.channels.list() {
        if let Err(at) = entries.binary_search_by(|entry| entry.topic.cmp(&topic)) {
            let created = TopicEntry {
                topic,
                live: 0,
                subscribers: Vec::new(),
                behind: Vec::new(),
            };
            entries.insert(at, created);
        }
    }
    entries
}

fn entry(status: QueueStatus) -> QueueEntry {
    QueueEntry {
        name: status.name,
        waiting: status.messages,
        leased: status.leased,
        bytes: status.bytes,
        oldest_seq: status.first_seq,
        oldest_us: status.first_us,
        dropped: status.dropped,
        damaged: status.damaged,
        options: status.options.map(|options| QueueLimits {
            max_messages: options.messages_max,
            max_bytes: options.bytes_max,
            max_age_us: options.age_max_us,
            overflow: queues::overflow_name(options.overflow).to_owned(),
            max_deliveries: options.deliveries_max,
            dead_letter: options
                .dead_letter
                .map(|topic| String::from_utf8_lossy(&topic).into_owned()),
        }),
    }
}

pub(super) fn permit(context: &Context, action: Action) -> Result<(), Failure> {
    if context.caller.may(action) {
        Ok(())
    } else {
        Err(Failure::forbidden())
    }
}

/// A callback for the broker, and where its word arrives.
pub(super) fn told_once_synced() -> (Done, oneshot::Receiver<Result<u64, StoreError>>) {
    let (tell, told) = oneshot::channel();
    (
        Box::new(mail::leave(move |result| Letter::Stored(tell, result))),
        told,
    )
}

pub(super) async fn synced(
    stored: oneshot::Receiver<Result<u64, StoreError>>,
) -> Result<u64, Failure> {
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
        PublishError::ServerLimit { .. } => Failure::no_room("server-limit", error.to_string()),
        PublishError::Store(error) => store_failure(error),
        _ => Failure::bad_request("bad-message", error.to_string()),
    }
}

pub(super) fn queue_failure(error: pinnace_topics::Error) -> Failure {
    match error {
        pinnace_topics::Error::NoSuchQueue { .. } => {
            Failure::not_found("no-such-subscription", error.to_string())
        }
        pinnace_topics::Error::NoSuchLease => Failure::gone("no-such-lease", error.to_string()),
        pinnace_topics::Error::Store(error) => store_failure(error),
        _ => Failure::bad_request("bad-subscription", error.to_string()),
    }
}

pub(super) fn store_failure(error: StoreError) -> Failure {
    match error {
        StoreError::Full(_) => Failure::no_room("storage-full", error.to_string()),
        StoreError::TooLarge { .. } => Failure::too_large(PAYLOAD_BYTES_MAX),
        StoreError::Unreadable(_) => Failure::unreadable(error.to_string()),
        _ => Failure::unavailable(error.to_string()),
    }
}
