//! Bench clients and a server: everything told is stored, whoever dies on the way.

use std::path::PathBuf;
use std::process::Child;

use crate::support::{Server, finish, signal, wait_for};

fn job(server: &Server, run: &str, id: &str, run_time: &str) -> Vec<String> {
    let here = server.folder.path().join(format!("work-{id}"));
    std::fs::create_dir_all(&here).unwrap();
    let path = here.to_str().unwrap();
    let flags = [
        "bench",
        "--json",
        "--path",
        path,
        "--chunk-size=64k",
        "--file-size=1M",
        "--rate=8M",
        "--heartbeat=500ms",
        "--run",
        run,
        "--id",
        id,
        "--run-time",
        run_time,
    ];
    flags.map(str::to_owned).to_vec()
}

fn spawn(server: &Server, run: &str, id: &str, run_time: &str) -> Child {
    let flags = job(server, run, id, run_time);
    server.spawn(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn query(server: &Server, sql: &str) -> Vec<Vec<serde_json::Value>> {
    let body = serde_json::json!({ "sql": sql }).to_string();
    let rows = server.post("/-/query", &body).json();
    serde_json::from_value(rows["rows"].clone()).unwrap_or_else(|_| panic!("{rows}"))
}

fn count(server: &Server, condition: &str) -> u64 {
    query(
        server,
        &format!("SELECT count(*) FROM events WHERE {condition}"),
    )[0][0]
        .as_u64()
        .unwrap()
}

fn event_log(server: &Server, run: &str, id: &str) -> PathBuf {
    let events = server.folder.path().join(".local/state/pinnace/events");
    let prefix = format!("{run}.{id}.");
    let found = std::fs::read_dir(events)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(&prefix) && name.ends_with(".jsonl")
        });
    found.unwrap()
}

/// What the client logged is what the database has, event by event.
#[track_caller]
fn assert_all_stored(server: &Server, run: &str, id: &str) {
    let logged = std::fs::read_to_string(event_log(server, run, id)).unwrap();
    let logged: Vec<&str> = logged.lines().collect();
    let sql = format!(
        "SELECT document FROM events WHERE run = '{run}' AND client = '{id}' \
         AND instance <> 'server' ORDER BY n"
    );
    wait_for("all events in the database", || {
        query(server, &sql).len() >= logged.len()
    });
    let stored = query(server, &sql);
    let stored: Vec<&str> = stored.iter().map(|row| row[0].as_str().unwrap()).collect();
    assert_eq!(stored, logged);
}

fn run_of(server: &Server, id: &str) -> Option<serde_json::Value> {
    server.runs().into_iter().find(|run| run["id"] == id)
}

#[track_caller]
fn wait_for_state(server: &Server, run: &str, state: &str) {
    wait_for(state, || {
        run_of(server, run).is_some_and(|run| run["state"] == state)
    });
}

#[test]
fn what_a_client_tells_is_stored_and_the_run_is_complete() {
    let server = Server::start();
    let mut watcher = server.nats_client();
    watcher.send("SUB pinnace.bench.r.> 1\r\n");
    watcher.until_pong();
    let client = spawn(&server, "r", "a", "2s");
    finish(client).expect(0, &[]);
    wait_for_state(&server, "r", "complete");
    assert_all_stored(&server, "r", "a");
    let seen = watcher.until_pong().join("\n");
    for kind in [
        "a.started",
        "a.heartbeat",
        "a.resources",
        "a.sample",
        "a.rollover",
        "a.stopped",
        "finished",
    ] {
        assert!(
            seen.contains(&format!("MSG pinnace.bench.r.{kind} ")),
            "{kind}"
        );
    }
    let finished = seen
        .lines()
        .find(|line| line.contains("\"clients_stopped\""))
        .unwrap();
    let finished: serde_json::Value = serde_json::from_str(finished).unwrap();
    assert!(finished["coverage"].as_f64().unwrap() > 0.9, "{finished}");
    assert_eq!(
        (&finished["clients_stopped"], &finished["clients_lost"]),
        (&1.into(), &0.into())
    );
}

#[test]
fn clients_started_by_hand_are_one_run() {
    let server = Server::start();
    let clients = [
        spawn(&server, "r", "a", "2s"),
        spawn(&server, "r", "b", "2s"),
    ];
    for client in clients {
        finish(client).expect(0, &[]);
    }
    wait_for_state(&server, "r", "complete");
    let run = run_of(&server, "r").unwrap();
    assert_eq!(
        (&run["clients"], &run["clients_lost"]),
        (&2.into(), &0.into())
    );
}

#[test]
fn two_clients_with_one_name_are_told_apart_and_the_second_is_refused() {
    let server = Server::start();
    let first = spawn(&server, "r", "a", "3s");
    wait_for("the first", || count(&server, "event = 'started'") == 1);
    let second = spawn(&server, "r", "a", "3s");
    finish(second).expect(1, &["`a`", "already takes part", "--id"]);
    finish(first).expect(0, &[]);
    wait_for_state(&server, "r", "complete");
    assert_all_stored(&server, "r", "a");
}

#[test]
fn a_killed_client_is_lost_and_costs_only_its_share() {
    let server = Server::start();
    let mut killed = spawn(&server, "r", "killed", "60s");
    let other = spawn(&server, "r", "other", "3s");
    wait_for("samples", || {
        count(&server, "client = 'killed' AND event = 'sample'") >= 2
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    wait_for("the loss", || {
        count(&server, "client = 'killed' AND event = 'lost'") == 1
    });
    finish(other).expect(0, &[]);
    wait_for_state(&server, "r", "partial");
    assert_all_stored(&server, "r", "killed");
    let summary = server.get("/-/runs/r/report.json").json();
    let coverage = summary["coverage"]["share"].as_f64().unwrap();
    assert!(coverage > 0.02 && coverage < 0.6, "{coverage}");
    assert!(
        summary["warnings"].to_string().contains("killed"),
        "{}",
        summary["warnings"]
    );
    assert_eq!(run_of(&server, "r").unwrap()["clients_lost"], 1);
}

#[test]
fn a_silent_client_is_lost_after_three_heartbeats_and_may_come_back() {
    let server = Server::start();
    let silent = spawn(&server, "r", "silent", "4s");
    wait_for("a sample", || count(&server, "event = 'sample'") >= 1);
    signal(silent.id(), "STOP");
    wait_for("the loss", || count(&server, "event = 'lost'") == 1);
    let lost = query(
        &server,
        "SELECT document ->> 'reason' FROM events WHERE event = 'lost'",
    );
    assert_eq!(lost[0][0], "heartbeats");
    assert_eq!(run_of(&server, "r").unwrap()["state"], "partial");
    signal(silent.id(), "CONT");
    finish(silent).expect(0, &[]);
    wait_for_state(&server, "r", "complete");
    assert_all_stored(&server, "r", "silent");
}

#[test]
fn a_server_killed_in_the_middle_of_a_run_loses_no_event() {
    let mut server = Server::start();
    let client = spawn(&server, "r", "a", "6s");
    for _ in 0..3 {
        let before = count(&server, "1");
        wait_for("new events", || count(&server, "1") > before);
        server.kill();
        server.restart();
    }
    finish(client).expect(0, &[]);
    wait_for_state(&server, "r", "complete");
    assert_all_stored(&server, "r", "a");
}

#[test]
fn events_for_a_server_that_never_came_back_are_delivered_by_the_next_client() {
    let mut server = Server::start();
    let client = spawn(&server, "r", "a", "2s");
    wait_for("the start", || count(&server, "event = 'started'") == 1);
    server.kill();
    finish(client).expect(3, &["could not be brought to the server", "kept in"]);
    server.restart();
    let next = spawn(&server, "s", "b", "2s");
    finish(next).expect(0, &[]);
    wait_for_state(&server, "r", "complete");
    assert_all_stored(&server, "r", "a");
}

#[test]
fn a_client_of_a_fleet_that_is_killed_leaves_no_files() {
    let server = Server::start();
    let mut flags = job(&server, "r", "f", "60s");
    flags.push("--clients=3".into());
    let fleet = server.spawn(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for("three clients", || {
        count(&server, "event = 'rollover'") >= 3
    });
    let children = std::process::Command::new("ps")
        .args(["-o", "pid=", "--ppid", &fleet.id().to_string()])
        .output()
        .unwrap();
    let children = String::from_utf8(children.stdout).unwrap();
    let victim: u32 = children.split_whitespace().next().unwrap().parse().unwrap();
    signal(victim, "KILL");
    wait_for("the loss", || count(&server, "event = 'lost'") == 1);
    signal(fleet.id(), "TERM");
    finish(fleet).expect(3, &["killed by signal 9"]);
    let work = server.folder.path().join("work-f");
    assert_eq!(std::fs::read_dir(work).unwrap().count(), 0);
}

#[test]
fn a_clock_that_steps_back_changes_no_duration() {
    let server = Server::start();
    let here = server.folder.path().to_str().unwrap().to_owned();
    let bench = server.spawn(&[
        "bench",
        "--path",
        &here,
        "--run",
        "real",
        "--id",
        "a",
        "--run-time=2s",
        "--chunk-size=64k",
        "--file-size=1M",
        "--rate=8M",
    ]);
    finish(bench).expect(0, &[]);
    wait_for_state(&server, "real", "complete");
    // The same events told again as another run, by a client whose clock steps back a day each time.
    let events = query(
        &server,
        "SELECT document FROM events WHERE run = 'real' ORDER BY n",
    );
    for (n, event) in events.iter().enumerate() {
        let mut event: serde_json::Value =
            serde_json::from_str(event[0].as_str().unwrap()).unwrap();
        event["run"] = "stepping".into();
        let at_us = event["at_us"].as_u64().unwrap() - n as u64 * 86_400_000_000;
        event["at_us"] = at_us.into();
        let topic = format!(
            "/pinnace.bench.stepping.a.{}",
            event["event"].as_str().unwrap()
        );
        assert_eq!(server.post(&topic, &event.to_string()).status, 200);
    }
    wait_for_state(&server, "stepping", "complete");
    let report = |run: &str| server.get(&format!("/-/runs/{run}/report.json")).json();
    let (real, stepping) = (report("real"), report("stepping"));
    for field in ["coverage", "writes", "syncs"] {
        assert_eq!(stepping[field], real[field], "{field}");
    }
    assert_eq!(
        stepping["totals"]["duration_us"],
        real["totals"]["duration_us"]
    );
    assert!(
        stepping["warnings"].to_string().contains("clock"),
        "{}",
        stepping["warnings"]
    );
}

#[test]
fn what_is_no_event_is_ignored_with_a_word_in_the_log() {
    let server = Server::with(&["--log-file", "{}/server.log"]);
    for (topic, body) in [
        ("/pinnace.bench.r.a.started", "{"),
        ("/pinnace.bench.r.a.sample", "{\"v\":7}"),
        ("/pinnace.bench.r.a.dance", "[]"),
    ] {
        assert_eq!(server.post(topic, body).status, 200);
    }
    let log = server.folder.path().join("server.log");
    wait_for("three warnings", || {
        std::fs::read_to_string(&log)
            .unwrap()
            .matches("no bench event")
            .count()
            == 3
    });
    assert!(server.runs().is_empty());
}
