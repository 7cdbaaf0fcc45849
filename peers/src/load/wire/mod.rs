//! Wire protocols as pure codecs: bytes to send, and what bytes received mean. One file a protocol.
//!
//! Invariant: no sockets and no clocks here. A protocol's delivery of a given topic and size is a
//! constant but for its payload, which is what lets the receiver compare instead of parse.

pub mod mqtt;
pub mod nats;
pub mod resp;

use std::ops::Range;

use anyhow::Result;

/// A frame whose payload is still to be filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The whole frame; the payload's bytes are zero.
    pub bytes: Vec<u8>,
    /// Where the payload is.
    pub payload: Range<usize>,
}

impl Template {
    /// `head`, a payload of `payload_bytes` zeros, `tail`.
    pub fn new(head: &[u8], payload_bytes: usize, tail: &[u8]) -> Self {
        let payload = head.len()..head.len() + payload_bytes;
        let mut bytes = head.to_vec();
        bytes.resize(payload.end, 0);
        bytes.extend_from_slice(tail);
        Self { bytes, payload }
    }
}

/// What stands at the front of received bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A delivered message; where its payload is.
    Message(Range<usize>),
    /// Everything sent before the fence has been carried out.
    Fence,
    /// A publish was answered; where the answer's own bytes are.
    Answer(Range<usize>),
    /// The server wants to hear this.
    Asked(&'static [u8]),
    /// Nothing a generator acts on.
    Other,
}

/// A protocol.
pub trait Wire: Send + Sync {
    /// What a connection sends first.
    fn hello(&self, out: &mut Vec<u8>, connection: usize);
    /// Subscribes to `topic` as subscription `id` of this connection.
    fn subscribe(&self, out: &mut Vec<u8>, topic: &str, id: u32);
    /// Asks for an [`Item::Fence`].
    fn fence(&self, out: &mut Vec<u8>);
    /// A publish.
    fn publish(&self, topic: &str, reply: Option<&str>, payload_bytes: usize) -> Template;
    /// What a subscriber receives for that publish.
    fn delivery(&self, topic: &str, id: u32, reply: Option<&str>, payload_bytes: usize)
    -> Template;
    /// Whether each publish is answered on the publisher's connection.
    fn answers_publishes(&self) -> bool {
        false
    }
    /// Whether a connection that is subscribed may publish, as a responder does.
    fn publishes_while_subscribed(&self) -> bool {
        true
    }
    /// The item at the front of `bytes` and its length; `None` when it has not wholly arrived.
    ///
    /// # Errors
    /// When the server complains or says what cannot be understood.
    fn next(&self, bytes: &[u8]) -> Result<Option<(usize, Item)>>;
}

/// The first line of `bytes` without its line end, and its length with it.
pub(crate) fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], end + 2))
}

/// A decimal number.
///
/// # Errors
/// When it is not one.
pub(crate) fn number(text: &[u8]) -> Result<usize> {
    Ok(std::str::from_utf8(text)?.parse()?)
}

#[cfg(test)]
pub(crate) mod check {
    use super::*;

    /// A delivery is one message at every cut: nothing before it is whole, then all of it.
    pub(crate) fn a_delivery_at_every_cut(wire: &dyn Wire) {
        for payload_bytes in [0, 16, 128, 1024, 16_384] {
            let delivery = wire.delivery("bench", 1, None, payload_bytes);
            let length = delivery.bytes.len();
            for cut in (0..length).filter(|cut| *cut < 80 || cut + 80 > length) {
                let found = wire.next(&delivery.bytes[..cut]).unwrap();
                assert_eq!(found, None, "cut at {cut} of {length}");
            }
            let mut bytes = delivery.bytes.clone();
            bytes.extend_from_slice(b"more");
            let found = wire.next(&bytes).unwrap();
            assert_eq!(found, Some((length, Item::Message(delivery.payload))));
        }
    }
}
