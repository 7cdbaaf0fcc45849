//! The HTTP door's documents as typed calls.

use std::io::Read;

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::api::{Clients, Health, Info, Problem, Topics};
use pinnace_proto::upkeep::TopicsCheck;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{Request, Response, StatusCode};
use ureq::middleware::MiddlewareNext;
use ureq::{Agent, Body, SendBody};

use crate::limits::{ANSWER_BYTES_MAX, CONNECT_TIMEOUT, REQUEST_TIMEOUT};
use crate::login::Login;

/// A server, by its URL.
#[derive(Clone, Debug)]
pub struct Api {
    /// Without the login.
    base: String,
    login: Option<Login>,
    agent: Agent,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The URL is none this client speaks.
    #[error("`{0}` is no server URL; write http://HOST:PORT")]
    BadUrl(String),
    /// Nobody answered.
    #[error(
        "no pinnace server answers at {base}: {reason}. Start one with `pinnace serve`, or name yours with --server"
    )]
    Unreachable {
        /// The server asked.
        base: String,
        /// What the network said.
        reason: String,
    },
    /// The server refused, and said why.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// Somebody answered, but not as a Pinnace server does.
    #[error("what answers at {base} is no pinnace server of this version: {reason}")]
    NotPinnace {
        /// The server asked.
        base: String,
        /// What was odd.
        reason: String,
    },
}

impl ApiError {
    /// The stable code of a refusal, such as `no-such-run`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => Some(&problem.code),
            _ => None,
        }
    }
}

/// What a publish was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PublishAnswer {
    /// Sequence number, when it was stored.
    pub seq: Option<u64>,
    /// Queues it went to.
    pub queues: u64,
    /// Live subscribers it went to.
    pub live: u64,
}

/// A fetched message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Sequence number.
    pub seq: u64,
    /// Its content type.
    pub content_type: String,
    /// The message itself.
    pub payload: Vec<u8>,
}

impl Api {
    /// For the server at `url`, such as `http://127.0.0.1:7420` or `http://USER:PASSWORD@HOST:7420`. Does not
    /// connect yet.
    pub fn new(url: &str) -> Result<Self, ApiError> {
        let whole = url.trim_end_matches('/').strip_prefix("http://");
        let (login, host) = Login::split(whole.unwrap_or_default());
        if host.is_empty() || host.contains(['/', ' ', '?']) {
            // A login that was mistyped is shown to nobody.
            let shown = match (&login, whole) {
                (Some(_), Some(_)) => format!("http://…@{host}"),
                _ => url.to_owned(),
            };
            return Err(ApiError::BadUrl(shown));
        }
        let authorization = login.as_ref().map(Login::authorization);
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            .proxy(None)
            .middleware(
                move |mut request: Request<SendBody<'_>>, next: MiddlewareNext<'_>| {
                    let value = authorization.as_deref().and_then(|text| text.parse().ok());
                    if let Some(value) = value {
                        request.headers_mut().insert(AUTHORIZATION, value);
                    }
                    next.handle(request)
                },
            )
            .build()
            .new_agent();
        Ok(Self {
            base: format!("http://{host}"),
            login,
            agent,
        })
    }

    /// The URL it was made with.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Who answers, and where its doors are.
    pub fn info(&self) -> Result<Info, ApiError> {
        let info: Info = self.get("/-/info")?;
        if info.v != DOCUMENT_VERSION || info.server != "pinnace" {
            return Err(self.not_pinnace(&format!(
                "it says it is `{}` version {}",
                info.server, info.v
            )));
        }
        Ok(info)
    }

    /// Address of the NATS door as this client reaches it: the port of the server, and its host
    /// too when it listens on all of them. The login of this client stands before it.
    pub fn nats_address(&self) -> Result<String, ApiError> {
        let address = self.nats_host_and_port()?;
        Ok(match &self.login {
            Some(login) => login.at(&address),
            None => address,
        })
    }

    fn nats_host_and_port(&self) -> Result<String, ApiError> {
        let nats = self.info()?.nats;
        let address: std::net::SocketAddr = nats
            .parse()
            .map_err(|_| self.not_pinnace("its NATS address is none"))?;
        if !address.ip().is_unspecified() {
            return Ok(nats);
        }
        let host = self.base.trim_start_matches("http://");
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        Ok(format!("{host}:{}", address.port()))
    }

    /// Is it well?
    pub fn health(&self) -> Result<Health, ApiError> {
        self.get("/-/health")
    }

    /// The roster.
    pub fn clients(&self, history: bool) -> Result<Clients, ApiError> {
        self.get(if history {
            "/-/clients?history"
        } else {
            "/-/clients"
        })
    }

    /// Topics with their queues.
    pub fn topics(&self) -> Result<Topics, ApiError> {
        self.get("/-/topics")
    }

    /// Has the server check everything it stores; takes as long as it takes.
    pub fn check_topics(&self) -> Result<TopicsCheck, ApiError> {
        let request = self.agent.post(self.url("/-/topics/check"));
        let patient = request.config().timeout_global(None).build();
        let answer = self.check(patient.send_empty())?;
        self.document(answer)
    }

    /// A backup of everything the server stores, byte by byte as it comes.
    pub fn backup_topics(&self) -> Result<impl Read + use<>, ApiError> {
        self.get_patiently("/-/topics/backup")
    }

    /// Publishes and waits until it is as safe as its subscribers asked for.
    pub fn publish(
        &self,
        topic: &str,
        content_type: &str,
        payload: &[u8],
    ) -> Result<PublishAnswer, ApiError> {
        self.publish_with(topic, content_type, &[], payload)
    }

    /// Like `publish`, with headers that travel with the message: `Pinnace-…`.
    pub fn publish_with(
        &self,
        topic: &str,
        content_type: &str,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) -> Result<PublishAnswer, ApiError> {
        let url = self.url(&format!("/{}", segment(topic)));
        let mut request = self.agent.post(url).header("content-type", content_type);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.check(request.send(payload))?;
        let number = |name: &str| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok()?.parse().ok())
        };
        Ok(PublishAnswer {
            seq: number("pinnace-seq"),
            queues: number("pinnace-queues").unwrap_or(0),
            live: number("pinnace-live").unwrap_or(0),
        })
    }

    /// Makes sure that `subscriber` has a queue for `topic`.
    pub fn subscribe(&self, topic: &str, subscriber: &str) -> Result<(), ApiError> {
        let url = self.url(&format!("/{}/{}", segment(topic), segment(subscriber)));
        self.check(self.agent.post(url).send_empty()).map(drop)
    }

    /// Consumes the next message, waiting up to `wait_s` seconds for one.
    pub fn fetch(
        &self,
        topic: &str,
        subscriber: &str,
        wait_s: u64,
    ) -> Result<Option<Fetched>, ApiError> {
        let url = self.url(&format!(
            "/{}/{}?wait={wait_s}s",
            segment(topic),
            segment(subscriber)
        ));
        let mut answer = self.check(self.agent.get(url).call())?;
        if answer.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or("")
                .to_owned()
        };
        let (seq, content_type) = (header("pinnace-seq"), header("content-type"));
        let seq = seq
            .parse()
            .map_err(|_| self.not_pinnace("a message without Pinnace-Seq"))?;
        let payload = self.read(&mut answer)?;
        Ok(Some(Fetched {
            seq,
            content_type,
            payload,
        }))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A request whose answer may take long.
    pub(crate) fn post_patiently<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let request = self.agent.post(self.url(path)).config();
        let request = request.timeout_global(None).build();
        let answer = self.check(request.send_empty())?;
        self.document(answer)
    }

    /// An answer of any length, byte by byte as it comes.
    pub(crate) fn get_patiently(&self, path: &str) -> Result<impl Read + use<>, ApiError> {
        let request = self.agent.get(self.url(path)).config();
        let answer = self.check(request.timeout_global(None).build().call())?;
        Ok(answer.into_body().into_reader())
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let answer = self.check(self.agent.get(self.url(path)).call())?;
        self.document(answer)
    }

    pub(crate) fn remove(&self, path: &str) -> Result<(), ApiError> {
        self.check(self.agent.delete(self.url(path)).call())
            .map(drop)
    }

    pub(crate) fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, ApiError> {
        let body = serde_json::to_vec(document)
            .map_err(|error| self.not_pinnace(&format!("a request of ours is no JSON: {error}")))?;
        let request = self
            .agent
            .post(self.url(path))
            .header("content-type", "application/json");
        let answer = self.check(request.send(&body))?;
        self.document(answer)
    }

    fn document<T: DeserializeOwned>(&self, mut answer: Response<Body>) -> Result<T, ApiError> {
        let body = self.read(&mut answer)?;
        serde_json::from_slice(&body).map_err(|error| self.not_pinnace(&error.to_string()))
    }

    fn read(&self, answer: &mut Response<Body>) -> Result<Vec<u8>, ApiError> {
        let body = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec();
        body.map_err(|error| self.unreachable(&error))
    }

    fn check(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ApiError> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let body = self.read(&mut answer)?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ApiError::Refused(Box::new(problem))),
            Err(_) => Err(self.not_pinnace(&format!("it answered {}", answer.status()))),
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> ApiError {
        ApiError::Unreachable {
            base: self.base.clone(),
            reason: error.to_string(),
        }
    }

    fn not_pinnace(&self, reason: &str) -> ApiError {
        ApiError::NotPinnace {
            base: self.base.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// A path segment, percent-encoded.
pub(crate) fn segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_before_anything_is_sent() {
        for good in [
            "http://127.0.0.1:7420",
            "http://[::1]:7420/",
            "http://lab-1",
            "http://a:b@lab-1:7420",
        ] {
            assert!(Api::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "lab-1:7420",
            "https://lab-1",
            "http://",
            "http://a/b",
            "ftp://a",
            "http://a:secret@",
        ] {
            let error = Api::new(bad).unwrap_err();
            assert!(matches!(error, ApiError::BadUrl(_)), "{bad}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert_eq!(
            Api::new("http://a:b@lab-1/").unwrap().base(),
            "http://lab-1"
        );
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(segment("a.b c/ü"), "a.b%20c%2F%C3%BC");
    }
}
