//! Goes on with what the watcher tells, for as long as the session lasts.
//!
//! Invariant: an event says only that a path may differ; what is done about it is found by comparing. A rename that was seen
//! whole is sent as one, before anything else is compared. Left to others: watching, comparing.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use pinnace_proto::sync::{Answer, Ask, Phase, Question};

use super::ledger::When;
use super::outbox::Way;
use super::packer::Packer;
use super::scan::{Depth, Task};
use super::session::{Ended, tasks};
use super::{Mirror, MirrorError, Told, held};
use crate::fs::{Attrs, attrs_digest};
use crate::ids::hex;
use crate::meta::{Fingerprint, Kind, Meta, Stamp, of_stat};
use crate::path;
use crate::watch::{Event, Written};
use crate::wire::FrameKind;

/// A file that is being written to is compared when it has been quiet for so long …
const QUIET: Duration = Duration::from_millis(25);
/// … or after so long at the latest.
const WRITING_MAX: Duration = Duration::from_millis(500);
/// How often is looked at what no event tells of: directories that cannot be watched, what the server could not take.
const POLL: Duration = Duration::from_secs(10);
/// How often everything is compared, for changes that nothing tells of.
const SWEEP: Duration = Duration::from_secs(600);

/// What is to be done next.
#[derive(Default)]
struct Dirty {
    paths: HashSet<Vec<u8>>,
    /// Files that are being written to: since when, and when they were last.
    writing: HashMap<Vec<u8>, (Instant, Instant)>,
    everything: bool,
    /// What no event tells of is to be looked at now.
    polls: bool,
    /// Questions whose moment has come: everything before it is in `paths`.
    due: Vec<Ask>,
    /// Questions that wait for their cookie.
    waiting: Vec<(u64, Ask)>,
}

impl Mirror<'_> {
    pub(super) fn live(&self) -> Result<Ended, MirrorError> {
        let mut dirty = Dirty::default();
        let (mut next_poll, mut next_sweep) = (Instant::now() + POLL, Instant::now() + SWEEP);
        let mut told = 0;
        loop {
            if let Some(over) = self.ledger.over() {
                return Ok(Ended::Over(over));
            }
            let now = Instant::now();
            if now >= next_sweep {
                (dirty.everything, next_sweep) = (true, now + SWEEP);
            }
            if now >= next_poll || dirty.polls {
                (dirty.polls, next_poll) = (true, now + POLL);
                let refused = std::mem::take(&mut *held(&self.refused));
                dirty.paths.extend(refused.into_keys());
            }
            let mut tasks = self.due(&mut dirty, now);
            if std::mem::take(&mut dirty.polls) {
                let unwatched = held(&self.unwatched).clone().into_iter();
                tasks.extend(unwatched.map(|at| Task::dir(at, Depth::Entries)));
            }
            let has_compared = !tasks.is_empty();
            if has_compared {
                self.scan(tasks, Way::Control);
                self.remove_gone()?;
            } else if self.ledger.is_settled() && self.is_quiet(&dirty) {
                if self.look_at_linked() {
                    continue;
                }
                held(&self.deep).clear();
                held(&self.closed).clear();
                self.answer(&mut dirty);
                self.tell_synced(&mut told);
            }
            self.take_troubles();
            // What was compared may have been the last that was to be done before all is quiet.
            if !has_compared {
                self.rest(&dirty, next_poll.min(next_sweep));
            }
            self.take(&mut dirty)?;
        }
    }

    fn is_quiet(&self, dirty: &Dirty) -> bool {
        dirty.paths.is_empty()
            && !dirty.polls
            && dirty.writing.is_empty()
            && held(&self.again).is_empty()
            && held(&self.later).is_empty()
            && !self.ledger.has_events()
    }

    /// What can be compared now.
    fn due(&self, dirty: &mut Dirty, now: Instant) -> Vec<Task> {
        let is_due = |since: &Instant, last: &Instant| {
            now.duration_since(*last) >= QUIET || now.duration_since(*since) >= WRITING_MAX
        };
        let written = dirty
            .writing
            .extract_if(|_, (since, last)| is_due(since, last));
        dirty.paths.extend(written.map(|(path, _)| path));
        dirty.paths.extend(held(&self.again).drain());
        let mut waiting = held(&self.later);
        let later = waiting.extract_if(|_, due| now >= *due);
        dirty.paths.extend(later.map(|(path, _)| path));
        drop(waiting);
        if std::mem::take(&mut dirty.everything) {
            dirty.paths.clear();
            return vec![Task::dir(Vec::new(), Depth::All)];
        }
        let paths = dirty.paths.drain();
        let wanted = paths.filter(|path| {
            let is_dir = false;
            path.is_empty() || !self.filter.is_excluded_with_parents(path, is_dir)
        });
        tasks(wanted.collect::<Vec<_>>())
    }

    /// Waits until there is something to do.
    fn rest(&self, dirty: &Dirty, next: Instant) {
        let mut until = next;
        for (since, last) in dirty.writing.values() {
            until = until.min((*last + QUIET).min(*since + WRITING_MAX));
        }
        for due in held(&self.later).values() {
            until = until.min(*due);
        }
        let is_dirty = !dirty.paths.is_empty() || dirty.everything || dirty.polls;
        let has_due = !dirty.due.is_empty() || is_dirty;
        let was_settled = self.ledger.is_settled();
        let time = until.saturating_duration_since(Instant::now());
        self.ledger.wait_at_most(time, |state| {
            state.has_news()
                || !held(&self.again).is_empty()
                || (state.is_settled() != was_settled)
                || (has_due && (was_settled || is_dirty))
        });
    }

    /// Takes what was told meanwhile.
    fn take(&self, dirty: &mut Dirty) -> Result<(), MirrorError> {
        let (events, asks) = self.ledger.take_news();
        for event in events {
            match event {
                Event::Changed { path, written, .. } => {
                    if written == Written::Closed {
                        held(&self.closed).insert(path.clone());
                    }
                    note(dirty, path, written);
                }
                Event::Renamed { from, to, .. } => self.renamed(dirty, from, to),
                Event::Overflow => {
                    dirty.everything = true;
                    self.tell.tell(&Told::Overflowed);
                }
                Event::RootGone => {
                    let why = "the source was moved, deleted or unmounted; nothing was deleted";
                    self.state(Phase::Halted, Some(why.to_owned()));
                    return Err(MirrorError::Halted(why.to_owned()));
                }
                Event::Cookie(number) => {
                    let passed = dirty.waiting.extract_if(.., |(own, _)| *own <= number);
                    dirty.due.extend(passed.map(|(_, ask)| ask));
                }
            }
        }
        for ask in asks {
            dirty.polls |= !held(&self.unwatched).is_empty() || !held(&self.refused).is_empty();
            if ask.what == Question::DeepDigest {
                self.forget_prints();
                dirty.everything = true;
            }
            match self.watch.as_ref().map(|watch| watch.cookie()) {
                Some(Ok(cookie)) => dirty.waiting.push((cookie, ask)),
                Some(Err(error)) => self.reply(&ask, Err(error.to_string())),
                None => self.reply(&ask, Err("the client does not watch its source".to_owned())),
            }
        }
        Ok(())
    }

    /// An entry has another place: the server moves it too, if it is the one that the server has.
    fn renamed(&self, dirty: &mut Dirty, from: Vec<u8>, to: Vec<u8>) {
        move_marks(dirty, &from, &to);
        move_within(&mut held(&self.closed), &from, &to);
        // What comparing has found may be about what has come to this place since, so it stays there as well.
        let moved = |path: &Vec<u8>| {
            let is_beneath = path::is_within(path, &from);
            is_beneath.then(|| [&to, &path[from.len()..]].concat())
        };
        dirty
            .paths
            .extend(held(&self.again).iter().filter_map(moved));
        dirty
            .paths
            .extend(held(&self.later).keys().filter_map(moved));
        for found in [&self.unwatched, &self.deep] {
            let mut found = held(found);
            let moved: Vec<_> = found.iter().filter_map(moved).collect();
            found.extend(moved);
        }
        let wanted = |path: &[u8], is_dir| !self.filter.is_excluded_with_parents(path, is_dir);
        if let Ok(stat) = self.root.stat(&to)
            && let Some((meta, print, _)) = of_stat(&stat)
            && wanted(&to, meta.kind == crate::Kind::Directory)
        {
            let row = {
                let state = self.ledger.lock();
                let node = state.index.find(&from);
                let parent = state.index.find(path::split(&to).0);
                node.filter(|_| parent.is_some())
                    .map(|node| *state.index.row(node))
            };
            let is_it = row.is_some_and(|row| {
                row.meta.kind == meta.kind
                    && row.print.inode == print.inode
                    && row.meta.size == meta.size
                    && row.meta.mtime == meta.mtime
                    && (!row.is_racy || meta.kind == Kind::Directory)
            });
            if is_it && !self.is_there(&from, print.inode) {
                let mut packer = Packer::new(self, Way::Control);
                // Renaming changes the inode, and so may have something else at the same time: then all is compared.
                let is_all = row
                    .is_some_and(|row| !row.is_racy && self.attrs_at(&to, &meta) == Some(row.meta));
                let print = Fingerprint {
                    inode: print.inode,
                    ctime: if is_all {
                        print.ctime
                    } else {
                        Stamp::default()
                    },
                };
                packer.rename(&from, print.inode, &to, print);
                self.filter.rename_dir(&from, &to);
            }
        }
        dirty.paths.extend([from, to]);
    }

    /// What an entry is like, with its attributes.
    fn attrs_at(&self, at: &[u8], meta: &Meta) -> Option<Meta> {
        let attrs = match meta.kind {
            Kind::File => Attrs::read(self.root.file(at).ok()?),
            Kind::Directory => Attrs::read(self.root.dir(at).ok()?),
            Kind::Symlink => return Some(*meta),
        };
        let attrs = attrs_digest(&attrs.ok()?.encode());
        Some(Meta { attrs, ..*meta })
    }

    fn forget_prints(&self) {
        let mut state = self.ledger.lock();
        let nodes: Vec<_> = state.index.walk().collect();
        for node in nodes {
            let mut row = *state.index.row(node);
            row.is_racy = true;
            state.index.set_row(node, row);
        }
    }

    /// Answers what was asked, now that everything up to then is in the share.
    fn answer(&self, dirty: &mut Dirty) {
        for ask in std::mem::take(&mut dirty.due) {
            if let Some(why) = self.why_refused() {
                self.reply(&ask, Err(why));
                continue;
            }
            let seq = self.ledger.lock().committed;
            if self.ledger.lock().durable < seq {
                self.send(Way::Control, FrameKind::Sync, &[]);
                self.ledger.wait_until(|state| state.durable >= seq);
            }
            let digest = match ask.what {
                Question::Wait => None,
                _ => Some(hex(&self.ledger.lock().index.digest())),
            };
            self.reply(&ask, Ok((seq, digest)));
        }
    }

    fn why_refused(&self) -> Option<String> {
        let refused = held(&self.refused);
        let (path, why) = refused.first_key_value()?;
        let (count, path) = (refused.len(), path::show(path));
        Some(format!(
            "{count} entries could not be taken by the server, among them {path}: {why}"
        ))
    }

    fn reply(&self, ask: &Ask, answer: Result<(u64, Option<String>), String>) {
        let (seq, digest, error) = match answer {
            Ok((seq, digest)) => (seq, digest, None),
            Err(error) => (0, None, Some(error)),
        };
        let answer = Answer {
            id: ask.id,
            error,
            digest,
            seq,
        };
        let json = serde_json::to_vec(&answer).unwrap_or_default();
        self.send(Way::Control, FrameKind::Answer, &[&json]);
    }

    /// Says that both are equal, once for each state.
    fn tell_synced(&self, told: &mut u64) {
        let (seq, entries) = {
            let state = self.ledger.lock();
            (state.committed, state.index.len() as u64)
        };
        if *told == seq + 1 {
            return;
        }
        // Nobody waits for a change yet when all is there for the first time.
        let when = if *told == 0 {
            When::Wanted
        } else {
            When::Overdue
        };
        *told = seq + 1;
        self.ledger.checkpoint(when);
        self.state(Phase::Live, None);
        self.tell.tell(&Told::Synced {
            seq,
            entries,
            sent_bytes: self.outbox.sent_bytes(),
        });
    }
}

fn move_within(paths: &mut HashSet<Vec<u8>>, from: &[u8], to: &[u8]) {
    let moved = paths.extract_if(|path| path::is_within(path, from));
    let moved: Vec<Vec<u8>> = moved
        .map(|path| [to, &path[from.len()..]].concat())
        .collect();
    paths.extend(moved);
}

/// What was to be compared beneath an entry goes along with it.
fn move_marks(dirty: &mut Dirty, from: &[u8], to: &[u8]) {
    let moved = |path: &[u8]| [to, &path[from.len()..]].concat();
    move_within(&mut dirty.paths, from, to);
    let writing = dirty
        .writing
        .extract_if(|path, _| path::is_within(path, from));
    let writing: Vec<_> = writing.map(|(path, times)| (moved(&path), times)).collect();
    dirty.writing.extend(writing);
}

fn note(dirty: &mut Dirty, path: Vec<u8>, written: Written) {
    let now = Instant::now();
    match written {
        Written::Done | Written::Closed => {
            dirty.writing.remove(&path);
            dirty.paths.insert(path);
        }
        Written::Still if !dirty.paths.contains(&path) => {
            dirty.writing.entry(path).or_insert((now, now)).1 = now;
        }
        Written::Still => {}
    }
}
