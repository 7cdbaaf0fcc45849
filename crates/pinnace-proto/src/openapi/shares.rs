//! Operations on shares.

use super::{Content, Kind, Operation, empty, operation, plain, problem, query, with};

const SHARES: &str = "Shares";

/// An operation on one share.
const fn on_share(
    path: &'static str,
    method: &'static str,
    id: &'static str,
    summary: &'static str,
    answers: &'static [super::Answer],
    examples: &'static [super::Example],
) -> Operation {
    operation(SHARES, (method, path), id, summary, answers, examples)
}

pub(super) const OPERATIONS: &[Operation] = &[
    on_share(
        "/-/shares",
        "GET",
        "shares",
        "What is mirrored here, by whom, and how far it is",
        &[with(200, "By name", &[Content::Json("Shares")])],
        &[plain("shares", "/-/shares", 200)],
    ),
    on_share(
        "/-/shares/{share}",
        "GET",
        "share",
        "One share",
        &[
            with(200, "How it is", &[Content::Json("ShareInfo")]),
            problem(404, "`no-such-share`"),
        ],
        &[plain("no such share", "/-/shares/photos", 404)],
    ),
    on_share(
        "/-/shares/{share}/trash",
        "GET",
        "shareTrash",
        "What was deleted from a share and is still kept",
        &[
            with(200, "The newest first", &[Content::Json("Trash")]),
            problem(404, "`no-such-share`"),
        ],
        &[plain("no such share", "/-/shares/photos/trash", 404)],
    ),
    Operation {
        detail: "For administrators. A tar (POSIX pax) with all that is in it, under its last name; it stays in the trash.",
        parameters: &[query(
            "path",
            Kind::Text("holiday/1.jpg"),
            "Only what is at this path inside a deleted directory",
        )],
        ..on_share(
            "/-/shares/{share}/trash/{id}",
            "GET",
            "restoreFromTrash",
            "What was deleted from a share, by its number",
            &[
                with(200, "`application/x-tar`", &[Content::Raw]),
                problem(403, "`forbidden`"),
                problem(404, "`no-such-share`, `no-such-thing`"),
            ],
            &[plain("no such share", "/-/shares/photos/trash/1", 404)],
        )
    },
    Operation {
        detail: "For administrators. Answers when everything that had happened in the source is durable in the share.",
        ..on_share(
            "/-/shares/{share}/wait",
            "POST",
            "waitForShare",
            "Wait until a share is durable",
            &[
                with(200, "It is", &[Content::Json("Waited")]),
                problem(403, "`forbidden`"),
                problem(404, "`no-such-share`"),
                problem(409, "`no-writer`, `client-refused`"),
            ],
            &[plain("no such share", "/-/shares/photos/wait", 404)],
        )
    },
    Operation {
        detail: "For administrators. By what is known of both; with `deep` all files of both are read again. What differs in the share is sent again.",
        parameters: &[query("deep", Kind::Flag, "Read all files again")],
        ..on_share(
            "/-/shares/{share}/verify",
            "POST",
            "verifyShare",
            "Prove that a share is what its source is",
            &[
                with(200, "Whether it is", &[Content::Json("Verdict")]),
                problem(403, "`forbidden`"),
                problem(404, "`no-such-share`"),
                problem(409, "`no-writer`, `client-refused`"),
            ],
            &[plain("no such share", "/-/shares/photos/verify", 404)],
        )
    },
    Operation {
        detail: "For administrators, with `Upgrade: pinnace-sync/1`; `docs/formats/sync.md` says what follows.",
        ..on_share(
            "/-/shares/{share}/session",
            "GET",
            "shareSession",
            "Mirror into a share",
            &[
                empty(101, "The connection is a mirror's now"),
                problem(403, "`forbidden`"),
                problem(426, "`upgrade-required`"),
            ],
            &[plain("without an upgrade", "/-/shares/photos/session", 426)],
        )
    },
];
