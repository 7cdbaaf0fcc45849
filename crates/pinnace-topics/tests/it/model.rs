//! Random histories with crashes, against a plain model.
//!
//! Operations that were waited for are certain. Of those still in flight at a crash, the recovered
//! state shows the effect of the first k, for some k: nothing out of order, nothing twice, nothing
//! that was never asked for.

use std::collections::BTreeMap;

use pinnace_log::twin::{Survival, TwinDisk};
use pinnace_topics::{Batch, Broker, Start, topic};
use proptest::prelude::*;

use crate::harness::{done, message, open, small};

const TOPICS: [&str; 4] = ["a", "a.b", "a.c", "b"];
const PATTERNS: [&str; 5] = ["a", "a.*", "a.>", ">", "b"];
const NAMES: [&str; 2] = ["x", "y"];

#[derive(Debug, Clone)]
enum Step {
    Create(usize, usize, bool),
    Delete(usize, usize),
    Publish(usize, usize),
    Take(usize, usize, usize),
    /// Wait until everything asked for is durable.
    Wait,
    /// Power fails; unsynced writes survive as the seed says.
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (pattern, name) = (0..PATTERNS.len(), 0..NAMES.len());
    prop_oneof![
        3 => (pattern.clone(), name.clone(), any::<bool>()).prop_map(|(p, n, f)| Step::Create(p, n, f)),
        1 => (pattern.clone(), name.clone()).prop_map(|(p, n)| Step::Delete(p, n)),
        12 => (0..TOPICS.len(), 1..900_usize).prop_map(|(t, len)| Step::Publish(t, len)),
        6 => (pattern, name, 1..6_usize).prop_map(|(p, n, max)| Step::Take(p, n, max)),
        2 => Just(Step::Wait),
        2 => any::<u64>().prop_map(Step::Crash),
    ]
}

type Key = (usize, usize);

/// What should be stored: each message once, each queue its messages in order.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    queues: BTreeMap<Key, Vec<u64>>,
    /// Topic and payload by number, also of those that have gone.
    messages: BTreeMap<u64, (usize, Vec<u8>)>,
    next_seq: u64,
}

impl Model {
    /// Everything a queue holds, by queue.
    fn contents(&self) -> BTreeMap<Key, Vec<(u64, Vec<u8>)>> {
        let body = |seq: &u64| (*seq, self.messages[seq].1.clone());
        self.queues
            .iter()
            .map(|(key, seqs)| (*key, seqs.iter().map(body).collect()))
            .collect()
    }

    fn matching(&self, topic_index: usize) -> Vec<Key> {
        let matches =
            |p: usize| topic::matches(PATTERNS[p].as_bytes(), TOPICS[topic_index].as_bytes());
        self.queues
            .keys()
            .copied()
            .filter(|(p, _)| matches(*p))
            .collect()
    }
}

/// A broker, the model after each operation in flight, and the operations' fates.
struct World {
    disk: TwinDisk,
    broker: Broker,
    /// The first is durable for certain; then one after each operation in flight.
    models: Vec<Model>,
    fates: Vec<Box<dyn Fn()>>,
    payload: u64,
    /// Least and greatest number the next stored message may get after a crash.
    after_crash: Option<(u64, u64)>,
}

fn contents(broker: &Broker) -> BTreeMap<Key, Vec<(u64, Vec<u8>)>> {
    let mut found = BTreeMap::new();
    for (p, pattern) in PATTERNS.iter().enumerate() {
        for (n, name) in NAMES.iter().enumerate() {
            if let Ok(peeked) = broker.peek(pattern.as_bytes(), name, 10_000) {
                found.insert(
                    (p, n),
                    peeked
                        .messages
                        .into_iter()
                        .map(|m| (m.seq, m.payload))
                        .collect(),
                );
            }
        }
    }
    found
}

impl World {
    fn model(&self) -> Model {
        self.models.last().unwrap().clone()
    }

    fn expect(&mut self, model: Model, fate: impl Fn() + 'static) {
        self.models.push(model);
        self.fates.push(Box::new(fate));
    }

    fn wait(&mut self) {
        for fate in self.fates.drain(..) {
            fate();
        }
        self.models.drain(..self.models.len() - 1);
    }

    fn take_step(&mut self, step: &Step) {
        let mut model = self.model();
        match *step {
            Step::Create(p, n, first) => {
                let (call, fate) = done();
                let start = if first { Start::First } else { Start::New };
                let created =
                    self.broker
                        .create_queue(PATTERNS[p].as_bytes(), NAMES[n], start, call);
                assert_eq!(created.unwrap(), !model.queues.contains_key(&(p, n)));
                if !model.queues.contains_key(&(p, n)) {
                    let mut held: Vec<u64> = model.queues.values().flatten().copied().collect();
                    held.sort_unstable();
                    held.dedup();
                    held.retain(|seq| {
                        let topic = TOPICS[model.messages[seq].0].as_bytes();
                        first && topic::matches(PATTERNS[p].as_bytes(), topic)
                    });
                    model.queues.insert((p, n), held);
                }
                self.expect(model, move || assert!(fate.wait().is_ok()));
            }
            Step::Delete(p, n) => {
                let (call, fate) = done();
                let deleted = self
                    .broker
                    .delete_queue(PATTERNS[p].as_bytes(), NAMES[n], call);
                assert_eq!(deleted.unwrap(), model.queues.remove(&(p, n)).is_some());
                self.expect(model, move || assert!(fate.wait().is_ok()));
            }
            Step::Publish(t, len) => self.publish(model, t, len),
            Step::Take(p, n, max) => self.take(model, (p, n), max),
            Step::Wait => {
                self.wait();
                assert_eq!(contents(&self.broker), self.models[0].contents());
            }
            Step::Crash(seed) => self.crash(seed),
        }
    }

    fn publish(&mut self, mut model: Model, t: usize, len: usize) {
        self.payload += 1;
        let payload = self.payload.to_string().repeat(len / 4 + 1);
        let payload = &payload.as_bytes()[..len.min(payload.len())];
        let (call, fate) = done();
        let published = self
            .broker
            .publisher()
            .publish(
                &message(TOPICS[t], payload),
                None,
                &mut Batch::default(),
                Some(call),
            )
            .unwrap();
        let matching = model.matching(t);
        assert_eq!(published.queues as usize, matching.len());
        if matching.is_empty() {
            return;
        }
        let seq = published.seq.unwrap();
        match self.after_crash.take() {
            Some((least, greatest)) => assert!((least..=greatest).contains(&seq), "{seq}"),
            None => assert_eq!(seq, model.next_seq + 1, "numbers rise by one"),
        }
        model.next_seq = seq;
        model.messages.insert(seq, (t, payload.to_vec()));
        for key in matching {
            model.queues.get_mut(&key).unwrap().push(seq);
        }
        self.expect(model, move || assert_eq!(fate.wait(), Ok(seq)));
    }

    /// What a take gets depends on what is durable, so it is asked for when all is.
    fn take(&mut self, _: Model, (p, n): Key, max: usize) {
        self.wait();
        let mut model = self.model();
        let (sender, receiver) = std::sync::mpsc::channel();
        let call = Box::new(move |outcome| sender.send(outcome).unwrap());
        let asked = self
            .broker
            .take(PATTERNS[p].as_bytes(), NAMES[n], max, call);
        let Some(queue) = model.queues.get_mut(&(p, n)) else {
            assert!(asked.is_err());
            return;
        };
        asked.unwrap();
        let taken: Vec<u64> = queue.drain(..max.min(queue.len())).collect();
        self.expect(model, move || {
            let limit = std::time::Duration::from_secs(60);
            let got = receiver.recv_timeout(limit).unwrap().unwrap();
            assert_eq!(got.iter().map(|m| m.seq).collect::<Vec<_>>(), taken);
        });
    }

    fn crash(&mut self, seed: u64) {
        let survival = match seed % 4 {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::Random(seed),
        };
        self.disk = self.disk.after_crash(survival);
        let (broker, recovery) = open(&self.disk, small());
        assert!(recovery.log.damage.is_empty(), "{:?}", recovery.log);
        assert_eq!(recovery.undefined_queues, 0);
        self.broker = broker;
        self.fates.clear();
        let found = contents(&self.broker);
        // The latest that fits: a creation that existed or an empty take changes nothing.
        let fits = self
            .models
            .iter()
            .rposition(|model| model.contents() == found);
        let Some(k) = fits else {
            panic!("recovered {found:?}\nexpected one of {:?}", self.models);
        };
        // A number that a crash took from its message may be given again, no other.
        let (certain, asked) = (self.models[0].next_seq, self.model().next_seq);
        self.after_crash = Some((certain + 1, asked + 1));
        let model = self.models[k].clone();
        self.models = vec![model];
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn histories_with_crashes_agree_with_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let disk = TwinDisk::new();
        let (broker, _) = open(&disk, small());
        let models = vec![Model::default()];
        let mut world = World { disk, broker, models, fates: Vec::new(), payload: 0, after_crash: None };
        for step in &steps {
            world.take_step(step);
        }
        world.wait();
        prop_assert_eq!(contents(&world.broker), world.models[0].contents());
    }
}
