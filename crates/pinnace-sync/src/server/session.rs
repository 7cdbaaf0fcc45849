//! One client's session: its packs are staged by as many threads as there are CPUs, committed in order, synced, and
//! acknowledged.
//!
//! Invariant: `Committed` is sent after the share and the log of its index have the change, `Durable` after both were
//! synced; failures are told before the acknowledgement that covers them. When the session ends, what did not get its turn
//! leaves no trace. Left to others: who may have a session (`desk`), what a pack does (`stage`, `commit`).

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::sync::{
    Answer, Ask, ClientState, Durability, Hello, Question, Refused, Welcome,
};
use rustix::io::Errno;

use super::commit::{Committer, Outcome};
use super::desk::{Close, Link, Listener};
use super::gate::Gate;
use super::jobs::{Jobs, Way};
use super::recover::{Reading, Walk};
use super::share::{Share, ShareError};
use super::stage::{stage, stage_name};
use super::staged::{Staged, What};
use super::stream::Streams;
use crate::index::Index;
use crate::wire::{
    FRAME_BYTES_MAX, FrameError, FrameKind, OpenedPack, Piece, RowFacts, RowsBuilder, WireError,
    read_frame, write_frame,
};

/// Bytes that a client may have under way on its first connection without an answer.
const WINDOW_BYTES: u64 = 8 << 20;
/// Bytes of one frame of rows.
const ROWS_FRAME_BYTES: usize = 256 << 10;

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
    jobs: Jobs,
    streams: Streams,
    listener: Arc<dyn Listener>,
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
            jobs: Jobs::new(next_seq),
            streams: Streams::default(),
            listener,
        }
    }

    /// Converses on the first connection until it ends; further ones end with it.
    pub(super) fn run(&self, reader: &mut dyn std::io::Read) -> Result<(), FrameError> {
        let ended = self.greet().and_then(|()| {
            self.gate.open();
            self.converse(reader)
        });
        self.end();
        self.gate.end();
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
        let committer = Committer::new(
            share,
            &self.streams,
            self.hello.durability,
            self.listener.clock(),
        );
        let threads =
            std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 8));
        let ended = std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| self.work(&committer));
            }
            scope.spawn(|| self.sync());
            let ended = self.read(Way::Control, reader);
            self.end();
            ended
        });
        self.clean_up();
        ended
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

    /// Takes a further connection.
    pub(super) fn attach(&self, link: &mut Link) -> Result<(), FrameError> {
        if let Some(close) = link.close.take() {
            held(&self.closes).push(close);
        }
        if self.is_over() {
            return Err(FrameError::Closed);
        }
        self.read(Way::Bulk, &mut link.reader)
    }

    fn send(&self, kind: FrameKind, parts: &[&[u8]]) -> std::io::Result<()> {
        write_frame(&mut *held(&self.writer), kind, parts)
    }

    fn tell(&self, kind: FrameKind, document: &impl serde::Serialize) -> std::io::Result<()> {
        let json = serde_json::to_vec(document)?;
        self.send(kind, &[&json])
    }

    /// Says where the share is, and what the client does not know of it.
    pub(super) fn greet(&self) -> Result<(), FrameError> {
        if self.hello.recheck
            && let Err(error) = Walk::new(&self.share, Reading::Unknown).run()
        {
            tracing::warn!(%error, "the share cannot be compared with what is known of it");
        }
        let (welcome, after) = {
            let state = self.share.lock();
            let lineage = super::hex(&state.marks.lineage);
            let knows = self.hello.lineage == lineage
                && self.hello.seq <= state.marks.seq
                && self.hello.seq >= state.marks.removals_from;
            let welcome = Welcome {
                v: DOCUMENT_VERSION,
                lineage,
                seq: state.marks.seq,
                durable: state.marks.durable_seq,
                token: self.token.clone(),
                whole: !knows,
                sets_owners: self.share.sets_owners,
                window_bytes: WINDOW_BYTES,
            };
            (welcome, knows.then_some(self.hello.seq))
        };
        self.tell(FrameKind::Welcome, &welcome)?;
        if after != Some(welcome.seq) {
            self.send_rows(after)?;
        }
        Ok(self.send(FrameKind::RowsEnd, &[])?)
    }

    fn send_rows(&self, after: Option<u64>) -> std::io::Result<()> {
        let mut rows = RowsBuilder::default();
        let nodes: Vec<_> = {
            let state = self.share.lock();
            let removals = state.removals.iter();
            for (_, path) in removals.filter(|(seq, _)| after.is_some_and(|after| *seq > after)) {
                rows.push(path, None);
            }
            let is_new = |node: &_| after.is_none_or(|after| state.index.row(*node).seq > after);
            state.index.walk().filter(is_new).collect()
        };
        // Nobody else changes the index: the session holds the share.
        for some in nodes.chunks(1024) {
            let state = self.share.lock();
            for node in some.iter().filter(|node| state.index.contains(**node)) {
                rows.push(&state.index.path(*node), Some(&facts(&state.index, *node)));
            }
            drop(state);
            if rows.bytes() > ROWS_FRAME_BYTES {
                self.send(FrameKind::Rows, &[&rows.take()])?;
            }
        }
        if rows.bytes() > 0 {
            self.send(FrameKind::Rows, &[&rows.take()])?;
        }
        Ok(())
    }

    fn read(&self, way: Way, reader: &mut dyn std::io::Read) -> Result<(), FrameError> {
        let mut reader = reader;
        let mut body = Vec::new();
        while !self.is_over() {
            let kind = read_frame(&mut reader, &mut body)?;
            match (kind, way) {
                (FrameKind::Pack, _) => {
                    let bytes = std::mem::take(&mut body);
                    self.jobs.push(way, OpenedPack::open(bytes)?);
                }
                (FrameKind::Piece, Way::Bulk) => {
                    self.streams.piece(&self.share, &Piece::read(&body)?)?;
                }
                (FrameKind::Ping, _) => self.send(FrameKind::Pong, &[])?,
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

    fn note(&self, state: ClientState) {
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
            let staged = stage(&self.share, self.hello.durability, &pack);
            drop(pack);
            let turn = staged.and_then(|staged| self.jobs.staged(staged));
            let mut turn = match turn {
                Ok(turn) => turn,
                Err(error) => return self.refuse("protocol", &error.to_string()),
            };
            while !turn.is_empty() {
                match committer.commit(turn) {
                    Ok(outcome) => self.acknowledge(&outcome),
                    Err(ShareError::Removed) => {
                        return self.refuse("removed", &ShareError::Removed.to_string());
                    }
                    Err(error) => {
                        self.share.fail(&error.to_string());
                        return self.refuse("storage", &error.to_string());
                    }
                }
                turn = self.jobs.committed();
            }
        }
    }

    fn acknowledge(&self, outcome: &Outcome) {
        let (seq, _) = self.share.progress();
        let told = || -> std::io::Result<()> {
            for (seq, failure) in &outcome.failures {
                let parts = [&seq.to_le_bytes()[..], &[failure.code as u8]];
                self.send(
                    FrameKind::Failed,
                    &[parts[0], parts[1], failure.detail.as_bytes()],
                )?;
            }
            self.send(FrameKind::Committed, &[&seq.to_le_bytes()])?;
            if self.hello.durability == Durability::Strict {
                self.sync_now();
            }
            Ok(())
        };
        if told().is_err() {
            self.end();
        }
        self.share.wake();
        if outcome.changes > 0 {
            self.listener
                .changed(&self.name, seq, outcome.changes, &outcome.paths);
        }
    }

    /// The thread that syncs what was committed, many changes at once.
    fn sync(&self) {
        if self.hello.durability != Durability::Batch {
            return;
        }
        loop {
            let state = self.share.wait_while(self.share.lock(), |state| {
                !self.is_over() && state.marks.seq == state.marks.durable_seq
            });
            drop(state);
            if self.is_over() {
                return;
            }
            self.sync_now();
        }
    }

    /// Syncs everything that is committed now, and says so.
    fn sync_now(&self) {
        let seq = {
            let state = self.share.lock();
            if state.failed.is_some() || state.marks.durable_seq == state.marks.seq {
                let seq = state.marks.durable_seq;
                drop(state);
                let _ = self.send(FrameKind::Durable, &[&seq.to_le_bytes()]);
                return;
            }
            state.marks.seq
        };
        match self.share.sync(seq) {
            Ok(()) => {
                let _ = self.send(FrameKind::Durable, &[&seq.to_le_bytes()]);
            }
            Err(error) => {
                let why = std::io::Error::from(error).to_string();
                self.share.fail(&format!("a sync failed: {why}"));
                self.refuse("storage", &format!("a sync failed: {why}"));
            }
        }
    }

    /// Removes from the stage what did not get its turn.
    fn clean_up(&self) {
        self.streams.abandon(&self.share);
        for Staged { acts, .. } in self.jobs.left() {
            for act in acts {
                if let What::Placed(number, _) = act.what {
                    let name = stage_name(number);
                    let _ = super::trash::remove_all(
                        std::os::fd::AsFd::as_fd(&self.share.stage),
                        name.as_bytes(),
                    );
                }
            }
        }
    }
}

impl Share {
    /// Syncs the file system that the share, its index and its trash are on.
    fn sync(&self, seq: u64) -> Result<(), Errno> {
        rustix::fs::syncfs(&self.stage)?;
        let mut state = self.lock();
        state.marks.durable_seq = state.marks.durable_seq.max(seq);
        let marks = state.marks.clone();
        // If this word is lost, less is known to be durable than is.
        state.store.set_marks(&marks).map_err(|_| Errno::IO)?;
        drop(state);
        self.wake();
        Ok(())
    }
}

fn document<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(body).map_err(|_| WireError::Value("a document does not fit its schema"))
}

pub(super) fn facts(index: &Index, node: crate::index::NodeId) -> RowFacts {
    let row = index.row(node);
    RowFacts {
        meta: row.meta,
        content: row.content,
        seq: row.seq,
    }
}
