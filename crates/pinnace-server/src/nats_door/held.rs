//! A message that waits for a subscription which is behind, and how a client is told what was dropped
//! before it.

use std::io::Write;

use pinnace_topics::Message;

use crate::slow::backlog::Waiting;

/// The header that says how many messages were dropped before this one.
const DROPPED_HEADER: &str = "Pinnace-Dropped";

/// A message that waits: its parts, one behind the other.
pub(super) struct Held {
    bytes: Box<[u8]>,
    /// Where topic, reply and headers end.
    ends: [u32; 3],
    has_reply: bool,
}

#[derive(Clone, Copy)]
enum Part {
    Topic,
    Reply,
    Headers,
    Payload,
}

impl Held {
    pub(super) fn of(message: &Message<'_>) -> Self {
        let reply = message.reply.unwrap_or_default();
        let parts = [message.topic, reply, message.headers];
        let mut end = 0;
        // No message is longer than 32 bits can count.
        let ends = parts.map(|part| {
            end += part.len() as u32;
            end
        });
        Self {
            bytes: [message.topic, reply, message.headers, message.payload]
                .concat()
                .into(),
            ends,
            has_reply: message.reply.is_some(),
        }
    }

    fn part(&self, part: Part) -> &[u8] {
        let [topic, reply, headers] = self.ends.map(|end| end as usize);
        &self.bytes[match part {
            Part::Topic => 0..topic,
            Part::Reply => topic..reply,
            Part::Headers => reply..headers,
            Part::Payload => headers..self.bytes.len(),
        }]
    }

    pub(super) fn message(&self) -> Message<'_> {
        Message {
            topic: self.part(Part::Topic),
            reply: self.has_reply.then(|| self.part(Part::Reply)),
            headers: self.part(Part::Headers),
            payload: self.part(Part::Payload),
        }
    }
}

impl Waiting for Held {
    fn topic(&self) -> &[u8] {
        self.part(Part::Topic)
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// A header block that says how many messages were dropped, if any were.
pub(super) fn told_dropped(headers: &[u8], dropped: u64) -> Option<Vec<u8>> {
    if dropped == 0 {
        return None;
    }
    let (first, rest) = match memchr::memmem::find(headers, b"\r\n") {
        Some(at) => headers.split_at(at + 2),
        None => (&b"NATS/1.0\r\n"[..], &b"\r\n"[..]),
    };
    let mut told = first.to_vec();
    // Writing to a Vec cannot fail.
    let _ = write!(told, "{DROPPED_HEADER}: {dropped}\r\n");
    told.extend_from_slice(rest);
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_waited_is_the_same() {
        for (reply, headers, payload) in [
            (None, &b""[..], &b""[..]),
            (Some(&b""[..]), b"", b"x"),
            (Some(b"r"), b"NATS/1.0\r\nA: 1\r\n\r\n", b"payload"),
        ] {
            let message = Message {
                topic: b"a.b",
                reply,
                headers,
                payload,
            };
            let held = Held::of(&message);
            assert_eq!(held.message(), message);
            assert_eq!(held.topic(), b"a.b");
        }
    }

    #[test]
    fn what_was_dropped_stands_first_among_the_headers() {
        for (headers, dropped, expected) in [
            (&b"NATS/1.0\r\nA: 1\r\n\r\n"[..], 0, None),
            (b"", 7, Some("NATS/1.0\r\nPinnace-Dropped: 7\r\n\r\n")),
            (
                b"NATS/1.0 503\r\nA: 1\r\n\r\n",
                12,
                Some("NATS/1.0 503\r\nPinnace-Dropped: 12\r\nA: 1\r\n\r\n"),
            ),
        ] {
            let told = told_dropped(headers, dropped);
            assert_eq!(told.as_deref(), expected.map(str::as_bytes));
        }
    }
}
