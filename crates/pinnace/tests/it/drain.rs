//! Going down in an orderly way: what is under way is finished, what waits is told, nothing is lost,
//! and nobody can hold it up.

use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::{Raw, Server, signal, try_http, wait_for};

/// An upload of which the server has the head and a part.
fn half_an_upload(server: &Server) -> Raw {
    let mut upload = Raw::connect(&server.http);
    upload
        .send("POST /t HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n");
    // The server asks for the body when it begins to read it.
    assert_eq!(upload.line(), "HTTP/1.1 100 Continue");
    assert_eq!(upload.line(), "");
    upload.send("12345");
    upload
}

#[test]
fn what_is_under_way_is_finished_and_who_comes_late_is_told() {
    let mut server = Server::start();
    server.post("/t/keeper", "");
    let mut upload = half_an_upload(&server);
    let mut poll = Raw::connect(&server.http);
    poll.send("GET /t/keeper?wait=5m HTTP/1.1\r\nhost: x\r\n\r\n");
    wait_for("both to be under way", || {
        let page = server.get("/-/metrics");
        page.text()
            .contains("pinnace_connections{door=\"http\"} 3\n")
    });
    signal(server.pid(), "TERM");
    assert_eq!(
        poll.line(),
        "HTTP/1.1 204 No Content",
        "a poll ends at once"
    );

    let ready = server.get("/-/ready");
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["problems"][0], "the server is going down");
    assert_eq!(server.get("/-/health").status, 200);
    let late = server.post("/t", "too late");
    assert_eq!(
        (late.status, late.json()["code"].as_str()),
        (503, Some("server-stopping"))
    );
    assert_eq!(late.header("retry-after"), Some("1"));
    assert_eq!(late.header("connection"), Some("close"));

    upload.send("67890");
    let answer = upload.rest();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("pinnace-seq: 1\r\n"), "{answer}");
    assert_eq!(server.wait(), 0);
    assert!(TcpStream::connect(&server.http).is_err());
    server.restart();
    assert_eq!(server.get("/t/keeper").text(), "1234567890");
    assert_eq!(server.get("/t/keeper").status, 204);
}

#[test]
fn nobody_can_hold_it_up() {
    let mut server = Server::start();
    let _upload = half_an_upload(&server);
    let _half_a_head = {
        let mut raw = Raw::connect(&server.http);
        raw.send("GET /-/he");
        raw
    };
    let mut stuck = Raw::connect(&server.http);
    stuck.send("GET /t HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n");
    let mut deaf = Raw::connect(&server.http);
    deaf.send(
        "GET /t HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    wait_for("the streams", || server.get("/t").json()["live"] == 2);
    // More than the sockets' buffers take, less than makes a slow consumer.
    for _ in 0..7 {
        server.post("/t", &"x".repeat(1 << 20));
    }
    let began = Instant::now();
    assert_eq!(server.terminate(), 0);
    let elapsed = began.elapsed();
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
}

#[test]
fn everything_acknowledged_while_it_goes_down_is_there_afterwards() {
    let mut server = Server::start();
    server.post("/t/keeper", "");
    let acknowledged = Mutex::new(Vec::new());
    let address = server.http.clone();
    std::thread::scope(|scope| {
        for publisher in 0..4 {
            let (acknowledged, address) = (&acknowledged, &address);
            scope.spawn(move || {
                for number in 0.. {
                    let body = format!("{publisher}.{number}");
                    match try_http(address, "POST", "/t", &[], body.as_bytes()) {
                        Ok(answer) if answer.status == 200 => {
                            acknowledged.lock().unwrap().push(body);
                        }
                        // Told to come later, or gone.
                        Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                        Err(_) => return,
                    }
                }
            });
        }
        wait_for("some traffic", || acknowledged.lock().unwrap().len() > 200);
        assert_eq!(server.terminate(), 0);
    });
    server.restart();
    let mut stored = Vec::new();
    loop {
        let lines = server.get("/t/keeper?max=1000");
        if lines.status == 204 {
            break;
        }
        for line in lines.text().lines() {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            stored.push(message["text"].as_str().unwrap().to_owned());
        }
    }
    for message in acknowledged.into_inner().unwrap() {
        assert!(
            stored.contains(&message),
            "{message} was acknowledged and is lost"
        );
    }
}
