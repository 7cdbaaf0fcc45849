//! One client's session: its packs are staged by as many threads as there are CPUs, committed in order, synced, and
//! acknowledged.
//!
//! Invariant: when the session ends, what did not get its turn leaves no trace. Left to others: who may have a session
//! (`desk`), how it begins (`greeting`), what a pack does (`stage`, `commit`), what is told of it (`certainty`).

mod certainty;
mod greeting;

pub(super) use greeting::{ROWS_FRAME_BYTES, facts};

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pinnace_proto::sync::{Answer, Ask, ClientState, Hello, Question, Refused};

use super::commit::{Committer, checkpoint_if_quiet};
use super::desk::{Close, Link, Listener};
use super::gate::Gate;
use super::jobs::{Jobs, Way};
use super::share::Share;
use super::stage::stage;
use super::staged::{Staged, What};
use super::stream::Streams;
use crate::wire::{
    Detail, FRAME_BYTES_MAX, FrameError, FrameKind, OpenedPack, Piece, WireError, read_frame,
    write_frame, write_parts,
};

/// Characters of what a client says is wrong.
const REASON_CHARS_MAX: usize = 1000;

/// A session under way.
pub(super) struct Session {
    pub(super) share: Arc<Share>,
    pub(super) name: String,
    pub(super) hello: Hello,
    pub(super) address: String,
    pub(super) since_us: u64,
    pub(super) token: String,
    pub(super) client: Mutex<ClientState>,
    writer: Mutex<Box<dyn Write + Send>>,
    closes: Mutex<Vec<Close>>,
    asked: Mutex<HashMap<u64, Sender<Answer>>>,
    next_ask: AtomicU64,
    is_over: AtomicBool,
    pub(super) gate: Gate,
    is_attached: (Mutex<bool>, Condvar),
    jobs: Jobs,
    streams: Streams,
    listener: Arc<dyn Listener>,
}

/// Says that the further connection is read no more.
struct Detaching<'a>(&'a Session);

impl Drop for Detaching<'_> {
    fn drop(&mut self) {
        *held(&self.0.is_attached.0) = false;
        self.0.is_attached.1.notify_all();
    }
}

/// Says that a session has ended, however it did: the next one waits for that.
struct Ending<'a>(&'a Session);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.gate.end();
    }
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(super) fn new(
        share: Arc<Share>,
        hello: Hello,
        (address, since_us): (String, u64),
        writer: Box<dyn Write + Send>,
        close: Close,
        listener: Arc<dyn Listener>,
    ) -> Self {
        let next_seq = share.progress().0 + 1;
        Self {
            share,
            name: hello.share.clone(),
            hello,
            address,
            since_us,
            token: super::hex(&super::random()),
            client: Mutex::default(),
            writer: Mutex::new(writer),
            closes: Mutex::new(vec![close]),
            asked: Mutex::default(),
            next_ask: AtomicU64::new(1),
            is_over: AtomicBool::new(false),
            gate: Gate::default(),
            is_attached: (Mutex::new(false), Condvar::new()),
            jobs: Jobs::new(next_seq),
            streams: Streams::default(),
            listener,
        }
    }

    /// Converses on the first connection until it ends; further ones end with it.
    pub(super) fn run(&self, reader: &mut dyn std::io::Read) -> Result<(), FrameError> {
        let _ending = Ending(self);
        let ended = self.greet().and_then(|()| {
            self.gate.open();
            self.converse(reader)
        });
        self.end();
        ended
    }

    /// Answers that it is there, and takes nothing.
    pub(super) fn only_pings(&self, reader: &mut dyn std::io::Read) -> Result<(), FrameError> {
        let (mut reader, mut body) = (reader, Vec::new());
        loop {
            match read_frame(&mut reader, &mut body)? {
                FrameKind::Ping => self.send(FrameKind::Pong, &[])?,
                _ => return Err(WireError::Value("one who only looks changes nothing").into()),
            }
        }
    }

    fn converse(&self, reader: &mut dyn std::io::Read) -> Result<(), FrameError> {
        let share = &self.share;
        let committer = Committer::new(share, self.hello.durability, self.listener.clock());
        let threads =
            std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 8));
        let ended = std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| self.work(&committer));
            }
            scope.spawn(|| self.sync());
            let ended = self.read(Way::Control, reader);
            self.answer_nonsense(&ended);
            self.end();
            ended
        });
        self.wait_for_detached();
        self.clean_up();
        self.share.settle();
        ended
    }

    /// A client that makes a mistake is told which.
    fn answer_nonsense(&self, ended: &Result<(), FrameError>) {
        if let Err(FrameError::Wire(error)) = ended {
            self.refuse("protocol", &error.to_string());
        }
    }

    /// Ends the session from outside, with a word about why.
    pub(super) fn refuse(&self, code: &str, detail: &str) {
        let refused = Refused {
            code: code.to_owned(),
            detail: detail.to_owned(),
        };
        let _ = self.tell(FrameKind::Refused, &refused);
        self.end();
    }

    /// Ends all that the session does.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.jobs.end();
        for close in held(&self.closes).drain(..) {
            close();
        }
        // Who waits for an answer is told that there is none.
        held(&self.asked).clear();
        // Under the lock, so that a thread that has just looked is not missed.
        drop(self.share.lock());
        self.share.wake();
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Converses on the further connection until it ends, and the session with it: half a session is none. `None`
    /// if it has one already.
    pub(super) fn attach(&self, link: &mut Link) -> Option<Result<(), FrameError>> {
        if std::mem::replace(&mut *held(&self.is_attached.0), true) {
            return None;
        }
        let _detaching = Detaching(self);
        if let Some(close) = link.close.take() {
            held(&self.closes).push(close);
        }
        if self.is_over() {
            return Some(Err(FrameError::Closed));
        }
        let ended = self.read(Way::Bulk, &mut link.reader);
        self.answer_nonsense(&ended);
        self.end();
        Some(ended)
    }

    /// Waits until nobody reads the further connection any more.
    fn wait_for_detached(&self) {
        let attached = held(&self.is_attached.0);
        let attached = self
            .is_attached
            .1
            .wait_while(attached, |attached| *attached);
        drop(attached.unwrap_or_else(PoisonError::into_inner));
    }

    fn send(&self, kind: FrameKind, parts: &[&[u8]]) -> std::io::Result<()> {
        write_frame(&mut *held(&self.writer), kind, parts)
    }

    fn tell(&self, kind: FrameKind, document: &impl serde::Serialize) -> std::io::Result<()> {
        let json = serde_json::to_vec(document)?;
        self.send(kind, &[&json])
    }

    fn read(&self, way: Way, reader: &mut dyn std::io::Read) -> Result<(), FrameError> {
        let mut reader = reader;
        let mut body = Vec::new();
        while !self.is_over() {
            let kind = read_frame(&mut reader, &mut body)?;
            match (kind, way) {
                (FrameKind::Pack, _) => {
                    let bytes = std::mem::take(&mut body);
                    self.jobs.push(way, OpenedPack::open(bytes)?)?;
                }
                (FrameKind::Piece, Way::Bulk) => {
                    let piece = Piece::read(&body)?;
                    self.make_room(piece.begin.is_some());
                    self.streams.piece(&self.share, &piece)?;
                }
                (FrameKind::Detail, Way::Bulk) => {
                    let asked = Detail::read(&body)?;
                    self.make_room(asked.begin.is_some());
                    let parts = self.streams.parts(&self.share, &asked)?;
                    self.send(FrameKind::Parts, &[&write_parts(asked.stream, &parts)])?;
                }
                (FrameKind::Ping, _) => {
                    self.send(FrameKind::Pong, &[])?;
                    // Clients say something every few seconds: as good as a timer.
                    self.share.tend_trash(self.listener.clock()());
                    if let Err(error) = checkpoint_if_quiet(&self.share) {
                        self.refuse(error.code(), &error.to_string());
                    }
                }
                (FrameKind::Sync, Way::Control) => self.sync_now(),
                (FrameKind::State, Way::Control) => self.note(document(&body)?),
                (FrameKind::Answer, Way::Control) => {
                    let answer: Answer = document(&body)?;
                    if let Some(asker) = held(&self.asked).remove(&answer.id) {
                        let _ = asker.send(answer);
                    }
                }
                _ => return Err(WireError::Value("a frame that has no place here").into()),
            }
            if body.capacity() > FRAME_BYTES_MAX / 2 {
                body = Vec::new();
            }
        }
        Ok(())
    }

    /// Waits until another stream may begin, if one does: earlier ones may be done with as soon as their changes are
    /// staged.
    fn make_room(&self, begins: bool) {
        if begins {
            self.jobs.wait_while(|| self.streams.is_full());
        }
    }

    fn note(&self, mut state: ClientState) {
        if let Some(reason) = &mut state.reason {
            *reason = reason.chars().take(REASON_CHARS_MAX).collect();
        }
        self.listener
            .client_is(&self.name, &state, self.share.progress().0);
        *held(&self.client) = state;
    }

    /// Tells the client what was found in the share.
    pub(super) fn send_found(&self, rows: &[u8]) {
        self.gate.wait_for_greeting();
        if self.send(FrameKind::Rows, &[rows]).is_err() {
            self.end();
        }
    }

    /// Asks the client something; the answer comes later, or never if the session ends.
    pub(super) fn ask(&self, what: Question) -> std::io::Result<Receiver<Answer>> {
        self.gate.wait_for_greeting();
        let id = self.next_ask.fetch_add(1, Ordering::Relaxed);
        let (asker, answer) = channel();
        held(&self.asked).insert(id, asker);
        if self.is_over() {
            held(&self.asked).clear();
        }
        self.tell(FrameKind::Ask, &Ask { id, what })?;
        Ok(answer)
    }

    /// A thread that stages, and commits when it is the one whose turn it is.
    fn work(&self, committer: &Committer<'_>) {
        while let Some(pack) = self.jobs.take() {
            let ended = self.carry_out(pack, committer);
            self.jobs.done();
            if let Err((code, detail)) = ended {
                return self.refuse(code, &detail);
            }
        }
    }

    /// Carries a pack out. What ends the session is said by code and text.
    fn carry_out(
        &self,
        pack: OpenedPack,
        committer: &Committer<'_>,
    ) -> Result<(), (&'static str, String)> {
        let staged = stage(&self.share, &self.streams, self.hello.durability, &pack);
        drop(pack);
        let turn = staged.and_then(|staged| self.jobs.staged(staged));
        let mut turn = turn.map_err(|error| ("protocol", error.to_string()))?;
        while !turn.is_empty() {
            let outcome = committer.commit(turn);
            let outcome = outcome.map_err(|error| (error.code(), error.to_string()))?;
            self.acknowledge(&outcome);
            turn = self.jobs.committed();
        }
        Ok(())
    }

    /// Removes from the stage what did not get its turn.
    fn clean_up(&self) {
        self.streams.abandon(&self.share);
        for Staged { acts, .. } in self.jobs.left() {
            for act in acts {
                if let What::Placed(number, _) = act.what {
                    self.share.discard_staged(number);
                }
            }
        }
    }
}

fn document<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(body).map_err(|_| WireError::Value("a document does not fit its schema"))
}
