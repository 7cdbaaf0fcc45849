//! Looking after what is stored: checks of a server at work and of a folder at rest, backups under load,
//! restores, and what is left when one of them goes wrong.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use serde_json::Value;

use crate::support::{Done, PATIENCE, Server, in_own_mounts, pinnace, run, wait_for};

/// Flips a bit where `text` stands in the server's log.
fn hurt(server: &Server, text: &str) {
    let segment = server.data().join("log/00000000000000000001.log");
    let bytes = std::fs::read(&segment).unwrap();
    let mut places = bytes.windows(text.len());
    let at = places.position(|window| window == text.as_bytes()).unwrap();
    let file = std::fs::File::options().write(true).open(&segment).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, &[bytes[at] ^ 1], at as u64).unwrap();
}

fn filled() -> Server {
    let server = Server::start();
    for queue in ["/t/a", "/t/b"] {
        server.post(queue, "");
    }
    for text in ["first message", "second message", "third message"] {
        assert_eq!(server.post("/t", text).status, 200);
    }
    server
}

#[test]
fn a_server_checks_its_own_log_while_it_works() {
    let server = filled();
    let clean = server.run(&["--json", "topics", "check"]).expect(0, &[]);
    let document = clean.json();
    assert_eq!(document["v"], 1);
    assert_eq!(document["clean"], true, "{document}");
    assert_eq!(
        (&document["messages"], &document["queues"]),
        (&3.into(), &3.into())
    );
    assert_eq!(server.get("/t/b").text(), "first message");
    assert_eq!(server.get("/t/b").text(), "second message");
    hurt(&server, "second message");
    let damaged = server.run(&["topics", "check"]).expect(7, &[]);
    for part in ["message 2 on t, which waits for a\n", "damaged in 1 place"] {
        assert!(damaged.stdout.contains(part), "{damaged:?}");
    }
    let document = server
        .run(&["--json", "topics", "check"])
        .expect(7, &[])
        .json();
    let problem = &document["problems"][0];
    assert_eq!(problem["kind"], "records");
    assert_eq!(problem["lost"][0]["queues"][0]["name"], "a");
    // It goes on, and without a command topics are listed as ever.
    assert_eq!(server.post("/t", "fourth").status, 200);
    assert!(
        server
            .run(&["topics"])
            .expect(0, &[])
            .stdout
            .contains("waiting")
    );
}

/// Names, contents and times of everything in a folder.
fn everything(folder: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let modified = path.metadata().unwrap().modified().unwrap();
        let name = path.display().to_string();
        if path.is_dir() {
            found.extend(everything(&path));
            found.insert(name, (Vec::new(), modified));
        } else {
            found.insert(name, (std::fs::read(&path).unwrap(), modified));
        }
    }
    found
}

#[test]
fn a_folder_at_rest_is_checked_and_not_touched() {
    let mut server = filled();
    let flags = ["topics", "check", "--data", "data"];
    let pid = format!("process {}", server.pid());
    run(server.folder.path(), &flags).expect(1, &["in use", &pid, "without --data"]);
    server.kill();
    let check = |code: i32, parts: &[&str]| {
        let before = everything(server.folder.path());
        let done = run(server.folder.path(), &flags).expect(code, &[]);
        assert!(everything(server.folder.path()) == before, "it was changed");
        for part in parts {
            assert!(done.stdout.contains(part), "{done:?}");
        }
    };
    check(0, &["clean: "]);
    hurt(&server, "second message");
    check(7, &["message 2, unless taken before", "damaged in 1 place"]);
    hurt(&server, "recond message");
    // What a crash leaves of a record that nobody was told is stored.
    let segment = server.data().join("log/00000000000000000001.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end + 30..end + 50].fill(7);
    std::fs::write(&segment, bytes).unwrap();
    check(0, &["unfinished at ", "no damage", "clean: "]);
    run(server.folder.path(), &["topics", "check", "--data", "else"])
        .expect(2, &["no topics in else"]);
}

/// Publishes numbered messages until told to stop; says how many were acknowledged.
fn publish_on(
    server: &Server,
    publisher: usize,
    acknowledged: &Mutex<[u64; 4]>,
    stop: &AtomicBool,
) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let body = format!("{publisher} {number}");
        assert_eq!(server.post("/t", &body).status, 200);
        acknowledged.lock().unwrap()[publisher] = number;
    }
}

#[test]
fn a_backup_under_load_is_the_state_of_one_moment() {
    let mut server = Server::start();
    for path in ["/t/a", "/t/b", "/gone/x"] {
        server.post(path, "");
    }
    server.delete("/gone/x");
    server.run(&["request", "$PN.create.plans"]).expect(0, &[]);
    let (acknowledged, stop) = (Mutex::new([0; 4]), AtomicBool::new(false));
    let sum = || acknowledged.lock().unwrap().iter().sum::<u64>();
    let before = std::thread::scope(|scope| {
        for publisher in 0..4 {
            let (server, acknowledged, stop) = (&server, &acknowledged, &stop);
            scope.spawn(move || publish_on(server, publisher, acknowledged, stop));
        }
        wait_for("publishers", || sum() > 200);
        for _ in 0..10 {
            assert_eq!(server.get("/t/b").status, 200);
        }
        let before = *acknowledged.lock().unwrap();
        server.run(&["topics", "backup", "b.bak"]).expect(0, &[]);
        let count = sum();
        wait_for("publishers after the backup", || sum() > count + 50);
        stop.store(true, Ordering::Relaxed);
        before
    });
    server.kill();
    run(
        server.folder.path(),
        &["topics", "check", "--file", "b.bak"],
    )
    .expect(0, &[]);
    let folder = tempfile::tempdir().unwrap();
    let backup = server.folder.path().join("b.bak");
    let restore = [
        "topics",
        "restore",
        backup.to_str().unwrap(),
        "--data",
        "data",
    ];
    run(folder.path(), &restore).expect(0, &[]);
    run(folder.path(), &restore).expect(8, &["holds topics already", "`log`"]);

    let restored = Server::on(folder);
    let listed = restored.get("/-/topics").text().to_owned();
    assert!(
        listed.contains("plans") && !listed.contains("gone"),
        "{listed}"
    );
    let all = numbers(&restored, "/t/a");
    for (publisher, numbers) in &all {
        // No holes: everything up to some moment, which was not before the backup began.
        assert_eq!(*numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        assert!(numbers.len() as u64 >= before[*publisher], "{publisher}");
    }
    let count = |all: &BTreeMap<usize, Vec<u64>>| all.values().map(Vec::len).sum::<usize>();
    // What was taken before is taken.
    assert_eq!(count(&numbers(&restored, "/t/b")), count(&all) - 10);
}

/// What waits in a queue, by publisher.
fn numbers(server: &Server, queue: &str) -> BTreeMap<usize, Vec<u64>> {
    let mut found: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    loop {
        let answer = server.get(&format!("{queue}?max=1000"));
        if answer.status == 204 {
            return found;
        }
        for line in answer.text().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let (publisher, number) = line["text"].as_str().unwrap().split_once(' ').unwrap();
            let numbers = found.entry(publisher.parse().unwrap()).or_default();
            numbers.push(number.parse().unwrap());
        }
    }
}

#[test]
fn a_backup_that_is_not_whole_is_refused_and_leaves_nothing() {
    let server = filled();
    let folder = server.folder.path();
    server.run(&["topics", "backup", "b.bak"]).expect(0, &[]);
    let whole = std::fs::read(folder.join("b.bak")).unwrap();
    let middle = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[middle] ^= 1;
    for (bytes, code, part) in [
        (&whole[..whole.len() - 1], 7, "cut off after"),
        (&whole[..middle], 7, "cut off after"),
        (&flipped, 7, "damaged at byte"),
        (b"{}", 1, "no backup"),
    ] {
        std::fs::write(folder.join("bad"), bytes).unwrap();
        run(folder, &["topics", "check", "--file", "bad"]).expect(code, &[part]);
        run(folder, &["topics", "restore", "bad", "--data", "new"]).expect(code, &[part]);
        assert!(!folder.join("new/log").exists() && !folder.join("new/channels").exists());
    }
    run(folder, &["topics", "restore", "b.bak", "--data", "data"]).expect(1, &["in use"]);
    // Something that is no file is not replaced.
    std::fs::create_dir(folder.join("d")).unwrap();
    server
        .run(&["topics", "backup", "d"])
        .expect(1, &["cannot be written"]);
    server
        .run(&["topics", "backup", "no/b"])
        .expect(1, &["cannot be written"]);
}

/// A server with more stored than fits between it and a client that does not read.
fn heavy() -> Server {
    let server = Server::start();
    server.post("/t/a", "");
    let body = vec![b'x'; 1 << 20];
    for _ in 0..40 {
        assert_eq!(server.http("POST", "/t", &[], &body).status, 200);
    }
    server
}

#[test]
fn a_backup_whose_client_goes_away_ends_on_the_server() {
    let server = heavy();
    let mut client = TcpStream::connect(&server.http).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
        .write_all(b"GET /-/topics/backup HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    client.read_exact(&mut [0; 4096]).unwrap();
    for (method, path) in [("POST", "/-/topics/check"), ("GET", "/-/topics/backup")] {
        let busy = server.http(method, path, &[], b"");
        assert_eq!(
            (busy.status, busy.json()["code"].as_str()),
            (409, Some("busy"))
        );
    }
    assert_eq!(server.post("/t", "goes on").status, 200);
    drop(client);
    wait_for("the end of the backup", || {
        server.post("/-/topics/check", "").status == 200
    });
}

/// Somebody who answers like a server that sends a backup, with these bytes, and then waits for the word.
fn half_a_backup(bytes: &'static [u8], wait: impl FnOnce() + Send + 'static) -> String {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", door.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut client, _) = door.accept().unwrap();
        let _ = client.read(&mut [0; 4096]);
        let head = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
            bytes.len()
        );
        client
            .write_all(&[head.as_bytes(), bytes, b"\r\n"].concat())
            .unwrap();
        wait();
    });
    url
}

#[test]
fn a_backup_that_breaks_off_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let url = half_a_backup(b"PINNBAK\0\x01\0\0\0", || ());
    let flags = ["--server", &url, "topics", "backup", "b.bak"];
    run(folder.path(), &flags).expect(1, &["did not arrive whole"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    // Killed in the middle.
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let url = half_a_backup(b"PINNBAK\0\x01\0\0\0", move || {
        // Its end is the word.
        let _ = gone.recv();
    });
    let mut killed = pinnace(folder.path())
        .args(["--server", &url, "topics", "backup", "b.bak"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let held = format!("/proc/{}/fd", killed.id());
    wait_for("an open file", || {
        let fds = std::fs::read_dir(&held).unwrap().filter_map(Result::ok);
        let mut targets = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        targets.any(|target| target.starts_with(folder.path()))
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    drop(go);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_full_disk_at_the_client_is_said_and_leaves_no_file() {
    let server = heavy();
    let mut script = Command::new("sh");
    script.args(["-c", "\"$@\"; code=$?; ls -A small; exit $code", "sh"]);
    script.arg(env!("CARGO_BIN_EXE_pinnace"));
    script.args(["--server", &server.url(), "topics", "backup", "small/b.bak"]);
    let setup = "mkdir -p small && mount -t tmpfs -o size=4m none small";
    let output = in_own_mounts(setup, &script)
        .current_dir(server.folder.path())
        .output()
        .unwrap();
    let done = Done::of(&output, &["backup"]).expect(1, &["b.bak cannot be written", "No space"]);
    assert_eq!(done.stdout, "");
    wait_for("the end of the backup", || {
        server.post("/-/topics/check", "").status == 200
    });
}
