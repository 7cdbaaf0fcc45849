//! Paths to meaning: segments are split first and percent-decoded after, so an encoded slash stays
//! inside its segment.

use percent_encoding::percent_decode_str;
use pinnace_topics::topic;

use super::answer::Failure;
use crate::limits::{SUBSCRIBER_BYTES_MAX, TOPIC_BYTES_MAX};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Root,
    /// `/-/…`, without the `-`.
    System(Vec<String>),
    Topic(String),
    /// A pattern with wildcards, which can only be listened to.
    Pattern(String),
    /// A topic and a subscriber.
    Queue(String, String),
}

impl Route {
    /// Whether it asks how the server is, which it answers to the end.
    pub(super) fn is_about_the_server(&self) -> bool {
        let Self::System(segments) = self else {
            return false;
        };
        matches!(
            segments.iter().map(String::as_str).collect::<Vec<_>>()[..],
            ["health" | "ready" | "metrics" | "info"]
        )
    }
}

/// What the path of a request means.
pub(super) fn route(path: &str) -> Result<Route, Failure> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Route::Root);
    }
    let mut segments = Vec::new();
    for segment in path.split('/') {
        let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| {
            Failure::bad_request("bad-path", format!("`{segment}` is not UTF-8 when decoded"))
        })?;
        segments.push(decoded.into_owned());
    }
    if segments[0] == "-" {
        segments.remove(0);
        return Ok(Route::System(segments));
    }
    match <[String; 1]>::try_from(segments) {
        Ok([topic]) if has_wildcards(&topic) => Ok(Route::Pattern(checked_pattern(topic)?)),
        Ok([topic]) => Ok(Route::Topic(checked_topic(topic)?)),
        Err(segments) => match <[String; 2]>::try_from(segments) {
            Ok([topic, subscriber]) => Ok(Route::Queue(
                checked_topic(topic)?,
                checked_subscriber(subscriber)?,
            )),
            Err(segments) => Err(Failure::not_found(
                "no-such-path",
                format!(
                    "a path is /<topic> or /<topic>/<subscriber>; this one has {} segments",
                    segments.len()
                ),
            )),
        },
    }
}

fn reserved(name: &str) -> bool {
    name.starts_with(['-', '_', '$'])
}

fn has_wildcards(name: &str) -> bool {
    topic::has_wildcards(name.as_bytes())
}

/// A topic to be published to or named exactly.
pub(crate) fn checked_topic(name: String) -> Result<String, Failure> {
    if has_wildcards(&name) {
        return Err(wildcards_refused(&name));
    }
    checked_pattern(name)
}

/// Refuses a pattern where a topic is needed.
pub(crate) fn wildcards_refused(name: &str) -> Failure {
    Failure::bad_request(
        "bad-topic",
        format!(
            "`{name}` is a pattern: it can be listened to, with `Accept: text/event-stream` or a \
             WebSocket; for anything else name a topic exactly"
        ),
    )
}

pub(crate) fn checked_pattern(name: String) -> Result<String, Failure> {
    let bad = |detail: String| Err(Failure::bad_request("bad-topic", detail));
    if reserved(&name) {
        return bad(format!(
            "`{name}` is reserved: topics do not begin with `-`, `_` or `$`"
        ));
    }
    if name.len() > TOPIC_BYTES_MAX {
        return bad(format!(
            "a topic has at most {TOPIC_BYTES_MAX} bytes, this one {}",
            name.len()
        ));
    }
    if !topic::is_valid_pattern(name.as_bytes()) || name.contains(char::is_control) {
        return bad(format!(
            "`{}` is no topic: tokens separated by dots, none empty, without spaces",
            name.escape_debug()
        ));
    }
    Ok(name)
}

pub(crate) fn checked_subscriber(name: String) -> Result<String, Failure> {
    let bad = |detail: String| Err(Failure::bad_request("bad-subscriber", detail));
    if reserved(&name) {
        return bad(format!(
            "`{name}` is reserved: subscribers do not begin with `-`, `_` or `$`"
        ));
    }
    if name.is_empty() || name.len() > SUBSCRIBER_BYTES_MAX || name.contains(char::is_control) {
        return bad(format!(
            "a subscriber's name has 1 to {SUBSCRIBER_BYTES_MAX} bytes and no control characters"
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn segments_are_decoded_after_splitting() {
        let queue = |topic: &str, name: &str| Route::Queue(topic.into(), name.into());
        for (path, expected) in [
            ("/", Route::Root),
            ("/a.b", Route::Topic("a.b".into())),
            ("/a.%3E", Route::Pattern("a.>".into())),
            ("/*", Route::Pattern("*".into())),
            ("/a/b", queue("a", "b")),
            ("/a%2Fb/c", queue("a/b", "c")),
            ("/k%C3%A4se/b%20c", queue("käse", "b c")),
            ("/-/runs/r", Route::System(vec!["runs".into(), "r".into()])),
        ] {
            assert_eq!(route(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for (path, code) in [
            ("/a/b/c", "no-such-path"),
            ("/a//", "no-such-path"),
            ("/a/", "bad-subscriber"),
            ("//a", "bad-topic"),
            ("/a..b", "bad-topic"),
            ("/a%20b", "bad-topic"),
            ("/a.%3E/b", "bad-topic"),
            ("/%3E.a", "bad-topic"),
            ("/a.%3E.*", "bad-topic"),
            ("/_x", "bad-topic"),
            ("/$x", "bad-topic"),
            ("/-x", "bad-topic"),
            ("/a/-b", "bad-subscriber"),
            ("/a%FF", "bad-path"),
        ] {
            let failure = route(path).unwrap_err().to_string();
            assert!(failure.contains(code), "{path}: {failure}");
        }
    }

    #[test]
    fn names_at_their_limits_pass_and_one_above_does_not() {
        for (over, passes) in [(-1, true), (0, true), (1, false)] {
            let name = |max: usize| "a".repeat(max.saturating_add_signed(over));
            let topic = name(TOPIC_BYTES_MAX);
            let queue = format!("/t/{}", name(SUBSCRIBER_BYTES_MAX));
            for path in [format!("/{topic}"), format!("/{topic}/s"), queue] {
                assert_eq!(route(&path).is_ok(), passes, "{} bytes", path.len());
            }
        }
    }

    proptest! {
        /// Whatever stands in a path, it is a route or is refused, and names that are encoded come through.
        #[test]
        fn any_path_is_read(path in "(/|%[0-9a-fA-F]{0,2}|[a.*>_$-]|.){0,30}", topic in "[^./ ]{1,20}", name in ".{1,20}") {
            let _ = route(&path);
            let encoded = |name: &str| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
            let whole = format!("/{}/{}", encoded(&topic), encoded(&name));
            if let (Ok(topic), Ok(name)) = (checked_topic(topic), checked_subscriber(name)) {
                prop_assert_eq!(route(&whole).ok(), Some(Route::Queue(topic, name)));
            } else {
                // Nothing else is behind a name that is refused, but what the system keeps for itself.
                prop_assert!(matches!(route(&whole), Err(_) | Ok(Route::System(_))));
            }
        }
    }
}
