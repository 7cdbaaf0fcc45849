//! Answers and failures: everything this door says back has one of these shapes.
//!
//! A failure is an `application/problem+json` document (RFC 9457) with a stable code; the codes are
//! listed in `docs/formats/http.md`.

use std::io;

use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use pinnace_proto::api::Problem;
use serde::Serialize;
use tokio::sync::mpsc;

use super::body::Body;

/// Code of a request that came too late.
const STOPPING: &str = "server-stopping";

pub(super) type Answer = Response<Body>;

/// An answer with a body of the given type.
pub(super) fn with_body(content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::from(body.into()));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// 200 with a body that somebody makes while it is sent.
pub(super) fn piped(
    content_type: &'static str,
    pieces: mpsc::Receiver<io::Result<Bytes>>,
) -> Answer {
    let mut answer = Response::new(Body::Piped(pieces));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// 200 with an empty body.
pub(super) fn empty() -> Answer {
    Response::new(Body::default())
}

/// An answer with a status and nothing else.
pub(super) fn status(status: StatusCode) -> Answer {
    let mut answer = empty();
    *answer.status_mut() = status;
    answer
}

/// 200 with a JSON document.
pub(super) fn json<T: Serialize>(document: &T) -> Result<Answer, Failure> {
    let mut body = serde_json::to_vec_pretty(document)
        .map_err(|error| Failure::internal(&format!("an answer of ours is no JSON: {error}")))?;
    body.push(b'\n');
    Ok(with_body("application/json", body))
}

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    allow: Option<&'static str>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)
    }
}

impl Failure {
    /// Stable, for programs.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// What was wrong, where, and what to do.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: String) -> Self {
        Self {
            status,
            code,
            title,
            detail,
            allow: None,
        }
    }

    /// 400: the request makes no sense.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            code,
            "The request makes no sense",
            detail.into(),
        )
    }

    /// 401: somebody has to say who they are, or did not prove it.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Who is there?",
            detail.into(),
        )
    }

    /// 403: not for this caller.
    pub(crate) fn forbidden() -> Self {
        let detail = "you may not do that on this server".to_owned();
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not permitted", detail)
    }

    /// 403: a web page of another origin asks.
    pub(crate) fn foreign_origin() -> Self {
        let detail = "a web page may only open sockets to the server it came from".to_owned();
        let title = "Not permitted";
        Self::new(StatusCode::FORBIDDEN, "foreign-origin", title, detail)
    }

    /// 404: there is no such thing.
    pub(crate) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            code,
            "There is no such thing",
            detail.into(),
        )
    }

    /// 405 with the methods that would do.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this path takes {allow}");
        let title = "Method not allowed";
        Self {
            allow: Some(allow),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                title,
                detail,
            )
        }
    }

    /// 408: the body did not come.
    pub(crate) fn timeout(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "Too slow",
            detail.into(),
        )
    }

    /// 409: somebody else has it.
    pub(crate) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, "Already taken", detail.into())
    }

    /// 426: this path speaks another protocol.
    pub(crate) fn upgrade_required(protocol: &str) -> Self {
        Self::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade-required",
            "Another protocol is spoken here",
            format!("ask for it with `Connection: Upgrade` and `Upgrade: {protocol}`"),
        )
    }

    /// 410: it was there once.
    pub(crate) fn gone(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, code, "Gone", detail.into())
    }

    /// 500: the disk would not give what is on it.
    pub(crate) fn unreadable(detail: impl Into<String>) -> Self {
        let title = "The disk cannot be read";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "unreadable",
            title,
            detail.into(),
        )
    }

    /// 413 with the limit.
    pub(crate) fn too_large(limit_bytes: usize) -> Self {
        let detail = format!("the body is larger than the {limit_bytes} bytes this server takes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "Too large",
            detail,
        )
    }

    /// 507: no room, in a queue or on the disk.
    pub(crate) fn no_room(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            code,
            "No room",
            detail.into(),
        )
    }

    /// 503: storage failed; nothing durable is taken any more.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let title = "Storage has failed";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "storage-failed",
            title,
            detail.into(),
        )
    }

    /// 503: the server is going down.
    pub(super) fn stopping() -> Self {
        let detail = "the server is going down; try again in a moment".to_owned();
        let title = "Going down";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, STOPPING, title, detail)
    }

    /// 500: our fault.
    pub(crate) fn internal(detail: &str) -> Self {
        tracing::error!(detail, "internal error");
        let title = "Something went wrong here";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            title,
            detail.to_owned(),
        )
    }

    pub(super) fn into_answer(self) -> Answer {
        let problem = Problem {
            kind: format!("urn:pinnace:problem:{}", self.code),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.to_owned(),
        };
        // A struct of texts and a number always has a JSON form.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut answer = with_body("application/problem+json", body);
        *answer.status_mut() = self.status;
        if self.code == STOPPING {
            answer
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let ways = HeaderValue::from_static("Basic realm=\"pinnace\", Bearer");
            answer.headers_mut().insert(WWW_AUTHENTICATE, ways);
        }
        if let Some(allow) = self.allow {
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allow));
        }
        answer
    }
}
