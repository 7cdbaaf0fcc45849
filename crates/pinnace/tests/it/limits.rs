//! The limits of both doors at one below them, at them and at one above them, through a server that runs.

use crate::support::{Raw, Server};

const SET: &str = "server: {nats_limits: {max_payload: 64, max_control_line: 128, \
                   max_subscriptions: 3, max_connections: 3}}";

/// One below the limit and the limit itself get `good`, one above it `bad`.
fn check(what: &str, limit: usize, good: &str, bad: &str, ask: impl Fn(usize) -> String) {
    for (size, expected) in [(limit - 1, good), (limit, good), (limit + 1, bad)] {
        let answer = ask(size);
        assert!(answer.starts_with(expected), "{what}: {size} gets {answer}");
    }
}

#[test]
fn the_nats_door_keeps_what_it_was_told() {
    let server = Server::configured(SET);
    let answer = |text: String| {
        let mut client = server.nats_client();
        client.send(text);
        client.line()
    };
    let error = |text: &str| format!("-ERR '{text}'");
    let too_large = error("Maximum Payload Violation");
    check("payload", 64, "PONG", &too_large, |bytes| {
        answer(format!(
            "PUB a {bytes}\r\n{}\r\nPING\r\n",
            "x".repeat(bytes)
        ))
    });
    let too_long = error("maximum control line exceeded");
    check("control line", 128, "PONG", &too_long, |bytes| {
        answer(format!("SUB {} 1\r\nPING\r\n", "a".repeat(bytes - 2)))
    });
    let too_many = error("maximum subscriptions exceeded");
    check("subscriptions", 3, "PONG", &too_many, |count| {
        let subscribe = |sid| format!("SUB a {sid}\r\n");
        answer((0..count).map(subscribe).collect::<String>() + "PING\r\n")
    });
    let too_many = error("maximum connections exceeded");
    let open = || {
        server.http("GET", "/-/clients", &[], b"").json()["clients"]
            .as_array()
            .unwrap()
            .len()
    };
    let last_of = |count: usize| {
        crate::support::wait_for("the others to go", || open() == 0);
        let mut all: Vec<Raw> = (0..count).map(|_| server.nats()).collect();
        let last = all.last_mut().unwrap();
        // One that is refused is told so without asking, and may be gone when it asks.
        let _ = last.try_send("PING\r\n");
        last.line()
    };
    check("connections", 3, "PONG", &too_many, |count| {
        let mut answer = last_of(count);
        // Who has left the list is counted for a moment longer.
        crate::support::wait_for("room for three", || {
            if count <= 3 && answer == too_many {
                answer = last_of(count);
            }
            count > 3 || answer == "PONG"
        });
        answer
    });
}

#[test]
fn the_http_door_keeps_its_limits() {
    let server = Server::start();
    server.post("/t/a", "");
    let status = |method: &str, path: &str, body: &[u8]| {
        server.http(method, path, &[], body).status.to_string()
    };
    check("body", 1 << 20, "200", "413", |bytes| {
        status("POST", "/t", &vec![b'x'; bytes])
    });
    check("head", 64 << 10, "200", "431", |bytes| {
        let head = "GET /-/health HTTP/1.1\r\nconnection: close\r\npadding: ".to_owned();
        let padding = "x".repeat(bytes - head.len() - 4);
        let mut raw = Raw::connect(&server.http);
        raw.send(head + &padding + "\r\n\r\n");
        raw.line()[9..12].to_owned()
    });
    check("request", 64 << 10, "400", "413", |bytes| {
        status("POST", "/-/query", &vec![b'x'; bytes])
    });
    check("topic", 1_024, "200", "400", |bytes| {
        status("POST", &format!("/{}/a", "t".repeat(bytes)), b"")
    });
    check("subscriber", 255, "200", "400", |bytes| {
        status("POST", &format!("/t/{}", "s".repeat(bytes)), b"")
    });
    check("messages of a fetch", 1_000, "20", "400", |count| {
        status("GET", &format!("/t/a?max={count}"), b"")
    });
    check("id of a fetch", 256, "20", "400", |bytes| {
        status("GET", &format!("/t/a?id={}", "i".repeat(bytes)), b"")
    });
    check("id of a message", 256, "200", "400", |bytes| {
        let id = "i".repeat(bytes);
        let headers = [("Nats-Msg-Id", id.as_str())];
        server.http("POST", "/t", &headers, b"").status.to_string()
    });
}
