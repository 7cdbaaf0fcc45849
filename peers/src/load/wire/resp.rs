//! RESP2: Redis publish/subscribe and streams.

use std::ops::Range;

use anyhow::{Result, bail};

use super::{Item, Template, Wire, line, number};

/// Entries a stream is trimmed to, about, so that a long run does not grow without bound.
const STREAM_ENTRIES_MAX: &str = "100000";

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct Resp;

impl Resp {
    /// Appends an entry with one field to the stream `topic`.
    pub fn append(&self, topic: &str, payload_bytes: usize) -> Template {
        let words = ["XADD", topic, "MAXLEN", "~", STREAM_ENTRIES_MAX, "*", "f"];
        with_payload(&words, payload_bytes)
    }
}

impl Wire for Resp {
    fn hello(&self, _out: &mut Vec<u8>, _connection: usize) {}

    fn subscribe(&self, out: &mut Vec<u8>, topic: &str, _id: u32) {
        out.extend_from_slice(&words(&["SUBSCRIBE", topic]));
    }

    fn fence(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&words(&["PING"]));
    }

    fn publish(&self, topic: &str, _reply: Option<&str>, payload_bytes: usize) -> Template {
        with_payload(&["PUBLISH", topic], payload_bytes)
    }

    fn delivery(
        &self,
        topic: &str,
        _id: u32,
        _reply: Option<&str>,
        payload_bytes: usize,
    ) -> Template {
        with_payload(&["message", topic], payload_bytes)
    }

    fn answers_publishes(&self) -> bool {
        true
    }

    fn publishes_while_subscribed(&self) -> bool {
        false
    }

    fn next(&self, bytes: &[u8]) -> Result<Option<(usize, Item)>> {
        let Some((head, length)) = line(bytes) else {
            return Ok(None);
        };
        Ok(match head {
            b"+PONG" => Some((length, Item::Fence)),
            [b':' | b'+', ..] => Some((length, Item::Answer(1..length - 2))),
            [b'$', ..] => bulk(bytes, 0)?.map(|(range, end)| (end, Item::Answer(range))),
            [b'*', count @ ..] => array(bytes, length, number(count)?)?,
            _ => bail!("the server says {:?}", String::from_utf8_lossy(head)),
        })
    }
}

fn words(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    out
}

fn with_payload(before: &[&str], payload_bytes: usize) -> Template {
    let mut head = words(before);
    // One element more than the words before: the payload.
    let count = format!("*{}\r\n", before.len() + 1);
    let old = format!("*{}\r\n", before.len());
    head.splice(..old.len(), count.into_bytes());
    head.extend_from_slice(format!("${payload_bytes}\r\n").as_bytes());
    Template::new(&head, payload_bytes, b"\r\n")
}

/// The bulk string at `at`: where its bytes are, and where it ends.
fn bulk(bytes: &[u8], at: usize) -> Result<Option<(Range<usize>, usize)>> {
    let Some((head, length)) = bytes.get(at..).and_then(line) else {
        return Ok(None);
    };
    let Some(size) = head.strip_prefix(b"$") else {
        bail!(
            "a bulk string starts with {:?}",
            String::from_utf8_lossy(head)
        );
    };
    let range = at + length..at + length + number(size)?;
    let end = range.end + 2;
    Ok((bytes.len() >= end).then_some((range, end)))
}

/// A pushed array: a message, or what a subscribed connection answers.
fn array(bytes: &[u8], head: usize, count: usize) -> Result<Option<(usize, Item)>> {
    let Some((kind, mut at)) = bulk(bytes, head)? else {
        return Ok(None);
    };
    match (&bytes[kind], count) {
        (b"message", 3) => {
            let Some((_, after_topic)) = bulk(bytes, at)? else {
                return Ok(None);
            };
            let payload = bulk(bytes, after_topic)?;
            Ok(payload.map(|(range, end)| (end, Item::Message(range))))
        }
        (b"pong", 2) => Ok(bulk(bytes, at)?.map(|(_, end)| (end, Item::Fence))),
        (b"subscribe", 3) => {
            let Some((_, end)) = bulk(bytes, at)? else {
                return Ok(None);
            };
            at = end;
            Ok(line(&bytes[at..]).map(|(_, length)| (at + length, Item::Other)))
        }
        (kind, _) => bail!("an array of kind {:?}", String::from_utf8_lossy(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_and_answers() {
        super::super::check::a_delivery_at_every_cut(&Resp);
        for (bytes, expected) in [
            (&b":12\r\n:1"[..], Some((5, Item::Answer(1..3)))),
            (b"$3\r\n1-0\r\n", Some((9, Item::Answer(4..7)))),
            (b"$3\r\n1-0\r", None),
            (b"+PONG\r\n", Some((7, Item::Fence))),
            (b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", Some((20, Item::Fence))),
            (
                b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
                Some((30, Item::Other)),
            ),
        ] {
            assert_eq!(Resp.next(bytes).unwrap(), expected);
        }
        assert!(Resp.next(b"-ERR no\r\n").is_err());
    }

    #[test]
    fn a_publish() {
        let frame = Resp.publish("ab", None, 1);
        let expected = b"*3\r\n$7\r\nPUBLISH\r\n$2\r\nab\r\n$1\r\n\0\r\n";
        assert_eq!(frame.bytes, expected);
        assert_eq!(frame.payload, expected.len() - 3..expected.len() - 2);
    }
}
