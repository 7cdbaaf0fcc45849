//! The two JSON documents of the protocol: `INFO` from the server, `CONNECT` from the client.
//!
//! Unknown fields of `CONNECT` are ignored: clients are newer than servers as often as not.

use serde::{Deserialize, Serialize};

/// What the server says of itself; the fields clients read.
#[derive(Clone, Debug, Serialize)]
pub struct ServerInfo {
    /// Random name of this server process.
    pub server_id: String,
    /// A name for people.
    pub server_name: String,
    /// Protocol level that clients gate features by: a version of the reference server.
    pub version: String,
    /// Protocol version, 1: the client may get INFO at any time.
    pub proto: u32,
    /// Address of the door.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Headers are understood.
    pub headers: bool,
    /// Largest message, bytes.
    pub max_payload: usize,
    /// Number of this connection.
    pub client_id: u64,
    /// The client's address as the server sees it.
    pub client_ip: String,
    /// Set in the INFO that follows a client's first PING.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub connect_info: bool,
    /// Version of Pinnace, for people who look.
    pub pinnace: String,
}

/// What a client says of itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Connect {
    /// Wants `+OK` after every operation.
    pub verbose: bool,
    /// Wants subjects of publishes checked.
    pub pedantic: bool,
    /// A name for people.
    pub name: Option<String>,
    /// Language of the client library.
    pub lang: Option<String>,
    /// Version of the client library.
    pub version: Option<String>,
    /// 1: may be sent INFO at any time.
    pub protocol: i64,
    /// Wants its own messages too.
    pub echo: bool,
    /// Understands headers.
    pub headers: bool,
    /// Wants to be told when nobody listens to a request.
    pub no_responders: bool,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: false,
            name: None,
            lang: None,
            version: None,
            protocol: 0,
            echo: true,
            headers: false,
            no_responders: false,
        }
    }
}

/// Why a CONNECT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Not JSON of the right shape; the reference closes without a word.
    #[error("CONNECT holds no valid JSON")]
    BadJson,
    /// `protocol` is neither 0 nor 1.
    #[error("invalid client protocol")]
    BadProtocol,
    /// `no_responders` without `headers`.
    #[error("no responders requires headers support")]
    NoRespondersWithoutHeaders,
}

impl Connect {
    /// Reads the JSON of a CONNECT and checks it.
    pub fn parse(json: &[u8]) -> Result<Self, ConnectError> {
        let connect: Self = serde_json::from_slice(json).map_err(|_| ConnectError::BadJson)?;
        if !matches!(connect.protocol, 0 | 1) {
            return Err(ConnectError::BadProtocol);
        }
        if connect.no_responders && !connect.headers {
            return Err(ConnectError::NoRespondersWithoutHeaders);
        }
        Ok(connect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_is_read_as_the_reference_reads_it() {
        assert_eq!(Connect::parse(b"{}"), Ok(Connect::default()));
        let modern = br#"{"verbose":false,"echo":false,"headers":true,"no_responders":true,"protocol":1,"nonsense":[1]}"#;
        let connect = Connect::parse(modern).unwrap();
        assert!(!connect.verbose && !connect.echo && connect.headers && connect.no_responders);
        for (json, error) in [
            ("{", ConnectError::BadJson),
            ("", ConnectError::BadJson),
            (r#"{"verbose":3}"#, ConnectError::BadJson),
            (r#"{"protocol":2}"#, ConnectError::BadProtocol),
            (
                r#"{"no_responders":true}"#,
                ConnectError::NoRespondersWithoutHeaders,
            ),
        ] {
            assert_eq!(Connect::parse(json.as_bytes()), Err(error), "{json}");
        }
    }
}
