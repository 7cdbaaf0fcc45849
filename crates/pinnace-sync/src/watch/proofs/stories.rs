//! The races that break watchers, each as a story with a scanner.

use std::io::Write as _;

use super::scanner::Scanner;
use super::*;

#[test]
fn directories_that_fill_at_once_are_seen_in_full() {
    let bed = Bed::new();
    let mut scanner = Scanner::new(&bed);
    std::thread::scope(|scope| {
        let root = bed.root();
        let maker = scope.spawn(move || {
            for round in 0..2000 {
                let path = root.join(format!("{round}/b/c/d"));
                fs::create_dir_all(&path).unwrap();
                fs::write(path.join("f"), b"text").unwrap();
                if round >= 20 {
                    fs::remove_dir_all(root.join((round - 20).to_string())).unwrap();
                }
            }
        });
        while !maker.is_finished() {
            scanner.peek(&bed);
            std::thread::yield_now();
        }
    });
    scanner.settle(&bed);
    scanner.check(&bed);
    scanner.check_watches(&bed);
}

#[test]
fn a_directory_made_again_is_watched_again() {
    let bed = Bed::new();
    let mut scanner = Scanner::new(&bed);
    for round in 0..200 {
        fs::create_dir(bed.path("d")).unwrap();
        if round % 2 == 0 {
            scanner.peek(&bed);
        }
        fs::remove_dir(bed.path("d")).unwrap();
        fs::create_dir(bed.path("d")).unwrap();
        scanner.settle(&bed);
        bed.write("d/late");
        scanner.settle(&bed);
        scanner.check(&bed);
        scanner.check_watches(&bed);
        fs::remove_dir_all(bed.path("d")).unwrap();
    }
}

#[test]
fn a_deleted_directory_that_is_held_open_does_not_stand_for_its_successor() {
    let bed = Bed::new();
    let old = bed.mkdir("d");
    let held = open(&bed.path("d"));
    fs::remove_dir(bed.path("d")).unwrap();
    fs::create_dir(bed.path("d")).unwrap();
    let new = bed.add("d");
    assert_ne!(new, old);
    bed.all();
    assert_eq!(bed.watch.dir_at(b"d"), Some(new));
    assert_eq!(bed.watch.watched(), 2);
    drop(held);
    bed.all();
    assert_eq!(bed.watch.dir_at(b"d"), Some(new));
    bed.write("d/f");
    assert_eq!(bed.all(), [closed("d/f")]);
    assert_eq!(bed.watch.watched(), 2);
}

#[test]
fn a_deleted_directory_takes_up_no_watch() {
    let bed = Bed::new();
    bed.mkdir("d");
    bed.all();
    let _held = open(&bed.path("d"));
    fs::remove_dir(bed.path("d")).unwrap();
    assert_eq!(bed.all(), [gone("d", true)]);
    assert_eq!(bed.watch.watched(), 1);
    assert_eq!(bed.watch.dir_at(b"d"), None);
}

#[test]
fn writes_below_a_wandering_directory_are_seen() {
    let bed = Bed::new();
    fs::create_dir_all(bed.path("a/x/y")).unwrap();
    let mut scanner = Scanner::new(&bed);
    let mut file = fs::File::create(bed.path("a/x/y/log")).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for _ in 0..2000 {
                file.write_all(b"line\n").unwrap();
            }
        });
        let (a, b) = (bed.path("a"), bed.path("b"));
        let mover = scope.spawn(move || {
            for _ in 0..500 {
                fs::rename(&a, &b).unwrap();
                fs::rename(&b, &a).unwrap();
            }
        });
        while !writer.is_finished() || !mover.is_finished() {
            scanner.peek(&bed);
            std::thread::yield_now();
        }
    });
    scanner.settle(&bed);
    scanner.check(&bed);
}

#[test]
fn two_who_rename_at_once_are_kept_apart() {
    let bed = Bed::new();
    for hand in ["l", "r"] {
        bed.mkdir(hand);
        bed.mkdir(&format!("{hand}/d"));
        bed.write(&format!("{hand}/f"));
    }
    let mut scanner = Scanner::new(&bed);
    bed.all();
    std::thread::scope(|scope| {
        for hand in ["l", "r"] {
            let dir = bed.path(hand);
            scope.spawn(move || {
                for (from, to) in [("f", "g"), ("d", "e")].repeat(1000) {
                    fs::rename(dir.join(from), dir.join(to)).unwrap();
                    fs::rename(dir.join(to), dir.join(from)).unwrap();
                }
            });
        }
    });
    let events = bed.all();
    let hand = |path: &[u8]| path[0];
    for event in &events {
        if let Event::Renamed { from, to, .. } = event {
            assert_eq!(hand(from), hand(to));
        }
    }
    let renames = events
        .iter()
        .filter(|event| matches!(event, Event::Renamed { .. }));
    let count = renames.count();
    // A rename may fall apart when a hand is held up between its halves, but as a rule it does not.
    assert!(count > 4000, "{count} of 8000");
    scanner.batch(&bed.watch, events);
    scanner.settle(&bed);
    scanner.check(&bed);
}

#[test]
fn a_cookie_comes_after_what_was_before_it() {
    let bed = Bed::new();
    let mut expected = Vec::new();
    for round in 1..=500 {
        bed.write(&format!("f{round}"));
        expected.push(bed.watch.cookie().unwrap());
        if round % 3 == 0 {
            expected.push(bed.watch.cookie().unwrap());
        }
    }
    let (mut cookies, mut files) = (Vec::new(), 0);
    while cookies.len() < expected.len() {
        for event in bed.events.recv_timeout(DEADLINE).unwrap() {
            match event {
                Event::Cookie(number) => cookies.push((number, files)),
                Event::Changed { path, .. } => {
                    let number = std::str::from_utf8(&path[1..]).unwrap();
                    files = files.max(number.parse().unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let numbers: Vec<u64> = cookies.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, expected);
    let mut before = 0;
    for (_, files) in cookies {
        assert!(files >= before);
        before = files;
    }
    assert_eq!(before, 500);
}

#[test]
fn looking_again_loses_nothing() {
    let bed = Bed::new();
    bed.mkdir("d");
    let dir = open(&bed.path("d"));
    let root = bed.path("d");
    let maker = std::thread::spawn(move || {
        for number in 0..10_000 {
            // One event each.
            std::os::unix::fs::symlink("x", root.join(number.to_string())).unwrap();
        }
    });
    let mut seen = std::collections::HashSet::new();
    let mut note = |events: Vec<Event>| {
        for event in events {
            match event {
                Event::Changed { path, .. } => drop(seen.insert(path)),
                other => assert!(matches!(other, Event::Cookie(_)), "{other:?}"),
            }
        }
    };
    while !maker.is_finished() {
        for _ in 0..100 {
            bed.watch.add(bed.watch.root(), b"d", dir.as_fd()).unwrap();
        }
        bed.events.try_iter().for_each(&mut note);
    }
    maker.join().unwrap();
    note(bed.all());
    let missed = (0..10_000).filter(|number| !seen.contains(format!("d/{number}").as_bytes()));
    assert_eq!(missed.count(), 0);
}

#[test]
fn a_scanner_that_is_ahead_of_the_events_is_not_undone() {
    let bed = Bed::new();
    let old = bed.mkdir("a");
    bed.rename("a", "b");
    fs::create_dir(bed.path("a")).unwrap();
    // Both are found where they are now, whether or not the thread has read of it yet.
    let new = bed.add("a");
    assert_eq!(bed.add("b"), old);
    bed.all();
    assert_eq!(bed.watch.dir_at(b"a"), Some(new));
    assert_eq!(bed.watch.dir_at(b"b"), Some(old));
    bed.write("b/f");
    assert_eq!(bed.all(), [closed("b/f")]);
}

#[test]
fn a_scanner_that_is_behind_the_events_undoes_nothing() {
    let bed = Bed::new();
    let dir = bed.mkdir("a");
    let held = open(&bed.path("a"));
    bed.rename("a", "b");
    bed.all();
    assert_eq!(bed.watch.add(bed.watch.root(), b"a", held.as_fd()), Ok(dir));
    bed.write("b/f");
    assert_eq!(bed.all(), [closed("b/f")]);
}

#[test]
fn a_directory_is_not_put_into_another_one_than_it_lies_in() {
    let bed = Bed::new();
    let (one, other) = (bed.mkdir("one"), bed.mkdir("other"));
    fs::create_dir(bed.path("other/d")).unwrap();
    // As by a path that led through `one` while both had each other's name.
    let held = open(&bed.path("other/d"));
    assert_eq!(
        bed.watch.add(one, b"d", held.as_fd()),
        Err(WatchError::NoParent)
    );
    let dir = bed.watch.add(other, b"d", held.as_fd()).unwrap();
    assert_eq!(bed.watch.dir_at(b"other/d"), Some(dir));
}
