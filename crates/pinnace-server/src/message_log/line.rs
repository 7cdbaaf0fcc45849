//! One line of the message log.

use base64::Engine as _;
use jiff::Timestamp;
use pinnace_topics::Message;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{LoggedPayload, Origin, PAYLOAD_HEAD_BYTES};

/// A message as it waits to be written: copied, not yet encoded.
pub(super) struct Record {
    pub(super) time_us: u64,
    door: &'static str,
    client: String,
    address: std::net::SocketAddr,
    seq: Option<u64>,
    size: usize,
    /// Topic, headers and what is logged of the payload, one after the other.
    bytes: Box<[u8]>,
    topic_end: usize,
    headers_end: usize,
    with_payload: bool,
}

impl Record {
    pub(super) fn new(
        origin: Origin<'_>,
        message: &Message<'_>,
        seq: Option<u64>,
        payload: LoggedPayload,
    ) -> Self {
        let logged = match payload {
            LoggedPayload::None => &[],
            LoggedPayload::Head => head(message.payload),
            LoggedPayload::Full => message.payload,
        };
        Self {
            time_us: 0,
            door: origin.door,
            client: origin.client.unwrap_or_default().to_owned(),
            address: origin.address,
            seq,
            size: message.payload.len(),
            bytes: [message.topic, message.headers, logged].concat().into(),
            topic_end: message.topic.len(),
            headers_end: message.topic.len() + message.headers.len(),
            with_payload: payload != LoggedPayload::None,
        }
    }

    /// What it costs to keep, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + self.client.len() + size_of::<Self>()
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let payload = &self.bytes[self.headers_end..];
        let (mut text, mut base64) = (None, None);
        if self.with_payload {
            match std::str::from_utf8(payload) {
                Ok(payload) => text = Some(payload),
                Err(_) => {
                    let engine = base64::engine::general_purpose::STANDARD;
                    base64 = Some(engine.encode(payload));
                }
            }
        }
        let line = Line {
            time: time(self.time_us),
            topic: Some(String::from_utf8_lossy(&self.bytes[..self.topic_end])),
            seq: self.seq,
            bytes: Some(self.size),
            door: Some(self.door),
            client: Some(self.client.as_str()).filter(|client| !client.is_empty()),
            address: Some(self.address),
            headers: headers(&self.bytes[self.topic_end..self.headers_end]),
            text,
            base64,
            cut: self.with_payload && payload.len() < self.size,
            dropped: None,
        };
        line.write(out);
    }
}

/// The beginning of a payload, not cut within a character.
fn head(payload: &[u8]) -> &[u8] {
    let head = &payload[..payload.len().min(PAYLOAD_HEAD_BYTES)];
    match std::str::from_utf8(head) {
        // A character takes four bytes at most: more missing at the end is no text.
        Err(error) if error.error_len().is_none() && head.len() < payload.len() => {
            &head[..error.valid_up_to()]
        }
        _ => head,
    }
}

/// The headers of a block; what is no header is left out.
fn headers(block: &[u8]) -> Map<String, Value> {
    let text = String::from_utf8_lossy(block);
    // The first line is the version.
    let lines = text.lines().skip(1);
    let pairs = lines.filter_map(|line| line.split_once(':'));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim().into()))
        .collect()
}

fn time(time_us: u64) -> String {
    let time = Timestamp::from_microsecond(time_us.cast_signed()).unwrap_or_default();
    format!("{time:.6}")
}

/// A line as it is written.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<std::borrow::Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    door: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<std::net::SocketAddr>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    headers: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<u64>,
}

impl Line<'_> {
    /// So many messages are not in the log.
    pub(super) fn dropped(time_us: u64, count: u64) -> Self {
        Self {
            time: time(time_us),
            topic: None,
            seq: None,
            bytes: None,
            door: None,
            client: None,
            address: None,
            headers: Map::new(),
            text: None,
            base64: None,
            cut: false,
            dropped: Some(count),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        // Texts and numbers always have a JSON form, and writing to a Vec cannot fail.
        let _ = serde_json::to_writer(&mut *out, self);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(payload: &[u8], how: LoggedPayload) -> Value {
        let message = Message {
            topic: b"a.b",
            reply: None,
            headers: b"NATS/1.0\r\nPinnace-A: 1\r\n\r\n",
            payload,
        };
        let origin = Origin {
            door: "nats",
            client: Some("lab"),
            address: "127.0.0.1:9".parse().unwrap(),
        };
        let mut record = Record::new(origin, &message, Some(7), how);
        record.time_us = 1_700_000_000_000_001;
        let mut out = Vec::new();
        record.write(&mut out);
        assert!(out.ends_with(b"}\n"));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_line_says_who_published_what() {
        let whole = serde_json::json!({
            "time": "2023-11-14T22:13:20.000001Z", "topic": "a.b", "seq": 7, "bytes": 2,
            "door": "nats", "client": "lab", "address": "127.0.0.1:9",
            "headers": {"Pinnace-A": "1"}, "text": "hi",
        });
        assert_eq!(written(b"hi", LoggedPayload::Full), whole);
        let line = written(b"hi", LoggedPayload::None);
        assert_eq!((&line["bytes"], line.get("text")), (&2.into(), None));
    }

    #[test]
    fn payloads_are_cut_between_characters() {
        let long = "ä".repeat(PAYLOAD_HEAD_BYTES);
        let odd = format!("x{long}");
        for (payload, bytes, cut) in [
            (long.as_bytes(), PAYLOAD_HEAD_BYTES, true),
            (odd.as_bytes(), PAYLOAD_HEAD_BYTES - 1, true),
            ("ä".as_bytes(), 2, false),
        ] {
            let line = written(payload, LoggedPayload::Head);
            assert_eq!(line["text"].as_str().unwrap().len(), bytes);
            assert_eq!(
                (line.get("cut").is_some(), &line["bytes"]),
                (cut, &payload.len().into())
            );
        }
        let line = written(&[0xff; 300], LoggedPayload::Head);
        assert_eq!(
            line["base64"].as_str().unwrap().len(),
            PAYLOAD_HEAD_BYTES.div_ceil(3) * 4
        );
        assert_eq!(written(&[0xff; 300], LoggedPayload::Full).get("cut"), None);
    }
}
