//! The requests that come by the thousand, without a framework: small ones on topics and queues.
//!
//! Invariant: only a request that is wholly there and in the plainest form of HTTP/1.1 is answered
//! here. Everything else (system pages, streams, upgrades, long-polls, bodies in pieces, other versions,
//! whatever is malformed) is left unread to the library, and with it the rest of the connection: so
//! there is one opinion on what is well-formed, and both ways lead to the same handlers.

use std::pin::Pin;

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
    UPGRADE,
};
use hyper::{Method, Request, StatusCode, Uri};
use pinnace_topics::Receipt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::answer::Answer;
use super::date;
use super::request::Payload;
use super::{Context, handle, stream};
use crate::limits::{
    HTTP_HEADER_TIMEOUT, HTTP_HEADERS_PLAIN_MAX, HTTP_IDLE_TIMEOUT, HTTP_PLAIN_BYTES_MAX,
    HTTP_READ_BYTES,
};

/// What is not for here: the connection, and what was read of its next request.
pub(super) struct Rest {
    pub(super) stream: TcpStream,
    pub(super) read: Vec<u8>,
}

impl Rest {
    /// A connection of which nothing was read.
    pub(super) fn unread(stream: TcpStream) -> Self {
        let read = Vec::new();
        Self { stream, read }
    }
}

/// Answers requests as long as they are plain; `None` when the connection has ended.
pub(super) async fn serve(context: &Context, mut stream: TcpStream) -> Option<Rest> {
    let mut read = Vec::new();
    // What was left of `read` when more was waited for.
    let mut had = 0;
    let mut written = Outgoing::default();
    let patience = sleep_until(Instant::now() + HTTP_IDLE_TIMEOUT);
    tokio::pin!(patience);
    let stopped = context.harbour.stopped();
    tokio::pin!(stopped);
    loop {
        let mut at = 0;
        let is_plain = loop {
            match parse(&read[at..]) {
                Ok(Some((request, length))) => {
                    at += length;
                    let ends = asks_to_end(request.headers()) || context.harbour.is_stopping();
                    if !written.add(handle(context, request, false).await, ends) {
                        return None;
                    }
                    if ends {
                        written.send(context, &mut stream).await;
                        return None;
                    }
                }
                Ok(None) => break read.len() - at < HTTP_PLAIN_BYTES_MAX,
                Err(NotPlain) => break false,
            }
        };
        if !written.send(context, &mut stream).await {
            return None;
        }
        read.drain(..at);
        if !is_plain {
            return Some(Rest { stream, read });
        }
        read.reserve(HTTP_READ_BYTES);
        let begins = at > 0 || had == 0;
        had = read.len();
        wait_anew(patience.as_mut(), read.is_empty(), begins);
        tokio::select! {
            count = stream.read_buf(&mut read) => match count {
                Ok(0) | Err(_) => return None,
                Ok(count) => context.harbour.metrics.http.received_bytes.add(count as u64),
            },
            // The library knows what to say to a request that does not come.
            () = &mut patience => return (!read.is_empty()).then_some(Rest { stream, read }),
            () = &mut stopped => return (!read.is_empty()).then_some(Rest { stream, read }),
        }
    }
}

/// How long the connection may be idle, or the request take that `begins` with what was read; more of one
/// that has begun does not prolong it. An idle deadline that is far enough stays, because to move it
/// costs more than to parse a request.
fn wait_anew(patience: Pin<&mut Sleep>, is_idle: bool, begins: bool) {
    let now = Instant::now();
    let left = patience.deadline().saturating_duration_since(now);
    if is_idle {
        if left < HTTP_IDLE_TIMEOUT / 2 {
            patience.reset(now + HTTP_IDLE_TIMEOUT);
        }
    } else if begins {
        patience.reset(now + HTTP_HEADER_TIMEOUT);
    }
}

/// Answers on their way, with the messages they carry.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    receipts: Vec<Receipt>,
}

impl Outgoing {
    /// False for an answer that has no end, with which the connection has to.
    fn add(&mut self, answer: Answer, ends: bool) -> bool {
        let (head, body) = answer.into_parts();
        let Some((body, receipt)) = body.into_whole() else {
            // Streams are asked for by what makes a request not plain.
            tracing::error!("a plain request was answered by a stream");
            return false;
        };
        self.receipts.extend(receipt);
        let out = &mut self.bytes;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(head.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(head.status.canonical_reason().unwrap_or("").as_bytes());
        for (name, value) in &head.headers {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
        }
        if head.status != StatusCode::NO_CONTENT {
            out.extend_from_slice(b"\r\ncontent-length: ");
            out.extend_from_slice(body.len().to_string().as_bytes());
        }
        if ends {
            out.extend_from_slice(b"\r\nconnection: close");
        }
        out.extend_from_slice(b"\r\ndate: ");
        date::write(out);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&body);
        true
    }

    /// Sends everything; false when nobody is there any more, and what was taken goes back.
    async fn send(&mut self, context: &Context, stream: &mut TcpStream) -> bool {
        if self.bytes.is_empty() {
            return true;
        }
        if !self.receipts.is_empty() && has_left(stream).await {
            return false;
        }
        if stream.write_all(&self.bytes).await.is_err() {
            return false;
        }
        let metrics = &context.harbour.metrics.http;
        metrics.sent_bytes.add(self.bytes.len() as u64);
        self.bytes.clear();
        self.bytes.shrink_to(HTTP_PLAIN_BYTES_MAX);
        self.receipts.drain(..).for_each(Receipt::confirm);
        true
    }
}

/// Whether the client has closed its side, as far as is known without asking the system.
async fn has_left(stream: &TcpStream) -> bool {
    let known = stream.ready(Interest::READABLE | Interest::WRITABLE).await;
    known.is_ok_and(|ready| ready.is_read_closed())
}

/// What stands at the front is not a plain request.
#[derive(Debug)]
struct NotPlain;

/// The plain request at the front and its length; `None` while it may become one.
fn parse(bytes: &[u8]) -> Result<Option<(Request<Payload>, usize)>, NotPlain> {
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_PLAIN_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let head_bytes = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(NotPlain),
    };
    let (request, body_bytes) = plain(&head).ok_or(NotPlain)?;
    if body_bytes > HTTP_PLAIN_BYTES_MAX - head_bytes.min(HTTP_PLAIN_BYTES_MAX) {
        return Err(NotPlain);
    }
    let length = head_bytes + body_bytes;
    let Some(body) = bytes.get(head_bytes..length) else {
        return Ok(None);
    };
    let body = Payload::Whole(bytes::Bytes::copy_from_slice(body));
    Ok(Some((request.map(|()| body), length)))
}

/// The request without its body, and how long that is; `None` when it is not plain.
fn plain(head: &httparse::Request<'_, '_>) -> Option<(Request<()>, usize)> {
    let method = match head.method? {
        "POST" => Method::POST,
        "GET" => Method::GET,
        "DELETE" => Method::DELETE,
        _ => return None,
    };
    let path = head.path?;
    // What may be a system page when it is decoded is none for here.
    let is_ours = path.len() > 1 && path.starts_with('/') && !path[1..].starts_with(['-', '%']);
    let may_wait = path
        .split_once('?')
        .is_some_and(|(_, q)| q.contains("wait"));
    if head.version != Some(1) || !is_ours || may_wait {
        return None;
    }
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse::<Uri>().ok()?;
    let mut body_bytes = None;
    for header in head.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(header.value).ok()?;
        if name == CONTENT_LENGTH {
            let text = value.to_str().ok()?;
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number || body_bytes.replace(text.parse().ok()?).is_some() {
                return None;
            }
        }
        request.headers_mut().append(name, value);
    }
    let headers = request.headers();
    let is_plain = ![TRANSFER_ENCODING, UPGRADE, EXPECT]
        .iter()
        .any(|name| headers.contains_key(name))
        && connection(headers).is_some()
        && !stream::is_wanted(&request);
    is_plain.then_some((request, body_bytes.unwrap_or(0)))
}

/// Whether the connection ends after the request; `None` when it says something else about it.
fn connection(headers: &HeaderMap) -> Option<bool> {
    match headers.get(CONNECTION).map(HeaderValue::as_bytes) {
        None => Some(false),
        Some(value) if value.eq_ignore_ascii_case(b"keep-alive") => Some(false),
        Some(value) if value.eq_ignore_ascii_case(b"close") => Some(true),
        Some(_) => None,
    }
}

fn asks_to_end(headers: &HeaderMap) -> bool {
    connection(headers) == Some(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `Some(length)` of a plain request, `None` of one that may become one.
    #[track_caller]
    fn check(text: &str, expected: Result<Option<usize>, ()>) {
        let parsed = parse(text.as_bytes());
        let length = parsed.map(|found| found.map(|(_, length)| length));
        assert_eq!(length.map_err(|NotPlain| ()), expected, "{text:?}");
    }

    #[test]
    fn what_is_plain() {
        for text in [
            "GET /t/a HTTP/1.1\r\n\r\n",
            "GET /t/a?lease=5s HTTP/1.1\r\nconnection: Keep-Alive\r\n\r\n",
            "DELETE /t/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            "POST /t HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc",
        ] {
            check(text, Ok(Some(text.len())));
            check(&format!("{text}GET"), Ok(Some(text.len())));
            for cut in 0..text.len() {
                check(&text[..cut], Ok(None));
            }
        }
    }

    #[test]
    fn what_is_not() {
        for head in [
            "GET / HTTP/1.1",
            "GET /-/health HTTP/1.1",
            "GET /%2D/health HTTP/1.1",
            "GET /t/a?wait=1s HTTP/1.1",
            "GET /t/a HTTP/1.0",
            "HEAD /t/a HTTP/1.1",
            "GET http://x/t/a HTTP/1.1",
            "GET /t HTTP/1.1\r\naccept: a/b, Text/Event-Stream;q=1",
            "GET /t HTTP/1.1\r\nconnection: upgrade",
            "GET /t HTTP/1.1\r\nupgrade: websocket",
            "POST /t HTTP/1.1\r\ntransfer-encoding: chunked",
            "POST /t HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 1",
            "POST /t HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1",
            "POST /t HTTP/1.1\r\ncontent-length: +1",
            "POST /t HTTP/1.1\r\ncontent-length: 99999999999999999999",
        ] {
            check(&format!("{head}\r\n\r\n"), Err(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_trickles_in_gets_no_more_time() {
        let began = Instant::now();
        let patience = sleep_until(began + HTTP_IDLE_TIMEOUT);
        tokio::pin!(patience);
        let second = std::time::Duration::from_secs(1);
        for (at_s, is_idle, begins, deadline) in [
            (0, true, true, began + HTTP_IDLE_TIMEOUT),
            (1, false, true, began + second + HTTP_HEADER_TIMEOUT),
            (7, false, false, began + second + HTTP_HEADER_TIMEOUT),
            (9, false, true, began + 9 * second + HTTP_HEADER_TIMEOUT),
            (10, true, true, began + 10 * second + HTTP_IDLE_TIMEOUT),
            (20, true, true, began + 10 * second + HTTP_IDLE_TIMEOUT),
        ] {
            let at = began + at_s * second;
            tokio::time::advance(at - Instant::now()).await;
            wait_anew(patience.as_mut(), is_idle, begins);
            assert_eq!(patience.deadline(), deadline, "at {at_s} s");
        }
    }

    #[test]
    fn a_request_at_the_limit_is_plain_and_one_above_is_not() {
        let head = |body_bytes| format!("POST /t HTTP/1.1\r\ncontent-length: {body_bytes}\r\n\r\n");
        let room = HTTP_PLAIN_BYTES_MAX - head(HTTP_PLAIN_BYTES_MAX).len();
        for body_bytes in [room - 1, room] {
            let text = head(body_bytes) + &"x".repeat(body_bytes);
            check(&text, Ok(Some(text.len())));
        }
        check(&head(room + 1), Err(()));
        let many = |count| "GET /t HTTP/1.1\r\n".to_owned() + &"a: b\r\n".repeat(count) + "\r\n";
        let text = many(HTTP_HEADERS_PLAIN_MAX);
        check(&text, Ok(Some(text.len())));
        check(&many(HTTP_HEADERS_PLAIN_MAX + 1), Err(()));
    }

    proptest! {
        /// Arbitrary bytes never panic, and what more bytes follow does not change what was read.
        #[test]
        fn portions_do_not_matter(
            words in prop::collection::vec(prop::sample::select(vec![
                "GET /t/a HTTP/1.1\r\n", "POST /t HTTP/1.1\r\n", "GET /t?wait=1 HTTP/1.1\r\n", "PUT ",
                "content-length: 2\r\n", "connection: close\r\n", "expect: x\r\n", "\r\n", "ab", ":", "\0", "\u{e9}",
            ]), 0..9),
            cut in 0..80_usize,
        ) {
            let text = words.concat();
            let whole = parse(text.as_bytes());
            let length = |found: &Option<(Request<Payload>, usize)>| found.as_ref().map(|(_, length)| *length);
            match parse(&text.as_bytes()[..cut.min(text.len())]) {
                Ok(None) => {}
                Ok(part) => prop_assert_eq!(length(&part), whole.ok().as_ref().and_then(length)),
                Err(NotPlain) => prop_assert!(whole.is_err()),
            }
        }
    }
}
