//! What must be true of a history, whatever happened in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pinnace_topics::topic;

/// A message: its publisher, and its number among that publisher's. A publisher that does not try again is
/// another one after each lost connection, for only connections keep order then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MessageId {
    pub(super) publisher: u32,
    pub(super) number: u32,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} of publisher {}", self.number, self.publisher)
    }
}

/// The patterns of the queues; a queue is called by its place here.
pub(super) const QUEUES: [&str; 3] = ["t.*", ">", "t.a"];

/// Something that happened, told by the server's side.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Happened {
    /// A publisher sent it for the first time.
    Sent(MessageId, &'static str),
    /// The server acknowledged it.
    Stored(MessageId),
    /// It was chosen for a fetch or lent to somebody.
    Offered(usize, MessageId),
    /// An answer with it was put on the wire for good.
    Fetched(usize, MessageId),
    /// Its acknowledgement is durable.
    Settled(usize, MessageId),
    /// A fetch, its return or an acknowledgement was under way when the server died.
    InDoubt(usize, MessageId),
    /// It waited when all was over.
    Left(usize, MessageId),
    /// It was delivered to a live subscription of this number, to everything.
    Live(u32, MessageId),
    /// The server died after it had dropped a part of its log, with which it may have forgotten the
    /// identity of this message, that its publisher will send again.
    Forgotten(MessageId),
}

/// How one message fared in one queue.
#[derive(Default)]
struct Fare {
    offered: bool,
    ends: u32,
    in_doubt: bool,
}

/// The first thing that is wrong, if anything is.
pub(super) fn check(history: &[Happened]) -> Result<(), String> {
    let mut sent: BTreeMap<MessageId, &str> = BTreeMap::new();
    let (mut stored, mut forgotten) = (BTreeSet::new(), BTreeSet::new());
    let mut fares: BTreeMap<(usize, MessageId), Fare> = BTreeMap::new();
    // The latest number of each publisher, by queue and by live subscription.
    let (mut latest, mut live) = (BTreeMap::new(), BTreeMap::new());
    for happened in history {
        match *happened {
            Happened::Sent(id, on) => drop(sent.insert(id, on)),
            Happened::Stored(id) => {
                known(&sent, id)?;
                stored.insert(id);
            }
            Happened::Forgotten(id) => drop(forgotten.insert(id)),
            Happened::Live(subscription, id) => {
                known(&sent, id)?;
                let before = live.insert((subscription, id.publisher), id.number);
                if before.is_some_and(|before| before >= id.number) && !forgotten.contains(&id) {
                    return Err(format!("{id} came live behind number {before:?}"));
                }
            }
            Happened::Offered(queue, id) => {
                let on = known(&sent, id)?;
                if !topic::matches(QUEUES[queue].as_bytes(), on.as_bytes()) {
                    return Err(format!("{id} on {on} is in queue {queue}"));
                }
                let fare = fares.entry((queue, id)).or_default();
                if fare.ends > 0 && !forgotten.contains(&id) {
                    return Err(format!("{id} came again from queue {queue}"));
                }
                let latest = latest.entry((queue, id.publisher)).or_insert(0);
                if !std::mem::replace(&mut fare.offered, true) {
                    if id.number <= *latest {
                        return Err(format!("{id} came behind {latest} from queue {queue}"));
                    }
                    *latest = id.number;
                }
            }
            Happened::Fetched(queue, id)
            | Happened::Settled(queue, id)
            | Happened::Left(queue, id) => {
                let fare = fares.entry((queue, id)).or_default();
                fare.ends += 1;
                if !fare.offered {
                    return Err(format!("{id} ended in queue {queue} without being offered"));
                }
                if fare.ends > 1 && !forgotten.contains(&id) {
                    return Err(format!("{id} came twice from queue {queue}"));
                }
            }
            Happened::InDoubt(queue, id) => fares.entry((queue, id)).or_default().in_doubt = true,
        }
    }
    for id in stored {
        let is_in = |queue: &usize| topic::matches(QUEUES[*queue].as_bytes(), sent[&id].as_bytes());
        for queue in (0..QUEUES.len()).filter(is_in) {
            let fare = fares.get(&(queue, id));
            if !fare.is_some_and(|fare| fare.ends > 0 || fare.in_doubt) {
                return Err(format!("{id} was acknowledged, and queue {queue} lost it"));
            }
        }
    }
    Ok(())
}

/// The topic of a message that somebody sent.
fn known<'a>(sent: &BTreeMap<MessageId, &'a str>, id: MessageId) -> Result<&'a str, String> {
    let on = sent.get(&id).copied();
    on.ok_or_else(|| format!("{id} was never sent"))
}
