//! A server whose storage misbehaves: damage is reported, a full disk is said and heals.

use std::process::Command;

use crate::support::{Server, in_own_mounts, wait_for};

fn segments(server: &Server) -> Vec<std::path::PathBuf> {
    let mut segments: Vec<_> = std::fs::read_dir(server.data().join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    segments
}

fn find(haystack: &[u8], needle: &[u8]) -> usize {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap()
}

#[test]
fn damage_in_the_middle_is_reported_and_costs_one_message() {
    let mut server = Server::start();
    server.post("/t/a", "");
    for text in ["first message", "second message", "third message"] {
        server.post("/t", text);
    }
    server.kill();
    let segment = segments(&server).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = find(&bytes, b"second message");
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    server.restart();
    let health = server.get("/-/health").json();
    assert_eq!(health["status"], "degraded", "{health}");
    assert!(!health["problems"][0].as_str().unwrap().is_empty());
    assert_eq!(server.get("/t/a").text(), "first message");
    assert_eq!(server.get("/t/a").text(), "third message");
    assert_eq!(server.get("/t/a").status, 204);
    assert_eq!(server.post("/t", "fourth").status, 200);
    assert_eq!(server.get("/t/a").text(), "fourth");
    assert!(server.data().join("log/quarantine").is_dir());
}

#[test]
fn a_torn_tail_is_cut_without_complaint() {
    let mut server = Server::start();
    server.post("/t/a", "");
    server.post("/t", "first message");
    server.post("/t", "second message");
    server.kill();
    let segment = segments(&server).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = find(&bytes, b"second message") + 5;
    bytes[at..].fill(0);
    std::fs::write(&segment, &bytes).unwrap();
    server.restart();
    assert_eq!(server.get("/-/health").json()["status"], "ok");
    assert_eq!(server.get("/t/a").text(), "first message");
    assert_eq!(server.get("/t/a").status, 204);
}

/// A file system of its own for the data, small enough to fill: in a mount namespace, so that it
/// goes with the server.
fn server_on_a_small_disk(megabytes: u32) -> Server {
    let setup = format!("mkdir -p data && mount -t tmpfs -o size={megabytes}m none data");
    Server::wrapped(|command| in_own_mounts(&setup, command))
}

#[test]
fn a_full_disk_is_said_and_heals_when_there_is_space_again() {
    let server = server_on_a_small_disk(96);
    server.post("/t/a", "");
    assert_eq!(server.post("/t", "stored").status, 200);
    let body = vec![b'x'; 1 << 20];
    let mut stored = 1;
    let refused = loop {
        let answer = server.http("POST", "/t", &[], &body);
        if answer.status != 200 {
            break answer;
        }
        stored += 1;
        assert!(stored < 200, "96 MiB hold no 200 MiB");
    };
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (507, Some("storage-full"))
    );
    assert_eq!(server.get("/-/health").json()["status"], "degraded");
    assert_eq!(server.get("/-/ready").status, 503);
    // Reading and live messages go on.
    assert_eq!(server.get("/-/topics").status, 200);
    assert_eq!(server.post("/nobody", "x").status, 200);
    let mut grow = Command::new("nsenter");
    grow.args(["-t", &server.pid().to_string(), "-m"]);
    if !rustix::process::geteuid().is_root() {
        grow.args(["-U", "--preserve-credentials"]);
    }
    grow.args(["mount", "-o", "remount,size=512m"])
        .arg(server.data());
    assert!(grow.status().unwrap().success());
    wait_for("space to be found", || {
        server.post("/t", "after").status == 200
    });
    assert_eq!(server.get("/-/health").json()["status"], "ok");
    assert_eq!(server.get("/t/a").text(), "stored");
}
