//! The publish/subscribe exercise: subscribe, unsubscribe, publish, fetch by name, as its text says
//! them and as its known faulty solution got them wrong.

use pinnace_log::twin::TwinDisk;
use pinnace_topics::Error;

use crate::harness::{create, delete, open, publish, small, take, texts, try_take};

#[test]
fn alice_and_bob() {
    let (broker, _) = open(&TwinDisk::new(), small());
    let topic = "kittens_and_puppies";
    assert!(create(&broker, topic, "alice"));
    assert!(create(&broker, topic, "bob"));
    let mut charles = broker.publisher();
    assert_eq!(
        publish(&mut charles, topic, b"http://example.org/kitten").queues,
        2
    );
    assert_eq!(
        texts(&take(&broker, topic, "alice", 1)),
        ["http://example.org/kitten"]
    );
    assert!(
        take(&broker, topic, "alice", 1).is_empty(),
        "204: nothing waits"
    );
    let stored = |topic: &str| {
        let all = broker.topics();
        all.iter()
            .find(|t| t.topic == topic.as_bytes())
            .map_or(0, |t| t.messages)
    };
    assert_eq!(stored(topic), 1, "it stays for Bob");
    assert_eq!(
        texts(&take(&broker, topic, "bob", 1)),
        ["http://example.org/kitten"]
    );
    assert_eq!(stored(topic), 0, "and goes once Bob has it");
}

/// Unsubscribing while messages wait that are not this user's answered 500: the user had read
/// them, or joined after them.
#[test]
fn unsubscribing_works_whoever_else_messages_wait_for() {
    let (broker, _) = open(&TwinDisk::new(), small());
    let mut publisher = broker.publisher();
    create(&broker, "t", "alice");
    create(&broker, "t", "bob");
    publish(&mut publisher, "t", b"one");
    assert_eq!(texts(&take(&broker, "t", "alice", 1)), ["one"]);
    assert!(
        delete(&broker, "t", "alice"),
        "one waits for Bob, Alice has read it"
    );
    create(&broker, "t", "carol");
    assert!(
        delete(&broker, "t", "carol"),
        "one waits for Bob, Carol came after it"
    );
    assert_eq!(texts(&take(&broker, "t", "bob", 9)), ["one"]);
    assert!(!delete(&broker, "t", "alice"), "404: no such subscription");
}

#[test]
fn answers_of_the_exercise() {
    let (broker, _) = open(&TwinDisk::new(), small());
    let mut publisher = broker.publisher();
    assert!(matches!(
        try_take(&broker, "t", "alice", 1),
        Err(Error::NoSuchQueue { .. })
    ));
    assert_eq!(publish(&mut publisher, "t", b"nobody").seq, None, "dropped");
    assert!(create(&broker, "t", "alice"));
    assert!(
        take(&broker, "t", "alice", 1).is_empty(),
        "only later messages"
    );
    publish(&mut publisher, "t", b"1");
    publish(&mut publisher, "t", b"");
    assert!(
        !create(&broker, "t", "alice"),
        "subscribing twice keeps the queue"
    );
    assert_eq!(texts(&take(&broker, "t", "alice", 1)), ["1"]);
    assert_eq!(
        texts(&take(&broker, "t", "alice", 1)),
        [""],
        "an empty message is a message"
    );
    publish(&mut publisher, "t", b"2");
    delete(&broker, "t", "alice");
    create(&broker, "t", "alice");
    assert!(take(&broker, "t", "alice", 1).is_empty(), "a fresh queue");
    assert!(broker.topics().iter().all(|topic| topic.messages == 0));
}
