//! Checking what is stored: every record of the log, what it says, and what damage costs.
//!
//! Invariant: nothing is changed, and the same engine looks at a log that nobody has open and at a
//! broker's own while it works. A broker knows which of its messages stood where, so it can name
//! what is lost; without one, only the numbers missing between two messages tell.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use pinnace_log::{Damage, Disk, Lsn, RealDisk, TornTail, Visited};

use crate::broker::Inner;
use crate::error::{OpenError, printable};
use crate::limits::{LOST_MESSAGES_MAX, PROBLEMS_MAX};
use crate::record::{self, Record};
use crate::snapshot::Snapshot;

/// What a check found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Segments that were looked at.
    pub segments: usize,
    /// Whole records.
    pub records: u64,
    /// Bytes of these records.
    pub bytes: u64,
    /// Records among them that hold a message; one that was moved counts again.
    pub messages: u64,
    /// Queues that exist after the last record.
    pub queues: u64,
    /// Lsn of the last record, or of the last one lost to damage if that is later.
    pub last_lsn: Lsn,
    /// The unfinished end of a log that nobody has open. It is no damage: nothing of it was
    /// acknowledged.
    pub torn: Option<TornTail>,
    /// What is wrong, in the order of the log; at most a thousand are told.
    pub problems: Vec<Problem>,
    /// How many there are.
    pub problems_count: u64,
}

/// A place where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is.
    pub kind: ProblemKind,
    /// Name of the segment.
    pub segment: String,
    /// First byte.
    pub offset: u64,
    /// Length; 0 when the bytes are missing altogether.
    pub bytes: u64,
    /// First and last record concerned; `None` when no record is.
    pub lsns: Option<(Lsn, Lsn)>,
    /// What it costs.
    pub lost: Lost,
}

/// What is wrong in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProblemKind {
    /// Acknowledged records cannot be read.
    Records,
    /// A spare copy of a segment's header does not hold.
    Header,
    /// A whole record says what this program does not understand; here is why.
    Unreadable(String),
    /// A message is for a queue that nothing defines.
    UndefinedQueue(u32),
}

/// What a problem costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// No message.
    Nothing,
    /// Nobody knows.
    Unknown,
    /// Messages with these numbers were published there, and may have been taken since.
    Numbers(u64, u64),
    /// Messages that queues still hold: how many, and the first of them.
    Messages(u64, Vec<LostMessage>),
}

/// A message that cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostMessage {
    /// Its number.
    pub seq: u64,
    /// Where it was published, printable.
    pub topic: String,
    /// Pattern (printable) and name of the queues that hold it.
    pub queues: Vec<(String, String)>,
}

/// Checks the topics stored in `dir`, which nobody may have open; `go_on` is asked again and again.
/// `None` when it said no.
///
/// # Errors
/// As for opening. Damage is not an error.
pub fn check(dir: &Path, go_on: &dyn Fn() -> bool) -> Result<Option<Checked>, OpenError> {
    check_on(&RealDisk, dir, go_on)
}

/// Like `check`, on a disk given by the caller.
///
/// # Errors
/// As for opening.
pub fn check_on(
    disk: &dyn Disk,
    dir: &Path,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Checked>, OpenError> {
    let mut meaning = Meaning::default();
    let found = pinnace_log::check(disk, dir, &mut |record| meaning.visit(record, go_on))?;
    Ok(found.map(|found| meaning.finish(found, None)))
}

impl Snapshot {
    /// Checks everything in it, and says what damage costs the broker; `go_on` is asked again and
    /// again. `None` when it said no.
    ///
    /// # Errors
    /// A segment cannot be opened.
    pub fn check(&self, go_on: &dyn Fn() -> bool) -> std::io::Result<Option<Checked>> {
        let mut meaning = Meaning::default();
        let log = self.log();
        let found = log.check(&mut |record| meaning.visit(record, go_on))?;
        Ok(found.map(|found| meaning.finish(found, Some(self))))
    }
}

/// What the records said so far.
#[derive(Default)]
struct Meaning {
    bytes: u64,
    messages: u64,
    defined: HashSet<u32>,
    /// Queues that messages are for and that are not defined yet; where each was met first.
    awaited: HashMap<u32, Problem>,
    unreadable: Vec<Problem>,
    unreadable_count: u64,
    /// The last lsn and the last number of a message.
    last: Option<(Lsn, u64)>,
    /// Numbers that are missing, and the records between which they are.
    jumps: Vec<Jump>,
}

struct Jump {
    lsns: (Lsn, Lsn),
    seqs: (u64, u64),
}

impl Meaning {
    fn visit(&mut self, record: Visited<'_>, go_on: &dyn Fn() -> bool) -> ControlFlow<()> {
        if !go_on() {
            return ControlFlow::Break(());
        }
        let bytes = u64::from(pinnace_log::RECORD_OVERHEAD_BYTES) + record.payload.len() as u64;
        self.bytes += bytes;
        let problem = |kind, lost| Problem {
            kind,
            segment: record.segment.to_owned(),
            offset: record.offset,
            bytes,
            lsns: Some((record.lsn, record.lsn)),
            lost,
        };
        match record::decode(record.payload) {
            Ok(Record::Message {
                copy, seq, queues, ..
            }) => {
                self.messages += 1;
                if !copy {
                    self.see(record.lsn, seq, seq);
                }
                for id in queues.into_iter().filter(|id| !self.defined.contains(id)) {
                    let met = || problem(ProblemKind::UndefinedQueue(id), Lost::Unknown);
                    self.awaited.entry(id).or_insert_with(met);
                }
            }
            Ok(Record::Create { queue, .. } | Record::Restate { queue, .. }) => {
                self.defined.insert(queue);
                self.awaited.remove(&queue);
            }
            Ok(Record::Delete { queue }) => {
                self.defined.remove(&queue);
                self.awaited.remove(&queue);
            }
            Ok(Record::Counters { next_seq, .. }) => {
                self.see(record.lsn, next_seq, next_seq.saturating_sub(1));
            }
            Ok(Record::Consume { .. } | Record::Settle { .. }) => {}
            Err(reason) => {
                self.unreadable_count += 1;
                if self.unreadable.len() < PROBLEMS_MAX {
                    let kind = ProblemKind::Unreadable(reason);
                    self.unreadable.push(problem(kind, Lost::Unknown));
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Every message below `next` was published before this record, and every one up to `seq` with it.
    fn see(&mut self, lsn: Lsn, next: u64, seq: u64) {
        let (last_lsn, last_seq) = self.last.unwrap_or((lsn, seq));
        if next > last_seq + 1 && self.jumps.len() < PROBLEMS_MAX {
            self.jumps.push(Jump {
                lsns: (last_lsn, lsn),
                seqs: (last_seq + 1, next - 1),
            });
        }
        self.last = Some((lsn, seq.max(last_seq)));
    }

    /// What was found, with what damage costs `broker`, if there is one.
    fn finish(self, found: pinnace_log::Recovery, broker: Option<&Snapshot>) -> Checked {
        let count = found.damage.len() + self.awaited.len();
        let problems_count = count as u64 + self.unreadable_count;
        let damage = found.damage.into_iter().take(PROBLEMS_MAX);
        let mut problems: Vec<Problem> = damage
            .map(|damage| {
                let lost = match (damage.lsns, broker) {
                    (None, _) => Lost::Nothing,
                    (Some(_), Some(snapshot)) => snapshot.lost(&damage),
                    (Some(lsns), None) => self.numbers(lsns),
                };
                let kind = match damage.lsns {
                    Some(_) => ProblemKind::Records,
                    None => ProblemKind::Header,
                };
                Problem {
                    kind,
                    segment: damage.segment,
                    offset: damage.offset,
                    bytes: damage.bytes,
                    lsns: damage.lsns,
                    lost,
                }
            })
            .collect();
        problems.extend(self.unreadable);
        problems.extend(self.awaited.into_values());
        problems.sort_by(|a, b| (&a.segment, a.offset).cmp(&(&b.segment, b.offset)));
        problems.truncate(PROBLEMS_MAX);
        Checked {
            segments: found.segments,
            records: found.records,
            bytes: self.bytes,
            messages: self.messages,
            queues: self.defined.len() as u64,
            last_lsn: found.last_lsn,
            torn: found.torn,
            problems,
            problems_count,
        }
    }

    /// The messages that were published in lost records, as far as their neighbours tell.
    fn numbers(&self, (first, last): (Lsn, Lsn)) -> Lost {
        let around = |jump: &&Jump| jump.lsns.0 < first && last < jump.lsns.1;
        match self.jumps.iter().find(around) {
            Some(jump) => Lost::Numbers(jump.seqs.0, jump.seqs.1),
            None => Lost::Unknown,
        }
    }
}

impl Snapshot {
    /// The messages that queues hold and whose records stand in a damaged place.
    fn lost(&self, damage: &Damage) -> Lost {
        let Some(ordinal) = self.log().ordinal(&damage.segment) else {
            return Lost::Unknown;
        };
        // Missing altogether: nobody knows what stood there.
        if damage.bytes == 0 {
            return Lost::Unknown;
        }
        messages_at(self.inner(), ordinal, damage)
    }
}

fn messages_at(inner: &Inner, ordinal: u32, damage: &Damage) -> Lost {
    let state = inner.core.lock();
    let (mut count, mut messages) = (0, Vec::new());
    let usage = state.index.segments.get(&ordinal);
    let mut seqs = usage.map_or(Vec::new(), |usage| usage.seqs.clone());
    seqs.sort_unstable();
    seqs.dedup();
    for seq in seqs {
        let Some(entry) = state.index.messages.get(seq).filter(|entry| entry.held > 0) else {
            continue;
        };
        let is_there =
            |offset: u64| (damage.offset..damage.offset + damage.bytes).contains(&offset);
        let position = entry
            .position
            .filter(|position| position.segment == ordinal);
        if !position.is_some_and(|position| is_there(u64::from(position.offset))) {
            continue;
        }
        count += 1;
        if messages.len() < LOST_MESSAGES_MAX {
            let matching = inner.core.routes.find(&entry.topic).0;
            let holders = state.holders(seq, &matching.queues);
            let queues = holders.iter().filter_map(|id| state.queue(*id));
            messages.push(LostMessage {
                seq,
                topic: printable(&entry.topic),
                queues: queues
                    .map(|queue| (printable(&queue.pattern), queue.name.to_string()))
                    .collect(),
            });
        }
    }
    Lost::Messages(count, messages)
}
