//! What the log's thread has to tell tasks of a lane, delivered by the batch.
//!
//! Invariant: a letter is opened once, after every letter posted before it, and one that panics costs the
//! others nothing. To wake each task from the log's thread would cost that thread more than the batch's
//! writing, and the lane as many wake-ups; so letters are left, and the lane is woken once, unless they
//! are so few that the log's thread opens them itself. Left to others: when a batch is over.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinnace_topics::{StoreError, Taken};
use tokio::sync::{Notify, oneshot};

use crate::limits::LETTERS_DIRECT_MAX;
use crate::nats_door::Acknowledgement;

/// An outcome and who waits for it. Whoever has given up waiting misses nothing: what a taken
/// message needs goes back with it.
pub(crate) enum Letter {
    /// A record is durable, or is not to be.
    Stored(
        oneshot::Sender<Result<u64, StoreError>>,
        Result<u64, StoreError>,
    ),
    /// The same for a client of the NATS door.
    Answer(Acknowledgement, Result<u64, StoreError>),
    /// Messages were taken from a queue.
    Taken(
        oneshot::Sender<Result<Taken, StoreError>>,
        Result<Taken, StoreError>,
    ),
}

impl Letter {
    fn open(self) {
        match self {
            Self::Answer(acknowledgement, outcome) => acknowledgement.give(outcome),
            Self::Stored(told, outcome) => drop(told.send(outcome)),
            Self::Taken(told, outcome) => drop(told.send(outcome)),
        }
    }
}

thread_local! {
    /// The mail of the lane this thread works for.
    static HERE: RefCell<Option<Arc<Mail>>> = const { RefCell::new(None) };
}

/// This thread works for the lane whose mail this is.
pub(crate) fn receive_here(mail: Arc<Mail>) {
    HERE.set(Some(mail));
}

/// What to do with an outcome that somebody on this thread's lane waits for; where there is no lane,
/// they are told directly.
pub(crate) fn leave<T>(letter: impl FnOnce(T) -> Letter) -> impl FnOnce(T) {
    let mail = HERE.with_borrow(Option::clone);
    move |outcome| match mail {
        Some(mail) => mail.post(letter(outcome)),
        None => letter(outcome).open(),
    }
}

/// The letters for one lane.
#[derive(Default)]
pub(crate) struct Mail {
    letters: Mutex<Vec<Letter>>,
    /// Held while letters are opened, so that none overtakes another.
    opening: Mutex<()>,
    due: Notify,
}

impl Mail {
    fn post(&self, letter: Letter) {
        self.lock().push(letter);
    }

    /// Has what was posted delivered. A few letters are opened here, because to wake the lane would take
    /// longer, unless the lane is opening earlier ones.
    pub(crate) fn send_out(&self) {
        let waiting = self.lock().len();
        match waiting {
            0 => return,
            1..=LETTERS_DIRECT_MAX => {
                if let Ok(turn) = self.opening.try_lock() {
                    return self.open_all(&turn);
                }
            }
            _ => {}
        }
        self.due.notify_one();
    }

    /// Delivers for ever, on the lane, calling `after` when a number of letters were opened.
    pub(crate) async fn deliver(&self, after: impl Fn()) {
        loop {
            self.due.notified().await;
            self.open_all(&self.opening.lock().unwrap_or_else(PoisonError::into_inner));
            after();
        }
    }

    /// Opens what was posted, in order: whoever does so has the turn.
    fn open_all(&self, _turn: &MutexGuard<'_, ()>) {
        let letters = std::mem::take(&mut *self.lock());
        for letter in letters {
            // A door's mistake must not end the lane's mail. The panic hook has reported it.
            let _ = catch_unwind(AssertUnwindSafe(|| letter.open()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Letter>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
