//! How far a session is, for those who have to wait for it.
//!
//! Left to others: what happens in it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Greeting,
    Open,
    Ended,
}

/// Where others wait.
#[derive(Default)]
pub(super) struct Gate(Mutex<Stage>, Condvar);

impl Gate {
    /// The client has been told all that comes before anything else.
    pub(super) fn open(&self) {
        self.pass(Stage::Open);
    }

    /// Nothing of the session works any more.
    pub(super) fn end(&self) {
        self.pass(Stage::Ended);
    }

    /// Whether nothing of the session works any more.
    pub(super) fn has_ended(&self) -> bool {
        *self.lock() == Stage::Ended
    }

    /// Waits until the client can be told other things, or is gone.
    pub(super) fn wait_for_greeting(&self) {
        self.wait_while(|stage| stage == Stage::Greeting);
    }

    /// Waits until nothing of the session works any more.
    pub(super) fn wait_for_end(&self) {
        self.wait_while(|stage| stage != Stage::Ended);
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, stage: Stage) {
        *self.lock() = stage;
        self.1.notify_all();
    }

    fn wait_while(&self, mut is_waiting: impl FnMut(Stage) -> bool) {
        let waited = self.1.wait_while(self.lock(), |stage| is_waiting(*stage));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
