//! The API's description: as a document, and as a page that shows it.
//!
//! Invariant: the page needs nothing but itself, and what is in it runs no script but ours: the policy
//! it comes with names a number that is new for each answer.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use pinnace_proto::openapi;

use super::answer::{self, Answer};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");

/// The document, as it is served and as `docs/openapi.json` holds it.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", openapi::document()));

/// `GET /-/openapi.json`.
pub(super) fn document() -> Answer {
    answer::with_body("application/json", DOCUMENT.as_str())
}

/// `GET /-/docs`.
pub(super) fn page() -> Answer {
    let random = || RandomState::new().build_hasher().finish();
    let nonce = format!("{:016x}{:016x}", random(), random());
    // Inside a script element only this character could end it.
    let document = DOCUMENT.replace('<', "\\u003c");
    let page = PAGE
        .replace("@NONCE@", &nonce)
        .replace("@SCRIPT@", SCRIPT)
        .replace("@DOCUMENT@", &document);
    let mut answer = answer::with_body("text/html; charset=utf-8", page);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    // Letters, digits and quotes are always a header's value.
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    answer
}
