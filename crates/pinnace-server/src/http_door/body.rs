//! The body of an answer: whole, a stream that is made while it is sent, or what a thread hands over.
//!
//! Invariant: a stream's director, the future that decides what is said when nobody publishes, is
//! only ever polled by the connection that takes the stream's bytes, and goes when that goes. Messages
//! of a queue that are in a body have not arrived before all of it was flushed to the socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Frame, SizeHint};
use pinnace_topics::Receipt;
use tokio::sync::mpsc;

use super::feed::Feed;
use super::line::Line;
use crate::metrics::Metrics;

pub(super) enum Body {
    Whole(Whole),
    Stream(Stream),
    /// Pieces as somebody else makes them. An error cuts the answer off.
    Piped(mpsc::Receiver<io::Result<Bytes>>),
}

/// Bytes that are there already.
#[derive(Default)]
pub(super) struct Whole {
    bytes: Full<Bytes>,
    delivery: Option<Delivery>,
}

/// Messages that are in the body, and the line they go out on.
struct Delivery {
    receipt: Receipt,
    line: Arc<Line>,
}

impl Body {
    /// The body holds messages, which go back to their queue if they do not get out.
    pub(super) fn delivering(mut self, receipt: Option<Receipt>, line: &Arc<Line>) -> Self {
        if let (Self::Whole(whole), Some(receipt)) = (&mut self, receipt) {
            let line = line.clone();
            whole.delivery = Some(Delivery { receipt, line });
        }
        self
    }
}

impl Body {
    /// The bytes, and the receipt for the messages in them; `None` for a stream.
    pub(super) fn into_whole(self) -> Option<(Bytes, Option<Receipt>)> {
        let Self::Whole(mut whole) = self else {
            return None;
        };
        let delivery = whole.delivery.take();
        // Nothing is left in an empty one.
        let bytes = std::mem::take(&mut whole.bytes).into_inner();
        let receipt = delivery.map(|delivery| delivery.receipt);
        Some((bytes.unwrap_or_default(), receipt))
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        // All of it was taken to be sent; otherwise the receipt goes unconfirmed.
        if let Some(Delivery { receipt, line }) = self.delivery.take()
            && self.bytes.is_end_stream()
        {
            line.hand_over(receipt);
        }
    }
}

/// A feed and its director, which ends after it has closed the feed.
pub(super) struct Stream {
    feed: Arc<Feed>,
    director: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    metrics: Arc<Metrics>,
}

impl Stream {
    pub(super) fn new(
        metrics: Arc<Metrics>,
        feed: Arc<Feed>,
        director: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        metrics.event_streams.join();
        Self {
            feed,
            director: Some(Box::pin(director)),
            metrics,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        let running = self.director.as_mut().map(|d| d.as_mut().poll(cx));
        if running.is_some_and(|running| running.is_ready()) {
            self.director = None;
        }
        self.feed.poll_take(cx).map(|bytes| bytes.map(Frame::data))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.metrics.event_streams.leave();
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Whole(Whole::default())
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(bytes: B) -> Self {
        Self::Whole(Whole {
            bytes: Full::new(bytes.into()),
            delivery: None,
        })
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(&mut body.bytes)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Stream(stream) => stream.poll_frame(cx).map(|frame| frame.map(Ok)),
            Self::Piped(pieces) => pieces
                .poll_recv(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.bytes.is_end_stream(),
            Self::Stream(_) | Self::Piped(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.bytes.size_hint(),
            Self::Stream(_) | Self::Piped(_) => SizeHint::default(),
        }
    }
}
