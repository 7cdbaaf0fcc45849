//! Queues that stand in for a live subscription: every message is in exactly one of the two.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use pinnace_log::twin::TwinDisk;
use pinnace_topics::{Batch, Error, Kept, Message, QueueId, Sink};

use crate::harness::{create, done, message, open, publish, small, texts};

/// Remembers what came live and where else it was kept.
#[derive(Default)]
struct Watch(Mutex<Vec<(String, Option<Kept>)>>);

impl Watch {
    fn note(&self, message: &Message<'_>, kept: Option<&Kept>) -> bool {
        let text = String::from_utf8(message.payload.to_vec()).unwrap();
        self.0.lock().unwrap().push((text, kept.cloned()));
        true
    }

    /// What is in none of the queues.
    fn live(&self, queues: &[QueueId]) -> Vec<String> {
        let seen = self.0.lock().unwrap();
        let is_live = |kept: &Option<Kept>| {
            let mut queues = queues.iter();
            !kept
                .as_ref()
                .is_some_and(|kept| queues.any(|queue| kept.is_in(*queue)))
        };
        let live = seen.iter().filter(|(_, kept)| is_live(kept));
        live.map(|(text, _)| text.clone()).collect()
    }
}

impl Sink for Watch {
    fn deliver(&self, message: &Message<'_>, _: &mut Batch) -> bool {
        self.note(message, None)
    }

    fn deliver_kept(&self, message: &Message<'_>, kept: &Kept, _: &mut Batch) -> bool {
        self.note(message, Some(kept))
    }
}

#[test]
fn each_message_is_live_or_in_the_queue() {
    const ROUNDS: usize = 40;
    const MESSAGES: usize = 50;
    let (broker, _) = open(&TwinDisk::new(), small());
    // So that also what is live has a number, as messages of the queue have.
    create(&broker, "t.1", "other");
    let watch = Arc::new(Watch::default());
    broker.subscribe(b"t.*", None, 1, watch.clone()).unwrap();
    let (mut queues, mut queued) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (tell, published) = channel();
        let begin = || broker.begin_spill(b"t.*", "s").unwrap();
        // In every other round the queue is there first, and gets something before anybody looks.
        let is_first = round % 2 == 0;
        queues.extend(is_first.then(begin));
        std::thread::scope(|scope| {
            for number in [0, 1] {
                let (mut publisher, tell) = (broker.publisher(), tell.clone());
                scope.spawn(move || {
                    let topic = format!("t.{number}");
                    for n in round * MESSAGES..(round + 1) * MESSAGES {
                        let text = format!("{number}:{n:05}");
                        let mut batch = Batch::default();
                        publisher
                            .publish(&message(&topic, text.as_bytes()), None, &mut batch, None)
                            .unwrap();
                        // Nobody needs to hear of all of them.
                        let _ = tell.send(());
                    }
                });
            }
            match is_first {
                true => published.recv().unwrap(),
                false => queues.push(begin()),
            }
            loop {
                let peeked = broker.peek(b"t.*", "s", 50).unwrap();
                if let Some(through) = peeked.through_seq {
                    queued.extend(texts(&peeked.messages));
                    broker.consume(b"t.*", "s", through, done().0).unwrap();
                } else if broker.end_spill(b"t.*", "s", done().0).unwrap() {
                    break;
                }
            }
        });
    }
    let live = watch.live(&queues);
    for publisher in ["0:", "1:"] {
        let of = |all: &[String]| -> Vec<String> {
            let own = all.iter().filter(|text| text.starts_with(publisher));
            own.cloned().collect()
        };
        let (live, queued) = (of(&live), of(&queued));
        assert!(live.is_sorted() && queued.is_sorted());
        let mut all = [live, queued].concat();
        all.sort();
        let expected = (0..ROUNDS * MESSAGES).map(|n| format!("{publisher}{n:05}"));
        assert_eq!(all, expected.collect::<Vec<_>>());
    }
    assert!(queued.len() >= ROUNDS / 2, "{}", queued.len());
}

#[test]
fn what_was_kept_is_found_again_and_a_full_queue_goes() {
    let disk = TwinDisk::new();
    let mut options = small();
    options.queue_messages_max = 3;
    let (broker, _) = open(&disk, options.clone());
    let mut publisher = broker.publisher();
    let first = broker.begin_spill(b"t", "s").unwrap();
    assert_eq!(broker.begin_spill(b"t", "s").unwrap(), first);
    publish(&mut publisher, "t", b"1");
    assert!(
        !broker.end_spill(b"t", "s", done().0).unwrap(),
        "something is in it"
    );
    drop((publisher, broker));
    let (broker, _) = open(&disk, options);
    let mut publisher = broker.publisher();
    broker.begin_spill(b"t", "s").unwrap();
    for n in 2..=3 {
        publish(&mut publisher, "t", n.to_string().as_bytes());
    }
    assert_eq!(
        texts(&broker.peek(b"t", "s", 9).unwrap().messages),
        ["1", "2", "3"]
    );
    let published = publish(&mut publisher, "t", b"4");
    assert_eq!(published.queues, 0);
    let gone = broker.end_spill(b"t", "s", done().0);
    assert!(matches!(gone, Err(Error::NoSuchQueue { .. })), "{gone:?}");
}

#[test]
fn a_replaced_sink_gets_what_comes_later() {
    let (broker, _) = open(&TwinDisk::new(), small());
    let [earlier, later] = [(); 2].map(|()| Arc::new(Watch::default()));
    let id = broker
        .subscribe(b"t", Some(b"group"), 7, earlier.clone())
        .unwrap();
    let mut publisher = broker.publisher();
    publish(&mut publisher, "t", b"1");
    broker.replace_sink(id, later.clone());
    publish(&mut publisher, "t", b"2");
    let mut batch = Batch::default();
    let own = publisher.publish(&message("t", b"own"), Some(7), &mut batch, None);
    assert_eq!(own.unwrap().live, 0, "owner and group are the same");
    broker.unsubscribe(id);
    broker.replace_sink(id, earlier.clone());
    publish(&mut publisher, "t", b"3");
    assert_eq!(
        (earlier.live(&[]), later.live(&[])),
        (vec!["1".to_owned()], vec!["2".to_owned()])
    );
}
