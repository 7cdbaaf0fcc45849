//! The demo, as a newcomer runs it but shorter.

use crate::support::run;

#[test]
fn it_shows_everything_and_leaves_a_report_and_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let done = run(
        folder.path(),
        &["demo", "--dir", "demo", "--run-time", "8s"],
    )
    .expect(0, &["synced, fetched by alice"]);
    assert!(
        done.stdout.contains("report.html") && done.stdout.contains("runs.db"),
        "{done:?}"
    );
    let mut left: Vec<_> = std::fs::read_dir(folder.path().join("demo"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["report.html", "runs.db"]);
    let database = rusqlite::Connection::open(folder.path().join("demo/runs.db")).unwrap();
    let mut statement = database
        .prepare("SELECT client, count(*) FROM rollovers GROUP BY client ORDER BY client")
        .unwrap();
    let rollovers: Vec<(String, u32)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rollovers.len(), 3, "{rollovers:?}");
    assert!(
        rollovers.iter().all(|(_, count)| *count >= 2),
        "{rollovers:?}"
    );
    let written: i64 = database
        .query_row("SELECT sum(bytes) FROM samples", [], |row| row.get(0))
        .unwrap();
    assert!(written < 3 << 30, "{written}");
}
