//! What the watcher says of single things that happen, as a table.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

/// In a tree with the watched directories `d`, `d/e` and the files `f`, `d/g`, does something; what is reported?
#[track_caller]
fn check(act: impl FnOnce(&Bed), expected: &[Event]) {
    let bed = Bed::new();
    bed.mkdir("d");
    bed.mkdir("d/e");
    bed.write("f");
    bed.write("d/g");
    bed.all();
    act(&bed);
    assert_eq!(bed.all(), expected);
}

#[test]
fn files() {
    check(|bed| bed.write("d/new"), &[closed("d/new")]);
    check(|bed| bed.write("f"), &[closed("f")]);
    check(
        |bed| symlink("nowhere", bed.path("link")).unwrap(),
        &[done("link", false)],
    );
    check(
        |bed| fs::hard_link(bed.path("f"), bed.path("d/f")).unwrap(),
        // The other name of the inode is not told of: of its link count only its own watch would hear.
        &[done("d/f", false)],
    );
    check(
        |bed| fs::set_permissions(bed.path("d/g"), fs::Permissions::from_mode(0o600)).unwrap(),
        &[done("d/g", false)],
    );
    check(
        |bed| fs::remove_file(bed.path("d/g")).unwrap(),
        &[gone("d/g", false)],
    );
}

#[test]
fn a_file_is_being_written_until_it_is_closed() {
    check(
        |bed| {
            let mut file = fs::File::options()
                .append(true)
                .open(bed.path("f"))
                .unwrap();
            file.write_all(b"more").unwrap();
            assert_eq!(bed.all(), [still("f")]);
            file.write_all(b"more").unwrap();
            assert_eq!(bed.all(), [still("f")]);
        },
        &[closed("f")],
    );
}

#[test]
fn an_unlinked_file_is_silent() {
    check(
        |bed| {
            let mut file = fs::File::create(bed.path("f")).unwrap();
            fs::remove_file(bed.path("f")).unwrap();
            bed.all();
            file.write_all(b"more").unwrap();
        },
        &[],
    );
}

#[test]
fn directories() {
    check(
        |bed| fs::create_dir(bed.path("d/new")).unwrap(),
        &[done("d/new", true)],
    );
    check(
        |bed| fs::remove_dir(bed.path("d/e")).unwrap(),
        &[gone("d/e", true)],
    );
    check(
        |bed| fs::set_permissions(bed.path("d"), fs::Permissions::from_mode(0o700)).unwrap(),
        &[done("d", true)],
    );
    check(
        |bed| fs::set_permissions(bed.root(), fs::Permissions::from_mode(0o700)).unwrap(),
        &[done("", true)],
    );
}

#[test]
fn renames() {
    check(|bed| bed.rename("f", "x"), &[renamed("f", "x", false)]);
    check(|bed| bed.rename("f", "d/g"), &[renamed("f", "d/g", false)]);
    check(|bed| bed.rename("d", "x"), &[renamed("d", "x", true)]);
    check(
        |bed| {
            bed.rename("d", "x");
            bed.rename("x/e", "e");
            bed.rename("x", "e/d");
            bed.write("e/d/g");
        },
        &[
            renamed("d", "x", true),
            renamed("x/e", "e", true),
            renamed("x", "e/d", true),
            closed("e/d/g"),
        ],
    );
}

#[test]
fn changes_keep_their_side_of_a_rename() {
    check(
        |bed| {
            bed.write("f");
            bed.rename("f", "x");
            bed.write("f");
            bed.write("x");
            bed.write("f");
        },
        &[
            closed("f"),
            renamed("f", "x", false),
            closed("f"),
            closed("x"),
        ],
    );
}

fn exchange(bed: &Bed, a: &str, b: &str) {
    renameat_with(CWD, bed.path(a), CWD, bed.path(b), RenameFlags::EXCHANGE).unwrap();
}

#[test]
fn of_an_exchange_only_what_is_sure_is_a_rename() {
    check(
        |bed| exchange(bed, "f", "d/g"),
        &[renamed("f", "d/g", false), renamed("d/g", "f", false)],
    );
    check(
        |bed| {
            exchange(bed, "f", "d");
            bed.write("f/g");
        },
        &[
            renamed("f", "d", false),
            done("d", true),
            done("f", true),
            closed("f/g"),
        ],
    );
    check(
        |bed| {
            bed.mkdir("x");
            bed.all();
            exchange(bed, "d", "x");
            bed.write("x/g");
        },
        &[
            renamed("d", "x", true),
            done("x", true),
            done("d", true),
            closed("x/g"),
        ],
    );
}

#[test]
fn a_directory_that_goes_there_and_back_again_is_the_same() {
    check(
        |bed| {
            bed.rename("d", "x");
            bed.rename("x", "d");
        },
        &[renamed("d", "x", true), renamed("x", "d", true)],
    );
}

#[test]
fn in_and_out() {
    check(
        |bed| {
            fs::rename(bed.path("f"), bed.outside("f")).unwrap();
            assert_eq!(bed.all(), [gone("f", false)]);
            fs::rename(bed.path("d"), bed.outside("d")).unwrap();
            assert_eq!(bed.all(), [gone("d", true)]);
            assert_eq!(bed.watch.watched(), 1);
            fs::write(bed.outside("d/e/x"), b"").unwrap();
            fs::write(bed.outside("f"), b"").unwrap();
            assert_eq!(bed.all(), []);
            fs::rename(bed.outside("f"), bed.path("f")).unwrap();
            fs::rename(bed.outside("d"), bed.path("d")).unwrap();
            assert_eq!(bed.all(), [done("f", false), done("d", true)]);
            bed.add("d");
            bed.write("d/g");
        },
        &[closed("d/g")],
    );
}

#[test]
fn a_directory_nobody_has_listed_is_no_rename() {
    check(
        |bed| {
            fs::create_dir(bed.path("new")).unwrap();
            bed.rename("new", "newer");
        },
        &[done("new", true), gone("new", true), done("newer", true)],
    );
}

#[test]
fn the_root_goes() {
    check(
        |bed| fs::rename(bed.root(), bed.outside("root")).unwrap(),
        &[Event::RootGone],
    );
    let bed = Bed::new();
    fs::remove_dir_all(bed.root()).unwrap();
    assert_eq!(bed.all(), [Event::RootGone]);
    assert_eq!(bed.all(), []);
}
