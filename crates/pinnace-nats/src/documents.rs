//! The two JSON documents of the protocol: `INFO` from the server, `CONNECT` from the client.
//!
//! Unknown fields of `CONNECT` are ignored: clients are newer than servers as often as not. Names of
//! fields match in any case, a null leaves a field as it was, and of a field that is said twice the last
//! counts, as in the reference.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer, Serialize};

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
    /// CONNECT has to carry credentials.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub auth_required: bool,
    /// What a client with a key signs; there only when keys are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Other addresses of this server, `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// Lame duck: the server is about to stop, and clients should go elsewhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ldm: bool,
    /// Set in the INFO that follows a client's first PING.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub connect_info: bool,
    /// Version of Pinnace, for people who look.
    pub pinnace: String,
}

/// What a client says of itself. Starts with the protocol's defaults; each CONNECT changes what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Wants `+OK` after every operation.
    pub verbose: bool,
    /// Wants subjects of publishes checked.
    pub pedantic: bool,
    /// A name for people.
    pub name: Option<String>,
    /// 1: may be sent INFO at any time.
    pub protocol: i64,
    /// Wants its own messages too.
    pub echo: bool,
    /// Understands headers.
    pub headers: bool,
    /// Wants to be told when nobody listens to a request.
    pub no_responders: bool,
    /// Who it says it is.
    pub credentials: Credentials,
}

/// How a client proves who it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Name of a user.
    pub user: Option<String>,
    /// Password of that user.
    pub password: Option<String>,
    /// A token that stands for itself.
    pub token: Option<String>,
    /// Public key of a user.
    pub nkey: Option<String>,
    /// The nonce of INFO signed with that key, base64 for URLs without padding.
    pub signature: Option<String>,
}

impl fmt::Debug for Credentials {
    /// Names only: what proves them belongs into no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("nkey", &self.nkey)
            .finish_non_exhaustive()
    }
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            name: None,
            protocol: 0,
            echo: true,
            headers: false,
            no_responders: false,
            credentials: Credentials::default(),
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
    /// Takes over what the JSON of a CONNECT says.
    ///
    /// # Errors
    /// See `ConnectError`; the connection is to be closed then.
    pub fn update(&mut self, json: &[u8]) -> Result<(), ConnectError> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        self.deserialize(&mut reader)
            .and_then(|()| reader.end())
            .map_err(|_| ConnectError::BadJson)?;
        if !matches!(self.protocol, 0 | 1) {
            return Err(ConnectError::BadProtocol);
        }
        if self.no_responders && !self.headers {
            return Err(ConnectError::NoRespondersWithoutHeaders);
        }
        Ok(())
    }

    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let proof = &mut self.credentials;
        match name {
            "verbose" => replace(&mut self.verbose, map),
            "pedantic" => replace(&mut self.pedantic, map),
            "protocol" => replace(&mut self.protocol, map),
            "echo" => replace(&mut self.echo, map),
            "headers" => replace(&mut self.headers, map),
            "no_responders" => replace(&mut self.no_responders, map),
            "name" => replace_text(&mut self.name, map),
            "user" => replace_text(&mut proof.user, map),
            "pass" => replace_text(&mut proof.password, map),
            "auth_token" => replace_text(&mut proof.token, map),
            "nkey" => replace_text(&mut proof.nkey, map),
            "sig" => replace_text(&mut proof.signature, map),
            "lang" | "version" => map.next_value::<Option<String>>().map(drop),
            "tls_required" => map.next_value::<Option<bool>>().map(drop),
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }
}

fn replace<'de, T, A>(field: &mut T, map: &mut A) -> Result<(), A::Error>
where
    T: serde::Deserialize<'de>,
    A: MapAccess<'de>,
{
    if let Some(value) = map.next_value()? {
        *field = value;
    }
    Ok(())
}

fn replace_text<'de, A: MapAccess<'de>>(
    field: &mut Option<String>,
    map: &mut A,
) -> Result<(), A::Error> {
    if let Some(value) = map.next_value::<Option<String>>()? {
        *field = Some(value).filter(|text| !text.is_empty());
    }
    Ok(())
}

impl<'de> DeserializeSeed<'de> for &mut Connect {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Connect {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the object of a CONNECT")
    }

    /// The reference reads null as nothing said.
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            self.field(&name.to_ascii_lowercase(), &mut map)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<Connect, ConnectError> {
        let mut connect = Connect::default();
        connect.update(json.as_bytes()).map(|()| connect)
    }

    #[test]
    fn connect_is_read_as_the_reference_reads_it() {
        for json in ["{}", "null", r#"{"name":null,"echo":null}"#] {
            assert_eq!(check(json), Ok(Connect::default()), "{json}");
        }
        let modern = r#"{"Verbose":true,"verbose":false,"echo":false,"headers":true,"no_responders":true,"protocol":1,"nonsense":[1]}"#;
        let connect = check(modern).unwrap();
        assert!(!connect.verbose && !connect.echo && connect.headers && connect.no_responders);
        for (json, error) in [
            ("{", ConnectError::BadJson),
            ("", ConnectError::BadJson),
            ("[]", ConnectError::BadJson),
            ("{} x", ConnectError::BadJson),
            (r#"{"verbose":3}"#, ConnectError::BadJson),
            (r#"{"lang":3}"#, ConnectError::BadJson),
            (r#"{"protocol":2}"#, ConnectError::BadProtocol),
            (
                r#"{"no_responders":true}"#,
                ConnectError::NoRespondersWithoutHeaders,
            ),
        ] {
            assert_eq!(check(json), Err(error), "{json}");
        }
    }

    #[test]
    fn a_second_connect_changes_only_what_it_names() {
        let mut connect = check(r#"{"verbose":false,"user":"a","pass":"b"}"#).unwrap();
        connect.update(br#"{"pedantic":false,"pass":""}"#).unwrap();
        assert!(!connect.verbose && !connect.pedantic);
        assert_eq!(connect.credentials.user.as_deref(), Some("a"));
        assert_eq!(connect.credentials.password, None);
    }

    #[test]
    fn what_proves_a_name_is_not_shown() {
        let connect = check(r#"{"user":"a","pass":"secret1","auth_token":"secret2"}"#).unwrap();
        let shown = format!("{connect:?}");
        assert!(
            shown.contains("\"a\"") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
