//! What happens at the limits: of the queue, of watches, and at the end.

use std::sync::{Condvar, Mutex};

use super::scanner::Scanner;
use super::*;

#[test]
fn a_full_queue_is_told_and_what_comes_after_too() {
    let limit = setting("max_queued_events").unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    let (sender, events) = channel();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let watch = Watch::start(open(&dir.path().join("root")).as_fd(), {
        let gate = Arc::clone(&gate);
        move |batch| {
            let _ = sender.send(batch);
            let is_open = gate.0.lock().unwrap();
            drop(gate.1.wait_while(is_open, |is_open| !*is_open).unwrap());
        }
    })
    .unwrap();
    let bed = Bed { dir, watch, events };
    let mut scanner = Scanner::new(&bed);
    bed.write("first");
    scanner.batch(&bed.watch, bed.events.recv_timeout(DEADLINE).unwrap());
    // The sink is stuck: two names are opened for writing in turn, so that no event is like the one before.
    for _ in 0..=limit / 2 {
        bed.write("a");
        bed.write("b");
    }
    fs::create_dir(bed.path("new")).unwrap();
    bed.write("new/f");
    let lost = bed.watch.cookie().unwrap();
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let mut is_there = false;
    while !is_there {
        let batch = bed.events.recv_timeout(DEADLINE).unwrap();
        is_there = batch.contains(&Event::Cookie(lost));
        scanner.batch(&bed.watch, batch);
    }
    assert_eq!(scanner.overflows(), 1);
    bed.write("new/g");
    scanner.settle(&bed);
    scanner.check(&bed);
}

#[test]
fn refusals_say_what_to_do() {
    let full = WatchError::refused(Errno::NOSPC, || Some(8192));
    assert_eq!(full, WatchError::Limit { limit: Some(8192) });
    assert_eq!(
        full.to_string(),
        "no more directories can be watched: the limit of this user (8192) is used up; raise it with \
         `sysctl fs.inotify.max_user_watches=<number>`, or exclude directories from the mirror"
    );
    let other = WatchError::refused(Errno::ACCESS, || panic!("not asked"));
    assert!(matches!(
        other,
        WatchError::Os {
            errno: Errno::ACCESS,
            ..
        }
    ));
    assert!(setting("max_user_watches").is_some_and(|limit| limit > 0));
    assert_eq!(setting("no_such_setting"), None);
}

#[test]
fn only_directories_in_known_directories_are_watched() {
    let bed = Bed::new();
    let dir = bed.mkdir("d");
    bed.write("f");
    let outcome = bed
        .watch
        .add(bed.watch.root(), b"f", open(&bed.path("f")).as_fd());
    assert!(matches!(
        outcome,
        Err(WatchError::Os {
            errno: Errno::NOTDIR,
            ..
        })
    ));
    let outcome = bed.watch.add(dir, b"x", open(&bed.root()).as_fd());
    assert_eq!(outcome, Err(WatchError::NoParent));
    bed.watch.forget(dir);
    fs::create_dir(bed.path("d/e")).unwrap();
    let outcome = bed.watch.add(dir, b"e", open(&bed.path("d/e")).as_fd());
    assert_eq!(outcome, Err(WatchError::NoParent));
}

#[test]
fn what_is_forgotten_is_silent() {
    let bed = Bed::new();
    let dir = bed.mkdir("d");
    bed.mkdir("d/e");
    assert_eq!(bed.watch.watched(), 3);
    bed.all();
    bed.watch.forget(dir);
    bed.watch.forget(bed.watch.root());
    assert_eq!(bed.watch.watched(), 1);
    bed.write("d/f");
    bed.write("d/e/f");
    assert_eq!(bed.all(), []);
    assert_eq!(bed.watch.dir_at(b"d"), None);
    assert_ne!(bed.add("d"), dir);
    bed.write("d/f");
    assert_eq!(bed.all(), [closed("d/f")]);
}

#[test]
fn the_thread_ends_with_the_last_clone() {
    let bed = Bed::new();
    let clone = bed.watch.clone();
    drop(bed.watch);
    clone.cookie().unwrap();
    assert!(bed.events.recv_timeout(DEADLINE).is_ok());
    drop(clone);
    // The sink went with the thread.
    assert!(bed.events.recv().is_err());
}

#[test]
fn a_sink_may_let_go_of_its_own_watcher() {
    let dir = tempfile::tempdir().unwrap();
    let own: Arc<Mutex<Option<Watch>>> = Arc::default();
    let (sender, ended) = channel::<()>();
    let watch = Watch::start(open(dir.path()).as_fd(), {
        let own = Arc::clone(&own);
        move |_| {
            let _sender = &sender;
            drop(own.lock().unwrap().take());
        }
    })
    .unwrap();
    *own.lock().unwrap() = Some(watch);
    fs::write(dir.path().join("f"), b"").unwrap();
    assert!(ended.recv().is_err());
}
