//! The body of an answer: whole, or a stream that is made while it is sent.
//!
//! Invariant: a stream's director, the future that decides what is said when nobody publishes, is
//! only ever polled by the connection that takes the stream's bytes, and goes when that goes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Frame, SizeHint};

use super::feed::Feed;
use crate::metrics::Metrics;

pub(super) enum Body {
    Whole(Full<Bytes>),
    Stream(Stream),
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
        Self::Whole(Full::default())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Stream(stream) => stream.poll_frame(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
