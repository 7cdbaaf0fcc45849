//! The grammar of topics and patterns, and the plain definition of a match.
//!
//! Invariant: `matches` is the truth that the routing tree is tested against. A topic is tokens
//! split by dots; in a pattern the token `*` stands for one token and a last token `>` for one or
//! more. A star inside a longer token is an ordinary character.

use crate::limits::{TOPIC_BYTES_MAX, TOPIC_TOKENS_MAX};

/// Whether a message may be published to `topic`. Wildcard tokens are allowed and mean themselves.
#[must_use]
pub fn is_valid_topic(topic: &[u8]) -> bool {
    !exceeds_limits(topic) && topic.split(|&byte| byte == b'.').all(is_token)
}

/// Whether `topic` is larger than any may be, which is a limit of ours and no fault of its grammar.
#[must_use]
pub fn exceeds_limits(topic: &[u8]) -> bool {
    topic.len() > TOPIC_BYTES_MAX
        || topic.iter().filter(|&&byte| byte == b'.').count() >= TOPIC_TOKENS_MAX
}

/// Whether `pattern` may be subscribed to.
#[must_use]
pub fn is_valid_pattern(pattern: &[u8]) -> bool {
    let mut tokens = pattern.split(|&byte| byte == b'.').rev();
    is_valid_topic(pattern) && {
        tokens.next();
        tokens.all(|token| token != b">")
    }
}

/// Whether `pattern` matches more than one topic.
#[must_use]
pub fn has_wildcards(pattern: &[u8]) -> bool {
    pattern
        .split(|&byte| byte == b'.')
        .any(|token| token == b"*")
        || pattern == b">"
        || pattern.ends_with(b".>")
}

/// Whether a message published to `topic` matches `pattern`. Both must be valid.
#[must_use]
pub fn matches(pattern: &[u8], topic: &[u8]) -> bool {
    let mut wanted = pattern.split(|&byte| byte == b'.').peekable();
    let mut tokens = topic.split(|&byte| byte == b'.');
    loop {
        match (wanted.next(), tokens.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) if wanted.peek().is_none() => return true,
            (Some(want), Some(token)) if want == b"*" || want == token => {}
            _ => return false,
        }
    }
}

/// Whether every topic that `narrow` matches is matched by `wide`. Both must be valid.
#[must_use]
pub fn covers(wide: &[u8], narrow: &[u8]) -> bool {
    let mut wanted = wide.split(|&byte| byte == b'.').peekable();
    let mut tokens = narrow.split(|&byte| byte == b'.').peekable();
    loop {
        let token = tokens.next();
        let is_rest = token == Some(b">") && tokens.peek().is_none();
        match (wanted.next(), token) {
            (None, None) => return true,
            (Some(b">"), Some(_)) if wanted.peek().is_none() => return true,
            (Some(b"*"), Some(_)) if !is_rest => {}
            (Some(want), Some(token)) if want == token && !is_rest => {}
            _ => return false,
        }
    }
}

/// Whether some topic is matched by both patterns. Both must be valid.
#[must_use]
pub fn overlaps(one: &[u8], other: &[u8]) -> bool {
    let mut ones = one.split(|&byte| byte == b'.').peekable();
    let mut others = other.split(|&byte| byte == b'.').peekable();
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) if ones.peek().is_none() => return true,
            (Some(_), Some(b">")) if others.peek().is_none() => return true,
            (Some(a), Some(b)) if a == b || a == b"*" || b == b"*" => {}
            _ => return false,
        }
    }
}

fn is_token(token: &[u8]) -> bool {
    !token.is_empty()
        && !token
            .iter()
            .any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0))
}

/// Whether `topic` is a topic that differs from `known`, which is one, in its last token only.
pub(crate) fn are_siblings(known: &[u8], topic: &[u8]) -> bool {
    let last_dot = |topic: &[u8]| topic.iter().rposition(|byte| *byte == b'.');
    match (last_dot(known), last_dot(topic)) {
        (Some(dot), Some(same)) if dot == same => {
            known[..dot] == topic[..dot]
                && topic.len() <= TOPIC_BYTES_MAX
                && is_token(&topic[dot + 1..])
        }
        _ => false,
    }
}

/// The first token and what follows its dot.
pub(crate) fn first_token(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&text[..dot], Some(&text[dot + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        for (text, topic, pattern, wild) in [
            ("a", true, true, false),
            ("a.b.c", true, true, false),
            ("a.*", true, true, true),
            ("*", true, true, true),
            (">", true, true, true),
            ("a.>", true, true, true),
            ("a.>.b", true, false, false),
            (">.a", true, false, false),
            ("foo*", true, true, false),
            ("*foo.b>", true, true, false),
            ("über.straße", true, true, false),
            ("", false, false, false),
            (".", false, false, false),
            ("a.", false, false, false),
            (".a", false, false, false),
            ("a..b", false, false, false),
            ("a b", false, false, false),
            ("a\tb", false, false, false),
            ("a\r", false, false, false),
            ("a\n", false, false, false),
            ("a\0", false, false, false),
        ] {
            assert_eq!(is_valid_topic(text.as_bytes()), topic, "topic {text:?}");
            assert_eq!(
                is_valid_pattern(text.as_bytes()),
                pattern,
                "pattern {text:?}"
            );
            assert_eq!(has_wildcards(text.as_bytes()), wild, "wildcards {text:?}");
        }
    }

    #[test]
    fn limits_hold_at_the_limit_and_one_beyond() {
        let tokens = |n| vec!["a"; n].join(".").into_bytes();
        for (over, valid) in [(-1, true), (0, true), (1, false)] {
            let at = |limit: usize| limit.saturating_add_signed(over);
            let bytes = vec![b'a'; at(TOPIC_BYTES_MAX)];
            for topic in [bytes, tokens(at(TOPIC_TOKENS_MAX))] {
                assert_eq!(is_valid_topic(&topic), valid, "{over}");
                assert_eq!(is_valid_pattern(&topic), valid, "{over}");
            }
        }
    }

    #[test]
    fn matching() {
        for (pattern, topic, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "a.b", false),
            ("a.b", "a", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            (">", "a", true),
            (">", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.*", "a.*", true),
            ("a.>", "a.>", true),
            ("foo*", "foo*", true),
            ("foo*", "foobar", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), topic.as_bytes()),
                expected,
                "{pattern} {topic}"
            );
        }
    }

    #[test]
    fn patterns_cover_and_overlap() {
        for (wide, narrow, covered, overlapping) in [
            ("a", "a", true, true),
            ("a", "b", false, false),
            ("a.*", "a.b", true, true),
            ("a.b", "a.*", false, true),
            ("a.*", "a.*", true, true),
            ("a.*", "a.>", false, true),
            ("a.>", "a.*", true, true),
            ("a.>", "a.b.>", true, true),
            ("a.>", "a.>", true, true),
            ("a.b.>", "a.>", false, true),
            ("a.>", "a", false, false),
            (">", "a.*.>", true, true),
            ("*.b", "a.*", false, true),
            ("*.b", "a.c", false, false),
            ("a.*.*", "a.*", false, false),
            ("x.*.y", "x.>", false, true),
        ] {
            let (a, b) = (wide.as_bytes(), narrow.as_bytes());
            assert_eq!(covers(a, b), covered, "{wide} covers {narrow}");
            assert_eq!(overlaps(a, b), overlapping, "{wide} overlaps {narrow}");
            assert_eq!(overlaps(b, a), overlapping, "{narrow} overlaps {wide}");
        }
    }
}
