//! What the server writes down: its log as JSON, the log of messages, and both moved away while it
//! runs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Server, run, signal, wait_for};

/// The lines of a file that is there, each an object.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.lines().take(text.matches('\n').count());
    whole
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn is_time(value: &Value) -> bool {
    // 2026-11-21T08:30:00.000000Z
    let text = value.as_str().unwrap();
    text.len() == 27 && text.as_bytes()[10] == b'T' && text.ends_with('Z')
}

#[test]
fn the_log_can_be_json_and_holds_one_event_a_line() {
    let mut server = Server::with(&["--log-file", "{}/server.log", "--log-format", "json"]);
    let mut client = server.nats();
    client.send("CONNECT {\"name\":\"a\\n{\\\"level\\\":\\\"error\\\"}\",\"verbose\":false}\r\n");
    client.until_pong();
    server.get("/-/nothing");
    assert_eq!(server.terminate(), 0);
    for (file, refusals) in [("server.log", true), ("stderr", false)] {
        let lines = lines(&server.folder.path().join(file));
        for line in &lines {
            assert!(is_time(&line["time"]), "{line}");
            assert!(
                ["debug", "info", "warn"].contains(&line["level"].as_str().unwrap()),
                "{line}"
            );
            assert!(
                line["target"].as_str().unwrap().starts_with("pinnace"),
                "{line}"
            );
            assert!(!line["message"].as_str().unwrap().is_empty(), "{line}");
        }
        let told = |message: &str| lines.iter().find(|line| line["message"] == message);
        let connected = told("client connected").unwrap();
        assert_eq!(
            connected["fields"]["name"],
            "a\u{fffd}{\"level\":\"error\"}"
        );
        assert_eq!(told("serving").unwrap()["fields"]["http"], server.http);
        assert_eq!(connected["fields"]["connection"], 1);
        assert_eq!(
            told("request refused").is_some(),
            refusals,
            "the file holds more"
        );
    }
}

#[test]
fn messages_are_logged_by_pattern_with_who_sent_them() {
    let mut server = Server::with(&[
        "--message-log-file",
        "{}/messages.log",
        "--message-log-patterns",
        "lab.>, alerts",
        "--message-log-payload",
        "head",
    ]);
    let mut client = server.nats();
    client.send("CONNECT {\"name\":\"rack 3\",\"verbose\":false,\"headers\":true}\r\n");
    client.send("PUB lab.a 2\r\nhi\r\nPUB other 2\r\nno\r\n");
    client.send("HPUB lab.b 22 24\r\nNATS/1.0\r\nTrace: 7\r\n\r\n\u{7}\n\r\n");
    client.until_pong();
    server.post("/alerts/keeper", "");
    server.http(
        "POST",
        "/alerts",
        &[("content-type", "text/plain")],
        &[b'x'; 300],
    );
    server.post("/alerts.not", "x");
    server.http("POST", "/alerts", &[], b"\xff");
    assert_eq!(server.terminate(), 0);
    let lines = lines(&server.folder.path().join("messages.log"));
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for line in &lines {
        assert!(is_time(&line["time"]), "{line}");
        assert!(
            line["address"].as_str().unwrap().starts_with("127.0.0.1:"),
            "{line}"
        );
    }
    let part = |n: usize, key: &str| lines[n][key].clone();
    assert_eq!(
        (
            part(0, "topic"),
            part(0, "text"),
            part(0, "bytes"),
            part(0, "seq")
        ),
        ("lab.a".into(), "hi".into(), 2.into(), Value::Null)
    );
    assert_eq!(
        (part(0, "client"), part(0, "door")),
        ("rack 3".into(), "nats".into())
    );
    assert_eq!(
        (part(1, "headers")["Trace"].clone(), part(1, "text")),
        ("7".into(), "\u{7}\n".into())
    );
    assert_eq!(
        (part(2, "door"), part(2, "seq"), part(2, "bytes")),
        ("http".into(), 1.into(), 300.into())
    );
    assert_eq!(
        (part(2, "text"), part(2, "cut")),
        ("x".repeat(256).into(), true.into())
    );
    assert_eq!(part(2, "headers")["Content-Type"], "text/plain");
    assert_eq!(
        (part(3, "base64"), part(3, "cut")),
        ("/w==".into(), Value::Null)
    );
}

#[test]
fn log_files_can_be_moved_away() {
    let server = Server::with(&[
        "--log-file",
        "{}/server.log",
        "--message-log-file",
        "{}/m.log",
    ]);
    let (log, messages) = (
        server.folder.path().join("server.log"),
        server.folder.path().join("m.log"),
    );
    server.post("/t", "before");
    wait_for("the first line", || lines(&messages).len() == 1);
    for path in [&log, &messages] {
        std::fs::rename(path, path.with_extension("old")).unwrap();
    }
    signal(server.pid(), "HUP");
    wait_for("new files", || log.exists() && messages.exists());
    server.post("/t", "after");
    wait_for("the second line", || lines(&messages).len() == 1);
    assert_eq!(lines(&messages.with_extension("old")).len(), 1);
    wait_for("the word in the new log", || {
        std::fs::read_to_string(&log)
            .unwrap()
            .contains("log files opened anew")
    });
    assert_eq!(server.get("/-/health").status, 200);
}

#[test]
fn a_log_that_is_full_begins_anew() {
    let mut server = Server::with(&[
        "--message-log-file",
        "{}/m.log",
        "--message-log-size",
        "4k",
        "--message-log-keep",
        "2",
    ]);
    for _ in 0..100 {
        server.post("/t", "x");
    }
    assert_eq!(server.terminate(), 0);
    let place = |name: &str| server.folder.path().join(name);
    for name in ["m.log", "m.log.1", "m.log.2"] {
        let bytes = std::fs::metadata(place(name)).unwrap().len();
        assert!(bytes <= 4 << 10, "{name} has {bytes} bytes");
        assert!(!lines(&place(name)).is_empty(), "{name}");
    }
    assert!(!place("m.log.3").exists());
}

/// A disk that does not keep up is a pipe that nobody reads.
#[test]
fn what_the_log_cannot_take_is_counted_and_nobody_waits() {
    const SENT: u64 = 40;
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    // Both ends, so that neither side's opening waits for the other's.
    let both = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let path = pipe.to_str().unwrap();
    let server = Server::with(&[
        "--message-log-file",
        path,
        "--message-log-payload",
        "full",
        "--message-log-size",
        "1G",
    ]);
    let mut client = server.nats_client();
    let large = "x".repeat(1 << 20);
    for _ in 0..SENT {
        client.send(format!("PUB t {}\r\n{large}\r\n", large.len()));
    }
    client.until_pong();
    let mut reader = BufReader::new(both);
    let (mut logged, mut dropped) = (0, 0);
    while logged + dropped < SENT {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        match line["dropped"].as_u64() {
            Some(count) => dropped += count,
            None => {
                assert_eq!(line["text"].as_str().unwrap().len(), large.len());
                logged += 1;
            }
        }
    }
    assert_eq!(logged + dropped, SENT);
    assert!(
        logged >= 15 && dropped >= 5,
        "{logged} logged, {dropped} dropped"
    );
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |flags: &[&str]| {
        let all = [
            "serve",
            "--data",
            "d",
            "--http",
            "127.0.0.1:0",
            "--nats",
            "127.0.0.1:0",
        ];
        run(folder.path(), &[&all[..], flags].concat())
    };
    let file = "--message-log-file=m";
    serve(&["--log-format", "xml"]).expect(2, &["--log-format", "`xml`", "json"]);
    serve(&[file, "--message-log-patterns", "a,b..c"])
        .expect(2, &["--message-log-patterns", "`b..c`"]);
    serve(&[file, "--message-log-payload", "some"])
        .expect(2, &["--message-log-payload", "`some`", "head"]);
    serve(&[file, "--message-log-size", "0"]).expect(2, &["--message-log-size"]);
    serve(&["--message-log-file", "no/such/m"]).expect(1, &["message log", "no/such/m"]);
    std::fs::write(
        folder.path().join("pinnace.yaml"),
        "server: {message_log: {file: m, paterns: [a]}}\n",
    )
    .unwrap();
    serve(&[]).expect(2, &["`paterns`", "`patterns`"]);
}
