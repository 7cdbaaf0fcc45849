//! Messages over the NATS door, for programs that listen or ask; what waits in a durable queue is in
//! `queue`.

use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, ServerError, Subscriber};
use serde_json::Value;
use tokio::sync::watch;
use tokio_stream::StreamExt;

use crate::limits::{ASK_TIMEOUT, CONNECT_TIMEOUT, RETRY_PAUSE_MAX};
use crate::login::Login;

/// A connection to the NATS door that is re-made by itself when it breaks.
#[derive(Clone)]
pub struct Messages {
    client: Client,
    link: watch::Receiver<Link>,
    /// The last thing the server did not permit, in its words.
    refusals: watch::Receiver<Option<String>>,
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) is_up: bool,
    /// Rises whenever it is made anew.
    generation: u64,
}

/// Why messages do not flow.
#[derive(Debug, thiserror::Error)]
pub enum MessagesError {
    /// Nobody answers there.
    #[error("no NATS door answers at {address}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the network said.
        reason: String,
    },
    /// The NATS door wants to know who is there, or does not believe it.
    #[error("the NATS door at {address} does not let this client in: {reason}")]
    Unauthorised {
        /// Where.
        address: String,
        /// What it said.
        reason: String,
    },
    /// Whoever this client is may not do that.
    #[error("the server does not permit it: {0}")]
    Forbidden(String),
    /// The topic, pattern or queue group is not well formed.
    #[error("{0}")]
    Refused(String),
    /// Nobody listens on the topic of a request.
    #[error("nobody listens on `{0}`")]
    NoResponders(String),
    /// The server refused a request on `$PN.`, and said why.
    #[error("{detail}")]
    Denied {
        /// Stable code, such as `no-such-subscription`.
        code: String,
        /// What was wrong.
        detail: String,
    },
    /// No answer in time.
    #[error("no answer on `{0}` within {1:?}")]
    Timeout(String, Duration),
}

/// The header that says who sent a message.
pub const FROM_HEADER: &str = "Pinnace-From";

/// The header that says how many messages the server dropped before this one.
pub const DROPPED_HEADER: &str = "Pinnace-Dropped";

/// The header that says which program of that name did.
pub const INSTANCE_HEADER: &str = "Pinnace-Instance";

/// Where messages to one client go: its name on the roster, with `-` for what no topic can hold.
pub fn direct_topic(client: &str) -> String {
    format!("pinnace.to.{}", pinnace_proto::name::from_text(client))
}

/// What a connection tells about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there (again).
    Connected,
    /// It broke; it is being re-made.
    Disconnected,
}

impl Messages {
    /// Connects to `[LOGIN@]HOST:PORT` as `name`; `changed` is told of every break and return.
    pub async fn connect(
        address: &str,
        name: &str,
        changed: impl Fn(Change) + Send + Sync + 'static,
    ) -> Result<Self, MessagesError> {
        let changed = std::sync::Arc::new(changed);
        let (state, link) = watch::channel(Link {
            is_up: true,
            generation: 0,
        });
        let state = std::sync::Arc::new(state);
        let (refused, refusals) = watch::channel(None);
        let refused = std::sync::Arc::new(refused);
        let (login, address) = Login::split(address);
        let options = login
            .as_ref()
            .map_or_else(ConnectOptions::new, Login::options)
            .name(name)
            .connection_timeout(CONNECT_TIMEOUT)
            .ignore_discovered_servers()
            .reconnect_delay_callback(|attempt| {
                RETRY_PAUSE_MAX.min(Duration::from_millis(20 << attempt.min(10)))
            })
            .event_callback(move |event| {
                let (changed, state) = (changed.clone(), state.clone());
                let refused = refused.clone();
                async move {
                    match event {
                        async_nats::Event::Connected => {
                            state.send_modify(|link| {
                                link.is_up = true;
                                link.generation += 1;
                            });
                            changed(Change::Connected);
                        }
                        async_nats::Event::Disconnected => {
                            state.send_modify(|link| link.is_up = false);
                            changed(Change::Disconnected);
                        }
                        async_nats::Event::ServerError(ServerError::Other(text))
                            if is_refusal(&text) =>
                        {
                            refused.send_replace(Some(text));
                        }
                        _ => {}
                    }
                }
            });
        let connected = options.connect(address).await;
        let client = connected.map_err(|error| {
            let (address, reason) = (address.to_owned(), error.to_string());
            match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    MessagesError::Unauthorised { address, reason }
                }
                _ => MessagesError::Unreachable { address, reason },
            }
        })?;
        Ok(Self {
            client,
            link,
            refusals,
        })
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Returns once the server did not permit something this client did, and says what.
    pub async fn refused(&self) -> MessagesError {
        let mut refusals = self.refusals.clone();
        match refusals.wait_for(Option::is_some).await {
            Ok(text) => MessagesError::Forbidden(text.clone().unwrap_or_default()),
            // The connection was closed for good.
            Err(_) => std::future::pending().await,
        }
    }

    /// Asks the server itself, by a request on `$PN.`; `request` is what follows it.
    pub async fn ask(
        &self,
        request: &str,
        fields: &Value,
        patience: Duration,
    ) -> Result<Value, MessagesError> {
        let topic = format!("$PN.{request}");
        let payload = fields.to_string().into_bytes();
        let answer = self.request(&topic, payload, patience).await?;
        let mut answer: Value = serde_json::from_slice(&answer)
            .map_err(|error| MessagesError::Refused(format!("`{topic}` was answered: {error}")))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match answer.get_mut("error") {
            Some(error) => Err(MessagesError::Denied {
                code: text(&error["code"]),
                detail: text(&error["detail"]),
            }),
            None => Ok(answer),
        }
    }

    /// Number of the current connection at the server.
    pub fn connection(&self) -> u64 {
        self.client.server_info().client_id
    }

    /// Says what becomes of this connection's subscriptions to a pattern when they are too far behind, by
    /// the fields of `$PN.slow`. It holds until the connection breaks.
    pub async fn choose_slow(&self, pattern: &str, fields: &Value) -> Result<(), MessagesError> {
        let mut fields = fields.clone();
        fields["topic"] = pattern.into();
        self.ask("slow", &fields, ASK_TIMEOUT).await.map(drop)
    }

    /// Live messages of a pattern, shared with the members of `group` if one is given.
    pub async fn subscribe(
        &self,
        pattern: &str,
        group: Option<&str>,
    ) -> Result<Subscription, MessagesError> {
        let refused = |error: async_nats::SubscribeError| MessagesError::Refused(error.to_string());
        let pattern = pattern.to_owned();
        let subscriber = match group {
            Some(group) => self.client.queue_subscribe(pattern, group.to_owned()).await,
            None => self.client.subscribe(pattern).await,
        }
        .map_err(refused)?;
        self.flush().await?;
        Ok(Subscription { subscriber })
    }

    /// Asks and waits for one answer.
    pub async fn request(
        &self,
        topic: &str,
        payload: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, MessagesError> {
        let request = async_nats::Request::new()
            .payload(payload.into())
            .timeout(Some(patience));
        // An earlier refusal was of something else.
        let mut refusals = self.refusals.clone();
        refusals.mark_unchanged();
        let answered = tokio::select! {
            answered = self.client.send_request(topic.to_owned(), request) => answered,
            Ok(()) = refusals.changed() => {
                let text = refusals.borrow().clone().unwrap_or_default();
                return Err(MessagesError::Forbidden(text));
            }
        };
        match answered {
            Ok(answer) => Ok(answer.payload.into()),
            Err(error) => Err(match error.kind() {
                async_nats::RequestErrorKind::NoResponders => {
                    MessagesError::NoResponders(topic.to_owned())
                }
                async_nats::RequestErrorKind::TimedOut => {
                    MessagesError::Timeout(topic.to_owned(), patience)
                }
                _ => MessagesError::Refused(error.to_string()),
            }),
        }
    }

    /// Returns when everything sent has reached the server.
    pub async fn flush(&self) -> Result<(), MessagesError> {
        self.client
            .flush()
            .await
            .map_err(|error| MessagesError::Refused(error.to_string()))
    }
}

/// Whether a server's error is about what this client may do; the connection goes on.
fn is_refusal(text: &str) -> bool {
    text.to_ascii_lowercase()
        .starts_with("permissions violation")
}

/// Live messages, in the order they were published by each publisher.
pub struct Subscription {
    subscriber: Subscriber,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where it was published.
    pub topic: String,
    /// Where an answer should go.
    pub reply: Option<String>,
    /// Who sent it, by the header `Pinnace-From`.
    pub from: Option<String>,
    /// How many before it were dropped because this reader was too far behind.
    pub dropped: u64,
    /// The message itself.
    pub payload: Vec<u8>,
}

impl Subscription {
    /// Ends it, before whatever is sent later.
    pub async fn end(mut self) {
        // A connection that is gone has ended it.
        let _ = self.subscriber.unsubscribe().await;
    }

    /// The next message; `None` when the connection was closed for good.
    pub async fn next(&mut self) -> Option<Received> {
        let message = self.subscriber.next().await?;
        let headers = message.headers.as_ref();
        let header = |name| headers.and_then(|headers| headers.get(name));
        let dropped = header(DROPPED_HEADER).and_then(|count| count.as_str().parse().ok());
        Some(Received {
            from: header(FROM_HEADER).map(|from| from.as_str().to_owned()),
            dropped: dropped.unwrap_or(0),
            topic: message.subject.to_string(),
            reply: message.reply.map(|reply| reply.to_string()),
            payload: message.payload.into(),
        })
    }
}
