//! What a WebSocket sends: messages as JSON objects or as they are, and what is said about them.
//!
//! Frames wait in a feed as bytes: one for the kind, four for the length, then the content. The
//! frames of the wire are the codec's.

use serde_json::{Value, json};

use super::envelope::Envelope;
use super::form::{Form, Reason};

/// How messages look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameForm {
    /// Text frames, each an object with topic, number and headers.
    Json,
    /// The payload: a text frame when it is UTF-8, else a binary one.
    Raw,
}

/// A frame as taken from a feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

const TEXT: u8 = b't';
const BINARY: u8 = b'b';

impl Form for FrameForm {
    fn begin(&self, _: &mut Vec<u8>, _: Option<u64>) {}

    fn message(&self, out: &mut Vec<u8>, envelope: &Envelope<'_>) {
        match self {
            Self::Json => add(out, TEXT, |out| envelope.write(out)),
            Self::Raw => {
                let is_text = std::str::from_utf8(envelope.payload).is_ok();
                let kind = if is_text { TEXT } else { BINARY };
                add(out, kind, |out| out.extend_from_slice(envelope.payload));
            }
        }
    }

    fn gap(&self, out: &mut Vec<u8>, after: u64) {
        say(out, &json!({"gap": {"after": after}}));
    }

    fn dropped(&self, out: &mut Vec<u8>, count: u64) {
        say(out, &json!({"dropped": {"count": count}}));
    }

    /// The socket pings by itself.
    fn heartbeat(&self, _: &mut Vec<u8>) {}

    /// Said by the close frame.
    fn farewell(&self, _: &mut Vec<u8>, _: Reason) {}
}

/// Adds a text frame that is no message.
pub(super) fn say(out: &mut Vec<u8>, object: &Value) {
    add(out, TEXT, |out| {
        out.extend_from_slice(object.to_string().as_bytes());
    });
}

fn add(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    // A feed is far smaller than what 32 bits can count.
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// The first frame of what was taken from a feed, and what follows it.
pub(super) fn split(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (content, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let frame = match (*kind, std::str::from_utf8(content)) {
        (TEXT, Ok(text)) => Frame::Text(text),
        _ => Frame::Binary(content),
    };
    Some((frame, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut out = Vec::new();
        let message = |payload| Envelope {
            seq: None,
            topic: b"t",
            published_us: None,
            headers: b"",
            payload,
            deliveries: 0,
        };
        FrameForm::Raw.message(&mut out, &message(b"hi"));
        FrameForm::Raw.message(&mut out, &message(b""));
        FrameForm::Raw.message(&mut out, &message(b"\xff"));
        FrameForm::Json.message(&mut out, &message(b"x"));
        let (mut rest, mut frames) = (out.as_slice(), Vec::new());
        while let Some((frame, after)) = split(rest) {
            frames.push(frame);
            rest = after;
        }
        assert_eq!(
            frames,
            [
                Frame::Text("hi"),
                Frame::Text(""),
                Frame::Binary(b"\xff"),
                Frame::Text(r#"{"text":"x","topic":"t"}"#),
            ]
        );
        assert!(rest.is_empty());
    }
}
