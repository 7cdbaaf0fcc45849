//! Who sends a request: `Authorization: Bearer TOKEN` or `Basic USER:PASSWORD`, and what its path needs.
//!
//! Invariant: a request gets past here only with a caller that may touch the topic it names; handlers ask
//! that caller about the rest. A header that was right is not checked anew while its connection lasts: a
//! hashed password takes a tenth of a second.

use std::sync::PoisonError;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request};
use pinnace_nats::Credentials;

use super::Context;
use super::answer::Failure;
use super::path::Route;
use crate::caller::{Action, Caller};

/// A header that was right, and whose it is.
pub(super) struct Recognised {
    header: Vec<u8>,
    caller: Caller,
}

/// The context of one request: that of its connection, with the caller its header names.
pub(super) fn admit<B>(
    context: &Context,
    route: &Route,
    request: &Request<B>,
) -> Result<Context, Failure> {
    let header = request.headers().get(AUTHORIZATION);
    let caller = if asks_nobody(route) {
        context.caller.clone()
    } else {
        recognise(context, header.map_or(b"", |header| header.as_bytes()))?
    };
    if !is_permitted(&caller, route, request.method()) {
        return Err(Failure::forbidden());
    }
    Ok(context.of(caller))
}

/// Probes have no credentials, and learn nothing that needs any.
fn asks_nobody(route: &Route) -> bool {
    matches!(route, Route::System(path) if matches!(&path[..], [page] if page == "health" || page == "ready"))
}

fn is_permitted(caller: &Caller, route: &Route, method: &Method) -> bool {
    match route {
        Route::Root | Route::System(_) => true,
        Route::Topic(topic) if *method == Method::POST => {
            caller.may(Action::PublishTo(topic.as_bytes()))
        }
        // A stream is not sifted: what matches must be permitted as a whole.
        Route::Pattern(pattern) => {
            let pattern = pattern.as_bytes();
            caller.may(Action::SubscribeTo(pattern, None))
                && caller.withheld(pattern, None).is_none()
        }
        Route::Topic(topic) | Route::Queue(topic, _) => {
            caller.may(Action::SubscribeTo(topic.as_bytes(), None))
        }
    }
}

fn recognise(context: &Context, header: &[u8]) -> Result<Caller, Failure> {
    let mut recognised = context
        .recognised
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(before) = &*recognised
        && before.header == header
    {
        return Ok(before.caller.clone());
    }
    let credentials = credentials(header).ok_or_else(|| {
        Failure::unauthorized(
            "`Authorization` takes `Bearer TOKEN` or `Basic`, base64 of USER:PASSWORD",
        )
    })?;
    let access = &context.harbour.access;
    let caller = access
        .admit(context.caller.address, &credentials, None)
        .map_err(|error| {
            let address = context.caller.address;
            tracing::warn!(%address, ?credentials, "{error}");
            Failure::unauthorized(error.to_string())
        })?;
    *recognised = Some(Recognised {
        header: header.to_vec(),
        caller: caller.clone(),
    });
    Ok(caller)
}

/// What a header says; nothing said is nobody in particular, and a header that cannot be read is none.
fn credentials(header: &[u8]) -> Option<Credentials> {
    let text = std::str::from_utf8(header).ok()?.trim();
    if text.is_empty() {
        return Some(Credentials::default());
    }
    let (scheme, proof) = text.split_once(' ')?;
    let proof = proof.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Credentials {
            token: Some(proof.to_owned()),
            ..Credentials::default()
        });
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(proof).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some(Credentials {
        user: Some(user.to_owned()),
        password: Some(password.to_owned()),
        ..Credentials::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        for (header, user, password, token) in [
            ("", None, None, None),
            ("Bearer t0", None, None, Some("t0")),
            ("bearer  t0 ", None, None, Some("t0")),
            ("Basic YTpiOmM=", Some("a"), Some("b:c"), None),
        ] {
            let read = credentials(header.as_bytes()).unwrap();
            assert_eq!(read.user.as_deref(), user, "{header}");
            assert_eq!(read.password.as_deref(), password, "{header}");
            assert_eq!(read.token.as_deref(), token, "{header}");
        }
        for header in ["Bearer", "Digest x", "Basic !", "Basic YQ=="] {
            assert_eq!(credentials(header.as_bytes()), None, "{header}");
        }
    }
}
