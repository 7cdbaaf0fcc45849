//! The client's end of a mirror: finds out what the share lacks, and sends it.
//!
//! [`mirror`] runs sessions until it is done or stopped; a session (`session`) connects, learns what the server has, compares
//! everything (`scan`, `compare`, `content`), and then either ends or goes on with what the watcher tells (`live`).
//!
//! Invariant: nothing is taken for equal that was not compared, and nothing is removed that the guard has not let pass. Left to
//! others: the transport, what people are shown, where things lie.

mod compare;
mod content;
mod failures;
mod greeting;
mod guard;
mod large;
mod ledger;
mod listen;
mod live;
mod lost;
mod names;
mod outbox;
mod packer;
mod parts;
mod removing;
mod rules;
mod scan;
mod session;
mod skip;
mod state;
mod telling;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pinnace_proto::sync::Durability;

use crate::filter::{Filter, FilterError};
use crate::fs::Root;
use crate::index::StoreError;
use crate::path;
use crate::server::Link;
use crate::watch::{Watch, WatchError};
use crate::wire::FrameKind;
pub use guard::DeleteLimit;
use guard::Guard;
use ledger::{Ledger, Over};
use outbox::{Outbox, Way};
use parts::Streams;
pub use session::mirror;
use skip::Skip;
pub use telling::{Gauge, Reading};

/// What to mirror, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source.
    pub root: PathBuf,
    /// Where what the server has is remembered; one for each source and share.
    pub state: PathBuf,
    /// Name of the share.
    pub share: String,
    /// Who this is, for people.
    pub name: String,
    /// What is to be certain.
    pub durability: Durability,
    /// What is left out, in the syntax of `.gitignore`.
    pub excludes: Vec<String>,
    /// How much may be deleted at once.
    pub delete_limit: DeleteLimit,
    /// Bytes a second that may be sent.
    pub bandwidth: Option<u64>,
    /// End when both are equal.
    pub once: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Makes connections to the server.
pub trait Connect: Sync {
    /// A connection that became a session's.
    ///
    /// # Errors
    /// Why there is none.
    fn connect(&self) -> Result<Link, ConnectError>;
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ConnectError {
    /// What happened.
    pub detail: String,
    /// Trying again is of no use.
    pub is_final: bool,
}

/// What happens, for people and programs.
#[derive(Clone, Debug)]
pub enum Told<'a> {
    /// A session began.
    Connected,
    /// A change is sent (or would be).
    Change {
        /// `put`, `rename` or `remove`.
        what: &'static str,
        /// Where.
        path: &'a [u8],
        /// Where it was, of a rename.
        from: Option<&'a [u8]>,
        /// Why, when that is all that comes of it (`dry_run`).
        why: Option<&'a str>,
    },
    /// The share is equal to the source.
    Synced {
        /// The last change.
        seq: u64,
        /// Entries.
        entries: u64,
        /// Bytes sent in this session.
        sent_bytes: u64,
    },
    /// The connection was lost; it is tried again.
    Lost(&'a str),
    /// More happened at once than the system keeps; everything is compared.
    Overflowed,
    /// Some directories cannot be watched.
    Unwatched(&'a str),
    /// An entry is not mirrored, or not as it is now.
    Skipped {
        /// Where.
        path: &'a [u8],
        /// Why.
        why: &'a str,
    },
}

/// Who wants to hear it.
pub trait Tell: Sync {
    /// Something happened.
    fn tell(&self, told: &Told<'_>);
    /// Where it is noted how far a session is, if anybody looks there.
    fn gauge(&self) -> Option<&Gauge> {
        None
    }
}

/// Why mirroring ended without being done.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// It stopped for safety.
    #[error("{0}")]
    Halted(String),
    /// The server does not want it.
    #[error("{detail}")]
    Refused {
        /// The server's word for it.
        code: String,
        /// What happened, and what to do.
        detail: String,
    },
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The source cannot be read.
    #[error("{path}: {error}")]
    Source {
        /// The source.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Source and share lie in one another.
    #[error("{0}")]
    Overlap(&'static str),
    /// Another process mirrors the same source into the same share.
    #[error("another process on this machine already mirrors this directory into the share")]
    Busy,
    /// What is known cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A pattern means nothing.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The source cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The two do not come to terms.
    #[error(
        "client and server do not agree on what is in the share, also after comparing everything: {0}"
    )]
    Disagreement(String),
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The last change that is in the share.
    pub seq: u64,
    /// Changes that were sent.
    pub changes: u64,
    /// Entries of the source.
    pub entries: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// What is not in the share as it is in the source, and why.
    pub skipped: Vec<(Vec<u8>, String)>,
    /// It was told to stop, so the two need not be equal.
    pub is_interrupted: bool,
}

impl Outcome {
    fn interrupted() -> Self {
        Self {
            is_interrupted: true,
            ..Self::default()
        }
    }
}

/// Ends mirroring from another thread.
#[derive(Default)]
pub struct Stop(Mutex<StopState>, Condvar);

#[derive(Default)]
struct StopState {
    is_stopped: bool,
    ledger: Option<Arc<Ledger>>,
}

impl Stop {
    /// Ends it.
    pub fn stop(&self) {
        let mut state = held(&self.0);
        state.is_stopped = true;
        if let Some(ledger) = &state.ledger {
            ledger.end(Over::Stopped);
        }
        self.1.notify_all();
    }

    /// Waits a while; whether it is to end.
    fn wait(&self, time: Duration) -> bool {
        let state = held(&self.0);
        let waited = self
            .1
            .wait_timeout_while(state, time, |state| !state.is_stopped);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_stopped
    }

    fn set(&self, ledger: &Arc<Ledger>) {
        let mut state = held(&self.0);
        state.ledger = Some(ledger.clone());
        if state.is_stopped {
            ledger.end(Over::Stopped);
        }
    }
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a file that changed while it was read is left alone.
const LATER: Duration = Duration::from_millis(50);

/// A session at work.
struct Mirror<'a> {
    settings: &'a Settings,
    tell: &'a dyn Tell,
    root: Root,
    device: u64,
    filter: Filter,
    ledger: Arc<Ledger>,
    outbox: Outbox,
    window_bytes: u64,
    threads: usize,
    watch: Option<Watch>,
    guard: Mutex<Guard>,
    /// Paths to compare again at once, those that have to wait a moment, and directories among these to be compared with
    /// all that is beneath.
    again: Mutex<HashSet<Vec<u8>>>,
    later: Mutex<HashMap<Vec<u8>, Instant>>,
    deep: Mutex<HashSet<Vec<u8>>>,
    /// Files that were closed by who could write to them: they are read, whatever their times say.
    closed: Mutex<HashSet<Vec<u8>>>,
    gone: Mutex<Vec<Vec<u8>>>,
    skipped: Mutex<BTreeMap<Vec<u8>, String>>,
    unwatched: Mutex<HashSet<Vec<u8>>>,
    /// What the server could not take, and why; tried again now and then.
    refused: Mutex<BTreeMap<Vec<u8>, String>>,
    sizes: Mutex<HashSet<u64>>,
    /// Files with several names that are being compared, by their inodes, and by which name.
    claimed: Mutex<HashMap<u64, Vec<u8>>>,
    /// Names of such files that were compared since all was quiet.
    linked: Mutex<HashSet<Vec<u8>>>,
    streams: Streams,
    changes: AtomicU64,
}

impl Mirror<'_> {
    fn is_over(&self) -> bool {
        self.ledger.is_over()
    }

    fn send(&self, way: Way, kind: FrameKind, parts: &[&[u8]]) {
        if let Err(error) = self.outbox.send(way, kind, parts) {
            self.ledger.end(Over::Lost(error.to_string()));
        }
        if let Some(gauge) = self.tell.gauge() {
            gauge.sent(parts.iter().map(|part| part.len()).sum());
        }
    }

    /// Paths to compare again.
    fn again(&self, paths: Vec<Vec<u8>>) {
        held(&self.again).extend(paths);
        self.ledger.wake();
    }

    fn again_later(&self, path: Vec<u8>) {
        held(&self.later).insert(path, Instant::now() + LATER);
        self.ledger.wake();
    }

    /// The source does not have this any more, as far as was seen.
    fn collect(&self, path: Vec<u8>) {
        held(&self.gone).push(path);
    }

    fn skip(&self, at: &[u8], skip: Skip) {
        let why = skip.why();
        let before = held(&self.skipped).insert(at.to_vec(), why.clone());
        if before.as_ref() != Some(&why) {
            self.tell.tell(&Told::Skipped {
                path: at,
                why: &why,
            });
        }
    }

    fn unskip(&self, at: &[u8]) {
        let mut skipped = held(&self.skipped);
        if !skipped.is_empty() {
            skipped.remove(at);
        }
    }

    /// What is gone is not left out any more.
    fn unskip_beneath(&self, at: &[u8]) {
        held(&self.refused).retain(|path, _| !path::is_within(path, at));
        let mut skipped = held(&self.skipped);
        if !skipped.is_empty() {
            skipped.retain(|path, _| !path::is_within(path, at));
        }
    }

    /// Watches a directory before it is listed. Whether it was watched already, so that events tell what happens in it;
    /// also if it cannot be, and is looked at now and then.
    fn watch_dir(&self, at: &[u8], fd: &std::os::fd::OwnedFd) -> bool {
        use std::os::fd::AsFd;
        let Some(watch) = &self.watch else {
            return true;
        };
        if at.is_empty() {
            return true;
        }
        let (dir, name) = path::split(at);
        let before = watch.dir_at(at);
        let added = match watch.dir_at(dir) {
            Some(parent) => watch.add(parent, name, fd.as_fd()),
            None => Err(WatchError::NoParent),
        };
        match added {
            Ok(id) => {
                held(&self.unwatched).remove(at);
                before == Some(id)
            }
            // The tree is being moved about: once more when that has been told.
            Err(WatchError::NoParent) if !held(&self.unwatched).contains(dir) => {
                self.again_later(at.to_vec());
                false
            }
            Err(error) => {
                if matches!(error, WatchError::Limit { .. }) && held(&self.unwatched).is_empty() {
                    self.tell.tell(&Told::Unwatched(&error.to_string()));
                }
                !held(&self.unwatched).insert(at.to_vec())
            }
        }
    }
}
