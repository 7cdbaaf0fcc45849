//! Batches, duplicates, refusals, and what a run's state follows from.

use pinnace_proto::event::StopReason;
use pinnace_proto::run::{ClientState, RunState};
use pinnace_runs::{Reader, Store};

use crate::samples::{heartbeat, lost, of, received, sample, started, stopped};

fn open() -> (tempfile::TempDir, Store, Reader) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    (folder, Store::open(&path).unwrap(), Reader::new(&path))
}

#[test]
fn a_run_from_start_to_end() {
    let (_folder, mut store, reader) = open();
    let applied = store
        .apply(&[of("r", "a", 1, started()), of("r", "a", 2, sample(700))])
        .unwrap();
    assert_eq!((applied.stored, applied.finished.len()), (2, 0));
    let head = &reader.list().unwrap()[0];
    assert_eq!(
        (head.state, head.bytes, head.events),
        (RunState::Running, 700, 2)
    );
    assert_eq!(
        (head.name.as_str(), head.solution.as_str()),
        ("nightly", "nvme")
    );

    let applied = store
        .apply(&[of("r", "a", 3, stopped(900, StopReason::Completed))])
        .unwrap();
    assert_eq!(applied.finished, ["r"]);
    let record = reader.load("r").unwrap().unwrap();
    assert_eq!(
        (record.run.state, record.run.bytes),
        (RunState::Complete, 900)
    );
    let kinds: Vec<_> = record.clients[0]
        .events
        .iter()
        .map(|e| e.body.kind())
        .collect();
    assert_eq!(kinds, ["started", "sample", "stopped"]);
    assert!(reader.load("other").unwrap().is_none());
}

#[test]
fn the_same_events_twice_change_nothing() {
    let (_folder, mut store, reader) = open();
    let batch = [
        of("r", "a", 1, started()),
        of("r", "a", 2, sample(700)),
        of("r", "a", 3, sample(50)),
    ];
    store.apply(&batch).unwrap();
    let again = store.apply(&batch).unwrap();
    assert_eq!((again.stored, again.duplicates), (0, 3));
    assert_eq!(reader.list().unwrap()[0].bytes, 750);
}

#[test]
fn a_second_client_of_the_same_name_is_refused() {
    let (_folder, mut store, reader) = open();
    store.apply(&[of("r", "a", 1, started())]).unwrap();
    let other = received("r", "a", "ffffffffffffffff", 1, started());
    let applied = store
        .apply(&[other, of("r", "never", 4, heartbeat())])
        .unwrap();
    assert_eq!(applied.stored, 0);
    assert!(
        applied.refused[0].reason.contains("another process"),
        "{:?}",
        applied.refused
    );
    assert!(
        applied.refused[1].reason.contains("never started"),
        "{:?}",
        applied.refused
    );
    assert_eq!(reader.list().unwrap()[0].clients, 1);
    assert_eq!(
        reader.instance_of("r", "a").unwrap().as_deref(),
        Some(crate::samples::INSTANCE)
    );
    assert_eq!(reader.instance_of("r", "b").unwrap(), None);
}

#[test]
fn a_lost_client_keeps_its_figures_and_may_come_back() {
    let (_folder, mut store, reader) = open();
    store
        .apply(&[of("r", "a", 1, started()), of("r", "a", 2, sample(700))])
        .unwrap();
    store.apply(&[of("r", "b", 1, started())]).unwrap();
    assert_eq!(store.running_clients().unwrap().len(), 2);
    store
        .apply(&[of("r", "b", 2, stopped(10, StopReason::Completed))])
        .unwrap();
    let applied = store
        .apply(&[lost("r", "a", store.next_server_event("r", "a").unwrap())])
        .unwrap();
    assert_eq!(applied.finished, ["r"]);
    let head = &reader.list().unwrap()[0];
    assert_eq!(
        (head.state, head.clients_lost, head.bytes),
        (RunState::Partial, 1, 710)
    );

    store.apply(&[of("r", "a", 3, heartbeat())]).unwrap();
    assert_eq!(reader.list().unwrap()[0].state, RunState::Running);
    assert_eq!(store.next_server_event("r", "a").unwrap(), 2);
    let applied = store
        .apply(&[of("r", "a", 4, stopped(800, StopReason::Completed))])
        .unwrap();
    assert_eq!(applied.finished, ["r"]);
    let record = reader.load("r").unwrap().unwrap();
    assert_eq!(
        (record.run.state, record.run.bytes),
        (RunState::Complete, 810)
    );
    assert_eq!(record.clients[0].state, ClientState::Stopped);
    assert_eq!(record.clients[0].events.last().unwrap().body.kind(), "lost");
}

#[test]
fn giving_up_a_client_that_has_ended_is_without_effect() {
    let (_folder, mut store, reader) = open();
    store.apply(&[of("r", "a", 1, started())]).unwrap();
    store
        .apply(&[of("r", "a", 2, stopped(10, StopReason::Interrupted))])
        .unwrap();
    let applied = store.apply(&[lost("r", "a", 1)]).unwrap();
    assert_eq!((applied.stored, applied.duplicates), (0, 1));
    let head = &reader.list().unwrap()[0];
    assert_eq!((head.state, head.clients_lost), (RunState::Partial, 0));
}

#[test]
fn a_removed_run_is_gone() {
    let (_folder, mut store, reader) = open();
    store
        .apply(&[of("r", "a", 1, started()), of("s", "a", 1, started())])
        .unwrap();
    assert!(store.remove("r").unwrap());
    assert!(!store.remove("r").unwrap());
    assert_eq!(reader.list().unwrap().len(), 1);
    assert!(reader.load("r").unwrap().is_none());
}
