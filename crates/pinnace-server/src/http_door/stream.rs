//! Server-sent events: a topic or pattern live, with what is still stored before it.
//!
//! Invariant: between what is read from storage and what comes live nothing is missing and nothing
//! comes twice; what a client should have had and is stored no more is told by one `gap`. Left to
//! others: queues as streams (`queue_stream`), how events are written (`events`), what waits to be
//! sent (`feed`).

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response};
use pinnace_topics::{Batch, Kept, Message, Sink, SubscriptionId};
use tokio::sync::oneshot;

use super::answer::{Answer, Failure};
use super::body::{Body, Stream};
use super::envelope::Envelope;
use super::events::{self, EventForm, Shape};
use super::feed::Feed;
use super::form::Reason;
use super::request::Payload;
use super::{Context, request};
use crate::caller::Action;
use crate::harbour::Harbour;
use crate::limits::{HEARTBEAT_MAX, HEARTBEAT_MIN, STREAM_HEARTBEAT, STREAM_PAGE_MESSAGES};
use crate::slow::Choice;
use crate::slow::behind::Entered;
use crate::slow::spill::{self, Keeper};

/// What a stream's request asks for.
pub(super) struct Wish {
    pub(super) after: Option<u64>,
    pub(super) shape: Shape,
    pub(super) heartbeat: Duration,
    /// What becomes of it when it is behind, if it says.
    pub(super) choice: Option<Choice>,
}

/// Whether the request wants a stream of events.
pub(super) fn is_wanted<B>(request: &Request<B>) -> bool {
    let accepted = request.headers().get_all(ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|kind| {
            let kind = kind.split(';').next().unwrap_or("").trim();
            kind.eq_ignore_ascii_case("text/event-stream")
        })
}

/// Reads it; what becomes of a stream that is behind may be chosen where there is a usual choice.
pub(super) fn wish(
    request: &Request<Payload>,
    usual: Shape,
    usual_choice: Option<&Choice>,
) -> Result<Wish, Failure> {
    let mut known = vec!["after", "format", "heartbeat"];
    known.extend(usual_choice.iter().flat_map(|_| Choice::KNOWN));
    let mut parameters = request::parameters(request.uri(), &known)?;
    let choice = usual_choice.map(|usual| Choice::take(&mut parameters, usual));
    let mut wish = Wish {
        after: None,
        shape: usual,
        heartbeat: STREAM_HEARTBEAT,
        choice: choice.transpose()?.flatten(),
    };
    for (name, value) in parameters {
        match name.as_str() {
            "after" => wish.after = Some(place("after", &value)?),
            "format" => {
                wish.shape = match value.as_str() {
                    "json" => Shape::Envelope,
                    "text" if usual == Shape::Payload => Shape::Payload,
                    _ => {
                        let detail = format!(
                            "format is `json` or, for a topic without wildcards, `text`; not `{value}`"
                        );
                        return Err(Failure::bad_request("bad-parameter", detail));
                    }
                };
            }
            _ => {
                let asked = request::duration("heartbeat", &value, HEARTBEAT_MAX)?;
                wish.heartbeat = asked.max(HEARTBEAT_MIN);
            }
        }
    }
    // What a client saw itself goes before what its address was made with.
    if let Some(last) = request.headers().get("last-event-id") {
        wish.after = Some(place(
            "Last-Event-ID",
            &String::from_utf8_lossy(last.as_bytes()),
        )?);
    }
    Ok(wish)
}

pub(super) fn place(name: &str, text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| {
        let detail = format!(
            "{name} is the number of a message, not `{}`",
            text.escape_debug()
        );
        Failure::bad_request("bad-parameter", detail)
    })
}

/// The feed of a stream, its first words in it.
pub(super) fn feed(context: &Context, shape: Shape, choice: Choice, pattern: &str) -> Arc<Feed> {
    let feed = context.feed(EventForm(shape), choice, pattern);
    feed.remark(events::opening);
    feed
}

pub(super) fn answer(
    context: &Context,
    feed: Arc<Feed>,
    director: impl Future<Output = ()> + Send + 'static,
) -> Answer {
    let stream = Stream::new(context.harbour.metrics.clone(), feed, director);
    let mut answer = Response::new(Body::Stream(stream));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Some proxies collect an answer before they pass it on unless they are told not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

/// `GET /<pattern>`: live messages, after what is stored behind the place the client names.
pub(super) fn live(
    context: &Context,
    pattern: &str,
    request: &Request<Payload>,
) -> Result<Answer, Failure> {
    permit(context)?;
    let wild = pinnace_topics::topic::has_wildcards(pattern.as_bytes());
    let usual = if wild {
        Shape::Envelope
    } else {
        Shape::Payload
    };
    let usual_choice = context.usual_choice();
    let mut wish = wish(request, usual, Some(&usual_choice))?;
    let choice = wish.choice.take().unwrap_or(usual_choice);
    let feed = feed(context, wish.shape, choice.clone(), pattern);
    let mut live = Live::new(context, pattern, choice.queue, feed.clone());
    wish.after = live.begin(wish.after);
    let director = async move {
        let (harbour, feed) = (live.harbour.clone(), live.feed.clone());
        tokio::select! {
            () = harbour.stopped() => feed.close(Reason::Stopping),
            () = live.conduct(wish.after, wish.heartbeat) => {}
        }
    };
    Ok(answer(context, feed, director))
}

/// A live subscription of one connection, and the way to it from a place in what is stored.
pub(super) struct Live {
    harbour: Arc<Harbour>,
    feed: Arc<Feed>,
    pattern: Box<[u8]>,
    /// Whose subscription it is, so that a client need not hear itself.
    pub(super) owner: u64,
    subscription: Option<SubscriptionId>,
    /// The queue it spills to.
    queue: Option<Box<str>>,
    /// While it is subscribed and spills.
    keeper: Option<Keeper>,
    _entered: Entered,
}

impl Live {
    pub(super) fn new(
        context: &Context,
        pattern: &str,
        queue: Option<Box<str>>,
        feed: Arc<Feed>,
    ) -> Self {
        let subscriber: Weak<Feed> = Arc::downgrade(&feed);
        let (harbour, client) = (&context.harbour, context.caller.address.to_string());
        Self {
            _entered: Entered::new(harbour, pattern.as_bytes(), client, subscriber),
            harbour: context.harbour.clone(),
            feed,
            pattern: pattern.as_bytes().into(),
            owner: context.harbour.connection_number(),
            subscription: None,
            queue,
            keeper: None,
        }
    }

    /// Subscribes at once if there is nothing to catch up with before; otherwise says behind what.
    pub(super) fn begin(&mut self, after: Option<u64>) -> Option<u64> {
        let (pattern, broker) = (&self.pattern, &self.harbour.broker);
        let kept = self.queue.as_deref();
        let kept = kept.filter(|queue| spill::is_behind(&self.harbour, pattern, queue));
        if let (Some(after), Some(queue)) = (after, kept) {
            // What was kept is all that it should have; up to here it has it. Not waited for: what a crash
            // undoes is sent again, and a queue that is gone by now is made anew.
            let _ = broker.consume(pattern, queue, after, Box::new(|_| ()));
            if self.is_behind_a_gap(after, queue) {
                self.feed.tell_gap(after);
            }
        }
        if after.is_none() || kept.is_some() {
            // Before the answer: whoever has read its head misses nothing.
            self.subscribe();
            return None;
        }
        after
    }

    /// Whether something behind `after` is in the queue no more: it was handed to the connection that
    /// broke, and did not arrive.
    fn is_behind_a_gap(&self, after: u64, queue: &str) -> bool {
        let (pattern, broker) = (&self.pattern, &self.harbour.broker);
        let status = broker.queue_status(pattern, queue);
        let first = status.ok().and_then(|status| status.first_seq);
        broker.page(pattern, after, 1).is_ok_and(|page| {
            let mut stored = page.messages.iter().map(|message| message.seq);
            page.gone || stored.any(|seq| first.is_none_or(|first| seq < first))
        })
    }

    fn subscribe(&mut self) {
        let sink = Arc::new(FeedSink(self.feed.clone()));
        let broker = &self.harbour.broker;
        let subscribed = broker.subscribe(&self.pattern, None, self.owner, sink);
        // The path was checked when it was read.
        self.subscription = subscribed.ok();
        let (harbour, feed) = (&self.harbour, &self.feed);
        let keeper =
            |queue: &str| Keeper::start(harbour.clone(), &self.pattern, queue, feed.clone());
        self.keeper = self.queue.as_deref().map(keeper);
    }

    /// Catches up if there is a place to begin at, then shows signs of life for ever.
    async fn conduct(&mut self, after: Option<u64>, heartbeat: Duration) {
        if let Some(after) = after {
            self.catch_up(after).await;
        }
        loop {
            tokio::time::sleep(heartbeat).await;
            self.feed.beat();
        }
    }

    /// First everything stored behind `after`, while nobody holds anything back; then, subscribed,
    /// the rest, and what came live meanwhile without what was just read.
    pub(super) async fn catch_up(&mut self, after: u64) {
        let mut place = Place {
            after,
            gap_told: false,
        };
        while !self.tell_page(&mut place, None).await {}
        self.feed.hold();
        self.subscribe();
        let (done, settled) = oneshot::channel();
        let done = Box::new(|outcome| drop(done.send(outcome)));
        self.harbour.broker.settle(done);
        // A failed storage holds nothing more that could be read.
        let _ = settled.await;
        let mut told = HashSet::new();
        while !self.tell_page(&mut place, Some(&mut told)).await {}
        self.feed.release(&told);
    }

    /// Sends one page of what is stored; true when it was the last one.
    async fn tell_page(&self, place: &mut Place, mut told: Option<&mut HashSet<u64>>) -> bool {
        self.feed.taken().await;
        let broker = &self.harbour.broker;
        let Ok(page) = broker.page(&self.pattern, place.after, STREAM_PAGE_MESSAGES) else {
            return true;
        };
        if page.gone && !place.gap_told {
            place.gap_told = true;
            self.feed.tell_gap(place.after);
        }
        for message in &page.messages {
            self.feed.tell(message);
            if let Some(told) = &mut told {
                told.insert(message.seq);
            }
        }
        place.after = page.through_seq;
        page.last
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            self.harbour.broker.unsubscribe(subscription);
        }
    }
}

/// How far a stream has read what is stored.
struct Place {
    after: u64,
    gap_told: bool,
}

/// A live subscription's end in a feed.
struct FeedSink(Arc<Feed>);

impl Sink for FeedSink {
    fn deliver(&self, message: &Message<'_>, batch: &mut Batch) -> bool {
        self.0.deliver(&Envelope::live(message, None), None, batch)
    }

    fn deliver_kept(&self, message: &Message<'_>, kept: &Kept, batch: &mut Batch) -> bool {
        let envelope = Envelope::live(message, Some(kept.seq));
        self.0.deliver(&envelope, Some(kept), batch)
    }
}

pub(super) fn permit(context: &Context) -> Result<(), Failure> {
    if context.caller.may(Action::Subscribe) {
        Ok(())
    } else {
        Err(Failure::forbidden())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_come_neither_too_often_nor_too_rarely() {
        for (asked, expected_ms) in [
            ("99ms", 100),
            ("100ms", 100),
            ("101ms", 101),
            ("599s", 599_000),
            ("10m", 600_000),
            ("601s", 600_000),
        ] {
            let mut request = Request::new(Payload::Whole(bytes::Bytes::new()));
            *request.uri_mut() = format!("/t?heartbeat={asked}").parse().unwrap();
            let wish = wish(&request, Shape::Payload, None).map_err(|f| f.to_string());
            assert_eq!(
                wish.unwrap().heartbeat,
                Duration::from_millis(expected_ms),
                "{asked}"
            );
        }
    }
}
