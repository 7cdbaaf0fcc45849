//! Making room: limits of queues and of the whole, and messages that are too old.
//!
//! Invariant: what is dropped is dropped durably, and counted in the queue's status; for a message
//! that is refused nothing is dropped.

use std::sync::Arc;

use crate::broker::{Inner, Options};
use crate::error::{PublishError, StoreError, printable};
use crate::limits::TICK_DROPS_MAX;
use crate::queue::{Overflow, Queue};
use crate::queues::delete;
use crate::record;
use crate::routing::MatchSet;
use crate::state::State;
use crate::steps::{Op, Pending};

/// Sees to it that a message of `bytes` fits everywhere: drops or deletes where a queue asked for
/// that, and refuses otherwise. Returns the matches that are left.
pub(crate) fn make_room(
    inner: &Inner,
    state: &mut State,
    mut set: Arc<MatchSet>,
    topic: &[u8],
    bytes: u64,
) -> Result<Arc<MatchSet>, PublishError> {
    let limits = &inner.core.options;
    let (messages, stored) = (state.index.messages.len() as u64, state.index.bytes);
    if messages >= limits.messages_max || stored.saturating_add(bytes) > limits.bytes_max {
        return Err(PublishError::ServerLimit {
            messages,
            bytes: stored,
        });
    }
    let mut overs = Vec::new();
    for id in set.queues.iter() {
        match state
            .queue(*id)
            .and_then(|queue| over(queue, limits, bytes))
        {
            // Before anything is dropped for a message that is refused.
            Some(over) if over.overflow == Overflow::Refuse || over.is_beyond(state, *id) => {
                return Err(over.refusal);
            }
            Some(over) => overs.push((*id, over)),
            None => {}
        }
    }
    for (id, over) in overs {
        match over.overflow {
            Overflow::Refuse => {}
            Overflow::DropOldest => {
                let (mut messages, mut stored) = (over.messages, over.bytes);
                let dropped = state.pop(id, |_, message_bytes, _| {
                    let more = messages > 0 || stored > 0;
                    messages = messages.saturating_sub(1);
                    stored = stored.saturating_sub(message_bytes);
                    more
                });
                drop_popped(inner, state, id, dropped)?;
            }
            Overflow::Expire => {
                delete(inner, state, id, None)?;
                set = inner.core.routes.find(topic).0;
            }
        }
    }
    Ok(set)
}

/// By how much a message is too much for a queue.
struct Over {
    messages: u64,
    bytes: u64,
    overflow: Overflow,
    refusal: PublishError,
}

impl Over {
    /// Whether the oldest cannot make enough room: the rest is leased, or the message alone is too large.
    fn is_beyond(&self, state: &State, id: u32) -> bool {
        if self.overflow != Overflow::DropOldest {
            return false;
        }
        let Some(active) = state.queue(id).and_then(Queue::active) else {
            return true;
        };
        let leased = active.leased.keys();
        let leased = leased.filter_map(|seq| state.index.messages.get(*seq));
        let leased_bytes: u64 = leased.map(|entry| u64::from(entry.bytes)).sum();
        self.messages > active.waiting.len() as u64 || self.bytes > active.bytes - leased_bytes
    }
}

fn over(queue: &Queue, limits: &Options, bytes: u64) -> Option<Over> {
    let options = queue.options.as_deref();
    let messages_max = options.and_then(|options| options.messages_max);
    let messages_max = messages_max.map_or(limits.queue_messages_max, |max| {
        max.min(limits.queue_messages_max)
    });
    let bytes_max = options.and_then(|options| options.bytes_max);
    let bytes_max = bytes_max.map_or(limits.queue_bytes_max, |max| {
        max.min(limits.queue_bytes_max)
    });
    let messages_over = (queue.messages() + 1).saturating_sub(messages_max);
    let bytes_over = queue
        .bytes()
        .saturating_add(bytes)
        .saturating_sub(bytes_max);
    (messages_over > 0 || bytes_over > 0).then(|| Over {
        messages: messages_over,
        bytes: bytes_over,
        overflow: options.map_or(Overflow::Refuse, |options| options.overflow),
        refusal: PublishError::QueueLimit {
            pattern: printable(&queue.pattern),
            name: queue.name.to_string(),
            messages: queue.messages(),
            bytes: queue.bytes(),
        },
    })
}

/// Drops what is too old, a bounded number at a time.
pub(crate) fn drop_aged(inner: &Inner, state: &mut State) {
    let now_us = (inner.core.clock)();
    for id in state.aging.clone() {
        let age_max_us = state
            .queue(id)
            .and_then(|queue| queue.options.as_ref()?.age_max_us);
        let Some(age_max_us) = age_max_us else {
            continue;
        };
        let (durable_seq, mut looked_at) = (state.durable_seq, 0);
        let old = state.pop(id, |seq, _, published_us| {
            looked_at += 1;
            looked_at <= TICK_DROPS_MAX
                && seq <= durable_seq
                && published_us.saturating_add(age_max_us) <= now_us
        });
        // A disk that takes nothing now is asked again at the next tick.
        let _ = drop_popped(inner, state, id, old);
    }
}

/// Forgets popped messages for good and counts them as dropped.
fn drop_popped(
    inner: &Inner,
    state: &mut State,
    id: u32,
    seqs: Vec<u64>,
) -> Result<(), StoreError> {
    let Some(&through) = seqs.last() else {
        return Ok(());
    };
    record::settle(&mut state.scratch, id, &seqs);
    let lsn = match inner.log.append_urgent(&[&state.scratch]) {
        Ok(lsn) => lsn,
        Err(error) => {
            state.put_back(id, &seqs);
            return Err(error.into());
        }
    };
    if let Some(queue) = state.queue_mut(id) {
        queue.active_mut().dropped += seqs.len() as u64;
    }
    let op = Op::Settle {
        queue: id,
        seqs,
        through,
        lease: None,
        dones: Vec::new(),
    };
    state.pending.push_back(Pending { lsn, op });
    Ok(())
}
