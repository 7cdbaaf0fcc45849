//! The thread of a watcher: reads, translates and reports until it is told to stop.
//!
//! Invariant: it waits for the kernel and for its sink, and for nobody else longer than one system call takes; a
//! rename of which only a half was told waits for the other half, and what came with it does not.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{ReadFlags, Reader};
use rustix::io::Errno;

use super::translate::{Raw, Translator};
use super::{Event, Shared, State};

/// Bytes of the buffer for one read: room for thousands of events, so that the queue of the kernel is emptied
/// faster than any program can fill it.
const READ_BYTES: usize = 512 * 1024;
/// How long the second half of a rename may take once the queue is empty. The kernel writes both in one go.
const RENAME_WAIT: Duration = Duration::from_millis(10);
/// How often it looks whether the second half has come.
const RENAME_LOOK: Duration = Duration::from_millis(1);

/// The thread: reads, translates and reports until it is told to stop.
pub(super) fn listen(shared: &Shared, sink: &impl Fn(Vec<Event>)) {
    let mut buffer = vec![MaybeUninit::uninit(); READ_BYTES];
    let mut reader = Reader::new(&shared.inotify, &mut buffer);
    let mut translator = Translator::default();
    let report = |translator: &mut Translator| {
        let events = translator.take();
        if !events.is_empty() {
            sink(events);
        }
    };
    loop {
        wait(&shared.inotify);
        shared.is_telling.store(true, Ordering::Release);
        match read(shared, &mut reader, &mut translator) {
            Ok(()) | Err(Errno::INTR) => {}
            Err(errno) => {
                tracing::error!(%errno, "changes cannot be read any more");
                sink(vec![Event::RootGone]);
                return;
            }
        }
        if shared.is_stopping.load(Ordering::Acquire) {
            return;
        }
        report(&mut translator);
        shared.is_telling.store(false, Ordering::Release);
        if translator.is_waiting() && !more_comes(&shared.inotify) {
            translator.give_up(&shared.state().tree);
            report(&mut translator);
        }
    }
}

/// Waits until there is something to read. An error comes again when it is read.
fn wait(inotify: &OwnedFd) {
    let mut readable = [PollFd::new(inotify, PollFlags::IN)];
    let _ = rustix::event::poll(&mut readable, None);
}

/// Whether something can be read.
pub(super) fn is_readable(inotify: &OwnedFd) -> bool {
    rustix::io::ioctl_fionread(inotify).is_ok_and(|bytes| bytes > 0)
}

/// Reads once and translates all of it.
fn read(
    shared: &Shared,
    reader: &mut Reader<'_, &OwnedFd>,
    translator: &mut Translator,
) -> Result<(), Errno> {
    let mut is_first = true;
    while is_first || !reader.is_buffer_empty() {
        let event = reader.next()?;
        let mut state = shared.state();
        let state = &mut *state;
        if is_first {
            translator.next_read(&state.tree);
            is_first = false;
        }
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            translator.overflow(&state.tree);
            ring_again(shared, state, translator);
        } else if is_cookie(state, event.wd()) {
            let watch = event.wd();
            for (_, number) in state.rung.extract_if(.., |(rung, _)| *rung == watch) {
                translator.cookie(&state.tree, number);
            }
        } else {
            let raw = Raw {
                watch: event.wd(),
                mask: event.events(),
                cookie: event.cookie(),
                name: event.file_name().map_or(b"", |name| name.to_bytes()),
            };
            translator.event(&mut state.tree, raw);
            shared.end(&translator.take_unused());
        }
    }
    Ok(())
}

fn is_cookie(state: &State, watch: i32) -> bool {
    state.rung.iter().any(|(rung, _)| *rung == watch)
}

/// The marks of cookies may be among what was lost: one mark more stands for all of them.
fn ring_again(shared: &Shared, state: &mut State, translator: &mut Translator) {
    if state.rung.is_empty() {
        return;
    }
    match shared.ring(state) {
        Ok(again) => state.rung.iter_mut().for_each(|(rung, _)| *rung = again),
        // Everything may differ, and that was said: nothing is kept from who waits.
        Err(_) => {
            for (_, number) in state.rung.drain(..) {
                translator.cookie(&state.tree, number);
            }
        }
    }
}

/// Whether the kernel says more within the time that the second half of a rename may take.
fn more_comes(inotify: &OwnedFd) -> bool {
    let begin = Instant::now();
    loop {
        if is_readable(inotify) {
            return true;
        }
        if begin.elapsed() >= RENAME_WAIT {
            return false;
        }
        std::thread::park_timeout(RENAME_LOOK);
    }
}
