//! Operations on the server itself: how it is, who is there, runs.

use super::{Content, Example, Kind, Operation, empty, operation, plain, problem, query, with};

const SERVER: &str = "Server";
const RUNS: &str = "Runs";

/// An operation that takes nothing and answers one thing.
const fn look(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    answers: &'static [super::Answer],
    examples: &'static [Example],
) -> Operation {
    operation(SERVER, ("GET", path), id, summary, answers, examples)
}

/// A document of a run.
const fn report(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    answers: &'static [super::Answer],
    examples: &'static [Example],
) -> Operation {
    Operation {
        tag: RUNS,
        ..look(path, id, summary, answers, examples)
    }
}

pub(super) const OPERATIONS: &[Operation] = &[
    look(
        "/",
        "links",
        "Where everything is",
        &[with(
            200,
            "Links to the pages of this server",
            &[Content::Json("Links")],
        )],
        &[plain("links", "/", 200)],
    ),
    look(
        "/-/health",
        "health",
        "Is it well, and if not why",
        &[with(
            200,
            "As long as the process can answer",
            &[Content::Json("Health")],
        )],
        &[plain("health", "/-/health", 200)],
    ),
    look(
        "/-/ready",
        "ready",
        "May it be given work",
        &[
            with(200, "Messages can be stored", &[Content::Json("Health")]),
            with(
                503,
                "They cannot, or the server is going down",
                &[Content::Json("Health")],
            ),
        ],
        &[plain("ready", "/-/ready", 200)],
    ),
    look(
        "/-/info",
        "info",
        "Who answers, and where its doors are",
        &[with(200, "Version and addresses", &[Content::Json("Info")])],
        &[plain("info", "/-/info", 200)],
    ),
    look(
        "/-/metrics",
        "metrics",
        "Figures for Prometheus",
        &[with(
            200,
            "The text format, version 0.0.4; `docs/operation/metrics.md` lists the metrics",
            &[Content::Text("text/plain; version=0.0.4; charset=utf-8")],
        )],
        &[plain("metrics", "/-/metrics", 200)],
    ),
    look(
        "/-/openapi.json",
        "openapi",
        "This description",
        &[with(200, "OpenAPI 3.1", &[Content::Json("Description")])],
        &[plain("this description", "/-/openapi.json", 200)],
    ),
    look(
        "/-/docs",
        "docs",
        "This description, to be read",
        &[with(
            200,
            "A page that needs nothing else",
            &[Content::Text("text/html; charset=utf-8")],
        )],
        &[plain("this page", "/-/docs", 200)],
    ),
    Operation {
        parameters: &[query("history", Kind::Flag, "Also those that left")],
        ..look(
            "/-/clients",
            "clients",
            "Who is connected",
            &[with(200, "The roster", &[Content::Json("Clients")])],
            &[
                plain("who is there", "/-/clients", 200),
                plain("and who was", "/-/clients?history", 200),
            ],
        )
    },
    look(
        "/-/topics",
        "topics",
        "Topics with their subscribers and what waits",
        &[with(200, "By topic", &[Content::Json("Topics")])],
        &[plain("topics", "/-/topics", 200)],
    ),
    Operation {
        method: "POST",
        detail: "For administrators. Reads every record while the server works, with the lowest priority. One check or backup at a time.",
        ..look(
            "/-/topics/check",
            "checkTopics",
            "Is what is stored still what was acknowledged",
            &[
                with(
                    200,
                    "What was found; `clean` says whether all is well",
                    &[Content::Json("TopicsCheck")],
                ),
                problem(403, "`forbidden`"),
                problem(409, "`busy`"),
            ],
            &[plain("check", "/-/topics/check", 200)],
        )
    },
    Operation {
        detail: "For administrators. Everything acknowledged before the request is in it; `docs/formats/backup.md` says how. One that breaks off lacks its end, and is refused by a restore.",
        ..look(
            "/-/topics/backup",
            "backupTopics",
            "Everything that is stored, as it is at one moment",
            &[
                with(200, "The backup", &[Content::Raw]),
                problem(403, "`forbidden`"),
                problem(409, "`busy`"),
            ],
            &[plain("backup", "/-/topics/backup", 200)],
        )
    },
    report(
        "/-/runs",
        "runs",
        "Runs, the newest first",
        &[with(200, "Heads of runs", &[Content::Json("Runs")])],
        &[plain("runs", "/-/runs", 200)],
    ),
    report(
        "/-/runs/{run}",
        "run",
        "A run in figures",
        &[
            with(200, "The same as `report.json`", &[Content::Json("Report")]),
            problem(404, "`no-such-run`"),
        ],
        &[plain("no such run", "/-/runs/nightly", 404)],
    ),
    Operation {
        method: "DELETE",
        ..report(
            "/-/runs/{run}",
            "removeRun",
            "Remove a run",
            &[empty(200, "Gone"), problem(404, "`no-such-run`")],
            &[plain("no such run", "/-/runs/nightly", 404)],
        )
    },
    Operation {
        method: "POST",
        detail: "For bench clients, after they have connected over NATS: from then on the server notices when they go.",
        body: Some(Content::Json("JoinRequest")),
        ..report(
            "/-/runs/{run}/clients",
            "joinRun",
            "Take part in a run",
            &[
                with(200, "Joined", &[Content::Json("Joined")]),
                problem(400, "`bad-document`, `bad-name`"),
                problem(409, "`client-id-taken`, `no-such-connection`"),
            ],
            &[Example {
                title: "without a connection over NATS",
                target: "/-/runs/nightly/clients",
                headers: &[("content-type", "application/json")],
                body: r#"{"v": 1, "client": "a", "instance": "00000000000000aa", "connection": 7, "heartbeat_us": 5000000}"#,
                status: 409,
            }],
        )
    },
    report(
        "/-/runs/{run}/report.html",
        "reportHtml",
        "A run's report, to be read",
        &[
            with(
                200,
                "A page that needs nothing else",
                &[Content::Text("text/html; charset=utf-8")],
            ),
            problem(404, "`no-such-run`"),
        ],
        &[plain("no such run", "/-/runs/nightly/report.html", 404)],
    ),
    report(
        "/-/runs/{run}/report.json",
        "reportJson",
        "A run's report, for programs",
        &[
            with(
                200,
                "Totals, clients, workers, warnings",
                &[Content::Json("Report")],
            ),
            problem(404, "`no-such-run`"),
        ],
        &[plain("no such run", "/-/runs/nightly/report.json", 404)],
    ),
    report(
        "/-/runs/{run}/report.csv",
        "reportCsv",
        "A run's workers as a table",
        &[
            with(
                200,
                "A line for each worker",
                &[Content::Text("text/csv; charset=utf-8")],
            ),
            problem(404, "`no-such-run`"),
        ],
        &[plain("no such run", "/-/runs/nightly/report.csv", 404)],
    ),
    report(
        "/-/runs/{run}/report.txt",
        "reportText",
        "A run's report for a terminal",
        &[
            with(
                200,
                "80 columns wide",
                &[Content::Text("text/plain; charset=utf-8")],
            ),
            problem(404, "`no-such-run`"),
        ],
        &[plain("no such run", "/-/runs/nightly/report.txt", 404)],
    ),
    report(
        "/-/runs/{run}/record.json",
        "record",
        "All that is known of a run",
        &[
            with(200, "Every event", &[Content::Json("RunRecord")]),
            problem(404, "`no-such-run`"),
        ],
        &[plain("no such run", "/-/runs/nightly/record.json", 404)],
    ),
    Operation {
        method: "POST",
        detail: "One statement that reads; at most 10 000 rows.",
        body: Some(Content::Json("Query")),
        ..report(
            "/-/query",
            "query",
            "Ask the database of runs",
            &[
                with(200, "The rows", &[Content::Json("Rows")]),
                problem(400, "`bad-document`, `bad-query`"),
            ],
            &[
                Example {
                    title: "how many events",
                    target: "/-/query",
                    headers: &[("content-type", "application/json")],
                    body: r#"{"sql": "SELECT count(*) AS events FROM events"}"#,
                    status: 200,
                },
                Example {
                    title: "nothing can be changed",
                    target: "/-/query",
                    headers: &[("content-type", "application/json")],
                    body: r#"{"sql": "DELETE FROM events"}"#,
                    status: 400,
                },
            ],
        )
    },
];
