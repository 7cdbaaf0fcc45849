//! What becomes of the frames that a WebSocket's client sends: each is published.
//!
//! Invariant: a frame that is not published is answered, or ends the socket with its reason; none is
//! passed over in silence. Left to others: the conversation around it (`socket`).

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use pinnace_topics::{Batch, Done};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as SocketError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::Context;
use super::feed::Feed;
use super::form::Reason;
use super::frames::{self, FrameForm};
use crate::caller::{Action, Caller};
use crate::harbour::Harbour;
use crate::limits::PAYLOAD_BYTES_MAX;

/// Why a socket is closed, as its close frame says it.
pub(super) struct Close(pub(super) CloseCode, pub(super) String);

impl Close {
    pub(super) fn of(reason: Reason) -> Self {
        let code = match reason {
            Reason::Stopping => CloseCode::Away,
            Reason::Storage => CloseCode::Error,
            _ => CloseCode::Policy,
        };
        Self(code, reason.code().to_owned())
    }
}

/// How a conversation ended.
pub(super) enum End {
    /// We say why.
    Close(Close),
    /// The client closed, or is gone.
    Gone,
}

/// What becomes of the frames a client sends.
pub(super) struct Inbound<'a> {
    pub(super) context: &'a Context,
    pub(super) caller: &'a Caller,
    pub(super) harbour: Arc<Harbour>,
    pub(super) feed: &'a Arc<Feed>,
    pub(super) form: FrameForm,
    pub(super) topic: Option<&'a str>,
    pub(super) skip: Option<u64>,
    pub(super) acknowledge: bool,
    pub(super) frames: u64,
}

impl Inbound<'_> {
    pub(super) fn take(
        &mut self,
        message: Option<Result<Message, SocketError>>,
    ) -> Result<(), End> {
        match message {
            Some(Ok(Message::Text(text))) => self.publish(text.as_bytes()),
            Some(Ok(Message::Binary(bytes))) => self.publish(&bytes),
            // The codec answers pings and closes itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) | None => Err(End::Gone),
            Some(Err(error)) => Err(refused(&error)),
        }
    }

    fn publish(&mut self, payload: &[u8]) -> Result<(), End> {
        self.frames += 1;
        let began = Instant::now();
        let metrics = &self.harbour.metrics.http;
        let Some(topic) = self.topic else {
            let reason = "pattern: nothing can be published here".to_owned();
            return Err(End::Close(Close(CloseCode::Policy, reason)));
        };
        if !self.caller.may(Action::PublishTo(topic.as_bytes())) {
            return Err(End::Close(Close(CloseCode::Policy, "forbidden".to_owned())));
        }
        let message = pinnace_topics::Message {
            topic: topic.as_bytes(),
            reply: None,
            headers: b"",
            payload,
        };
        let mut batch = Batch::default();
        let published = {
            let publisher = &self.context.publisher;
            let mut publisher = publisher.lock().unwrap_or_else(PoisonError::into_inner);
            let done = || Some(self.told_once_synced());
            self.harbour
                .publish_for(&mut publisher, &message, self.skip, &mut batch, done)
        };
        batch.flush();
        match &published {
            Ok(published) => {
                self.context
                    .note("websocket", self.caller, &message, published);
                metrics.received_messages.add(1);
                metrics.publish_to_deliver.add(began.elapsed(), 1);
            }
            Err(_) => metrics.refused_publishes.add(1),
        }
        match published {
            Ok(published) if published.seq.is_none() && self.acknowledge => {
                let object = json!({"ack": self.frames, "live": published.live});
                self.feed.remark(|out| frames::say(out, &object));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => complain(self.feed, self.form, self.frames, &error.to_string()),
        }
    }

    /// What the broker calls when the frame's message is durable, or is not to be.
    fn told_once_synced(&self) -> Done {
        let (feed, form, frame) = (self.feed.clone(), self.form, self.frames);
        let acknowledge = self.acknowledge;
        Box::new(move |stored| match stored {
            Ok(seq) if acknowledge => {
                let object = json!({"ack": frame, "seq": seq});
                feed.remark(|out| frames::say(out, &object));
            }
            Ok(_) => {}
            Err(error) => {
                if complain(&feed, form, frame, &error.to_string()).is_err() {
                    feed.close(Reason::Storage);
                }
            }
        })
    }
}

/// Tells that a frame was not published; where there is no place to say so, that is the end.
fn complain(feed: &Feed, form: FrameForm, frame: u64, detail: &str) -> Result<(), End> {
    if form == FrameForm::Raw {
        return Err(End::Close(Close::of(Reason::Storage)));
    }
    let object = json!({"error": {"frame": frame, "detail": detail}});
    feed.remark(|out| frames::say(out, &object));
    Ok(())
}

/// What to say to a client that does not keep to the protocol or its limits.
fn refused(error: &SocketError) -> End {
    let (code, reason) = match error {
        SocketError::Capacity(CapacityError::MessageTooLong { .. }) => (
            CloseCode::Size,
            format!("a message has at most {PAYLOAD_BYTES_MAX} bytes"),
        ),
        SocketError::Capacity(_) => (CloseCode::Size, "too large".to_owned()),
        SocketError::Utf8(_) => (CloseCode::Invalid, "text that is no UTF-8".to_owned()),
        SocketError::Protocol(error) => {
            let reason = error.to_string();
            let short = reason.chars().filter(char::is_ascii);
            (
                CloseCode::Protocol,
                short.take(CLOSE_REASON_BYTES_MAX).collect(),
            )
        }
        _ => return End::Gone,
    };
    End::Close(Close(code, reason))
}

/// Longest reason in a close frame, bytes: a control frame's content without the code.
const CLOSE_REASON_BYTES_MAX: usize = 123;
