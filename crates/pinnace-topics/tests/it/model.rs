//! Random histories with crashes, against a plain model.
//!
//! Operations that were waited for are certain. Of those still in flight at a crash, the recovered
//! state shows the effect of the first k, for some k: nothing out of order, nothing twice, nothing
//! that was never asked for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pinnace_log::twin::{Survival, TwinDisk};
use pinnace_topics::{Batch, Broker, LeaseId, Start, Stored, topic};
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
    /// Take, and drop the receipt: nothing arrived.
    Lose(usize, usize, usize),
    Lease(usize, usize, usize),
    /// Acknowledge one of the leases, or give it back.
    EndLease(usize, bool),
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
        6 => (pattern.clone(), name.clone(), 1..6_usize).prop_map(|(p, n, max)| Step::Take(p, n, max)),
        2 => (pattern.clone(), name.clone(), 1..6_usize).prop_map(|(p, n, max)| Step::Lose(p, n, max)),
        4 => (pattern, name, 1..6_usize).prop_map(|(p, n, max)| Step::Lease(p, n, max)),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, acknowledge)| Step::EndLease(which, acknowledge)),
        2 => Just(Step::Wait),
        2 => any::<u64>().prop_map(Step::Crash),
    ]
}

type Key = (usize, usize);
/// Number and payload of the messages of each queue.
type Contents = BTreeMap<Key, Vec<(u64, Vec<u8>)>>;

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
    fn contents(&self) -> Contents {
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
    /// Messages given out on leases, which end with the process.
    leases: Vec<(Key, LeaseId, Vec<u64>)>,
    /// Least and greatest number the next stored message may get after a crash.
    after_crash: Option<(u64, u64)>,
}

fn contents(broker: &Broker) -> Contents {
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

/// Of a queue's messages, those that are not leased.
fn waiting(leases: &[(Key, LeaseId, Vec<u64>)], key: Key, queue: &[u64]) -> Vec<u64> {
    let leased = |seq: &u64| {
        leases
            .iter()
            .any(|(k, _, seqs)| *k == key && seqs.contains(seq))
    };
    queue.iter().copied().filter(|seq| !leased(seq)).collect()
}

fn numbers(messages: &[Stored]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
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
                self.leases.retain(|(key, _, _)| *key != (p, n));
                self.expect(model, move || assert!(fate.wait().is_ok()));
            }
            Step::Publish(t, len) => self.publish(model, t, len),
            Step::Take(p, n, max) => self.take(model, (p, n), max),
            Step::Lose(p, n, max) => self.lose((p, n), max),
            Step::Lease(p, n, max) => self.lease((p, n), max),
            Step::EndLease(which, acknowledge) => self.end_lease(which, acknowledge),
            Step::Wait => {
                self.wait();
                self.compare();
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
        let waiting = waiting(&self.leases, (p, n), queue);
        let taken = waiting[..max.min(waiting.len())].to_vec();
        queue.retain(|seq| !taken.contains(seq));
        self.expect(model, move || {
            let limit = std::time::Duration::from_secs(60);
            let got = receiver.recv_timeout(limit).unwrap().unwrap();
            assert_eq!(numbers(&got.messages), taken);
            got.receipt.confirm();
        });
    }

    /// The messages are gone, durably, and then back, which is durable a little later.
    fn lose(&mut self, (p, n): Key, max: usize) {
        self.wait();
        let model = self.model();
        let Some(queue) = model.queues.get(&(p, n)) else {
            return;
        };
        let waiting = waiting(&self.leases, (p, n), queue);
        let taken = waiting[..max.min(waiting.len())].to_vec();
        let (sender, receiver) = std::sync::mpsc::channel();
        let call = Box::new(move |outcome| sender.send(outcome).unwrap());
        let (pattern, name) = (PATTERNS[p].as_bytes(), NAMES[n]);
        self.broker.take(pattern, name, max, call).unwrap();
        let got = receiver.recv().unwrap().unwrap();
        assert_eq!(numbers(&got.messages), taken);
        drop(got);
        // They come back one by one.
        self.models.clear();
        for back in 0..taken.len() {
            let mut partly = model.clone();
            let queue = partly.queues.get_mut(&(p, n)).unwrap();
            queue.retain(|seq| !taken[back..].contains(seq));
            self.models.push(partly);
        }
        let broker = self.broker.clone();
        self.expect(model, move || {
            crate::harness::create(&broker, "elsewhere", "passes by");
            crate::harness::delete(&broker, "elsewhere", "passes by");
        });
    }

    fn lease(&mut self, key: Key, max: usize) {
        self.wait();
        let (pattern, name) = (PATTERNS[key.0].as_bytes(), NAMES[key.1]);
        let until = Instant::now() + Duration::from_secs(3600);
        let leased = self.broker.lease(pattern, name, max, until);
        let Some(queue) = self.models[0].queues.get(&key) else {
            assert!(leased.is_err());
            return;
        };
        let expected = waiting(&self.leases, key, queue);
        let expected = &expected[..max.min(expected.len())];
        match leased.unwrap() {
            Some(leased) => {
                let messages = leased.messages.iter().map(|leased| leased.message.seq);
                assert_eq!(messages.collect::<Vec<_>>(), expected);
                self.leases.push((key, leased.lease, expected.to_vec()));
            }
            None => assert!(expected.is_empty()),
        }
    }

    fn end_lease(&mut self, which: usize, acknowledge: bool) {
        if self.leases.is_empty() {
            return;
        }
        self.wait();
        let ((p, n), lease, seqs) = self.leases.swap_remove(which % self.leases.len());
        let (pattern, name) = (PATTERNS[p].as_bytes(), NAMES[n]);
        if acknowledge {
            let mut model = self.model();
            let queue = model.queues.get_mut(&(p, n)).unwrap();
            queue.retain(|seq| !seqs.contains(seq));
            let (call, fate) = done();
            self.broker
                .acknowledge(pattern, name, lease, None, call)
                .unwrap();
            self.expect(model, move || assert!(fate.wait().is_ok()));
        } else {
            let dead = self.broker.give_back(pattern, name, lease, Instant::now());
            assert_eq!(dead.unwrap(), []);
        }
    }

    /// What can be seen is what the model holds, but for what is leased.
    fn compare(&self) {
        let mut expected = self.models[0].contents();
        for (key, _, seqs) in &self.leases {
            let queue = expected.get_mut(key).unwrap();
            queue.retain(|(seq, _)| !seqs.contains(seq));
        }
        assert_eq!(contents(&self.broker), expected);
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
        self.leases.clear();
        let found = contents(&self.broker);
        // The latest that fits: a creation that existed or an empty take changes nothing.
        let fits = self
            .models
            .iter()
            .rposition(|model| model.contents() == found);
        let Some(k) = fits else {
            let short = |contents: &Contents| -> Vec<(Key, Vec<u64>)> {
                let seqs = |messages: &Vec<(u64, Vec<u8>)>| messages.iter().map(|m| m.0).collect();
                contents
                    .iter()
                    .map(|(key, messages)| (*key, seqs(messages)))
                    .collect()
            };
            let expected: Vec<_> = self
                .models
                .iter()
                .map(|model| short(&model.contents()))
                .collect();
            panic!(
                "recovered {:?}\nexpected one of {expected:?}",
                short(&found)
            );
        };
        // A number that a crash took from its message may be given again, no other. Several k may
        // fit, so only what was acknowledged is certain, also for a crash that follows at once.
        let certain = self.models[0].next_seq;
        let asked = self
            .model()
            .next_seq
            .max(self.after_crash.map_or(0, |(_, last)| last - 1));
        self.after_crash = Some((certain + 1, asked + 1));
        let model = Model {
            next_seq: certain,
            ..self.models[k].clone()
        };
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
        let mut world = World { disk, broker, models, fates: Vec::new(), payload: 0, leases: Vec::new(), after_crash: None };
        for step in &steps {
            world.take_step(step);
        }
        world.wait();
        world.compare();
    }
}
