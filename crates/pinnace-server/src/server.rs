//! Starting and stopping a server: folder, storage, doors, collector; and down again in order.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::api::Info;
use pinnace_runs::{OpenError, Reader, Store};
use pinnace_sync::server::Shares;
use pinnace_topics::{Broker, Start, StorageState};
use tokio::net::TcpListener;

use crate::access::Access;
use crate::channels::Channels;
use crate::clock::now_us;
use crate::collector::{self, Collector, Command};
use crate::harbour::{Harbour, Stores};
use crate::lanes::Lanes;
use crate::limits::{DRAIN_MAX, LAME_DUCK_GRACE, LAME_DUCK_SPREAD, PAYLOAD_BYTES_MAX, TICK};
use crate::lock::{DataLock, LockError};
use crate::message_log::MessageLog;
use crate::mirrors::Mirrors;
use crate::roster::Roster;
use crate::{Settings, dead_letters, http_door, idle, nats_door};

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder is taken or cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A door's address cannot be bound.
    #[error("the {door} door cannot listen on {address}: {reason}")]
    Bind {
        /// `HTTP` or `NATS`.
        door: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Others could reach it and nobody would be asked who they are.
    #[error(
        "refusing to listen on {address}: other hosts could reach it, and nobody is asked who they \
         are. Set users or a token in the configuration (server: {{auth: …}}), or listen on 127.0.0.1 \
         and reach it through an ssh tunnel, or, in a network you trust, add \
         --expose-without-authentication"
    )]
    Exposed {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The users cannot be read from the settings.
    #[error("server.auth: {0}")]
    Auth(String),
    /// The message log cannot be opened.
    #[error("the message log in {folder} cannot be opened: {reason}")]
    Log {
        /// Its folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file of the message log cannot be written.
    #[error("the message log {file} cannot be written: {source}; choose another file")]
    MessageLog {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The run database cannot be opened.
    #[error(transparent)]
    Runs(#[from] OpenError),
    /// The system refused a thread or a task.
    #[error("the server cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Why a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// It was asked to.
    Asked,
    /// Nobody used it.
    Idle,
}

/// A server whose doors are open.
pub struct Running {
    harbour: Arc<Harbour>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    collector: JoinHandle<()>,
    exit_when_idle: Option<Duration>,
    _lock: DataLock,
}

impl Running {
    /// Opens storage and doors. On return every door accepts.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let access = Access::of(&settings.auth).map_err(StartError::Auth)?;
        let asks = !access.is_open() || settings.expose_without_authentication;
        for address in [settings.http, settings.nats] {
            if !address.ip().is_loopback() && !asks {
                return Err(StartError::Exposed { address });
            }
        }
        let lock = DataLock::take(&settings.data)?;
        let http = bind("HTTP", settings.http).await?;
        let nats = bind("NATS", settings.nats).await?;
        let info = info(&settings, http.local_addr()?, nats.local_addr()?);

        let database = settings.data.join("runs.db");
        let store = Store::open(&database)?;
        let channels = Channels::open(&settings.data)?;
        let (broker, damage) = open_broker(&settings).await?;
        let (commands, received) = mpsc::channel();
        let mirrors = Arc::new(Mirrors::default());
        let stores = Stores {
            broker,
            damage,
            runs: Reader::new(&database),
            channels,
            roster: Roster::open(&settings.data)?,
            shares: Arc::new(Shares::new(&settings.data, mirrors.clone())),
        };
        let mut harbour = Harbour::new(stores, info, commands, access, Lanes::start()?, &settings);
        harbour.message_log = open_message_log(&settings)?;
        let harbour = Arc::new(harbour);
        harbour.answer_by_batch();
        mirrors.set(Arc::downgrade(&harbour));
        harbour.shares.recover();
        let collector = Collector::new(harbour.clone(), store, received, settings.report.clone());
        let collector = std::thread::Builder::new()
            .name("pn-collector".into())
            .spawn(|| collector.run())?;
        let tasks = vec![
            tokio::spawn(http_door::serve(http, harbour.clone())),
            tokio::spawn(nats_door::serve(nats, harbour.clone())),
            tokio::spawn(heal_storage(harbour.clone())),
            tokio::spawn(end_leases(harbour.clone())),
        ];
        Ok(Self {
            harbour,
            tasks,
            collector,
            exit_when_idle: settings.exit_when_idle,
            _lock: lock,
        })
    }

    /// Where its doors are, and who it is.
    pub fn info(&self) -> &Info {
        &self.harbour.info
    }

    /// A way to open logs anew, for whoever hears that they were moved away.
    pub fn reopen(&self) -> Reopen {
        Reopen(self.harbour.message_log.clone())
    }

    /// Serves until `stop` is done or nobody used it for too long, then stops in order: doors,
    /// connections, collector with its report, log.
    pub async fn until(self, stop: impl Future<Output = ()>) -> StopCause {
        let connections = self.harbour.connections.subscribe();
        let idle = async {
            match self.exit_when_idle {
                Some(patience) => idle::idle_for(patience, connections).await,
                None => std::future::pending().await,
            }
        };
        let cause = tokio::select! {
            () = stop => StopCause::Asked,
            () = idle => StopCause::Idle,
        };
        tracing::info!(?cause, "stopping");
        self.stop().await;
        cause
    }

    async fn stop(self) {
        self.harbour.stopping.send_replace(true);
        self.harbour.shares.stop();
        if tokio::time::timeout(DRAIN_MAX, send_away(&self.harbour))
            .await
            .is_err()
        {
            tracing::warn!("connections were cut off");
        }
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the server ended badly");
            }
        }
        let _ = self.harbour.collector.send(Command::Stop);
        let collector = self.collector;
        match tokio::task::spawn_blocking(move || collector.join()).await {
            Ok(Ok(())) => {}
            _ => tracing::error!("the collector ended badly"),
        }
        if let Some(log) = self.harbour.message_log.clone() {
            let _ = tokio::task::spawn_blocking(move || log.finish()).await;
        }
    }
}

/// Opens the message log of a server anew.
#[derive(Clone)]
pub struct Reopen(Option<Arc<MessageLog>>);

impl Reopen {
    /// The next line goes to whatever is at the path then.
    pub fn now(&self) {
        if let Some(log) = &self.0 {
            log.reopen();
        }
    }
}

fn open_message_log(settings: &Settings) -> Result<Option<Arc<MessageLog>>, StartError> {
    let Some(wanted) = &settings.message_log else {
        return Ok(None);
    };
    let log = MessageLog::start(wanted).map_err(|source| StartError::MessageLog {
        file: wanted.file.clone(),
        source,
    })?;
    Ok(Some(Arc::new(log)))
}

/// Lets clients leave by themselves for a while, then closes what is left, one by one.
async fn send_away(harbour: &Harbour) {
    /// Between two closings, unless there are so many that more go at a time.
    const STEP: Duration = Duration::from_millis(1);
    let mut connections = harbour.connections.subscribe();
    let all_gone = connections.wait_for(|open| *open == 0);
    if tokio::time::timeout(LAME_DUCK_GRACE, all_gone)
        .await
        .is_ok()
    {
        return;
    }
    let steps = (LAME_DUCK_SPREAD.as_micros() / STEP.as_micros()) as usize;
    let at_a_time = harbour.connections.borrow().div_ceil(steps);
    while *harbour.connections.borrow() > 0 {
        for _ in 0..at_a_time {
            harbour.go.notify_one();
        }
        tokio::time::sleep(STEP).await;
    }
}

fn info(settings: &Settings, http: SocketAddr, nats: SocketAddr) -> Info {
    use std::hash::{BuildHasher, Hasher};
    let random = || std::hash::RandomState::new().build_hasher().finish();
    Info {
        v: DOCUMENT_VERSION,
        server: "pinnace".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        server_id: format!("{:016x}{:016x}", random(), random()),
        http: http.to_string(),
        nats: nats.to_string(),
        pid: std::process::id(),
        started_us: now_us(),
        data: settings.data.display().to_string(),
        max_payload_bytes: PAYLOAD_BYTES_MAX as u64,
    }
}

async fn bind(door: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| {
        let flag = door.to_ascii_lowercase();
        let reason = match error.kind() {
            ErrorKind::AddrInUse => format!(
                "the port is in use, perhaps by another pinnace; choose another with --{flag} \
                 (port 0 picks a free one)"
            ),
            ErrorKind::PermissionDenied => {
                format!("{error}; ports below 1024 are for root, choose another with --{flag}")
            }
            ErrorKind::AddrNotAvailable => {
                format!("this host has no such address; choose another with --{flag}")
            }
            _ => error.to_string(),
        };
        StartError::Bind {
            door,
            address,
            reason,
        }
    })
}

/// Opens the log and makes sure of the collector's queue.
async fn open_broker(settings: &Settings) -> Result<(Broker, Vec<String>), StartError> {
    let folder = settings.data.join("log");
    let fail = |reason: String| StartError::Log {
        folder: folder.clone(),
        reason,
    };
    let opening = {
        let folder = folder.clone();
        move || {
            Broker::open(
                &folder,
                pinnace_topics::Options::default(),
                Arc::new(now_us),
            )
        }
    };
    let opened = tokio::task::spawn_blocking(opening).await;
    let (broker, recovery) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Err(fail(error.to_string())),
        Err(error) => return Err(fail(error.to_string())),
    };
    tracing::info!(
        queues = recovery.queues,
        messages = recovery.messages,
        segments = recovery.log.segments,
        "message log opened"
    );
    if let Some(torn) = &recovery.log.torn {
        let (segment, offset) = (&torn.segment, torn.offset);
        tracing::info!(segment, offset, "the unfinished end of the log was cut off");
    }
    let damage: Vec<String> = recovery.log.damage.iter().map(describe).collect();
    for problem in &damage {
        tracing::error!(problem, "the message log is damaged");
    }
    let (done, stored) = tokio::sync::oneshot::channel();
    let done = Box::new(move |result| drop(done.send(result)));
    broker
        .create_queue(collector::PATTERN, collector::NAME, Start::New, done)
        .map_err(|error| fail(error.to_string()))?;
    match stored.await {
        Ok(Ok(_)) => Ok((broker, damage)),
        Ok(Err(error)) => Err(fail(error.to_string())),
        Err(_) => Err(fail("the log closed while it was opened".to_owned())),
    }
}

/// A damaged place in words.
fn describe(damage: &pinnace_topics::Damage) -> String {
    let pinnace_topics::Damage {
        segment,
        offset,
        bytes,
        ..
    } = damage;
    let lost = match damage.lsns {
        Some((first, last)) if first == last => format!("record {first} is lost"),
        Some((first, last)) => format!("records {first} to {last} are lost"),
        None => "no record is lost".to_owned(),
    };
    let copy = match &damage.copy {
        Some(copy) => format!("; the bytes are kept in {}", copy.display()),
        None => String::new(),
    };
    format!("message log, segment {segment}: {bytes} bytes at {offset} are damaged, {lost}{copy}")
}

/// While storage is full, looks now and then whether there is space again.
async fn heal_storage(harbour: Arc<Harbour>) {
    const LOOK: Duration = Duration::from_secs(1);
    let mut was_full = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = harbour.stopped() => return,
        }
        let state = harbour.broker.state();
        let full = matches!(state, StorageState::Full(_));
        match state {
            StorageState::Full(reason) if !was_full => tracing::warn!(reason, "storage is full"),
            StorageState::Ok if was_full => tracing::info!("storage has space again"),
            _ => {}
        }
        was_full = full;
        if full {
            harbour.broker.probe();
        }
    }
}

/// Ends leases when they are over, and buries the messages nobody managed to work on.
async fn end_leases(harbour: Arc<Harbour>) {
    loop {
        let ticked = harbour.broker.tick(std::time::Instant::now());
        dead_letters::bury(&harbour, ticked.dead_letters);
        let latest = std::time::Instant::now() + TICK;
        let next = ticked.next.map_or(latest, |next| next.min(latest));
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = harbour.lease_ends.notified() => {}
            () = harbour.stopped() => return,
        }
    }
}

/// Accepting failed: too many open files, most likely. Existing connections go on.
pub(crate) async fn rest_after_accept_error(door: &str, error: &std::io::Error) {
    /// Long enough not to spin, short enough not to be noticed.
    const REST: Duration = Duration::from_millis(100);
    tracing::warn!(door, %error, "cannot accept a connection");
    tokio::time::sleep(REST).await;
}
