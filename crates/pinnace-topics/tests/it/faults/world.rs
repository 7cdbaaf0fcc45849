//! A broker on a disk with a fault, and beside it what the running broker must show and what a restart may
//! find.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use pinnace_log::twin::TwinDisk;
use pinnace_topics::{
    Batch, Broker, DeadLetter, Done, Error, LeaseId, PublishError, QueueOptions, Start,
    StorageState, StoreError,
};

use super::model::{Key, Messages, Model};
use super::{GRAVES, KEYS, MINUTE, MORTAL};
use crate::harness::{done, message, small};

/// What the broker said about an operation.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    Done,
    Refused,
    /// The storage failed under it.
    InDoubt,
}

/// Of an operation that has been waited for; an error in asking means that nothing was done.
fn told<T, E: Into<Error>>(asked: Result<Result<T, StoreError>, E>) -> (Told, Option<T>) {
    match asked.map_err(Into::into) {
        Ok(Ok(value)) => (Told::Done, Some(value)),
        Ok(Err(StoreError::Full(_)))
        | Err(Error::Store(_) | Error::NoSuchQueue { .. } | Error::NoSuchLease) => {
            (Told::Refused, None)
        }
        Ok(Err(StoreError::Failed(_))) => (Told::InDoubt, None),
        Ok(Err(other)) => panic!("{other:?}"),
        Err(other) => panic!("{other:?}"),
    }
}

pub(super) struct World {
    disk: TwinDisk,
    /// Count of operations at which the fault strikes.
    strikes_at: u64,
    pub(super) broker: Broker,
    pub(super) clock_us: Arc<AtomicU64>,
    pub(super) now: Instant,
    /// What the running broker holds.
    pub(super) live: Model,
    /// What a restart may find.
    pub(super) durable: Vec<Model>,
    published: u64,
    /// Number of the message that was published with an identity, once it is acknowledged.
    pub(super) identified: Option<u64>,
}

pub(super) fn open(disk: &TwinDisk, clock_us: &Arc<AtomicU64>) -> Option<Broker> {
    let clock = Arc::clone(clock_us);
    let clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let opened = Broker::open_on(Arc::new(disk.clone()), Path::new("log"), small(), clock);
    let (broker, recovery) = opened.ok()?;
    assert!(recovery.log.damage.is_empty(), "{:?}", recovery.log);
    assert_eq!(recovery.undefined_queues, 0);
    Some(broker)
}

impl World {
    pub(super) fn open(disk: &TwinDisk, strikes_at: u64) -> Option<World> {
        let clock_us = Arc::new(AtomicU64::new(1_000_000));
        Some(World {
            disk: disk.clone(),
            strikes_at,
            broker: open(disk, &clock_us)?,
            clock_us,
            now: Instant::now(),
            live: Model::default(),
            durable: vec![Model::default()],
            published: 0,
            identified: None,
        })
    }

    /// Whether the fault has struck: until then everything is done, and reading gives everything.
    pub(super) fn struck(&self) -> bool {
        self.disk.operations() >= self.strikes_at
    }

    /// Takes note of an operation of which, in doubt, any number of `steps` may be done.
    fn note(&mut self, told: &Told, steps: usize, change: impl Fn(&mut Model, usize)) {
        assert!(
            *told == Told::Done || self.struck(),
            "{told:?} for no reason"
        );
        match told {
            Told::Done => {
                for model in self.durable.iter_mut().chain([&mut self.live]) {
                    change(model, steps);
                }
            }
            Told::Refused => {}
            Told::InDoubt => {
                let before = self.durable.clone();
                for model in before {
                    for done in 1..=steps {
                        let mut model = model.clone();
                        change(&mut model, done);
                        self.may_be(model);
                    }
                }
            }
        }
        self.compare();
    }

    /// A restart may find this too.
    fn may_be(&mut self, model: Model) {
        if !self.durable.contains(&model) {
            self.durable.push(model);
        }
    }

    /// Takes note of something that nobody is told about: it is done or not, as the broker shows.
    pub(super) fn note_silent(&mut self, change: impl Fn(&mut Model)) {
        let (call, fate) = done();
        self.broker.settle(call);
        let told = match fate.wait() {
            Err(_) => Told::InDoubt,
            Ok(_) if self.shows(&self.live) => Told::Refused,
            Ok(_) => Told::Done,
        };
        let mut changed = self.live.clone();
        change(&mut changed);
        if changed != self.live {
            self.note(&told, 1, |model, _| change(model));
        }
    }

    /// What is refused is undone, what is done is seen. After a failure only a restart can tell.
    fn compare(&self) {
        if !matches!(self.broker.state(), StorageState::Failed(_)) {
            assert!(self.shows(&self.live), "{:?}", self.broker.queues());
        }
    }

    /// Whether the broker holds what the model does, as far as can be seen without the disk.
    fn shows(&self, model: &Model) -> bool {
        KEYS.iter().all(|key| {
            let status = self.broker.queue_status(key.0.as_bytes(), key.1);
            let seen = status.ok().map(|status| {
                let size = (status.messages, status.bytes);
                (size, status.first_seq, status.options)
            });
            let expected = model.0.get(key).map(|kept| {
                let bytes = |(on, payload): &(String, String)| on.len() + payload.len();
                let bytes: usize = kept.messages.values().map(bytes).sum();
                let size = (kept.messages.len() as u64, bytes as u64);
                (
                    size,
                    kept.messages.keys().next().copied(),
                    kept.options.clone(),
                )
            });
            seen == expected
        })
    }

    /// Asks, and where the answer leaves it in doubt asks again: that is no confirmation.
    fn ask(&self, ask: impl Fn(Done) -> Result<(), Error>) -> Told {
        let once = || {
            let (call, fate) = done();
            told(ask(call).map(|()| fate.wait())).0
        };
        let told = once();
        assert!(told != Told::InDoubt || once() != Told::Done, "confirmed");
        told
    }

    pub(super) fn create(&mut self, key: Key, first: bool, options: Option<QueueOptions>) {
        let start = if first { Start::First } else { Start::New };
        let (pattern, name) = (key.0.as_bytes(), key.1);
        let told = self.ask(|call| {
            let options = options.clone();
            let created = self
                .broker
                .create_queue_with(pattern, name, start, options, call);
            created.map(drop)
        });
        let is_new = !self.live.0.contains_key(&key);
        self.note(&told, 1, |model, _| match model.0.get_mut(&key) {
            Some(kept) if !is_new => kept.options = options.clone().or(kept.options.take()),
            _ => model.create(key, first, options.clone()),
        });
    }

    pub(super) fn delete(&mut self, key: Key) {
        let (pattern, name) = (key.0.as_bytes(), key.1);
        let told = self.ask(|call| self.broker.delete_queue(pattern, name, call).map(drop));
        self.note(&told, 1, |model, _| drop(model.0.remove(&key)));
    }

    pub(super) fn publish(&mut self, on: &str, id: Option<&str>) -> Told {
        self.published += 1;
        let payload = format!("{:0>500}", self.published);
        let (call, fate) = done();
        let asked = self.broker.publisher().publish_with(
            &message(on, payload.as_bytes()),
            id.map(str::as_bytes),
            None,
            &mut Batch::default(),
            || Some(call),
        );
        let asked = match asked {
            // The first found no queue, and was delivered to nobody.
            Ok(published) if published.duplicate && published.seq.is_none() => return Told::Done,
            Ok(published) if published.duplicate => {
                let (told, seq) = told(Ok::<_, Error>(fate.wait()));
                assert!(told != Told::Done || seq == self.identified, "confirmed");
                return told;
            }
            Ok(published) => Ok(published.seq),
            Err(PublishError::Store(error)) => Err(error),
            Err(other) => panic!("{other:?}"),
        };
        let Ok(Some(seq)) = asked else {
            self.note_silent(|model| model.make_room(on));
            return if asked.is_ok() {
                Told::Done
            } else {
                Told::Refused
            };
        };
        let (told, _) = told(Ok::<_, Error>(fate.wait()));
        if told == Told::Refused {
            self.note_silent(|model| model.make_room(on));
        }
        if id.is_some() {
            self.identified = (told == Told::Done).then_some(seq);
        }
        self.note(&told, 2, |model, step| match step {
            1 => model.make_room(on),
            _ => model.publish(seq, on, &payload),
        });
        told
    }

    /// Takes; with `arrives` false, the answer is lost and the messages come back.
    pub(super) fn take(&mut self, key: Key, max: usize, arrives: bool) {
        let (sender, receiver) = channel();
        let call = Box::new(move |outcome| sender.send(outcome).unwrap());
        let asked = self.broker.take(key.0.as_bytes(), key.1, max, call);
        let wait = || receiver.recv_timeout(2 * MINUTE).expect("an answer");
        let (told, taken) = told(asked.map(|()| wait()));
        let kept = self.live.0.get(&key).cloned().unwrap_or_default().messages;
        let mut seqs: Vec<u64> = kept.keys().copied().take(max).collect();
        if let Some(taken) = &taken {
            assert!(taken.messages.len() == seqs.len() || self.struck());
            seqs.truncate(taken.messages.len());
            for (message, seq) in taken.messages.iter().zip(&seqs) {
                assert_eq!(message.seq, *seq);
                assert_eq!(message.payload, kept[seq].1.as_bytes());
            }
        }
        self.note(&told, seqs.len(), |model, step| {
            model.remove(key, &seqs[..step]);
        });
        match taken {
            Some(taken) if !arrives => {
                drop(taken);
                self.come_back(key, &seqs, &kept);
            }
            Some(taken) => taken.receipt.confirm(),
            None => {}
        }
    }

    /// Messages are back in their queue; durably so only if the disk took each one's copy.
    fn come_back(&mut self, key: Key, seqs: &[u64], kept: &Messages) {
        let (call, fate) = done();
        self.broker.settle(call);
        let _ = fate.wait();
        let back = |model: &mut Model, bits: usize| {
            let back = seqs.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1);
            let messages = back.map(|(_, seq)| (*seq, kept[seq].clone()));
            model.0.entry(key).or_default().messages.extend(messages);
        };
        let all = (1 << seqs.len()) - 1;
        let least = if self.struck() { 0 } else { all };
        let before = std::mem::take(&mut self.durable);
        for bits in least..=all {
            let mut models = before.clone();
            models.iter_mut().for_each(|model| back(model, bits));
            models.into_iter().for_each(|model| self.may_be(model));
        }
        back(&mut self.live, all);
        self.compare();
    }

    pub(super) fn consume(&mut self, key: Key, count: usize) {
        let kept = self.live.0.get(&key).cloned().unwrap_or_default().messages;
        let seqs: Vec<u64> = kept.keys().copied().take(count).collect();
        let through = seqs.last().copied().unwrap_or(0);
        let (pattern, name) = (key.0.as_bytes(), key.1);
        let told = self.ask(|call| self.broker.consume(pattern, name, through, call));
        self.note(&told, 1, |model, _| model.remove(key, &seqs));
    }

    pub(super) fn lease(&mut self, key: Key, max: usize) -> Option<(LeaseId, Vec<u64>)> {
        let until = self.now + MINUTE;
        let leased = self.broker.lease(key.0.as_bytes(), key.1, max, until);
        let leased = leased.ok().flatten();
        assert!(leased.is_some() || self.struck(), "nothing to lease");
        let leased = leased?;
        let kept = &self.live.0[&key].messages;
        let seqs = leased.messages.iter().map(|leased| {
            let message = &leased.message;
            // After a failure the broker may hold what a restart would not.
            if let Some((_, payload)) = kept.get(&message.seq) {
                assert_eq!(message.payload, payload.as_bytes());
            }
            message.seq
        });
        Some((leased.lease, seqs.collect()))
    }

    pub(super) fn acknowledge(&mut self, key: Key, lease: LeaseId, seqs: &[u64]) {
        let (pattern, name) = (key.0.as_bytes(), key.1);
        let told = self.ask(|call| {
            let only = Some(seqs);
            self.broker.acknowledge(pattern, name, lease, only, call)
        });
        self.note(&told, 1, |model, _| model.remove(key, seqs));
    }

    pub(super) fn tick(&mut self, later: Duration) -> Vec<DeadLetter> {
        self.now += later;
        self.broker.tick(self.now).dead_letters
    }

    /// Moves dead letters as the server does.
    pub(super) fn bury(&mut self, dead: Vec<DeadLetter>) {
        for dead in dead {
            assert_eq!(dead.topic, GRAVES.0.as_bytes());
            if self.publish(GRAVES.0, None) == Told::Done {
                self.acknowledge(MORTAL, dead.lease, &[dead.message.seq]);
            }
        }
    }
}
