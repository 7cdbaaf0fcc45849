//! Giving old segments back: what is still needed at the front of the log is copied to its end,
//! then the front is dropped.
//!
//! Invariant: only a prefix of the log is ever dropped, and only when no message and no queue
//! definition in it is needed and everything that was copied, with the counters behind it, is
//! durable. So every record that a kept record refers back to is either kept too or has had its
//! effect. Runs on the committer's thread, in small steps between commits.

use std::sync::Arc;

use pinnace_log::{AppendError, LogState, Lsn, Position, ReadError};

use crate::broker::Inner;
use crate::limits::{
    DEFINITION_BYTES, MESSAGE_OVERHEAD_BYTES, RECLAIM_GAIN, RECLAIM_RESERVE_DIVISOR,
    RECLAIM_STEP_BYTES, RECLAIM_STEP_QUEUES,
};
use crate::record::{self, Content, Record};
use crate::state::State;
use crate::steps::{Op, Pending};

/// Looks whether segments can be given back, or takes the next step of doing so.
pub(crate) fn advance(inner: &Arc<Inner>) {
    let (messages, definitions, upto) = {
        let mut state = inner.core.lock();
        // A step in flight comes back here when it is durable.
        if state.reclaim.stepping {
            return;
        }
        let emptying = state.reclaim.upto.is_some();
        let upto = match state.reclaim.upto {
            Some(upto) => upto,
            None => {
                state.index.reclaim_due = false;
                match choose(inner, &state) {
                    Some(upto) => upto,
                    None => return,
                }
            }
        };
        state.reclaim.upto = Some(upto);
        let (messages, definitions) = needed(&state, upto);
        if emptying && messages.is_empty() && definitions.is_empty() {
            state.reclaim.upto = None;
            let pinned = state
                .index
                .segments
                .range(..=upto)
                .any(|(_, usage)| usage.live > 0);
            drop(state);
            // A take in flight still reads there; when it is done, that is worth another look.
            if !pinned {
                give_back(inner, upto);
            }
            return;
        }
        (messages, definitions, upto)
    };
    let read: Vec<_> = messages
        .into_iter()
        .map(|(seq, position)| (seq, position, inner.log.read(position)))
        .collect();
    let mut state = inner.core.lock();
    if !copy(inner, &mut state, read, definitions) {
        // No room now. The next roll or the next emptied segment brings it up again.
        state.reclaim.upto = None;
    } else {
        state.reclaim.upto = Some(upto);
    }
}

/// The last segment of the longest prefix that is worth emptying.
fn choose(inner: &Inner, state: &State) -> Option<u32> {
    let segments = inner.log.segments();
    let (_active, sealed) = segments.split_last()?;
    let cost_max = copy_bytes_max(inner);
    let (mut cost, mut gain, mut best) = (0, 0, None);
    for segment in sealed {
        gain += segment.record_bytes;
        if let Some(usage) = state.index.segments.get(&segment.ordinal) {
            cost += usage.live_bytes
                + u64::from(usage.live) * MESSAGE_OVERHEAD_BYTES
                + u64::from(usage.defined) * DEFINITION_BYTES;
        }
        if cost * RECLAIM_GAIN <= gain && cost <= cost_max {
            best = Some(segment.ordinal);
        }
    }
    best
}

/// Bytes that may be copied now. In a full log only the reserve is left, and that is for takes and
/// deletes before all.
fn copy_bytes_max(inner: &Inner) -> u64 {
    match inner.log.state() {
        LogState::Open => u64::MAX,
        LogState::Full(_) => {
            u64::from(inner.core.options.log.reserve_bytes()) / RECLAIM_RESERVE_DIVISOR
        }
        LogState::Failed(_) => 0,
    }
}

/// Some of the messages and definitions that are needed in segments up to `upto`.
fn needed(state: &State, upto: u32) -> (Vec<(u64, Position)>, Vec<u32>) {
    let (mut messages, mut definitions, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (ordinal, usage) in state.index.segments.range(..=upto) {
        for id in &usage.definitions {
            let here = state
                .queue(*id)
                .is_some_and(|queue| queue.defined == Some(*ordinal));
            if here && definitions.len() < RECLAIM_STEP_QUEUES {
                definitions.push(*id);
            }
        }
        for seq in &usage.seqs {
            let Some(entry) = state.index.messages.get(*seq) else {
                continue;
            };
            let Some(position) = entry.position else {
                continue;
            };
            if position.segment == *ordinal && entry.held > 0 && bytes < RECLAIM_STEP_BYTES {
                bytes += u64::from(entry.bytes);
                messages.push((*seq, position));
            }
        }
    }
    // A queue is defined twice at birth, perhaps in one segment.
    definitions.sort_unstable();
    definitions.dedup();
    (messages, definitions)
}

/// Appends copies, then the counters. False when the log took less than all of it.
fn copy(
    inner: &Inner,
    state: &mut State,
    messages: Vec<(u64, Position, Result<Vec<u8>, ReadError>)>,
    definitions: Vec<u32>,
) -> bool {
    let cost_max = copy_bytes_max(inner);
    let cost = messages
        .iter()
        .map(|(_, _, read)| read.as_ref().map_or(0, |b| b.len() as u64))
        .sum::<u64>()
        + definitions.len() as u64 * DEFINITION_BYTES;
    if cost > cost_max {
        return false;
    }
    // The reserve is touched only in a log known to be full, where the above has kept it small.
    let append = |parts: &[&[u8]]| match cost_max {
        u64::MAX => inner.log.append(parts),
        _ => inner.log.append_urgent(parts),
    };
    for (seq, position, bytes) in messages {
        // It may have been taken while it was read.
        let Some(entry) = state.index.messages.get(seq) else {
            continue;
        };
        if entry.held == 0 || entry.position != Some(position) {
            continue;
        }
        let matching = Arc::clone(&inner.core.routes.find(&entry.topic).0.queues);
        match bytes {
            Ok(bytes) => match copy_message(state, &append, seq, &matching, &bytes) {
                Some(true) => {}
                Some(false) => return false,
                None => state.discard_damaged(seq, &matching),
            },
            Err(ReadError::Damaged { .. }) => state.discard_damaged(seq, &matching),
            Err(ReadError::Gone | ReadError::Io { .. }) => return false,
        }
    }
    for id in definitions {
        let Some(queue) = state.queues.get(u64::from(id)) else {
            continue;
        };
        record::restate(&mut state.scratch, id, queue);
        let Ok(lsn) = append(&[&state.scratch]) else {
            return false;
        };
        let op = Op::Restate { queue: id };
        state.pending.push_back(Pending { lsn, op });
    }
    record::counters(&mut state.scratch, state.next_seq, state.next_queue);
    let Ok(lsn) = append(&[&state.scratch]) else {
        return false;
    };
    let op = Op::ReclaimStep;
    state.pending.push_back(Pending { lsn, op });
    state.reclaim.stepping = true;
    true
}

/// The log's way of appending that fits its state.
type Append<'a> = dyn Fn(&[&[u8]]) -> Result<Lsn, AppendError> + 'a;

/// Appends a copy of the message whose record is `bytes`. False when the log did not take it, `None`
/// when the record is no message.
fn copy_message(
    state: &mut State,
    append: &Append<'_>,
    seq: u64,
    matching: &[u32],
    bytes: &[u8],
) -> Option<bool> {
    let Ok(Record::Message {
        published_us,
        content,
        ..
    }) = record::decode(bytes)
    else {
        return None;
    };
    // Whoever holds it now, which need not be whoever it was published to.
    let holders = state.holders(seq, matching);
    let Content {
        topic,
        headers,
        payload,
    } = content;
    let head = &mut state.scratch;
    record::message_head(
        head,
        record::COPY,
        seq,
        published_us,
        &holders,
        topic,
        headers,
    );
    let Ok(lsn) = append(&[head, topic, headers, payload]) else {
        return Some(false);
    };
    let op = Op::Copy { seq };
    state.pending.push_back(Pending { lsn, op });
    Some(true)
}

/// Makes the committer look for segments to give back: a snapshot that held some is gone, and there may
/// be nothing else that brings it up.
pub(crate) fn look_again(inner: &Inner) {
    let mut state = inner.core.lock();
    state.index.reclaim_due = true;
    // A step that is under way looks when it is durable.
    if state.reclaim.stepping {
        return;
    }
    let (next_seq, next_queue) = (state.next_seq, state.next_queue);
    record::counters(&mut state.scratch, next_seq, next_queue);
    if let Ok(lsn) = inner.log.append_urgent(&[&state.scratch]) {
        let op = Op::ReclaimStep;
        state.pending.push_back(Pending { lsn, op });
        state.reclaim.stepping = true;
    }
}

/// Drops the segments up to `upto`, which nobody needs.
fn give_back(inner: &Inner, upto: u32) {
    let segments = inner.log.segments();
    let Some(next) = segments.iter().find(|segment| segment.ordinal > upto) else {
        return;
    };
    // A removal that fails leaves a shorter prefix dropped; the rest is tried again after the next
    // roll.
    let _ = inner.log.drop_segments_before(next.first_lsn);
    let first_kept = inner
        .log
        .segments()
        .first()
        .map_or(0, |segment| segment.ordinal);
    let mut state = inner.core.lock();
    state.index.segments = state.index.segments.split_off(&first_kept);
}
