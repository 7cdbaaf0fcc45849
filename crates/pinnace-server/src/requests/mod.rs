//! Requests on `$PN.`: what the NATS protocol has no verb for, answered by the server as JSON.
//!
//! Invariant: a request is carried out as the client that sent it, by [`Caller::may`]; nobody else hears
//! it. Its answer goes only where that client may listen, and messages whose answer reached nobody are
//! given back. What a client waits for ends with its connection.
//!
//! Left to others: what the operations do (the HTTP door's own functions); the formats are in
//! `docs/formats/requests.md`.

mod ask;
mod queue;

use std::sync::Arc;

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::api::{Clients, Topics};
use pinnace_topics::{Message, Receipt};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::caller::{Action, Caller};
use crate::channels::ChannelError;
use crate::clock::now_us;
use crate::harbour::Harbour;
use crate::http_door::{Failure, path, topics};
use crate::limits::{REQUEST_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX};
pub(crate) use ask::Ask;

const PREFIX: &[u8] = b"$PN.";

/// The requests there are, for those who mistype them.
const KNOWN: [&str; 13] = [
    "topics",
    "clients",
    "name",
    "create",
    "remove",
    "unread",
    "slow",
    "queue.subscribe",
    "queue.next",
    "queue.ack",
    "queue.return",
    "queue.extend",
    "queue.unsubscribe",
];

/// Whether a message to `topic` is a request to the server.
#[inline]
pub(crate) fn is_request(topic: &[u8]) -> bool {
    topic.starts_with(PREFIX)
}

/// The requests of one connection.
pub(crate) struct Requests {
    asker: Arc<Asker>,
    /// Held once by each that is under way, and once by the connection.
    places: Arc<()>,
}

/// The client that asks.
struct Asker {
    harbour: Arc<Harbour>,
    connection: u64,
    gone: watch::Sender<bool>,
}

/// What a request got.
struct Answer {
    document: Value,
    /// Messages taken for good, to be given back if the answer reaches nobody.
    receipt: Option<Receipt>,
}

impl From<Value> for Answer {
    fn from(document: Value) -> Self {
        let receipt = None;
        Self { document, receipt }
    }
}

impl Requests {
    pub(crate) fn new(harbour: Arc<Harbour>, connection: u64) -> Self {
        let gone = watch::Sender::new(false);
        Self {
            asker: Arc::new(Asker {
                harbour,
                connection,
                gone,
            }),
            places: Arc::default(),
        }
    }

    /// Carries out a request and answers it, beside what else the connection does; what is about the
    /// connection itself at once, by `own`.
    pub(crate) fn start(
        &self,
        caller: &Caller,
        message: &Message<'_>,
        own: impl FnOnce(Ask) -> Result<Value, Failure>,
    ) {
        let reply = message.reply.map(<[u8]>::to_vec);
        if let Some(reply) = &reply
            && !caller.may(Action::SubscribeTo(reply, None))
        {
            let reply = String::from_utf8_lossy(reply).into_owned();
            tracing::warn!(
                connection = self.asker.connection,
                reply,
                "a request whose answer its sender must not hear is ignored"
            );
            return;
        }
        let ask = Ask::read(&message.topic[PREFIX.len()..], message.payload);
        let ask = match ask {
            Ok(ask) if ask.verb() == "slow" => {
                let answered = own(ask).map(Answer::from);
                return self.asker.send(reply.as_deref(), answered);
            }
            ask => ask,
        };
        let is_too_many = Arc::strong_count(&self.places) > REQUESTS_IN_FLIGHT_MAX;
        let (asker, place, caller) = (self.asker.clone(), self.places.clone(), caller.clone());
        tokio::spawn(async move {
            let answered = match ask {
                _ if is_too_many => Err(too_many()),
                Ok(ask) => asker.answer(&caller, ask, reply.is_some()).await,
                Err(failure) => Err(failure),
            };
            // Whoever has the answer may ask again at once.
            drop(place);
            asker.send(reply.as_deref(), answered);
        });
    }

    /// The connection ended; what it waits for is given up.
    pub(crate) fn end(&self) {
        self.asker.gone.send_replace(true);
    }
}

fn too_many() -> Failure {
    let detail = format!("at most {REQUESTS_IN_FLIGHT_MAX} requests of a connection at a time");
    Failure::bad_request("too-many-requests", detail)
}

impl Asker {
    async fn answer(
        &self,
        caller: &Caller,
        mut ask: Ask,
        is_answered: bool,
    ) -> Result<Answer, Failure> {
        if !caller.may(Action::Look) {
            return Err(Failure::forbidden());
        }
        let harbour = &self.harbour;
        let document = match ask.verb() {
            "topics" => {
                ask.done()?;
                let (v, topics) = (DOCUMENT_VERSION, topics::entries(harbour));
                document(&Topics { v, topics })?
            }
            "clients" => {
                let history = ask.flag("history")?;
                ask.done()?;
                let v = DOCUMENT_VERSION;
                let clients = harbour.roster.list(history, now_us());
                document(&Clients { v, clients })?
            }
            "name" => {
                let wanted = ask.text("name")?;
                let instance = ask.optional_text("instance")?;
                ask.done()?;
                self.rename(&wanted, instance)?
            }
            "create" | "remove" => self.change_topic(caller, ask).await?,
            "unread" => {
                let topic = ask.topic()?;
                let seq = ask.number("seq")?;
                ask.done()?;
                permit(caller, Action::SubscribeTo(topic.as_bytes(), None))?;
                document(&topics::unread(&harbour.broker, &topic, seq))?
            }
            verb if verb.starts_with("queue.") => {
                return queue::answer(self, caller, ask, is_answered).await;
            }
            verb => return Err(no_such_request(verb)),
        };
        Ok(document.into())
    }

    fn rename(&self, wanted: &str, instance: Option<String>) -> Result<Value, Failure> {
        pinnace_proto::name::check(wanted)
            .map_err(|error| Failure::bad_request("bad-name", error.to_string()))?;
        let granted = self.harbour.renamed(self.connection, wanted, instance);
        let name = granted.ok_or_else(|| {
            let detail = "the connection said no CONNECT, so it is not on the roster";
            Failure::conflict("no-such-connection", detail)
        })?;
        Ok(json!({ "name": name, "wanted": wanted }))
    }

    async fn change_topic(&self, caller: &Caller, mut ask: Ask) -> Result<Value, Failure> {
        let is_creation = ask.verb() == "create";
        let topic = ask.topic()?;
        ask.done()?;
        let topic = path::checked_topic(topic)?;
        permit(caller, Action::PublishTo(topic.as_bytes()))?;
        let harbour = self.harbour.clone();
        let on_disk = {
            let topic = topic.clone();
            move || match is_creation {
                true => harbour.channels.create(&topic),
                false => harbour.channels.remove(&topic),
            }
        };
        let changed = tokio::task::spawn_blocking(on_disk).await;
        let changed = changed.map_err(|_| Failure::unavailable("the server is stopping"))?;
        let changed = changed.map_err(|error| match error {
            ChannelError::TooMany => Failure::no_room("topic-limit", error.to_string()),
            ChannelError::Write(_) => Failure::no_room("storage-full", error.to_string()),
        })?;
        let word = if is_creation { "created" } else { "removed" };
        Ok(json!({ "topic": topic, word: changed }))
    }

    /// Sends an answer; messages that reach nobody go back.
    fn send(&self, reply: Option<&[u8]>, answered: Result<Answer, Failure>) {
        let (document, receipt) = match answered {
            Ok(answer) => (answer.document, answer.receipt),
            Err(failure) => {
                tracing::debug!(connection = self.connection, %failure, "request refused");
                let (code, detail) = (failure.code(), failure.detail());
                (json!({ "error": { "code": code, "detail": detail } }), None)
            }
        };
        let Some(reply) = reply else {
            return;
        };
        let payload = document.to_string();
        let reached = self.harbour.publish_bytes(reply, payload.as_bytes());
        if let Some(receipt) = receipt.filter(|_| reached.live > 0) {
            receipt.confirm();
        }
    }

    /// Returns when the connection has ended.
    async fn gone(&self) {
        // The sender lives in `self`.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }
}

fn permit(caller: &Caller, action: Action<'_>) -> Result<(), Failure> {
    if caller.may(action) {
        Ok(())
    } else {
        Err(Failure::forbidden())
    }
}

fn document<T: serde::Serialize>(document: &T) -> Result<Value, Failure> {
    serde_json::to_value(document)
        .map_err(|error| Failure::internal(&format!("an answer of ours is no JSON: {error}")))
}

fn no_such_request(verb: &str) -> Failure {
    let known: Vec<String> = KNOWN.iter().map(|known| format!("$PN.{known}")).collect();
    let verb = verb.escape_debug();
    let detail = format!(
        "there is no request `$PN.{verb}`; there are {}",
        known.join(", ")
    );
    Failure::not_found("no-such-request", detail)
}

fn too_large(bytes: usize) -> Option<Failure> {
    (bytes > REQUEST_BYTES_MAX).then(|| Failure::too_large(REQUEST_BYTES_MAX))
}
