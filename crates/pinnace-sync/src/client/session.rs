//! Sessions: connecting, learning what the server has, comparing everything, and what comes after.
//!
//! Invariant: each session begins from what is on disk and certain; whatever the last one had under way is found by
//! comparing. Left to others: comparing itself, going on live.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pinnace_proto::sync::{ClientState, Durability, Phase, Refused};

use super::greeting::{attach, check_apart, greet, hello, learn, reach, unbegun, unhex};
use super::guard::{Guard, identity};
use super::ledger::{Ledger, Over, When, doubted};
use super::outbox::{Outbox, Way};
use super::parts::Streams;
use super::scan::{Depth, Task};
use super::{
    Connect, ConnectError, Mirror, MirrorError, Outcome, Settings, Skip, Stop, Tell, Told, held,
};
use crate::filter::Filter;
use crate::fs::{Root, boot_id};
use crate::ids::{hex, random};
use crate::index::{Change, Store};
use crate::path;
use crate::server::{Failure, FailureCode};
use crate::watch::{Watch, WatchError};
use crate::wire::FrameKind;

/// The longest pause between two tries to connect.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How often client and server may disagree in a row.
const RESYNCS_MAX: u32 = 3;
/// How long one that shall end by itself looks for a server that went away.
const PATIENCE: Duration = Duration::from_secs(60);

/// Mirrors until both are equal, or for ever.
///
/// # Errors
/// What ended it.
pub fn mirror(
    settings: &Settings,
    connect: &dyn Connect,
    tell: &dyn Tell,
    stop: &Stop,
) -> Result<Outcome, MirrorError> {
    let source = |error: std::io::Error| MirrorError::Source {
        path: settings.root.clone(),
        error,
    };
    let state = |error: std::io::Error| MirrorError::Source {
        path: settings.state.clone(),
        error,
    };
    if !std::fs::metadata(&settings.root).map_err(source)?.is_dir() {
        return Err(source(std::io::ErrorKind::NotADirectory.into()));
    }
    std::fs::create_dir_all(&settings.state).map_err(state)?;
    let lock = std::fs::File::create(settings.state.join("lock")).map_err(state)?;
    lock.try_lock().map_err(|_| MirrorError::Busy)?;
    let replica = replica(settings).map_err(state)?;
    let (mut tries, mut resyncs, mut lost_at) = (0u32, 0, None);
    loop {
        let ended = run(settings, connect, tell, stop, (&replica, resyncs > 0));
        let why = match ended {
            Ok(Ended::Done(outcome)) => return Ok(outcome),
            Ok(Ended::Over(Over::Stopped)) => return Ok(Outcome::interrupted()),
            Ok(Ended::Over(Over::Refused { code, detail })) => match code.as_str() {
                "stopping" | "removed" | "again" => detail,
                _ => return Err(MirrorError::Refused { code, detail }),
            },
            Ok(Ended::Over(Over::Resync(why))) => {
                resyncs += 1;
                if resyncs > RESYNCS_MAX {
                    return Err(MirrorError::Disagreement(why));
                }
                tracing::info!(why, "everything is compared anew");
                continue;
            }
            Ok(Ended::Over(Over::Lost(why))) => {
                (lost_at, tries, resyncs) = (Some(Instant::now()), 0, 0);
                why
            }
            Ok(Ended::Unbegun(why)) => {
                lost_at.get_or_insert_with(Instant::now);
                why
            }
            Err(MirrorError::Connect(ConnectError {
                detail,
                is_final: false,
            })) if lost_at.is_some() => detail,
            Err(error) => return Err(error),
        };
        let since = *lost_at.get_or_insert_with(Instant::now);
        if settings.once && since.elapsed() > PATIENCE {
            let is_final = false;
            return Err(ConnectError {
                detail: why,
                is_final,
            }
            .into());
        }
        tell.tell(&Told::Lost(&why));
        let pause = Duration::from_millis(50 << tries.min(8)).min(RETRY_MAX);
        tries += 1;
        if stop.wait(pause) {
            return Ok(Outcome::interrupted());
        }
    }
}

/// The identity of the client's index, made with it.
fn replica(settings: &Settings) -> std::io::Result<String> {
    let file = settings.state.join("replica");
    match std::fs::read_to_string(&file) {
        Ok(text) if text.len() == 32 => Ok(text),
        Ok(_) => {
            let id = hex(&random());
            std::fs::write(&file, &id)?;
            Ok(id)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = hex(&random());
            std::fs::write(&file, &id)?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}

pub(super) enum Ended {
    Done(Outcome),
    Over(Over),
    /// There is a server, and it was lost before the session began.
    Unbegun(String),
}

struct CountedReader(Box<dyn Read + Send>, Arc<AtomicU64>);

impl Read for CountedReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(into)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn run(
    settings: &Settings,
    connect: &dyn Connect,
    tell: &dyn Tell,
    stop: &Stop,
    (replica, forget): (&str, bool),
) -> Result<Ended, MirrorError> {
    let source = |error: rustix::io::Errno| MirrorError::Source {
        path: settings.root.clone(),
        error: error.into(),
    };
    let root = Root::open(&settings.root).map_err(source)?;
    let stat = rustix::fs::fstat(&root).map_err(source)?;
    let own_identity = identity(&root).map_err(source)?;
    let (mut store, loaded) = Store::open(&settings.state.join("index"))?;
    if let Some(why) = &loaded.was_torn {
        tracing::warn!(why, "the index was damaged; more has to be compared");
    }
    let known_root = loaded.marks.root_identity;
    let is_new_root = known_root.is_some_and(|known| known != own_identity);
    let hello = hello(settings, replica, &loaded.marks, forget);
    let mut link = connect.connect()?;
    let received = Arc::new(AtomicU64::new(0));
    link.reader = Box::new(CountedReader(link.reader, received.clone()));
    let (index, mut marks) = doubted(loaded.index, loaded.marks);
    let welcome = match greet(&mut link, &hello) {
        Ok(Ok(welcome)) => welcome,
        Ok(Err(Refused { code, detail })) => {
            return Ok(Ended::Over(Over::Refused { code, detail }));
        }
        Err(error) => return unbegun(&error),
    };
    check_apart(&root, &welcome)?;
    marks.lineage = unhex(&welcome.lineage);
    store.set_marks(&marks)?;
    let known = (welcome.seq, welcome.durable);
    let ledger = Arc::new(Ledger::new(index, store, marks, known));
    stop.set(&ledger);
    let learned = learn(&mut link, &ledger, &welcome);
    let (reach, early) = match learned.and_then(|()| reach(&mut link, &welcome)) {
        Ok(known) => known,
        Err(error) => return unbegun(&error),
    };
    let close = link.close.take();
    let bulk = match settings.dry_run {
        true => None,
        false => match attach(connect, &welcome) {
            Err(error) if !error.is_final => return Ok(Ended::Unbegun(error.detail)),
            bulk => Some(bulk?),
        },
    };
    let nobody = || -> Box<dyn Write + Send> { Box::new(std::io::sink()) };
    let bulk_writer = bulk.map_or_else(nobody, |bulk| bulk.writer);
    let watch = watch(settings, &root, &ledger)?;
    let sizes = ledger.large_sizes();
    let mirror = Mirror {
        settings,
        tell,
        root,
        device: stat.st_dev,
        filter: Filter::new(&settings.excludes)?,
        outbox: Outbox::new(link.writer, bulk_writer, settings.bandwidth, reach),
        ledger,
        window_bytes: welcome.window_bytes,
        threads: std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 8)),
        watch,
        guard: Mutex::new(Guard::new(settings.delete_limit, is_new_root)),
        again: Mutex::default(),
        later: Mutex::default(),
        deep: Mutex::default(),
        closed: Mutex::default(),
        gone: Mutex::default(),
        skipped: Mutex::default(),
        unwatched: Mutex::default(),
        refused: Mutex::default(),
        sizes: Mutex::new(sizes),
        claimed: Mutex::default(),
        linked: Mutex::default(),
        streams: Streams::default(),
        changes: AtomicU64::new(0),
    };
    tell.tell(&Told::Connected);
    let mut reader = link.reader;
    std::thread::scope(|scope| {
        scope.spawn(|| mirror.listen(early, &mut reader));
        scope.spawn(|| mirror.ping());
        let ended = mirror.work(own_identity, &received);
        mirror.ledger.end(Over::Stopped);
        if let Some(close) = close {
            close();
        }
        ended
    })
}

/// Begins to watch the source, unless it is mirrored once.
fn watch(
    settings: &Settings,
    root: &Root,
    ledger: &Arc<Ledger>,
) -> Result<Option<Watch>, WatchError> {
    if settings.once {
        return Ok(None);
    }
    let sink = ledger.clone();
    Watch::start(root.as_fd(), move |events| sink.take_events(events)).map(Some)
}

impl Mirror<'_> {
    fn work(&self, own_identity: (u64, u64), received: &AtomicU64) -> Result<Ended, MirrorError> {
        if let Some(gauge) = self.tell.gauge() {
            gauge.begin();
        }
        self.state(Phase::Scanning, None);
        self.scan(vec![Task::dir(Vec::new(), Depth::All)], Way::Bulk);
        self.remove_gone()?;
        {
            // From here on the source is believed to be this one.
            let mut state = self.ledger.lock();
            let state = &mut *state;
            state.marks.root_identity = Some(own_identity);
            state.marks.boot = boot_id();
            state.log(&[Change::Marks(state.marks.clone())]);
        }
        if !self.settings.once {
            return self.live();
        }
        self.settle()?;
        if let Some(over) = self.ledger.over() {
            return Ok(Ended::Over(over));
        }
        self.ledger.checkpoint(When::Now);
        let (seq, entries) = {
            let state = self.ledger.lock();
            (state.committed, state.index.len() as u64)
        };
        let sent_bytes = self.outbox.sent_bytes();
        self.state(Phase::Live, None);
        self.tell.tell(&Told::Synced {
            seq,
            entries,
            sent_bytes,
        });
        Ok(Ended::Done(Outcome {
            seq,
            changes: self.changes.load(Ordering::Relaxed),
            entries,
            sent_bytes,
            received_bytes: received.load(Ordering::Relaxed),
            skipped: held(&self.skipped).clone().into_iter().collect(),
            is_interrupted: false,
        }))
    }

    /// Waits until all is in the share, and tries again what has to be.
    fn settle(&self) -> Result<(), MirrorError> {
        /// Rounds after which what still changes is left as it is.
        const ROUNDS: usize = 20;
        for round in 0..ROUNDS {
            if !self.settings.dry_run {
                self.ledger
                    .wait_until(|state| state.committed + 1 == state.next_seq);
            }
            self.take_troubles();
            let due: Vec<_> = held(&self.later).drain().map(|(path, _)| path).collect();
            let mut paths: Vec<_> = held(&self.again).drain().collect();
            if (!due.is_empty() && round + 1 < ROUNDS) && !self.is_over() {
                self.ledger.wait_at_most(super::LATER, |_| false);
            }
            if round + 1 == ROUNDS {
                due.iter().for_each(|path| self.skip(path, Skip::Changing));
            } else {
                paths.extend(due);
            }
            if paths.is_empty() || self.is_over() {
                break;
            }
            self.scan(tasks(paths), Way::Bulk);
            self.remove_gone()?;
        }
        if self.settings.durability != Durability::None && !self.settings.dry_run {
            self.ledger
                .wait_until(|state| state.durable + 1 >= state.next_seq);
        }
        Ok(())
    }

    /// Deals with what the server could not do.
    pub(super) fn take_troubles(&self) {
        for trouble in self.ledger.troubles() {
            match trouble.failure.code {
                FailureCode::Base | FailureCode::Content => self.again(vec![trouble.path]),
                _ => {
                    let Failure { detail, .. } = trouble.failure;
                    held(&self.refused).insert(trouble.path.clone(), detail.clone());
                    self.skip(&trouble.path, Skip::Failed(detail));
                }
            }
        }
    }

    /// Tells the server how things are.
    pub(super) fn state(&self, phase: Phase, reason: Option<String>) {
        if self.settings.dry_run {
            return;
        }
        let entries = self.ledger.lock().index.len() as u64;
        let state = ClientState {
            phase,
            entries,
            pending: (held(&self.again).len() + held(&self.later).len()) as u64,
            watched: self
                .watch
                .as_ref()
                .map_or(0, |watch| watch.watched() as u64),
            polled: held(&self.unwatched).len() as u64,
            skipped: held(&self.skipped).len() as u64,
            sent_bytes: self.outbox.sent_bytes(),
            reason,
        };
        let json = serde_json::to_vec(&state).unwrap_or_default();
        self.send(Way::Control, FrameKind::State, &[&json]);
    }
}

/// Paths to compare, as tasks.
pub(super) fn tasks(paths: impl IntoIterator<Item = Vec<u8>>) -> Vec<Task> {
    let mut by_dir: std::collections::BTreeMap<Vec<u8>, Vec<Vec<u8>>> = Default::default();
    let mut tasks = Vec::new();
    for at in paths {
        if at.is_empty() {
            tasks.push(Task::dir(at, Depth::Own));
            continue;
        }
        let (dir, name) = path::split(&at);
        by_dir.entry(dir.to_vec()).or_default().push(name.to_vec());
    }
    tasks.extend(
        by_dir
            .into_iter()
            .map(|(at, names)| Task::Names { at, names }),
    );
    tasks
}
