//! All shares of a server: who mirrors into which, and what is asked about them.
//!
//! Invariant: a share has one writer at a time. A second client is told who has it; the same client coming again takes the
//! place of its earlier connection. Left to others: the transport, who may do what, publishing events; what is asked
//! (`questions`).

mod questions;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::sync::{Attach, ClientState, Hello, Refused};

use super::session::Session;
use super::share::{Places, Share, ShareError};
use crate::chunk::CHUNKING_VERSION;
use crate::path;
use crate::wire::{FrameError, FrameKind, read_frame, write_frame};

/// Bytes of the first frame of a connection.
const GREETING_BYTES_MAX: usize = 16 << 10;
/// Characters of a client's name.
const CLIENT_NAME_CHARS_MAX: usize = 100;

/// Closes a connection from another thread.
pub type Close = Box<dyn Fn() + Send>;

/// A connection: bytes in, bytes out. Reading must fail after a while of silence (clients say something every few
/// seconds), and writing when the other side does not read.
pub struct Link {
    /// What comes in.
    pub reader: Box<dyn Read + Send>,
    /// What goes out.
    pub writer: Box<dyn Write + Send>,
    /// Ends both.
    pub close: Option<Close>,
    /// Where it comes from, for people.
    pub address: String,
}

/// Who wants to know what happens.
pub trait Listener: Send + Sync {
    /// Changes are in a share.
    fn changed(&self, share: &str, seq: u64, changes: u64, paths: &[String]);
    /// A client said how it is.
    fn client_is(&self, share: &str, state: &ClientState, seq: u64);
    /// The time, microseconds since 1970.
    fn clock(&self) -> fn() -> u64;
}

/// Why something about a share cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// There is no share of this name.
    #[error("there is no share `{0}`")]
    Unknown(String),
    /// There is nothing of this number in its trash, or nothing at that path in it.
    #[error(
        "there is no such thing in the trash of `{0}`; `pinnace sync trash {0}` lists what there is"
    )]
    NoThing(String),
    /// Nobody mirrors into it, so there is nobody to ask.
    #[error("nobody mirrors into `{0}` now; start `pinnace sync DIR {0}` first")]
    NoWriter(String),
    /// The client did not answer.
    #[error("the client that mirrors into `{0}` went away before it answered")]
    Gone(String),
    /// The client cannot answer.
    #[error("the client that mirrors into the share says: {0}")]
    Client(String),
    /// The share cannot be used.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// A file could not be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

#[derive(Default)]
struct Slot {
    share: Option<Arc<Share>>,
    session: Option<Arc<Session>>,
}

/// The shares of a server.
pub struct Shares {
    folder: PathBuf,
    beside: PathBuf,
    slots: Mutex<BTreeMap<String, Arc<Mutex<Slot>>>>,
    listener: Arc<dyn Listener>,
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shares {
    /// The shares that lie in `<data>/shares/`; what is known of them lies in `<data>/sync/`.
    #[must_use]
    pub fn new(data: &Path, listener: Arc<dyn Listener>) -> Self {
        Self {
            folder: data.join("shares"),
            beside: data.join("sync"),
            slots: Mutex::default(),
            listener,
        }
    }

    /// Opens shares in whose stage a crash has left something, on a thread of its own: until then who reads a share's
    /// directory may find what did not get to the disk whole.
    pub fn recover(self: &Arc<Self>) {
        let shares = self.clone();
        let thread = std::thread::Builder::new().name("pn-recover".into());
        let started = thread.spawn(move || {
            for name in shares.left_unfinished() {
                if let Err(error) = shares.known(&name) {
                    tracing::error!(%error, share = name, "a share cannot be opened");
                }
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "no thread to open shares: each is opened when somebody comes");
        }
    }

    fn left_unfinished(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.beside).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let is_left = |name: &String| {
            let stage = std::fs::read_dir(self.places(name).beside.join("stage"));
            stage.is_ok_and(|mut stage| stage.next().is_some())
        };
        names.filter(is_left).collect()
    }

    /// Serves a connection until it ends. Its first frame says what it is.
    pub fn serve(&self, share: &str, mut link: Link) {
        let mut body = Vec::new();
        let first = read_frame(&mut link.reader, &mut body);
        let ended = match first {
            Ok(_) if pinnace_proto::name::check(share).is_err() => {
                refuse(&mut link, "protocol", "a share has no such name")
            }
            Ok(_) if body.len() > GREETING_BYTES_MAX => {
                refuse(&mut link, "protocol", "a greeting has at most 16 KiB")
            }
            Ok(FrameKind::Hello) => match serde_json::from_slice::<Hello>(&body) {
                Ok(hello) => self.open_session(share, hello, link),
                Err(error) => refuse(&mut link, "protocol", &format!("the greeting: {error}")),
            },
            Ok(FrameKind::Attach) => match serde_json::from_slice::<Attach>(&body) {
                Ok(attach) => self.attach(share, &attach, link),
                Err(error) => refuse(&mut link, "protocol", &format!("the greeting: {error}")),
            },
            Ok(_) => refuse(&mut link, "protocol", "a session begins with a greeting"),
            Err(FrameError::Wire(error)) => refuse(&mut link, "protocol", &error.to_string()),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(share, %error, "a session ended");
        }
    }

    fn open_session(&self, name: &str, mut hello: Hello, mut link: Link) -> Result<(), FrameError> {
        if hello.v != DOCUMENT_VERSION || hello.chunking != CHUNKING_VERSION {
            let detail = "client and server do not speak the same version; use the same program";
            return refuse(&mut link, "protocol", detail);
        }
        if hello.share != name {
            return refuse(&mut link, "protocol", "the greeting names another share");
        }
        // It is for people, in logs and answers.
        let shown = path::show(hello.name.as_bytes());
        hello.name = shown.chars().take(CLIENT_NAME_CHARS_MAX).collect();
        let slot = self.slot(name);
        if hello.only_looks {
            return self.show(&slot, hello, link);
        }
        let session = {
            let mut slot = held(&slot);
            if let Some(earlier) = slot.session.clone().filter(|session| !session.is_over()) {
                if earlier.hello.replica != hello.replica {
                    let detail = format!(
                        "`{}` at {} mirrors into `{name}`; a share has one writer at a time",
                        earlier.hello.name, earlier.address
                    );
                    drop(slot);
                    return refuse(&mut link, "held", &detail);
                }
                earlier.refuse("replaced", "this client connected anew");
            }
            // The earlier session lets go of its share when all its threads have ended.
            if let Some(earlier) = slot.session.take() {
                earlier.gate.wait_for_end();
            }
            let share = match self.share(&mut slot, name) {
                Ok(share) => share,
                Err(error) => return refuse(&mut link, error.code(), &error.to_string()),
            };
            let Some(close) = link.close.take() else {
                return Err(FrameError::Closed);
            };
            let came = (link.address.clone(), self.listener.clock()());
            let listener = self.listener.clone();
            let session = Session::new(share, hello, came, link.writer, close, listener);
            let session = Arc::new(session);
            slot.session = Some(session.clone());
            session
        };
        tracing::info!(
            share = name,
            client = session.hello.name,
            address = session.address,
            "a client mirrors into the share"
        );
        let ended = session.run(&mut link.reader);
        tracing::info!(share = name, client = session.hello.name, "it ended");
        ended
    }

    /// Shows what is in a share to one who changes nothing, and so need not be alone.
    fn show(&self, slot: &Mutex<Slot>, hello: Hello, mut link: Link) -> Result<(), FrameError> {
        let name = hello.share.clone();
        let share = match self.share(&mut held(slot), &name) {
            Ok(share) => share,
            Err(error) => return refuse(&mut link, error.code(), &error.to_string()),
        };
        let close: Close = link.close.take().unwrap_or_else(|| Box::new(|| {}));
        let came = (link.address.clone(), 0);
        let session = Session::new(
            share,
            hello,
            came,
            link.writer,
            close,
            self.listener.clone(),
        );
        session.greet()?;
        session.only_pings(&mut link.reader)
    }

    fn attach(&self, name: &str, attach: &Attach, mut link: Link) -> Result<(), FrameError> {
        let slot = held(&self.slots).get(name).cloned();
        let session = slot.and_then(|slot| held(&slot).session.clone());
        let session = session.filter(|session| session.token == attach.token && !session.is_over());
        let Some(session) = session else {
            return refuse(&mut link, "protocol", "there is no such session");
        };
        match session.attach(&mut link) {
            Some(ended) => ended,
            None => refuse(
                &mut link,
                "protocol",
                "a session has one further connection",
            ),
        }
    }

    fn slot(&self, name: &str) -> Arc<Mutex<Slot>> {
        held(&self.slots)
            .entry(name.to_owned())
            .or_default()
            .clone()
    }

    fn places(&self, name: &str) -> Places {
        Places {
            share: self.folder.join(name),
            beside: self.beside.join(name),
        }
    }

    fn share(&self, slot: &mut Slot, name: &str) -> Result<Arc<Share>, ShareError> {
        if let Some(share) = &slot.share {
            // Two that are open would share a stage: the one that a session still has stays.
            let is_held = || slot.session.as_ref().is_some_and(|s| !s.gate.has_ended());
            if share.is_current() || is_held() {
                return Ok(share.clone());
            }
            share.retire();
        }
        let share = Arc::new(Share::open(&self.places(name))?);
        share.tend_trash(self.listener.clock()());
        slot.share = Some(share.clone());
        Ok(share)
    }

    /// A share that exists.
    pub(super) fn known(
        &self,
        name: &str,
    ) -> Result<(Arc<Share>, Option<Arc<Session>>), DeskError> {
        if !self.places(name).share.is_dir() {
            return Err(DeskError::Unknown(name.to_owned()));
        }
        let slot = self.slot(name);
        let mut slot = held(&slot);
        let share = self.share(&mut slot, name)?;
        let session = slot.session.clone().filter(|session| !session.is_over());
        Ok((share, session))
    }

    /// Tells all clients that the server goes down.
    pub fn stop(&self) {
        let slots: Vec<_> = held(&self.slots).values().cloned().collect();
        for slot in slots {
            if let Some(session) = &held(&slot).session {
                session.refuse(
                    "stopping",
                    "the server is going down; the client comes back by itself",
                );
            }
        }
    }
}

fn refuse(link: &mut Link, code: &str, detail: &str) -> Result<(), FrameError> {
    let refused = Refused {
        code: code.to_owned(),
        detail: detail.to_owned(),
    };
    let json = serde_json::to_vec(&refused).unwrap_or_default();
    Ok(write_frame(&mut link.writer, FrameKind::Refused, &[&json])?)
}
