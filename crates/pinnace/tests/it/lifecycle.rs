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
fn sigterm_tells_clients_to_go_and_closes_those_that_stay() {
    let mut server = Server::start();
    let mut clients: Vec<_> = (0..20).map(|_| server.nats_client()).collect();
    let mut old = server.nats();
    assert_eq!(server.terminate(), 0);
    for client in &mut clients {
        assert!(client.rest().contains("\"ldm\":true"));
    }
    // One that never said it can take an INFO is not sent one.
    assert_eq!(old.rest(), "");
}

#[test]
fn who_is_told_to_go_loses_nothing_that_was_acknowledged() {
    let mut server = Server::start();
    server.post("/orders/reader", "");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let acknowledged = runtime.block_on(async {
        let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
        let client = async_nats::ConnectOptions::new()
            .event_callback(move |event| {
                let told = told.clone();
                async move { drop(told.send(event)) }
            })
            .connect(&server.nats)
            .await
            .unwrap();
        let mut acknowledged = 0_u32;
        let mut is_told = false;
        // Publishes on and on: before the word, between word and end, until nobody answers any more.
        loop {
            let answer = client
                .request("orders", acknowledged.to_string().into())
                .await;
            let Ok(answer) = answer else { break };
            assert!(answer.payload.starts_with(b"{\"seq\":"), "{answer:?}");
            acknowledged += 1;
            if acknowledged == 20 {
                crate::support::signal(server.pid(), "TERM");
            }
            while let Ok(event) = hears.try_recv() {
                is_told |= event == async_nats::Event::LameDuckMode;
            }
        }
        assert!(is_told, "the client was not told");
        acknowledged
    });
    assert_eq!(server.wait(), 0);
    server.restart();
    for number in 0..acknowledged {
        assert_eq!(server.get("/orders/reader").text(), number.to_string());
    }
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
