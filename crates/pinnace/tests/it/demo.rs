//! The demo, as a newcomer runs it but shorter.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use rustix::process::{Pid, Signal};

use crate::support::{pinnace, run, wait_for};

#[test]
fn it_shows_everything_and_leaves_a_report_and_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let done = run(
        folder.path(),
        &["demo", "--dir", "demo", "--run-time", "8s"],
    )
    .expect(
        0,
        &["synced, fetched by alice", "are durable in the share notes"],
    );
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

#[test]
fn its_mirror_can_be_watched_and_everything_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = pinnace(folder.path())
        .args(["demo", "--dir", "demo", "--run-time", "4s", "--keep"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    // It says on stderr where its server is.
    let words = BufReader::new(demo.stderr.take().unwrap());
    let mut words = words.lines().map(Result::unwrap);
    let line = words.find(|line| line.contains("server: http://")).unwrap();
    let url = line.split_whitespace().nth(1).unwrap().to_owned();
    let group = Group(Pid::from_raw(demo.id().cast_signed()).unwrap());
    // Whatever it says has to be read, or it would wait.
    let keeps = std::thread::spawn(move || words.any(|line| line.contains("still serving")));
    let ask = |arguments: &[&str]| run(folder.path(), &[&["--server", &url], arguments].concat());
    wait_for("changes of every kind in the share", || {
        let shares = ask(&["shares", "--json"]).json();
        let share = &shares["shares"][0];
        share["share"] == "notes"
            && share["trash"].as_u64() > Some(0)
            && share["writer"].is_object()
    });
    let heard = ask(&["sub", "pinnace.sync.notes.changed", "--count", "1"]);
    assert!(heard.stdout.contains("\"share\":\"notes\""), "{heard:?}");
    assert!(keeps.join().unwrap());
    // As Ctrl-C does: everybody of the group is told.
    rustix::process::kill_process_group(group.0, Signal::INT).unwrap();
    demo.wait().unwrap();
    let gone = rustix::process::test_kill_process_group(group.0);
    assert_eq!(gone, Err(rustix::io::Errno::SRCH), "somebody still runs");
    let mut left = std::fs::read_dir(folder.path().join("demo")).unwrap();
    assert!(left.all(|entry| entry.unwrap().file_type().unwrap().is_file()));
}

/// Processes that end with the test, however that ends.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process_group(self.0, Signal::KILL);
    }
}
