//! `pinnace runs`: the database of runs from the command line, in text, JSON, CSV and HTML.

use crate::support::Server;

fn server_with_a_run() -> Server {
    let server = Server::start();
    let here = server.folder.path().to_str().unwrap().to_owned();
    server
        .run(&[
            "bench",
            "--path",
            &here,
            "--run",
            "first",
            "--id",
            "alpha",
            "--run-time=2s",
            "--chunk-size=64k",
            "--file-size=1M",
            "--rate=8M",
            "--solution",
            "tmp-disk",
        ])
        .expect(0, &[]);
    crate::support::wait_for("the run's end", || server.runs()[0]["state"] == "complete");
    server
}

#[test]
fn runs_are_listed_shown_exported_queried_and_removed() {
    let server = server_with_a_run();
    let list = server.run(&["runs", "list"]).expect(0, &[]);
    let line = list.stdout.lines().nth(1).unwrap();
    assert!(line.starts_with("first") && line.contains("complete") && line.contains("tmp-disk"));

    let text = server.run(&["runs", "show", "last"]).expect(0, &[]).stdout;
    assert!(text.contains("alpha"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );

    let summary = server
        .run(&["--json", "runs", "show", "first"])
        .expect(0, &[])
        .json();
    let exported = server
        .run(&["runs", "export", "first"])
        .expect(0, &[])
        .json();
    assert_eq!(summary, exported);
    let record = server
        .run(&["runs", "export", "first", "--format", "record"])
        .expect(0, &[])
        .json();
    assert_eq!(record["clients"][0]["client"], "alpha");
    let csv = server
        .run(&["runs", "export", "first", "--format", "csv"])
        .expect(0, &[])
        .stdout;
    let columns = csv.lines().next().unwrap().split(',').count();
    assert!(csv.lines().count() > 2 && columns > 5, "{csv}");

    let page = server.folder.path().join("page.html");
    let page = page.to_str().unwrap();
    server
        .run(&["runs", "report", "first", "--html", page])
        .expect(0, &[]);
    assert!(std::fs::read_to_string(page).unwrap().contains("</html>"));
    assert_eq!(server.get("/-/runs/first/report.html").status, 200);
    assert_eq!(server.get("/-/runs/first/report.csv").text(), csv);

    let sql = "SELECT client, count(*) AS n FROM rollovers GROUP BY client";
    let rows = server
        .run(&["--json", "runs", "query", sql])
        .expect(0, &[])
        .json();
    assert_eq!(rows["rows"][0][0], "alpha");
    assert!(rows["rows"][0][1].as_u64().unwrap() >= 2);
    assert!(
        server
            .run(&["runs", "query", sql])
            .expect(0, &[])
            .stdout
            .starts_with("client")
    );
    server
        .run(&["runs", "query", "DROP TABLE runs"])
        .expect(1, &["only reads"]);

    server.run(&["runs", "rm", "first"]).expect(0, &[]);
    server
        .run(&["runs", "rm", "first"])
        .expect(1, &["no run `first`"]);
    server
        .run(&["runs", "show", "last"])
        .expect(1, &["no runs yet"]);
}

#[test]
fn messages_from_the_command_line() {
    let server = Server::start();
    server.post("/news/me", "");
    let stored = server
        .run(&["--json", "pub", "news", "hello"])
        .expect(0, &[])
        .json();
    assert_eq!(
        (&stored["seq"].is_u64(), &stored["queues"]),
        (&true, &1.into())
    );
    server
        .run(&["pub", "nobody.there", "x"])
        .expect(0, &["nobody is subscribed"]);
    server
        .run(&["pub", "bad..topic", "x"])
        .expect(1, &["bad..topic"]);
    let queued = server
        .run(&["--json", "sub", "news", "--queue", "me", "--count", "1"])
        .expect(0, &[]);
    assert_eq!(queued.json()["payload"], "hello");
    let topics = server.run(&["topics"]).expect(0, &[]).stdout;
    assert!(topics.contains("news") && topics.contains("me"), "{topics}");

    let live = server.spawn(&["--json", "sub", "live.>", "--count", "1"]);
    crate::support::wait_for("the subscription", || {
        server.get("/-/topics").text().contains("live.>")
    });
    let clients = server.run(&["clients"]).expect(0, &[]).stdout;
    assert!(clients.contains("pinnace-sub"), "{clients}");
    server
        .run(&["pub", "live.x", "{\"a\":1}"])
        .expect(0, &["1 live"]);
    assert_eq!(
        crate::support::finish(live).expect(0, &[]).json()["payload"]["a"],
        1
    );
    assert!(
        server
            .run(&["clients", "--history"])
            .expect(0, &[])
            .stdout
            .contains("closed")
    );
}
