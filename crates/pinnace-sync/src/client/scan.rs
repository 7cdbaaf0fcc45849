//! Works through what is to be compared, with as many threads as pay.
//!
//! A thread goes down into a directory's directories itself, so that a pack holds what belongs together and a new directory
//! comes before what is in it; it gives away what it has too much of.
//!
//! Invariant: a directory is handed to another thread only when the change that makes it has been entered. Left to others:
//! comparing.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use super::Mirror;
use super::outbox::Way;
use super::packer::Packer;

/// How far a comparison goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// The directory itself.
    Own,
    /// Its entries, too, and directories among them that are new.
    Entries,
    /// Everything beneath.
    All,
}

/// What is to be compared.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Dir { at: Vec<u8>, depth: Depth },
    Names { at: Vec<u8>, names: Vec<Vec<u8>> },
}

impl Task {
    pub(super) fn dir(at: Vec<u8>, depth: Depth) -> Self {
        Self::Dir { at, depth }
    }
}

struct Shared {
    tasks: VecDeque<Task>,
    idle: usize,
    threads: usize,
    is_over: bool,
}

struct Pool {
    shared: Mutex<Shared>,
    work: Condvar,
}

impl Mirror<'_> {
    /// Compares all of it. Small things that have just happened go out on the first connection.
    pub(super) fn scan(&self, tasks: Vec<Task>, way: Way) {
        let is_small = !tasks.iter().any(|task| {
            matches!(
                task,
                Task::Dir {
                    depth: Depth::All,
                    ..
                }
            )
        });
        let threads = if is_small { 1 } else { self.threads };
        let pool = Pool {
            shared: Mutex::new(Shared {
                tasks: tasks.into(),
                idle: 0,
                threads,
                is_over: false,
            }),
            work: Condvar::new(),
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| pool.work(self, way));
            }
            pool.work(self, way);
        });
        super::held(&self.claimed).clear();
    }
}

impl Pool {
    fn work(&self, mirror: &Mirror<'_>, way: Way) {
        let mut packer = Packer::new(mirror, way);
        let mut own: Vec<Task> = Vec::new();
        loop {
            let task = match own.pop() {
                Some(task) => task,
                None => {
                    packer.send();
                    match self.next() {
                        Some(task) => task,
                        None => return,
                    }
                }
            };
            if mirror.is_over() {
                self.end();
                return;
            }
            let mut found = match &task {
                Task::Dir { at, depth } => mirror.compare_dir(&mut packer, at, *depth),
                Task::Names { at, names } => mirror.compare_names(&mut packer, at, names),
            };
            found.reverse();
            own.append(&mut found);
            self.share(&mut packer, &mut own);
        }
    }

    /// Gives the older half of what is left to a thread that has nothing to do.
    fn share(&self, packer: &mut Packer<'_>, own: &mut Vec<Task>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if own.len() < 2 || shared.idle == 0 || !shared.tasks.is_empty() {
            return;
        }
        drop(shared);
        // Directories that this pack makes must have been entered first.
        packer.send();
        let given = own.drain(..own.len() / 2).collect::<Vec<_>>();
        shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.tasks.extend(given);
        drop(shared);
        self.work.notify_all();
    }

    fn next(&self) -> Option<Task> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if shared.is_over {
                return None;
            }
            if let Some(task) = shared.tasks.pop_front() {
                return Some(task);
            }
            shared.idle += 1;
            if shared.idle == shared.threads {
                shared.is_over = true;
                self.work.notify_all();
                return None;
            }
            shared = self
                .work
                .wait(shared)
                .unwrap_or_else(PoisonError::into_inner);
            shared.idle -= 1;
        }
    }

    fn end(&self) {
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_over = true;
        self.work.notify_all();
    }
}
