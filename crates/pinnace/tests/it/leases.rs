//! Safe fetching over HTTP: leases, acknowledgements, returns, repeats, dead letters, limits, and
//! answers that never arrived.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::support::{Answer, PATIENCE, Server, wait_for};

fn ok(answer: Answer, text: &str) -> Answer {
    assert_eq!((answer.status, answer.text()), (200, text), "{answer:?}");
    answer
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.json()["code"], code, "{answer:?}");
}

fn lease(server: &Server, path: &str) -> (String, Answer) {
    let answer = server.get(path);
    assert_eq!(answer.status, 200, "{answer:?}");
    (answer.header("pinnace-lease").unwrap().to_owned(), answer)
}

#[test]
fn a_lease_is_acknowledged_given_back_or_returns_by_itself() {
    let mut server = Server::start();
    server.post("/t/a", "");
    server.post("/t", "one");
    let (token, answer) = lease(&server, "/t/a?lease=1h");
    let answer = ok(answer, "one");
    assert_eq!(answer.header("pinnace-deliveries"), Some("1"));
    assert_eq!(server.get("/t/a").status, 204, "leased, so nobody else's");
    let shown = server.get("/t").json();
    assert_eq!(shown["subscribers"][0]["leased"], 1, "{shown}");
    ok(server.delete(&format!("/t/a?lease={token}&return")), "");
    let (again, answer) = lease(&server, "/t/a?lease=1h");
    assert_eq!(answer.header("pinnace-deliveries"), Some("2"));
    assert_ne!(token, again);
    refused(
        &server.delete(&format!("/t/a?lease={token}")),
        410,
        "no-such-lease",
    );
    server.kill();
    server.restart();
    refused(
        &server.delete(&format!("/t/a?lease={again}")),
        410,
        "no-such-lease",
    );
    let (short, answer) = lease(&server, "/t/a?lease=50ms");
    ok(answer, "one");
    // It returns by itself, and whoever waits gets it.
    let (token, answer) = lease(&server, "/t/a?lease=1h&wait=1m");
    ok(answer, "one");
    refused(
        &server.delete(&format!("/t/a?lease={short}")),
        410,
        "no-such-lease",
    );
    ok(server.delete(&format!("/t/a?lease={token}")), "");
    ok(server.delete(&format!("/t/a?lease={token}")), "");
    server.kill();
    server.restart();
    assert_eq!(server.get("/t/a").status, 204, "acknowledged is durable");
}

#[test]
fn a_lease_of_several_is_acknowledged_in_parts_and_lasts_as_long_as_asked() {
    let server = Server::start();
    server.post("/t/a", "");
    for text in ["one", "two", "three"] {
        server.post("/t", text);
    }
    let (token, answer) = lease(&server, "/t/a?lease=200ms&max=10");
    let lines: Vec<serde_json::Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[1]["text"], &lines[1]["deliveries"]),
        (&"two".into(), &1.into())
    );
    ok(
        server.post(&format!("/t/a?lease={token}&extend=1h"), ""),
        "",
    );
    let second = lines[1]["seq"].as_u64().unwrap();
    ok(
        server.delete(&format!("/t/a?lease={token}&seq={second}")),
        "",
    );
    assert_eq!(server.get("/t/a?wait=400ms").status, 204, "extended");
    ok(server.delete(&format!("/t/a?lease={token}&return")), "");
    ok(server.get("/t/a"), "one");
    ok(server.get("/t/a"), "three");
}

#[test]
fn what_makes_no_sense_about_leases_is_refused() {
    let server = Server::start();
    server.post("/t/a", "");
    for (method, path, status, code) in [
        ("GET", "/t/a?lease=soon", 400, "bad-parameter"),
        ("GET", "/t/b?lease=1s", 404, "no-such-subscription"),
        ("GET", "/t/a?id=", 400, "bad-parameter"),
        ("DELETE", "/t/a?lease=zebra", 400, "bad-parameter"),
        ("DELETE", "/t/a?lease=12", 410, "no-such-lease"),
        ("DELETE", "/t/b?lease=12", 404, "no-such-subscription"),
        ("DELETE", "/t/a?return", 400, "bad-parameter"),
        ("DELETE", "/t/a?seq=1", 400, "bad-parameter"),
        ("DELETE", "/t/a?lease=12&seq=x", 400, "bad-parameter"),
        ("DELETE", "/t/a?lease=12&seq=1&return", 400, "bad-parameter"),
        ("POST", "/t/a?lease=12", 400, "bad-parameter"),
        ("POST", "/t/a?lease=12&extend=1s", 410, "no-such-lease"),
        ("POST", "/t/a?overflow=perhaps", 400, "bad-parameter"),
        ("POST", "/t/a?max_bytes=much", 400, "bad-parameter"),
        ("POST", "/t/a?max_deliveries=3", 400, "bad-parameter"),
        (
            "POST",
            "/t/a?max_deliveries=3&dead_letter=a..b",
            400,
            "bad-subscription",
        ),
        ("GET", "/t?unread=x", 400, "bad-parameter"),
    ] {
        let answer = server.http(method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        refused(&answer, status, code);
    }
}

#[test]
fn a_fetch_with_an_id_can_be_repeated() {
    let server = Server::start();
    server.post("/t/a", "");
    for text in ["one", "two", "three"] {
        server.post("/t", text);
    }
    ok(server.get("/t/a?id=x"), "one");
    ok(server.get("/t/a?id=x"), "one");
    ok(server.get("/t/a?id=y"), "two");
    ok(server.get("/t/a?id=x"), "one");
    let (token, answer) = lease(&server, "/t/a?id=z&lease=1h");
    ok(answer, "three");
    let (same, answer) = lease(&server, "/t/a?id=z&lease=1h");
    assert_eq!(ok(answer, "three").header("pinnace-deliveries"), Some("1"));
    assert_eq!(token, same);
    assert_eq!(
        server.get("/t/a?id=w").status,
        204,
        "nothing fetched is nothing to repeat"
    );
}

#[test]
fn dead_letters_wait_for_whom_they_were_meant() {
    let mut server = Server::start();
    ok(
        server.post("/jobs/w?max_deliveries=2&dead_letter=jobs.dead", ""),
        "",
    );
    let headers = [("Content-Type", "text/plain"), ("Nats-Msg-Id", "7")];
    server.http("POST", "/jobs", &headers, b"poison");
    server.post("/jobs", "good");
    let (first, _) = lease(&server, "/jobs/w?lease=1h");
    ok(server.delete(&format!("/jobs/w?lease={first}&return")), "");
    let (_, answer) = lease(&server, "/jobs/w?lease=20ms");
    ok(answer, "poison");
    let dead = ok(server.get("/jobs.dead/w?wait=1m"), "poison");
    for (name, value) in [
        ("content-type", Some("text/plain")),
        ("pinnace-dead-topic", Some("jobs")),
        ("pinnace-dead-subscriber", Some("w")),
        ("pinnace-dead-seq", Some("1")),
        ("pinnace-dead-deliveries", Some("2")),
        ("nats-msg-id", None),
    ] {
        assert_eq!(dead.header(name), value, "{name}");
    }
    // The letter's removal follows its copy.
    wait_for("the burial", || {
        server.get("/jobs").json()["subscribers"][0]["waiting"] == 1
    });
    server.kill();
    server.restart();
    ok(server.get("/jobs/w"), "good");
    assert_eq!(server.get("/jobs/w").status, 204);
}

#[test]
fn limits_of_a_queue_are_kept_shown_and_changed() {
    let server = Server::start();
    ok(
        server.post("/t/a?max_messages=2&overflow=drop-oldest", ""),
        "",
    );
    ok(server.post("/t/b?max_messages=1", ""), "");
    for (text, status) in [("1", 200), ("2", 507)] {
        assert_eq!(server.post("/t", text).status, status);
    }
    ok(
        server.post("/t/b?max_messages=1&overflow=expire&max_age=1h", ""),
        "",
    );
    for text in ["3", "4", "5"] {
        assert_eq!(server.post("/t", text).status, 200);
    }
    let shown = server.get("/t").json();
    assert_eq!(shown["subscribers"].as_array().unwrap().len(), 1, "{shown}");
    let queue = &shown["subscribers"][0];
    assert_eq!(
        (&queue["dropped"], &queue["waiting"]),
        (&2.into(), &2.into()),
        "{shown}"
    );
    assert_eq!(queue["options"]["overflow"], "drop-oldest");
    ok(server.post("/t/a", ""), "");
    assert_eq!(
        server.get("/t").json(),
        shown,
        "asked again without options, it stays"
    );
    ok(server.get("/t/a"), "4");
    assert_eq!(server.get("/t/b").status, 404, "expired");
}

#[test]
fn a_message_with_an_id_is_published_once_whichever_door_it_comes_through() {
    let mut server = Server::start();
    server.post("/t/a", "");
    let publish = |server: &Server, id: &str| {
        let answer = server.http("POST", "/t", &[("Nats-Msg-Id", id)], b"x");
        assert_eq!(answer.status, 200, "{answer:?}");
        let seq = answer.header("pinnace-seq").unwrap().to_owned();
        (seq, answer.header("pinnace-duplicate").map(str::to_owned))
    };
    assert_eq!(publish(&server, "1"), ("1".into(), None));
    assert_eq!(publish(&server, "1"), ("1".into(), Some("true".into())));
    server.kill();
    server.restart();
    assert_eq!(publish(&server, "1"), ("1".into(), Some("true".into())));
    let mut nats = server.nats_client();
    let block = "NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n";
    nats.send("SUB reply 1\r\n");
    nats.send(format!(
        "HPUB t reply {} {}\r\n{block}x\r\n",
        block.len(),
        block.len() + 1
    ));
    assert_eq!(nats.line(), "MSG reply 1 9");
    assert_eq!(nats.line(), "{\"seq\":1}");
    assert_eq!(publish(&server, "2"), ("2".into(), None));
    assert_eq!(server.get("/t").json()["subscribers"][0]["waiting"], 2);
}

#[test]
fn who_has_not_read_a_message_can_be_asked() {
    let server = Server::start();
    for name in ["alice", "bob", "carol"] {
        server.post(&format!("/t/{name}"), "");
    }
    server.post("/t", "17");
    server.get("/t/bob");
    let unread = server.get("/t?unread=1").json();
    assert_eq!(unread["stored"], true);
    let names: Vec<_> = unread["unread"]
        .as_array()
        .unwrap()
        .iter()
        .map(|q| &q["name"])
        .collect();
    assert_eq!(names, ["alice", "carol"]);
    server.get("/t/alice");
    server.get("/t/carol");
    let unread = server.get("/t?unread=1").json();
    assert_eq!(
        (
            &unread["stored"],
            unread["unread"].as_array().unwrap().len()
        ),
        (&false.into(), 0)
    );
}

/// Asks for the next message over a connection of its own.
fn ask(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(&server.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /t/a?wait=1m HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream
}

/// A fetch whose client leaves while it waits gets no message, so the next one does.
#[test]
fn a_fetch_that_was_given_up_takes_nothing() {
    let server = Server::start();
    server.post("/t/a", "");
    for round in 0..50 {
        let mut stream = ask(&server);
        stream.shutdown(Shutdown::Write).unwrap();
        // The server has seen that its client left when it closes its side too.
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"");
        server.post("/t", &round.to_string());
        ok(server.get("/t/a"), &round.to_string());
    }
}

/// Clients that leave just when their message comes make nobody else's come twice.
#[test]
fn fetches_given_up_at_any_moment_double_nothing() {
    let server = Server::start();
    server.post("/t/a", "");
    let mut got = Vec::new();
    for round in 0..100 {
        let stream = ask(&server);
        server.post("/t", &round.to_string());
        drop(stream);
        let answer = server.get("/t/a");
        if answer.status == 200 {
            got.push(answer.text().to_owned());
        }
    }
    loop {
        let answer = server.get("/t/a?wait=200ms");
        if answer.status == 204 {
            break;
        }
        got.push(answer.text().to_owned());
    }
    let count = got.len();
    got.sort();
    got.dedup();
    assert_eq!(got.len(), count, "doubled");
}

/// An answer that does not fit into the socket of a client that then goes away was not received.
#[test]
fn an_answer_that_could_not_be_sent_goes_back_to_its_place() {
    let mut server = Server::start();
    server.post("/t/a", "");
    let large = "x".repeat(1_000_000);
    // More than any socket buffers hold.
    for n in 0..20 {
        server.post("/t", &format!("{n}{large}"));
    }
    let mut stream = TcpStream::connect(&server.http).unwrap();
    write!(stream, "GET /t/a?max=20 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // It is being sent.
    stream.read_exact(&mut [0; 9]).unwrap();
    assert_eq!(server.get("/t/a").status, 204);
    drop(stream);
    wait_for("the return", || {
        server.get("/t").json()["subscribers"][0]["waiting"] == 20
    });
    server.post("/t", "last");
    server.kill();
    server.restart();
    for n in 0..20 {
        let answer = server.get("/t/a");
        assert!(answer.text().starts_with(&format!("{n}x")), "{n}");
    }
    ok(server.get("/t/a"), "last");
}
