//! Mirrors, through the command line and the door.

use std::fs;

use crate::support::{Done, Server, finish, signal, wait_for};

/// It is done, and its output holds each of `parts`.
#[track_caller]
fn says(done: Done, parts: &[&str]) {
    let done = done.expect(0, &[]);
    for part in parts {
        assert!(done.stdout.contains(part), "`{part}` is missing: {done:#?}");
    }
}

#[test]
fn a_directory_is_mirrored_once_and_again() {
    let server = Server::start();
    let source = server.folder.path().join("source");
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::write(source.join("a/b/c"), "content").unwrap();
    let sync = |more: &[&str]| {
        let dir = source.to_str().unwrap();
        server.run(&[&["sync", dir, "photos", "--once", "--json"], more].concat())
    };
    says(sync(&[]), &["\"event\":\"done\"", "\"changes\":4"]);
    let copy = server.data().join("shares/photos/a/b/c");
    assert_eq!(fs::read_to_string(&copy).unwrap(), "content");
    says(sync(&[]), &["\"changes\":0"]);
    says(
        server.run(&["shares"]),
        &["photos", "nobody mirrors into it"],
    );
    let answer = server.get("/-/shares/photos");
    assert_eq!(answer.json()["entries"], 3);
    // What makes no sense is refused with what to do.
    sync(&["--durability", "much"]).expect(2, &["none, batch or strict"]);
    sync(&["--delete-limit", "half"]).expect(2, &["a percentage such as 25%"]);
    server
        .run(&["sync", "/nowhere/at/all", "photos", "--once"])
        .expect(1, &["/nowhere/at/all"]);
    server
        .run(&["sync", "wait", "photos"])
        .expect(1, &["nobody mirrors into `photos` now"]);
}

#[test]
fn mass_deletions_end_with_a_code_of_their_own() {
    let server = Server::start();
    let source = server.folder.path().join("source");
    fs::create_dir(&source).unwrap();
    for number in 0..100 {
        fs::write(source.join(number.to_string()), "x").unwrap();
    }
    let arguments = ["sync", source.to_str().unwrap(), "s", "--once"];
    server.run(&arguments).expect(0, &[]);
    for number in 0..60 {
        fs::remove_file(source.join(number.to_string())).unwrap();
    }
    server.run(&arguments).expect(8, &["--delete-limit"]);
    let share = server.data().join("shares/s");
    assert_eq!(fs::read_dir(&share).unwrap().count(), 100);
    let allowed = [&arguments[..], &["--delete-limit", "off"]].concat();
    server.run(&allowed).expect(0, &[]);
    assert_eq!(fs::read_dir(&share).unwrap().count(), 40);
    says(server.run(&["sync", "trash", "s"]), &["file"]);
}

#[test]
fn changes_arrive_while_it_runs_and_over_a_restart_of_the_server() {
    let mut server = Server::start();
    let source = server.folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let child = server.spawn(&["sync", source.to_str().unwrap(), "s", "--json"]);
    let share = server.data().join("shares/s");
    let arrives = |name: &str| {
        fs::write(source.join(name), name).unwrap();
        wait_for(name, || {
            fs::read_to_string(share.join(name)).is_ok_and(|text| text == name)
        });
    };
    arrives("first");
    server
        .run(&["sync", "wait", "s"])
        .expect(0, &["durable up to change"]);
    says(
        server.run(&["sync", "verify", "s", "--deep"]),
        &["equal: 1 entries"],
    );
    server.kill();
    server.restart();
    arrives("second");
    signal(child.id(), "INT");
    says(finish(child), &["\"event\":\"synced\""]);
}
