//! Who this client says it is: what stands before the `@` of a server's URL.
//!
//! Invariant: it is shown nowhere, neither in an error nor in a log.

use std::fmt;

use async_nats::ConnectOptions;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// `USER:PASSWORD` or `TOKEN`, percent-encoded as in a URL.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login(String);

/// The URL of a server with a user and password before its host, or a token alone, as [`crate::Api::new`]
/// takes it. A login that it has already stays.
#[must_use]
pub fn log_in(url: &str, name: &str, password: Option<&str>) -> String {
    let Some(host) = url.strip_prefix("http://") else {
        return url.to_owned();
    };
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    match (Login::split(host).0, password) {
        (Some(_), _) => url.to_owned(),
        (None, Some(password)) => {
            format!("http://{}:{}@{host}", encoded(name), encoded(password))
        }
        (None, None) => format!("http://{}@{host}", encoded(name)),
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(login)")
    }
}

impl Login {
    /// A host with or without a login before it, apart.
    pub(crate) fn split(host: &str) -> (Option<Self>, &str) {
        match host.rsplit_once('@') {
            Some((login, host)) => (Some(Self(login.to_owned())), host),
            None => (None, host),
        }
    }

    /// The address with the login before it, as [`Login::split`] takes it apart.
    pub(crate) fn at(&self, address: &str) -> String {
        format!("{}@{address}", self.0)
    }

    /// Value of the header `Authorization`.
    pub(crate) fn authorization(&self) -> String {
        match self.parts() {
            (user, Some(password)) => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
            }
            (token, None) => format!("Bearer {token}"),
        }
    }

    /// The same for a NATS client.
    pub(crate) fn options(&self) -> ConnectOptions {
        match self.parts() {
            (user, Some(password)) => ConnectOptions::with_user_and_password(user, password),
            (token, None) => ConnectOptions::with_token(token),
        }
    }

    /// User and password, or the token alone.
    fn parts(&self) -> (String, Option<String>) {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        match self.0.split_once(':') {
            Some((user, password)) => (decoded(user), Some(decoded(password))),
            None => (decoded(&self.0), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_a_user_or_a_token() {
        for (url, host, header) in [
            ("lab:1", "lab:1", None),
            ("a:b@lab:1", "lab:1", Some("Basic YTpi")),
            ("a:%40@lab", "lab", Some("Basic YTpA")),
            ("t0ken@lab", "lab", Some("Bearer t0ken")),
        ] {
            let (login, rest) = Login::split(url);
            let found = login.as_ref().map(Login::authorization);
            assert_eq!((rest, found.as_deref()), (host, header), "{url}");
            assert!(!format!("{login:?}").contains("t0ken"));
        }
        let (login, _) = Login::split("a:b@lab");
        assert_eq!(login.unwrap().at("127.0.0.1:4222"), "a:b@127.0.0.1:4222");
    }
}
