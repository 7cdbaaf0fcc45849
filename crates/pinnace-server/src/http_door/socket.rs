//! WebSockets: live messages of a topic or pattern out, and whatever a client sends in, published.
//!
//! Invariant: a socket never outlives the connection's task, its count or its limits, and ends with a
//! close frame that says why. Opening is apart from conversing, so that another protocol in the same
//! frames needs only a conversation of its own. Left to others: frames of the wire (the codec), how
//! messages look (`frames`), what waits to be sent (`feed`), catching up (`stream`).

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as SocketError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::answer::{self, Answer, Failure};
use super::feed::Feed;
use super::form::Reason;
use super::frames::{self, Frame, FrameForm};
use super::inbound::{Close, End, Inbound};
use super::request::Payload;
use super::stream::{Live, permit, place};
use super::{Context, Next, request};
use crate::caller::Caller;
use crate::limits::{
    FAREWELL_MAX, PAYLOAD_BYTES_MAX, PINGS_UNANSWERED_MAX, SOCKET_BUFFER_BYTES, STREAM_HEARTBEAT,
};
use crate::slow::{Choice, SlowPolicy};

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// Whether the request wants to become a WebSocket.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    has_token(headers, UPGRADE, "websocket")
}

pub(super) fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// A conversation that begins once the connection is no longer HTTP.
pub(super) struct Conversation {
    /// Who asked for it.
    caller: Caller,
    upgrade: OnUpgrade,
    live: Live,
    feed: Arc<Feed>,
    form: FrameForm,
    after: Option<u64>,
    /// What is sent is published here; nowhere when the path is a pattern.
    topic: Option<Box<str>>,
    echo: bool,
    acknowledge: bool,
}

/// `GET /<pattern>` with `Upgrade: websocket`.
pub(super) fn open(
    context: &Context,
    pattern: &str,
    mut request: Request<Payload>,
) -> Result<Answer, Failure> {
    permit(context)?;
    let (mut form, mut after, mut echo, mut acknowledge) = (FrameForm::Json, None, true, false);
    let known = [
        &["after", "format", "echo", "acknowledge"][..],
        &Choice::KNOWN,
    ]
    .concat();
    let mut parameters = request::parameters(request.uri(), &known)?;
    let usual_choice = context.usual_choice();
    let chosen = Choice::take(&mut parameters, &usual_choice)?;
    for (name, value) in parameters {
        match (name.as_str(), value.as_str()) {
            ("after", value) => after = Some(place("after", value)?),
            ("format", "json") => form = FrameForm::Json,
            ("format", "raw") => form = FrameForm::Raw,
            ("echo", "true" | "false") => echo = value == "true",
            ("acknowledge", "" | "true") => acknowledge = true,
            ("acknowledge", "false") => acknowledge = false,
            _ => {
                let detail =
                    "format is `json` or `raw`; echo and acknowledge are `true` or `false`";
                return Err(Failure::bad_request("bad-parameter", detail));
            }
        }
    }
    if form == FrameForm::Raw && (after.is_some() || acknowledge) {
        let detail = "after and acknowledge need format=json: raw frames have no place for more";
        return Err(Failure::bad_request("bad-parameter", detail));
    }
    let choice = suited(chosen, usual_choice, form, echo)?;
    let (answer, upgrade) = accept(&mut request)?;
    let feed = context.feed(form, choice.clone(), pattern);
    let mut live = Live::new(context, pattern, choice.queue, feed.clone());
    let after = live.begin(after);
    let wild = pinnace_topics::topic::has_wildcards(pattern.as_bytes());
    let conversation = Conversation {
        caller: context.caller.clone(),
        upgrade,
        live,
        feed,
        form,
        after,
        topic: (!wild).then(|| pattern.into()),
        echo,
        acknowledge,
    };
    context.becomes(Next::Socket(conversation));
    Ok(answer)
}

/// What becomes of a socket that is behind: what it chose, if it can be told the consequences; where it
/// chose nothing, what is usual or else its end.
fn suited(
    chosen: Option<Choice>,
    usual: Choice,
    form: FrameForm,
    echo: bool,
) -> Result<Choice, Failure> {
    let is_silent = form == FrameForm::Raw;
    let Some(choice) = chosen else {
        let is_refused = is_silent && usual.policy.drops();
        return Ok(if is_refused {
            usual.disconnecting()
        } else {
            usual
        });
    };
    let detail = match choice.policy {
        policy if is_silent && policy.drops() => {
            "what is dropped is told with format=json only: raw frames have no place for it"
        }
        SlowPolicy::Spill if !echo => {
            "a queue does not know who published: to spill, a socket has to hear itself"
        }
        _ => return Ok(choice),
    };
    Err(Failure::bad_request("bad-parameter", detail))
}

/// Checks an opening handshake and answers it; what comes after it is the caller's.
fn accept(request: &mut Request<Payload>) -> Result<(Answer, OnUpgrade), Failure> {
    let headers = request.headers();
    let bad = |detail: &str| Err(Failure::bad_request("bad-upgrade", detail));
    if !has_token(headers, CONNECTION, "upgrade") {
        return bad("an upgrade needs `Connection: Upgrade`");
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return bad("this server speaks version 13: `Sec-WebSocket-Version: 13`");
    }
    // A page of another site must not talk to a server that trusts its own machine.
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"));
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        if origin.is_none_or(|(_, origin)| Some(origin) != host) {
            return Err(Failure::foreign_origin());
        }
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
        return bad("an upgrade needs a `Sec-WebSocket-Key`");
    };
    let key = derive_accept_key(key.as_bytes());
    let Ok(key) = HeaderValue::from_str(&key) else {
        return bad("the `Sec-WebSocket-Key` makes no sense");
    };
    let mut answer = answer::status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    Ok((answer, hyper::upgrade::on(request)))
}

impl Conversation {
    /// Converses until one side ends it.
    pub(super) async fn run(mut self, context: &Context) {
        let _counted = context.harbour.metrics.sockets.enter();
        let Ok(upgraded) = (&mut self.upgrade).await else {
            return;
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(SOCKET_BUFFER_BYTES)
            .write_buffer_size(SOCKET_BUFFER_BYTES)
            .max_message_size(Some(PAYLOAD_BYTES_MAX))
            .max_frame_size(Some(PAYLOAD_BYTES_MAX));
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        let end = self.converse(context, &mut socket).await;
        // Both sides say that they close; the codec answers for us when the client was first.
        let _ = timeout(FAREWELL_MAX, async {
            if let End::Close(Close(code, reason)) = end {
                let reason = reason.into();
                socket.close(Some(CloseFrame { code, reason })).await?;
            }
            while socket.next().await.transpose()?.is_some() {}
            Ok::<(), SocketError>(())
        })
        .await;
    }

    async fn converse(&mut self, context: &Context, socket: &mut Stream) -> End {
        let harbour = &context.harbour;
        let (live, feed, after) = (&mut self.live, &self.feed, self.after);
        let mut inbound = Inbound {
            context,
            caller: &self.caller,
            harbour: harbour.clone(),
            feed,
            form: self.form,
            topic: self.topic.as_deref(),
            skip: (!self.echo).then_some(live.owner),
            acknowledge: self.acknowledge,
            frames: 0,
        };
        let catching_up = async {
            if let Some(after) = after {
                live.catch_up(after).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::pin!(catching_up);
        let stopped = harbour.stopped();
        tokio::pin!(stopped);
        let mut next_ping = Instant::now() + STREAM_HEARTBEAT;
        let mut pings_unanswered = 0;
        loop {
            tokio::select! {
                message = socket.next() => {
                    (pings_unanswered, next_ping) = (0, Instant::now() + STREAM_HEARTBEAT);
                    if let Err(end) = inbound.take(message) {
                        return end;
                    }
                }
                bytes = feed.take() => match bytes {
                    Some(bytes) => if send(socket, &bytes).await.is_err() {
                        return End::Gone;
                    },
                    None => return End::Close(Close::of(feed.closed().unwrap_or(Reason::Stopping))),
                },
                () = &mut catching_up => {}
                () = tokio::time::sleep_until(next_ping) => {
                    if pings_unanswered == PINGS_UNANSWERED_MAX {
                        return End::Gone;
                    }
                    (pings_unanswered, next_ping) =
                        (pings_unanswered + 1, Instant::now() + STREAM_HEARTBEAT);
                    if socket.send(Message::Ping(Bytes::new())).await.is_err() {
                        return End::Gone;
                    }
                }
                () = &mut stopped => return End::Close(Close::of(Reason::Stopping)),
            }
        }
    }
}

/// Sends everything that was taken from a feed, flushed once.
async fn send(socket: &mut Stream, bytes: &[u8]) -> Result<(), SocketError> {
    let mut rest = bytes;
    while let Some((frame, after)) = frames::split(rest) {
        let message = match frame {
            Frame::Text(text) => Message::text(text),
            Frame::Binary(bytes) => Message::binary(bytes.to_vec()),
        };
        socket.feed(message).await?;
        rest = after;
    }
    socket.flush().await
}
