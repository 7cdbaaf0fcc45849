//! Brings the events of a bench client to the server: in order, each until it is acknowledged as
//! synced, across lost connections and server restarts.
//!
//! One thread of its own with a small runtime, so that the workers' process is disturbed by nothing
//! but one write per event. The caller appends to the event log; the thread reads it and sends.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pinnace_proto::api::JoinRequest;
use pinnace_proto::{DOCUMENT_VERSION, Event};
use tokio::sync::{Notify, watch};

use crate::api::{Api, ApiError};
use crate::limits::{ACKNOWLEDGE_TIMEOUT, RETRY_PAUSE_MAX};
use crate::messages::{Change, Messages, MessagesError};
use crate::spool::{self, EventLog, Undelivered};

/// Who a courier works for, and where it brings the events.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server; `None` only logs the events.
    pub api: Option<Api>,
    /// The run.
    pub run: String,
    /// The client's name in it.
    pub client: String,
    /// This process: random, 16 hex digits.
    pub instance: String,
    /// Time between heartbeats, microseconds.
    pub heartbeat_us: u64,
    /// Folder of the event logs.
    pub folder: PathBuf,
}

/// Why a courier cannot start or take an event.
#[derive(Debug, thiserror::Error)]
pub enum CourierError {
    /// The server does not answer or refuses the client.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The NATS door does not answer.
    #[error(transparent)]
    Messages(#[from] MessagesError),
    /// The event log cannot be written.
    #[error("the event log in {folder} cannot be written: {source}")]
    Log {
        /// Its folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How delivery ended.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Events the server has not acknowledged.
    pub undelivered: u64,
    /// The event log, kept.
    pub log: PathBuf,
}

/// The caller's end.
pub struct Courier {
    log: EventLog,
    folder: PathBuf,
    delivery: Option<(Arc<Shared>, JoinHandle<()>)>,
}

struct Shared {
    /// A line was added, or the end was called.
    more: Notify,
    /// Set when no more lines will come; the time until which to try.
    end: watch::Sender<Option<Instant>>,
    /// Counts the connections made: each new one must join again, and what was under way on the
    /// old one is sent again.
    connections: watch::Sender<u64>,
}

impl Courier {
    /// Connects, joins the run and starts delivering; without a server only begins the log.
    pub fn start(settings: Settings) -> Result<Self, CourierError> {
        let folder = settings.folder.clone();
        let failed = |source| CourierError::Log {
            folder: folder.clone(),
            source,
        };
        let stem = format!("{}.{}.{}", settings.run, settings.client, settings.instance);
        let Some(api) = settings.api.clone() else {
            let log = EventLog::begin(&folder, &stem, spool::NO_SERVER).map_err(failed)?;
            return Ok(Self {
                log,
                folder,
                delivery: None,
            });
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let shared = Arc::new(Shared {
            more: Notify::new(),
            end: watch::Sender::new(None),
            connections: watch::Sender::new(0),
        });
        let address = api.nats_address()?;
        let messages = runtime.block_on(connect(&address, &settings.client, shared.clone()))?;
        join(&api, &settings, messages.connection())?;
        let log = EventLog::begin(&folder, &stem, api.base()).map_err(failed)?;
        let own = Undelivered::open(log.path()).map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("pn-courier".into())
            .spawn({
                let shared = shared.clone();
                move || runtime.block_on(work(api, settings, messages, own, shared))
            })
            .map_err(failed)?;
        Ok(Self {
            log,
            folder,
            delivery: Some((shared, thread)),
        })
    }

    /// Where the events are logged.
    pub fn log(&self) -> &Path {
        self.log.path()
    }

    /// Logs one event and sends it as soon as may be.
    pub fn send(&mut self, event: &Event) -> Result<(), CourierError> {
        let failed = |source| CourierError::Log {
            folder: self.folder.clone(),
            source,
        };
        let json = serde_json::to_string(event).map_err(|error| failed(error.into()))?;
        self.log.add(&json).map_err(failed)?;
        if let Some((shared, _)) = &self.delivery {
            shared.more.notify_one();
        }
        Ok(())
    }

    /// Delivers the rest, for at most `patience`, and says what is left.
    pub fn finish(self, patience: Duration) -> Result<Delivery, CourierError> {
        let Self {
            log,
            folder,
            delivery,
        } = self;
        let path = log.path().to_owned();
        let Some((shared, thread)) = delivery else {
            return Ok(Delivery {
                undelivered: 0,
                log: path,
            });
        };
        shared.end.send_replace(Some(Instant::now() + patience));
        shared.more.notify_one();
        // The thread ends by itself; should it have panicked, the count below tells.
        let _ = thread.join();
        let undelivered = Undelivered::open(&path).and_then(|undelivered| undelivered.count());
        let undelivered = undelivered.map_err(|source| CourierError::Log { folder, source })?;
        Ok(Delivery {
            undelivered,
            log: path,
        })
    }
}

async fn connect(
    address: &str,
    name: &str,
    shared: Arc<Shared>,
) -> Result<Messages, MessagesError> {
    let changed = move |change| {
        if change == Change::Connected {
            shared
                .connections
                .send_modify(|connections| *connections += 1);
        }
    };
    Messages::connect(address, name, changed).await
}

fn join(api: &Api, settings: &Settings, connection: u64) -> Result<(), ApiError> {
    let request = JoinRequest {
        v: DOCUMENT_VERSION,
        client: settings.client.clone(),
        instance: settings.instance.clone(),
        connection,
        heartbeat_us: settings.heartbeat_us,
    };
    api.join(&settings.run, &request).map(drop)
}

/// The thread: own events first, what earlier clients left behind beside them.
async fn work(
    api: Api,
    settings: Settings,
    messages: Messages,
    own: Undelivered,
    shared: Arc<Shared>,
) {
    let found = spool::leftovers(&settings.folder, api.base()).unwrap_or_default();
    let leftovers = async {
        for (path, _lock) in found {
            if let Ok(undelivered) = Undelivered::open(&path) {
                let _ = deliver(undelivered, &messages, &shared, false).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let rejoin = keep_joined(&api, &settings, &messages, &shared);
    tokio::select! {
        result = deliver(own, &messages, &shared, true) => {
            // The log could not be read; what it holds is counted as undelivered.
            drop(result);
        }
        () = leftovers => {}
        () = rejoin => {}
        () = past_end(&shared) => {}
    }
}

/// Done when the end was called and its time is over.
async fn past_end(shared: &Shared) {
    let mut end = shared.end.subscribe();
    let at = match end.wait_for(Option::is_some).await {
        Ok(end) => *end,
        Err(_) => return,
    };
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// Tells the server on every new connection which client it belongs to.
async fn keep_joined(api: &Api, settings: &Settings, messages: &Messages, shared: &Shared) {
    let mut connections = shared.connections.subscribe();
    while connections.changed().await.is_ok() {
        loop {
            let (api, settings) = (api.clone(), settings.clone());
            let connection = messages.connection();
            let joining = move || join(&api, &settings, connection);
            let joined = tokio::task::spawn_blocking(joining).await;
            if matches!(joined, Ok(Ok(()))) {
                break;
            }
            tokio::time::sleep(RETRY_PAUSE_MAX).await;
        }
    }
}

/// Sends line after line until all is delivered; while the log `grows`, also until the end was
/// called.
async fn deliver(
    mut undelivered: Undelivered,
    messages: &Messages,
    shared: &Shared,
    grows: bool,
) -> io::Result<()> {
    let mut connections = shared.connections.subscribe();
    loop {
        while let Some(line) = undelivered.next()? {
            let topic = match serde_json::from_str::<Event>(line) {
                Ok(event) => event.topic(),
                // A line that is no event was not written by us; it cannot be delivered ever.
                Err(_) => {
                    undelivered.delivered()?;
                    continue;
                }
            };
            let payload = line.as_bytes().to_vec();
            connections.mark_unchanged();
            tokio::select! {
                acknowledged = acknowledged(messages, &topic, payload) => {
                    if acknowledged {
                        undelivered.delivered()?;
                    } else {
                        tokio::time::sleep(RETRY_PAUSE_MAX / 4).await;
                    }
                }
                // A new connection: the answer on the old one will not come.
                _ = connections.changed() => {}
            }
        }
        if !grows {
            return Ok(());
        }
        let ended = shared.end.borrow().is_some();
        // Looked at once more after the end was called: no line comes after that.
        if undelivered.next()?.is_some() {
            continue;
        }
        if ended {
            return Ok(());
        }
        shared.more.notified().await;
    }
}

/// Publishes one event; true when the server said it is synced.
async fn acknowledged(messages: &Messages, topic: &str, payload: Vec<u8>) -> bool {
    match messages.request(topic, payload, ACKNOWLEDGE_TIMEOUT).await {
        Ok(answer) => serde_json::from_slice::<serde_json::Value>(&answer)
            .is_ok_and(|answer| answer.get("seq").is_some_and(serde_json::Value::is_u64)),
        Err(_) => false,
    }
}
