//! Bytes from a client to one operation.
//!
//! ```text
//! PUB  <subject> [reply] <#payload>\r\n<payload>\r\n
//! HPUB <subject> [reply] <#headers> <#total>\r\n<headers><payload>\r\n
//! SUB  <subject> [group] <sid>\r\n          UNSUB <sid> [max]\r\n
//! CONNECT <json>\r\n     PING\r\n     PONG\r\n
//! ```
//!
//! Invariant: `decode` looks only at the bytes given and never reads past a limit before saying
//! so; the same bytes in any portions give the same operations.

use memchr::memchr;

use crate::limits::{CONTROL_LINE_BYTES_MAX, LINE_SLACK_BYTES, PAYLOAD_BYTES_MAX, SIZE_DIGITS_MAX};

/// What a connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest message, headers and payload together, bytes.
    pub payload_bytes_max: usize,
    /// Longest arguments of one operation, bytes.
    pub control_line_bytes_max: usize,
    /// It said that it understands headers.
    pub headers: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            control_line_bytes_max: CONTROL_LINE_BYTES_MAX,
            headers: false,
        }
    }
}

/// One operation of a client; everything borrows from the buffer it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// `CONNECT` with its JSON, unread.
    Connect(&'a [u8]),
    /// `PUB` or `HPUB`.
    Publish {
        /// Where to.
        subject: &'a [u8],
        /// Where an answer should go.
        reply: Option<&'a [u8]>,
        /// Header block from `NATS/1.0` to its empty line; empty for `PUB`.
        headers: &'a [u8],
        /// The message itself.
        payload: &'a [u8],
    },
    /// `SUB`.
    Subscribe {
        /// Subject or pattern.
        subject: &'a [u8],
        /// Queue group.
        group: Option<&'a [u8]>,
        /// The client's name for this subscription.
        sid: &'a [u8],
    },
    /// `UNSUB`.
    Unsubscribe {
        /// Which subscription.
        sid: &'a [u8],
        /// Only after this many messages in all.
        max: Option<u64>,
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `INFO` with its JSON: a server's verb, allowed and without effect.
    Info(&'a [u8]),
    /// `+OK`: a server's verb, allowed and without effect.
    Okay,
    /// `-ERR`: a server's verb; a client that says it has given up.
    GivesUp,
}

/// Why the bytes are no operation; each ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No known verb, or a payload that is not followed by CR LF.
    #[error("Unknown Protocol Operation")]
    UnknownOperation,
    /// Arguments longer than [`Bounds::control_line_bytes_max`].
    #[error("maximum control line exceeded")]
    LineTooLong,
    /// The message announced is larger than the server takes.
    #[error("Maximum Payload Violation")]
    PayloadTooLarge,
    /// A known verb with arguments that make no sense; the reference closes without a word.
    #[error("arguments of a known operation make no sense")]
    BadArguments,
}

/// Reads the operation at the front of `bytes`: the operation and its length, or `None` when more
/// bytes are needed. Sizes are checked as soon as the control line is there.
#[inline]
pub fn decode<'a>(
    bytes: &'a [u8],
    bounds: &Bounds,
) -> Result<Option<(Op<'a>, usize)>, DecodeError> {
    if let Some(published) = plain_publish(bytes, bounds) {
        return Ok(Some(published));
    }
    let Some((verb, verb_bytes)) = Verb::at(bytes)? else {
        return Ok(None);
    };
    let Some((arguments, after)) = line(bytes, verb_bytes, verb, bounds)? else {
        return Ok(None);
    };
    let op = match verb {
        Verb::Pub => return publish(arguments, bytes, after, bounds, false),
        Verb::Hpub => return publish(arguments, bytes, after, bounds, true),
        Verb::Sub => subscribe(arguments)?,
        Verb::Unsub => unsubscribe(arguments)?,
        Verb::Connect => Op::Connect(arguments),
        Verb::Info => Op::Info(arguments),
        Verb::Ping => Op::Ping,
        Verb::Pong => Op::Pong,
        Verb::Okay => Op::Okay,
        Verb::Error => Op::GivesUp,
    };
    Ok(Some((op, after)))
}

/// The operation most servers spend their time on, as clients spell it: `PUB subject size`, single
/// blanks, no reply, wholly there. `None` leaves the bytes to the full reading, which would say the
/// same of what is read here, in twice the time.
#[inline]
fn plain_publish<'a>(bytes: &'a [u8], bounds: &Bounds) -> Option<(Op<'a>, usize)> {
    const VERB: &[u8] = b"PUB ";
    let rest = bytes.strip_prefix(VERB)?;
    let subject_bytes = rest.iter().position(|byte| *byte <= b' ')?;
    let (mut at, mut total) = (subject_bytes + 1, 0);
    while let digit @ b'0'..=b'9' = *rest.get(at)? {
        total = total * 10 + usize::from(digit - b'0');
        at += 1;
        if at > subject_bytes + 1 + SIZE_DIGITS_MAX {
            return None;
        }
    }
    let is_plain = subject_bytes > 0
        && rest[subject_bytes] == b' '
        && at > subject_bytes + 1
        && rest.get(at..at + 2)? == b"\r\n"
        && at <= bounds.control_line_bytes_max
        && total <= bounds.payload_bytes_max;
    let start = at + 2;
    let end = start + total;
    if !is_plain || rest.get(end..end + 2)? != b"\r\n" {
        return None;
    }
    let op = Op::Publish {
        subject: &rest[..subject_bytes],
        reply: None,
        headers: &[],
        payload: &rest[start..end],
    };
    Some((op, VERB.len() + end + 2))
}

/// The arguments between the verb and the line end, and where the next line begins; `None` when the
/// line has not wholly arrived.
#[inline]
fn line<'a>(
    bytes: &'a [u8],
    verb_bytes: usize,
    verb: Verb,
    bounds: &Bounds,
) -> Result<Option<(&'a [u8], usize)>, DecodeError> {
    let max = bounds.control_line_bytes_max;
    let rest = &bytes[verb_bytes..];
    let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
    if verb.needs_blank() && blanks == 0 {
        return match rest.is_empty() {
            true => Ok(None),
            false => Err(DecodeError::UnknownOperation),
        };
    }
    let arguments = &rest[blanks..];
    // What follows PING is of no interest and may be as long as any line.
    let found = memchr(b'\n', &arguments[..arguments.len().min(max + 2)]);
    let (arguments, is_whole) = match found {
        Some(end) => (&arguments[..end], true),
        None => (arguments, false),
    };
    let text = arguments.strip_suffix(b"\r").unwrap_or(arguments);
    if text.len() > max || blanks > LINE_SLACK_BYTES {
        return Err(DecodeError::LineTooLong);
    }
    Ok(is_whole.then_some((text, verb_bytes + blanks + arguments.len() + 1)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Pub,
    Hpub,
    Sub,
    Unsub,
    Connect,
    Ping,
    Pong,
    Info,
    Okay,
    Error,
}

const VERBS: [(&[u8], Verb); 10] = [
    (b"PUB", Verb::Pub),
    (b"HPUB", Verb::Hpub),
    (b"SUB", Verb::Sub),
    (b"UNSUB", Verb::Unsub),
    (b"CONNECT", Verb::Connect),
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"INFO", Verb::Info),
    (b"+OK", Verb::Okay),
    (b"-ERR", Verb::Error),
];

impl Verb {
    /// The verb at the front and its length; `None` while it can still become one. No verb is the
    /// beginning of another, so a stranger speaking another protocol is told at the first letter
    /// that is wrong.
    #[inline]
    fn at(bytes: &[u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        if bytes.starts_with(b"PUB") {
            return Ok(Some((Self::Pub, 3)));
        }
        let mut possible = false;
        for (name, verb) in &VERBS {
            let common = name.len().min(bytes.len());
            if name[..common].eq_ignore_ascii_case(&bytes[..common]) {
                if common == name.len() {
                    return Ok(Some((*verb, common)));
                }
                possible = true;
            }
        }
        match possible {
            true => Ok(None),
            false => Err(DecodeError::UnknownOperation),
        }
    }

    /// Whether letters that follow it at once make it another word.
    #[inline]
    fn needs_blank(self) -> bool {
        matches!(
            self,
            Self::Pub | Self::Hpub | Self::Sub | Self::Unsub | Self::Error
        )
    }
}

#[inline]
fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// At most `N` arguments; `None` when there are more. A stray carriage return parts words too.
#[inline]
fn split<const N: usize>(arguments: &[u8]) -> Option<([&[u8]; N], usize)> {
    let mut parts: [&[u8]; N] = [&[]; N];
    let mut count = 0;
    for part in arguments
        .split(|b| is_blank(*b) || *b == b'\r')
        .filter(|part| !part.is_empty())
    {
        *parts.get_mut(count)? = part;
        count += 1;
    }
    Some((parts, count))
}

#[inline]
fn number(digits: &[u8]) -> Result<u64, DecodeError> {
    if digits.is_empty() || digits.len() > SIZE_DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit)
    {
        return Err(DecodeError::BadArguments);
    }
    Ok(digits
        .iter()
        .fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

#[inline]
fn publish<'a>(
    arguments: &'a [u8],
    bytes: &'a [u8],
    after: usize,
    bounds: &Bounds,
    with_headers: bool,
) -> Result<Option<(Op<'a>, usize)>, DecodeError> {
    if with_headers && !bounds.headers {
        return Err(DecodeError::BadArguments);
    }
    let (parts, count) = split::<4>(arguments).ok_or(DecodeError::BadArguments)?;
    let sizes = if with_headers { 2 } else { 1 };
    let reply = match count.checked_sub(sizes) {
        Some(1) => None,
        Some(2) => Some(parts[1]),
        _ => return Err(DecodeError::BadArguments),
    };
    let total = number(parts[count - 1])?;
    let header_bytes = if with_headers {
        number(parts[count - 2])?
    } else {
        0
    };
    if header_bytes > total {
        return Err(DecodeError::BadArguments);
    }
    if total > bounds.payload_bytes_max as u64 {
        return Err(DecodeError::PayloadTooLarge);
    }
    let (total, header_bytes) = (total as usize, header_bytes as usize);
    let Some(end) = bytes.get(after + total..after + total + 2) else {
        return match bytes.get(after + total) {
            Some(byte) if *byte != b'\r' => Err(DecodeError::UnknownOperation),
            _ => Ok(None),
        };
    };
    if end != b"\r\n" {
        return Err(DecodeError::UnknownOperation);
    }
    let (headers, payload) = bytes[after..after + total].split_at(header_bytes);
    let op = Op::Publish {
        subject: parts[0],
        reply,
        headers,
        payload,
    };
    Ok(Some((op, after + total + 2)))
}

fn subscribe(arguments: &[u8]) -> Result<Op<'_>, DecodeError> {
    match split::<3>(arguments) {
        Some(([subject, sid, _], 2)) => Ok(Op::Subscribe {
            subject,
            group: None,
            sid,
        }),
        Some(([subject, group, sid], 3)) => Ok(Op::Subscribe {
            subject,
            group: Some(group),
            sid,
        }),
        _ => Err(DecodeError::BadArguments),
    }
}

fn unsubscribe(arguments: &[u8]) -> Result<Op<'_>, DecodeError> {
    match split::<2>(arguments) {
        Some(([sid, _], 1)) => Ok(Op::Unsubscribe { sid, max: None }),
        // The reference reads a maximum it cannot parse as none.
        Some(([sid, max], 2)) => Ok(Op::Unsubscribe {
            sid,
            max: number(max).ok().filter(|max| *max > 0),
        }),
        _ => Err(DecodeError::BadArguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds {
        payload_bytes_max: 1 << 20,
        control_line_bytes_max: CONTROL_LINE_BYTES_MAX,
        headers: true,
    };

    fn check(bytes: &[u8], expected: Result<Option<(Op<'_>, usize)>, DecodeError>) {
        assert_eq!(decode(bytes, &BOUNDS), expected, "{}", bytes.escape_ascii());
    }

    fn publish_op<'a>(subject: &'a str, reply: Option<&'a str>, payload: &'a str) -> Op<'a> {
        Op::Publish {
            subject: subject.as_bytes(),
            reply: reply.map(str::as_bytes),
            headers: b"",
            payload: payload.as_bytes(),
        }
    }

    #[test]
    fn every_verb_is_read() {
        check(b"PING\r\n", Ok(Some((Op::Ping, 6))));
        check(b"ping\nPONG\r\n", Ok(Some((Op::Ping, 5))));
        check(
            b"CONNECT {\"a\":1} \r\n",
            Ok(Some((Op::Connect(b"{\"a\":1} "), 18))),
        );
        check(
            b"PUB a 2\r\nhi\r\n",
            Ok(Some((publish_op("a", None, "hi"), 13))),
        );
        check(
            b"pub\ta  r\t0\r\n\r\n",
            Ok(Some((publish_op("a", Some("r"), ""), 14))),
        );
        check(
            b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
            Ok(Some((
                Op::Publish {
                    subject: b"a",
                    reply: None,
                    headers: b"NATS/1.0\r\n\r\n",
                    payload: b"hi",
                },
                30,
            ))),
        );
        check(
            b"SUB a.* 7\r\n",
            Ok(Some((
                Op::Subscribe {
                    subject: b"a.*",
                    group: None,
                    sid: b"7",
                },
                11,
            ))),
        );
        check(
            b"SUB a g 7\r\n",
            Ok(Some((
                Op::Subscribe {
                    subject: b"a",
                    group: Some(b"g"),
                    sid: b"7",
                },
                11,
            ))),
        );
        check(
            b"UNSUB 7 5\r\n",
            Ok(Some((
                Op::Unsubscribe {
                    sid: b"7",
                    max: Some(5),
                },
                11,
            ))),
        );
        check(b"INFO {}\r\n", Ok(Some((Op::Info(b"{}"), 9))));
        check(b"+ok thanks\n", Ok(Some((Op::Okay, 11))));
        check(b"-ERR 'no'\r\n", Ok(Some((Op::GivesUp, 11))));
        check(b"PINGX\r\r\n", Ok(Some((Op::Ping, 8))));
        check(b"CONNECT{}\r\n", Ok(Some((Op::Connect(b"{}"), 11))));
    }

    #[test]
    fn what_makes_no_sense_is_refused_as_the_reference_does() {
        use DecodeError::{BadArguments, LineTooLong, PayloadTooLarge, UnknownOperation};
        check(b"GET / HTTP/1.1\r\n", Err(UnknownOperation));
        check(b"GET", Err(UnknownOperation));
        check(b"PUBX", Err(UnknownOperation));
        check(b"SUB\r\n", Err(UnknownOperation));
        check(b"\r\n", Err(UnknownOperation));
        check(b"PUB a 2\nhi\n", Err(UnknownOperation));
        check(b"PUB a 2\r\nhiX", Err(UnknownOperation));
        check(b"PUB a abc\r\n", Err(BadArguments));
        check(b"PUB a -1\r\n", Err(BadArguments));
        check(b"PUB a\r\n", Err(BadArguments));
        check(b"HPUB a 9 2\r\n", Err(BadArguments));
        check(b"SUB a b c d\r\n", Err(BadArguments));
        check(b"PUB a 1048577\r\n", Err(PayloadTooLarge));
        check(b"PUB a 1234567890\r\n", Err(BadArguments));
        check(&[b'P'; 1], Ok(None));
        let mut line = b"SUB ".to_vec();
        line.resize(4 + CONTROL_LINE_BYTES_MAX, b'a');
        check(&line, Ok(None));
        line.push(b'a');
        check(&line, Err(LineTooLong));
        check(&[&b"SUB"[..], &[b' '; 9_000]].concat(), Err(LineTooLong));
        let bounds = Bounds {
            headers: false,
            ..BOUNDS
        };
        assert_eq!(decode(b"HPUB a 12 14\r\n", &bounds), Err(BadArguments));
    }

    #[test]
    fn a_line_at_the_limit_passes_and_one_above_does_not() {
        for (length, passes) in [
            (CONTROL_LINE_BYTES_MAX, true),
            (CONTROL_LINE_BYTES_MAX + 1, false),
        ] {
            let mut line = b"SUB ".to_vec();
            line.resize(4 + length - 2, b'a');
            line.extend_from_slice(b" 1\r\n");
            assert_eq!(decode(&line, &BOUNDS).is_ok(), passes, "{length}");
        }
    }

    /// What the full reading makes of bytes, without the short way.
    fn full<'a>(bytes: &'a [u8], bounds: &Bounds) -> Result<Option<(Op<'a>, usize)>, DecodeError> {
        let (arguments, after) = line(bytes, 3, Verb::Pub, bounds)?.unwrap();
        publish(arguments, bytes, after, bounds, false)
    }

    #[test]
    fn the_short_way_says_what_the_full_reading_says() {
        let bounds = Bounds {
            payload_bytes_max: 12,
            control_line_bytes_max: 9,
            headers: true,
        };
        for (text, is_short) in [
            ("PUB a 0\r\n\r\n", true),
            ("PUB a.b 2\r\nhi\r\n", true),
            ("PUB a 012\r\n0123456789ab\r\nPUB", true),
            ("PUB a\x01 2\r\nhi\r\n", false),
            ("PUB a 2 \r\nhi\r\n", false),
            ("PUB a  2\r\nhi\r\n", false),
            ("PUB a\t2\r\nhi\r\n", false),
            ("PUB a r 2\r\nhi\r\n", false),
            ("PUB a 2\nhi\r\n", false),
            ("PUB a 13\r\n0123456789abc\r\n", false),
            ("PUB abcdefg 1\r\nx\r\n", true),
            ("PUB abcdefgh 1\r\nx\r\n", false),
            ("PUB a 0000000002\r\nhi\r\n", false),
            ("PUB a 2\r\nhiX\r\n", false),
            ("PUB  2\r\nhi\r\n", false),
            ("PUB a \r\nhi\r\n", false),
        ] {
            let short = plain_publish(text.as_bytes(), &bounds);
            assert_eq!(short.is_some(), is_short, "{text:?}");
            if short.is_some() {
                assert_eq!(Ok(short), full(text.as_bytes(), &bounds), "{text:?}");
            }
        }
    }

    proptest! {
        /// Arbitrary bytes never panic, and a prefix never decides otherwise than the whole.
        #[test]
        fn portions_do_not_matter(bytes in prop::collection::vec(prop_oneof![
            Just(b'P'), Just(b'U'), Just(b'B'), Just(b' '), Just(b'\r'), Just(b'\n'), Just(b'1'), any::<u8>()
        ], 0..40)) {
            let bounds = Bounds {
                payload_bytes_max: 16,
                control_line_bytes_max: 12,
                headers: true,
            };
            let whole = decode(&bytes, &bounds);
            for cut in 0..bytes.len() {
                match decode(&bytes[..cut], &bounds) {
                    Ok(None) => {}
                    Ok(Some((op, length))) => prop_assert_eq!(&whole, &Ok(Some((op, length)))),
                    Err(error) => prop_assert_eq!(&whole, &Err(error)),
                }
            }
        }
    }
}
