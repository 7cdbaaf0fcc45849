//! What all parts of one server share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use pinnace_proto::api::Info;
use pinnace_runs::Reader;
use pinnace_sync::server::Shares;
use pinnace_topics::{
    Batch, Broker, Done, Message, PublishError, Published, Publisher, StoreError,
};
use tokio::sync::{Notify, Semaphore, watch};

use crate::access::Access;
use crate::channels::Channels;
use crate::collector::Command;
use crate::fetches::Fetches;
use crate::http_door::QueueStreams;
use crate::lanes::Lanes;
use crate::limits::CONNECTIONS_MAX;
use crate::message_log::MessageLog;
use crate::metrics::Metrics;
use crate::roster::Roster;
use crate::settings::{NatsLimits, Settings};
use crate::slow::SlowConsumer;
use crate::slow::behind::Subscribers;
use crate::slow::spill::Readers;

/// Shared by the doors, the collector's front and the idle watch.
pub(crate) struct Harbour {
    pub(crate) broker: Broker,
    pub(crate) info: Info,
    pub(crate) roster: Roster,
    /// Topics that are listed although nobody is subscribed.
    pub(crate) channels: Channels,
    pub(crate) runs: Reader,
    /// To the collector, the one owner of the run database.
    pub(crate) collector: mpsc::Sender<Command>,
    /// Open connections of both doors.
    pub(crate) connections: watch::Sender<usize>,
    /// Wakes publishers that paused because a receiver was far behind.
    pub(crate) drained: Arc<Notify>,
    /// Fetches that can be repeated.
    pub(crate) fetches: Fetches,
    /// Wakes whoever ends leases: there is a new one, or one ends at another time.
    pub(crate) lease_ends: Notify,
    /// True once the server is going down.
    pub(crate) stopping: watch::Sender<bool>,
    /// Sends NATS connections away one by one, once the server is going down.
    pub(crate) go: Notify,
    /// Who may come in.
    pub(crate) access: Access,
    /// What a NATS client may do.
    pub(crate) nats_limits: NatsLimits,
    /// What happens to live subscribers that are too far behind and chose nothing.
    pub(crate) slow_consumer: SlowConsumer,
    /// Other addresses of the NATS door.
    pub(crate) nats_advertise: Vec<String>,
    /// Open connections of the NATS door.
    nats_connections: AtomicUsize,
    /// What storage problems were found when the log was opened, for health.
    pub(crate) damage: Vec<String>,
    /// Which stream reads each queue.
    pub(crate) queue_streams: Arc<QueueStreams>,
    /// Live subscriptions that keep to a choice for slow readers.
    pub(crate) slow_subscribers: Subscribers,
    /// Which live subscription spills to each queue.
    pub(crate) spill_readers: Readers,
    pub(crate) metrics: Arc<Metrics>,
    /// Where connections are served.
    pub(crate) lanes: Lanes,
    /// One check or backup at a time.
    pub(crate) upkeep: Arc<Semaphore>,
    /// Where messages are logged, if they are.
    pub(crate) message_log: Option<Arc<MessageLog>>,
    /// What is mirrored here.
    pub(crate) shares: Arc<Shares>,
    next_connection: AtomicU64,
    own_publisher: Mutex<Publisher>,
    answers: Mutex<Answers>,
}

/// What a server finds in its data folder.
pub(crate) struct Stores {
    pub(crate) broker: Broker,
    /// What was wrong with the log when it was opened.
    pub(crate) damage: Vec<String>,
    pub(crate) runs: Reader,
    pub(crate) channels: Channels,
    pub(crate) roster: Roster,
    pub(crate) shares: Arc<Shares>,
}

/// Answers to publishes, sent together when a batch of them is durable.
struct Answers {
    publisher: Publisher,
    batch: Batch,
}

impl Harbour {
    pub(crate) fn new(
        stores: Stores,
        info: Info,
        collector: mpsc::Sender<Command>,
        access: Access,
        lanes: Lanes,
        settings: &Settings,
    ) -> Self {
        let Stores {
            broker,
            damage,
            runs,
            channels,
            roster,
            shares,
        } = stores;
        let own_publisher = Mutex::new(broker.publisher());
        let answers = Mutex::new(Answers {
            publisher: broker.publisher(),
            batch: Batch::default(),
        });
        Self {
            broker,
            info,
            roster,
            channels,
            runs,
            collector,
            connections: watch::Sender::new(0),
            drained: Arc::new(Notify::new()),
            fetches: Fetches::default(),
            lease_ends: Notify::new(),
            stopping: watch::Sender::new(false),
            go: Notify::new(),
            access,
            nats_limits: settings.nats_limits.clone(),
            slow_consumer: settings.slow_consumer,
            nats_advertise: settings.nats_advertise.clone(),
            nats_connections: AtomicUsize::new(0),
            damage,
            queue_streams: Arc::default(),
            slow_subscribers: Subscribers::default(),
            spill_readers: Readers::default(),
            metrics: Arc::default(),
            lanes,
            upkeep: Arc::new(Semaphore::new(1)),
            message_log: None,
            shares,
            next_connection: AtomicU64::new(1),
            own_publisher,
            answers,
        }
    }

    /// Publishes the answer to a durable publish, from its callback; it goes out with the others of
    /// its batch.
    pub(crate) fn answer(&self, reply: &[u8], payload: &[u8]) {
        let message = Message {
            topic: reply,
            reply: None,
            headers: b"",
            payload,
        };
        let mut answers = self.lock_answers();
        let Answers { publisher, batch } = &mut *answers;
        if let Err(error) = publisher.publish(&message, None, batch, None) {
            let reply = String::from_utf8_lossy(reply);
            tracing::debug!(%reply, %error, "a publish could not be answered");
        }
    }

    /// Has answers to durable publishes sent by the batch, from wherever they are given.
    pub(crate) fn answer_by_batch(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let answering = weak.clone();
        self.lanes.deliver_mail(move || {
            if let Some(harbour) = answering.upgrade() {
                harbour.send_answers();
            }
        });
        self.broker.after_calls(Box::new(move || {
            if let Some(harbour) = weak.upgrade() {
                harbour.lanes.send_out();
                harbour.send_answers();
            }
        }));
    }

    /// Sends the answers that were given since the last time.
    fn send_answers(&self) {
        self.lock_answers().batch.flush();
    }

    fn lock_answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of a new connection.
    pub(crate) fn connection_number(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the server is going down.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Returns once the server is going down.
    pub(crate) async fn stopped(&self) {
        // The sender lives in this very harbour.
        let _ = self
            .stopping
            .subscribe()
            .wait_for(|stopping| *stopping)
            .await;
    }

    /// Counts a connection of the NATS door too, which has a limit of its own.
    pub(crate) fn admit_nats(&self) -> Option<(Admitted<'_>, AdmittedNats<'_>)> {
        let own = AdmittedNats(&self.nats_connections);
        let open = self.nats_connections.fetch_add(1, Ordering::AcqRel);
        (open < self.nats_limits.connections_max)
            .then(|| self.admit())
            .flatten()
            .map(|admitted| (admitted, own))
    }

    /// Counts a connection while the guard lives; `None` when there are too many.
    pub(crate) fn admit(&self) -> Option<Admitted<'_>> {
        let mut admitted = false;
        self.connections.send_modify(|open| {
            if *open < CONNECTIONS_MAX {
                *open += 1;
                admitted = true;
            }
        });
        if !admitted {
            self.metrics.refused_connections.add(1);
        }
        admitted.then_some(Admitted {
            connections: &self.connections,
        })
    }

    /// Publishes a document of the server's own; delivery to live subscribers is done on return.
    pub(crate) fn publish<T: serde::Serialize>(&self, topic: &str, document: &T) {
        let payload = match serde_json::to_vec(document) {
            Ok(payload) => payload,
            Err(error) => return tracing::error!(topic, %error, "a document of ours is no JSON"),
        };
        self.publish_bytes(topic.as_bytes(), &payload);
    }

    /// Publishes what a client sent. While the disk is behind, the client waits here rather than
    /// being refused; `done` makes the callback for each try.
    pub(crate) fn publish_for(
        &self,
        publisher: &mut Publisher,
        message: &Message<'_>,
        skip_owner: Option<u64>,
        batch: &mut Batch,
        mut done: impl FnMut() -> Option<Done>,
    ) -> Result<Published, PublishError> {
        let id = message_id(message.headers);
        loop {
            match publisher.publish_with(message, id, skip_owner, batch, &mut done) {
                Err(PublishError::Store(StoreError::Busy)) => {
                    // Receivers have what was delivered so far while this one waits.
                    batch.flush();
                    let bytes = message.topic.len() + message.headers.len() + message.payload.len();
                    tokio::task::block_in_place(|| self.broker.wait_for_room(bytes));
                }
                result => return result,
            }
        }
    }

    /// Publishes bytes of the server's own, such as the answer to a request; says whom they reached,
    /// which is nobody when they were refused.
    pub(crate) fn publish_bytes(&self, topic: &[u8], payload: &[u8]) -> Published {
        let message = Message {
            topic,
            reply: None,
            headers: b"",
            payload,
        };
        let mut batch = Batch::default();
        let result = self
            .own_publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .publish(&message, None, &mut batch, None);
        batch.flush();
        result.unwrap_or_else(|error| {
            let topic = String::from_utf8_lossy(topic);
            tracing::error!(%topic, %error, "the server could not publish");
            Published::default()
        })
    }
}

/// The identity a publisher gave its message, by the header that is usual for it.
fn message_id(headers: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"\r\nNats-Msg-Id:";
    // Most messages have no headers at all.
    if headers.is_empty() {
        return None;
    }
    let start = memchr::memmem::find(headers, NAME)? + NAME.len();
    let end = memchr::memchr(b'\r', &headers[start..])?;
    Some(headers[start..start + end].trim_ascii()).filter(|id| !id.is_empty())
}

/// An open connection, counted.
pub(crate) struct Admitted<'a> {
    connections: &'a watch::Sender<usize>,
}

/// An open connection of the NATS door, counted.
pub(crate) struct AdmittedNats<'a>(&'a AtomicUsize);

impl Drop for AdmittedNats<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.connections.send_modify(|open| *open -= 1);
    }
}
