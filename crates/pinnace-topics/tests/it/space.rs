//! Full and failed storage: nobody is told a lie, takes go on, space heals.

use std::sync::Arc;

use pinnace_log::twin::{Fault, Survival, TwinDisk};
use pinnace_topics::{PublishError, StorageState, StoreError};

use crate::harness::{
    Inbox, create, delete, done, open, publish, small, take, texts, try_publish, try_take,
};

#[test]
fn a_full_disk_refuses_publishes_lets_take_and_heals() {
    let disk = TwinDisk::new();
    disk.set_capacity(Some(8192 * 7 / 2));
    let (broker, _) = open(&disk, small());
    create(&broker, "t", "q");
    let mut publisher = broker.publisher();
    let (mut next, mut expected) = (0_u64, Vec::new());
    for cycle in 0..10 {
        let mut fits = 0;
        loop {
            let text = format!("{next:0300}");
            match try_publish(&mut publisher, "t", text.as_bytes()) {
                Ok(Ok(_)) => {
                    expected.push(text);
                    (next, fits) = (next + 1, fits + 1);
                }
                Ok(Err(StoreError::Full(_))) | Err(PublishError::Store(StoreError::Full(_))) => {
                    break;
                }
                other => panic!("cycle {cycle}: {other:?}"),
            }
        }
        assert!(fits > 5, "cycle {cycle}: only {fits} fit");
        assert!(matches!(broker.state(), StorageState::Full(_)));
        let (recovered, _) = open(&disk.after_crash(Survival::Nothing), small());
        assert_eq!(
            texts(&recovered.peek(b"t", "q", 999).unwrap().messages),
            expected
        );
        // A take may be told that the refusal is not over yet, but nothing else.
        let mut taken = Vec::new();
        while taken.len() < expected.len() {
            match try_take(&broker, "t", "q", 4) {
                Ok(Ok(messages)) => taken.extend(texts(&messages)),
                Err(error) => assert!(error.to_string().contains("full"), "{error}"),
                Ok(Err(error)) => panic!("cycle {cycle}: {error}"),
            }
        }
        assert_eq!(taken, expected);
        expected.clear();
        while broker.state() != StorageState::Ok {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_failed_sync_ends_acknowledgements_and_everybody_is_told() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    let inbox = Inbox::new();
    broker
        .subscribe(b"live", None, 1, Arc::clone(&inbox) as _)
        .unwrap();
    create(&broker, "t", "q");
    let mut publisher = broker.publisher();
    publish(&mut publisher, "t", b"good");
    let (sender, woken) = std::sync::mpsc::channel();
    take(&broker, "t", "q", 0);
    create(&broker, "t", "empty");
    broker
        .notify(b"t", "empty", Box::new(move || sender.send(()).unwrap()))
        .unwrap();
    disk.fail_nth(1, Fault::Eio, true);
    let refused = try_publish(&mut publisher, "t", b"bad").unwrap();
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    woken.recv().unwrap();
    assert!(matches!(broker.state(), StorageState::Failed(_)));
    let refused = try_publish(&mut publisher, "t", b"later");
    assert!(matches!(
        refused,
        Err(PublishError::Store(StoreError::Failed(_)))
    ));
    assert!(try_take(&broker, "t", "q", 1).is_err());
    assert_eq!(
        publish(&mut publisher, "live", b"x").live,
        1,
        "live needs no disk"
    );
    disk.mend();
    assert_eq!(
        texts(&broker.peek(b"t", "q", 9).unwrap().messages),
        ["good"],
        "reading goes on"
    );
    let (broker, _) = open(&disk.after_crash(Survival::Nothing), small());
    assert_eq!(texts(&take(&broker, "t", "q", 9)), ["good"]);
}

/// Queue operations that the disk refuses leave everything as it was.
#[test]
fn refused_operations_are_undone() {
    for n in 1..40 {
        let disk = TwinDisk::new();
        disk.set_no_allocate(true);
        let (broker, _) = open(&disk, small());
        create(&broker, "t", "q");
        create(&broker, "t", "r");
        let mut publisher = broker.publisher();
        for text in ["1", "2", "3"] {
            publish(&mut publisher, "t", text.as_bytes());
        }
        let before = broker.queues();
        disk.fail_nth(n, Fault::Enospc, false);
        let (call, deleted) = done();
        let deletion = broker.delete_queue(b"t", "q", call);
        let (call, created) = done();
        let first = pinnace_topics::Start::First;
        let creation = broker.create_queue(b"t", "s", first, call);
        let published = try_publish(&mut publisher, "t", b"4");
        // What was taken on is told its fate, whenever that is; what was not has none.
        let deleted = deletion.ok().map(|_| deleted.wait());
        let created = creation.ok().map(|_| created.wait());
        let taken = try_take(&broker, "t", "r", 2);
        if deleted == Some(Ok(3)) {
            assert!(broker.queue_status(b"t", "q").is_err(), "n {n}");
        } else if !matches!(broker.state(), StorageState::Failed(_)) {
            let status = broker.queue_status(b"t", "q").unwrap();
            assert!(status.messages >= before[0].messages, "n {n}: {status:?}");
        }
        if !matches!(broker.state(), StorageState::Failed(_)) {
            let there = broker.queue_status(b"t", "s").is_ok();
            assert_eq!(there, matches!(created, Some(Ok(_))), "n {n}");
        }
        disk.mend();
        let (after, recovery) = open(&disk.after_crash(Survival::Nothing), small());
        assert!(recovery.log.damage.is_empty(), "n {n}");
        let mut expected: Vec<_> = ["1", "2", "3"].map(str::to_owned).into();
        if matches!(published, Ok(Ok(_))) {
            expected.push("4".to_owned());
        }
        // A disk that could not be read in between gave fewer.
        if let Ok(Ok(taken)) = &taken {
            assert_eq!(texts(taken), expected[..taken.len()]);
            expected.drain(..taken.len());
        }
        let found = texts(&after.peek(b"t", "r", 99).unwrap().messages);
        // Unless the storage has failed, when the last operations are in doubt.
        if !matches!(broker.state(), StorageState::Failed(_)) {
            assert_eq!(found, expected, "n {n}");
            let seen = texts(&broker.peek(b"t", "r", 99).unwrap().messages);
            assert_eq!(seen, expected, "n {n}");
        }
        assert_eq!(
            after.queue_status(b"t", "q").is_err(),
            deleted == Some(Ok(3)),
            "n {n}"
        );
        delete(&after, "t", "r");
    }
}
