//! One connection to a server: whole protocol messages in, bytes out.
//!
//! Invariant: every read has a deadline, and nothing is lost between two reads. What a message holds
//! is escaped onto one line, so that a transcript is a list of lines.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::unread::Inquiry;

/// No server takes longer to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Payloads above this many bytes are shown by length and sum.
const SHOWN_BYTES: usize = 120;

pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    server: SocketAddr,
    /// Nonce of the latest INFO.
    pub(crate) nonce: Option<String>,
}

/// What came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A line, or a message with its payload, in the words of a transcript.
    Line(String),
    /// The connection ended.
    End,
}

impl Connection {
    pub(crate) fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).with_context(|| format!("connecting {server}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            server,
            nonce: None,
        })
    }

    /// Sends bytes. A server that has closed already is no failure of the script: what it said is
    /// still to be read.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    pub(crate) fn end(&mut self) {
        let _ = self.stream.get_mut().shutdown(Shutdown::Write);
    }

    /// The next line or message.
    pub(crate) fn receive(&mut self) -> Result<Received> {
        let Some(line) = self.line()? else {
            return Ok(Received::End);
        };
        if let Some(json) = line.strip_prefix("INFO ") {
            let info: serde_json::Value = serde_json::from_str(json)
                .with_context(|| format!("INFO that is no JSON: {line}"))?;
            self.nonce = info["nonce"].as_str().map(str::to_owned);
        }
        let Some(length) = payload_bytes(&line) else {
            return Ok(Received::Line(line));
        };
        let mut payload = vec![0; length + 2];
        match self.stream.read_exact(&mut payload) {
            Ok(()) => {}
            Err(error) if is_end(error.kind()) => {
                return Ok(Received::Line(format!("{line} | (cut off)")));
            }
            Err(error) => return Err(error).context("waiting for a payload"),
        }
        if !payload.ends_with(b"\r\n") {
            bail!("the payload of `{line}` is not followed by a line end");
        }
        payload.truncate(length);
        Ok(Received::Line(format!("{line} | {}", shown(&payload))))
    }

    fn line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(_) => {}
            Err(error) if is_end(error.kind()) => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("the server said nothing more, after `{}`", shown(&line))
                });
            }
        }
        if line.is_empty() {
            return Ok(None);
        }
        let whole = line.strip_suffix(b"\r\n");
        Ok(Some(match whole {
            Some(text) => shown_line(text),
            None => format!("{} (without line end)", shown(&line)),
        }))
    }

    /// Returns once the server has read all that was sent.
    pub(crate) fn wait_until_read(&self, inquiry: &Inquiry) -> Result<()> {
        let own = self.stream.get_ref().local_addr()?;
        let (SocketAddr::V4(server), SocketAddr::V4(own)) = (self.server, own) else {
            bail!("servers of scripts listen on IPv4");
        };
        let deadline = Instant::now() + PATIENCE;
        while inquiry.unread_bytes(server, own)? > 0 {
            if Instant::now() > deadline {
                bail!("the server does not read");
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
    )
}

/// Length of the payload that follows a MSG or HMSG line.
fn payload_bytes(line: &str) -> Option<usize> {
    let is_message = line.starts_with("MSG ") || line.starts_with("HMSG ");
    is_message.then(|| line.rsplit(' ').next()?.parse().ok())?
}

/// A line as it is; JSON and UTF-8 stay readable.
fn shown_line(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| shown(bytes))
}

fn shown(bytes: &[u8]) -> String {
    if bytes.len() > SHOWN_BYTES {
        // FNV-1a: enough to see that two payloads differ.
        let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        return format!("({} bytes, {sum:016x})", bytes.len());
    }
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn messages_are_read_whole_and_the_end_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connection = Connection::open(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"INFO {\"nonce\":\"n\"} \r\nMSG a 1 6\r\nPONG\r\n\r\nPONG\r\nHA")
            .unwrap();
        drop(peer);
        for expected in [
            "INFO {\"nonce\":\"n\"} ",
            "MSG a 1 6 | PONG\\r\\n",
            "PONG",
            "HA (without line end)",
        ] {
            let line = Received::Line(expected.to_owned());
            assert_eq!(connection.receive().unwrap(), line);
        }
        assert_eq!(connection.receive().unwrap(), Received::End);
        assert_eq!(connection.nonce.as_deref(), Some("n"));
    }

    #[test]
    fn long_payloads_are_told_apart_by_a_sum() {
        assert_ne!(shown(&[b'a'; 200]), shown(&[b'b'; 200]));
        assert!(shown(&[b'a'; 200]).starts_with("(200 bytes, "));
    }
}
