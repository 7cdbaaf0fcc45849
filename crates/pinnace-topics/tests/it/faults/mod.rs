//! The N-th operation of the disk fails, for every N, once or from then on, in every way the twin can:
//! what the broker said is what a restart finds, nothing hangs and nothing panics.
//!
//! The script uses every operation that writes a record, one after the other. Of each it is known what
//! it does to a plain model: acknowledged, it is done after any crash; refused, it is not; what was
//! in flight when the storage failed is in doubt, and then a restart may find either.

mod model;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pinnace_log::twin::{Fault, Survival, TwinDisk};
use pinnace_topics::{Batch, Overflow, QueueOptions, Stored};

use crate::harness::message;
use model::{Kept, Key, Model};
use world::{World, open};

const ALL: Key = (">", "all");
const LATE: Key = ("l", "late");
const LENT: Key = ("l", "lent");
const MORTAL: Key = ("d", "mortal");
const GRAVES: Key = ("dead", "graves");
const NEWEST: Key = ("n", "newest");
const EXPIRING: Key = ("n", "expiring");
const CHURN: Key = ("c", "churn");
const KEYS: [Key; 8] = [ALL, LATE, LENT, MORTAL, GRAVES, NEWEST, EXPIRING, CHURN];

const MINUTE: Duration = Duration::from_secs(60);

/// Every operation that writes a record.
fn script(world: &mut World) {
    let limited = |messages_max, overflow| QueueOptions {
        messages_max: Some(messages_max),
        overflow,
        ..QueueOptions::default()
    };
    let mortal = QueueOptions {
        deliveries_max: Some(1),
        dead_letter: Some(GRAVES.0.as_bytes().into()),
        ..QueueOptions::default()
    };
    world.create(ALL, false, None);
    world.create(LENT, false, None);
    world.create(MORTAL, false, Some(mortal));
    world.create(GRAVES, false, None);
    for on in ["l", "l", "l", "d"] {
        world.publish(on, None);
    }
    world.create(LATE, true, None);
    world.take(LATE, 2, false);
    world.take(LATE, 2, true);

    lend(world);
    if world.lease(MORTAL, 1).is_some() {
        let dead = world.tick(2 * MINUTE);
        assert!(dead.len() == 1 || world.struck(), "{dead:?}");
        world.bury(dead);
    }

    world.create(NEWEST, false, Some(limited(2, Overflow::DropOldest)));
    world.create(EXPIRING, false, Some(limited(1, Overflow::Expire)));
    for _ in 0..4 {
        world.publish("n", None);
    }
    world.consume(ALL, 3);
    world.create(NEWEST, false, Some(limited(9, Overflow::Refuse)));
    let aging = QueueOptions {
        age_max_us: Some(10),
        ..QueueOptions::default()
    };
    world.create(LATE, false, Some(aging));
    world.clock_us.fetch_add(10, Ordering::Relaxed);
    world.tick(MINUTE);
    world.note_silent(|model| {
        if let Some(late) = model.0.get_mut(&LATE).filter(|late| late.options.is_some()) {
            late.messages.clear();
        }
    });
    world.delete(LATE);

    // Segments fill and empty: what is old and still held is copied, definitions are told again.
    world.create(CHURN, false, None);
    world.delete(ALL);
    for _ in 0..22 {
        world.publish("c", None);
        world.take(CHURN, 1, true);
    }
    world.publish("l", Some("id"));
    world.publish("l", Some("id"));
}

/// Acknowledged in parts, given back, over by itself.
fn lend(world: &mut World) {
    let (pattern, name) = (LENT.0.as_bytes(), LENT.1);
    if let Some((lease, seqs)) = world.lease(LENT, 2) {
        let until = world.now + 2 * MINUTE;
        world.broker.extend(pattern, name, lease, until).unwrap();
        world.tick(MINUTE);
        for seq in seqs {
            world.acknowledge(LENT, lease, &[seq]);
        }
    }
    for given_back in [true, false] {
        if let Some((lease, _)) = world.lease(LENT, 1)
            && given_back
        {
            let dead = world.broker.give_back(pattern, name, lease, world.now);
            assert_eq!(dead, Ok(vec![]));
        }
    }
    world.tick(3 * MINUTE);
    world.take(LENT, 1, true);
}

/// What a restart finds is one of what it may find, and the identity is still known.
fn check(disk: &TwinDisk, durable: &[Model], identified: Option<u64>, context: &str) {
    let clock_us = Arc::new(AtomicU64::new(1_000_020));
    let broker = open(disk, &clock_us).expect("it opens");
    let mut found = Model::default();
    for key in KEYS {
        let (pattern, name) = (key.0.as_bytes(), key.1);
        let Ok(peeked) = broker.peek(pattern, name, 999) else {
            continue;
        };
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let message = |m: Stored| (m.seq, (text(m.topic), text(m.payload)));
        let messages = peeked.messages.into_iter().map(message).collect();
        let options = broker.queue_status(pattern, name).unwrap().options;
        found.0.insert(key, Kept { options, messages });
    }
    assert!(
        durable.contains(&found),
        "{context}: found {found:#?}\nexpected one of {durable:#?}"
    );
    if let Some(seq) = identified {
        let (message, mut batch) = (message("l", b"again"), Batch::default());
        let again = broker
            .publisher()
            .publish_once(&message, b"id", None, &mut batch, None);
        let again = again.unwrap();
        assert_eq!((again.duplicate, again.seq), (true, Some(seq)), "{context}");
    }
}

fn every_operation_may_fail(fault: Fault, sticky: bool) {
    let whole = TwinDisk::new();
    let mut world = World::open(&whole, u64::MAX).expect("no fault");
    script(&mut world);
    let operations = whole.operations();
    assert!(operations > 200, "{operations} operations");
    assert!(!whole.removed().is_empty(), "nothing was reclaimed");
    assert_eq!(world.durable, [world.live.clone()]);
    assert!(world.identified.is_some());
    check(
        &whole.after_crash(Survival::Nothing),
        &world.durable,
        world.identified,
        "no fault",
    );
    for n in 1..=operations + 5 {
        let disk = TwinDisk::new();
        disk.fail_nth(n, fault, sticky);
        let (mut durable, mut identified) = (vec![Model::default()], None);
        if let Some(mut world) = World::open(&disk, n) {
            script(&mut world);
            (durable, identified) = (std::mem::take(&mut world.durable), world.identified);
            // Before the broker is closed, which writes.
            disk.mend();
            for survival in [Survival::Nothing, Survival::Everything, Survival::Random(n)] {
                let context = format!("{fault:?}, sticky {sticky}, n {n}, {survival:?}");
                check(&disk.after_crash(survival), &durable, identified, &context);
            }
        }
        disk.mend();
        let context = format!("{fault:?}, sticky {sticky}, n {n}, closed");
        check(
            &disk.after_crash(Survival::Nothing),
            &durable,
            identified,
            &context,
        );
    }
}

macro_rules! every_operation_may_fail {
    ($($name:ident: $fault:ident, $sticky:expr;)*) => {$(
        #[test]
        fn $name() {
            every_operation_may_fail(Fault::$fault, $sticky);
        }
    )*};
}

// One test each, so that they run side by side.
every_operation_may_fail! {
    once_with_an_error: Eio, false;
    forever_with_an_error: Eio, true;
    once_for_want_of_space: Enospc, false;
    forever_for_want_of_space: Enospc, true;
    once_after_half_of_the_bytes: ShortWrite, false;
    forever_after_half_of_the_bytes: ShortWrite, true;
}
