//! The topic paths: the exercise of a queue per subscriber, with exact status codes.

use crate::support::{Server, wait_for};

/// Each line: method, path, body, expected status, expected body.
fn check(server: &Server, script: &[(&str, &str, &str, u16, &str)]) {
    for (method, path, body, status, expected) in script {
        let answer = server.http(method, path, &[], body.as_bytes());
        assert_eq!(answer.status, *status, "{method} {path} {body}: {answer:?}");
        assert_eq!(answer.text(), *expected, "{method} {path} {body}");
    }
}

#[test]
fn alice_and_bob() {
    let server = Server::start();
    check(
        &server,
        &[
            ("POST", "/kittens_and_puppies/alice", "", 200, ""),
            ("POST", "/kittens_and_puppies/bob", "", 200, ""),
            (
                "POST",
                "/kittens_and_puppies",
                "http://example/cat",
                200,
                "",
            ),
            (
                "GET",
                "/kittens_and_puppies/alice",
                "",
                200,
                "http://example/cat",
            ),
            ("GET", "/kittens_and_puppies/alice", "", 204, ""),
            (
                "GET",
                "/kittens_and_puppies/bob",
                "",
                200,
                "http://example/cat",
            ),
            ("GET", "/kittens_and_puppies/bob", "", 204, ""),
        ],
    );
    let carol = server.get("/kittens_and_puppies/carol");
    assert_eq!(
        (carol.status, carol.json()["code"].as_str()),
        (404, Some("no-such-subscription"))
    );
    assert_eq!(
        carol.header("content-type"),
        Some("application/problem+json")
    );
}

#[test]
fn subscriptions_see_what_is_published_while_they_exist() {
    let server = Server::start();
    check(
        &server,
        &[
            ("POST", "/t", "before anybody came", 200, ""),
            ("POST", "/t/a", "", 200, ""),
            ("GET", "/t/a", "", 204, ""),
            ("POST", "/t", "1", 200, ""),
            ("POST", "/t/b", "", 200, ""),
            ("POST", "/t", "2", 200, ""),
            ("POST", "/t/a", "", 200, ""),
            ("GET", "/t/a", "", 200, "1"),
            // A pending message that is not for b must not keep b from leaving.
            ("DELETE", "/t/b", "", 200, ""),
            ("GET", "/t/a", "", 200, "2"),
            ("GET", "/t/a", "", 204, ""),
            ("POST", "/t/b", "", 200, ""),
            ("GET", "/t/b", "", 204, ""),
            ("POST", "/t", "", 200, ""),
            ("GET", "/t/a", "", 200, ""),
        ],
    );
    assert_eq!(server.delete("/t/nobody").status, 404);
    assert_eq!(server.delete("/nothing/nobody").status, 404);
}

#[test]
fn who_only_asks_makes_nothing() {
    let server = Server::start();
    let before = server.get("/-/topics").json();
    check(
        &server,
        &[
            ("POST", "/unheard", "into the void", 200, ""),
            ("POST", "/unheard", "", 200, ""),
        ],
    );
    for (method, path) in [("GET", "/unknown/nobody"), ("DELETE", "/unknown/nobody")] {
        assert_eq!(
            server.http(method, path, &[], b"").status,
            404,
            "{method} {path}"
        );
    }
    assert_eq!(server.get("/unknown").status, 200);
    assert_eq!(server.get("/-/topics").json(), before);
}

#[test]
fn from_first_starts_at_what_is_still_stored() {
    let server = Server::start();
    check(
        &server,
        &[
            ("POST", "/t/a", "", 200, ""),
            ("POST", "/t", "1", 200, ""),
            ("POST", "/t", "2", 200, ""),
            ("POST", "/t/late?from=first", "", 200, ""),
            ("GET", "/t/late", "", 200, "1"),
            ("GET", "/t/late", "", 200, "2"),
            ("GET", "/t/late", "", 204, ""),
        ],
    );
    assert_eq!(server.post("/t/x?from=middle", "").status, 400);
}

#[test]
fn a_publish_says_who_got_it_and_headers_travel() {
    let server = Server::start();
    let nobody = server.post("/t", "x");
    assert_eq!(nobody.header("pinnace-queues"), Some("0"));
    assert_eq!(nobody.header("pinnace-seq"), None);
    server.post("/t/a", "");
    server.post("/t/b", "");
    let mut live = server.nats_client();
    live.send("SUB t 1\r\n");
    live.until_pong();
    let headers = [
        ("content-type", "image/png"),
        ("pinnace-origin", "lab 1"),
        ("nats-msg-id", "7"),
    ];
    let stored = server.http("POST", "/t", &headers, b"\x89PNG");
    assert_eq!(stored.header("pinnace-queues"), Some("2"));
    assert_eq!(stored.header("pinnace-live"), Some("1"));
    let seq = stored.header("pinnace-seq").unwrap().to_owned();
    let fetched = server.get("/t/a");
    assert_eq!(fetched.body, b"\x89PNG");
    assert_eq!(fetched.header("pinnace-seq"), Some(seq.as_str()));
    for (name, value) in headers {
        assert_eq!(fetched.header(name), Some(value));
    }
    let message = live.until_pong().join("\n");
    assert!(message.starts_with("HMSG t 1 "), "{message}");
    assert!(message.contains("Content-Type: image/png"), "{message}");
}

#[test]
fn many_at_once_get_each_message_once() {
    const MESSAGES: usize = 200;
    let server = Server::start();
    server.post("/t/a", "");
    std::thread::scope(|scope| {
        for publisher in 0..4 {
            let server = &server;
            scope.spawn(move || {
                for n in 0..MESSAGES / 4 {
                    assert_eq!(server.post("/t", &format!("{publisher}.{n}")).status, 200);
                }
            });
        }
    });
    let mut got: Vec<String> = std::thread::scope(|scope| {
        let fetchers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut got = Vec::new();
                    loop {
                        let answer = server.get("/t/a");
                        if answer.status == 204 {
                            return got;
                        }
                        got.push(answer.text().to_owned());
                    }
                })
            })
            .collect();
        fetchers
            .into_iter()
            .flat_map(|fetcher| fetcher.join().unwrap())
            .collect()
    });
    assert_eq!(got.len(), MESSAGES);
    got.sort();
    got.dedup();
    assert_eq!(got.len(), MESSAGES);
}

#[test]
fn a_long_poll_answers_as_soon_as_a_message_is_there() {
    let server = Server::start();
    server.post("/t/a", "");
    assert_eq!(server.get("/t/a?wait=50ms").status, 204);
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| server.get("/t/a?wait=25s"));
        let waiting = || server.get("/-/info").status == 200 && !poll.is_finished();
        assert!(waiting());
        server.post("/t", "now");
        let answer = poll.join().unwrap();
        assert_eq!((answer.status, answer.text()), (200, "now"));
    });
}

#[test]
fn several_at_once_come_as_lines() {
    let server = Server::start();
    server.post("/t/a", "");
    server.post("/t", "one");
    server.http("POST", "/t", &[], &[0xff, 0xfe]);
    server.post("/t", "three");
    let answer = server.get("/t/a?max=2");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<serde_json::Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((lines.len(), lines[0]["text"].as_str()), (2, Some("one")));
    assert_eq!(lines[1]["base64"].as_str(), Some("//4="));
    assert_eq!(server.get("/t/a").text(), "three");
    for max in ["0", "1001", "x"] {
        assert_eq!(server.get(&format!("/t/a?max={max}")).status, 400, "{max}");
    }
    assert_eq!(server.get("/t/a?max=1000").status, 204);
}

#[test]
fn what_makes_no_sense_is_refused_with_a_problem() {
    let server = Server::start();
    server.post("/t/a", "");
    for (method, path, status, code) in [
        ("PUT", "/t", 405, "method-not-allowed"),
        ("DELETE", "/t", 405, "method-not-allowed"),
        ("PUT", "/t/a", 405, "method-not-allowed"),
        ("POST", "/-/health", 405, "method-not-allowed"),
        ("GET", "/a/b/c", 404, "no-such-path"),
        ("GET", "/-/nothing", 404, "no-such-path"),
        ("POST", "/a..b", 400, "bad-topic"),
        ("POST", "/_secret", 400, "bad-topic"),
        ("POST", "/a.%2A", 400, "bad-topic"),
        ("GET", "/t/a?wiat=3s", 400, "unknown-parameter"),
        ("GET", "/t/a?wait=soon", 400, "bad-parameter"),
        ("GET", "/-/runs/none", 404, "no-such-run"),
    ] {
        let answer = server.http(method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["code"].as_str(), Some(code), "{method} {path}");
        assert_eq!(problem["type"], format!("urn:pinnace:problem:{code}"));
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
    let refused = server.http("PUT", "/t/a", &[], b"");
    assert_eq!(refused.header("allow"), Some("DELETE, GET, POST"));
}

#[test]
fn bodies_are_taken_up_to_the_limit() {
    let server = Server::start();
    server.post("/t/a", "");
    let limit = 1 << 20;
    let largest = vec![b'x'; limit];
    assert_eq!(server.http("POST", "/t", &[], &largest).status, 200);
    assert_eq!(server.get("/t/a").body, largest);
    let answer = server.http("POST", "/t", &[], &vec![b'x'; limit + 1]);
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (413, Some("too-large"))
    );
    assert_eq!(server.get("/t/a").status, 204);
}

#[test]
fn topics_and_subscribers_may_have_any_name_that_is_encoded() {
    let server = Server::start();
    check(
        &server,
        &[
            ("POST", "/k%C3%A4se%2F1/b%20c", "", 200, ""),
            ("POST", "/k%C3%A4se%2F1", "x", 200, ""),
            ("GET", "/k%C3%A4se%2F1/b%20c", "", 200, "x"),
        ],
    );
}

#[test]
fn queues_and_their_messages_survive_a_kill() {
    let mut server = Server::start();
    server.post("/t/a", "");
    server.post("/t/b", "");
    server.post("/t/gone", "");
    server.post("/t", "1");
    server.post("/t", "2");
    assert_eq!(server.get("/t/a").text(), "1");
    assert_eq!(server.delete("/t/gone").status, 200);
    server.kill();
    server.restart();
    check(
        &server,
        &[
            ("GET", "/t/a", "", 200, "2"),
            ("GET", "/t/a", "", 204, ""),
            ("GET", "/t/b", "", 200, "1"),
        ],
    );
    assert_eq!(server.get("/t/gone").status, 404);
}

#[test]
fn topics_tell_who_waits_for_what() {
    let server = Server::start();
    server.post("/t/a", "");
    server.post("/t", "1");
    server.post("/t", "2");
    let topic = server.get("/t").json();
    let queue = &topic["subscribers"][0];
    assert_eq!(
        (queue["name"].as_str(), queue["waiting"].as_u64()),
        (Some("a"), Some(2))
    );
    assert!(queue["oldest_us"].as_u64().unwrap() > 1_600_000_000_000_000);
    let all = server.get("/-/topics").json();
    let names: Vec<_> = all["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["topic"].clone())
        .collect();
    assert!(
        names.contains(&"t".into()) && names.contains(&"pinnace.bench.>".into()),
        "{names:?}"
    );
    assert_eq!(server.get("/nobody.knows").json()["live"], 0);
}

#[test]
fn the_roster_knows_who_is_there_and_who_was() {
    let server = Server::start();
    let mut client = server.nats();
    client.send("CONNECT {\"name\":\"lab one\",\"verbose\":false}\r\n");
    client.until_pong();
    let roster = server.get("/-/clients").json();
    let entry = &roster["clients"][0];
    assert_eq!(
        (entry["name"].as_str(), entry["kind"].as_str()),
        (Some("lab one"), Some("nats"))
    );
    drop(client);
    wait_for("the departure", || {
        server.get("/-/clients").json()["clients"][0].is_null()
    });
    let history = server.get("/-/clients?history").json();
    assert!(
        history["clients"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("closed"),
        "{history}"
    );
}
