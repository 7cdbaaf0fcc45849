//! What is told of a session: its changes, with reasons when nothing else comes of them, and how far it is.
//!
//! Invariant: who does not look costs nothing but a few additions for each entry. Left to others: how it is shown.

use std::sync::atomic::{AtomicU64, Ordering};

use super::state::{Effect, State};
use super::{Mirror, Told};
use crate::index::Row;
use crate::meta::Meta;
use crate::path;

/// How far a session is, for whoever looks at it now and then.
#[derive(Debug, Default)]
pub struct Gauge {
    entries: AtomicU64,
    bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

/// What a gauge shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Entries that were compared, and sent if they had to be.
    pub entries: u64,
    /// Bytes of the files among them.
    pub bytes: u64,
    /// Bytes that went to the server.
    pub sent_bytes: u64,
}

impl Gauge {
    /// What it shows now.
    #[must_use]
    pub fn read(&self) -> Reading {
        Reading {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
        }
    }

    /// A session begins, and compares everything.
    pub(super) fn begin(&self) {
        for count in [&self.entries, &self.bytes, &self.sent_bytes] {
            count.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn compared(&self, size: u64) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Mirror<'_> {
    pub(super) fn note_compared(&self, size: u64) {
        if let Some(gauge) = self.tell.gauge() {
            gauge.compared(size);
        }
    }

    /// Tells of changes that are about to be sent, and entered into what is known.
    pub(super) fn report_sending(&self, effects: &[Effect]) {
        self.changes
            .fetch_add(effects.len() as u64, Ordering::Relaxed);
        for effect in effects {
            let (what, path, from) = match effect {
                Effect::Put { path, .. } | Effect::Link { path, .. } => ("put", path, None),
                Effect::Rename { from, to, .. } => ("rename", to, Some(from.as_slice())),
                Effect::Exchange { a, b } => ("rename", &b.0, Some(a.0.as_slice())),
                Effect::Remove { path } => ("remove", path, None),
            };
            let why = self.settings.dry_run.then(|| {
                let state = self.ledger.lock();
                reason(&state, effect)
            });
            let why = why.as_deref();
            self.tell.tell(&Told::Change {
                what,
                path,
                from,
                why,
            });
        }
    }
}

/// Why a change has to be made.
fn reason(state: &State, effect: &Effect) -> String {
    let known = |at: &[u8]| state.index.find(at).map(|node| state.index.row(node));
    match effect {
        Effect::Put { path, row, .. } => match known(path) {
            None => "new".to_owned(),
            Some(old) => differences(old, row),
        },
        Effect::Link { target, .. } => format!("another name of {}", path::show(target)),
        Effect::Rename { .. } => "renamed".to_owned(),
        Effect::Exchange { .. } => "exchanged".to_owned(),
        Effect::Remove { .. } => "gone, or left out".to_owned(),
    }
}

fn differences(old: &Row, new: &Row) -> String {
    if old.meta.kind != new.meta.kind {
        return "of another kind".to_owned();
    }
    let Meta {
        mode,
        uid,
        gid,
        mtime,
        attrs,
        ..
    } = new.meta;
    let all = [
        (old.content != new.content, "content"),
        (old.meta.mode != mode, "mode"),
        ((old.meta.uid, old.meta.gid) != (uid, gid), "owner"),
        (old.meta.mtime != mtime, "time"),
        (old.meta.attrs != attrs, "attributes"),
    ];
    let all: Vec<&str> = all
        .iter()
        .filter_map(|(differs, what)| differs.then_some(*what))
        .collect();
    match all.is_empty() {
        // What the server is not certain to have is sent again.
        true => "not certain to be there".to_owned(),
        false => all.join(", "),
    }
}
