//! One client's side of the protocol: what each operation does and what is answered.
//!
//! No sockets here: operations come in, answers go to the outbox, and [`Close`] says when and with
//! which words the connection ends. Behaviour follows the reference server; the table is in
//! `docs/formats/nats.md`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use pinnace_nats::{
    Bounds, Connect, Op, PONG, ServerInfo, no_responders_headers, write_err, write_info, write_msg,
};
use pinnace_topics::{Batch, Message, Publisher, SubscriptionId, topic};

use super::acknowledge::{Acknowledgement, refusal};
use super::close::Close;
use super::counts::Counts;
use super::outbox::Outbox;
use super::permit::Permit;
use super::sink::Subscription;
use super::slow::{self, Choices, Lagged};
use crate::caller::{Action, Caller};
use crate::harbour::Harbour;
use crate::message_log::Origin;
use crate::requests::{self, Requests};

/// The reference server whose behaviour clients may count on; `docs/formats/nats.md` says why.
const REFERENCE_VERSION: &str = "2.15.1";

pub(super) struct Session {
    pub(super) connection: u64,
    address: SocketAddr,
    /// Who it is, once that is known.
    caller: Option<Caller>,
    permit: Permit,
    /// What a key has to sign.
    nonce: Option<String>,
    /// What its operations are read with.
    pub(super) bounds: Bounds,
    harbour: Arc<Harbour>,
    outbox: Arc<Outbox>,
    publisher: Publisher,
    connect: Connect,
    arrived: bool,
    told_connected: bool,
    /// In boxes, because a table has room for more than most connections have.
    subscriptions: HashMap<Box<[u8]>, Box<Entry>>,
    pub(super) batch: Batch,
    pub(super) counts: Counts,
    /// A receiver wanted a pause when the batch was flushed before its end.
    behind: bool,
    /// What it asked of the server itself, once it did.
    requests: Option<Requests>,
    /// What becomes of its subscriptions that are behind.
    pub(super) slow: Choices,
}

pub(super) struct Entry {
    pub(super) id: SubscriptionId,
    pub(super) pattern: Box<[u8]>,
    pub(super) is_grouped: bool,
    pub(super) subscription: Arc<Subscription>,
    /// Unless it is simply to be disconnected when it is behind.
    pub(super) lagged: Option<Lagged>,
}

impl Session {
    pub(super) fn new(harbour: Arc<Harbour>, address: SocketAddr, outbox: Arc<Outbox>) -> Self {
        let limits = &harbour.nats_limits;
        let caller = harbour.access.stranger(address);
        let connection = harbour.connection_number();
        Self {
            connection,
            address,
            permit: Permit::of(caller.as_ref()),
            caller,
            nonce: harbour.access.nonce(),
            bounds: Bounds {
                payload_bytes_max: limits.payload_bytes_max,
                control_line_bytes_max: limits.control_line_bytes_max,
                headers: false,
            },
            publisher: harbour.broker.publisher(),
            slow: Choices::new(harbour.clone(), outbox.clone(), connection),
            harbour,
            outbox,
            connect: Connect::default(),
            arrived: false,
            told_connected: false,
            subscriptions: HashMap::new(),
            batch: Batch::default(),
            behind: false,
            counts: Counts::default(),
            requests: None,
        }
    }

    /// Sends on what was delivered; true when a receiver is so far behind that it wants a pause.
    pub(super) fn flush(&mut self) -> bool {
        let behind = self.batch.flush() | self.behind;
        self.behind = false;
        behind
    }

    /// Sends on what was delivered while more is to come.
    pub(super) fn flush_within(&mut self) {
        self.behind |= self.batch.flush();
    }

    /// The first line of every conversation.
    pub(super) fn greet(&self) {
        let info = self.info();
        self.outbox.add(|bytes| write_info(bytes, &info));
    }

    /// Tells a client that can be told that the server is about to stop.
    pub(super) fn send_away(&self) {
        if self.arrived && self.connect.protocol >= 1 {
            let info = ServerInfo {
                ldm: true,
                ..self.info()
            };
            self.outbox.add(|bytes| write_info(bytes, &info));
        }
    }

    /// Whether it is known who this is, or nobody wants to know.
    pub(super) fn is_known(&self) -> bool {
        self.caller.is_some()
    }

    fn info(&self) -> ServerInfo {
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
            max_payload: self.bounds.payload_bytes_max,
            client_id: self.connection,
            client_ip: self.address.ip().to_string(),
            auth_required: self.harbour.access.requires_credentials(),
            nonce: self.nonce.clone(),
            connect_urls: self.harbour.nats_advertise.clone(),
            ldm: false,
            connect_info: false,
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
            } => self.publish(&Message {
                topic: subject,
                reply,
                headers,
                payload,
            }),
            Op::Subscribe {
                subject,
                group,
                sid,
            } => self.subscribe(subject, group, sid),
            Op::Unsubscribe { sid, max } => {
                self.unsubscribe(sid, max);
                self.acknowledge();
            }
            Op::Connect(json) => self.connect(json)?,
            Op::Ping => self.pong(),
            Op::Info(json) => {
                let object: Result<serde_json::Map<_, _>, _> = serde_json::from_slice(json);
                object.map_err(|_| Close::silently("INFO without valid JSON"))?;
            }
            Op::GivesUp => return Err(Close::silently("the client sent -ERR")),
            Op::Pong | Op::Okay => {}
        }
        Ok(())
    }

    fn connect(&mut self, json: &[u8]) -> Result<(), Close> {
        self.connect.update(json)?;
        let credentials = &self.connect.credentials;
        let access = &self.harbour.access;
        let admitted = access.admit(self.address, credentials, self.nonce.as_deref());
        let caller = admitted.map_err(|error| {
            let address = self.address;
            tracing::warn!(connection = self.connection, %address, ?credentials, "{error}");
            Close::with("Authorization Violation")
        })?;
        self.permit = Permit::of(Some(&caller));
        self.caller = Some(caller);
        self.bounds.headers = self.connect.headers;
        self.arrive();
        self.acknowledge();
        Ok(())
    }

    fn acknowledge(&self) {
        if self.connect.verbose {
            self.answer(pinnace_nats::OK);
        }
    }

    fn arrive(&mut self) {
        self.arrived = true;
        let user = self.caller.as_ref().and_then(Caller::user_name);
        let name = self.connect.name.as_deref().or(user);
        self.harbour.arrived(self.connection, name, self.address);
    }

    fn pong(&mut self) {
        self.answer(PONG);
        if self.arrived && !self.told_connected && self.connect.protocol >= 1 {
            self.told_connected = true;
            let info = ServerInfo {
                connect_info: true,
                ..self.info()
            };
            self.outbox.add(|bytes| write_info(bytes, &info));
        }
    }

    fn publish(&mut self, message: &Message<'_>) {
        let is_valid =
            self.publisher.is_latest(message.topic) || topic::is_valid_topic(message.topic);
        // What is malformed is dropped without a word, as by the reference; what only we refuse is said.
        let is_told = self.connect.pedantic && (!is_valid || topic::has_wildcards(message.topic));
        if is_told || (!is_valid && topic::exceeds_limits(message.topic)) {
            self.complain("Invalid Publish Subject");
        }
        if !self.permit.may_publish(self.caller.as_ref(), message.topic) {
            let subject = String::from_utf8_lossy(message.topic);
            return self.complain(&format!(
                "Permissions Violation for Publish to \"{subject}\""
            ));
        }
        self.acknowledge();
        if !is_valid {
            return self.nobody_listens(message);
        }
        if requests::is_request(message.topic) {
            return self.ask(message);
        }
        let skip = (!self.connect.echo).then_some(self.connection);
        let harbour = &self.harbour;
        let counts = &mut self.counts;
        // Made only for a message that is stored.
        let done = || {
            let began = counts.begin_durable();
            message
                .reply
                .map(|reply| Acknowledgement::new(harbour, reply, began).done())
        };
        let published =
            harbour.publish_for(&mut self.publisher, message, skip, &mut self.batch, done);
        match &published {
            Ok(published) => {
                self.counts.messages += 1;
                if let Some(log) = &self.harbour.message_log
                    && !published.duplicate
                {
                    let user = self.caller.as_ref().and_then(Caller::user_name);
                    let origin = Origin {
                        door: "nats",
                        client: self.connect.name.as_deref().or(user),
                        address: self.address,
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
                    Some(reply) => drop(self.harbour.publish_bytes(reply, &refusal(&error))),
                    None => self.complain(&format!("Publish to \"{subject}\" refused: {error}")),
                }
            }
        }
    }

    /// A request to the server itself; nobody else hears it.
    fn ask(&mut self, message: &Message<'_>) {
        let (harbour, connection) = (&self.harbour, self.connection);
        let requests = self
            .requests
            .get_or_insert_with(|| Requests::new(harbour.clone(), connection));
        let Some(caller) = &self.caller else {
            return;
        };
        let (slow, entries) = (&mut self.slow, self.subscriptions.values_mut());
        let entries = entries.map(Box::as_mut);
        let own = |ask| slow.answer((&self.connect, caller), entries, ask);
        requests.start(caller, message, own);
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
        let wanted = Action::SubscribeTo(subject, group);
        if !self
            .caller
            .as_ref()
            .is_some_and(|caller| caller.may(wanted))
        {
            return self.complain(&refused_subscription(subject, group));
        }
        if self.subscriptions.len() >= self.harbour.nats_limits.subscriptions_max {
            return self.complain("maximum subscriptions exceeded");
        }
        if !topic::is_valid_pattern(subject) {
            return self.complain("Invalid Subject");
        }
        self.forget_used_up(sid);
        if !self.subscriptions.contains_key(sid) {
            let caller = self.caller.as_ref();
            let subscription = Arc::new(Subscription::new(
                self.outbox.clone(),
                sid,
                self.connect.headers,
                caller.and_then(|caller| caller.withheld(subject, group)),
            ));
            let of = (subject, group);
            let mut lagged = self.slow.lagged(&self.connect, &subscription, of);
            let sink = slow::sink(&subscription, lagged.as_ref());
            let broker = &self.harbour.broker;
            let id = broker.subscribe(subject, group, self.connection, sink);
            let Ok(id) = id else {
                return self.complain("Invalid Subject");
            };
            self.slow.begin(subject, &mut lagged);
            let entry = Entry {
                id,
                pattern: subject.into(),
                is_grouped: group.is_some(),
                subscription,
                lagged,
            };
            self.subscriptions.insert(sid.into(), Box::new(entry));
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

    /// Ends a subscription that had its last message. One of the same name that was made since stays.
    pub(super) fn forget_used_up(&mut self, sid: &[u8]) {
        let entry = self.subscriptions.get(sid);
        if entry.is_some_and(|entry| entry.subscription.is_used_up()) {
            self.forget(sid);
        }
    }

    /// Ends a subscription at the broker.
    fn forget(&mut self, sid: &[u8]) {
        if let Some(entry) = self.subscriptions.remove(sid) {
            self.harbour.broker.unsubscribe(entry.id);
        }
    }

    /// Ends everything this client had.
    pub(super) fn end(&mut self, reason: &str) {
        for (_, entry) in self.subscriptions.drain() {
            self.harbour.broker.unsubscribe(entry.id);
        }
        if let Some(requests) = &self.requests {
            requests.end();
        }
        self.harbour.departed(self.connection, reason);
    }
}

fn refused_subscription(subject: &[u8], group: Option<&[u8]>) -> String {
    let subject = String::from_utf8_lossy(subject);
    let group = group.map(|group| format!(" using queue \"{}\"", String::from_utf8_lossy(group)));
    let group = group.unwrap_or_default();
    format!("Permissions Violation for Subscription to \"{subject}\"{group}")
}
