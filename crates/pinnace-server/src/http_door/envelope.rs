//! A message as one JSON object: number, topic, headers, and its payload as `text`, or as `base64`
//! when it is no UTF-8.

use base64::Engine as _;
use pinnace_topics::{Message, Stored};
use serde_json::{Map, Value};

use super::request;

/// What an envelope is made of, borrowed from a live or a stored message.
pub(crate) struct Envelope<'a> {
    pub(crate) seq: Option<u64>,
    pub(crate) topic: &'a [u8],
    /// Known of stored messages.
    pub(crate) published_us: Option<u64>,
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// How often it was given out on a lease; 0 when it was not.
    pub(crate) deliveries: u32,
}

impl<'a> Envelope<'a> {
    pub(crate) fn live(message: &Message<'a>, seq: Option<u64>) -> Self {
        Self {
            seq,
            topic: message.topic,
            published_us: None,
            headers: message.headers,
            payload: message.payload,
            deliveries: 0,
        }
    }

    pub(crate) fn stored(message: &'a Stored) -> Self {
        Self {
            seq: Some(message.seq),
            topic: &message.topic,
            published_us: Some(message.published_us),
            headers: &message.headers,
            payload: &message.payload,
            deliveries: 0,
        }
    }

    /// The object, on one line.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail, and an object of texts and numbers always has a JSON form.
        let _ = serde_json::to_writer(out, &self.object());
    }

    /// The object.
    pub(crate) fn object(&self) -> Value {
        let mut object = Map::new();
        if let Some(seq) = self.seq {
            object.insert("seq".to_owned(), seq.into());
        }
        let topic = String::from_utf8_lossy(self.topic).into_owned();
        object.insert("topic".to_owned(), topic.into());
        if let Some(published_us) = self.published_us {
            object.insert("published_us".to_owned(), published_us.into());
        }
        if self.deliveries > 0 {
            object.insert("deliveries".to_owned(), self.deliveries.into());
        }
        let mut headers = Map::new();
        for (name, value) in request::from_block(self.headers) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.insert(name.to_string(), value.into());
        }
        if !headers.is_empty() {
            object.insert("headers".to_owned(), headers.into());
        }
        let (encoding, payload) = match std::str::from_utf8(self.payload) {
            Ok(text) => ("text", text.to_owned()),
            Err(_) => ("base64", base64(self.payload)),
        };
        object.insert(encoding.to_owned(), payload.into());
        Value::Object(object)
    }
}

/// Bytes as text.
pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
