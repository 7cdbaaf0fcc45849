//! `GET /<topic>/<subscriber>`: the next messages of a queue, consumed or leased, at once or as soon
//! as there are some.
//!
//! Invariant: a fetched message whose answer did not get onto the wire goes back to its place in
//! the queue; a leased one stays there until it is acknowledged.

use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Request, StatusCode};
use pinnace_topics::{Broker, Error, LeasedMessage, Receipt, Stored, WakeId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer::{self, Answer, Failure};
use super::body::Body;
use super::envelope::Envelope;
use super::queues::{lease_time, note_lease_end};
use super::request::{Parameters, Payload};
use super::topics::{no_such_subscription, permit, queue_failure, store_failure};
use super::{Context, request};
use crate::caller::Action;
use crate::fetches::{FetchKey, Fetched};
use crate::harbour::Harbour;
use crate::limits::{FETCH_ID_BYTES_MAX, FETCH_MESSAGES_MAX, WAIT_MAX};
use crate::mail::{self, Letter};

/// What a fetch asks for.
pub(crate) struct Wish {
    deadline: Instant,
    /// `None`: one message, as it is.
    max: Option<usize>,
    lease: Option<Duration>,
    id: Option<String>,
}

impl Wish {
    /// What a fetch may ask for.
    pub(crate) const KNOWN: [&str; 4] = ["wait", "max", "lease", "id"];

    pub(crate) fn of(parameters: Parameters) -> Result<Self, Failure> {
        let mut wish = Self {
            deadline: Instant::now(),
            max: None,
            lease: None,
            id: None,
        };
        for (name, value) in parameters {
            match name.as_str() {
                "wait" => wish.deadline += request::duration(&name, &value, WAIT_MAX)?,
                "max" => wish.max = Some(message_count(&value)?),
                "lease" => wish.lease = Some(lease_time(&name, &value)?),
                _ => wish.id = Some(fetch_id(value)?),
            }
        }
        Ok(wish)
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

fn fetch_id(id: String) -> Result<String, Failure> {
    if (1..=FETCH_ID_BYTES_MAX).contains(&id.len()) {
        return Ok(id);
    }
    let detail = format!(
        "id has 1 to {FETCH_ID_BYTES_MAX} bytes, this one {}",
        id.len()
    );
    Err(Failure::bad_request("bad-parameter", detail))
}

/// `GET /<topic>/<subscriber>`: the next message, consumed or leased; 204 when none waits. A fetch
/// with an id may be repeated: it gets what it got.
pub(super) async fn fetch(
    context: &Context,
    topic: &str,
    subscriber: &str,
    request: &Request<Payload>,
) -> Result<Answer, Failure> {
    permit(context, Action::Subscribe)?;
    let wish = Wish::of(request::parameters(request.uri(), &Wish::KNOWN)?)?;
    let harbour = &context.harbour;
    let (fetched, receipt) = next(harbour, topic, subscriber, &wish).await?;
    if fetched.messages.is_empty() {
        return Ok(answer::status(StatusCode::NO_CONTENT));
    }
    let metrics = &harbour.metrics.http;
    metrics.sent_messages.add(fetched.messages.len() as u64);
    let answer = shown(fetched, wish.max.is_some());
    Ok(answer.map(|body| body.delivering(receipt, &context.line)))
}

/// The next messages, as soon as there are some; none when the time is over. A fetch with an id that was
/// made before gets what it got. The receipt is of those that were taken for good and cannot be asked
/// for again.
pub(crate) async fn next(
    harbour: &Harbour,
    topic: &str,
    subscriber: &str,
    wish: &Wish,
) -> Result<(Fetched, Option<Receipt>), Failure> {
    let Some(id) = &wish.id else {
        return fresh(harbour, topic, subscriber, wish).await;
    };
    let key = FetchKey::new(topic, subscriber, id);
    // One at a time for each id, so that a repetition waits for the first.
    let _turn = harbour.fetches.turn(&key).await;
    if let Some(again) = harbour.fetches.again(&key) {
        return Ok((again, None));
    }
    let (fetched, receipt) = fresh(harbour, topic, subscriber, wish).await?;
    // It can be asked for again, so it has arrived.
    if let Some(receipt) = receipt {
        receipt.confirm();
    }
    if !fetched.messages.is_empty() {
        let until = wish.lease.map(|hold| Instant::now() + hold);
        harbour.fetches.remember(key, fetched.clone(), until);
    }
    Ok((fetched, None))
}

async fn fresh(
    harbour: &Harbour,
    topic: &str,
    subscriber: &str,
    wish: &Wish,
) -> Result<(Fetched, Option<Receipt>), Failure> {
    loop {
        let (fetched, receipt) = match wish.lease {
            Some(hold) => (lease(harbour, topic, subscriber, wish, hold)?, None),
            None => {
                let max = wish.max.unwrap_or(1);
                let (fetched, receipt) = take(harbour, topic, subscriber, max).await?;
                (fetched, Some(receipt))
            }
        };
        if !fetched.messages.is_empty()
            || !somebody_published(harbour, topic, subscriber, wish.deadline).await?
        {
            return Ok((fetched, receipt));
        }
    }
}

fn lease(
    harbour: &Harbour,
    topic: &str,
    subscriber: &str,
    wish: &Wish,
    hold: Duration,
) -> Result<Fetched, Failure> {
    let until = std::time::Instant::now() + hold;
    let broker = &harbour.broker;
    let leased = broker.lease(topic.as_bytes(), subscriber, wish.max.unwrap_or(1), until);
    let leased = match leased {
        Err(Error::NoSuchQueue { .. }) => return Err(no_such_subscription(topic, subscriber)),
        leased => leased.map_err(queue_failure)?,
    };
    note_lease_end(harbour, hold);
    Ok(leased.map_or_else(Fetched::default, |leased| Fetched {
        lease: Some(leased.lease),
        messages: leased.messages,
    }))
}

async fn take(
    harbour: &Harbour,
    topic: &str,
    subscriber: &str,
    max: usize,
) -> Result<(Fetched, Receipt), Failure> {
    let (done, taken) = oneshot::channel();
    let result = harbour.broker.take(
        topic.as_bytes(),
        subscriber,
        max,
        // Nobody there any more: the receipt goes with the message, and that gives it back.
        Box::new(mail::leave(move |result| Letter::Taken(done, result))),
    );
    match result {
        Ok(()) => {}
        Err(Error::NoSuchQueue { .. }) => return Err(no_such_subscription(topic, subscriber)),
        Err(error) => return Err(queue_failure(error)),
    }
    let taken = match taken.await {
        Ok(result) => result.map_err(store_failure)?,
        Err(_) => return Err(Failure::unavailable("the server is stopping")),
    };
    let consumed = |message| LeasedMessage {
        message,
        deliveries: 0,
    };
    let fetched = Fetched {
        lease: None,
        messages: taken.messages.into_iter().map(consumed).collect(),
    };
    Ok((fetched, taken.receipt))
}

/// Waits until a message may wait in the queue; false when the time is over.
async fn somebody_published(
    harbour: &Harbour,
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
    let broker = &harbour.broker;
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
        () = harbour.stopped() => Ok(false),
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

/// The answer to a fetch: lines when a number of messages was asked for, else the one as it is.
fn shown(fetched: Fetched, lines: bool) -> Answer {
    let Fetched { lease, messages } = fetched;
    let mut answer = if lines {
        answer::with_body("application/x-ndjson", as_lines(&messages))
    } else {
        messages
            .into_iter()
            .next()
            .map_or_else(answer::empty, single)
    };
    if let Some(lease) = lease {
        // Sixteen digits are always a header's value.
        if let Ok(lease) = HeaderValue::from_str(&lease.to_string()) {
            answer.headers_mut().insert("pinnace-lease", lease);
        }
    }
    answer
}

fn single(fetched: LeasedMessage) -> Answer {
    let Stored {
        seq,
        headers,
        payload,
        ..
    } = fetched.message;
    let mut answer = answer::empty();
    request::restore_headers(&headers, answer.headers_mut());
    answer
        .headers_mut()
        .insert("pinnace-seq", HeaderValue::from(seq));
    if fetched.deliveries > 0 {
        answer
            .headers_mut()
            .insert("pinnace-deliveries", HeaderValue::from(fetched.deliveries));
    }
    *answer.body_mut() = Body::from(payload);
    answer
}

/// One JSON object a line.
fn as_lines(messages: &[LeasedMessage]) -> Vec<u8> {
    let mut lines = Vec::new();
    for LeasedMessage {
        message,
        deliveries,
    } in messages
    {
        let envelope = Envelope {
            deliveries: *deliveries,
            ..Envelope::stored(message)
        };
        envelope.write(&mut lines);
        lines.push(b'\n');
    }
    lines
}
