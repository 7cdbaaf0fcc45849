//! Reading a durable queue over the NATS door, across lost connections and restarts of the server.
//!
//! Invariant: a message is acknowledged only when the one after it is asked for, so nothing that was not
//! handed out is lost; one that was handed out and comes again, because its acknowledgement did not
//! arrive, is not handed out twice by the same reader.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::limits::{ASK_TIMEOUT, QUEUE_BATCH, QUEUE_LEASE, QUEUE_WAIT, RETRY_PAUSE_MAX};
use crate::messages::{FROM_HEADER, INSTANCE_HEADER, Messages, MessagesError};

/// The reading end of a queue.
pub struct Queue {
    messages: Messages,
    topic: String,
    name: String,
    /// Names its fetches, so that one whose answer was lost can be asked again.
    instance: u64,
    fetches: u64,
    lease: Option<String>,
    ready: VecDeque<Queued>,
    /// Handed out, and not known to be acknowledged.
    handed: BTreeSet<u64>,
    /// Numbers up to this were seen elsewhere.
    skip_through: u64,
}

/// A message that waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its number.
    pub seq: u64,
    /// Where it was published.
    pub topic: String,
    /// When, microseconds since 1970.
    pub published_us: u64,
    /// Who sent it, by the header `Pinnace-From`.
    pub from: Option<String>,
    /// Which program of that name, by the header `Pinnace-Instance`.
    pub instance: Option<String>,
    /// The message itself.
    pub payload: Vec<u8>,
}

#[derive(Deserialize)]
struct Fetched {
    lease: Option<String>,
    messages: Vec<Envelope>,
}

#[derive(Deserialize)]
struct Envelope {
    seq: u64,
    topic: String,
    #[serde(default)]
    published_us: u64,
    #[serde(default)]
    headers: serde_json::Map<String, Value>,
    text: Option<String>,
    base64: Option<String>,
}

impl Messages {
    /// Makes sure that `name` has a queue for `topic`, a topic or pattern, with these `limits` (see the
    /// server's `$PN.queue.subscribe`), and reads it.
    pub async fn queue(
        &self,
        topic: &str,
        name: &str,
        limits: &Value,
    ) -> Result<Queue, MessagesError> {
        let mut fields = limits.clone();
        fields["topic"] = topic.into();
        fields["name"] = name.into();
        self.ask("queue.subscribe", &fields, ASK_TIMEOUT).await?;
        Ok(Queue {
            messages: self.clone(),
            topic: topic.to_owned(),
            name: name.to_owned(),
            instance: std::hash::RandomState::new().build_hasher().finish(),
            fetches: 0,
            lease: None,
            ready: VecDeque::new(),
            handed: BTreeSet::new(),
            skip_through: 0,
        })
    }

    /// Ends a queue and what waits in it.
    pub async fn end_queue(&self, topic: &str, name: &str) -> Result<(), MessagesError> {
        let fields = json!({ "topic": topic, "name": name });
        let ended = self.ask("queue.unsubscribe", &fields, ASK_TIMEOUT).await;
        ended.map(drop)
    }
}

impl Queue {
    /// Leaves out messages with numbers up to this.
    pub fn skip_through(&mut self, seq: u64) {
        self.skip_through = seq;
    }

    /// The next message, however long that takes and however often the connection breaks meanwhile; the
    /// one before is acknowledged. May be given up at any time.
    ///
    /// # Errors
    /// `Denied` when the queue is gone or may not be read.
    pub async fn next(&mut self) -> Result<Queued, MessagesError> {
        loop {
            if let Some(message) = self.next_ready() {
                return Ok(message);
            }
            self.fetch(QUEUE_WAIT).await?;
        }
    }

    /// The next message if one waits already.
    ///
    /// # Errors
    /// Those of `next`.
    pub async fn next_waiting(&mut self) -> Result<Option<Queued>, MessagesError> {
        if self.ready.is_empty() {
            self.fetch(Duration::ZERO).await?;
        }
        Ok(self.next_ready())
    }

    fn next_ready(&mut self) -> Option<Queued> {
        while let Some(message) = self.ready.pop_front() {
            let is_new = message.seq > self.skip_through && self.handed.insert(message.seq);
            if is_new {
                return Some(message);
            }
        }
        None
    }

    /// Takes back the message that was handed out last: it did not get where it was to go.
    pub fn put_back(&mut self, message: Queued) {
        self.handed.remove(&message.seq);
        self.ready.push_front(message);
    }

    /// Acknowledges what was handed out and lets the rest wait again for whoever reads next.
    pub async fn finish(mut self) {
        let rest: Vec<u64> = self.ready.iter().map(|message| message.seq).collect();
        let Some(lease) = self.lease.take() else {
            return;
        };
        let mut fields = self.fields();
        fields["lease"] = lease.into();
        if !rest.is_empty() {
            fields["seq"] = self.handed.iter().copied().collect::<Vec<u64>>().into();
        }
        // What cannot be said now comes again when the lease is over, which loses nothing.
        if self.handed.is_empty() {
            let _ = self.ask("queue.return", &fields).await;
        } else if self.ask("queue.ack", &fields).await.is_ok() && !rest.is_empty() {
            fields.as_object_mut().map(|fields| fields.remove("seq"));
            let _ = self.ask("queue.return", &fields).await;
        }
    }

    fn fields(&self) -> Value {
        json!({ "topic": self.topic, "name": self.name })
    }

    async fn ask(&self, request: &str, fields: &Value) -> Result<Value, MessagesError> {
        self.messages.ask(request, fields, ASK_TIMEOUT).await
    }

    /// Acknowledges what was handed out, then waits for more; returns also when there is none.
    async fn fetch(&mut self, wait: Duration) -> Result<(), MessagesError> {
        let mut link = self.messages.link();
        // The connection lives as long as `messages`, and so does what tells of it.
        let _ = link.wait_for(|link| link.is_up).await;
        link.mark_unchanged();
        let fetched = tokio::select! {
            fetched = self.try_fetch(wait) => fetched,
            // What was asked over the lost connection is asked again over the next.
            _ = link.changed() => return Ok(()),
        };
        match fetched {
            Ok(fetched) => {
                self.fetches += 1;
                self.lease = fetched.lease;
                self.ready = fetched.messages.into_iter().map(queued).collect();
                Ok(())
            }
            Err(error @ MessagesError::Denied { .. }) if !is_passing(&error) => Err(error),
            Err(_) => {
                // Answered at once by an error that will pass, it would be asked again at once.
                tokio::time::sleep(RETRY_PAUSE_MAX).await;
                Ok(())
            }
        }
    }

    async fn try_fetch(&mut self, wait: Duration) -> Result<Fetched, MessagesError> {
        if let Some(lease) = &self.lease {
            let mut fields = self.fields();
            fields["lease"] = lease.as_str().into();
            match self.ask("queue.ack", &fields).await {
                Ok(_) => self.handed.clear(),
                // A lease that is over, or of a server that was restarted: its messages come again.
                Err(MessagesError::Denied { code, .. }) if code == "no-such-lease" => {}
                Err(error) => return Err(error),
            }
            self.lease = None;
        }
        let mut fields = self.fields();
        fields["max"] = QUEUE_BATCH.into();
        fields["wait_ms"] = (wait.as_millis() as u64).into();
        fields["lease_ms"] = (QUEUE_LEASE.as_millis() as u64).into();
        fields["id"] = format!("{:016x}-{}", self.instance, self.fetches).into();
        let patience = wait + ASK_TIMEOUT;
        let answer = self.messages.ask("queue.next", &fields, patience).await?;
        serde_json::from_value(answer)
            .map_err(|error| MessagesError::Refused(format!("an answer makes no sense: {error}")))
    }
}

/// An error that passes by itself.
fn is_passing(error: &MessagesError) -> bool {
    let passing = ["storage-failed", "too-many-requests", "unreadable"];
    matches!(error, MessagesError::Denied { code, .. } if passing.contains(&code.as_str()))
}

fn queued(envelope: Envelope) -> Queued {
    let header = |name: &str| {
        let mut headers = envelope.headers.iter();
        let (_, value) = headers.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        value.as_str().map(str::to_owned)
    };
    let decode = |text: &String| base64::engine::general_purpose::STANDARD.decode(text).ok();
    let (from, instance) = (header(FROM_HEADER), header(INSTANCE_HEADER));
    let payload = match envelope.text {
        Some(text) => text.into_bytes(),
        None => envelope
            .base64
            .as_ref()
            .and_then(decode)
            .unwrap_or_default(),
    };
    Queued {
        seq: envelope.seq,
        topic: envelope.topic,
        published_us: envelope.published_us,
        from,
        instance,
        payload,
    }
}
