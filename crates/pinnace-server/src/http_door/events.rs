//! The words of a server-sent event stream.
//!
//! Invariant: whatever a payload holds, a client reads exactly that payload back: lines end in the
//! format's own way, so a payload with a carriage return, like one that is no UTF-8, goes as base64
//! and says so by its event's name.

use std::io::Write as _;

use serde_json::json;

use super::envelope::{Envelope, base64};
use super::form::{Form, Reason};

/// How long a client waits before it connects again, milliseconds.
const RETRY_MS: u32 = 1_000;

/// What `data` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The payload.
    Payload,
    /// An object with topic and headers: for patterns, and for who asks for it.
    Envelope,
}

/// A stream of events.
pub(super) struct EventForm(pub(super) Shape);

impl Form for EventForm {
    fn begin(&self, out: &mut Vec<u8>, id: Option<u64>) {
        if let Some(id) = id {
            // Writing to a Vec cannot fail, here and below.
            let _ = writeln!(out, "id: {id}");
        }
    }

    fn message(&self, out: &mut Vec<u8>, envelope: &Envelope<'_>) {
        match self.0 {
            Shape::Envelope => {
                out.extend_from_slice(b"data: ");
                envelope.write(out);
                out.extend_from_slice(b"\n\n");
            }
            Shape::Payload if is_lines(envelope.payload) => {
                for line in envelope.payload.split(|byte| *byte == b'\n') {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(line);
                    out.push(b'\n');
                }
                out.push(b'\n');
            }
            Shape::Payload => {
                let _ = write!(out, "event: base64\ndata: {}\n\n", base64(envelope.payload));
            }
        }
    }

    fn gap(&self, out: &mut Vec<u8>, after: u64) {
        named(out, "gap", &json!({ "after": after }));
    }

    fn dropped(&self, out: &mut Vec<u8>, count: u64) {
        named(out, "dropped", &json!({ "count": count }));
    }

    fn heartbeat(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b":\n\n");
    }

    fn farewell(&self, out: &mut Vec<u8>, reason: Reason) {
        let name = if reason == Reason::Stopping {
            "end"
        } else {
            "error"
        };
        let data = json!({"code": reason.code(), "detail": reason.detail()});
        named(out, name, &data);
    }
}

/// The first words of a stream.
pub(super) fn opening(out: &mut Vec<u8>) {
    let _ = write!(out, "retry: {RETRY_MS}\n\n");
}

fn named(out: &mut Vec<u8>, name: &str, data: &serde_json::Value) {
    let _ = write!(out, "event: {name}\ndata: {data}\n\n");
}

fn is_lines(payload: &[u8]) -> bool {
    memchr::memchr(b'\r', payload).is_none() && std::str::from_utf8(payload).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(shape: Shape, payload: &[u8]) -> String {
        let mut out = Vec::new();
        let envelope = Envelope {
            seq: Some(7),
            topic: b"a.b",
            published_us: None,
            headers: b"NATS/1.0\r\nContent-Type: text/plain\r\n\r\n",
            payload,
            deliveries: 0,
        };
        EventForm(shape).message(&mut out, &envelope);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn payloads_come_back_exactly() {
        for (payload, expected) in [
            (&b"hi"[..], "data: hi\n\n"),
            (b"", "data: \n\n"),
            (b"a\nb\n", "data: a\ndata: b\ndata: \n\n"),
            (b" a: b", "data:  a: b\n\n"),
            (b"a\r\nb", "event: base64\ndata: YQ0KYg==\n\n"),
            (b"\xff", "event: base64\ndata: /w==\n\n"),
        ] {
            assert_eq!(written(Shape::Payload, payload), expected);
        }
    }

    #[test]
    fn an_envelope_names_topic_and_headers() {
        let text = written(Shape::Envelope, b"a\r\nb");
        let json = text.strip_prefix("data: ").unwrap().trim_end();
        let object: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(object["text"], "a\r\nb");
        assert_eq!(object["topic"], "a.b");
        assert_eq!(object["headers"]["content-type"], "text/plain");
        assert_eq!(object["seq"], 7);
        let text = written(Shape::Envelope, b"\xff");
        assert!(text.contains("\"base64\":\"/w==\""), "{text}");
    }
}
