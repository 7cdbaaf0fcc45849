//! Which live subscribers are behind or missed something, for whoever asks about a topic.
//!
//! Invariant: a subscriber is known from its beginning to its end, and asked nothing while it keeps up.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pinnace_proto::api::BehindEntry;

use super::SlowPolicy;
use crate::harbour::Harbour;

/// A subscriber that keeps to a choice.
pub(crate) trait Subscriber: Send + Sync {
    fn look(&self) -> Look;
}

/// How it is doing.
pub(crate) struct Look {
    pub(crate) policy: SlowPolicy,
    pub(crate) waiting_bytes: usize,
    /// Messages it did not get so far.
    pub(crate) dropped: u64,
    /// A queue stands in for it.
    pub(crate) is_spilling: bool,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Subscribers(Mutex<State>);

#[derive(Default)]
struct State {
    by_pattern: HashMap<Box<[u8]>, BTreeMap<u64, Known>>,
    entered: u64,
}

struct Known {
    client: String,
    subscriber: Weak<dyn Subscriber>,
}

impl Subscribers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of a pattern that are behind or missed something.
    pub(crate) fn behind(&self, pattern: &[u8]) -> Vec<BehindEntry> {
        let state = self.lock();
        let known = state.by_pattern.get(pattern).into_iter();
        known.flat_map(BTreeMap::values).filter_map(entry).collect()
    }
}

fn entry(known: &Known) -> Option<BehindEntry> {
    let look = known.subscriber.upgrade()?.look();
    let is_behind = look.waiting_bytes > 0 || look.dropped > 0 || look.is_spilling;
    is_behind.then(|| BehindEntry {
        client: known.client.clone(),
        policy: look.policy.name().to_owned(),
        waiting_bytes: look.waiting_bytes as u64,
        dropped: look.dropped,
        spilling: look.is_spilling,
    })
}

/// A subscriber is known while this lives.
pub(crate) struct Entered {
    harbour: Arc<Harbour>,
    pattern: Box<[u8]>,
    number: u64,
}

impl Entered {
    pub(crate) fn new(
        harbour: &Arc<Harbour>,
        pattern: &[u8],
        client: String,
        subscriber: Weak<dyn Subscriber>,
    ) -> Self {
        let mut state = harbour.slow_subscribers.lock();
        state.entered += 1;
        let number = state.entered;
        let known = Known { client, subscriber };
        let of_pattern = state.by_pattern.entry(pattern.into()).or_default();
        of_pattern.insert(number, known);
        drop(state);
        Self {
            harbour: harbour.clone(),
            pattern: pattern.into(),
            number,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut state = self.harbour.slow_subscribers.lock();
        if let Some(of_pattern) = state.by_pattern.get_mut(&self.pattern) {
            of_pattern.remove(&self.number);
            if of_pattern.is_empty() {
                state.by_pattern.remove(&self.pattern);
            }
        }
    }
}
