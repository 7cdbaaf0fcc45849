//! Strangers and mistakes at the doors: none of them disturbs anybody else.

use std::io::Write;
use std::net::TcpStream;

use crate::support::{Raw, Server, http, pinnace, run};

#[test]
fn garbage_is_answered_and_forgotten() {
    let server = Server::start();
    let mut witness = server.nats_client();
    witness.send("SUB here 1\r\n");
    witness.until_pong();
    server.post("/t/a", "");
    // Bytes from a fixed seed, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for address in [&server.nats, &server.http] {
        for round in 0..50 {
            let garbage: Vec<u8> = (0..round * 40)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(&garbage);
        }
        drop(TcpStream::connect(address).unwrap());
    }
    assert_eq!(server.post("/t", "x").status, 200);
    assert_eq!(server.get("/t/a").text(), "x");
    witness.send("PUB here 2\r\nhi\r\n");
    assert_eq!(witness.until_pong(), ["MSG here 1 2", "hi"]);
}

#[test]
fn the_wrong_protocol_is_told_so() {
    let server = Server::start();
    let mut raw = Raw::connect(&server.nats);
    raw.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(raw.rest().contains("-ERR 'Unknown Protocol Operation'"));
    let mut raw = Raw::connect(&server.http);
    raw.send("CONNECT {\"verbose\":false}\r\nPING\r\n");
    assert!(
        raw.rest().starts_with("HTTP/1.1 400"),
        "an HTTP server answers in HTTP"
    );
}

#[test]
fn a_line_of_ten_megabytes_is_cut_short() {
    let server = Server::start();
    let long = vec![b'a'; 10 << 20];
    let mut raw = server.nats();
    raw.send("SUB ");
    // It may be closed before all of it is sent.
    let _ = raw.try_send(&long);
    assert!(raw.rest().contains("maximum control line exceeded"));
    let path = format!("/{}", String::from_utf8(long).unwrap());
    let mut raw = Raw::connect(&server.http);
    let _ = raw.try_send(format!("GET {path} HTTP/1.1\r\n\r\n"));
    let answer = raw.rest();
    assert!(
        answer.starts_with("HTTP/1.1 4"),
        "{}",
        answer.chars().take(80).collect::<String>()
    );
    assert_eq!(server.get("/-/health").status, 200);
}

#[test]
fn a_port_in_use_is_named() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let serve = |http: &str, nats: &str| {
        run(
            folder.path(),
            &["serve", "--data", "d", "--http", http, "--nats", nats],
        )
    };
    serve(&server.http, "127.0.0.1:0").expect(1, &["HTTP door", &server.http, "--http"]);
    serve("127.0.0.1:0", &server.nats).expect(1, &["NATS door", &server.nats, "--nats"]);
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let server = Server::start();
    let data = server.data();
    let flags = [
        "serve",
        "--http",
        "127.0.0.1:0",
        "--nats",
        "127.0.0.1:0",
        "--data",
    ];
    let refused = run(
        server.folder.path(),
        &[&flags[..], &[data.to_str().unwrap()]].concat(),
    );
    refused.expect(
        1,
        &[
            "in use by another pinnace",
            &format!("process {}", server.pid()),
        ],
    );
    assert_eq!(server.get("/-/health").status, 200);
}

#[test]
fn exposing_it_without_authentication_takes_a_flag() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        "serve",
        "--data",
        "d",
        "--http",
        "0.0.0.0:0",
        "--nats",
        "127.0.0.1:0",
    ];
    run(folder.path(), &flags).expect(8, &["0.0.0.0", "--expose-without-authentication"]);
    assert!(!folder.path().join("d").exists());
}

#[test]
fn what_is_stored_by_a_newer_version_is_refused_unchanged() {
    let mut server = Server::start();
    assert_eq!(server.terminate(), 0);
    let database = server.data().join("runs.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let flags = [
        "serve",
        "--data",
        "data",
        "--http",
        "127.0.0.1:0",
        "--nats",
        "127.0.0.1:0",
    ];
    run(server.folder.path(), &flags).expect(1, &["schema 99", "newer version"]);
}

#[test]
fn system_pages_answer() {
    let server = Server::start();
    let info = server.get("/-/info").json();
    assert_eq!(info["server"], "pinnace");
    assert_eq!(info["pid"], server.pid());
    assert_eq!(server.get("/-/health").json()["status"], "ok");
    assert_eq!(server.get("/-/ready").status, 200);
    assert_eq!(server.get("/").json()["links"]["runs"], "/-/runs");
    let keep_alive = http(
        &server.http,
        "GET",
        "/-/runs",
        &[("connection", "close")],
        b"",
    );
    assert_eq!(keep_alive.json()["runs"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let server = Server::start();
    let mut child = pinnace(server.folder.path())
        .args(["--server", &server.url(), "--json", "topics"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = crate::support::finish(child);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}
