//! Who may come in and what they may do, through both doors, and the limits of the NATS door that can be
//! set. What each refusal looks like on the NATS door is held by the scripts in `conformance/`.

use base64::Engine;

use crate::support::{Server, run};

const USERS: &str = r#"
server:
  auth:
    token: t0ken
    users:
      - {user: admin, password: all}
      - user: narrow
        password: n
        permissions:
          publish: {allow: [ok.>], deny: [ok.secret]}
          subscribe: {allow: [ok.>, _INBOX.>], deny: [ok.hidden]}
"#;

fn basic(pair: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {encoded}")
}

#[test]
fn http_asks_who_is_there() {
    let server = Server::configured(USERS);
    for (header, method, path, status) in [
        ("", "POST", "/a", 401),
        ("", "GET", "/-/topics", 401),
        ("", "GET", "/-/health", 200),
        ("", "GET", "/-/ready", 200),
        ("Bearer wrong", "POST", "/a", 401),
        ("Digest x", "POST", "/a", 401),
        ("Bearer t0ken", "POST", "/a", 200),
        ("Bearer t0ken", "POST", "/a/alice", 200),
        ("Bearer t0ken", "GET", "/-/topics", 200),
        (&basic("admin:all"), "POST", "/a", 200),
        (&basic("admin:al"), "POST", "/a", 401),
        (&basic("nobody:all"), "POST", "/a", 401),
        (&basic("narrow:n"), "POST", "/ok.a", 200),
        (&basic("narrow:n"), "POST", "/ok.secret", 403),
        (&basic("narrow:n"), "POST", "/a", 403),
        (&basic("narrow:n"), "POST", "/ok.a/me", 200),
        (&basic("narrow:n"), "POST", "/a/me", 403),
        (&basic("narrow:n"), "GET", "/a/alice", 403),
        (&basic("narrow:n"), "DELETE", "/a/alice", 403),
        (&basic("narrow:n"), "GET", "/ok.*", 403),
        (&basic("narrow:n"), "GET", "/%3E", 403),
        (
            &basic("narrow:n"),
            "POST",
            "/ok.a/b?max_deliveries=2&dead_letter=a.dead",
            403,
        ),
        (
            &basic("narrow:n"),
            "POST",
            "/ok.a/b?max_deliveries=2&dead_letter=ok.dead",
            200,
        ),
        (&basic("narrow:n"), "DELETE", "/-/runs/x", 403),
        (&basic("narrow:n"), "GET", "/-/topics", 200),
    ] {
        let headers = [("Authorization", header)];
        let headers = if header.is_empty() { &[][..] } else { &headers };
        let answer = server.http(method, path, headers, b"");
        assert_eq!(
            answer.status, status,
            "{header} {method} {path}: {answer:?}"
        );
        if status == 401 {
            assert_eq!(answer.json()["code"], "unauthorized");
            assert!(answer.header("www-authenticate").unwrap().contains("Basic"));
        }
    }
}

#[test]
fn a_message_of_a_known_client_reaches_the_other_door() {
    let server = Server::configured(USERS);
    let token = [("Authorization", "Bearer t0ken")];
    assert_eq!(server.http("POST", "/ok.a/alice", &token, b"").status, 200);
    let mut client = server.nats();
    client.send(
        "CONNECT {\"verbose\":false,\"user\":\"narrow\",\"pass\":\"n\"}\r\nPUB ok.a 2\r\nhi\r\n\
         PUB ok.secret 2\r\nno\r\n",
    );
    assert_eq!(
        client.until_pong(),
        ["-ERR 'Permissions Violation for Publish to \"ok.secret\"'"]
    );
    let fetched = server.http("GET", "/ok.a/alice?wait=5s", &token, b"");
    assert_eq!(fetched.text(), "hi");
}

#[test]
fn settings_that_make_no_sense_are_named() {
    for (yaml, part) in [
        ("server: {auth: {users: [{user: a}]}}", "user 1"),
        ("server: {auth: {users: [{nkey: UX}]}}", "UX"),
        ("server: {auth: {tokn: a}}", "did you mean `token`"),
        ("server: {auth: {token: \"\"}}", "empty token"),
        (
            "server: {auth: {users: [{user: a, password: b, permissions: {publish: {allow: [a..b]}}}]}}",
            "`a..b`",
        ),
        ("server: {nats_limits: {max_payload: 1G}}", "max_payload"),
        (
            "server: {nats_limits: {max_connections: 0}}",
            "max_connections",
        ),
        ("server: {nats_limits: {ping_interval: 0}}", "ping_interval"),
        ("server: {nats_limits: {max_pings: 1}}", "`max_pings`"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pinnace.yaml"), yaml).unwrap();
        let flags = ["serve", "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"];
        let done = run(folder.path(), &flags);
        assert!(matches!(done.code, 1 | 2), "{yaml}: {done:?}");
        assert!(done.stderr.contains(part), "{yaml}: {done:?}");
        assert!(!done.stderr.contains("secret"), "{done:?}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pinnace.yaml"), USERS).unwrap();
    let url = "http://admin:t0ken@lab-1:7420";
    for arguments in [
        &["config", "show"][..],
        &["--server", url, "config", "show", "--origin"],
        &["--server", url, "--json", "config", "show"],
        &["--server", url, "config", "check"],
    ] {
        let done = run(folder.path(), arguments).expect(0, &[]);
        let done = (done.stdout, done.stderr);
        assert!(!format!("{done:?}").contains("t0ken"), "{done:?}");
    }
}

#[test]
fn a_silent_client_is_asked_and_then_closed() {
    let limits = "server: {nats_limits: {ping_interval: 50ms, pings_unanswered_max: 2}}";
    let server = Server::configured(limits);
    let mut silent = server.nats();
    assert_eq!(silent.rest(), "PING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
    let mut alive = server.nats();
    for _ in 0..5 {
        assert_eq!(alive.line(), "PING");
        alive.send("PONG\r\n");
    }
    assert_eq!(alive.line(), "PING");
}

#[test]
fn other_addresses_are_advertised() {
    let server = Server::configured("server: {nats_advertise: \"a.example:4222, b.example:4222\"}");
    let mut client = crate::support::Raw::connect(&server.nats);
    let info = client.line();
    assert!(
        info.contains(r#""connect_urls":["a.example:4222","b.example:4222"]"#),
        "{info}"
    );
}

#[test]
fn a_socket_may_do_what_its_request_may() {
    let server = Server::configured(USERS);
    for (pair, path, status) in [
        ("narrow:n", "/ok.secret", "HTTP/1.1 101"),
        ("narrow:n", "/other", "HTTP/1.1 403"),
        ("narrow:x", "/ok.a", "HTTP/1.1 401"),
    ] {
        let mut raw = crate::support::Raw::connect(&server.http);
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            basic(pair)
        ));
        assert!(raw.line().starts_with(status), "{pair} {path}");
        if status.ends_with("101") {
            while !raw.line().is_empty() {}
            // A text of two letters with a mask of zeros: it may listen here, but not publish.
            raw.send(b"\x81\x82\0\0\0\0hi");
            let closed = raw.rest();
            assert!(closed.contains("forbidden"), "{closed:?}");
        }
    }
}

#[test]
fn the_command_line_says_who_it_is_in_the_url() {
    let server = Server::configured(USERS);
    let here = server.folder.path();
    let url = |login: &str| format!("http://{login}@{}", server.http);
    for (login, arguments, code) in [
        ("admin:all", &["topics"][..], 0),
        ("t0ken", &["topics"], 0),
        ("admin:al", &["topics"], 6),
        ("narrow:n", &["pub", "ok.a", "hi"], 0),
        ("narrow:n", &["pub", "a", "hi"], 6),
    ] {
        let url = url(login);
        let done = run(here, &[&["--server", &url], arguments].concat());
        assert_eq!(done.code, code, "{login} {done:?}");
        assert!(!done.stderr.contains(login), "{done:?}");
    }
    let place = here.to_str().unwrap();
    let bench = ["bench", "--path", place, "--id", "alpha", "--run-time=2s"];
    let sizes = ["--chunk-size=64k", "--file-size=1M", "--rate=8M"];
    let url = url("admin:all");
    run(here, &[&["--server", &url], &bench[..], &sizes].concat()).expect(0, &[]);
    let token = [("Authorization", "Bearer t0ken")];
    let runs = server.http("GET", "/-/runs", &token, b"").json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "{runs}");
}
