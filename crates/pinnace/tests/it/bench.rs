//! The bench client without a server: bad input, good runs, Ctrl-C, a disk that fills.

use std::path::Path;
use std::process::Stdio;

use crate::support::{Done, finish, in_own_mounts, pinnace, run, signal, wait_for};

/// A job that is over quickly.
const SMALL: [&str; 7] = [
    "bench",
    "--offline",
    "--run-time=1s",
    "--chunk-size=64k",
    "--file-size=1M",
    "--rate=16M",
    "--id=c",
];

fn data_files(folder: &Path) -> usize {
    let is_data = |name: &str| name.ends_with(".dat");
    std::fs::read_dir(folder)
        .unwrap()
        .filter(|entry| is_data(&entry.as_ref().unwrap().file_name().to_string_lossy()))
        .count()
}

#[test]
fn bad_jobs_are_refused_with_what_was_wrong_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let file = format!("{here}/file");
    for (flags, code, parts) in [
        (vec![], 2, vec!["nowhere", "--path"]),
        (
            vec!["--path", "/does/not/exist"],
            2,
            vec!["/does/not/exist", "does not exist"],
        ),
        (vec!["--path", &file], 2, vec!["file", "not a directory"]),
        (vec!["--path", "/proc"], 8, vec!["/proc", "0 B are free"]),
        (
            vec!["--path", here, "--chunk-size", "2M", "--file-size", "1M"],
            2,
            vec!["chunk"],
        ),
        (vec!["--path", here, "--chunk-size", "0"], 2, vec!["chunk"]),
        (vec!["--path", here, "--file-size", "0"], 2, vec!["file"]),
        (vec!["--path", here, "--run-time", "0"], 2, vec!["run_time"]),
        (
            vec!["--path", here, "--heartbeat", "0"],
            2,
            vec!["heartbeat"],
        ),
        (
            vec!["--path", here, "--chunk-size", "ten"],
            2,
            vec!["--chunk-size", "`ten`"],
        ),
        (vec!["--path", here, "--engine", "uring"], 2, vec!["psync"]),
        (vec!["--path", here, "--clients", "0"], 2, vec!["--clients"]),
        (vec!["--path", here, "--id", "a.b"], 2, vec!["--id", "a.b"]),
        (
            vec!["--path", here, "--chunk-size", "1M,2M,3M"],
            2,
            vec!["3 sizes"],
        ),
        (
            vec!["--path", here, "--direct", "--chunk-size", "1000"],
            2,
            vec!["multiple of 4k"],
        ),
        (vec!["--path", here, "--min-free", "99.9%"], 8, vec!["free"]),
        (vec!["absent.yaml"], 2, vec!["absent.yaml"]),
    ] {
        let mut arguments = vec!["bench", "--offline"];
        arguments.extend(&flags);
        run(folder.path(), &arguments).expect(code, &parts);
    }
    assert_eq!(data_files(folder.path()), 0);
}

#[test]
fn a_path_that_is_read_only_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = pinnace(folder.path());
    bench.args(["bench", "--offline", "--path", "fixed"]);
    let setup = "mkdir fixed && mount -t tmpfs -o ro,size=1g none fixed";
    let output = in_own_mounts(setup, &bench)
        .current_dir(folder.path())
        .output()
        .unwrap();
    Done::of(&output, &["bench"]).expect(1, &["`fixed`", "no files can be made", "permissions"]);
}

#[test]
fn a_run_that_cannot_roll_over_twice_is_refused_with_what_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let job = [
        "bench",
        "--offline",
        "--path",
        here,
        "--chunk-size=64k",
        "--rate=1M",
        "--run-time=2s",
    ];
    let flags = [&job[..], &["--file-size=8M"]].concat();
    let refused =
        run(folder.path(), &flags).expect(5, &["file size of at most", "at least", "--force"]);
    assert_eq!(data_files(folder.path()), 0);
    // Both pieces of advice do.
    let words: Vec<&str> = refused.stderr.split_whitespace().collect();
    let after = |word: &str| words.iter().rposition(|w| *w == word).unwrap() + 1;
    let size = format!(
        "--file-size={}k",
        words[after("most")].parse::<f64>().unwrap() as u64
    );
    assert!(refused.stderr.contains("KiB"), "{refused:?}");
    run(folder.path(), &[&job[..], &[&size]].concat()).expect(0, &[]);
    let forced = run(
        folder.path(),
        &[&flags[..], &["--force", "--json"]].concat(),
    )
    .expect(0, &[]);
    assert_eq!(forced.json()["promise"]["outcome"], "missed", "{forced:?}");
}

#[test]
fn a_run_reports_what_it_wrote_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::create_dir_all(&a).unwrap();
    std::fs::create_dir_all(&b).unwrap();
    let flags = [
        "--json",
        "--path",
        a.to_str().unwrap(),
        "--path",
        b.to_str().unwrap(),
    ];
    let done = run(folder.path(), &[&SMALL[..], &flags].concat()).expect(0, &[]);
    let summary = done.json();
    let client = &summary["clients"][0];
    assert_eq!(client["workers"].as_array().unwrap().len(), 2);
    assert!(
        summary["totals"]["rollovers"].as_u64().unwrap() >= 4,
        "{summary}"
    );
    assert!(
        summary["totals"]["bytes"].as_u64().unwrap() > 8 << 20,
        "{summary}"
    );
    assert_eq!((data_files(&a), data_files(&b)), (0, 0));
    // Everything it told is in the event log.
    let events = folder.path().join(".local/state/pinnace/events");
    let log = std::fs::read_dir(events)
        .unwrap()
        .map(|e| e.unwrap().path());
    let log = log
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect::<Vec<_>>();
    let lines = std::fs::read_to_string(&log[0]).unwrap();
    for kind in [
        "started",
        "heartbeat",
        "resources",
        "sample",
        "rollover",
        "stopped",
    ] {
        assert!(lines.contains(&format!("\"event\":\"{kind}\"")), "{kind}");
    }
}

#[test]
fn a_job_file_says_it_all_and_flags_override_it() {
    let folder = tempfile::tempdir().unwrap();
    let job = "job:\n  name: nightly\n  solution: tmp\n  run_time: 60s\n  rate: 16M\n  workers:\n    \
               - {path: ., chunk_size: 64k, file_size: 1M}\n    - {path: ., chunk_size: 128k, file_size: 1M}\n";
    std::fs::write(folder.path().join("job.yaml"), job).unwrap();
    let done = run(
        folder.path(),
        &[
            "bench",
            "job.yaml",
            "--offline",
            "--json",
            "--run-time",
            "1s",
        ],
    );
    let summary = done.expect(0, &[]).json();
    assert_eq!(summary["run"]["name"], "nightly");
    assert_eq!(summary["run"]["solution"], "tmp");
    assert_eq!(
        summary["clients"][0]["workers"].as_array().unwrap().len(),
        2
    );
}

#[test]
fn kept_files_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let flags = [&SMALL[..], &["--path", here, "--keep-files"]].concat();
    run(folder.path(), &flags).expect(0, &[]);
    assert!((2..=3).contains(&data_files(folder.path())));
}

#[test]
fn three_clients_with_a_chunk_size_each_are_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let flags = [&SMALL[..], &["--path", here, "--clients=3", "--json"]].concat();
    let summary = run(folder.path(), &flags).expect(0, &[]).json();
    let chunks: Vec<_> = summary["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|client| client["job"]["workers"][0]["chunk_bytes"].as_u64().unwrap())
        .collect();
    assert_eq!(chunks, [64 << 10, 128 << 10, 256 << 10]);
    assert_eq!(data_files(folder.path()), 0);
}

#[test]
fn ctrl_c_ends_it_in_order_and_keeps_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    for clients in ["1", "3"] {
        let child = pinnace(folder.path())
            .args(SMALL)
            .args([
                "--run-time=60s",
                "--path",
                here,
                "--json",
                "--clients",
                clients,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for("the first files", || data_files(folder.path()) > 0);
        let log = folder.path().join(".local/state/pinnace/events");
        wait_for("a rollover", || {
            let logs = std::fs::read_dir(&log).into_iter().flatten().flatten();
            logs.filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
                .any(|text| text.contains("\"rollover\"") && !text.contains("\"stopped\""))
        });
        signal(child.id(), "INT");
        let done = finish(child).expect(3, &[]);
        let summary = done.json();
        assert_eq!(summary["run"]["state"], "partial");
        assert_eq!(
            summary["clients"].as_array().unwrap().len().to_string(),
            clients
        );
        assert_eq!(data_files(folder.path()), 0);
    }
}

#[test]
fn a_disk_that_fills_up_stops_the_run_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let space = rustix::fs::statvfs(folder.path()).unwrap();
    let free = space.f_bavail * space.f_frsize;
    // Others use this disk too: a wide floor, and a ballast that surely crosses it.
    let floor = format!("--min-free={}", free.saturating_sub(1 << 30));
    let child = pinnace(folder.path())
        .args(SMALL)
        .args(["--run-time=60s", "--path", here, "--json", &floor])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the first files", || data_files(folder.path()) > 1);
    let ballast = std::fs::File::create(folder.path().join("ballast")).unwrap();
    rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, 2 << 30).unwrap();
    let done = finish(child).expect(8, &[]);
    let summary = done.json();
    assert_eq!(
        summary["clients"][0]["stop_reason"], "disk_full",
        "{summary}"
    );
    assert_eq!(data_files(folder.path()), 0);
}
