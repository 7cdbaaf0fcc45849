//! Words that have no place in code: tests that are switched off, holes, and sleeping.
//!
//! Invariant: a sleep in shipped code stands in [`SLEEPS`] with its reason; in a test there is none.

use super::{File, Finding};

/// What must not stand anywhere, and what to do instead. Written in two parts so that this file does
/// not find itself.
const WORDS: &[(&str, &str)] = &[
    (
        concat!("#[", "ignore"),
        "a test that does not run proves nothing; repair or remove it",
    ),
    (concat!("todo", "!("), "finish it before it is shared"),
    (
        concat!("unimplemented", "!("),
        "finish it before it is shared",
    ),
];

/// Ways to sleep.
const SLEEPING: &[&str] = &[
    concat!("thread::", "sleep"),
    concat!("time::", "sleep"),
    concat!("use std::thread::{", "sleep"),
];

/// Shipped files that may sleep, and why.
const SLEEPS: &[(&str, &str)] = &[
    (
        "crates/pinnace-client/src/courier.rs",
        "a pause before the next try, and the end of patience; the server's return wakes it sooner",
    ),
    (
        "crates/pinnace-client/src/queue.rs",
        "a pause before a fetch that was refused for a passing reason is tried again",
    ),
    (
        "crates/pinnace-sync/src/client/outbox.rs",
        "bytes that a bandwidth does not let out yet",
    ),
    (
        "crates/pinnace-server/src/upkeep.rs",
        "the rest of a check between two stretches of work, which leaves the disk to others",
    ),
    (
        "crates/pinnace-server/src/http_door/line.rs",
        "the last moments of a connection whose client does not read",
    ),
    (
        "crates/pinnace-server/src/http_door/queue_stream.rs",
        "the moment to show a silent client that the stream lives, beside the message it waits for",
    ),
    (
        "crates/pinnace-server/src/http_door/socket.rs",
        "the moment to ping a silent client, beside everything it waits for",
    ),
    (
        "crates/pinnace-server/src/http_door/stream.rs",
        "the moment to show a silent client that the stream lives",
    ),
    (
        "crates/pinnace-server/src/http_door/fetch.rs",
        "the deadline of a long-poll, beside the event it waits for",
    ),
    (
        "crates/pinnace-server/src/nats_door/connection.rs",
        "the moment to ping a silent client, beside everything it waits for",
    ),
    (
        "crates/pinnace-server/src/server.rs",
        "nobody tells when a disk has space again or a descriptor is free: it looks now and then",
    ),
];

/// Checks one Rust file.
pub(super) fn check(file: &File) -> Vec<Finding> {
    compare(file, SLEEPS)
}

fn compare(file: &File, sleeps: &[(&str, &str)]) -> Vec<Finding> {
    let production = if file.is_test() {
        0
    } else {
        file.production_lines()
    };
    let excused = sleeps
        .iter()
        .any(|(path, why)| *path == file.path && !why.is_empty());
    let mut findings = Vec::new();
    for (place, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        let mut found = |text: String| findings.push(Finding::new(&file.path, place + 1, text));
        for (word, advice) in WORDS.iter().filter(|(word, _)| line.contains(word)) {
            found(format!("`{word}`: {advice}"));
        }
        let sleeps = SLEEPING.iter().any(|word| line.contains(word));
        if sleeps && place >= production {
            found("a test must not sleep; wait for the event itself".to_owned());
        } else if sleeps && !excused {
            found(
                "wait for an event instead of sleeping, or list the file with its reason in \
                 xtask/src/tidy/forbidden.rs"
                    .to_owned(),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text with its gaps closed, so that these lines are not found themselves.
    fn file(path: &str, text: &str) -> File {
        File::of(path, &text.replace('~', ""))
    }

    #[test]
    fn switched_off_tests_and_holes_are_found_everywhere() {
        for text in [
            "#[ign~ore]\n",
            "#[ign~ore = \"slow\"]\n",
            "    to~do!()\n",
            "unimple~mented!(\"later\")\n",
        ] {
            for path in ["crates/a/src/lib.rs", "crates/a/tests/it/main.rs"] {
                assert_eq!(compare(&file(path, text), &[]).len(), 1, "{text}");
            }
        }
        assert_eq!(
            compare(&file("a/src/a.rs", "// a to~do!() in words\n"), &[]),
            []
        );
    }

    #[test]
    fn sleeping_needs_a_reason_and_has_none_in_tests() {
        let sleep = "fn a() {\n    thread::sl~eep(x);\n}\n";
        let in_test = format!("#[cfg(test)]\nmod tests {{\n{sleep}}}\n");
        let listed = [(
            "crates/a/src/a.rs",
            "a paced writer has no event to wait for",
        )];
        for (path, text, listed, findings) in [
            ("crates/a/src/a.rs", sleep, &[][..], 1),
            ("crates/a/src/a.rs", sleep, &listed[..], 0),
            ("crates/a/src/a.rs", &in_test, &listed[..], 1),
            ("crates/a/tests/it/a.rs", sleep, &listed[..], 1),
        ] {
            assert_eq!(compare(&file(path, text), listed).len(), findings, "{path}");
        }
    }
}
