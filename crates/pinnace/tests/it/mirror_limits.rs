//! Mirrors within limits: more directories than can be watched, files and directories that nobody may write, a bandwidth.
//!
//! Left to others: limits of the watcher by itself (`pinnace-sync`), a full disk (`mirror_days`).

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Server, finish, pinnace, signal, wait_for};
use crate::trees::{Version, assert_same, put};

/// Directories at the top of a source, each with [`INNER`] in it.
const DIRS: u64 = 6;
const INNER: u64 = 4;
/// Watches of a client whose source has 31 directories: the root's, one for its marks, and those of eight more.
const WATCHES: u64 = 10;

/// A source of many directories with a file in each.
fn source(folder: &Path) -> PathBuf {
    let root = folder.join("source");
    for dir in 0..DIRS {
        for inner in 0..INNER {
            let path = root.join(format!("d{dir}/e{inner}"));
            fs::create_dir_all(&path).unwrap();
            write(&path, "f", dir * INNER + inner);
        }
        write(&root.join(format!("d{dir}")), "f", 100 + dir);
    }
    root
}

fn write(dir: &Path, name: &str, seed: u64) {
    fs::write(dir.join(name), Version::plain(seed, 1_000).content()).unwrap();
}

/// Starts a client in a namespace where it has only [`WATCHES`]; what it says goes to a file.
fn with_few_watches(server: &Server, root: &Path) -> Child {
    let setup = format!("echo {WATCHES} >/proc/sys/user/max_inotify_watches && exec \"$@\"");
    let program = pinnace(server.folder.path());
    let mut command = Command::new("unshare");
    command.args(["-Ur", "sh", "-ec", &setup, "sh"]);
    command.arg(program.get_program());
    command
        .args(["--server", &server.url(), "sync", "--json"])
        .args(["--delete-limit", "off"])
        .arg(root)
        .arg("s");
    command
        .env_clear()
        .env("HOME", server.folder.path())
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(server.folder.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(said(server)).unwrap())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn said(server: &Server) -> PathBuf {
    server.folder.path().join("said")
}

/// Everything that has happened is in the share, whether it was told or looked for.
#[track_caller]
fn arrives(server: &Server, client: &mut Child, root: &Path) {
    wait_for("the share to be equal", || {
        assert!(client.try_wait().unwrap().is_none(), "the client ended");
        server.run(&["sync", "wait", "s"]).code == 0
    });
    assert_same(root, &server.data().join("shares/s"));
}

/// The client says that it watches so many directories and polls so many. It says it when all is equal, beside the answer
/// to who waits for that.
#[track_caller]
fn says_figures(server: &Server, are_right: impl Fn(u64, u64) -> bool) {
    wait_for("figures of the client", || {
        let share = server.get("/-/shares/s").json();
        let figure = |name: &str| share["writer"]["state"][name].as_u64();
        figure("watched")
            .zip(figure("polled"))
            .is_some_and(|(watched, polled)| are_right(watched, polled))
    });
}

/// One round of changes in every directory of a tree, so that it does not matter which of them are watched.
fn change(root: &Path, workshop: &Path, round: u64) {
    for dir in 0..DIRS {
        let top = root.join(format!("d{dir}"));
        for inner in 0..INNER {
            let path = top.join(format!("e{inner}"));
            let seed = 1_000 * round + dir * INNER + inner;
            // Created, written in place, replaced, renamed, deleted.
            write(&path, &format!("new{round}"), seed);
            write(&path, "f", seed);
            put(workshop, &path.join("g"), Version::plain(seed, 100)).unwrap();
            if round > 0 {
                let before = path.join(format!("new{}", round - 1));
                match round % 2 {
                    0 => fs::remove_file(before).unwrap(),
                    _ => fs::rename(before, path.join("renamed")).unwrap(),
                }
            }
            // A directory with something in it, in one that may not be watched itself.
            let deep = path.join(format!("h{round}/i"));
            fs::create_dir_all(&deep).unwrap();
            write(&deep, "f", seed);
        }
        // A directory goes elsewhere with all that is in it, and one goes for good.
        let next = root.join(format!("d{}", (dir + 1) % DIRS));
        let moved = format!("e0/h{round}");
        fs::rename(top.join(&moved), next.join(format!("moved{round}"))).unwrap();
        fs::remove_dir_all(top.join(format!("e1/h{round}"))).unwrap();
    }
}

#[test]
fn what_cannot_be_watched_is_looked_at() {
    let server = Server::start();
    let root = source(server.folder.path());
    let workshop = server.folder.path().join("workshop");
    fs::create_dir(&workshop).unwrap();
    let mut child = with_few_watches(&server, &root);
    wait_for("a word about the limit", || {
        fs::read_to_string(said(&server)).is_ok_and(|said| {
            said.contains("\"event\":\"unwatched\"") && said.contains("max_user_watches")
        })
    });
    arrives(&server, &mut child, &root);
    let all = 1 + DIRS + DIRS * INNER;
    says_figures(&server, |watched, polled| {
        (watched, polled) == (WATCHES - 1, all - (WATCHES - 1))
    });
    for round in 0..4 {
        change(&root, &workshop, round);
        arrives(&server, &mut child, &root);
        says_figures(&server, |watched, polled| {
            watched < WATCHES && polled > all - WATCHES
        });
    }
    // Of those that go some were watched; what is left takes their places.
    for dir in 0..DIRS - 1 {
        fs::remove_dir_all(root.join(format!("d{dir}"))).unwrap();
    }
    arrives(&server, &mut child, &root);
    let last = root.join(format!("d{}", DIRS - 1));
    for inner in 0..INNER {
        write(&last.join(format!("e{inner}")), "late", inner);
    }
    arrives(&server, &mut child, &root);
    says_figures(&server, |watched, _| watched == WATCHES - 1);
    signal(child.id(), "INT");
    finish(child).expect(0, &[]);
}

/// What a source of somebody is who may not write into their own directories and files at first.
const GUARDED: &str = "
umask 022; mkdir -p source/d/e source/g/h
echo one >source/d/secret; echo one >source/d/read; echo one >source/d/e/f; echo one >source/g/h/f
head -c 200000 /dev/zero >source/d/medium; head -c 3000000 /dev/zero >source/d/large
chmod 0400 source/d/secret; chmod 0444 source/d/read source/d/medium source/d/large source/d/e/f source/g/h/f
chmod 0555 source/d/e source/d source/g/h source/g
";

/// Changes there, each followed by the comparison: entries that come, change in place and by a rename, and go; directories
/// that move, change their kind, and go.
const CHANGES: &[&str] = &[
    "chmod u+w d d/secret d/read d/medium d/large
     echo two >d/secret; echo two >d/read; echo end >>d/medium; echo end >>d/large
     chmod 0400 d/secret; chmod 0444 d/read d/medium d/large; chmod 0555 d",
    "chmod u+w d d/e; echo three >d/new; mv d/new d/read; chmod 0444 d/read
     echo new >d/e/new; chmod 0400 d/e/new; ln d/e/new d/name; rm -f d/e/f; chmod 0555 d/e d",
    "chmod u+w d d/e; mkdir d/e/deep; echo deep >d/e/deep/f; mv d/e d/moved; chmod 0555 d/moved/deep d/moved d",
    "chmod u+w d d/moved g g/h; mv d/moved g/h/moved; chmod 0555 g/h/moved g/h g d",
    "chmod -R u+w g; rm -r g; chmod u+w d; rm -f d/secret; mkdir d/secret; chmod 0555 d/secret d",
    "chmod -R u+w d; rm -r d",
];

/// Gives an extended attribute to what nobody may write.
fn annotate(at: &Path, value: &str) {
    let mode = fs::metadata(at).unwrap().permissions().mode();
    let set_mode = |mode| fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(mode | 0o200);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(at, "user.note", value.as_bytes(), flags).unwrap();
    set_mode(mode);
}

#[test]
fn what_nobody_may_write_is_mirrored_by_an_ordinary_user() {
    // Modes stop nobody who is root, so all of it is somebody else's then.
    let ordinary = |command: &mut Command| {
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
    };
    let server = Server::wrapped(|command| {
        let folder = command.get_current_dir().unwrap();
        if rustix::process::geteuid().is_root() {
            chown(folder, Some(65534), Some(65534)).unwrap();
        }
        let mut served = pinnace(folder);
        served.args(command.get_args());
        ordinary(&mut served);
        served
    });
    let folder = server.folder.path();
    let (root, share) = (folder.join("source"), server.data().join("shares/s"));
    let script = |text: &str, dir: &Path| {
        let mut shell = Command::new("sh");
        shell.args(["-ec", text]).current_dir(dir);
        ordinary(&mut shell);
        assert!(shell.status().unwrap().success(), "{text}");
    };
    let client = |more: &[&str]| {
        let mut command = pinnace(folder);
        command.args(["--server", &server.url(), "sync", "--delete-limit", "off"]);
        command.arg(&root).arg("s").args(more);
        ordinary(&mut command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    // Once for each change, and then as they happen.
    script(GUARDED, folder);
    finish(client(&["--once"])).expect(0, &[]);
    for value in ["first", "second"] {
        for name in ["d/secret", "d/medium", "d/e", "d"] {
            annotate(&root.join(name), value);
        }
        finish(client(&["--once"])).expect(0, &[]);
        assert_same(&root, &share);
    }
    for change in CHANGES {
        assert_same(&root, &share);
        script(change, &root);
        finish(client(&["--once"])).expect(0, &[]);
    }
    script(GUARDED, folder);
    let mut live = client(&[]);
    for change in CHANGES {
        arrives(&server, &mut live, &root);
        script(change, &root);
    }
    arrives(&server, &mut live, &root);
    signal(live.id(), "INT");
    finish(live).expect(0, &[]);
    // The last change left nothing that could not be removed, but the trash has it all.
    script("chmod -R u+w data", folder);
}

#[test]
fn a_bandwidth_is_kept_to() {
    const BYTES_PER_S: u64 = 4 << 20;
    /// What may go out at once is a frame, on each of the two connections.
    const AT_ONCE: u64 = 2 * (4 << 20);
    let server = Server::start();
    let root = server.folder.path().join("source");
    fs::create_dir(&root).unwrap();
    for (number, bytes) in [8_000_000, 900_000, 900_000, 900_000, 900_000]
        .iter()
        .enumerate()
    {
        let version = Version::plain(number as u64, *bytes);
        fs::write(root.join(number.to_string()), version.content()).unwrap();
    }
    let arguments = ["sync", root.to_str().unwrap(), "s", "--once", "--json"];
    let arguments = [&arguments[..], &["--bandwidth", "4M"]].concat();
    let done = server.run(&arguments).expect(0, &[]);
    let last = done.stdout.lines().last().unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    let figure = |name: &str| last[name].as_u64().unwrap_or_else(|| panic!("{last}"));
    let (bytes, elapsed_ms) = (figure("sent_bytes"), figure("elapsed_ms"));
    assert!(bytes > 11_000_000, "{last}");
    // It cannot have been quicker, however quick everything else is.
    let least_ms = (bytes - AT_ONCE) * 1_000 / BYTES_PER_S;
    assert!(elapsed_ms >= least_ms, "{last}");
    assert_same(&root, &server.data().join("shares/s"));
}
