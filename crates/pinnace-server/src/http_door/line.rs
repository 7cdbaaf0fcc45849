//! One connection's socket with what its streams need to know of it: how often it was flushed, and
//! a way to cut it.
//!
//! Invariant: a flush is counted only when everything written before has been handed to the
//! operating system, so a stream that saw the count rise after its frame was taken knows where that
//! frame is. Left to others: what is written, and when a line is worth cutting.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::ready;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use pinnace_topics::Receipt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::plain::Rest;
use crate::metrics::Metrics;

/// What a connection and its streams share.
#[derive(Default)]
pub(super) struct Line {
    flushes: AtomicU64,
    flushed: AtomicWaker,
    doom: Notify,
    /// Of messages that wait to be flushed. Dropped with the line, they say that nothing arrived.
    handed_over: Mutex<Vec<Receipt>>,
    any_handed_over: AtomicBool,
}

impl Line {
    /// Flushes so far.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    /// Ready once there were more than `count` flushes.
    pub(super) fn poll_flushed_since(&self, count: u64, cx: &Context<'_>) -> Poll<()> {
        self.flushed.register(cx.waker());
        if self.flushes() > count {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Everything these messages are in has been given to the connection: the next flush sends it.
    pub(super) fn hand_over(&self, receipt: Receipt) {
        self.lock().push(receipt);
        self.any_handed_over.store(true, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Receipt>> {
        self.handed_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn count_flush(&self) {
        self.flushes.fetch_add(1, Ordering::Release);
        self.flushed.wake();
        if self.any_handed_over.swap(false, Ordering::AcqRel) {
            let arrived = std::mem::take(&mut *self.lock());
            arrived.into_iter().for_each(Receipt::confirm);
        }
    }

    /// The connection is to be cut unless it ends by itself soon.
    pub(super) fn condemn(&self) {
        self.doom.notify_one();
    }

    /// Returns `grace` after the connection was condemned.
    pub(super) async fn condemned(&self, grace: Duration) {
        self.doom.notified().await;
        tokio::time::sleep(grace).await;
    }
}

/// A socket that tells its line.
pub(super) struct Socket {
    stream: TcpStream,
    /// What somebody else has read of the stream, to be read first.
    ahead: Bytes,
    line: Arc<Line>,
    metrics: Arc<Metrics>,
}

impl Socket {
    pub(super) fn new(rest: Rest, line: Arc<Line>, metrics: Arc<Metrics>) -> Self {
        Self {
            stream: rest.stream,
            ahead: rest.read.into(),
            line,
            metrics,
        }
    }

    /// The connection, and what was read of it that nobody has taken.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.ahead)
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = written {
            self.metrics.http.sent_bytes.add(count as u64);
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        self.metrics.http.received_bytes.add(count as u64);
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.line.count_flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
