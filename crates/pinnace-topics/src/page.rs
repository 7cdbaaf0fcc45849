//! Reading what is stored without being a queue: for readers that keep their own place.
//!
//! Invariant: a page and the word whether something before its end is gone are of one moment. Only
//! durable messages are handed out, in the order of their numbers; nothing is changed by reading.

use pinnace_log::Position;

use crate::broker::Broker;
use crate::error::{Error, StoreError, printable};
use crate::limits::{PAGE_SCAN_MAX, TAKE_BYTES_MAX};
use crate::queues::Done;
use crate::takes::{Stored, read};
use crate::topic;

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
    /// `InvalidPattern`; `Store` when the disk cannot be read.
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
            page.gone = state.index.dropped.latest(pattern) > after_seq;
            page.through_seq = after_seq.max(state.durable_seq);
            page.last = true;
            let (mut scanned, mut bytes) = (0, 0);
            let later = state.index.messages.range(after_seq.saturating_add(1));
            for (seq, entry) in later.take_while(|(seq, _)| *seq <= state.durable_seq) {
                scanned += 1;
                let wanted = entry.held > 0 && topic::matches(pattern, &entry.topic);
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
        // What was consumed by everybody while it was read is gone too, and so is what is damaged.
        page.gone |= read.messages.len() < places.len();
        page.messages = read.messages;
        Ok(page)
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
                done(Ok(seq));
            }
        }
    }
}

/// Which numbers are stored no more, roughly: the latest for each of some thousand groups of topics,
/// in constant space and a few nanoseconds, because every message comes by here.
pub(crate) struct Dropped {
    /// By hash of the topic.
    latest: Box<[u64]>,
    /// Of all.
    overall: u64,
}

const GROUPS: usize = 4096;

impl Default for Dropped {
    fn default() -> Dropped {
        Dropped {
            latest: vec![0; GROUPS].into_boxed_slice(),
            overall: 0,
        }
    }
}

impl Dropped {
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
