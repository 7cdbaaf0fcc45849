//! What must not happen: a share emptied by mistake, two writers, half a file.

use std::fs;

use pinnace_sync::client::{DeleteLimit, MirrorError, Settings};

use crate::pair::Pair;

#[test]
fn a_source_that_lost_much_empties_nothing() {
    let pair = Pair::new();
    let at = |path: &str| pair.source().join(path);
    for number in 0..100 {
        fs::write(at(&format!("{number}")), number.to_string()).unwrap();
    }
    let careful = Settings {
        delete_limit: DeleteLimit::default(),
        ..pair.settings()
    };
    pair.try_once(&careful).unwrap();
    for number in 0..40 {
        fs::remove_file(at(&format!("{number}"))).unwrap();
    }
    let error = pair.try_once(&careful).unwrap_err();
    assert!(matches!(error, MirrorError::Halted(_)), "{error}");
    assert_eq!(fs::read_dir(pair.share()).unwrap().count(), 100);
    // Another directory in its place, with less in it.
    fs::rename(pair.source(), pair.folder.path().join("away")).unwrap();
    fs::create_dir(pair.source()).unwrap();
    let error = pair.try_once(&careful).unwrap_err();
    assert!(
        error.to_string().contains("not the directory it was"),
        "{error}"
    );
    assert_eq!(fs::read_dir(pair.share()).unwrap().count(), 100);
    // Said so, it goes, into the trash.
    pair.once();
    pair.assert_equal();
    assert_eq!(pair.shares.trash("s").unwrap().items.len(), 100);
}

#[test]
fn a_share_has_one_writer() {
    let pair = Pair::new();
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    let other = Settings {
        state: pair.folder.path().join("other"),
        ..pair.settings()
    };
    let error = pair.try_once(&other).unwrap_err();
    assert!(error.to_string().contains("`tester` at here"), "{error}");
    // Who only looks is not in the way.
    let looks = Settings {
        dry_run: true,
        ..other
    };
    pair.try_once(&looks).unwrap();
}

#[test]
fn a_source_that_vanishes_while_it_is_watched_empties_nothing() {
    let pair = Pair::new();
    for number in 0..50 {
        fs::write(pair.source().join(format!("{number}")), "x").unwrap();
    }
    let careful = Settings {
        delete_limit: DeleteLimit::default(),
        ..pair.settings()
    };
    let live = pair.live(careful);
    live.wait_for("synced");
    fs::rename(pair.source(), pair.folder.path().join("away")).unwrap();
    let error = live.end().unwrap_err();
    assert!(matches!(error, MirrorError::Halted(_)), "{error}");
    assert_eq!(fs::read_dir(pair.share()).unwrap().count(), 50);
}

#[test]
fn a_dry_run_changes_nothing() {
    let pair = Pair::new();
    fs::write(pair.source().join("a"), "a").unwrap();
    let dry = Settings {
        dry_run: true,
        state: pair.folder.path().join("dry"),
        ..pair.settings()
    };
    let (outcome, _) = pair.try_once(&dry).unwrap();
    assert_eq!(outcome.changes, 2);
    assert!(!pair.share().join("a").exists());
    pair.once();
    pair.assert_equal();
}

#[test]
fn what_is_left_out_stays_out() {
    let pair = Pair::new();
    let at = |path: &str| pair.source().join(path);
    fs::create_dir_all(at("target/deep")).unwrap();
    fs::write(at("target/deep/x"), "x").unwrap();
    fs::write(at("a.o"), "o").unwrap();
    fs::write(at("kept"), "k").unwrap();
    fs::write(at(".pinnaceignore"), "*.o\n").unwrap();
    let settings = Settings {
        excludes: vec!["target/".to_owned()],
        ..pair.settings()
    };
    pair.try_once(&settings).unwrap();
    let mut names: Vec<_> = fs::read_dir(pair.share())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".pinnaceignore", "kept"]);
}
