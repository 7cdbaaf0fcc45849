//! Storms: more at once than the watcher's queue holds, and trees that are replaced as version control does it.
//!
//! Left to others: that an overflow is told (`watch::proofs::limits`, where the queue is held up on purpose).

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::pair::Pair;

/// Files that are created at once.
const FILES: usize = 100_000;
/// Directories of what is checked out, and files in each.
const TREE: (usize, usize) = (100, 20);

#[track_caller]
fn arrives(pair: &Pair) {
    pair.wait();
    pair.assert_equal();
}

#[test]
fn a_hundred_thousand_files_at_once() {
    let pair = Pair::new();
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    let dirs: Vec<_> = (0..20)
        .map(|dir| pair.source().join(dir.to_string()))
        .collect();
    for dir in &dirs {
        fs::create_dir(dir).unwrap();
    }
    arrives(&pair);
    std::thread::scope(|scope| {
        for some in dirs.chunks(dirs.len() / 4) {
            scope.spawn(move || {
                for dir in some {
                    for number in 0..FILES / 20 {
                        fs::write(dir.join(number.to_string()), "").unwrap();
                    }
                }
            });
        }
    });
    arrives(&pair);
    let verdict = pair.shares.verify("s", false).unwrap();
    assert!(verdict.equal, "{verdict:?}");
}

#[test]
fn an_overflow_loses_nothing() {
    let pair = Pair::new();
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    let at = |name: String| pair.source().join(name);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for own in 0..4 {
            let (at, is_over) = (&at, &is_over);
            scope.spawn(move || {
                fs::create_dir(at(format!("d{own}"))).unwrap();
                let names = ["a", "b"].map(|name| at(format!("d{own}/{name}")));
                fs::write(&names[0], own.to_string()).unwrap();
                for round in 0.. {
                    // Two events for each call, of which none is like the one before.
                    for _ in 0..20_000 {
                        fs::rename(&names[0], &names[1]).unwrap();
                        fs::rename(&names[1], &names[0]).unwrap();
                    }
                    // What is told while the queue is full, nobody hears of.
                    let at = at(format!("new{own}.{}", round % 300));
                    fs::create_dir_all(&at).unwrap();
                    fs::write(at.join("in"), round.to_string()).unwrap();
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        let _over = Over(&is_over);
        live.wait_for("Overflowed");
    });
    arrives(&pair);
    fs::write(at("new0.0/late".to_owned()), "late").unwrap();
    arrives(&pair);
}

/// Ends what goes on meanwhile, also by a failure.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Puts one version of a tree in the place of another as version control does: files are written beside their place and
/// renamed over it, directories that are not in it are removed, others made or moved.
fn check_out(root: &Path, version: usize) {
    for dir in 0..TREE.0 {
        let path = root.join(format!("d{dir}"));
        match (dir + version) % 5 {
            0 => {
                let _ = fs::remove_dir_all(&path);
                continue;
            }
            1 => {
                let away = root.join(format!("d{dir}.{version}"));
                let _ = fs::rename(&path, &away);
                fs::create_dir_all(&path).unwrap();
                let _ = fs::remove_dir_all(&away);
            }
            2 => {
                let other = root.join(format!("d{}", (dir + 7) % TREE.0));
                if !path.exists() {
                    let _ = fs::rename(&other, &path);
                }
            }
            _ => {}
        }
        fs::create_dir_all(path.join("in")).unwrap();
        for file in 0..TREE.1 {
            let place = ["", "in/"][file % 2];
            let at = path.join(format!("{place}f{file}"));
            if (file + dir + version).is_multiple_of(3) {
                let lock = path.join(format!("{place}f{file}.lock"));
                fs::write(&lock, format!("{dir} {file} {version}")).unwrap();
                fs::rename(&lock, &at).unwrap();
            } else if (file + version).is_multiple_of(4) {
                let _ = fs::remove_file(&at);
            }
        }
    }
}

#[test]
fn one_version_after_another_is_checked_out() {
    let pair = Pair::new();
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    for round in 0..6 {
        // The more in a row, the less of it is seen as it happens.
        for version in 0..=round {
            check_out(&pair.source(), round * 10 + version);
        }
        arrives(&pair);
    }
    fs::write(pair.source().join("late"), "late").unwrap();
    arrives(&pair);
}
