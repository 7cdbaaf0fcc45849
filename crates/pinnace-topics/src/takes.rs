//! Taking messages for good, reading them from the log, and giving back what did not arrive.
//!
//! Invariant: a message is given to one taker, and its removal is durable before the taker has
//! it. A taker that drops its receipt without confirming did not get the messages: they go back to
//! their place in the queue, durably, as copies near the end of the log. What cannot be read for
//! an error of the disk stays; what is damaged is left out and counted.

use std::sync::{Arc, Weak};

use pinnace_log::{Position, ReadError};

use crate::broker::{Broker, Inner};
use crate::error::{Error, StoreError};
use crate::limits::TAKE_BYTES_MAX;
use crate::queues::no_such_queue;
use crate::record::{self, Record};
use crate::state::State;
use crate::steps::{Op, Pending, Take};

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

/// What a take got.
#[derive(Debug)]
pub struct Taken {
    /// The messages, oldest first.
    pub messages: Vec<Stored>,
    /// To be confirmed once they have arrived where they were wanted.
    pub receipt: Receipt,
}

/// Called with what a take got; same rules as `Done`.
pub type TakeDone = Box<dyn FnOnce(Result<Taken, StoreError>) + Send>;

/// The promise to say whether taken messages arrived. Dropped, it says that they did not.
#[derive(Debug)]
pub struct Receipt {
    inner: Weak<Inner>,
    queue: u32,
    seqs: Vec<u64>,
}

impl Receipt {
    /// The messages have arrived, and are forgotten.
    pub fn confirm(mut self) {
        let seqs = std::mem::take(&mut self.seqs);
        if let Some(inner) = self.inner.upgrade() {
            inner.core.lock().index.unpin(&seqs);
        }
    }

    /// Ends it without a word to the broker.
    pub(crate) fn void(mut self) -> (u32, Vec<u64>) {
        (self.queue, std::mem::take(&mut self.seqs))
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade()
            && !self.seqs.is_empty()
        {
            give_back(&inner, self.queue, &self.seqs);
        }
    }
}

impl Broker {
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
        loop {
            let seqs = {
                let mut state = self.inner.core.lock();
                let durable_seq = state.durable_seq;
                state.pop(id, bounded(max, durable_seq))
            };
            let read = read(&self.inner, &places(&self.inner, &seqs));
            let mut guard = self.inner.core.lock();
            let state = &mut *guard;
            if state.queue(id).is_none() {
                state.index.unpin(&seqs);
                return Err(no_such_queue(pattern, name));
            }
            let seqs = keep_readable(state, id, seqs, &read)?;
            let receipt = Receipt {
                inner: Arc::downgrade(&self.inner),
                queue: id,
                seqs,
            };
            if receipt.seqs.is_empty() {
                let messages = Vec::new();
                drop(guard);
                done(Ok(Taken { messages, receipt }));
                self.inner.core.called();
                return Ok(());
            }
            record::settle(&mut state.scratch, id, &receipt.seqs);
            let lsn = match self.inner.log.append_urgent(&[&state.scratch]) {
                Ok(lsn) => lsn,
                Err(error) => {
                    let (_, seqs) = receipt.void();
                    state.put_back(id, &seqs);
                    return Err(Error::Store(error.into()));
                }
            };
            if read.messages.is_empty() {
                // All of them were damaged. More may wait behind them, and each round takes some.
                let (queue, seqs) = receipt.void();
                let op = Op::Settle {
                    queue,
                    seqs,
                    through: 0,
                    lease: None,
                    dones: Vec::new(),
                };
                state.pending.push_back(Pending { lsn, op });
                continue;
            }
            let take = Take {
                messages: read.messages,
                receipt,
                done,
            };
            let op = Op::Take(Box::new(take));
            state.pending.push_back(Pending { lsn, op });
            return Ok(());
        }
    }
}

/// The condition under which `State::pop` goes on for a reader that wants at most `max` messages.
pub(crate) fn bounded(max: usize, durable_seq: u64) -> impl FnMut(u64, u64, u64) -> bool {
    let (mut count, mut bytes) = (0, 0);
    move |seq, message_bytes, _| {
        count += 1;
        bytes += message_bytes;
        seq <= durable_seq && count <= max && (bytes <= TAKE_BYTES_MAX || count == 1)
    }
}

/// Of messages that were popped, those that need not go back: all, unless the disk could not be
/// read. Counts the damaged ones.
fn keep_readable(
    state: &mut State,
    id: u32,
    mut seqs: Vec<u64>,
    read: &Read,
) -> Result<Vec<u64>, StoreError> {
    if let Some((unreadable, reason)) = &read.unreadable {
        let at = seqs.partition_point(|seq| seq < unreadable);
        let back = seqs.split_off(at);
        state.put_back(id, &back);
        if seqs.is_empty() {
            return Err(StoreError::Unreadable(reason.clone()));
        }
    }
    if !read.damaged.is_empty()
        && let Some(queue) = state.queue_mut(id)
    {
        queue.active_mut().damaged += read.damaged.len() as u64;
    }
    Ok(seqs)
}

/// Where messages are.
pub(crate) fn places(inner: &Inner, seqs: &[u64]) -> Vec<(u64, Option<Position>)> {
    let state = inner.core.lock();
    let place = |seq: &u64| {
        let entry = state.index.messages.get(*seq);
        (*seq, entry.and_then(|entry| entry.position))
    };
    seqs.iter().map(place).collect()
}

/// What reading messages gave.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) messages: Vec<Stored>,
    pub(crate) damaged: Vec<u64>,
    /// The first that the disk would not give, and why. Nothing behind it was read.
    pub(crate) unreadable: Option<(u64, String)>,
}

/// Reads messages in order.
pub(crate) fn read(inner: &Inner, places: &[(u64, Option<Position>)]) -> Read {
    let mut read = Read::default();
    for (seq, position) in places {
        let mut position = *position;
        while let Some(at) = position {
            match inner.log.read(at) {
                Ok(bytes) => {
                    match stored(&bytes) {
                        Some(message) if message.seq == *seq => read.messages.push(message),
                        _ => read.damaged.push(*seq),
                    }
                    break;
                }
                // It was copied towards the end of the log, or given up by everybody meanwhile.
                Err(ReadError::Gone) => {
                    let state = inner.core.lock();
                    let entry = state.index.messages.get(*seq);
                    let now = entry.and_then(|entry| entry.position);
                    position = now.filter(|now| *now != at);
                }
                Err(ReadError::Damaged { .. }) => {
                    read.damaged.push(*seq);
                    break;
                }
                Err(error @ ReadError::Io { .. }) => {
                    read.unreadable = Some((*seq, error.to_string()));
                    return read;
                }
            }
        }
    }
    read
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

/// Puts taken messages back into their queue. Their removal is durable, so their return must be
/// too: by a copy, which names everybody who holds the message, for from then on it is what counts.
/// If the log takes none, they are back until a restart.
fn give_back(inner: &Arc<Inner>, queue: u32, seqs: &[u64]) {
    let read = read(inner, &places(inner, seqs));
    let mut calls = Vec::new();
    {
        let mut guard = inner.core.lock();
        let state = &mut *guard;
        let exists = state.queue(queue).is_some();
        state.put_back(queue, seqs);
        for message in read.messages.iter().filter(|_| exists) {
            let matching = Arc::clone(&inner.core.routes.find(&message.topic).0.queues);
            let holders = state.holders(message.seq, &matching);
            let head = &mut state.scratch;
            let (topic, headers) = (&message.topic, &message.headers);
            let (seq, published_us) = (message.seq, message.published_us);
            record::message_head(
                head,
                record::COPY,
                seq,
                published_us,
                &holders,
                topic,
                headers,
            );
            let parts: [&[u8]; 4] = [head, topic, headers, &message.payload];
            if let Ok(lsn) = inner.log.append_urgent(&parts) {
                let op = Op::Copy { seq };
                state.pending.push_back(Pending { lsn, op });
            }
        }
        state.wake(queue, &mut calls);
    }
    for call in calls {
        call.run();
    }
}
