//! Mirrors, through the command line and the door.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Done, Server, finish, pinnace, signal, wait_for};

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

/// A share `s` of a source, and what `delete` takes from that in the share's trash.
fn with_trash(server: &Server, fill: impl FnOnce(&Path), delete: impl FnOnce(&Path)) {
    let source = server.folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fill(&source);
    let arguments = ["sync", source.to_str().unwrap(), "s", "--once"];
    let arguments = [&arguments[..], &["--delete-limit", "off"]].concat();
    server.run(&arguments).expect(0, &[]);
    delete(&source);
    server.run(&arguments).expect(0, &[]);
}

fn album(source: &Path) {
    fs::create_dir_all(source.join("album/in")).unwrap();
    fs::write(source.join("album/a"), "a").unwrap();
    fs::hard_link(source.join("album/a"), source.join("album/in/b")).unwrap();
    symlink("../a", source.join("album/in/l")).unwrap();
    fs::set_permissions(source.join("album/in"), Permissions::from_mode(0o750)).unwrap();
    fs::write(source.join("1"), "one").unwrap();
}

fn remove_album(source: &Path) {
    fs::remove_dir_all(source.join("album")).unwrap();
    fs::remove_file(source.join("1")).unwrap();
}

#[test]
fn what_was_deleted_is_written_back_and_mirrored_again() {
    let server = Server::start();
    let mut album_was = None;
    with_trash(&server, album, |source| {
        let dir = fs::metadata(source.join("album/in")).unwrap();
        album_was = Some((dir.mode(), dir.mtime(), dir.mtime_nsec()));
        remove_album(source);
    });
    let source = server.folder.path().join("source");
    says(
        server.run(&["sync", "trash", "s"]),
        &["album", "directory", "id"],
    );
    let to = source.to_str().unwrap();
    let restore =
        |what: &[&str]| server.run(&[&["sync", "restore", "s", "--to", to], what].concat());
    let listed = server.get("/-/shares/s/trash").json();
    let items = listed["items"].as_array().unwrap().clone();
    let id_of = |path: &str| {
        let item = items.iter().find(|item| item["path"] == path).unwrap();
        item["id"].as_u64().unwrap().to_string()
    };
    let live = server.spawn(&["sync", to, "s"]);
    says(restore(&[&id_of("album")]), &["album", "5 entries"]);
    says(restore(&["./1"]), &["3 B"]);
    says(
        restore(&["album/in/b", "--json"]),
        &["\"event\":\"restored\"", "\"path\":\"album/in/b\""],
    );
    let dir = fs::metadata(source.join("album/in")).unwrap();
    assert_eq!(Some((dir.mode(), dir.mtime(), dir.mtime_nsec())), album_was);
    let inode = |path: &str| fs::metadata(source.join(path)).unwrap().ino();
    assert_eq!(inode("album/a"), inode("album/in/b"));
    assert_eq!(
        fs::read_link(source.join("album/in/l")).unwrap(),
        Path::new("../a")
    );
    // The mirror carries all of it into the share, and nothing else.
    server.run(&["sync", "wait", "s"]).expect(0, &[]);
    signal(live.id(), "INT");
    finish(live).expect(0, &[]);
    let share = server.data().join("shares/s");
    assert_eq!(fs::read_to_string(share.join("1")).unwrap(), "one");
    assert_eq!(fs::read_to_string(share.join("album/in/b")).unwrap(), "a");
    assert_eq!(fs::read_dir(&share).unwrap().count(), 3, "album, 1, b");
    // It stays in the trash.
    assert_eq!(server.get("/-/shares/s/trash").json(), listed);
    // Any tar takes it.
    let path = format!("/-/shares/s/trash/{}?path=in", id_of("album"));
    let listing = "drwxr-x--- in/\n-rw-r--r-- in/b\nlrwxrwxrwx in/l -> ../a\n";
    assert_eq!(tar_lists(&plainly(&server, &path)), listing);
}

/// The body of an answer that has it in one piece up to its end, as HTTP/1.0 does.
fn plainly(server: &Server, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(&server.http).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = answer.split_off(head.unwrap() + 4);
    let head = String::from_utf8(answer).unwrap();
    assert!(head.contains("content-type: application/x-tar"), "{head}");
    body
}

/// Modes and names, as tar lists them.
fn tar_lists(archive: &[u8]) -> String {
    let mut tar = Command::new("tar");
    let tar = tar.arg("-tvf-").stdin(Stdio::piped());
    let mut tar = tar.stdout(Stdio::piped()).spawn().unwrap();
    tar.stdin.take().unwrap().write_all(archive).unwrap();
    let listed = tar.wait_with_output().unwrap();
    assert!(listed.status.success());
    let listed = String::from_utf8(listed.stdout).unwrap();
    let columns = listed.lines().map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        format!("{} {}\n", columns[0], columns[5..].join(" "))
    });
    columns.collect()
}

#[test]
fn what_cannot_be_restored_says_why_and_writes_nothing() {
    let server = Server::start();
    with_trash(&server, album, remove_album);
    let to = server.folder.path().join("to");
    fs::create_dir_all(to.join("album")).unwrap();
    let restore = |share: &str, what: &str, to: &Path| {
        let to = to.to_str().unwrap();
        server.run(&["sync", "restore", share, what, "--to", to])
    };
    for (share, what, parts) in [
        (
            "s",
            "77",
            [
                "nothing in the trash of `s` is `77`",
                "pinnace sync trash s",
            ],
        ),
        ("s", "album/no", ["nothing in the trash", "`album/no`"]),
        ("s", "album/../1", ["nothing in the trash", "`album/../1`"]),
        ("none", "1", ["there is no share `none`", ""]),
        (
            "s",
            "album",
            ["album exists, and nothing is written over", "--to DIR"],
        ),
    ] {
        restore(share, what, &to).expect(1, &parts);
    }
    restore("s", "album", Path::new("/nowhere/at/all")).expect(2, &["--to /nowhere/at/all"]);
    restore("a/b", "1", &to).expect(2, &[]);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    assert_eq!(fs::read_dir(to.join("album")).unwrap().count(), 0);
    for (path, status, code) in [
        ("/-/shares/s/trash/x", 404, "no-such-thing"),
        ("/-/shares/s/trash/77", 404, "no-such-thing"),
        ("/-/shares/s/trash/1?path=../2", 404, "no-such-thing"),
        ("/-/shares/s/trash/1?deep", 400, "unknown-parameter"),
    ] {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (status, &code.into()),
            "{path}"
        );
    }
}

#[test]
fn only_administrators_restore() {
    let server = Server::configured(
        "server:\n  auth:\n    users:\n      - {user: admin, password: a}\n      - {user: narrow, password: n, permissions: {publish: {allow: [ok]}}}\n",
    );
    let run = |login: &str, arguments: &[&str]| {
        let output = pinnace(server.folder.path())
            .envs([("PINNACE_USER", login), ("PINNACE_PASSWORD", &login[..1])])
            .args(["--server", &server.url()])
            .args(arguments)
            .output();
        Done::of(&output.unwrap(), arguments)
    };
    let source = server.folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), "a").unwrap();
    let sync = ["sync", source.to_str().unwrap(), "s", "--once"];
    run("admin", &sync).expect(0, &[]);
    fs::remove_file(source.join("a")).unwrap();
    run("admin", &sync).expect(0, &[]);
    let restore = ["sync", "restore", "s", "a", "--to", "source"];
    run("narrow", &restore).expect(6, &["log in as somebody who may"]);
    assert!(!source.join("a").exists());
    run("admin", &restore).expect(0, &[]);
    assert!(source.join("a").exists());
}

#[test]
fn a_server_that_dies_meanwhile_leaves_nothing_half() {
    let mut server = Server::start();
    with_trash(
        &server,
        |source| fs::write(source.join("large"), "x").unwrap(),
        |source| fs::remove_file(source.join("large")).unwrap(),
    );
    // So large that it cannot be through before the server is killed.
    let thing = server.data().join("sync/s/trash/things/1");
    let thing = File::options().write(true).open(thing).unwrap();
    thing.set_len(1 << 40).unwrap();
    let to = server.folder.path().join("to");
    fs::create_dir(&to).unwrap();
    let child = server.spawn(&["sync", "restore", "s", "1", "--to", to.to_str().unwrap()]);
    let count = || fs::read_dir(&to).unwrap().count();
    wait_for("the restore to begin", || count() == 1);
    server.kill();
    finish(child).expect(1, &["broke off", "nothing was written", "try again"]);
    assert_eq!(count(), 0);
    // One who is asked to stop leaves nothing either.
    server.restart();
    let child = server.spawn(&["sync", "restore", "s", "1", "--to", to.to_str().unwrap()]);
    wait_for("the restore to begin", || count() == 1);
    signal(child.id(), "INT");
    finish(child).expect(1, &["it was stopped"]);
    assert_eq!(count(), 0);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_why() {
    let server = Server::start();
    let source = server.folder.path().join("source");
    fs::create_dir_all(source.join("old")).unwrap();
    for name in ["content", "mode", "gone", "kind", "first"] {
        fs::write(source.join(name), "x").unwrap();
    }
    let sync = |more: &str| server.run(&["sync", source.to_str().unwrap(), "s", "--once", more]);
    says(sync("--dry-run"), &["put content (new)"]);
    assert!(!server.data().join("shares/s/content").exists());
    sync("--json").expect(0, &[]);
    fs::write(source.join("content"), "other").unwrap();
    fs::set_permissions(source.join("mode"), Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(source.join("gone")).unwrap();
    fs::remove_file(source.join("kind")).unwrap();
    symlink("content", source.join("kind")).unwrap();
    fs::hard_link(source.join("first"), source.join("name")).unwrap();
    fs::rename(source.join("old"), source.join("young")).unwrap();
    let told = [
        "put content (content, time)",
        "put mode (mode)",
        "put kind (of another kind)",
        "(another name of ",
        "put . (time)",
        "rename old -> young (renamed)",
        "remove gone (gone, or left out)",
    ];
    says(sync("--dry-run"), &told);
    let output = server.run(&["sync", source.to_str().unwrap(), "s", "--dry-run", "--json"]);
    says(output, &["\"path\":\"mode\",\"detail\":\"mode\""]);
}

#[test]
fn programs_are_told_how_far_it_is() {
    let server = Server::start();
    let source = server.folder.path().join("source");
    fs::create_dir(&source).unwrap();
    // What nothing makes smaller, at a pace that takes two seconds.
    let mut random = File::open("/dev/urandom").unwrap().take(4 << 20);
    let mut file = File::create(source.join("file")).unwrap();
    std::io::copy(&mut random, &mut file).unwrap();
    let arguments = ["--once", "--json", "--bandwidth", "2M"];
    let arguments = [&["sync", source.to_str().unwrap(), "s"], &arguments[..]].concat();
    says(
        server.run(&arguments),
        &["\"event\":\"progress\",\"entries\":", "\"bytes_per_s\":"],
    );
}
