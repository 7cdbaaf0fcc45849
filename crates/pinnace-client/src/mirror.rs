//! Connections of a mirror: an HTTP request that becomes a stream of bytes in both directions.
//!
//! Invariant: what the server answers instead of a stream is told as it says it. Left to others: what goes over the
//! stream (`pinnace-sync`).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};

use pinnace_proto::api::Problem;
use pinnace_sync::client::{Connect, ConnectError};
use pinnace_sync::server::Link;

use crate::limits::{
    CONNECT_TIMEOUT, MIRROR_SILENCE_MAX, MIRROR_WRITE_MAX, UPGRADE_HEAD_BYTES_MAX,
};
use crate::login::Login;
use crate::{Api, ApiError};

/// Makes connections to a share of a server.
#[derive(Clone, Debug)]
pub struct MirrorServer {
    host: String,
    login: Option<Login>,
    share: String,
}

impl MirrorServer {
    /// For a share of the server at a URL, as [`Api::new`] takes it.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(url: &str, share: &str) -> Result<Self, ApiError> {
        Api::new(url)?;
        let whole = url.trim_end_matches('/').trim_start_matches("http://");
        let (login, host) = Login::split(whole);
        let host = match host.rsplit_once(':') {
            Some(_) => host.to_owned(),
            None => format!("{host}:80"),
        };
        Ok(Self {
            host,
            login,
            share: share.to_owned(),
        })
    }

    fn dial(&self) -> std::io::Result<TcpStream> {
        let mut failed = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in self.host.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn ask(&self, stream: &mut TcpStream) -> std::io::Result<(u16, Vec<u8>)> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(MIRROR_SILENCE_MAX))?;
        stream.set_write_timeout(Some(MIRROR_WRITE_MAX))?;
        let login = self.login.as_ref().map(Login::authorization);
        let login = login.map(|login| format!("Authorization: {login}\r\n"));
        let request = format!(
            "GET /-/shares/{}/session HTTP/1.1\r\nHost: {}\r\n{}Connection: Upgrade\r\nUpgrade: pinnace-sync/1\r\n\r\n",
            self.share,
            self.host,
            login.unwrap_or_default(),
        );
        stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        // Byte by byte: what comes after the head belongs to the session.
        while !head.ends_with(b"\r\n\r\n") && head.len() < UPGRADE_HEAD_BYTES_MAX {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Ok((status.unwrap_or(0), head))
    }

    fn refusal(&self, status: u16, head: &[u8], stream: &mut TcpStream) -> ConnectError {
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|length| length.trim().parse::<usize>().ok());
        let mut body = vec![0; length.unwrap_or(0).min(UPGRADE_HEAD_BYTES_MAX)];
        let read = stream.read_exact(&mut body);
        let problem = read
            .ok()
            .and_then(|()| serde_json::from_slice::<Problem>(&body).ok());
        ConnectError {
            detail: match problem {
                Some(problem) => problem.detail,
                None => format!(
                    "what answers at {} is no pinnace server of this version (status {status})",
                    self.host
                ),
            },
            is_final: status != 503,
        }
    }
}

impl Connect for MirrorServer {
    fn connect(&self) -> Result<Link, ConnectError> {
        let unreachable = |error: std::io::Error| ConnectError {
            detail: format!(
                "no pinnace server answers at {}: {error}. Start one with `pinnace serve`, or name yours with --server",
                self.host
            ),
            is_final: false,
        };
        let mut stream = self.dial().map_err(unreachable)?;
        let (status, head) = self.ask(&mut stream).map_err(unreachable)?;
        if status != 101 {
            return Err(self.refusal(status, &head, &mut stream));
        }
        let reader = stream.try_clone().map_err(unreachable)?;
        let close = stream.try_clone().map_err(unreachable)?;
        Ok(Link {
            reader: Box::new(std::io::BufReader::with_capacity(64 << 10, reader)),
            writer: Box::new(stream),
            close: Some(Box::new(move || {
                // One that is closed already is closed.
                let _ = close.shutdown(Shutdown::Both);
            })),
            address: self.host.clone(),
        })
    }
}
