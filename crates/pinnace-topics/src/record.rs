//! The payloads of log records: what happened to messages and queues.
//!
//! Invariant: `decode` accepts exactly what the encoders write and refuses an unknown kind by
//! number, because the sums below have already held: an unknown kind means a newer program.
//! The layout is drawn in `docs/formats/topics.md`.

use crate::queue::{Overflow, Queue, QueueOptions};
use crate::varint::{Reader, ascending, varint};

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// A message was published, or copied towards the end of the log.
    Message {
        copy: bool,
        seq: u64,
        published_us: u64,
        queues: Vec<u32>,
        /// The identity its publisher gave it.
        id: Option<&'a [u8]>,
        content: Content<'a>,
    },
    /// A queue was created, holding these messages from the start.
    Create {
        queue: u32,
        pattern: &'a [u8],
        name: &'a str,
        options: Option<Box<QueueOptions>>,
        holds: Vec<u64>,
    },
    /// A queue that exists, told again.
    Restate {
        queue: u32,
        pattern: &'a [u8],
        name: &'a str,
        options: Option<Box<QueueOptions>>,
    },
    /// A queue was deleted.
    Delete { queue: u32 },
    /// A queue gave away every message up to `through`. Not written any more.
    Consume { queue: u32, through: u64 },
    /// A queue gave away these messages.
    Settle { queue: u32, seqs: Vec<u64> },
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

pub(crate) const MESSAGE: u8 = 1;
pub(crate) const COPY: u8 = 2;
const CREATE: u8 = 3;
const RESTATE: u8 = 4;
const DELETE: u8 = 5;
const CONSUME: u8 = 6;
const COUNTERS: u8 = 7;
const SETTLE: u8 = 8;
const CREATE_WITH: u8 = 9;
const RESTATE_WITH: u8 = 10;
const IDENTIFIED: u8 = 11;

/// The options of a queue, each behind its number.
const MESSAGES_MAX: u64 = 1;
const BYTES_MAX: u64 = 2;
const AGE_MAX_US: u64 = 3;
const OVERFLOW: u64 = 4;
const DELIVERIES_MAX: u64 = 5;
const DEAD_LETTER: u64 = 6;

/// Writes what stands in front of topic, headers and payload in a message record.
pub(crate) fn message_head(
    out: &mut Vec<u8>,
    kind: u8,
    seq: u64,
    published_us: u64,
    queues: &[u32],
    topic: &[u8],
    headers: &[u8],
) {
    out.clear();
    out.push(kind);
    varint(out, seq);
    varint(out, published_us);
    ascending(out, queues.iter().map(|&queue| u64::from(queue)));
    varint(out, topic.len() as u64);
    varint(out, headers.len() as u64);
}

/// The same for a message with an identity.
pub(crate) fn identified_head(
    out: &mut Vec<u8>,
    seq: u64,
    published_us: u64,
    queues: &[u32],
    id: &[u8],
    topic: &[u8],
    headers: &[u8],
) {
    out.clear();
    out.push(IDENTIFIED);
    varint(out, seq);
    varint(out, published_us);
    ascending(out, queues.iter().map(|&queue| u64::from(queue)));
    varint(out, id.len() as u64);
    out.extend_from_slice(id);
    varint(out, topic.len() as u64);
    varint(out, headers.len() as u64);
}

pub(crate) fn create(out: &mut Vec<u8>, id: u32, queue: &Queue, holds: &[u64]) {
    definition(out, (CREATE, CREATE_WITH), id, queue);
    ascending(out, holds.iter().copied());
}

pub(crate) fn restate(out: &mut Vec<u8>, id: u32, queue: &Queue) {
    definition(out, (RESTATE, RESTATE_WITH), id, queue);
}

pub(crate) fn delete(out: &mut Vec<u8>, queue: u32) {
    out.clear();
    out.push(DELETE);
    varint(out, u64::from(queue));
}

pub(crate) fn settle(out: &mut Vec<u8>, queue: u32, seqs: &[u64]) {
    out.clear();
    out.push(SETTLE);
    varint(out, u64::from(queue));
    ascending(out, seqs.iter().copied());
}

pub(crate) fn counters(out: &mut Vec<u8>, next_seq: u64, next_queue: u32) {
    out.clear();
    out.push(COUNTERS);
    varint(out, next_seq);
    varint(out, u64::from(next_queue));
}

/// `kinds` without and with options.
fn definition(out: &mut Vec<u8>, kinds: (u8, u8), id: u32, queue: &Queue) {
    out.clear();
    let kind = if queue.options.is_some() {
        kinds.1
    } else {
        kinds.0
    };
    out.push(kind);
    varint(out, u64::from(id));
    varint(out, queue.pattern.len() as u64);
    out.extend_from_slice(&queue.pattern);
    varint(out, queue.name.len() as u64);
    out.extend_from_slice(queue.name.as_bytes());
    if let Some(options) = &queue.options {
        write_options(out, options);
    }
}

/// A count, then each option that is set: its number and its value.
fn write_options(out: &mut Vec<u8>, options: &QueueOptions) {
    let overflow = match options.overflow {
        Overflow::Refuse => 0,
        Overflow::DropOldest => 1,
        Overflow::Expire => 2,
    };
    let numbers = [
        (MESSAGES_MAX, options.messages_max),
        (BYTES_MAX, options.bytes_max),
        (AGE_MAX_US, options.age_max_us),
        (OVERFLOW, Some(overflow)),
        (DELIVERIES_MAX, options.deliveries_max.map(u64::from)),
    ];
    let set = numbers.iter().filter(|(_, value)| value.is_some()).count();
    varint(
        out,
        (set + usize::from(options.dead_letter.is_some())) as u64,
    );
    for (number, value) in numbers {
        if let Some(value) = value {
            varint(out, number);
            varint(out, value);
        }
    }
    if let Some(topic) = &options.dead_letter {
        varint(out, DEAD_LETTER);
        varint(out, topic.len() as u64);
        out.extend_from_slice(topic);
    }
}

/// Reads a record's payload. The error says what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Record<'_>, String> {
    let (kind, rest) = bytes.split_first().ok_or("the record is empty")?;
    let mut reader = Reader(rest);
    let record = match *kind {
        MESSAGE | COPY | IDENTIFIED => reader.message(*kind),
        CREATE | CREATE_WITH => reader.create(*kind == CREATE_WITH),
        RESTATE | RESTATE_WITH => reader.restate(*kind == RESTATE_WITH),
        DELETE => reader.u32().map(|queue| Record::Delete { queue }),
        CONSUME => reader.consume(),
        COUNTERS => reader.counters(),
        SETTLE => reader.settle(),
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

impl<'a> Reader<'a> {
    fn message(&mut self, kind: u8) -> Option<Record<'a>> {
        let (seq, published_us) = (self.seq()?, self.varint()?);
        let queues = self.ascending()?.into_iter().map(u32::try_from);
        let queues = queues.collect::<Result<Vec<u32>, _>>().ok()?;
        let id = match kind {
            IDENTIFIED => {
                let bytes = self.varint()?;
                Some(self.take(bytes)?)
            }
            _ => None,
        };
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
            copy: kind == COPY,
            seq,
            published_us,
            queues,
            id,
            content,
        })
    }

    fn create(&mut self, with_options: bool) -> Option<Record<'a>> {
        let (queue, pattern, name) = self.definition()?;
        Some(Record::Create {
            queue,
            pattern,
            name,
            options: if with_options {
                Some(self.options()?)
            } else {
                None
            },
            holds: self.seqs()?,
        })
    }

    fn restate(&mut self, with_options: bool) -> Option<Record<'a>> {
        let (queue, pattern, name) = self.definition()?;
        Some(Record::Restate {
            queue,
            pattern,
            name,
            options: if with_options {
                Some(self.options()?)
            } else {
                None
            },
        })
    }

    fn options(&mut self) -> Option<Box<QueueOptions>> {
        let mut options = Box::<QueueOptions>::default();
        for _ in 0..self.varint()? {
            let number = self.varint()?;
            let value = self.varint()?;
            match number {
                MESSAGES_MAX => options.messages_max = Some(value),
                BYTES_MAX => options.bytes_max = Some(value),
                AGE_MAX_US => options.age_max_us = Some(value),
                OVERFLOW => {
                    options.overflow = match value {
                        0 => Overflow::Refuse,
                        1 => Overflow::DropOldest,
                        2 => Overflow::Expire,
                        _ => return None,
                    };
                }
                DELIVERIES_MAX => options.deliveries_max = Some(value.try_into().ok()?),
                DEAD_LETTER => options.dead_letter = Some(self.take(value)?.into()),
                _ => return None,
            }
        }
        Some(options)
    }

    fn settle(&mut self) -> Option<Record<'a>> {
        Some(Record::Settle {
            queue: self.u32()?,
            seqs: self.seqs()?,
        })
    }

    fn consume(&mut self) -> Option<Record<'a>> {
        Some(Record::Consume {
            queue: self.u32()?,
            through: self.seq()?,
        })
    }

    fn counters(&mut self) -> Option<Record<'a>> {
        Some(Record::Counters {
            next_seq: self.seq()?,
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::SEQ_MAX;

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
            MESSAGE,
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
            id: None,
            content,
        };
        assert_eq!(decode(&out), Ok(expected));
        identified_head(&mut out, 5, 6, &[7], b"id", b"a.b", b"");
        out.extend_from_slice(b"a.bxyz");
        let expected = Record::Message {
            copy: false,
            seq: 5,
            published_us: 6,
            queues: vec![7],
            id: Some(b"id"),
            content,
        };
        assert_eq!(decode(&out), Ok(expected));
        for options in [None, Some(all_options()), Some(Box::default())] {
            let mut queue = Queue::new((*b"a.>").into(), "alice");
            queue.options.clone_from(&options);
            create(&mut out, 7, &queue, &[1, 2, 9]);
            let expected = Record::Create {
                queue: 7,
                pattern: b"a.>",
                name: "alice",
                options: options.clone(),
                holds: vec![1, 2, 9],
            };
            assert_eq!(decode(&out), Ok(expected));
            restate(&mut out, 7, &queue);
            let expected = Record::Restate {
                queue: 7,
                pattern: b"a.>",
                name: "alice",
                options,
            };
            assert_eq!(decode(&out), Ok(expected));
        }
        delete(&mut out, 7);
        assert_eq!(decode(&out), Ok(Record::Delete { queue: 7 }));
        settle(&mut out, 7, &[3, 1 << 40]);
        assert_eq!(
            decode(&out),
            Ok(Record::Settle {
                queue: 7,
                seqs: vec![3, 1 << 40]
            })
        );
        // What older programs wrote.
        assert_eq!(
            decode(&[CONSUME, 7, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]),
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

    fn all_options() -> Box<QueueOptions> {
        Box::new(QueueOptions {
            messages_max: Some(1),
            bytes_max: Some(u64::MAX),
            age_max_us: Some(3),
            overflow: Overflow::DropOldest,
            deliveries_max: Some(u32::MAX),
            dead_letter: Some((*b"dead.letters").into()),
        })
    }

    #[test]
    fn an_unknown_kind_says_so() {
        assert_eq!(
            decode(&[99]),
            Err("record kind 99 is unknown; use the newer program".into())
        );
        assert!(decode(&[]).is_err());
    }

    #[test]
    fn numbers_that_no_message_has_are_refused() {
        let mut out = Vec::new();
        let numbers = [0, 1, SEQ_MAX, SEQ_MAX + 1];
        for (seq, fits) in numbers.into_iter().zip([false, true, true, false]) {
            message_head(&mut out, COPY, seq, 0, &[1], b"", b"");
            assert_eq!(decode(&out).is_ok(), fits, "{seq}");
            settle(&mut out, 1, &[seq]);
            assert_eq!(decode(&out).is_ok(), fits, "{seq}");
            counters(&mut out, seq, 1);
            assert_eq!(decode(&out).is_ok(), fits, "{seq}");
        }
        settle(&mut out, 1, &[7, 7]);
        assert!(decode(&out).is_err(), "one number twice");
    }

    proptest! {
        #[test]
        fn decoding_anything_neither_panics_nor_asks_for_much(bytes: Vec<u8>, kind in 1u8..12) {
            let mut all = vec![kind];
            all.extend(&bytes);
            if let Ok(Record::Create { holds, .. }) = decode(&all) {
                prop_assert!(holds.len() <= all.len());
            }
        }
    }
}
