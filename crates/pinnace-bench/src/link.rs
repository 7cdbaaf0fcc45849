//! What passes between the controller and one worker.
//!
//! The controller raises a number to ask; the worker looks at it between two chunks (a plain load),
//! and answers with a [`Message`]. Figures change hands as a box: the worker fills one, sends it,
//! and goes on with the spare the controller left in the [`Link`].
//!
//! Invariant: each shared word has a single writer, so the data path needs loads and plain stores
//! only; the spare's lock is taken once per question, never per write.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Instant;

use pinnace_proto::event::{Activity, Error, Rollover};

use crate::figures::Figures;
use crate::ledger::CleanUp;
use crate::resources::TaskFigures;

/// What a worker, or a watcher of free space, tells the controller.
#[derive(Debug)]
pub(crate) enum Message {
    /// Buffers are filled; the thread waits for the start. An error means it will not run.
    Ready {
        worker: usize,
        thread: u32,
        result: Result<(), Error>,
    },
    /// The answer to a heartbeat.
    Alive {
        worker: usize,
        number: u64,
        at: Instant,
    },
    /// The figures since the last hand-over.
    Figures {
        worker: usize,
        figures: Box<Figures>,
    },
    /// A file was closed.
    Rollover { at: Instant, rollover: Rollover },
    /// Something failed, and the worker may go on.
    Error(Error),
    /// The worker's final word.
    Ended(Box<Ended>),
    /// What one file system has left: free bytes and size, or why that is not known.
    Space {
        file_system: usize,
        reading: Result<(u64, u64), Error>,
    },
    /// The files of the run are removed, as far as they could be.
    CleanedUp(CleanUp),
    /// A stop was requested; look at the handle.
    Stop,
}

/// A worker's final word.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) worker: usize,
    pub(crate) figures: Box<Figures>,
    pub(crate) at: Instant,
    pub(crate) failed: bool,
    pub(crate) task: Option<TaskFigures>,
}

/// The mailbox all of them write to.
pub(crate) type Mail = SyncSender<Message>;

/// Words shared with one worker. Those the controller writes stand on another cache line than
/// those the worker writes.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) asked: Asked,
    pub(crate) told: Told,
    spare: Mutex<Option<Box<Figures>>>,
    thread: OnceLock<Thread>,
}

/// Written by the controller.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Asked {
    alive: AtomicU64,
    figures: AtomicU64,
}

/// Written by the worker.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Told {
    activity: AtomicU8,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            asked: Asked::default(),
            told: Told {
                activity: AtomicU8::new(Activity::Preparing as u8),
            },
            spare: Mutex::new(Some(Box::new(Figures::new()))),
            thread: OnceLock::new(),
        }
    }

    /// The worker's thread, so that a paced worker can be woken to answer.
    pub(crate) fn set_thread(&self, thread: Thread) {
        let _ = self.thread.set(thread);
    }

    /// Ends a pacing wait so that the worker looks at its questions.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    pub(crate) fn take_spare(&self) -> Box<Figures> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.take().unwrap_or_else(|| Box::new(Figures::new()))
    }

    /// Gives an emptied box back.
    pub(crate) fn give_spare(&self, mut figures: Box<Figures>) {
        figures.clear();
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(figures);
    }
}

impl Asked {
    /// Asks for a sign of life, by the controller only.
    pub(crate) fn ask_alive(&self, number: u64) {
        self.alive.store(number, Ordering::Release);
    }

    /// Asks for the figures, by the controller only.
    pub(crate) fn ask_figures(&self, number: u64) {
        self.figures.store(number, Ordering::Release);
    }

    #[inline]
    pub(crate) fn alive(&self) -> u64 {
        self.alive.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn figures(&self) -> u64 {
        self.figures.load(Ordering::Relaxed)
    }
}

impl Told {
    #[inline]
    pub(crate) fn set_activity(&self, activity: Activity) {
        self.activity.store(activity as u8, Ordering::Relaxed);
    }

    pub(crate) fn activity(&self) -> Activity {
        const ALL: [Activity; 5] = [
            Activity::Preparing,
            Activity::Writing,
            Activity::Syncing,
            Activity::Pacing,
            Activity::Ended,
        ];
        let word = self.activity.load(Ordering::Relaxed);
        ALL.into_iter()
            .find(|a| *a as u8 == word)
            .unwrap_or(Activity::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activities_survive_the_shared_word() {
        let link = Link::new();
        assert_eq!(link.told.activity(), Activity::Preparing);
        for activity in [
            Activity::Writing,
            Activity::Syncing,
            Activity::Pacing,
            Activity::Ended,
        ] {
            link.told.set_activity(activity);
            assert_eq!(link.told.activity(), activity);
        }
    }

    #[test]
    fn a_spare_comes_back_empty() {
        let link = Link::new();
        let mut figures = link.take_spare();
        figures.bytes = 7;
        figures.writes.record(5);
        link.give_spare(figures);
        let again = link.take_spare();
        assert_eq!((again.bytes, again.writes.count()), (0, 0));
    }
}
