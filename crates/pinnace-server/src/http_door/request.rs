//! Reading requests: query strings, bounded bodies, and headers that travel with a message.
//!
//! A message's headers are kept as the header block of the NATS protocol, so that a message is the
//! same whichever door it came through and goes out of.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use percent_encoding::percent_decode_str;

use super::answer::Failure;
use crate::limits::HTTP_BODY_TIMEOUT;

const BLOCK_START: &[u8] = b"NATS/1.0\r\n";

/// What a request asks for by name, as texts; each at most once.
pub(crate) type Parameters = Vec<(String, String)>;

/// Refuses a parameter that is not among those that are known.
pub(crate) fn check_known(key: &str, known: &[&str]) -> Result<(), Failure> {
    if known.contains(&key) {
        return Ok(());
    }
    let hint = match known {
        [] => "none here".to_owned(),
        known => known.join(", "),
    };
    let detail = format!("`{key}` is not a parameter here; known: {hint}");
    Err(Failure::bad_request("unknown-parameter", detail))
}

/// The parameters of a query string, decoded; each at most once.
pub(super) fn parameters(uri: &Uri, known: &[&str]) -> Result<Parameters, Failure> {
    let mut parameters = Parameters::new();
    for pair in uri
        .query()
        .unwrap_or("")
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        check_known(key, known)?;
        if parameters.iter().any(|(seen, _)| seen == key) {
            let detail = format!("`{key}` is given twice");
            return Err(Failure::bad_request("bad-parameter", detail));
        }
        let value = percent_decode_str(&value.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned();
        parameters.push((key.to_owned(), value));
    }
    Ok(parameters)
}

/// The body of a request.
pub(crate) enum Payload {
    /// All of it.
    Whole(Bytes),
    /// On its way.
    Arriving(Incoming),
}

/// Reads a body of at most `limit_bytes`.
pub(super) async fn body(request: Request<Payload>, limit_bytes: usize) -> Result<Bytes, Failure> {
    let body = match request.into_body() {
        Payload::Whole(body) if body.len() > limit_bytes => {
            return Err(Failure::too_large(limit_bytes));
        }
        Payload::Whole(body) => return Ok(body),
        Payload::Arriving(body) => body,
    };
    if body.size_hint().lower() > limit_bytes as u64 {
        return Err(Failure::too_large(limit_bytes));
    }
    let read = Limited::new(body, limit_bytes).collect();
    match tokio::time::timeout(HTTP_BODY_TIMEOUT, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Failure::too_large(limit_bytes))
        }
        Ok(Err(error)) => Err(Failure::bad_request(
            "bad-body",
            format!("the body did not arrive whole: {error}"),
        )),
        Err(_) => Err(Failure::timeout(format!(
            "the body did not arrive within {} s",
            HTTP_BODY_TIMEOUT.as_secs()
        ))),
    }
}

fn travels(name: &str) -> bool {
    name == "content-type" || name == "nats-msg-id" || name.starts_with("pinnace-")
}

/// The header block of a message from its request.
pub(super) fn to_block(headers: &HeaderMap) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| travels(name.as_str())) {
        if block.is_empty() {
            block.extend_from_slice(BLOCK_START);
        }
        block.extend_from_slice(spelled(name).as_bytes());
        block.extend_from_slice(b": ");
        block.extend_from_slice(value.as_bytes());
        block.extend_from_slice(b"\r\n");
    }
    if !block.is_empty() {
        block.extend_from_slice(b"\r\n");
    }
    block
}

/// Header names as NATS clients spell them (they compare exactly): each word capitalised.
fn spelled(name: &HeaderName) -> String {
    let mut upper = true;
    name.as_str()
        .chars()
        .map(|c| {
            let spelled = if upper { c.to_ascii_uppercase() } else { c };
            upper = c == '-';
            spelled
        })
        .collect()
}

/// The headers of a message as pairs; what is no header is left out.
pub(super) fn from_block(block: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
    let text = block.strip_prefix(BLOCK_START).unwrap_or(b"");
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
            Some((name, value))
        })
        .collect()
}

/// Puts a fetched message's own headers on its answer.
pub(super) fn restore_headers(block: &[u8], headers: &mut HeaderMap) {
    for (name, value) in from_block(block) {
        if travels(name.as_str()) {
            headers.insert(name, value);
        }
    }
    headers
        .entry(CONTENT_TYPE)
        .or_insert_with(|| HeaderValue::from_static("application/octet-stream"));
}

/// One parameter of a query string, as it is.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query().unwrap_or("").split('&');
    let values = pairs.filter_map(|pair| pair.split_once('='));
    let mut named = values.filter(|(key, _)| *key == name);
    named.next().map(|(_, value)| value.to_owned())
}

/// A number without a unit.
pub(crate) fn number(name: &str, text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| {
        let detail = format!("{name} is a number, not `{}`", text.escape_debug());
        Failure::bad_request("bad-parameter", detail)
    })
}

/// A number of bytes, as `10M`.
pub(crate) fn size(name: &str, text: &str) -> Result<u64, Failure> {
    pinnace_proto::units::parse_size(text)
        .map_err(|error| Failure::bad_request("bad-parameter", format!("{name}: {error}")))
}

/// A duration parameter, at most `max`.
pub(super) fn duration(name: &str, text: &str, max: Duration) -> Result<Duration, Failure> {
    let duration = pinnace_proto::units::parse_duration(text)
        .map_err(|error| Failure::bad_request("bad-parameter", format!("{name}: {error}")))?;
    Ok(duration.min(max))
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_travel_as_a_nats_block_and_come_back() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/plain"),
            ("pinnace-origin-host", "lab 1"),
            ("nats-msg-id", "7"),
            ("host", "secret"),
            ("authorization", "secret"),
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let block = to_block(&headers);
        let text = String::from_utf8(block.clone()).unwrap();
        assert!(
            text.starts_with("NATS/1.0\r\n") && text.ends_with("\r\n\r\n"),
            "{text}"
        );
        assert!(text.contains("Pinnace-Origin-Host: lab 1\r\n") && !text.contains("secret"));
        let mut back = HeaderMap::new();
        restore_headers(&block, &mut back);
        assert_eq!(back.len(), 3);
        assert_eq!(back["content-type"], "text/plain");
        assert!(to_block(&HeaderMap::new()).is_empty());
    }

    #[test]
    fn odd_blocks_are_left_out_line_by_line() {
        let mut headers = HeaderMap::new();
        restore_headers(b"NATS/1.0 503\r\n\r\n", &mut headers);
        restore_headers(
            b"NATS/1.0\r\nPinnace-A: 1\r\nno colon\r\nPinnace B: 2\r\n\r\n",
            &mut headers,
        );
        assert_eq!(headers.len(), 2, "{headers:?}");
        assert_eq!(headers["pinnace-a"], "1");
    }

    #[test]
    fn parameters_are_known_and_given_once() {
        let uri: Uri = "/a/b?wait=1s&max=5".parse().unwrap();
        assert_eq!(parameters(&uri, &["wait", "max"]).unwrap().len(), 2);
        assert!(
            parameters(&uri, &["wait"])
                .unwrap_err()
                .to_string()
                .contains("`max`")
        );
        let twice: Uri = "/a/b?max=1&max=2".parse().unwrap();
        assert!(parameters(&twice, &["max"]).is_err());
    }
    proptest! {
        /// Any query is read or refused; what is encoded comes through; a message's headers too.
        #[test]
        fn any_query_and_any_block_are_read(query in "(&|=|%[0-9a-fA-F]{0,2}|[a-c+]){0,30}", value in ".{0,20}", block: Vec<u8>) {
            if let Ok(uri) = format!("/t?{query}").parse::<Uri>() {
                let _ = parameters(&uri, &["a", "b", "c"]);
                let _ = parameter(&uri, "a");
            }
            let encoded = utf8_percent_encode(&value, NON_ALPHANUMERIC);
            let uri: Uri = format!("/t?a=1&b={encoded}").parse().unwrap();
            let expected = vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), value)];
            prop_assert_eq!(parameters(&uri, &["a", "b"]).ok(), Some(expected));
            let mut headers = HeaderMap::new();
            restore_headers(&[BLOCK_START, &block].concat(), &mut headers);
            let mut again = HeaderMap::new();
            restore_headers(&to_block(&headers), &mut again);
            prop_assert_eq!(again, headers);
        }
    }
}
