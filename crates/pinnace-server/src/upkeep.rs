//! Looking after what is stored: checks of a server's own log while it works, and of a folder that no
//! server uses.
//!
//! Invariant: a check changes nothing, and gives way to everything else: it has a thread of its own
//! with the lowest priority, and rests four times as long as it works. Left to others: what is damage
//! (`pinnace-log`), what it costs (`pinnace-topics`).

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::upkeep::{LostFor, LostMessage, StoredProblem, TopicsCheck, TornEnd};
use pinnace_topics::{Checked, Lost, OpenError, Problem, ProblemKind};

use crate::harbour::Harbour;
use crate::limits::{UPKEEP_REST, UPKEEP_STRETCH};
use crate::lock::{DataLock, LockError};

/// Why stored topics cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A server works in the folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no log.
    #[error("there are no topics in {0}; name the data folder of a server")]
    Nothing(PathBuf),
    /// Its log cannot be read as a whole.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl CheckError {
    /// Whether the log is damaged beyond reading.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Open(error) if error.is_damage())
    }
}

/// Checks the topics in the data folder of a server that does not run. Reads only.
///
/// # Errors
/// See [`CheckError`]. Damage is told in the document.
pub fn check_data(data: &Path) -> Result<TopicsCheck, CheckError> {
    let _lock = DataLock::look(data)?;
    let log = data.join("log");
    if !log.is_dir() {
        return Err(CheckError::Nothing(data.to_owned()));
    }
    check_log(&log)
}

/// Checks the log in a folder that nobody uses.
pub(crate) fn check_log(log: &Path) -> Result<TopicsCheck, CheckError> {
    let checked = pinnace_topics::check(log, &|| true)?;
    Ok(document(&checked.unwrap_or_default()))
}

/// Checks a server's own log; `None` when the server stops or nobody waits for it any more.
pub(crate) async fn check_own(
    harbour: &Arc<Harbour>,
) -> Option<Result<TopicsCheck, std::io::Error>> {
    let theirs = harbour.clone();
    let checking = apart(move |is_wanted| {
        let pace = Pace::new();
        let snapshot = theirs.broker.snapshot();
        snapshot.check(&|| {
            pace.step();
            is_wanted() && !theirs.is_stopping()
        })
    });
    let checked = checking.await?.transpose()?;
    Some(checked.map(|checked| document(&checked)))
}

/// Does `work` on a thread of its own that gives way to all others. The work is told to end when
/// nobody waits for it any more.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
) -> Option<T> {
    struct Unwanted(Arc<AtomicBool>);
    impl Drop for Unwanted {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let unwanted = Unwanted(Arc::default());
    let theirs = unwanted.0.clone();
    let (done, waiting) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("pn-upkeep".into());
    let started = thread.spawn(move || {
        // On Linux this is the thread alone. Where it is refused, resting has to do.
        let _ = rustix::process::setpriority_process(None, 19);
        let _ = done.send(work(&|| !theirs.load(Ordering::Relaxed)));
    });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread for upkeep");
        return None;
    }
    waiting.await.ok()
}

/// Makes work rest now and then, so that the disk and the processor are free for others.
pub(crate) struct Pace(Cell<Instant>);

impl Pace {
    pub(crate) fn new() -> Self {
        Self(Cell::new(Instant::now()))
    }

    /// Rests if it is time to.
    pub(crate) fn step(&self) {
        if self.0.get().elapsed() >= UPKEEP_STRETCH {
            std::thread::sleep(UPKEEP_REST);
            self.0.set(Instant::now());
        }
    }
}

fn document(checked: &Checked) -> TopicsCheck {
    TopicsCheck {
        v: DOCUMENT_VERSION,
        clean: checked.problems_count == 0,
        segments: checked.segments as u64,
        records: checked.records,
        bytes: checked.bytes,
        messages: checked.messages,
        queues: checked.queues,
        last_record: checked.last_lsn,
        torn: checked.torn.as_ref().map(|torn| TornEnd {
            segment: torn.segment.clone(),
            offset: torn.offset,
            bytes: torn.bytes,
            records: torn.records,
        }),
        problems: checked.problems.iter().map(problem).collect(),
        problems_count: checked.problems_count,
    }
}

fn problem(problem: &Problem) -> StoredProblem {
    let (kind, what) = match &problem.kind {
        ProblemKind::Records => ("records", format!("{} cannot be read", records(problem))),
        ProblemKind::Header => (
            "header",
            "a spare copy of the header does not hold".to_owned(),
        ),
        ProblemKind::Unreadable(reason) => (
            "unreadable",
            format!("{} makes no sense: {reason}", records(problem)),
        ),
        ProblemKind::UndefinedQueue(id) => (
            "undefined-queue",
            format!("messages are for queue {id}, which nothing defines"),
        ),
    };
    let (cost, count, messages, seqs) = match &problem.lost {
        Lost::Nothing => ("nothing is lost".to_owned(), Some(0), &[][..], None),
        Lost::Unknown => ("what it said is not known".to_owned(), None, &[][..], None),
        Lost::Numbers(first, last) => {
            let cost = format!("{}, unless taken before", numbers("message", *first, *last));
            (cost, None, &[][..], Some((*first, *last)))
        }
        Lost::Messages(0, _) => ("no message waits there".to_owned(), Some(0), &[][..], None),
        Lost::Messages(count, messages) => {
            let cost = match count {
                1 => "1 message that waits is lost".to_owned(),
                _ => format!("{count} messages that wait are lost"),
            };
            (cost, Some(*count), &messages[..], None)
        }
    };
    StoredProblem {
        kind: kind.to_owned(),
        segment: problem.segment.clone(),
        offset: problem.offset,
        bytes: problem.bytes,
        first_record: problem.lsns.map(|(first, _)| first),
        last_record: problem.lsns.map(|(_, last)| last),
        detail: format!("{what}; {cost}"),
        lost_messages: count,
        lost: messages.iter().map(lost).collect(),
        first_seq: seqs.map(|(first, _)| first),
        last_seq: seqs.map(|(_, last)| last),
    }
}

fn records(problem: &Problem) -> String {
    let (first, last) = problem.lsns.unwrap_or_default();
    numbers("record", first, last)
}

fn numbers(what: &str, first: u64, last: u64) -> String {
    if first == last {
        format!("{what} {first}")
    } else {
        format!("{what}s {first} to {last}")
    }
}

fn lost(message: &pinnace_topics::LostMessage) -> LostMessage {
    let queues = message.queues.iter();
    LostMessage {
        seq: message.seq,
        topic: message.topic.clone(),
        queues: queues
            .map(|(topic, name)| LostFor {
                topic: topic.clone(),
                name: name.clone(),
            })
            .collect(),
    }
}
