//! The message log: one JSON line for each message that clients publish on chosen topics.
//!
//! Invariant: it never slows a publisher down. Lines wait in a bounded queue for a thread of their
//! own; what finds it full is counted and told in the log itself. Left to others: who publishes
//! (the doors say), how a line is written (`line`), where files go (`file`).

mod file;
mod line;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use pinnace_topics::{Message, topic};

use crate::clock::now_us;
use crate::limits::{MESSAGE_LOG_BATCH_BYTES, MESSAGE_LOG_PENDING_BYTES_MAX, PAYLOAD_HEAD_BYTES};
use file::{RotatedFile, Unwritten};
use line::{Line, Record};

/// What is logged, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageLogSettings {
    /// The file; earlier ones are beside it, with `.1`, `.2` … appended.
    pub file: PathBuf,
    /// Topics whose messages are logged; wildcards allowed.
    pub patterns: Vec<String>,
    /// How much of each payload.
    pub payload: LoggedPayload,
    /// Size at which a new file is begun, bytes.
    pub file_bytes_max: u64,
    /// Earlier files that are kept.
    pub files_max: u32,
}

/// How much of a payload is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoggedPayload {
    /// Its size.
    #[default]
    None,
    /// Its first 256 bytes.
    Head,
    /// All of it.
    Full,
}

/// Who published a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    /// `nats`, `http` or `websocket`.
    pub(crate) door: &'static str,
    /// The name it gave.
    pub(crate) client: Option<&'a str>,
    pub(crate) address: SocketAddr,
}

/// The front that the doors write to.
pub(crate) struct MessageLog {
    shared: Arc<Shared>,
    patterns: Vec<Box<[u8]>>,
    payload: LoggedPayload,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Record>,
    waiting_bytes: usize,
    dropped: u64,
    reopen: bool,
    closing: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MessageLog {
    /// Opens the file and starts the thread.
    pub(crate) fn start(settings: &MessageLogSettings) -> io::Result<Self> {
        let file = RotatedFile::open(settings)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("pn-message-log".into())
            .spawn(move || write_all(&theirs, file))?;
        let patterns = settings.patterns.iter();
        Ok(Self {
            shared,
            patterns: patterns.map(|pattern| pattern.as_bytes().into()).collect(),
            payload: settings.payload,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Logs a message that was published, if its topic is chosen.
    pub(crate) fn note(&self, origin: Origin<'_>, message: &Message<'_>, seq: Option<u64>) {
        let mut patterns = self.patterns.iter();
        if patterns.any(|pattern| topic::matches(pattern, message.topic)) {
            self.enqueue(Record::new(origin, message, seq, self.payload));
        }
    }

    fn enqueue(&self, mut record: Record) {
        let mut state = self.shared.lock();
        let bytes = record.bytes();
        if state.waiting_bytes + bytes > MESSAGE_LOG_PENDING_BYTES_MAX {
            state.dropped += 1;
            return;
        }
        record.time_us = now_us();
        state.waiting_bytes += bytes;
        state.waiting.push_back(record);
        if state.waiting.len() == 1 {
            self.shared.work.notify_one();
        }
    }

    /// Writes what waits and ends the thread.
    pub(crate) fn finish(&self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // What it could not write it has reported itself.
            let _ = thread.join();
        }
    }

    /// Opens the file anew before the next line: somebody has moved it away.
    pub(crate) fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.work.notify_one();
    }
}

impl Drop for MessageLog {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What the thread found to do.
struct Work {
    records: VecDeque<Record>,
    dropped: u64,
    reopen: bool,
}

/// Sleeps until there is something to do; `None` when closed and nothing is left.
fn next(shared: &Shared) -> Option<Work> {
    let mut state = shared.lock();
    while state.waiting.is_empty() && state.dropped == 0 && !state.reopen {
        if state.closing {
            return None;
        }
        state = shared
            .work
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
    }
    state.waiting_bytes = 0;
    Some(Work {
        records: std::mem::take(&mut state.waiting),
        dropped: std::mem::take(&mut state.dropped),
        reopen: std::mem::take(&mut state.reopen),
    })
}

/// The thread. A file that cannot be written costs the lines of that moment, which are counted like
/// those that found the queue full.
fn write_all(shared: &Shared, mut file: RotatedFile) {
    let mut lost = 0;
    let mut complained = false;
    while let Some(work) = next(shared) {
        if work.reopen
            && let Err(error) = file.reopen()
        {
            tracing::warn!(%error, "the message log cannot be opened anew; the old file goes on");
        }
        lost += work.dropped;
        let mut lines = Vec::new();
        let mut records = work.records.into_iter().peekable();
        while lost > 0 || records.peek().is_some() {
            let told = lost;
            if lost > 0 {
                Line::dropped(now_us(), lost).write(&mut lines);
                lost = 0;
            }
            let mut count = 0;
            while lines.len() < MESSAGE_LOG_BATCH_BYTES
                && let Some(record) = records.next()
            {
                record.write(&mut lines);
                count += 1;
            }
            match file.write(&lines) {
                Ok(()) => complained = false,
                Err(Unwritten {
                    lines_before,
                    error,
                }) => {
                    // The word about earlier losses is a line too, the first.
                    lost = match lines_before {
                        0 => told + count,
                        lines => count + u64::from(told > 0) - lines as u64,
                    };
                    if !complained {
                        tracing::warn!(%error, "the message log cannot be written; lines are lost");
                        complained = true;
                    }
                    if records.peek().is_none() {
                        break;
                    }
                }
            }
            lines.clear();
        }
    }
}
