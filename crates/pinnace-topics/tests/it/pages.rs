//! Pages of what is stored: order, place, what is gone, and numbers told to live subscriptions.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use pinnace_log::twin::TwinDisk;
use pinnace_topics::{Batch, Broker, Kept, Message, Sink};

use crate::harness::{create, done, message, open, publish, small, take};

fn texts(messages: &[pinnace_topics::Stored]) -> Vec<(u64, String)> {
    messages
        .iter()
        .map(|m| (m.seq, String::from_utf8(m.payload.clone()).unwrap()))
        .collect()
}

fn settled(broker: &Broker) {
    let (done, fate) = done();
    broker.settle(done);
    fate.wait().unwrap();
}

fn gone(broker: &Broker, pattern: &str, after: u64) -> bool {
    broker.page(pattern.as_bytes(), after, 100).unwrap().gone
}

#[test]
fn pages_follow_each_other_and_say_what_is_gone() {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "a.>", "keep");
    create(&broker, "b", "keep");
    let mut publisher = broker.publisher();
    for (topic, text) in [
        ("a.1", "1"),
        ("b", "2"),
        ("a.2", "3"),
        ("a.1", "4"),
        ("b", "5"),
    ] {
        publish(&mut publisher, topic, text.as_bytes());
    }
    settled(&broker);
    let first = broker.page(b"a.>", 0, 2).unwrap();
    assert_eq!(texts(&first.messages), [(1, "1".into()), (3, "3".into())]);
    assert_eq!(
        (first.through_seq, first.last, first.gone),
        (3, false, false)
    );
    let second = broker.page(b"a.>", first.through_seq, 2).unwrap();
    assert_eq!(texts(&second.messages), [(4, "4".into())]);
    assert_eq!((second.through_seq, second.last), (5, true));
    assert_eq!(
        texts(&broker.page(b"a.1", 1, 9).unwrap().messages),
        [(4, "4".into())]
    );
    assert!(broker.page(b"a..b", 0, 1).is_err());
    assert!(broker.page(b"a.1", u64::MAX, 1).unwrap().last);

    take(&broker, "b", "keep", 1);
    assert!(gone(&broker, "b", 1) && !gone(&broker, "b", 2) && !gone(&broker, "a.1", 0));
    assert!(gone(&broker, "*", 1), "a pattern is told when in doubt");
    drop((publisher, broker));
    let (broker, _) = open(&disk, small());
    assert!(
        gone(&broker, "b", 1) && !gone(&broker, "b", 2),
        "a restart knows it from the log"
    );
}

#[test]
fn a_peek_behind_a_place_leaves_out_what_is_before_it() {
    let (broker, _) = open(&TwinDisk::new(), small());
    create(&broker, "a", "q");
    let mut publisher = broker.publisher();
    for text in ["1", "2", "3"] {
        publish(&mut publisher, "a", text.as_bytes());
    }
    settled(&broker);
    let peeked = broker.peek_after(b"a", "q", 1, 1).unwrap();
    assert_eq!(texts(&peeked.messages), [(2, "2".into())]);
    assert_eq!(peeked.through_seq, Some(2));
    assert_eq!(
        broker.peek_after(b"a", "q", 3, 9).unwrap().through_seq,
        None
    );
    assert!(broker.peek_after(b"a", "other", 0, 1).is_err());

    let (woken, wakes) = channel();
    let notify = |after, word: &'static str| {
        let woken = woken.clone();
        let wake = Box::new(move || woken.send(word).unwrap());
        broker.notify_after(b"a", "q", after, wake).unwrap()
    };
    notify(2, "at once");
    assert_eq!(wakes.try_recv(), Ok("at once"));
    notify(3, "with the fourth");
    assert!(
        wakes.try_recv().is_err(),
        "what is before the place wakes nobody"
    );
    publish(&mut publisher, "a", b"4");
    settled(&broker);
    assert_eq!(wakes.recv(), Ok("with the fourth"));
}

#[derive(Default)]
struct Numbers(Mutex<Vec<Option<u64>>>);

impl Sink for Numbers {
    fn deliver(&self, _: &Message<'_>, _: &mut Batch) -> bool {
        self.0.lock().unwrap().push(None);
        true
    }

    fn deliver_kept(&self, _: &Message<'_>, kept: &Kept, _: &mut Batch) -> bool {
        self.0.lock().unwrap().push(Some(kept.seq));
        true
    }
}

#[test]
fn a_live_subscription_is_told_the_number_of_a_kept_message() {
    let (broker, _) = open(&TwinDisk::new(), small());
    create(&broker, "kept", "q");
    let numbers = Arc::new(Numbers::default());
    broker.subscribe(b">", None, 1, numbers.clone()).unwrap();
    let mut publisher = broker.publisher();
    let mut batch = Batch::default();
    for topic in ["kept", "loose", "kept"] {
        publisher
            .publish(&message(topic, b"x"), None, &mut batch, None)
            .unwrap();
    }
    assert_eq!(*numbers.0.lock().unwrap(), [Some(1), None, Some(2)]);
}

#[test]
fn an_overview_adds_up_and_names_the_fullest() {
    let (broker, _) = open(&TwinDisk::new(), small());
    for (topic, count) in [("a", 1), ("b", 3), ("c", 2), ("idle", 0)] {
        create(&broker, topic, "q");
        let mut publisher = broker.publisher();
        for _ in 0..count {
            publish(&mut publisher, topic, b"12345");
        }
    }
    create(&broker, "*", "all");
    settled(&broker);
    let before = broker.overview(9).syncs;
    assert!(before.counts.iter().sum::<u64>() > 0 && before.total_us < 60_000_000);
    take(&broker, "b", "q", 1);
    let overview = broker.overview(2);
    assert_eq!(
        (overview.queues, overview.waiting, overview.stored_messages),
        (5, 5, 5)
    );
    assert_eq!(overview.waiting_bytes, 5 * 6);
    assert_eq!(overview.oldest_us, Some(1_700_000_000_000_000));
    let fullest: Vec<_> = overview.fullest.iter().map(|q| q.messages).collect();
    assert_eq!(fullest, [2, 2]);
    assert_eq!(
        broker.overview(9).fullest.len(),
        3,
        "empty ones are left out"
    );
    assert!(overview.syncs.counts.iter().sum::<u64>() > before.counts.iter().sum());
    assert_eq!((overview.log_segments, overview.dropped), (1, 0));
}
