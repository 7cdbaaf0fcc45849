//! The payloads of log records: what happened to messages and queues.
//!
//! Invariant: `decode` accepts exactly what the encoders write and refuses an unknown kind by
//! number, because the sums below have already held: an unknown kind means a newer program.
//! The layout is drawn in `docs/formats/topics.md`.

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// A message was published, or copied towards the end of the log.
    Message {
        copy: bool,
        seq: u64,
        published_us: u64,
        queues: Vec<u32>,
        content: Content<'a>,
    },
    /// A queue was created, holding these messages from the start.
    Create {
        queue: u32,
        pattern: &'a [u8],
        name: &'a str,
        holds: Vec<u64>,
    },
    /// A queue that exists, told again.
    Restate {
        queue: u32,
        pattern: &'a [u8],
        name: &'a str,
    },
    /// A queue was deleted.
    Delete { queue: u32 },
    /// A queue gave away every message up to `through`.
    Consume { queue: u32, through: u64 },
    /// The numbers to be used next.
    Counters { next_seq: u64, next_queue: u32 },
}

/// The part of a message that came from its publisher.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Content<'a> {
    pub(crate) topic: &'a [u8],
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl Content<'_> {
    pub(crate) fn bytes(&self) -> usize {
        self.topic.len() + self.headers.len() + self.payload.len()
    }
}

const MESSAGE: u8 = 1;
const COPY: u8 = 2;
const CREATE: u8 = 3;
const RESTATE: u8 = 4;
const DELETE: u8 = 5;
const CONSUME: u8 = 6;
const COUNTERS: u8 = 7;

/// Writes what stands in front of topic, headers and payload in a message record.
pub(crate) fn message_head(
    out: &mut Vec<u8>,
    copy: bool,
    seq: u64,
    published_us: u64,
    queues: &[u32],
    topic: &[u8],
    headers: &[u8],
) {
    out.clear();
    out.push(if copy { COPY } else { MESSAGE });
    varint(out, seq);
    varint(out, published_us);
    ascending(out, queues.iter().map(|&queue| u64::from(queue)));
    varint(out, topic.len() as u64);
    varint(out, headers.len() as u64);
}

pub(crate) fn create(out: &mut Vec<u8>, queue: u32, pattern: &[u8], name: &str, holds: &[u64]) {
    definition(out, CREATE, queue, pattern, name);
    ascending(out, holds.iter().copied());
}

pub(crate) fn restate(out: &mut Vec<u8>, queue: u32, pattern: &[u8], name: &str) {
    definition(out, RESTATE, queue, pattern, name);
}

pub(crate) fn delete(out: &mut Vec<u8>, queue: u32) {
    out.clear();
    out.push(DELETE);
    varint(out, u64::from(queue));
}

pub(crate) fn consume(out: &mut Vec<u8>, queue: u32, through: u64) {
    out.clear();
    out.push(CONSUME);
    varint(out, u64::from(queue));
    varint(out, through);
}

pub(crate) fn counters(out: &mut Vec<u8>, next_seq: u64, next_queue: u32) {
    out.clear();
    out.push(COUNTERS);
    varint(out, next_seq);
    varint(out, u64::from(next_queue));
}

fn definition(out: &mut Vec<u8>, kind: u8, queue: u32, pattern: &[u8], name: &str) {
    out.clear();
    out.push(kind);
    varint(out, u64::from(queue));
    varint(out, pattern.len() as u64);
    out.extend_from_slice(pattern);
    varint(out, name.len() as u64);
    out.extend_from_slice(name.as_bytes());
}

/// Reads a record's payload. The error says what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Record<'_>, String> {
    let (kind, rest) = bytes.split_first().ok_or("the record is empty")?;
    let mut reader = Reader(rest);
    let record = match *kind {
        MESSAGE | COPY => reader.message(*kind == COPY),
        CREATE => reader.create(),
        RESTATE => reader.restate(),
        DELETE => reader.u32().map(|queue| Record::Delete { queue }),
        CONSUME => reader.consume(),
        COUNTERS => reader.counters(),
        unknown => {
            return Err(format!(
                "record kind {unknown} is unknown; use the newer program"
            ));
        }
    };
    match record {
        Some(record) if reader.0.is_empty() => Ok(record),
        _ => Err(format!("a record of kind {kind} is malformed")),
    }
}

/// Seven bits to the byte, lowest first, high bit set on all but the last.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A count, then each number as its distance from the one before.
fn ascending(out: &mut Vec<u8>, numbers: impl ExactSizeIterator<Item = u64>) {
    varint(out, numbers.len() as u64);
    let mut last = 0;
    for number in numbers {
        varint(out, number - last);
        last = number;
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn message(&mut self, copy: bool) -> Option<Record<'a>> {
        let (seq, published_us) = (self.varint()?, self.varint()?);
        let queues = self.ascending()?.into_iter().map(u32::try_from);
        let queues = queues.collect::<Result<Vec<u32>, _>>().ok()?;
        let (topic_bytes, headers_bytes) = (self.varint()?, self.varint()?);
        let topic = self.take(topic_bytes)?;
        let headers = self.take(headers_bytes)?;
        let payload = std::mem::take(&mut self.0);
        let content = Content {
            topic,
            headers,
            payload,
        };
        Some(Record::Message {
            copy,
            seq,
            published_us,
            queues,
            content,
        })
    }

    fn create(&mut self) -> Option<Record<'a>> {
        let (queue, pattern, name) = self.definition()?;
        Some(Record::Create {
            queue,
            pattern,
            name,
            holds: self.ascending()?,
        })
    }

    fn restate(&mut self) -> Option<Record<'a>> {
        let (queue, pattern, name) = self.definition()?;
        Some(Record::Restate {
            queue,
            pattern,
            name,
        })
    }

    fn consume(&mut self) -> Option<Record<'a>> {
        Some(Record::Consume {
            queue: self.u32()?,
            through: self.varint()?,
        })
    }

    fn counters(&mut self) -> Option<Record<'a>> {
        Some(Record::Counters {
            next_seq: self.varint()?,
            next_queue: self.u32()?,
        })
    }

    fn definition(&mut self) -> Option<(u32, &'a [u8], &'a str)> {
        let queue = self.u32()?;
        let bytes = self.varint()?;
        let pattern = self.take(bytes)?;
        let bytes = self.varint()?;
        let name = std::str::from_utf8(self.take(bytes)?).ok()?;
        Some((queue, pattern, name))
    }

    fn ascending(&mut self) -> Option<Vec<u64>> {
        let count = usize::try_from(self.varint()?).ok()?;
        // Each number takes a byte at least, so a wrong count cannot ask for much.
        if count > self.0.len() {
            return None;
        }
        let mut numbers = Vec::with_capacity(count);
        let mut last = 0_u64;
        for _ in 0..count {
            last = last.checked_add(self.varint()?)?;
            numbers.push(last);
        }
        Some(numbers)
    }

    fn u32(&mut self) -> Option<u32> {
        self.varint()?.try_into().ok()
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, bytes: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(bytes).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_come_back_as_written() {
        let mut out = Vec::new();
        let content = Content {
            topic: b"a.b",
            headers: b"",
            payload: b"xyz",
        };
        message_head(
            &mut out,
            false,
            300,
            u64::MAX,
            &[3, 4, 4_000_000_000],
            b"a.b",
            b"",
        );
        out.extend_from_slice(b"a.bxyz");
        let queues = vec![3, 4, 4_000_000_000];
        let expected = Record::Message {
            copy: false,
            seq: 300,
            published_us: u64::MAX,
            queues,
            content,
        };
        assert_eq!(decode(&out), Ok(expected));
        create(&mut out, 7, b"a.>", "alice", &[1, 2, 9]);
        let holds = vec![1, 2, 9];
        let expected = Record::Create {
            queue: 7,
            pattern: b"a.>",
            name: "alice",
            holds,
        };
        assert_eq!(decode(&out), Ok(expected));
        restate(&mut out, 7, b"a.>", "bob");
        assert_eq!(
            decode(&out),
            Ok(Record::Restate {
                queue: 7,
                pattern: b"a.>",
                name: "bob"
            })
        );
        delete(&mut out, 7);
        assert_eq!(decode(&out), Ok(Record::Delete { queue: 7 }));
        consume(&mut out, 7, 1 << 40);
        assert_eq!(
            decode(&out),
            Ok(Record::Consume {
                queue: 7,
                through: 1 << 40
            })
        );
        counters(&mut out, 10, 8);
        assert_eq!(
            decode(&out),
            Ok(Record::Counters {
                next_seq: 10,
                next_queue: 8
            })
        );
        out.push(0);
        assert!(decode(&out).is_err(), "trailing bytes");
    }

    #[test]
    fn an_unknown_kind_says_so() {
        assert_eq!(
            decode(&[9]),
            Err("record kind 9 is unknown; use the newer program".into())
        );
        assert!(decode(&[]).is_err());
    }

    proptest! {
        #[test]
        fn decoding_anything_neither_panics_nor_asks_for_much(bytes: Vec<u8>, kind in 1u8..8) {
            let mut all = vec![kind];
            all.extend(&bytes);
            if let Ok(Record::Create { holds, .. }) = decode(&all) {
                prop_assert!(holds.len() <= all.len());
            }
        }
    }
}
