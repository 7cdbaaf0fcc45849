//! The index of stored messages: where each is, who still needs it, and what that makes of the
//! log's segments.
//!
//! Invariant: a message is in the index while a queue holds it or somebody who was given it, or a
//! step in flight, pins it. Who holds what is the queues' business; here are only counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pinnace_log::Position;

use crate::page::Gone;
use crate::paged::Paged;

/// A stored message.
pub(crate) struct Entry {
    /// Where its record is, once that is durable.
    pub(crate) position: Option<Position>,
    /// Queues that hold it.
    pub(crate) held: u32,
    /// Takes, consumptions and deletions in flight that may still need it.
    pins: u32,
    /// Topic, headers and payload.
    pub(crate) bytes: u32,
    pub(crate) published_us: u64,
    pub(crate) topic: Arc<[u8]>,
}

/// Stored messages of one topic.
#[derive(Default, Clone, Copy)]
pub(crate) struct TopicUse {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// What a segment of the log is still needed for.
#[derive(Default)]
pub(crate) struct SegmentUse {
    pub(crate) live: u32,
    pub(crate) live_bytes: u64,
    /// Messages that were put here; some may be gone or moved.
    pub(crate) seqs: Vec<u64>,
    /// Queues whose latest definition is here.
    pub(crate) defined: u32,
    /// Queues that were defined here; some may be gone or redefined.
    pub(crate) definitions: Vec<u32>,
}

#[derive(Default)]
pub(crate) struct Index {
    pub(crate) messages: Paged<Entry>,
    /// Of all messages.
    pub(crate) bytes: u64,
    pub(crate) topics: HashMap<Arc<[u8]>, TopicUse>,
    pub(crate) segments: BTreeMap<u32, SegmentUse>,
    /// Messages that are stored no more.
    pub(crate) gone: Gone,
    /// The segment of the latest durable record.
    pub(crate) active_segment: u32,
    /// It is worth looking for segments to give back.
    pub(crate) reclaim_due: bool,
}

impl Index {
    /// Adds a message that `held` queues hold.
    pub(crate) fn add(
        &mut self,
        seq: u64,
        held: u32,
        topic: &Arc<[u8]>,
        bytes: u32,
        published_us: u64,
    ) {
        let topic = match self.topics.get_key_value(topic) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::clone(topic),
        };
        let usage = self.topics.entry(Arc::clone(&topic)).or_default();
        usage.messages += 1;
        usage.bytes += u64::from(bytes);
        self.bytes += u64::from(bytes);
        let entry = Entry {
            position: None,
            held,
            pins: 0,
            bytes,
            published_us,
            topic,
        };
        self.messages.insert(seq, entry);
    }

    /// Notes where a message's record is, or where its copy is now.
    pub(crate) fn place(&mut self, seq: u64, position: Position) {
        let Some(entry) = self.messages.get_mut(seq) else {
            return;
        };
        let bytes = entry.bytes;
        let old = entry.position.replace(position);
        let usage = self.segments.entry(position.segment).or_default();
        usage.live += 1;
        usage.live_bytes += u64::from(bytes);
        usage.seqs.push(seq);
        self.displace(old, bytes);
    }

    fn displace(&mut self, position: Option<Position>, bytes: u32) {
        let Some(position) = position else { return };
        if let Some(usage) = self.segments.get_mut(&position.segment) {
            usage.live -= 1;
            usage.live_bytes -= u64::from(bytes);
            self.reclaim_due |= usage.live == 0 && position.segment != self.active_segment;
        }
    }

    /// A queue more holds it. Returns its bytes.
    pub(crate) fn hold(&mut self, seq: u64) -> Option<u32> {
        let entry = self.messages.get_mut(seq)?;
        entry.held += 1;
        Some(entry.bytes)
    }

    /// A queue fewer holds it, but it is still needed until `unpin`.
    pub(crate) fn pin(&mut self, seq: u64) {
        if let Some(entry) = self.messages.get_mut(seq) {
            entry.held -= 1;
            entry.pins += 1;
        }
    }

    /// Undoes `pin`. Returns its bytes.
    pub(crate) fn hold_pinned(&mut self, seq: u64) -> Option<u32> {
        let entry = self.messages.get_mut(seq)?;
        entry.held += 1;
        entry.pins -= 1;
        Some(entry.bytes)
    }

    /// Messages that were pinned are needed no longer by whoever did it.
    pub(crate) fn unpin(&mut self, seqs: &[u64]) {
        for seq in seqs {
            if let Some(entry) = self.messages.get_mut(*seq) {
                entry.pins -= 1;
                self.forget_if_unneeded(*seq);
            }
        }
    }

    pub(crate) fn forget_if_unneeded(&mut self, seq: u64) {
        if let Some(entry) = self.messages.get(seq)
            && entry.held == 0
            && entry.pins == 0
        {
            self.forget(seq);
        }
    }

    fn forget(&mut self, seq: u64) {
        if let Some(entry) = self.remove(seq) {
            self.gone.note(&entry.topic, seq);
        }
    }

    /// Takes a message out of the index as if it had never been there.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.messages.remove(seq)?;
        self.bytes -= u64::from(entry.bytes);
        if let Some(usage) = self.topics.get_mut(&entry.topic) {
            usage.messages -= 1;
            usage.bytes -= u64::from(entry.bytes);
            if usage.messages == 0 {
                self.topics.remove(&entry.topic);
            }
        }
        self.displace(entry.position, entry.bytes);
        Some(entry)
    }

    /// Notes in which segment a queue is defined now, and in which it was.
    pub(crate) fn define(&mut self, id: u32, segment: u32, old: Option<u32>) {
        self.undefine(old);
        let usage = self.segments.entry(segment).or_default();
        usage.defined += 1;
        // A queue is defined twice at birth, mostly in one segment.
        if usage.definitions.last() != Some(&id) {
            usage.definitions.push(id);
        }
    }

    pub(crate) fn undefine(&mut self, segment: Option<u32>) {
        if let Some(usage) = segment.and_then(|segment| self.segments.get_mut(&segment)) {
            usage.defined -= 1;
        }
    }

    /// A queue that was taken away is there again.
    pub(crate) fn redefine(&mut self, segment: Option<u32>) {
        if let Some(usage) = segment.and_then(|segment| self.segments.get_mut(&segment)) {
            usage.defined += 1;
        }
    }
}
