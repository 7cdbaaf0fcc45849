//! Frames: how messages follow each other on a connection.
//!
//! ```text
//! u32 bytes of the body | u8 kind | body
//! ```
//! Invariant: a frame longer than [`FRAME_BYTES_MAX`] is refused before anything is allocated for it. Left to others:
//! what the bodies are.

use std::io::{self, Read, Write};

use super::WireError;

/// Bytes of a body: a pack with its head, or a piece of a large file.
pub const FRAME_BYTES_MAX: usize = 10 << 20;

const HEAD_BYTES: usize = 5;

/// What a frame's body is. Below 64 from the client, from there on from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// First word on the first connection of a session: a [`pinnace_proto::sync::Hello`].
    Hello = 1,
    /// First word on a further connection: a [`pinnace_proto::sync::Attach`].
    Attach = 2,
    /// Changes with sequence numbers.
    Pack = 3,
    /// A piece of a large file, of which a later change will speak.
    Piece = 4,
    /// Answer to an `Ask`: a [`pinnace_proto::sync::Answer`].
    Answer = 5,
    /// How the client is: a [`pinnace_proto::sync::ClientState`].
    State = 6,
    /// Something has to be said now and then, so that a dead peer is noticed.
    Ping = 7,
    /// Asks for everything committed to be synced now, also where nothing is synced otherwise.
    Sync = 8,
    /// Asks for the parts of chunks of a large file's old content.
    Detail = 9,
    /// The session is taken: a [`pinnace_proto::sync::Welcome`].
    Welcome = 64,
    /// It is not, or no longer: a [`pinnace_proto::sync::Refused`].
    Refused = 65,
    /// Rows of the server's index that the client does not know.
    Rows = 66,
    /// All rows were sent.
    RowsEnd = 67,
    /// Everything up to a number is in the share.
    Committed = 68,
    /// Everything up to a number will be there after a power cut too.
    Durable = 69,
    /// A change could not be made.
    Failed = 70,
    /// A question: a [`pinnace_proto::sync::Ask`].
    Ask = 71,
    /// Answer to a ping.
    Pong = 72,
    /// Answer to a `Detail`.
    Parts = 73,
}

const KINDS: &[FrameKind] = &[
    FrameKind::Hello,
    FrameKind::Attach,
    FrameKind::Pack,
    FrameKind::Piece,
    FrameKind::Answer,
    FrameKind::State,
    FrameKind::Ping,
    FrameKind::Sync,
    FrameKind::Detail,
    FrameKind::Welcome,
    FrameKind::Refused,
    FrameKind::Rows,
    FrameKind::RowsEnd,
    FrameKind::Committed,
    FrameKind::Durable,
    FrameKind::Failed,
    FrameKind::Ask,
    FrameKind::Pong,
    FrameKind::Parts,
];

/// Why there is no further frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection ended between two frames.
    #[error("the other side closed the connection")]
    Closed,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The other side sent what makes no sense.
    #[error("the other side broke the protocol: {0}")]
    Wire(#[from] WireError),
}

/// Reads one frame into `body`, whose memory is used again.
///
/// # Errors
/// The end of the connection, its failure, or a frame that is not allowed.
pub fn read_frame(from: &mut impl Read, body: &mut Vec<u8>) -> Result<FrameKind, FrameError> {
    let mut head = [0; HEAD_BYTES];
    let mut filled = 0;
    while filled < HEAD_BYTES {
        match from.read(&mut head[filled..]) {
            Ok(0) if filled == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let [a, b, c, d, kind] = head;
    let bytes = u32::from_le_bytes([a, b, c, d]) as usize;
    let kind = KINDS
        .iter()
        .find(|known| **known as u8 == kind)
        .ok_or(WireError::Value("a frame of an unknown kind"))?;
    if bytes > FRAME_BYTES_MAX {
        return Err(WireError::Value("a frame is longer than 10 MiB").into());
    }
    body.clear();
    // What is announced is allocated only as it arrives, up to the limit.
    let read = from.take(bytes as u64).read_to_end(body)?;
    if read < bytes {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(*kind)
}

/// The head of a frame with a body of so many bytes.
#[must_use]
pub fn head(kind: FrameKind, body_bytes: usize) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = (body_bytes as u32).to_le_bytes();
    [a, b, c, d, kind as u8]
}

/// Writes one frame whose body comes in parts.
///
/// # Errors
/// What the connection says.
pub fn write_frame(to: &mut impl Write, kind: FrameKind, parts: &[&[u8]]) -> io::Result<()> {
    let bytes = parts.iter().map(|part| part.len()).sum();
    let head = head(kind, bytes);
    // Small parts go out together with the head, large ones without being copied.
    let mut first = head.to_vec();
    let mut parts = parts.iter();
    for part in parts.by_ref() {
        if part.len() > 4096 {
            to.write_all(&first)?;
            first.clear();
            to.write_all(part)?;
        } else {
            first.extend_from_slice(part);
        }
    }
    if !first.is_empty() {
        to.write_all(&first)?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_each_other() {
        let large = vec![7; 5000];
        let mut stream = Vec::new();
        write_frame(&mut stream, FrameKind::Ping, &[]).unwrap();
        write_frame(&mut stream, FrameKind::Pack, &[b"ab", &large, b"c"]).unwrap();
        let mut from = &stream[..];
        let mut body = Vec::new();
        assert_eq!(read_frame(&mut from, &mut body).unwrap(), FrameKind::Ping);
        assert!(body.is_empty());
        assert_eq!(read_frame(&mut from, &mut body).unwrap(), FrameKind::Pack);
        assert_eq!(body, [&b"ab"[..], &large, b"c"].concat());
        assert!(matches!(
            read_frame(&mut from, &mut body),
            Err(FrameError::Closed)
        ));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let cut = head(FrameKind::Pack, 9);
        let long = head(FrameKind::Pack, FRAME_BYTES_MAX + 1);
        for (bytes, expected) in [
            (&cut[..], "failed to fill whole buffer"),
            (&cut[..3], "failed to fill whole buffer"),
            (&long, "longer than 10 MiB"),
            (&[0, 0, 0, 0, 99], "unknown kind"),
        ] {
            let mut from = bytes;
            let error = read_frame(&mut from, &mut Vec::new()).unwrap_err();
            let text = error.to_string();
            let expected = ["unexpected end of file", expected];
            assert!(expected.iter().any(|e| text.contains(e)), "{text}");
        }
    }
}
