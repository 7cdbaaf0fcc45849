//! Live subscriptions: routing against the plain definition, groups, no echo, flushing, invalidation.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pinnace_log::twin::TwinDisk;
use pinnace_topics::{Batch, Error, PublishError, topic};
use proptest::prelude::*;

use crate::harness::{Inbox, create, message, open, publish, small, try_publish};

fn pattern() -> impl Strategy<Value = String> {
    let token = prop_oneof![4 => "[abc]", 2 => Just("*".to_owned()), 1 => Just("a*".to_owned())];
    (prop::collection::vec(token, 1..5), prop::bool::ANY).prop_map(|(mut tokens, rest)| {
        if rest {
            tokens.push(">".to_owned());
        }
        tokens.join(".")
    })
}

fn topic_text() -> impl Strategy<Value = String> {
    let token = prop_oneof![8 => "[abc]", 1 => Just("*".to_owned()), 1 => Just("a*".to_owned())];
    prop::collection::vec(token, 1..6).prop_map(|tokens| tokens.join("."))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Subscriptions and queues come and go; each publish reaches exactly those that `matches` names.
    #[test]
    fn routing_agrees_with_the_definition(
        patterns in prop::collection::vec(pattern(), 1..12),
        steps in prop::collection::vec((topic_text(), any::<prop::sample::Index>()), 1..20),
    ) {
        let (broker, _) = open(&TwinDisk::new(), small());
        let mut publisher = broker.publisher();
        let inboxes: Vec<_> = patterns.iter().map(|_| Inbox::new()).collect();
        let mut ids = vec![None; patterns.len()];
        for (topic, flip) in steps {
            let index = flip.index(patterns.len());
            let pattern = patterns[index].as_bytes();
            match ids[index].take() {
                Some(id) => broker.unsubscribe(id),
                None => {
                    let sink = Arc::clone(&inboxes[index]);
                    ids[index] = Some(broker.subscribe(pattern, None, 1, sink).unwrap());
                }
            }
            let before: Vec<_> = inboxes.iter().map(|inbox| inbox.count()).collect();
            let published = publish(&mut publisher, &topic, b"x");
            let mut expected = 0;
            for (index, text) in patterns.iter().enumerate() {
                let reached = inboxes[index].count() - before[index];
                let should = ids[index].is_some()
                    && topic::matches(text.as_bytes(), topic.as_bytes());
                prop_assert_eq!(reached, usize::from(should), "{} {}", text, topic);
                expected += u32::from(should);
            }
            prop_assert_eq!(published.live, expected);
            prop_assert_eq!(broker.has_interest(topic.as_bytes()), expected > 0);
        }
        for id in ids.into_iter().flatten() {
            broker.unsubscribe(id);
        }
        prop_assert!(broker.topics().is_empty(), "empty branches are pruned");
    }
}

#[test]
fn one_member_of_a_group_gets_each_message_and_all_get_some() {
    let (broker, _) = open(&TwinDisk::new(), small());
    let members: Vec<_> = (0..4).map(|_| Inbox::new()).collect();
    let plain = Inbox::new();
    // Groups of one name are one group, whatever their patterns.
    for (member, pattern) in members.iter().zip(["a.b", "a.*", "a.>", "a.b"]) {
        let sink = Arc::clone(member);
        broker
            .subscribe(pattern.as_bytes(), Some(b"workers"), 1, sink)
            .unwrap();
    }
    broker
        .subscribe(b"a.b", None, 1, Arc::clone(&plain) as _)
        .unwrap();
    let mut publisher = broker.publisher();
    for _ in 0..100 {
        assert_eq!(publish(&mut publisher, "a.b", b"x").live, 2);
    }
    let counts: Vec<_> = members.iter().map(|member| member.count()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 100);
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    assert_eq!(plain.count(), 100);
    // Exhausted members are passed over; when all are, nobody took it.
    for member in &members[..3] {
        member.closed.store(true, Ordering::Relaxed);
    }
    for _ in 0..10 {
        assert_eq!(publish(&mut publisher, "a.b", b"x").live, 2);
    }
    assert_eq!(members[3].count(), counts[3] + 10);
    members[3].closed.store(true, Ordering::Relaxed);
    assert_eq!(publish(&mut publisher, "a.b", b"x").live, 1);
}

#[test]
fn the_publishers_own_subscriptions_are_skipped_when_asked() {
    let (broker, _) = open(&TwinDisk::new(), small());
    let (mine, yours, grouped) = (Inbox::new(), Inbox::new(), Inbox::new());
    broker
        .subscribe(b"t", None, 7, Arc::clone(&mine) as _)
        .unwrap();
    broker
        .subscribe(b"t", None, 8, Arc::clone(&yours) as _)
        .unwrap();
    broker
        .subscribe(b"t", Some(b"g"), 7, Arc::clone(&grouped) as _)
        .unwrap();
    let mut publisher = broker.publisher();
    let mut batch = Batch::default();
    let mut live = |skip| {
        publisher
            .publish(&message("t", b"x"), skip, &mut batch, None)
            .unwrap()
            .live
    };
    assert_eq!(live(Some(7)), 1);
    assert_eq!((mine.count(), yours.count(), grouped.count()), (0, 1, 0));
    assert_eq!(live(None), 3);
    assert_eq!((mine.count(), yours.count(), grouped.count()), (1, 2, 1));
}

#[test]
fn a_batch_flushes_each_connection_once() {
    let (broker, _) = open(&TwinDisk::new(), small());
    let inbox = Inbox::new();
    for pattern in ["a", "*", ">"] {
        broker
            .subscribe(pattern.as_bytes(), None, 1, Arc::clone(&inbox) as _)
            .unwrap();
    }
    let mut publisher = broker.publisher();
    let mut batch = Batch::default();
    for _ in 0..10 {
        publisher
            .publish(&message("a", b"x"), None, &mut batch, None)
            .unwrap();
    }
    assert_eq!(
        inbox.count(),
        30,
        "several subscriptions of one owner each get their copy"
    );
    assert_eq!(inbox.connection.flushes.load(Ordering::Relaxed), 0);
    batch.flush();
    assert_eq!(inbox.connection.flushes.load(Ordering::Relaxed), 1);
}

#[test]
fn what_is_not_a_topic_or_pattern_is_refused() {
    let (broker, _) = open(&TwinDisk::new(), small());
    let mut publisher = broker.publisher();
    for text in ["", "a..b", "a b", ".a"] {
        let refused = try_publish(&mut publisher, text, b"x");
        assert!(
            matches!(refused, Err(PublishError::InvalidTopic { .. })),
            "{text:?}"
        );
        let refused = broker.subscribe(text.as_bytes(), None, 1, Inbox::new());
        assert!(
            matches!(refused, Err(Error::InvalidPattern { .. })),
            "{text:?}"
        );
    }
    let refused = broker.subscribe(b"a.>.b", None, 1, Inbox::new());
    assert!(matches!(refused, Err(Error::InvalidPattern { .. })));
    assert_eq!(publish(&mut publisher, "a.>.b", b"x").live, 0);
}

#[test]
fn topics_are_listed_with_who_is_interested() {
    let (broker, _) = open(&TwinDisk::new(), small());
    broker.subscribe(b"a.*", None, 1, Inbox::new()).unwrap();
    broker
        .subscribe(b"a.*", Some(b"g"), 1, Inbox::new())
        .unwrap();
    create(&broker, "a.>", "q");
    publish(&mut broker.publisher(), "a.b", b"12345");
    let listed: Vec<_> = broker
        .topics()
        .into_iter()
        .map(|t| {
            (
                String::from_utf8(t.topic).unwrap(),
                t.subscriptions,
                t.queues,
                t.bytes,
            )
        })
        .collect();
    let expected = [("a.*", 2, 0, 0), ("a.>", 0, 1, 0), ("a.b", 0, 0, 8)];
    assert_eq!(listed, expected.map(|(t, s, q, b)| (t.to_owned(), s, q, b)));
}
