//! First mirrors and later ones, each to its end.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::pair::Pair;
use crate::story::noise;

#[test]
fn everything_that_a_tree_is_arrives() {
    let pair = Pair::new();
    let at = |path: &str| pair.source().join(path);
    fs::create_dir_all(at("a/b/c")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("a/small"), "hello").unwrap();
    fs::write(at("a/none"), "").unwrap();
    fs::write(at("a/b/medium"), noise(1, 300_000)).unwrap();
    fs::write(at("a/b/c/large"), noise(2, 5_000_000)).unwrap();
    fs::hard_link(at("a/small"), at("a/b/linked")).unwrap();
    symlink("../nowhere", at("a/link")).unwrap();
    fs::set_permissions(at("a/small"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(at("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    let odd = std::ffi::OsStr::new("line\nbreak");
    fs::write(pair.source().join(odd), "x").unwrap();
    let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe");
    fs::write(pair.source().join(bytes), "y").unwrap();
    let (outcome, _) = pair.once();
    pair.assert_equal();
    assert_eq!(outcome.skipped, []);
    // A second time there is nothing to do.
    let (outcome, sent) = pair.once();
    assert_eq!(outcome.changes, 0);
    assert!(sent < 1000, "{sent} bytes");
}

#[test]
fn later_changes_arrive_with_few_bytes() {
    let pair = Pair::new();
    let at = |path: &str| pair.source().join(path);
    let content = noise(1, 8_000_000);
    fs::create_dir_all(at("d/e")).unwrap();
    fs::write(at("d/large"), &content).unwrap();
    fs::write(at("d/medium"), &content[..500_000]).unwrap();
    for number in 0..100 {
        fs::write(at(&format!("d/e/{number}")), number.to_string()).unwrap();
    }
    pair.once();
    pair.assert_equal();
    // A byte before everything.
    fs::write(at("d/large"), [b"x", &content[..]].concat()).unwrap();
    fs::write(at("d/medium"), [b"y", &content[..500_000]].concat()).unwrap();
    let (_, sent) = pair.once();
    pair.assert_equal();
    assert!(sent < 200_000, "{sent} bytes");
    // Other places for a file and a directory.
    fs::rename(at("d/large"), at("elsewhere")).unwrap();
    fs::rename(at("d/e"), at("f")).unwrap();
    let (outcome, sent) = pair.once();
    pair.assert_equal();
    assert!(sent < 5_000, "{sent} bytes");
    assert!(outcome.changes < 10, "{outcome:?}");
    // A copy, an appendix, a removal, a change of kind.
    fs::copy(at("elsewhere"), at("copy")).unwrap();
    fs::write(at("d/medium"), &content[..600_000]).unwrap();
    fs::remove_dir_all(at("f")).unwrap();
    fs::write(at("f"), "a file now").unwrap();
    let (_, sent) = pair.once();
    pair.assert_equal();
    assert!(sent < 400_000, "{sent} bytes");
}

#[test]
fn what_somebody_changed_in_the_share_is_put_right() {
    let mut pair = Pair::new();
    let at = |path: &str| pair.folder.path().join("source").join(path);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("d/a"), "a").unwrap();
    fs::write(at("d/b"), "b").unwrap();
    fs::write(at("c"), "c").unwrap();
    pair.once();
    let share = pair.share();
    fs::write(share.join("d/a"), "other").unwrap();
    fs::remove_file(share.join("d/b")).unwrap();
    fs::write(share.join("foreign"), "x").unwrap();
    pair.restart();
    pair.once();
    pair.assert_equal();
    // Also without a restart, when a change meets it.
    fs::remove_dir_all(pair.share().join("d")).unwrap();
    fs::write(pair.source().join("d/new"), "n").unwrap();
    pair.once();
    pair.assert_equal();
}
