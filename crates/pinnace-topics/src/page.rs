//! Reading what is stored without being a queue: for readers that keep their own place.
//!
//! Invariant: a page and the word whether something before its end is gone are of one moment. Only
//! durable messages are handed out, in the order of their numbers; nothing is changed by reading.

use pinnace_log::Position;

use crate::broker::{Broker, Inner};
use crate::error::{Error, StoreError, printable};
use crate::limits::{PAGE_SCAN_MAX, TAKE_BYTES_MAX, WAKES_MAX};
use crate::queues::{Done, Wake, WakeId, no_such_queue};
use crate::takes::{Stored, bounded, read};
use crate::topic;

/// What a look into a queue found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// The messages, oldest first; damaged ones are left out.
    pub messages: Vec<Stored>,
    /// The last message looked at, damaged or not: what to consume through. `None` when no durable
    /// message waits.
    pub through_seq: Option<u64>,
}

/// Part of what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The messages, oldest first; damaged ones are left out.
    pub messages: Vec<Stored>,
    /// Everything durable up to this number was looked at: where the next page begins.
    pub through_seq: u64,
    /// Nothing durable is behind this page.
    pub last: bool,
    /// A message after the page's beginning, on a topic that matches, is stored no more. Can be true
    /// without need: after a restart, for patterns, and by chance for one topic in some thousands.
    pub gone: bool,
}

impl Broker {
    /// Up to `max` stored messages whose topic matches `pattern` and whose number is above `after_seq`.
    ///
    /// # Errors
    /// `InvalidPattern`.
    pub fn page(&self, pattern: &[u8], after_seq: u64, max: usize) -> Result<Page, Error> {
        if !topic::is_valid_pattern(pattern) {
            return Err(Error::InvalidPattern {
                pattern: printable(pattern),
            });
        }
        let mut page = Page::default();
        let mut places: Vec<(u64, Option<Position>)> = Vec::new();
        {
            let state = self.inner.core.lock();
            page.gone = state.index.gone.latest(pattern) > after_seq;
            page.through_seq = after_seq.max(state.durable_seq);
            page.last = true;
            let (mut scanned, mut bytes) = (0, 0);
            let later = state.index.messages.range(after_seq.saturating_add(1));
            for (seq, entry) in later.take_while(|(seq, _)| *seq <= state.durable_seq) {
                scanned += 1;
                let wanted = topic::matches(pattern, &entry.topic);
                bytes += u64::from(entry.bytes) * u64::from(wanted);
                let full = places.len() == max || (bytes > TAKE_BYTES_MAX && !places.is_empty());
                if scanned > PAGE_SCAN_MAX || (wanted && full) {
                    (page.through_seq, page.last) = (seq - 1, false);
                    break;
                }
                if wanted {
                    places.push((seq, entry.position));
                }
            }
        }
        let read = read(&self.inner, &places);
        if let Some((_, reason)) = read.unreadable {
            return Err(StoreError::Unreadable(reason).into());
        }
        // What was consumed by everybody while it was read is gone too.
        page.gone |= read.messages.len() + read.damaged.len() < places.len();
        page.messages = read.messages;
        Ok(page)
    }

    /// Like `peek`, but of what waits behind `after_seq`.
    ///
    /// # Errors
    /// `NoSuchQueue`.
    pub fn peek_after(
        &self,
        pattern: &[u8],
        name: &str,
        after_seq: u64,
        max: usize,
    ) -> Result<Peeked, Error> {
        let mut places = Vec::new();
        {
            let state = self.inner.core.lock();
            let id = state.queue_id(pattern, name);
            let queue = id.and_then(|id| state.queue(id));
            let queue = queue.ok_or_else(|| no_such_queue(pattern, name))?;
            let mut more = bounded(max, state.durable_seq);
            for seq in queue.waiting_after(after_seq) {
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

    /// Like `notify`, but for a durable message behind `after_seq`.
    ///
    /// # Errors
    /// `NoSuchQueue`, `TooManyWaiting`.
    pub fn notify_after(
        &self,
        pattern: &[u8],
        name: &str,
        after_seq: u64,
        wake: Wake,
    ) -> Result<WakeId, Error> {
        let mut guard = self.inner.core.lock();
        let state = &mut *guard;
        let id = state.queue_id(pattern, name);
        let queue = id.and_then(|id| state.queues.get_mut(u64::from(id)));
        let queue = queue.ok_or_else(|| no_such_queue(pattern, name))?;
        state.next_wake += 1;
        let wake_id = WakeId(state.next_wake);
        let behind = queue.waiting_after(after_seq).next();
        if behind.is_some_and(|seq| seq <= state.durable_seq) {
            drop(guard);
            wake();
            return Ok(wake_id);
        }
        let wakes = &mut queue.active_mut().wakes;
        if wakes.len() >= WAKES_MAX {
            return Err(Error::TooManyWaiting { waiting: WAKES_MAX });
        }
        wakes.push((wake_id, wake));
        Ok(wake_id)
    }

    /// Calls `done` once the fate of everything published before is known: it is durable, or was
    /// refused. At once when nothing is on its way.
    pub fn settle(&self, done: Done) {
        let mut state = self.inner.core.lock();
        match state.pending.back().map(|pending| pending.lsn) {
            Some(lsn) => state.settling.push_back((lsn, done)),
            None => {
                let seq = state.durable_seq;
                drop(state);
                self.inner.answer(done, seq);
            }
        }
    }
}

/// Reads what a look found.
pub(crate) fn peeked(inner: &Inner, places: &[(u64, Option<Position>)]) -> Result<Peeked, Error> {
    let read = read(inner, places);
    let mut through_seq = places.last().map(|(seq, _)| *seq);
    if let Some((unreadable, reason)) = read.unreadable {
        let seqs = places.iter().map(|(seq, _)| *seq);
        through_seq = seqs.take_while(|seq| *seq < unreadable).last();
        if through_seq.is_none() {
            return Err(StoreError::Unreadable(reason).into());
        }
    }
    Ok(Peeked {
        messages: read.messages,
        through_seq,
    })
}

/// Which numbers are stored no more, roughly: the latest for each of some thousand groups of topics,
/// in constant space and a few nanoseconds, because every message comes by here.
pub(crate) struct Gone {
    /// By hash of the topic.
    latest: Box<[u64]>,
    /// Of all.
    overall: u64,
}

const GROUPS: usize = 4096;

impl Default for Gone {
    fn default() -> Gone {
        Gone {
            latest: vec![0; GROUPS].into_boxed_slice(),
            overall: 0,
        }
    }
}

impl Gone {
    /// A message is stored no more.
    pub(crate) fn note(&mut self, topic: &[u8], seq: u64) {
        let latest = &mut self.latest[group(topic)];
        *latest = seq.max(*latest);
        self.overall = seq.max(self.overall);
    }

    /// What was dropped up to `seq` is not known: it was in another process.
    pub(crate) fn forget_through(&mut self, seq: u64) {
        for latest in self.latest.iter_mut().chain([&mut self.overall]) {
            *latest = seq.max(*latest);
        }
    }

    /// At least the number of the latest dropped message that matches.
    fn latest(&self, pattern: &[u8]) -> u64 {
        if topic::has_wildcards(pattern) {
            self.overall
        } else {
            self.latest[group(pattern)]
        }
    }
}

/// FNV-1a. Whoever chooses topics so that they collide only makes streams mention gaps needlessly.
fn group(topic: &[u8]) -> usize {
    let hash = topic.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as usize % GROUPS
}
