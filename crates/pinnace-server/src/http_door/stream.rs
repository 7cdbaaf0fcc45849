//! Server-sent events: a topic or pattern live, with what is still stored before it.
//!
//! Invariant: between what is read from storage and what comes live nothing is missing and nothing
//! comes twice; what a client should have had and is stored no more is told by one `gap`. Left to
//! others: queues as streams (`queue_stream`), how events are written (`events`), what waits to be
//! sent (`feed`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response};
use pinnace_topics::{Batch, Message, Sink, SubscriptionId};
use tokio::sync::oneshot;

use super::answer::{Answer, Failure};
use super::body::{Body, Stream};
use super::envelope::Envelope;
use super::events::{self, EventForm, Shape};
use super::feed::{Feed, Reason};
use super::request::Payload;
use super::{Context, request};
use crate::caller::Action;
use crate::harbour::Harbour;
use crate::limits::{HEARTBEAT_MAX, HEARTBEAT_MIN, STREAM_HEARTBEAT, STREAM_PAGE_MESSAGES};

/// What a stream's request asks for.
pub(super) struct Wish {
    pub(super) after: Option<u64>,
    pub(super) shape: Shape,
    pub(super) heartbeat: Duration,
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

pub(super) fn wish(request: &Request<Payload>, usual: Shape) -> Result<Wish, Failure> {
    let mut wish = Wish {
        after: None,
        shape: usual,
        heartbeat: STREAM_HEARTBEAT,
    };
    for (name, value) in request::parameters(request.uri(), &["after", "format", "heartbeat"])? {
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

pub(super) fn answer(
    context: &Context,
    feed: Arc<Feed>,
    director: impl Future<Output = ()> + Send + 'static,
) -> Answer {
    feed.remark(events::opening);
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
    let wish = wish(request, usual)?;
    let feed = context.feed(EventForm(wish.shape));
    let mut live = Live::new(context, pattern, feed.clone());
    if wish.after.is_none() {
        // Before the answer: whoever has read its head misses nothing.
        live.subscribe();
    }
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
}

impl Live {
    pub(super) fn new(context: &Context, pattern: &str, feed: Arc<Feed>) -> Self {
        Self {
            harbour: context.harbour.clone(),
            feed,
            pattern: pattern.as_bytes().into(),
            owner: context.harbour.connection_number(),
            subscription: None,
        }
    }

    pub(super) fn subscribe(&mut self) {
        let sink = Arc::new(FeedSink(self.feed.clone()));
        let broker = &self.harbour.broker;
        let subscribed = broker.subscribe(&self.pattern, None, self.owner, sink);
        // The path was checked when it was read.
        self.subscription = subscribed.ok();
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
        self.0.deliver(&Envelope::live(message, None), batch)
    }

    fn deliver_kept(&self, message: &Message<'_>, seq: u64, batch: &mut Batch) -> bool {
        self.0.deliver(&Envelope::live(message, Some(seq)), batch)
    }
}

pub(super) fn permit(context: &Context) -> Result<(), Failure> {
    if context.caller.may(Action::Subscribe) {
        Ok(())
    } else {
        Err(Failure::forbidden())
    }
}
