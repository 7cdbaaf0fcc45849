//! The server: the real broker on a gated disk. It carries requests out, answers when they are durable, and
//! writes the history.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pinnace_log::twin::{Survival, TwinDisk};
use pinnace_topics::{
    Batch, Broker, Done, Error, LeaseId, Publisher, Start, StoreError, Stored, SubscriptionId,
    Taken,
};

use super::checker::{Happened, MessageId, QUEUES};
use super::disk::GatedDisk;
use super::wire::{Answer, ConnectionId, Listener, Request, identify, payload};
use crate::harness::{message, small, take};

/// How long a lease lasts.
const LEASE_US: u64 = 300_000;

/// What waits for the disk.
enum Pending {
    Publish(MessageId),
    Fetch(usize, Vec<MessageId>),
    Acknowledge(usize, Vec<MessageId>),
}

/// Where the broker says what became of an operation.
struct Slot {
    operation: u64,
    told: Arc<Mutex<Vec<(u64, Told)>>>,
}

impl Slot {
    fn fill(&self, told: Told) {
        self.told.lock().unwrap().push((self.operation, told));
    }

    fn done(self) -> Done {
        Box::new(move |outcome| self.fill(Told::Done(outcome)))
    }
}

/// What the broker said.
enum Told {
    Done(Result<u64, StoreError>),
    Taken(Result<Taken, StoreError>),
}

pub(super) struct Server {
    disk: GatedDisk,
    broker: Broker,
    /// Set by the world.
    now_us: Arc<AtomicU64>,
    epoch: Instant,
    publishers: HashMap<ConnectionId, Publisher>,
    subscriptions: Vec<(ConnectionId, SubscriptionId)>,
    live: Arc<Mutex<Vec<Happened>>>,
    lent: HashMap<LeaseId, BTreeMap<u64, MessageId>>,
    pending: BTreeMap<u64, (ConnectionId, Pending)>,
    told: Arc<Mutex<Vec<(u64, Told)>>>,
    operations: u64,
    /// The log's thread stands at the gate.
    syncing: bool,
    /// Messages on their way back into their queues.
    returning: Vec<(usize, MessageId)>,
    large: bool,
}

fn pattern(queue: usize) -> &'static [u8] {
    QUEUES[queue].as_bytes()
}

impl Server {
    /// Opens the broker on what a crash left; the queues are made before anybody connects.
    pub(super) fn start(
        twin: TwinDisk,
        now_us: &Arc<AtomicU64>,
        epoch: Instant,
        large: bool,
    ) -> Server {
        let disk = GatedDisk::new(twin);
        let clock = Arc::clone(now_us);
        let clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let opened = Broker::open_on(Arc::new(disk.clone()), Path::new("log"), small(), clock);
        let (broker, recovery) = opened.unwrap();
        assert!(recovery.log.damage.is_empty(), "{:?}", recovery.log);
        assert_eq!(recovery.undefined_queues, 0);
        disk.shut();
        if recovery.queues == 0 {
            for queue in 0..QUEUES.len() {
                let call = Box::new(|outcome: Result<u64, _>| assert!(outcome.is_ok()));
                broker
                    .create_queue(pattern(queue), "q", Start::New, call)
                    .unwrap();
            }
            disk.wait_for_sync();
            disk.sync();
        }
        Server {
            disk,
            broker,
            now_us: Arc::clone(now_us),
            epoch,
            publishers: HashMap::new(),
            subscriptions: Vec::new(),
            live: Arc::default(),
            lent: HashMap::new(),
            pending: BTreeMap::new(),
            told: Arc::default(),
            operations: 0,
            syncing: false,
            returning: Vec::new(),
            large,
        }
    }

    fn now(&self) -> Instant {
        self.epoch + Duration::from_micros(self.now_us.load(Ordering::Relaxed))
    }

    fn identify(&self, stored: &[Stored]) -> Vec<MessageId> {
        let message = stored.iter();
        message.map(|m| identify(&m.payload, self.large)).collect()
    }

    fn expect(&mut self, from: ConnectionId, pending: Pending) -> Slot {
        self.operations += 1;
        self.pending.insert(self.operations, (from, pending));
        Slot {
            operation: self.operations,
            told: Arc::clone(&self.told),
        }
    }

    /// Carries out a request; an answer at once, or later from `answers`.
    pub(super) fn handle(
        &mut self,
        from: ConnectionId,
        request: Request,
        history: &mut Vec<Happened>,
    ) -> Option<Answer> {
        match request {
            Request::Publish { id, on, identified } => {
                self.publish(from, id, on, identified, history);
                None
            }
            Request::Fetch { queue, max } => self.fetch(from, queue, max, history),
            Request::Lease { queue, max } => Some(self.lease(queue, max, history)),
            Request::Acknowledge { queue, lease, seqs } => {
                self.acknowledge(from, queue, lease, &seqs)
            }
            Request::GiveBack { queue, lease } => {
                let now = self.now();
                let dead = self.broker.give_back(pattern(queue), "q", lease, now);
                assert!(matches!(dead.as_deref(), Ok([]) | Err(Error::NoSuchLease)));
                Some(Answer::Done)
            }
            Request::Subscribe => {
                let got = Arc::clone(&self.live);
                let (number, large) = (from as u32, self.large);
                let sink = Arc::new(Listener { number, got, large });
                let id = self
                    .broker
                    .subscribe(b">", None, from as u64, sink)
                    .unwrap();
                self.subscriptions.push((from, id));
                Some(Answer::Done)
            }
        }
    }

    fn publish(
        &mut self,
        from: ConnectionId,
        id: MessageId,
        on: &str,
        identified: bool,
        history: &mut Vec<Happened>,
    ) {
        let slot = self.expect(from, Pending::Publish(id));
        let body = payload(id, self.large);
        let identity = format!("{}.{}", id.publisher, id.number);
        let publisher = self.publishers.entry(from);
        let publisher = publisher.or_insert_with(|| self.broker.publisher());
        let published = publisher.publish_with(
            &message(on, body.as_bytes()),
            identified.then_some(identity.as_bytes()),
            None,
            &mut Batch::default(),
            || Some(slot.done()),
        );
        let published = published.unwrap();
        assert!(published.seq.is_some() && (identified || !published.duplicate));
        if !published.duplicate {
            assert_eq!(published.live as usize, self.subscriptions.len());
        }
        history.append(&mut self.live.lock().unwrap());
    }

    fn fetch(
        &mut self,
        from: ConnectionId,
        queue: usize,
        max: usize,
        history: &mut Vec<Happened>,
    ) -> Option<Answer> {
        // A take at this moment gets what a look shows.
        let waiting = self.broker.peek(pattern(queue), "q", max).unwrap().messages;
        if waiting.is_empty() {
            return Some(Answer::Nothing);
        }
        let ids = self.identify(&waiting);
        history.extend(ids.iter().map(|id| Happened::Offered(queue, *id)));
        let slot = self.expect(from, Pending::Fetch(queue, ids));
        let call = move |taken| slot.fill(Told::Taken(taken));
        self.broker
            .take(pattern(queue), "q", max, Box::new(call))
            .unwrap();
        None
    }

    fn lease(&mut self, queue: usize, max: usize, history: &mut Vec<Happened>) -> Answer {
        let until = self.now() + Duration::from_micros(LEASE_US);
        let Some(leased) = self.broker.lease(pattern(queue), "q", max, until).unwrap() else {
            return Answer::Nothing;
        };
        let messages = leased.messages.into_iter().map(|leased| leased.message);
        let messages: Vec<Stored> = messages.collect();
        let ids = self.identify(&messages);
        history.extend(ids.iter().map(|id| Happened::Offered(queue, *id)));
        let seqs: Vec<u64> = messages.iter().map(|message| message.seq).collect();
        let lent = seqs.iter().copied().zip(ids).collect();
        self.lent.insert(leased.lease, lent);
        Answer::Leased(leased.lease, seqs)
    }

    fn acknowledge(
        &mut self,
        from: ConnectionId,
        queue: usize,
        lease: LeaseId,
        seqs: &[u64],
    ) -> Option<Answer> {
        // Those that are acknowledged for the first time; none of a lease from before the server died.
        let mut lent = self.lent.get_mut(&lease);
        let ids = seqs.iter().filter_map(|seq| lent.as_mut()?.remove(seq));
        let ids = ids.collect();
        let slot = self.expect(from, Pending::Acknowledge(queue, ids));
        let operation = slot.operation;
        let asked = self
            .broker
            .acknowledge(pattern(queue), "q", lease, Some(seqs), slot.done());
        if asked == Err(Error::NoSuchLease) {
            self.pending.remove(&operation);
            return Some(Answer::Nothing);
        }
        asked.unwrap();
        None
    }

    /// Ends leases that are over.
    pub(super) fn tick(&self) {
        assert!(self.broker.tick(self.now()).dead_letters.is_empty());
    }

    /// A connection is gone, its live subscriptions with it.
    pub(super) fn close(&mut self, connection: ConnectionId) {
        self.publishers.remove(&connection);
        for (_, id) in self
            .subscriptions
            .extract_if(.., |(of, _)| *of == connection)
        {
            self.broker.unsubscribe(id);
        }
    }

    /// Whether a sync has begun just now, to be ended by `finish_sync`.
    pub(super) fn begins_sync(&mut self) -> bool {
        if self.syncing {
            return false;
        }
        let settled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&settled);
        self.broker
            .settle(Box::new(move |_| flag.store(true, Ordering::Relaxed)));
        self.syncing = !settled.load(Ordering::Relaxed);
        if self.syncing {
            self.disk.wait_for_sync();
        }
        self.syncing
    }

    /// Lets what waits become durable.
    pub(super) fn finish_sync(&mut self) {
        self.disk.sync();
        self.syncing = false;
        self.returning.clear();
        assert_eq!(
            self.told.lock().unwrap().len(),
            self.pending.len(),
            "somebody is never told"
        );
    }

    /// Answers to what is durable. They go to those whose connections are open as far as the server
    /// knows; what a fetch got goes back where that is not so.
    pub(super) fn answers(
        &mut self,
        is_open: impl Fn(ConnectionId) -> bool,
        history: &mut Vec<Happened>,
    ) -> Vec<(ConnectionId, Answer)> {
        let mut answers = Vec::new();
        for (operation, told) in std::mem::take(&mut *self.told.lock().unwrap()) {
            let (from, pending) = self.pending.remove(&operation).expect("told once");
            let answer = match (pending, told) {
                (Pending::Publish(id), Told::Done(Ok(_))) => {
                    history.push(Happened::Stored(id));
                    Answer::Published(id)
                }
                (Pending::Acknowledge(queue, ids), Told::Done(Ok(_))) => {
                    history.extend(ids.iter().map(|id| Happened::Settled(queue, *id)));
                    Answer::Acknowledged
                }
                (Pending::Fetch(queue, ids), Told::Taken(Ok(taken))) => {
                    assert_eq!(self.identify(&taken.messages), ids);
                    if is_open(from) {
                        taken.receipt.confirm();
                        history.extend(ids.iter().map(|id| Happened::Fetched(queue, *id)));
                    } else {
                        drop(taken);
                        self.returning.extend(ids.iter().map(|id| (queue, *id)));
                    }
                    Answer::Fetched
                }
                _ => panic!("refused for no reason"),
            };
            answers.push((from, answer));
        }
        answers
    }

    /// Dies. What was under way is in doubt; what is found is on the disk that is returned, and whether
    /// identities may be forgotten.
    pub(super) fn crash(self, survival: Survival, history: &mut Vec<Happened>) -> (TwinDisk, bool) {
        for (_, pending) in self.pending.into_values() {
            if let Pending::Fetch(queue, ids) | Pending::Acknowledge(queue, ids) = pending {
                history.extend(ids.into_iter().map(|id| Happened::InDoubt(queue, id)));
            }
        }
        let returning = self.returning.into_iter();
        history.extend(returning.map(|(queue, id)| Happened::InDoubt(queue, id)));
        let left = self.disk.twin.after_crash(survival);
        let forgets = !self.disk.twin.removed().is_empty();
        // The old process ends as it likes.
        self.disk.open();
        (left, forgets)
    }

    /// Empties all queues and looks whether nothing is held any more.
    pub(super) fn drain(self, history: &mut Vec<Happened>) {
        self.disk.open();
        for (queue, pattern) in QUEUES.iter().enumerate() {
            let left = take(&self.broker, pattern, "q", 10_000);
            for id in self.identify(&left) {
                history.push(Happened::Offered(queue, id));
                history.push(Happened::Left(queue, id));
            }
        }
        let held = self
            .broker
            .topics()
            .iter()
            .map(|topic| topic.messages)
            .sum::<u64>();
        assert_eq!(held, 0, "messages are held for nobody");
    }
}
