//! Works through what is to be compared, with as many threads as pay.
//!
//! A thread goes down into a directory's directories itself, so that a pack holds what belongs together and a new directory
//! comes before what is in it; it gives away what it has too much of.
//!
//! Invariant: a directory is handed to another thread only when the change that makes it has been entered. Left to others:
//! comparing.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::Mirror;
use super::outbox::Way;
use super::packer::Packer;
use crate::fs::bytes_from_disk;

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

/// So many threads work at least where the source has to be read from a disk: most of them wait for it.
const DISK_THREADS: usize = 6;
/// Bytes that came from a disk after which there are.
const DISK_BYTES: u64 = 256 << 10;
/// How often it is looked whether they did.
const LOOK: Duration = Duration::from_millis(10);

struct Shared {
    tasks: VecDeque<Task>,
    idle: usize,
    threads: usize,
    is_over: bool,
    /// When it is looked next whether more threads pay; never once there are more.
    look_at: Option<Instant>,
}

struct Pool {
    shared: Mutex<Shared>,
    work: Condvar,
    /// Bytes that had come from a disk before.
    disk_bytes: u64,
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
                look_at: (!is_small).then(Instant::now),
            }),
            work: Condvar::new(),
            disk_bytes: if is_small { 0 } else { bytes_from_disk() },
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| pool.work(self, way, scope));
            }
            pool.work(self, way, scope);
        });
        super::held(&self.claimed).clear();
    }
}

impl Pool {
    fn work<'s>(&'s self, mirror: &'s Mirror<'_>, way: Way, scope: &'s Scope<'s, '_>) {
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
            for _ in 0..self.more_threads(Instant::now(), bytes_from_disk) {
                scope.spawn(move || self.work(mirror, way, scope));
            }
            self.share(&mut packer, &mut own);
        }
    }

    /// How many more threads are to work from now on.
    fn more_threads(&self, now: Instant, disk_bytes: impl FnOnce() -> u64) -> usize {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.is_over || shared.look_at.is_none_or(|look_at| now < look_at) {
            return 0;
        }
        if disk_bytes().saturating_sub(self.disk_bytes) < DISK_BYTES {
            shared.look_at = Some(now + LOOK);
            return 0;
        }
        shared.look_at = None;
        let more = DISK_THREADS.saturating_sub(shared.threads);
        shared.threads += more;
        more
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_work_once_the_source_is_read_from_a_disk() {
        let start = Instant::now();
        let pool = Pool {
            shared: Mutex::new(Shared {
                tasks: VecDeque::new(),
                idle: 0,
                threads: 2,
                is_over: false,
                look_at: Some(start),
            }),
            work: Condvar::new(),
            disk_bytes: 5_000,
        };
        let few = 5_000 + DISK_BYTES - 1;
        assert_eq!(pool.more_threads(start, || few), 0);
        // It is not looked all the time.
        assert_eq!(pool.more_threads(start, || unreachable!()), 0);
        assert_eq!(
            pool.more_threads(start + LOOK, || few + 1),
            DISK_THREADS - 2
        );
        assert_eq!(pool.shared.lock().unwrap().threads, DISK_THREADS);
        assert_eq!(pool.more_threads(start + 9 * LOOK, || unreachable!()), 0);
    }
}
