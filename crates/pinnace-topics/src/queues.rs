//! Queues: create, change, delete, look, give up, wait.
//!
//! Invariant: a message is shown only when it is durable. Every callback of a call that returned
//! `Ok` is called exactly once; of a call that returned an error, never.

use crate::broker::{Broker, Inner};
use crate::error::{Error, StoreError, printable};
use crate::limits::{QUEUE_NAME_BYTES_MAX, WAKES_MAX};
use crate::page::{Peeked, peeked};
use crate::queue::{Queue, QueueOptions};
use crate::record;
use crate::state::State;
use crate::steps::{Op, Pending};
use crate::takes::bounded;
use crate::topic;

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

/// Called when a message waits; same rules as `Done`.
pub type Wake = Box<dyn FnOnce() + Send>;

/// A wake that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeId(pub(crate) u64);

impl Broker {
    /// Creates a durable queue. Returns false when it existed, whatever it started with; its
    /// options then stay as they are. `done` is called once the queue is durable.
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
        self.create_queue_with(pattern, name, from, None, done)
    }

    /// Like `create_queue`; with `options`, which a queue that exists then has too.
    ///
    /// # Errors
    /// Those of `create_queue`, and `InvalidDeadLetterTopic`.
    pub fn create_queue_with(
        &self,
        pattern: &[u8],
        name: &str,
        from: Start,
        options: Option<QueueOptions>,
        done: Done,
    ) -> Result<bool, Error> {
        check(pattern, name, options.as_ref())?;
        let mut guard = self.inner.core.lock();
        let state = &mut *guard;
        let Some(id) = state.queue_id(pattern, name) else {
            create(&self.inner, state, (pattern, name), from, options, done)?;
            return Ok(true);
        };
        if let Some(options) = options.map(Box::new)
            && state
                .queue(id)
                .is_some_and(|queue| queue.options.as_ref() != Some(&options))
        {
            change(&self.inner, state, id, options, done)?;
        } else if let Some(waiting) = creation_of(state, id) {
            waiting.push(done);
        } else {
            let seq = state.durable_seq;
            drop(guard);
            self.inner.answer(done, seq);
        }
        Ok(false)
    }

    /// Deletes a queue and what waits in it. Returns false when there is none. `done` is called
    /// once the deletion is durable, at once when there was none.
    ///
    /// # Errors
    /// `Store`; the queue is still there.
    pub fn delete_queue(&self, pattern: &[u8], name: &str, done: Done) -> Result<bool, Error> {
        let mut guard = self.inner.core.lock();
        let state = &mut *guard;
        let Some(id) = state.queue_id(pattern, name) else {
            let seq = state.durable_seq;
            drop(guard);
            self.inner.answer(done, seq);
            return Ok(false);
        };
        delete(&self.inner, state, id, Some(done))?;
        Ok(true)
    }

    /// Up to `max` of the oldest durable messages, which stay.
    ///
    /// # Errors
    /// `NoSuchQueue`; `Store` when the disk cannot be read.
    pub fn peek(&self, pattern: &[u8], name: &str, max: usize) -> Result<Peeked, Error> {
        let mut places = Vec::new();
        {
            let state = self.inner.core.lock();
            let queue = state.queue_id(pattern, name).and_then(|id| state.queue(id));
            let queue = queue.ok_or_else(|| no_such_queue(pattern, name))?;
            let mut more = bounded(max, state.durable_seq);
            for seq in queue.waiting() {
                let Some(entry) = state.index.messages.get(seq) else {
                    continue;
                };
                if !more(seq, u64::from(entry.bytes), entry.published_us) {
                    break;
                }
                places.push((seq, entry.position));
            }
        }
        peeked(&self.inner, &places)
    }

    /// Gives up every durable message up to `through_seq` that waits, for a reader that has stored
    /// elsewhere what it peeked at. `done` is called once that is durable.
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
        let queue = state
            .queue_id(pattern, name)
            .ok_or_else(|| no_such_queue(pattern, name))?;
        let through = through_seq.min(state.durable_seq);
        let seqs = state.pop(queue, |seq, _, _| seq <= through);
        if seqs.is_empty() {
            drop(guard);
            self.inner.answer(done, through);
            return Ok(());
        }
        record::settle(&mut state.scratch, queue, &seqs);
        match log.append_urgent(&[&state.scratch]) {
            Ok(lsn) => {
                let op = Op::Settle {
                    queue,
                    seqs,
                    through,
                    lease: None,
                    dones: vec![done],
                };
                state.pending.push_back(Pending { lsn, op });
                Ok(())
            }
            Err(error) => {
                state.put_back(queue, &seqs);
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
        if let Some(queue) = state.queue_mut(id) {
            let wakes = &mut queue.active_mut().wakes;
            if wakes.len() >= WAKES_MAX {
                return Err(Error::TooManyWaiting { waiting: WAKES_MAX });
            }
            wakes.push((wake_id, wake));
        }
        Ok(wake_id)
    }

    /// Forgets a wake that was not called yet; one that is not known is ignored.
    pub fn cancel_notify(&self, pattern: &[u8], name: &str, wake: WakeId) {
        let mut state = self.inner.core.lock();
        let id = state.queue_id(pattern, name);
        let queue = id.and_then(|id| state.queue_mut(id));
        let removed = queue
            .filter(|queue| queue.active().is_some())
            .and_then(|queue| {
                let wakes = &mut queue.active_mut().wakes;
                let index = wakes.iter().position(|(id, _)| *id == wake)?;
                let removed = wakes.swap_remove(index);
                queue.rest();
                Some(removed)
            });
        drop(state);
        // Dropped without the lock: it may own anything.
        drop(removed);
    }
}

pub(crate) fn create(
    inner: &Inner,
    state: &mut State,
    (pattern, name): (&[u8], &str),
    from: Start,
    options: Option<QueueOptions>,
    done: Done,
) -> Result<(), Error> {
    let queues = inner.core.options.queues_max;
    if state.queues.len() >= queues || state.next_queue == u32::MAX {
        return Err(Error::TooManyQueues { queues });
    }
    let id = state.next_queue;
    let holds = match from {
        Start::New => Vec::new(),
        // What only a take in flight still needs is as good as gone.
        Start::First => state
            .index
            .messages
            .iter()
            .filter(|(_, entry)| entry.held > 0 && topic::matches(pattern, &entry.topic))
            .map(|(seq, _)| seq)
            .collect(),
    };
    let mut queue = Queue::new(pattern.into(), name);
    queue.options = options.map(Box::new);
    record::create(&mut state.scratch, id, &queue, &holds);
    let lsn = inner
        .log
        .append(&[&state.scratch])
        .map_err(StoreError::from)?;
    state.next_queue += 1;
    queue.active_mut().creating = Some(lsn);
    inner.core.routes.add_queue(&queue.pattern, id);
    state.add_queue(id, queue);
    let held = state.hold(id, holds);
    let op = Op::Create {
        queue: id,
        held,
        dones: vec![done],
    };
    state.pending.push_back(Pending { lsn, op });
    // A second time, so that one damaged record costs neither the queue nor what it holds from the start.
    // Welcome, not needed.
    if let Ok(lsn) = inner.log.append(&[&state.scratch]) {
        state.pending.push_back(Pending {
            lsn,
            op: Op::Restate { queue: id },
        });
    }
    Ok(())
}

/// Gives a queue other options.
fn change(
    inner: &Inner,
    state: &mut State,
    id: u32,
    options: Box<QueueOptions>,
    done: Done,
) -> Result<(), Error> {
    let Some(queue) = state.queue_mut(id) else {
        return Ok(());
    };
    let before = queue.options.take();
    state.set_options(id, Some(options));
    if let Some(queue) = state.queues.get(u64::from(id)) {
        record::restate(&mut state.scratch, id, queue);
    }
    match inner.log.append(&[&state.scratch]) {
        Ok(lsn) => {
            let op = Op::Change {
                queue: id,
                before,
                done,
            };
            state.pending.push_back(Pending { lsn, op });
            Ok(())
        }
        Err(error) => {
            state.set_options(id, before);
            Err(StoreError::from(error).into())
        }
    }
}

/// Deletes a queue that exists.
pub(crate) fn delete(
    inner: &Inner,
    state: &mut State,
    id: u32,
    done: Option<Done>,
) -> Result<(), StoreError> {
    record::delete(&mut state.scratch, id);
    let lsn = inner.log.append_urgent(&[&state.scratch])?;
    if let Some(removed) = state.remove_queue(id) {
        inner.core.routes.remove_queue(&removed.pattern, id);
        let op = Op::Delete {
            queue: id,
            removed: Box::new(removed),
            done,
        };
        state.pending.push_back(Pending { lsn, op });
    }
    Ok(())
}

pub(crate) fn check(
    pattern: &[u8],
    name: &str,
    options: Option<&QueueOptions>,
) -> Result<(), Error> {
    if !topic::is_valid_pattern(pattern) {
        return Err(invalid_pattern(pattern));
    }
    let (bytes, max_bytes) = (name.len(), QUEUE_NAME_BYTES_MAX);
    if bytes == 0 || bytes > max_bytes || name.chars().any(char::is_control) {
        return Err(Error::InvalidName { bytes, max_bytes });
    }
    if let Some(topic) = options.and_then(|options| options.dead_letter.as_deref())
        && (!topic::is_valid_topic(topic) || topic::has_wildcards(topic))
    {
        return Err(Error::InvalidDeadLetterTopic {
            topic: printable(topic),
        });
    }
    Ok(())
}

fn invalid_pattern(pattern: &[u8]) -> Error {
    Error::InvalidPattern {
        pattern: printable(pattern),
    }
}

pub(crate) fn no_such_queue(pattern: &[u8], name: &str) -> Error {
    Error::NoSuchQueue {
        pattern: printable(pattern),
        name: name.to_owned(),
    }
}

/// Those who wait for the creation of a queue, while it is not durable.
fn creation_of(state: &mut State, id: u32) -> Option<&mut Vec<Done>> {
    let lsn = state.queue(id)?.active()?.creating?;
    let index = state
        .pending
        .binary_search_by_key(&lsn, |pending| pending.lsn)
        .ok()?;
    match &mut state.pending.get_mut(index)?.op {
        Op::Create { dones, .. } => Some(dones),
        _ => None,
    }
}
