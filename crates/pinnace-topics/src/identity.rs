//! The identities of messages that their publishers gave one, so that a repeated publish is not a
//! second message.
//!
//! Invariant: an identity is remembered for the window from its publication, across restarts if
//! its message is still stored, unless so many come that the oldest must be forgotten.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use pinnace_log::Lsn;

use crate::limits::IDENTITIES_MAX;

/// What the first publish with an identity became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its number, if it was stored.
    pub(crate) seq: Option<u64>,
    /// Its record, while that may not be durable yet.
    pub(crate) lsn: Option<Lsn>,
    /// Queues it was stored for.
    pub(crate) queues: u32,
    published_us: u64,
}

#[derive(Default)]
pub(crate) struct Identities {
    seen: HashMap<Arc<[u8]>, Seen>,
    /// By time of publication, oldest first. Entries of forgotten identities stay until then.
    order: VecDeque<(u64, Arc<[u8]>)>,
}

/// Topics hold no white space, so the two cannot run into one another.
pub(crate) fn key(topic: &[u8], id: &[u8]) -> Arc<[u8]> {
    [topic, b" ", id].concat().into()
}

impl Identities {
    pub(crate) fn seen(&self, key: &[u8], now_us: u64, window_us: u64) -> Option<Seen> {
        let seen = self.seen.get(key)?;
        (now_us < seen.published_us.saturating_add(window_us)).then_some(*seen)
    }

    pub(crate) fn remember(
        &mut self,
        key: Arc<[u8]>,
        published_us: u64,
        window_us: u64,
        (seq, lsn, queues): (Option<u64>, Option<Lsn>, u32),
    ) {
        while let Some((oldest_us, _)) = self.order.front() {
            let over = oldest_us.saturating_add(window_us) <= published_us;
            if !over && self.order.len() < IDENTITIES_MAX {
                break;
            }
            if let Some((us, key)) = self.order.pop_front()
                && self
                    .seen
                    .get(&key)
                    .is_some_and(|seen| seen.published_us == us)
            {
                self.seen.remove(&key);
            }
        }
        let seen = Seen {
            seq,
            lsn,
            queues,
            published_us,
        };
        self.order.push_back((published_us, Arc::clone(&key)));
        self.seen.insert(key, seen);
    }

    /// The message was refused after all.
    pub(crate) fn forget(&mut self, key: &[u8]) {
        self.seen.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_lasts_for_the_window() {
        let mut identities = Identities::default();
        let key = key(b"t", b"1");
        identities.remember(Arc::clone(&key), 1000, 50, (Some(7), None, 1));
        assert_eq!(identities.seen(&key, 1049, 50).unwrap().seq, Some(7));
        assert_eq!(identities.seen(&key, 1050, 50), None);
        identities.remember(Arc::clone(&key), 1060, 50, (Some(8), None, 1));
        assert_eq!(identities.seen(&key, 1070, 50).unwrap().seq, Some(8));
        identities.forget(&key);
        assert_eq!(identities.seen(&key, 1070, 50), None);
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let mut identities = Identities::default();
        for n in 0..=IDENTITIES_MAX as u64 {
            let key = key(b"t", n.to_string().as_bytes());
            identities.remember(key, n, u64::MAX, (None, None, 0));
        }
        assert_eq!(identities.seen.len(), IDENTITIES_MAX);
        assert_eq!(identities.seen(b"t 0", 0, u64::MAX), None);
        assert!(identities.seen(b"t 1", 1, u64::MAX).is_some());
    }
}
