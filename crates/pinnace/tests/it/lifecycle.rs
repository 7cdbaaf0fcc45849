//! A server's life: ready file, idle end, report at the end, log file, orderly stop.

use serde_json::Value;

use crate::support::{Server, finish, run};

#[test]
fn the_ready_file_is_whole_once_the_doors_accept() {
    let server = Server::with(&["--ready-file", "{}/ready.json"]);
    let ready = std::fs::read_to_string(server.folder.path().join("ready.json")).unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(ready["http"], server.url());
    assert_eq!(ready["nats"], format!("nats://{}", server.nats));
    assert_eq!(ready["pid"], server.pid());
}

#[test]
fn it_ends_by_itself_when_nobody_comes_or_the_last_one_leaves() {
    let mut server = Server::with(&["--exit-when-idle", "300ms"]);
    assert_eq!(server.wait(), 0);
    let mut server = Server::with(&["--exit-when-idle", "1s"]);
    let client = server.nats_client();
    assert_eq!(server.get("/-/health").status, 200);
    drop(client);
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_session_ends_with_a_report_and_a_log_of_everything() {
    let mut server = Server::with(&["--report", "{}/report.html", "--log-file", "{}/server.log"]);
    let here = server.folder.path().to_str().unwrap().to_owned();
    let bench = server.spawn(&[
        "bench",
        "--path",
        &here,
        "--run",
        "r",
        "--id",
        "alpha",
        "--run-time=2s",
        "--chunk-size=64k",
        "--file-size=1M",
        "--rate=8M",
        "--heartbeat=500ms",
    ]);
    finish(bench).expect(0, &[]);
    assert_eq!(server.terminate(), 0);
    let report = std::fs::read_to_string(server.folder.path().join("report.html")).unwrap();
    assert!(
        report.contains("alpha") && report.contains("<svg"),
        "{} bytes",
        report.len()
    );
    let log = std::fs::read_to_string(server.folder.path().join("server.log")).unwrap();
    for word in [
        "client connected",
        "bench client started",
        "heartbeat",
        "sample",
        "resources",
        "rollover",
        "bench client stopped",
        "run finished",
        "client left",
        "report written",
    ] {
        assert!(log.contains(word), "`{word}` is missing in the log:\n{log}");
    }
}

#[test]
fn sigterm_closes_connections_with_a_word() {
    let mut server = Server::start();
    let mut client = server.nats_client();
    assert_eq!(server.terminate(), 0);
    assert!(client.rest().contains("-ERR 'Server Shutdown'"));
}

#[test]
fn an_unusable_data_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let flags = [
        "serve",
        "--http",
        "127.0.0.1:0",
        "--nats",
        "127.0.0.1:0",
        "--data",
        "file",
    ];
    run(folder.path(), &flags).expect(1, &["data folder", "file"]);
}
