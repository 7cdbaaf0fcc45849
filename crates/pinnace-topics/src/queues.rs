//! Queues: create, delete, take, peek, consume, wait.
//!
//! Invariant: a message is given out only when it is durable, and by `take` only once: its
//! consumption is durable before the taker gets it. Every callback of a call that returned `Ok` is
//! called exactly once; of a call that returned an error, never.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pinnace_log::{Position, ReadError};

use crate::broker::{Broker, Inner};
use crate::error::{Error, StoreError, printable};
use crate::limits::{QUEUE_NAME_BYTES_MAX, TAKE_BYTES_MAX, WAKES_MAX};
use crate::record::{self, Record};
use crate::state::{Op, Pending, Queue, State};
use crate::topic;

/// A message as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number, rising by one from message to message over all topics.
    pub seq: u64,
    /// When it was published, in microseconds since 1970.
    pub published_us: u64,
    /// Where it was published.
    pub topic: Vec<u8>,
    /// The block it came with.
    pub headers: Vec<u8>,
    /// Its content.
    pub payload: Vec<u8>,
}

/// What a look into a queue found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// The messages, oldest first; damaged ones are left out.
    pub messages: Vec<Stored>,
    /// The last message looked at, damaged or not: what to consume through. `None` when no durable
    /// message waits.
    pub through_seq: Option<u64>,
}

/// Which messages a new queue starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// Those published from now on.
    #[default]
    New,
    /// Those still stored for other queues, oldest first, and all later ones.
    First,
}

/// Called once something is durable, with a sequence number, or with the reason why it is not. Runs
/// on the committer's thread, or at once on the caller's; must not block.
pub type Done = Box<dyn FnOnce(Result<u64, StoreError>) + Send>;

/// Called with the messages of a take; same rules as `Done`.
pub type TakeDone = Box<dyn FnOnce(Result<Vec<Stored>, StoreError>) + Send>;

/// Called when a message waits; same rules as `Done`.
pub type Wake = Box<dyn FnOnce() + Send>;

/// A wake that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeId(pub(crate) u64);

impl Broker {
    /// Creates a durable queue. Returns false when it existed, whatever it started with. `done` is
    /// called once the queue is durable.
    ///
    /// # Errors
    /// `InvalidPattern`, `InvalidName`, `TooManyQueues`, `Store`.
    pub fn create_queue(
        &self,
        pattern: &[u8],
        name: &str,
        from: Start,
        done: Done,
    ) -> Result<bool, Error> {
        check(pattern, name)?;
        let Inner { core, log } = &*self.inner;
        let mut guard = core.lock();
        let state = &mut *guard;
        if let Some(id) = state.queue_id(pattern, name) {
            if let Some(waiting) = creation_of(state, id) {
                waiting.push(done);
            } else {
                let seq = state.durable_seq;
                drop(guard);
                done(Ok(seq));
            }
            return Ok(false);
        }
        let queues = core.options.queues_max;
        if state.queues.len() >= queues || state.next_queue == u32::MAX {
            return Err(Error::TooManyQueues { queues });
        }
        let id = state.next_queue;
        let holds = match from {
            Start::New => Vec::new(),
            // What only a take in flight still needs is as good as gone.
            Start::First => state
                .messages
                .iter()
                .filter(|(_, entry)| entry.held > 0 && topic::matches(pattern, &entry.topic))
                .map(|(seq, _)| *seq)
                .collect(),
        };
        record::create(&mut state.scratch, id, pattern, name, &holds);
        let lsn = log.append(&[&state.scratch]).map_err(StoreError::from)?;
        state.next_queue += 1;
        let mut queue = Queue::new(pattern.into(), name.into());
        queue.creating = Some(lsn);
        state.add_queue(id, queue);
        let held = state.hold(id, holds);
        core.routes.add_queue(pattern, id);
        let op = Op::Create {
            queue: id,
            held,
            dones: vec![done],
        };
        state.pending.push_back(Pending { lsn, op });
        // A second copy, so that one damaged record never costs a queue. Welcome, not needed.
        record::restate(&mut state.scratch, id, pattern, name);
        if let Ok(lsn) = log.append(&[&state.scratch]) {
            state.pending.push_back(Pending {
                lsn,
                op: Op::Restate { queue: id },
            });
        }
        Ok(true)
    }

    /// Deletes a queue and what waits in it. Returns false when there is none. `done` is called
    /// once the deletion is durable, at once when there was none.
    ///
    /// # Errors
    /// `Store`; the queue is still there.
    pub fn delete_queue(&self, pattern: &[u8], name: &str, done: Done) -> Result<bool, Error> {
        let Inner { core, log } = &*self.inner;
        let mut guard = core.lock();
        let state = &mut *guard;
        let Some(id) = state.queue_id(pattern, name) else {
            let seq = state.durable_seq;
            drop(guard);
            done(Ok(seq));
            return Ok(false);
        };
        record::delete(&mut state.scratch, id);
        let lsn = log
            .append_urgent(&[&state.scratch])
            .map_err(StoreError::from)?;
        core.routes.remove_queue(pattern, id);
        if let Some(removed) = state.remove_queue(id) {
            let op = Op::Delete {
                queue: id,
                removed: Box::new(removed),
                done,
            };
            state.pending.push_back(Pending { lsn, op });
        }
        Ok(true)
    }

    /// Takes up to `max` of the oldest durable messages for good: no other take gets them. `done`
    /// gets them once that is durable, in order; at once with none when none waits. Messages whose
    /// bytes are damaged are left out and counted in the queue's status.
    ///
    /// # Errors
    /// `NoSuchQueue`, `Store`; nothing was taken.
    pub fn take(
        &self,
        pattern: &[u8],
        name: &str,
        max: usize,
        done: TakeDone,
    ) -> Result<(), Error> {
        let id = self.inner.core.lock().queue_id(pattern, name);
        let id = id.ok_or_else(|| no_such_queue(pattern, name))?;
        match take(&self.inner, id, max, done) {
            Ok(()) => Ok(()),
            // It was deleted in between.
            Err((_, None)) => Err(no_such_queue(pattern, name)),
            Err((_, Some(error))) => Err(Error::Store(error)),
        }
    }

    /// Up to `max` of the oldest durable messages, which stay.
    ///
    /// # Errors
    /// `NoSuchQueue`.
    pub fn peek(&self, pattern: &[u8], name: &str, max: usize) -> Result<Peeked, Error> {
        let mut places = Vec::new();
        {
            let state = self.inner.core.lock();
            let queue = state
                .queue_id(pattern, name)
                .and_then(|id| state.queues.get(&id));
            let queue = queue.ok_or_else(|| no_such_queue(pattern, name))?;
            let mut bytes = 0;
            for seq in queue.waiting.iter().take(max) {
                let Some(entry) = state.messages.get(seq) else {
                    continue;
                };
                bytes += u64::from(entry.bytes);
                if *seq > state.durable_seq || (bytes > TAKE_BYTES_MAX && !places.is_empty()) {
                    break;
                }
                places.push((*seq, entry.position));
            }
        }
        let through_seq = places.last().map(|(seq, _)| *seq);
        let messages = read(&self.inner, &places).0;
        Ok(Peeked {
            messages,
            through_seq,
        })
    }

    /// Gives up every durable message up to `through_seq`, for a reader that has stored elsewhere
    /// what it peeked at. `done` is called once that is durable.
    ///
    /// # Errors
    /// `NoSuchQueue`, `Store`; nothing was given up.
    pub fn consume(
        &self,
        pattern: &[u8],
        name: &str,
        through_seq: u64,
        done: Done,
    ) -> Result<(), Error> {
        let Inner { core, log } = &*self.inner;
        let mut guard = core.lock();
        let state = &mut *guard;
        let id = state
            .queue_id(pattern, name)
            .ok_or_else(|| no_such_queue(pattern, name))?;
        let through = through_seq.min(state.durable_seq);
        let seqs = state.pop(id, |seq, _| seq <= through);
        if seqs.is_empty() {
            drop(guard);
            done(Ok(through));
            return Ok(());
        }
        record::consume(&mut state.scratch, id, through);
        match log.append_urgent(&[&state.scratch]) {
            Ok(lsn) => {
                let op = Op::Consume {
                    queue: id,
                    seqs,
                    through,
                    done,
                };
                state.pending.push_back(Pending { lsn, op });
                Ok(())
            }
            Err(error) => {
                state.unpop(id, &seqs);
                Err(Error::Store(error.into()))
            }
        }
    }

    /// Calls `wake` once as soon as a durable message waits in the queue, at once if one does; also
    /// when the queue is deleted or the storage fails.
    ///
    /// # Errors
    /// `NoSuchQueue`, `TooManyWaiting`.
    pub fn notify(&self, pattern: &[u8], name: &str, wake: Wake) -> Result<WakeId, Error> {
        let mut guard = self.inner.core.lock();
        let state = &mut *guard;
        let id = state
            .queue_id(pattern, name)
            .ok_or_else(|| no_such_queue(pattern, name))?;
        state.next_wake += 1;
        let wake_id = WakeId(state.next_wake);
        if state.has_visible(id) {
            drop(guard);
            wake();
            return Ok(wake_id);
        }
        if let Some(queue) = state.queues.get_mut(&id) {
            if queue.wakes.len() >= WAKES_MAX {
                return Err(Error::TooManyWaiting { waiting: WAKES_MAX });
            }
            queue.wakes.push((wake_id, wake));
        }
        Ok(wake_id)
    }

    /// Forgets a wake that was not called yet; one that is not known is ignored.
    pub fn cancel_notify(&self, pattern: &[u8], name: &str, wake: WakeId) {
        let mut state = self.inner.core.lock();
        let queue = state
            .queue_id(pattern, name)
            .and_then(|id| state.queues.get_mut(&id));
        let removed = queue.and_then(|queue| {
            let index = queue.wakes.iter().position(|(id, _)| *id == wake)?;
            Some(queue.wakes.swap_remove(index))
        });
        drop(state);
        // Dropped without the lock: it may own anything.
        drop(removed);
    }
}

fn check(pattern: &[u8], name: &str) -> Result<(), Error> {
    if !topic::is_valid_pattern(pattern) {
        return Err(Error::InvalidPattern {
            pattern: printable(pattern),
        });
    }
    let (bytes, max_bytes) = (name.len(), QUEUE_NAME_BYTES_MAX);
    if bytes == 0 || bytes > max_bytes || name.chars().any(char::is_control) {
        return Err(Error::InvalidName { bytes, max_bytes });
    }
    Ok(())
}

pub(crate) fn no_such_queue(pattern: &[u8], name: &str) -> Error {
    Error::NoSuchQueue {
        pattern: printable(pattern),
        name: name.to_owned(),
    }
}

/// Those who wait for the creation of a queue, while it is not durable.
fn creation_of(state: &mut State, id: u32) -> Option<&mut Vec<Done>> {
    let lsn = state.queues.get(&id)?.creating?;
    let index = state
        .pending
        .binary_search_by_key(&lsn, |pending| pending.lsn)
        .ok()?;
    match &mut state.pending.get_mut(index)?.op {
        Op::Create { dones, .. } => Some(dones),
        _ => None,
    }
}

/// A take between its record's append and the call of its `done`, which needs two things: the
/// messages, read by the taker's thread, and the fate of the record, told by the committer.
pub(crate) struct TakeCell {
    inner: Weak<Inner>,
    queue: u32,
    max: usize,
    parts: Mutex<TakeParts>,
}

#[derive(Default)]
struct TakeParts {
    seqs: Vec<u64>,
    read: Option<Vec<Stored>>,
    outcome: Option<Result<(), StoreError>>,
    done: Option<TakeDone>,
}

impl TakeCell {
    /// The fate of the record is known.
    pub(crate) fn decided(&self, outcome: Result<(), StoreError>) {
        let mut parts = self.lock();
        parts.outcome = Some(outcome);
        self.finish_if_ready(parts);
    }

    fn read(&self, messages: Vec<Stored>) {
        let mut parts = self.lock();
        parts.read = Some(messages);
        self.finish_if_ready(parts);
    }

    fn lock(&self) -> MutexGuard<'_, TakeParts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish_if_ready(&self, mut parts: MutexGuard<'_, TakeParts>) {
        if parts.read.is_none() || parts.outcome.is_none() {
            return;
        }
        let TakeParts {
            seqs,
            read,
            outcome,
            done,
        } = std::mem::take(&mut *parts);
        drop(parts);
        let (Some(messages), Some(outcome), Some(done)) = (read, outcome, done) else {
            return;
        };
        if let Err(error) = outcome {
            return done(Err(error));
        }
        let Some(inner) = self.inner.upgrade() else {
            return done(Ok(messages));
        };
        inner.core.lock().unpin(&seqs);
        if !messages.is_empty() {
            return done(Ok(messages));
        }
        // All of them were damaged. More may wait behind them, and each round consumes some.
        if let Err((done, error)) = take(&inner, self.queue, self.max, done) {
            match error {
                Some(error) => done(Err(error)),
                None => done(Ok(Vec::new())),
            }
        }
    }
}

/// Takes from a queue by its id. On an error `done` comes back, with `None` when there is no such
/// queue.
fn take(
    inner: &Arc<Inner>,
    id: u32,
    max: usize,
    done: TakeDone,
) -> Result<(), (TakeDone, Option<StoreError>)> {
    let mut guard = inner.core.lock();
    let state = &mut *guard;
    if !state.queues.contains_key(&id) {
        return Err((done, None));
    }
    let (durable_seq, mut count, mut bytes) = (state.durable_seq, 0, 0);
    let seqs = state.pop(id, |seq, message_bytes| {
        count += 1;
        bytes += message_bytes;
        seq <= durable_seq && count <= max && (bytes <= TAKE_BYTES_MAX || count == 1)
    });
    let Some(&through) = seqs.last() else {
        drop(guard);
        done(Ok(Vec::new()));
        return Ok(());
    };
    record::consume(&mut state.scratch, id, through);
    let lsn = match inner.log.append_urgent(&[&state.scratch]) {
        Ok(lsn) => lsn,
        Err(error) => {
            state.unpop(id, &seqs);
            return Err((done, Some(error.into())));
        }
    };
    let places: Vec<_> = seqs
        .iter()
        .map(|seq| {
            (
                *seq,
                state.messages.get(seq).and_then(|entry| entry.position),
            )
        })
        .collect();
    let parts = TakeParts {
        seqs: seqs.clone(),
        done: Some(done),
        ..TakeParts::default()
    };
    let cell = Arc::new(TakeCell {
        inner: Arc::downgrade(inner),
        queue: id,
        max,
        parts: Mutex::new(parts),
    });
    let op = Op::Take {
        queue: id,
        seqs,
        cell: Arc::clone(&cell),
    };
    state.pending.push_back(Pending { lsn, op });
    drop(guard);
    let (messages, damaged) = read(inner, &places);
    if damaged > 0
        && let Some(queue) = inner.core.lock().queues.get_mut(&id)
    {
        queue.damaged += damaged;
    }
    cell.read(messages);
    Ok(())
}

/// Reads messages; those that are damaged are left out and counted.
pub(crate) fn read(inner: &Inner, places: &[(u64, Option<Position>)]) -> (Vec<Stored>, u64) {
    let mut messages = Vec::with_capacity(places.len());
    let mut damaged = 0;
    for (seq, position) in places {
        let mut position = *position;
        while let Some(at) = position {
            match inner.log.read(at) {
                Ok(bytes) => {
                    match stored(&bytes) {
                        Some(message) if message.seq == *seq => messages.push(message),
                        _ => damaged += 1,
                    }
                    break;
                }
                // It was copied towards the end of the log, or given up by everybody meanwhile.
                Err(ReadError::Gone) => {
                    let state = inner.core.lock();
                    let now = state.messages.get(seq).and_then(|entry| entry.position);
                    position = now.filter(|now| *now != at);
                }
                Err(ReadError::Damaged { .. } | ReadError::Io { .. }) => {
                    damaged += 1;
                    break;
                }
            }
        }
    }
    (messages, damaged)
}

fn stored(bytes: &[u8]) -> Option<Stored> {
    let Ok(Record::Message {
        seq,
        published_us,
        content,
        ..
    }) = record::decode(bytes)
    else {
        return None;
    };
    Some(Stored {
        seq,
        published_us,
        topic: content.topic.to_vec(),
        headers: content.headers.to_vec(),
        payload: content.payload.to_vec(),
    })
}
