//! Fetches with an id, so that one whose answer was lost can be asked again.
//!
//! Invariant: for two minutes, or as long as its lease, a repeated fetch gets what the first got,
//! unless so much was fetched since that the oldest answers had to go. Fetches with one id take turns.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinnace_topics::{LeaseId, LeasedMessage};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::limits::{FETCH_WINDOW, FETCHES_BYTES_MAX};

/// What a fetch got.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetched {
    pub(crate) lease: Option<LeaseId>,
    pub(crate) messages: Vec<LeasedMessage>,
}

impl Fetched {
    fn bytes(&self) -> usize {
        let message = |leased: &LeasedMessage| {
            let message = &leased.message;
            message.topic.len() + message.headers.len() + message.payload.len()
        };
        self.messages.iter().map(message).sum()
    }
}

/// A subscriber of a topic and the id it gave its fetch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FetchKey {
    topic: Box<str>,
    subscriber: Box<str>,
    id: Box<str>,
}

impl FetchKey {
    pub(crate) fn new(topic: &str, subscriber: &str, id: &str) -> Self {
        Self {
            topic: topic.into(),
            subscriber: subscriber.into(),
            id: id.into(),
        }
    }
}

#[derive(Default)]
pub(crate) struct Fetches {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: HashMap<FetchKey, (Fetched, Instant)>,
    /// Oldest first.
    order: VecDeque<FetchKey>,
    bytes: usize,
    turns: HashMap<FetchKey, Arc<tokio::sync::Mutex<()>>>,
}

/// The right to fetch with one id; let go when dropped.
pub(crate) struct Turn<'a> {
    fetches: &'a Fetches,
    key: FetchKey,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.fetches.lock();
        self.guard = None;
        if state
            .turns
            .get(&self.key)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            state.turns.remove(&self.key);
        }
    }
}

impl Fetches {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the fetches with the same id that came before.
    pub(crate) async fn turn(&self, key: &FetchKey) -> Turn<'_> {
        let turn = self.lock().turns.entry(key.clone()).or_default().clone();
        Turn {
            fetches: self,
            key: key.clone(),
            guard: Some(turn.lock_owned().await),
        }
    }

    /// What the fetch with this id got before, if that can still be had.
    pub(crate) fn again(&self, key: &FetchKey) -> Option<Fetched> {
        let state = self.lock();
        let (fetched, until) = state.answers.get(key)?;
        (Instant::now() < *until).then(|| fetched.clone())
    }

    /// Keeps what a fetch got, until its lease ends if it has one.
    pub(crate) fn remember(&self, key: FetchKey, fetched: Fetched, lease_end: Option<Instant>) {
        let until = lease_end.unwrap_or_else(|| Instant::now() + FETCH_WINDOW);
        let mut state = self.lock();
        state.bytes += fetched.bytes();
        if let Some((old, _)) = state.answers.insert(key.clone(), (fetched, until)) {
            state.bytes -= old.bytes();
            state.order.retain(|other| *other != key);
        }
        state.order.push_back(key);
        state.forget(Instant::now());
    }
}

impl State {
    /// Lets go of what is over, and of the oldest while there is too much.
    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.order.front() {
            let over = self
                .answers
                .get(oldest)
                .is_none_or(|(_, until)| *until <= now);
            if !over && self.bytes <= FETCHES_BYTES_MAX {
                return;
            }
            if let Some(oldest) = self.order.pop_front()
                && let Some((fetched, _)) = self.answers.remove(&oldest)
            {
                self.bytes -= fetched.bytes();
            }
        }
    }
}
