//! The watcher on a real file system. Every wait is for an event, at the latest for that of a cookie.

mod flows;
mod limits;
mod model;
mod scanner;
mod stories;

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(120);

/// A watched directory `root`, and `outside` beside it.
struct Bed {
    dir: tempfile::TempDir,
    watch: Watch,
    events: Receiver<Vec<Event>>,
}

fn open(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

fn done(path: &str, is_dir: bool) -> Event {
    Event::Changed {
        path: path.into(),
        is_dir,
        is_gone: false,
        written: Written::Done,
    }
}

fn closed(path: &str) -> Event {
    Event::Changed {
        path: path.into(),
        is_dir: false,
        is_gone: false,
        written: Written::Closed,
    }
}

fn gone(path: &str, is_dir: bool) -> Event {
    Event::Changed {
        path: path.into(),
        is_dir,
        is_gone: true,
        written: Written::Done,
    }
}

fn still(path: &str) -> Event {
    Event::Changed {
        path: path.into(),
        is_dir: false,
        is_gone: false,
        written: Written::Still,
    }
}

fn renamed(from: &str, to: &str, is_dir: bool) -> Event {
    Event::Renamed {
        from: from.into(),
        to: to.into(),
        is_dir,
    }
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        let (sender, events) = channel();
        let watch = Watch::start(open(&dir.path().join("root")).as_fd(), move |batch| {
            let _ = sender.send(batch);
        })
        .unwrap();
        Self { dir, watch, events }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.dir.path().join("outside").join(path)
    }

    fn add(&self, path: &str) -> DirId {
        let (parent, name) = crate::path::split(path.as_bytes());
        let parent = self.watch.dir_at(parent).unwrap();
        let dir = open(&self.path(path));
        self.watch.add(parent, name, dir.as_fd()).unwrap()
    }

    /// Makes a directory and watches it.
    fn mkdir(&self, path: &str) -> DirId {
        fs::create_dir(self.path(path)).unwrap();
        self.add(path)
    }

    fn write(&self, path: &str) {
        fs::write(self.path(path), b"text").unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// What has happened so far.
    fn all(&self) -> Vec<Event> {
        let cookie = self.watch.cookie().unwrap();
        let mut all = Vec::new();
        loop {
            for event in self.events.recv_timeout(DEADLINE).unwrap() {
                if event == Event::Cookie(cookie) {
                    return all;
                }
                collapse(&mut all, event);
            }
        }
    }
}

/// Adds an event as the watcher does within a read, so that it does not matter where one read ends.
fn collapse(all: &mut Vec<Event>, event: Event) {
    if let Event::Changed { path, .. } = &event {
        let since = all
            .iter_mut()
            .rev()
            .take_while(|event| matches!(event, Event::Changed { .. }))
            .find(|before| matches!(before, Event::Changed { path: other, .. } if other == path));
        if let Some(before) = since
            && is_gone(before) == is_gone(&event)
        {
            *before = event;
            return;
        }
    }
    all.push(event);
}

fn is_gone(event: &Event) -> bool {
    matches!(event, Event::Changed { is_gone: true, .. })
}
