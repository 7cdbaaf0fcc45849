//! A server's shares and a client of them in one process, with socket pairs between them.
//!
//! Invariant: nothing outside the temporary folder is touched. Left to others: what is in the source.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pinnace_proto::sync::{ClientState, Durability};
use pinnace_sync::client::{
    Connect, ConnectError, DeleteLimit, MirrorError, Outcome, Settings, Stop, Tell, Told, mirror,
};
use pinnace_sync::server::{DeskError, Link, Listener, Shares};

pub(crate) struct Quiet;

impl Listener for Quiet {
    fn changed(&self, _: &str, _: u64, _: u64, _: &[String]) {}
    fn client_is(&self, _: &str, _: &ClientState, _: u64) {}
    fn clock(&self) -> fn() -> u64 {
        || 0
    }
}

pub(crate) struct Pair {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) shares: Arc<Shares>,
}

struct Wire {
    shares: Arc<Shares>,
    /// The client's ends, so that a test can cut them.
    open: Mutex<Vec<UnixStream>>,
    sent: Arc<AtomicU64>,
}

struct Counted(UnixStream, Arc<AtomicU64>);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn link(stream: &UnixStream, sent: Arc<AtomicU64>) -> Link {
    let close = stream.try_clone().unwrap();
    let reader: Box<dyn Read + Send> = Box::new(stream.try_clone().unwrap());
    Link {
        reader,
        writer: Box::new(Counted(stream.try_clone().unwrap(), sent)),
        close: Some(Box::new(move || {
            let _ = close.shutdown(Shutdown::Both);
        })),
        address: "here".to_owned(),
    }
}

impl Connect for Wire {
    fn connect(&self) -> Result<Link, ConnectError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let shares = self.shares.clone();
        std::thread::spawn(move || shares.serve("s", link(&theirs, Arc::default())));
        self.open.lock().unwrap().push(ours.try_clone().unwrap());
        Ok(link(&ours, self.sent.clone()))
    }
}

/// Sends on what is told.
struct Heard(Option<Mutex<Sender<String>>>);

impl Tell for Heard {
    fn tell(&self, told: &Told<'_>) {
        if let Some(sender) = &self.0 {
            let _ = sender.lock().unwrap().send(match told {
                Told::Synced { .. } => "synced".to_owned(),
                other => format!("{other:?}"),
            });
        }
    }
}

/// A client that mirrors live until it is dropped.
pub(crate) struct Live {
    pub(crate) told: Receiver<String>,
    stop: Arc<Stop>,
    wire: Arc<Wire>,
    thread: Option<std::thread::JoinHandle<Result<Outcome, MirrorError>>>,
}

impl Live {
    /// Waits for a word of the client.
    pub(crate) fn wait_for(&self, word: &str) {
        let deadline = Duration::from_secs(30);
        while let Ok(told) = self.told.recv_timeout(deadline) {
            if told.contains(word) {
                return;
            }
        }
        panic!("`{word}` was not told");
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        for stream in self.wire.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How it ended.
    pub(crate) fn end(mut self) -> Result<Outcome, MirrorError> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap().unwrap();
            }
        }
    }
}

impl Pair {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("source")).unwrap();
        let shares = Arc::new(Shares::new(&folder.path().join("data"), Arc::new(Quiet)));
        Self { folder, shares }
    }

    /// The server is started anew.
    pub(crate) fn restart(&mut self) {
        self.shares = Arc::new(Shares::new(
            &self.folder.path().join("data"),
            Arc::new(Quiet),
        ));
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    pub(crate) fn share(&self) -> PathBuf {
        self.folder.path().join("data/shares/s")
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            root: self.source(),
            state: self.folder.path().join("state"),
            share: "s".to_owned(),
            name: "tester".to_owned(),
            durability: Durability::None,
            excludes: Vec::new(),
            delete_limit: DeleteLimit::Off,
            bandwidth: None,
            once: true,
            dry_run: false,
        }
    }

    fn wire(&self) -> Wire {
        Wire {
            shares: self.shares.clone(),
            open: Mutex::default(),
            sent: Arc::default(),
        }
    }

    pub(crate) fn try_once(&self, settings: &Settings) -> Result<(Outcome, u64), MirrorError> {
        let wire = self.wire();
        let outcome = mirror(settings, &wire, &Heard(None), &Stop::default())?;
        Ok((outcome, wire.sent.load(Ordering::Relaxed)))
    }

    /// Mirrors once. Returns what came of it and the bytes that were sent.
    pub(crate) fn once(&self) -> (Outcome, u64) {
        self.try_once(&self.settings()).unwrap()
    }

    /// Begins to mirror live.
    pub(crate) fn live(&self, settings: Settings) -> Live {
        let (sender, told) = channel();
        let (stop, wire) = (Arc::new(Stop::default()), Arc::new(self.wire()));
        let theirs = (stop.clone(), wire.clone());
        let settings = Settings {
            once: false,
            ..settings
        };
        let thread = std::thread::spawn(move || {
            let heard = Heard(Some(Mutex::new(sender)));
            mirror(&settings, &*theirs.1, &heard, &theirs.0)
        });
        Live {
            told,
            stop,
            wire,
            thread: Some(thread),
        }
    }

    /// Waits until all that has happened is in the share. A client that has to ask anew what the server has is not there
    /// for a moment.
    #[track_caller]
    pub(crate) fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match self.shares.wait("s") {
                Ok(_) => return,
                Err(DeskError::Gone(_) | DeskError::NoWriter(_)) if Instant::now() < until => {
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Both are the same in everything that is mirrored.
    pub(crate) fn assert_equal(&self) {
        let (source, share) = (
            crate::tree::read(&self.source()),
            crate::tree::read(&self.share()),
        );
        crate::tree::assert_same(&source, &share);
    }
}
