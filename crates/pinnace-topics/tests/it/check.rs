//! Checks of what is stored: what damage costs, at rest and while a broker works, and snapshots that
//! hold back what is given up.

use std::path::{Path, PathBuf};

use pinnace_log::twin::{Survival, TwinDisk};
use pinnace_topics::{Broker, Checked, Lost, Problem, ProblemKind, check_on};

use crate::harness::{create, delete, open, publish, small, take, texts};

fn at_rest(disk: &TwinDisk) -> Checked {
    let checked = check_on(disk, Path::new("log"), &|| true);
    checked.unwrap().unwrap()
}

fn while_it_works(broker: &Broker) -> Checked {
    broker.snapshot().check(&|| true).unwrap().unwrap()
}

/// Where a payload stands.
fn place(disk: &TwinDisk, payload: &[u8]) -> (PathBuf, usize) {
    let mut paths = disk.paths().into_iter();
    paths
        .find_map(|path| {
            let bytes = disk.contents(&path).unwrap();
            let at = bytes.windows(payload.len()).position(|w| w == payload)?;
            Some((path, at))
        })
        .unwrap()
}

fn rot(disk: &TwinDisk, payload: &[u8]) {
    let (path, at) = place(disk, payload);
    disk.rot(&path, at);
}

/// Two queues on a topic, one on another, and ten messages of which `fast` took the first four.
fn filled() -> (TwinDisk, Broker) {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    for (pattern, name) in [("t", "fast"), ("t", "slow"), ("other", "o")] {
        create(&broker, pattern, name);
    }
    let mut publisher = broker.publisher();
    for n in 1..=10 {
        publish(&mut publisher, "t", format!("message {n:04}").as_bytes());
    }
    take(&broker, "t", "fast", 4);
    (disk, broker)
}

#[test]
fn what_is_whole_is_clean_and_counted() {
    let (disk, broker) = filled();
    delete(&broker, "other", "o");
    let working = while_it_works(&broker);
    assert_eq!(
        (working.problems_count, &working.problems[..]),
        (0, &[][..])
    );
    assert_eq!((working.messages, working.queues), (10, 2));
    drop(broker);
    assert_eq!(at_rest(&disk), working);
    let ended = check_on(&disk, Path::new("log"), &|| false);
    assert_eq!(ended.unwrap(), None);
}

#[test]
fn a_reclaimed_log_is_clean_too() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "t", "busy");
    create(&broker, "t", "slow");
    let mut publisher = broker.publisher();
    for n in 0..600 {
        publish(&mut publisher, "t", &[b'x'; 200]);
        take(&broker, "t", "busy", 1);
        if n % 40 == 0 {
            take(&broker, "t", "slow", 39);
            assert_eq!(while_it_works(&broker).problems, [], "{n}");
            let crashed = at_rest(&disk.after_crash(Survival::Random(n)));
            assert_eq!((crashed.problems, crashed.queues), (vec![], 2), "{n}");
        }
    }
    assert!(!disk.removed().is_empty());
}

#[test]
fn a_broker_names_the_messages_that_are_lost() {
    let (disk, broker) = filled();
    for payload in [&b"message 0002"[..], b"message 0007"] {
        rot(&disk, payload);
    }
    let checked = while_it_works(&broker);
    let lost: Vec<_> = checked.problems.iter().map(named).collect();
    assert_eq!(
        lost,
        [(2, "t", vec!["slow"]), (7, "t", vec!["fast", "slow"])]
    );
    // Given away or discarded, it is lost no more.
    take(&broker, "t", "slow", 99);
    take(&broker, "t", "fast", 99);
    let checked = while_it_works(&broker);
    let costs: Vec<_> = checked.problems.iter().map(|p| &p.lost).collect();
    assert_eq!(costs, [&Lost::Messages(0, vec![]); 2]);
    assert_eq!(checked.problems_count, 2);
}

/// Number, topic and queues of the one message that a problem costs.
fn named(problem: &Problem) -> (u64, &str, Vec<&str>) {
    assert_eq!(problem.kind, ProblemKind::Records);
    let Lost::Messages(1, messages) = &problem.lost else {
        panic!("{problem:?}")
    };
    let [message] = &messages[..] else {
        panic!("{problem:?}")
    };
    let queues = message.queues.iter().map(|(_, name)| name.as_str());
    (message.seq, &message.topic, queues.collect())
}

#[test]
fn at_rest_the_numbers_of_the_neighbours_tell() {
    let (disk, broker) = filled();
    drop(broker);
    for payload in [&b"message 0007"[..], b"message 0008"] {
        rot(&disk, payload);
    }
    let checked = at_rest(&disk);
    let [problem] = &checked.problems[..] else {
        panic!("{checked:?}")
    };
    assert_eq!(problem.lost, Lost::Numbers(7, 8));
    let (first, last) = problem.lsns.unwrap();
    assert_eq!(last, first + 1);
    assert_eq!(checked.messages, 8);
}

#[test]
fn a_queue_that_nothing_defines_and_a_record_of_another_program_are_named() {
    let (disk, broker) = filled();
    drop(broker);
    // Both of its definitions: the pattern stands in nothing else.
    let (path, at) = place(&disk, b"other\x01o");
    disk.rot(&path, at);
    let again = disk.contents(&path).unwrap();
    let next = again.windows(7).position(|w| w == b"other\x01o").unwrap();
    disk.rot(&path, next);
    let checked = at_rest(&disk);
    assert_eq!(checked.queues, 2);
    assert!(
        checked
            .problems
            .iter()
            .all(|p| p.kind == ProblemKind::Records)
    );

    let disk = TwinDisk::new();
    let opened = pinnace_log::Log::open(
        std::sync::Arc::new(disk.clone()),
        Path::new("log"),
        small().log,
        &mut |_, _, _| Ok(()),
    );
    let log = opened.unwrap().start(Box::new(Deaf)).unwrap();
    // A message for queue 9, then a kind that is not known.
    log.append(&[b"\x01\x01\x01\x01\x09\x01\x00tx"]).unwrap();
    log.append(&[&[99, 1]]).unwrap();
    drop(log);
    let checked = at_rest(&disk);
    let kinds: Vec<_> = checked.problems.iter().map(|p| &p.kind).collect();
    let reason = "record kind 99 is unknown; use the newer program".to_owned();
    assert_eq!(
        kinds,
        [
            &ProblemKind::UndefinedQueue(9),
            &ProblemKind::Unreadable(reason)
        ]
    );
}

struct Deaf;

impl pinnace_log::Observer for Deaf {
    fn committed(&mut self, _: u64, _: &[pinnace_log::Position]) {}
    fn refused(&mut self, _: u64, _: u64, _: &str) {}
    fn failed(&mut self, _: &str) {}
}

#[test]
fn a_snapshot_holds_what_is_given_up_and_gives_it_back_when_it_goes() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "t", "busy");
    let mut publisher = broker.publisher();
    publish(&mut publisher, "t", b"first");
    let snapshot = broker.snapshot();
    for _ in 0..300 {
        publish(&mut publisher, "t", &[b'x'; 200]);
        take(&broker, "t", "busy", 1);
    }
    take(&broker, "t", "busy", 9);
    let held = disk.used_bytes();
    assert!(held > 300 * 200, "{held} bytes are held");
    let checked = snapshot.check(&|| true).unwrap().unwrap();
    assert_eq!((checked.messages, checked.problems), (1, vec![]));
    assert!(disk.removed().is_empty());
    // Nothing else happens any more, and yet the space is there again.
    drop(snapshot);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while disk.used_bytes() > 3 * 8192 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    publish(&mut publisher, "t", b"after");
    assert_eq!(texts(&take(&broker, "t", "busy", 9)), ["after"]);
    let (_, recovery) = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(recovery.log.damage, []);
}
