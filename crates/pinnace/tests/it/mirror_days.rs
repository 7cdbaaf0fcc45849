//! Bad days of a mirror: a network that is cut or swallows everything, a full disk, a share or what is known of it removed by
//! somebody, two who want the same share, a source that vanished, Ctrl-C, and wrong words on the command line.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{Server, finish, in_own_mounts, pinnace, signal, wait_for};
use crate::trees::{Version, assert_read_same, assert_rsync_finds_nothing, assert_same, put};

/// A source with a file of some megabytes and many small ones.
fn source(folder: &Path) -> PathBuf {
    let root = folder.join("source");
    fs::create_dir_all(root.join("d/e")).unwrap();
    for number in 0..300 {
        let dir = if number % 2 == 0 { "d" } else { "d/e" };
        write(&root, &format!("{dir}/{number}"), number, 3_000);
    }
    write(&root, "large", 1, 6_000_000);
    root
}

const SOURCE_BYTES: u64 = 6_000_000 + 300 * 3_000;

fn write(root: &Path, at: &str, seed: u64, bytes: usize) {
    let workshop = root.parent().unwrap();
    put(workshop, &root.join(at), Version::plain(seed, bytes)).unwrap();
}

/// Starts a client that writes what it says to a file, where it can be read meanwhile.
fn client(server: &Server, url: &str, arguments: &[&str]) -> Child {
    let said = fs::File::create(said(server)).unwrap();
    pinnace(server.folder.path())
        .args(["--server", url, "sync", "--json"])
        .args(arguments)
        .stdout(said)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn said(server: &Server) -> PathBuf {
    server.folder.path().join("said")
}

#[track_caller]
fn wait_until_said(server: &Server, word: &str) {
    wait_for(word, || {
        fs::read_to_string(said(server)).is_ok_and(|text| text.contains(word))
    });
}

#[track_caller]
fn wait_until_equal(server: &Server, share: &str) {
    wait_for("the share to be equal", || {
        server.run(&["sync", "wait", share]).code == 0
    });
}

/// A network between client and server that a test can spoil.
struct Network {
    url: String,
    open: Arc<Mutex<Vec<[TcpStream; 2]>>>,
    /// Connections up to this number swallow what they are given.
    swallowing: Arc<AtomicU64>,
    made: Arc<AtomicU64>,
    sent_bytes: Arc<AtomicU64>,
}

impl Network {
    fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let network = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            open: Arc::default(),
            swallowing: Arc::default(),
            made: Arc::default(),
            sent_bytes: Arc::default(),
        };
        let (open, swallowing) = (network.open.clone(), network.swallowing.clone());
        let (made, sent) = (network.made.clone(), network.sent_bytes.clone());
        let target = server.http.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&target) else {
                    continue;
                };
                let number = 1 + made.fetch_add(1, Ordering::Relaxed);
                let ends = || [near.try_clone().unwrap(), far.try_clone().unwrap()];
                open.lock().unwrap().push(ends());
                let [(up, down), (back, on)] = [ends(), ends()].map(|[near, far]| (near, far));
                for (from, to, count) in [(up, down, sent.clone()), (on, back, Arc::default())] {
                    let swallowing = swallowing.clone();
                    std::thread::spawn(move || pump(from, to, number, &swallowing, &count));
                }
            }
        });
        network
    }

    fn cut(&self) {
        for ends in self.open.lock().unwrap().drain(..) {
            ends.iter()
                .for_each(|end| drop(end.shutdown(Shutdown::Both)));
        }
    }

    /// What is connected now stays connected, and nothing comes through any more.
    fn swallow(&self) {
        let made = self.made.load(Ordering::Relaxed);
        self.swallowing.store(made, Ordering::Relaxed);
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    number: u64,
    swallowing: &AtomicU64,
    sent: &AtomicU64,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if number <= swallowing.load(Ordering::Relaxed) {
            continue;
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        sent.fetch_add(count as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_cut_network_costs_only_what_was_under_way() {
    let server = Server::start();
    let (root, network) = (source(server.folder.path()), Network::to(&server));
    let child = client(&server, &network.url, &[root.to_str().unwrap(), "s"]);
    wait_until_said(&server, "\"event\":\"synced\"");
    let share = server.data().join("shares/s");
    assert_same(&root, &share);
    assert!(network.sent_bytes() > SOURCE_BYTES, "the tree went through");
    for round in 0..5 {
        let before = network.sent_bytes();
        network.cut();
        let name = format!("d/after{round}");
        write(&root, &name, round, 1_000);
        wait_for(&name, || share.join(&name).exists());
        wait_until_equal(&server, "s");
        let bytes = network.sent_bytes() - before;
        assert!(bytes < SOURCE_BYTES / 100, "{bytes} bytes after a cut");
        assert_same(&root, &share);
    }
    signal(child.id(), "INT");
    finish(child).expect(0, &[]);
}

#[test]
fn a_network_that_swallows_everything_is_noticed() {
    let server = Server::start();
    let (root, network) = (source(server.folder.path()), Network::to(&server));
    let child = client(&server, &network.url, &[root.to_str().unwrap(), "s"]);
    wait_until_said(&server, "\"event\":\"synced\"");
    let before = network.sent_bytes();
    network.swallow();
    write(&root, "d/after", 7, 1_000);
    let share = server.data().join("shares/s");
    wait_for("a new connection", || share.join("d/after").exists());
    wait_until_said(&server, "\"event\":\"lost\"");
    wait_until_equal(&server, "s");
    let bytes = network.sent_bytes() - before;
    assert!(bytes < SOURCE_BYTES / 100, "{bytes} bytes after a silence");
    assert_same(&root, &share);
    signal(child.id(), "INT");
    finish(child).expect(0, &[]);
}

#[test]
fn what_does_not_fit_is_said_and_the_rest_goes_on() {
    let setup = "mkdir -p data && mount -t tmpfs -o size=128m none data";
    let server = Server::wrapped(|command| in_own_mounts(setup, command));
    let root = source(server.folder.path());
    let child = client(&server, &server.url(), &[root.to_str().unwrap(), "s"]);
    wait_until_said(&server, "\"event\":\"synced\"");
    // The file system is only there for who lives in its namespace.
    let inside = PathBuf::from(format!("/proc/{}/root", server.pid()));
    let share = inside
        .join(server.data().strip_prefix("/").unwrap())
        .join("shares/s");
    write(&root, "huge", 2, 110_000_000);
    wait_until_said(&server, "\"event\":\"skipped\",\"path\":\"huge\"");
    write(&root, "d/small", 3, 1_000);
    wait_for("the rest", || share.join("d/small").exists());
    assert!(!share.join("huge").exists());
    let entered = |program| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &server.pid().to_string(), "-m"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.arg(program);
        command
    };
    let mut grow = entered("mount");
    grow.args(["-o", "remount,size=512m"]).arg(server.data());
    assert!(grow.status().unwrap().success());
    wait_for("what did not fit", || share.join("huge").exists());
    wait_until_equal(&server, "s");
    assert_read_same(&root, &share);
    // rsync follows no path through another namespace.
    assert_rsync_finds_nothing(entered("rsync"), &root, &server.data().join("shares/s"));
    signal(child.id(), "INT");
    finish(child).expect(0, &[]);
}

#[test]
fn a_share_that_somebody_removed_is_made_again() {
    let server = Server::start();
    let root = source(server.folder.path());
    let mut child = client(&server, &server.url(), &[root.to_str().unwrap(), "s"]);
    wait_until_said(&server, "\"event\":\"synced\"");
    let (share, beside) = (server.data().join("shares/s"), server.data().join("sync/s"));
    for (number, removed) in [vec![&share], vec![&share, &beside]].iter().enumerate() {
        for folder in removed {
            fs::remove_dir_all(folder).unwrap();
        }
        let name = format!("d/after{number}");
        write(&root, &name, 7, 1_000);
        wait_for(&name, || {
            assert!(child.try_wait().unwrap().is_none(), "the client ended");
            share.join(&name).exists()
        });
        wait_until_equal(&server, "s");
        assert_same(&root, &share);
    }
    assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
    signal(child.id(), "INT");
    finish(child).expect(0, &[]);
}

#[test]
fn a_second_client_is_told_who_is_there_and_comes_in_when_that_one_is_gone() {
    let server = Server::start();
    let root = source(server.folder.path());
    let dir = root.to_str().unwrap();
    let first = client(&server, &server.url(), &[dir, "s", "--name", "first"]);
    wait_until_said(&server, "\"event\":\"synced\"");
    let second = ["sync", dir, "s", "--once", "--state", "other"];
    server
        .run(&second)
        .expect(1, &["`first` at 127.0.0.1", "one writer", "pinnace shares"]);
    // The same client once more is the same source on the same machine.
    server
        .run(&["sync", dir, "s", "--once"])
        .expect(1, &["another process on this machine already mirrors"]);
    signal(first.id(), "KILL");
    finish(first).expect(-1, &[]);
    wait_for("a place", || server.run(&second).code == 0);
}

#[test]
fn a_source_that_is_not_what_it_was_deletes_nothing() {
    let server = Server::start();
    let root = source(server.folder.path());
    let share = server.data().join("shares/s");
    let is_untouched = || {
        assert_eq!(fs::read_dir(share.join("d")).unwrap().count(), 151);
        assert_eq!(
            fs::metadata(share.join("large")).unwrap().len() / 1_000_000,
            6
        );
    };
    let once = ["sync", root.to_str().unwrap(), "s", "--once"];
    server.run(&once).expect(0, &[]);
    let away = server.folder.path().join("away");
    // Gone before the client comes.
    fs::rename(&root, &away).unwrap();
    server.run(&once).expect(1, &[root.to_str().unwrap()]);
    is_untouched();
    // Replaced by a directory with nothing in it, as an unmounted disk is.
    fs::create_dir(&root).unwrap();
    server
        .run(&once)
        .expect(8, &["not the directory it was", "--delete-limit off"]);
    is_untouched();
    fs::remove_dir(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    // Deleted under a client that watches it.
    let child = client(&server, &server.url(), &once[1..3]);
    wait_until_said(&server, "\"event\":\"synced\"");
    fs::rename(&root, &away).unwrap();
    finish(child).expect(8, &["nothing was deleted"]);
    is_untouched();
}

#[test]
fn a_source_that_may_not_be_read_deletes_nothing() {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let server = Server::start();
    let folder = server.folder.path();
    let root = source(folder);
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // Rights mean nothing to root, so the client is somebody else then.
    let is_root = rustix::process::geteuid().is_root();
    let state = folder.join("state");
    fs::create_dir(&state).unwrap();
    mode(folder, 0o755);
    let once = || {
        let mut command = pinnace(folder);
        command.args(["--server", &server.url(), "sync", "--once", "--state"]);
        command.arg(&state).arg(&root).arg("s");
        if is_root {
            chown(&state, Some(65534), Some(65534)).unwrap();
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        crate::support::Done::of(&output, &["(another user)"])
    };
    once().expect(0, &[]);
    let share = server.data().join("shares/s");
    let files = || {
        fs::read_dir(share.join("d/e"))
            .map(Iterator::count)
            .unwrap()
    };
    // A part of it: the rest goes on, and the end says that it was not all.
    mode(&root.join("d/e"), 0o000);
    write(&root, "d/new", 1, 100);
    once().expect(3, &["skipped d/e", "Permission denied"]);
    assert!(share.join("d/new").exists());
    assert_eq!(files(), 150);
    // All of it.
    mode(&root, 0o000);
    let done = once();
    assert!([1, 3].contains(&done.code), "{done:#?}");
    assert!(done.stderr.contains("Permission denied"), "{done:#?}");
    assert_eq!(files(), 150);
    mode(&root, 0o755);
    mode(&root.join("d/e"), 0o755);
    once().expect(0, &[]);
    assert_same(&root, &share);
}

#[test]
fn control_c_in_the_middle_is_no_success_and_loses_nothing() {
    let server = Server::start();
    let root = source(server.folder.path());
    let dir = root.to_str().unwrap();
    let slow = [dir, "s", "--once", "--bandwidth", "1M"];
    let child = client(&server, &server.url(), &slow);
    wait_until_said(&server, "\"event\":\"connected\"");
    signal(child.id(), "INT");
    finish(child).expect(3, &["interrupted", "goes on"]);
    let text = fs::read_to_string(said(&server)).unwrap();
    assert!(!text.contains("\"event\":\"done\""), "{text}");
    server.run(&["sync", dir, "s", "--once"]).expect(0, &[]);
    assert_same(&root, &server.data().join("shares/s"));
}

#[test]
fn wrong_words_are_answered_with_what_to_do() {
    let server = Server::start();
    let root = source(server.folder.path());
    let dir = root.to_str().unwrap();
    let file = root.join("large");
    for (arguments, code, parts) in [
        (
            vec![],
            2,
            vec!["a directory and the name of a share are needed"],
        ),
        (vec![dir], 2, vec!["a directory and the name of a share"]),
        (
            vec![file.to_str().unwrap(), "s"],
            1,
            vec!["large", "not a directory"],
        ),
        (vec!["nowhere", "s"], 1, vec!["nowhere", "No such file"]),
        (vec![dir, "a/b"], 2, vec!["letters, digits", "`/`"]),
        (vec![dir, "_s"], 2, vec!["cannot begin with `_`"]),
        (vec![dir, ""], 2, vec!["cannot be empty"]),
        (
            vec![dir, "s", "--delete-limit", "120%"],
            2,
            vec!["a percentage such as 25%"],
        ),
        (vec![dir, "s", "--delete-limit", "-1"], 2, vec![]),
        (
            vec![dir, "s", "--bandwidth", "fast"],
            2,
            vec!["--bandwidth"],
        ),
        (vec![dir, "s", "--exclude", "a[b"], 2, vec!["a[b"]),
        (
            vec!["status", "nobody"],
            1,
            vec!["there is no share `nobody`"],
        ),
        (
            vec!["wait", "nobody"],
            1,
            vec!["there is no share `nobody`"],
        ),
        (vec!["verify", "a/b"], 2, vec!["letters, digits"]),
    ] {
        let all = [&["sync"], &arguments[..]].concat();
        server.run(&all).expect(code, &parts);
    }
    // The address of a server that is not there any more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let arguments = ["--server", &url, "sync", dir, "s", "--once"];
    crate::support::run(server.folder.path(), &arguments).expect(
        1,
        &["no pinnace server answers", "pinnace serve", "--server"],
    );
}
