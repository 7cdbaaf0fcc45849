//! Operations of a server to bytes, appended to a buffer that a connection owns.
//!
//! Invariant: a whole operation is appended or nothing; no function here allocates beyond the
//! growth of that buffer.

use crate::documents::ServerInfo;

/// Answer to a well-formed operation of a verbose client.
pub const OK: &[u8] = b"+OK\r\n";
/// Are you there?
pub const PING: &[u8] = b"PING\r\n";
/// I am.
pub const PONG: &[u8] = b"PONG\r\n";
/// Start of the header block that says nobody listens.
pub const NO_RESPONDERS: &[u8] = b"NATS/1.0 503\r\n";

/// Appends `INFO {json} \r\n`.
pub fn write_info(out: &mut Vec<u8>, info: &ServerInfo) {
    // The type holds nothing that JSON cannot, so this cannot fail; a failure would show as `{}`.
    let json = serde_json::to_vec(info).unwrap_or_else(|_| b"{}".to_vec());
    out.extend_from_slice(b"INFO ");
    out.extend_from_slice(&json);
    out.extend_from_slice(b" \r\n");
}

/// Appends `-ERR '<text>'\r\n`.
pub fn write_err(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"-ERR '");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"'\r\n");
}

/// Appends a message: `MSG` without headers, `HMSG` with them.
#[inline]
pub fn write_msg(
    out: &mut Vec<u8>,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    headers: &[u8],
    payload: &[u8],
) {
    let fixed = subject.len() + sid.len() + reply.map_or(0, <[u8]>::len);
    out.reserve(fixed + headers.len() + payload.len() + 64);
    out.extend_from_slice(if headers.is_empty() {
        b"MSG "
    } else {
        b"HMSG "
    });
    out.extend_from_slice(subject);
    out.push(b' ');
    out.extend_from_slice(sid);
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    if !headers.is_empty() {
        write_number(out, headers.len());
        out.push(b' ');
    }
    write_number(out, headers.len() + payload.len());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// The header block of a "no responders" answer to a request on `subject`.
pub fn no_responders_headers(subject: &[u8]) -> Vec<u8> {
    [NO_RESPONDERS, b"Nats-Subject: ", subject, b"\r\n\r\n"].concat()
}

#[inline]
fn write_number(out: &mut Vec<u8>, mut number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn msg(reply: Option<&[u8]>, headers: &[u8], payload: &[u8]) -> String {
        let mut out = Vec::new();
        write_msg(&mut out, b"a.b", b"7", reply, headers, payload);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn messages_have_the_shape_of_the_protocol() {
        assert_eq!(msg(None, b"", b"hi"), "MSG a.b 7 2\r\nhi\r\n");
        assert_eq!(msg(Some(b"r"), b"", b""), "MSG a.b 7 r 0\r\n\r\n");
        assert_eq!(
            msg(Some(b"r"), b"NATS/1.0\r\n\r\n", b"0123456789"),
            "HMSG a.b 7 r 12 22\r\nNATS/1.0\r\n\r\n0123456789\r\n"
        );
        let mut out = Vec::new();
        write_err(&mut out, "Invalid Subject");
        assert_eq!(out, b"-ERR 'Invalid Subject'\r\n");
    }

    #[test]
    fn nobody_listens_names_the_subject() {
        assert_eq!(
            no_responders_headers(b"a.b"),
            b"NATS/1.0 503\r\nNats-Subject: a.b\r\n\r\n"
        );
    }
}
