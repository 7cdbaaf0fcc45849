//! One client's side of the protocol: what each operation does and what is answered.
//!
//! No sockets here: operations come in, answers go to the outbox, and [`Close`] says when and with
//! which words the connection ends. Behaviour follows the reference server; the table is in
//! `docs/formats/nats.md`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use pinnace_nats::{
    Connect, ConnectError, DecodeError, Op, PONG, ServerInfo, no_responders_headers, write_err,
    write_info, write_msg,
};
use pinnace_topics::{Batch, Done, Message, Publisher, SubscriptionId, topic};

use super::outbox::Outbox;
use super::sink::Subscription;
use crate::caller::{Action, Caller};
use crate::harbour::Harbour;
use crate::limits::{PAYLOAD_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::message_log::Origin;
use crate::metrics::SAMPLE;

/// The reference server whose behaviour clients may count on.
const REFERENCE_VERSION: &str = "2.10.0";

pub(super) struct Session {
    pub(super) connection: u64,
    caller: Caller,
    harbour: Arc<Harbour>,
    outbox: Arc<Outbox>,
    publisher: Publisher,
    connect: Connect,
    arrived: bool,
    told_connected: bool,
    subscriptions: HashMap<Box<[u8]>, Entry>,
    pub(super) batch: Batch,
    counts: Counts,
}

/// What happened since the counts were last folded into the server's.
#[derive(Default)]
struct Counts {
    messages: u64,
    refused: u64,
    batches: u32,
    durable: u32,
}

struct Entry {
    id: SubscriptionId,
    pattern: Box<[u8]>,
    subscription: Arc<Subscription>,
}

/// The connection is to be closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Close {
    /// Words for the client, sent as `-ERR`.
    pub(super) error: Option<String>,
    /// Words for the roster and the log.
    pub(super) reason: String,
}

impl Close {
    fn with(error: &str) -> Self {
        Self {
            error: Some(error.to_owned()),
            reason: error.to_owned(),
        }
    }

    fn silently(reason: &str) -> Self {
        Self {
            error: None,
            reason: reason.to_owned(),
        }
    }
}

impl From<DecodeError> for Close {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::BadArguments => Self::silently(&error.to_string()),
            _ => Self::with(&error.to_string()),
        }
    }
}

impl From<ConnectError> for Close {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::BadJson => Self::silently(&error.to_string()),
            _ => Self::with(&error.to_string()),
        }
    }
}

impl Session {
    pub(super) fn new(harbour: Arc<Harbour>, caller: Caller, outbox: Arc<Outbox>) -> Self {
        Self {
            connection: harbour.connection_number(),
            caller,
            publisher: harbour.broker.publisher(),
            harbour,
            outbox,
            connect: Connect::default(),
            arrived: false,
            told_connected: false,
            subscriptions: HashMap::new(),
            batch: Batch::default(),
            counts: Counts::default(),
        }
    }

    /// When a batch begins whose times are taken.
    pub(super) fn sample(&mut self) -> Option<Instant> {
        self.counts.batches = self.counts.batches.wrapping_add(1);
        (self.counts.batches % SAMPLE == 1).then(Instant::now)
    }

    /// A batch has been carried out and written: adds what it did to the server's counts.
    pub(super) fn fold(&mut self, began: Option<Instant>) {
        let metrics = &self.harbour.metrics.nats;
        let messages = std::mem::take(&mut self.counts.messages);
        metrics.received_messages.add(messages);
        metrics
            .refused_publishes
            .add(std::mem::take(&mut self.counts.refused));
        if let Some(began) = began.filter(|_| messages > 0) {
            metrics.publish_to_deliver.add(began.elapsed(), messages);
        }
    }

    pub(super) fn received_bytes(&self, count: usize) {
        self.harbour.metrics.nats.received_bytes.add(count as u64);
    }

    /// The first line of every conversation.
    pub(super) fn greet(&self) {
        let info = self.info(false);
        self.outbox.add(|bytes| write_info(bytes, &info));
    }

    fn info(&self, connect_info: bool) -> ServerInfo {
        let ours = &self.harbour.info;
        let (host, port) = ours.nats.rsplit_once(':').unwrap_or((&ours.nats, "0"));
        ServerInfo {
            server_id: ours.server_id.clone(),
            server_name: "pinnace".to_owned(),
            version: REFERENCE_VERSION.to_owned(),
            proto: 1,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.parse().unwrap_or(0),
            headers: true,
            max_payload: PAYLOAD_BYTES_MAX,
            client_id: self.connection,
            client_ip: self.caller.address.ip().to_string(),
            connect_info,
            pinnace: ours.version.clone(),
        }
    }

    fn answer(&self, bytes: &[u8]) {
        self.outbox.add(|out| out.extend_from_slice(bytes));
    }

    fn complain(&self, text: &str) {
        self.outbox.add(|out| write_err(out, text));
    }

    /// Carries out one operation.
    #[inline]
    pub(super) fn handle(&mut self, op: &Op<'_>) -> Result<(), Close> {
        match *op {
            Op::Publish {
                subject,
                reply,
                headers,
                payload,
                with_headers,
            } => {
                if with_headers && !self.connect.headers {
                    return Err(Close::silently("HPUB from a client without headers"));
                }
                self.publish(&Message {
                    topic: subject,
                    reply,
                    headers,
                    payload,
                });
                self.acknowledge();
            }
            Op::Subscribe {
                subject,
                group,
                sid,
            } => self.subscribe(subject, group, sid),
            Op::Unsubscribe { sid, max } => {
                self.unsubscribe(sid, max);
                self.acknowledge();
            }
            Op::Connect(json) => {
                self.connect = Connect::parse(json)?;
                self.arrive();
                self.acknowledge();
            }
            Op::Ping => self.pong(),
            Op::Pong | Op::Ignored => {}
        }
        Ok(())
    }

    fn acknowledge(&self) {
        if self.connect.verbose {
            self.answer(pinnace_nats::OK);
        }
    }

    fn arrive(&mut self) {
        self.arrived = true;
        self.harbour.arrived(
            self.connection,
            self.connect.name.as_deref(),
            self.caller.address,
        );
    }

    fn pong(&mut self) {
        self.answer(PONG);
        if self.arrived && !self.told_connected && self.connect.protocol >= 1 {
            self.told_connected = true;
            let info = self.info(true);
            self.outbox.add(|bytes| write_info(bytes, &info));
        }
    }

    fn publish(&mut self, message: &Message<'_>) {
        if !topic::is_valid_topic(message.topic) {
            return;
        }
        if self.connect.pedantic && topic::has_wildcards(message.topic) {
            return self.complain("Invalid Publish Subject");
        }
        if !self.caller.may(Action::Publish) {
            let subject = String::from_utf8_lossy(message.topic);
            return self.complain(&format!(
                "Permissions Violation for Publish to \"{subject}\""
            ));
        }
        let skip = (!self.connect.echo).then_some(self.connection);
        let harbour = &self.harbour;
        let durable = &mut self.counts.durable;
        let done = || {
            *durable = durable.wrapping_add(1);
            let began = (*durable % SAMPLE == 1).then(Instant::now);
            message
                .reply
                .map(|reply| acknowledgement(harbour, reply.into(), began))
        };
        let published =
            harbour.publish_for(&mut self.publisher, message, skip, &mut self.batch, done);
        match &published {
            Ok(published) => {
                self.counts.messages += 1;
                if let Some(log) = &self.harbour.message_log
                    && !published.duplicate
                {
                    let origin = Origin {
                        door: "nats",
                        client: self.connect.name.as_deref(),
                        address: self.caller.address,
                    };
                    log.note(origin, message, published.seq);
                }
            }
            Err(_) => self.counts.refused += 1,
        }
        match published {
            Ok(published) if published.live == 0 && published.queues == 0 => {
                self.nobody_listens(message);
            }
            Ok(_) => {}
            Err(error) => {
                let subject = String::from_utf8_lossy(message.topic).into_owned();
                tracing::warn!(connection = self.connection, subject, %error, "publish refused");
                match message.reply {
                    Some(reply) => self.harbour.publish_bytes(reply, &refusal(&error)),
                    None => self.complain(&format!("Publish to \"{subject}\" refused: {error}")),
                }
            }
        }
    }

    /// Tells a requester that asked to know that nobody is there to answer.
    fn nobody_listens(&mut self, message: &Message<'_>) {
        let Some(reply) = message.reply.filter(|_| self.connect.no_responders) else {
            return;
        };
        let sid = self
            .subscriptions
            .iter()
            .find(|(_, entry)| topic::matches(&entry.pattern, reply))
            .map(|(sid, _)| sid);
        if let Some(sid) = sid {
            let headers = no_responders_headers(message.topic);
            self.outbox
                .add(|bytes| write_msg(bytes, reply, sid, None, &headers, b""));
        }
    }

    fn subscribe(&mut self, subject: &[u8], group: Option<&[u8]>, sid: &[u8]) {
        if !topic::is_valid_pattern(subject) {
            return self.complain("Invalid Subject");
        }
        if !self.caller.may(Action::Subscribe) {
            let subject = String::from_utf8_lossy(subject);
            return self.complain(&format!(
                "Permissions Violation for Subscription to \"{subject}\""
            ));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return self.complain("maximum subscriptions exceeded");
        }
        if !self.subscriptions.contains_key(sid) {
            let subscription = Arc::new(Subscription::new(
                self.outbox.clone(),
                sid,
                self.connect.headers,
            ));
            let id = self.harbour.broker.subscribe(
                subject,
                group,
                self.connection,
                subscription.clone(),
            );
            let Ok(id) = id else {
                return self.complain("Invalid Subject");
            };
            self.subscriptions.insert(
                sid.into(),
                Entry {
                    id,
                    pattern: subject.into(),
                    subscription,
                },
            );
        }
        self.acknowledge();
    }

    fn unsubscribe(&mut self, sid: &[u8], max: Option<u64>) {
        let ended = match (self.subscriptions.get(sid), max) {
            (Some(entry), Some(max)) => entry.subscription.limit(max),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if ended {
            self.forget(sid);
        }
    }

    /// Ends a subscription at the broker.
    pub(super) fn forget(&mut self, sid: &[u8]) {
        if let Some(entry) = self.subscriptions.remove(sid) {
            self.harbour.broker.unsubscribe(entry.id);
        }
    }

    /// Ends everything this client had.
    pub(super) fn end(&mut self, reason: &str) {
        for (_, entry) in self.subscriptions.drain() {
            self.harbour.broker.unsubscribe(entry.id);
        }
        self.harbour.departed(self.connection, reason);
    }
}

/// What answers a durable publish with a reply subject once it is synced.
/// `began` is when it was read, for those whose times are taken.
fn acknowledgement(harbour: &Arc<Harbour>, reply: Box<[u8]>, began: Option<Instant>) -> Done {
    let harbour = harbour.clone();
    Box::new(move |stored| match stored {
        Ok(seq) => {
            harbour.answer(&reply, format!("{{\"seq\":{seq}}}").as_bytes());
            if let Some(began) = began {
                harbour.metrics.nats.publish_to_ack.add(began.elapsed(), 1);
            }
        }
        Err(error) => harbour.answer(&reply, &refusal(&error)),
    })
}

/// The answer to a durable publish that was not stored.
fn refusal(error: &impl std::fmt::Display) -> Vec<u8> {
    serde_json::json!({ "error": error.to_string() })
        .to_string()
        .into_bytes()
}
