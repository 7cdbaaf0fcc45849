//! The one way to end a run early, from any thread: a signal handler's, a connection's, a worker's.
//!
//! Invariant: the first reason stands; asking again changes nothing. Whoever waits in this crate
//! has left a waker here, so a stop is never waited out.
//!
//! Left to others: catching signals. `request` takes a lock: call it from a thread, not from inside
//! a signal handler.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinnace_proto::event::StopReason;

type Waker = Box<dyn Fn() + Send>;

/// A handle that ends one run; clones end the same run.
#[derive(Clone, Default)]
pub struct Stop {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requested: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reason: Option<StopReason>,
    next_id: u64,
    wakers: Vec<(u64, Waker)>,
}

/// Takes its waker away again when dropped.
pub(crate) struct Registration {
    stop: Stop,
    id: u64,
}

impl Stop {
    /// A handle nobody has used yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the run; the first reason given is the one reported.
    pub fn request(&self, reason: StopReason) {
        let mut state = self.state();
        state.reason.get_or_insert(reason);
        self.shared.requested.store(true, Ordering::Release);
        for (_, wake) in &state.wakers {
            wake();
        }
    }

    /// True once somebody asked.
    #[inline]
    pub fn is_requested(&self) -> bool {
        self.shared.requested.load(Ordering::Acquire)
    }

    /// Why, once somebody asked.
    pub fn reason(&self) -> Option<StopReason> {
        self.state().reason
    }

    /// Calls `wake` at the request, at once if it has been made. `wake` must not block nor stop.
    pub(crate) fn on_request(&self, wake: impl Fn() + Send + 'static) -> Registration {
        let mut state = self.state();
        if state.reason.is_some() {
            wake();
        }
        state.next_id += 1;
        let id = state.next_id;
        state.wakers.push((id, Box::new(wake)));
        Registration {
            stop: self.clone(),
            id,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let id = self.id;
        self.stop.state().wakers.retain(|(other, _)| *other != id);
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop")
            .field("reason", &self.reason())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_first_reason_stands_and_wakers_hear_of_it() {
        let stop = Stop::new();
        let (tell, heard) = mpsc::channel();
        let early = stop.on_request({
            let tell = tell.clone();
            move || tell.send("early").unwrap()
        });
        let dropped = stop.on_request({
            let tell = tell.clone();
            move || tell.send("dropped").unwrap()
        });
        drop(dropped);
        assert!(!stop.is_requested());
        let other = stop.clone();
        other.request(StopReason::DiskFull);
        stop.request(StopReason::Interrupted);
        assert_eq!(stop.reason(), Some(StopReason::DiskFull));
        assert!(stop.is_requested());
        drop(early);
        let late = stop.on_request(move || tell.send("late").unwrap());
        drop(late);
        assert_eq!(
            heard.try_iter().collect::<Vec<_>>(),
            ["early", "early", "late"]
        );
    }
}
