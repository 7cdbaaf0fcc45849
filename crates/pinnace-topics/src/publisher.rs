//! Publishing: the path every message takes.
//!
//! Invariant: a message is stored before anybody gets it live; where storing is refused, nobody
//! does. To a topic without queues, with its matches remembered, a publish takes no lock and
//! allocates nothing.

use std::collections::HashMap;
use std::sync::Arc;

use pinnace_log::Lsn;

use crate::broker::Inner;
use crate::dropping::make_room;
use crate::error::{PublishError, StoreError, printable};
use crate::identity::{self, Seen};
use crate::limits::{CACHE_TOPICS_MAX, IDENTITY_BYTES_MAX};
use crate::live::{Batch, Message};
use crate::queues::Done;
use crate::record::{self, Content};
use crate::routing::MatchSet;
use crate::state::State;
use crate::steps::{Dones, Op, Pending};
use crate::topic;

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Live deliveries: one for each plain subscription and each group that took it.
    pub live: u32,
    /// Queues it waits in.
    pub queues: u32,
    /// Its number, if it waits in a queue. It is acknowledged once `done` says so; until then a
    /// crash or a full disk can give the number to another message.
    pub seq: Option<u64>,
    /// It is the repetition of a message whose identity was remembered: nothing was stored or
    /// delivered now. `queues` and `seq` are those of the first.
    pub duplicate: bool,
}

/// A publishing end, one for each connection. Remembers whom its topics reach.
pub struct Publisher {
    inner: Arc<Inner>,
    generation: u64,
    /// The matches of the latest topic.
    last: Option<Arc<MatchSet>>,
    cache: HashMap<Arc<[u8]>, Arc<MatchSet>>,
}

impl Publisher {
    pub(crate) fn new(inner: Arc<Inner>) -> Publisher {
        let generation = inner.core.routes.generation();
        Publisher {
            inner,
            generation,
            last: None,
            cache: HashMap::new(),
        }
    }

    /// Stores the message in every matching queue, then delivers it to every matching live
    /// subscription, except those of the connection `skip_owner`. The connections it reached are
    /// in `batch`, to be flushed by the caller.
    ///
    /// If it waits in a queue, `done` is called exactly once, on the committer's thread: with its
    /// number when it is durable, or with the reason why it is not. If no queue matches, `done`
    /// is dropped. It must not block.
    ///
    /// # Errors
    /// See `PublishError`; nobody got the message, and `done` was dropped.
    pub fn publish(
        &mut self,
        message: &Message<'_>,
        skip_owner: Option<u64>,
        batch: &mut Batch,
        done: Option<Done>,
    ) -> Result<Published, PublishError> {
        self.publish_with(message, None, skip_owner, batch, || done)
    }

    /// Whether this is the topic that was published to last, so that it need not be looked at again.
    #[must_use]
    #[inline]
    pub fn is_latest(&self, topic: &[u8]) -> bool {
        self.last.as_ref().is_some_and(|set| *set.topic == *topic)
    }

    /// Like `publish`, for a message with an identity: a repetition within the window of
    /// `Options::identity_window_us` on the same topic stores and delivers nothing. `done` then
    /// hears of the first one.
    ///
    /// # Errors
    /// Those of `publish`, and `InvalidIdentity`.
    pub fn publish_once(
        &mut self,
        message: &Message<'_>,
        id: &[u8],
        skip_owner: Option<u64>,
        batch: &mut Batch,
        done: Option<Done>,
    ) -> Result<Published, PublishError> {
        self.publish_with(message, Some(id), skip_owner, batch, || done)
    }

    /// `publish_once` with an identity and `publish` without; `done` is made only for a message that
    /// a queue takes.
    ///
    /// # Errors
    /// Those of `publish_once`.
    #[inline]
    pub fn publish_with(
        &mut self,
        message: &Message<'_>,
        id: Option<&[u8]>,
        skip_owner: Option<u64>,
        batch: &mut Batch,
        done: impl FnOnce() -> Option<Done>,
    ) -> Result<Published, PublishError> {
        let generation = self.inner.core.routes.generation();
        if generation != self.generation {
            self.cache.clear();
            self.last = None;
            self.generation = generation;
        }
        if !matches!(&self.last, Some(set) if reaches(set, message.topic)) {
            self.last = Some(self.look_up(message.topic)?);
        }
        // Always there now.
        let Some(set) = &self.last else {
            return Ok(Published::default());
        };
        if set.queues.is_empty() && id.is_none() {
            let live = set.deliver(message, skip_owner, batch);
            return Ok(Published {
                live,
                ..Published::default()
            });
        }
        let set = Arc::clone(set);
        match store(&self.inner, set, self.generation, message, id, done())? {
            Outcome::New { set, seq } => Ok(Published {
                live: match seq {
                    Some(seq) => set.deliver_kept(message, seq, skip_owner, batch),
                    None => set.deliver(message, skip_owner, batch),
                },
                queues: set.queues.len() as u32,
                seq,
                duplicate: false,
            }),
            Outcome::Known(seen) => Ok(Published {
                live: 0,
                queues: seen.queues,
                seq: seen.seq,
                duplicate: true,
            }),
        }
    }

    #[cold]
    fn look_up(&mut self, name: &[u8]) -> Result<Arc<MatchSet>, PublishError> {
        if let Some(set) = self.cache.get(name) {
            return Ok(Arc::clone(set));
        }
        // Topics in the cache have passed this before.
        if !topic::is_valid_topic(name) {
            return Err(PublishError::InvalidTopic {
                topic: printable(name),
            });
        }
        let (set, generation) = self.inner.core.routes.find(name);
        if generation != self.generation || self.cache.len() >= CACHE_TOPICS_MAX {
            self.cache.clear();
            self.generation = generation;
        }
        self.cache.insert(Arc::clone(&set.topic), Arc::clone(&set));
        Ok(set)
    }
}

/// Whether a topic reaches the matches of the latest one: the same topic, or one that differs in a
/// last token nobody looks at, as the topics of replies do.
fn reaches(set: &MatchSet, topic: &[u8]) -> bool {
    *set.topic == *topic || (set.for_siblings && topic::are_siblings(&set.topic, topic))
}

/// What became of a message that had to be looked at under the lock.
enum Outcome {
    /// The matches as of that moment, and the message's number unless no queue was among them.
    New {
        set: Arc<MatchSet>,
        seq: Option<u64>,
    },
    /// It had been published before.
    Known(Seen),
}

/// Appends the message's record, unless nobody needs it or it is known.
fn store(
    inner: &Inner,
    mut set: Arc<MatchSet>,
    generation: u64,
    message: &Message<'_>,
    id: Option<&[u8]>,
    done: Option<Done>,
) -> Result<Outcome, PublishError> {
    let core = &inner.core;
    let content = Content {
        topic: message.topic,
        headers: message.headers,
        payload: message.payload,
    };
    check_identity(id)?;
    let bytes = stored_bytes(inner, &content)?;
    let published_us = (core.clock)();
    let window_us = core.options.identity_window_us;
    let key = id.map(|id| identity::key(message.topic, id));
    let mut guard = core.lock();
    let state = &mut *guard;
    if let Some(key) = &key
        && let Some(seen) = state.identities.seen(key, published_us, window_us)
    {
        let now = state.join_publish(&seen, done);
        let seq = seen.seq.unwrap_or(0);
        drop(guard);
        if let Some(done) = now {
            inner.answer(done, seq);
        }
        return Ok(Outcome::Known(seen));
    }
    // Queues come and go only under the lock of the state, so from here on the set is right.
    if core.routes.generation() != generation {
        set = core.routes.find(message.topic).0;
    }
    if !set.queues.is_empty() {
        set = make_room(inner, state, set, message.topic, u64::from(bytes))?;
    }
    let lsn = match set.queues.is_empty() {
        true => None,
        false => Some(append(inner, state, &set, &content, id, published_us)?),
    };
    let seq = lsn.map(|_| state.next_seq);
    if let Some(key) = &key {
        let told = (seq, lsn, set.queues.len() as u32);
        let key = Arc::clone(key);
        state
            .identities
            .remember(key, published_us, window_us, told);
    }
    if let (Some(seq), Some(lsn)) = (seq, lsn) {
        state.next_seq += 1;
        state.add_message(seq, &set.queues, &set.topic, bytes, published_us);
        let op = Op::Publish {
            seq,
            queues: Arc::clone(&set.queues),
            identity: key,
            dones: Dones {
                first: done,
                others: Vec::new(),
            },
        };
        state.pending.push_back(Pending { lsn, op });
    }
    drop(guard);
    Ok(Outcome::New { set, seq })
}

fn check_identity(id: Option<&[u8]>) -> Result<(), PublishError> {
    let (bytes, max_bytes) = (id.map_or(1, <[u8]>::len), IDENTITY_BYTES_MAX);
    if bytes == 0 || bytes > max_bytes {
        return Err(PublishError::InvalidIdentity { bytes, max_bytes });
    }
    Ok(())
}

fn stored_bytes(inner: &Inner, content: &Content<'_>) -> Result<u32, StoreError> {
    u32::try_from(content.bytes()).map_err(|_| StoreError::TooLarge {
        bytes: content.bytes(),
        max_bytes: inner.core.options.log.record_bytes_max,
    })
}

/// Appends the record of a message that gets the next number.
fn append(
    inner: &Inner,
    state: &mut State,
    set: &MatchSet,
    content: &Content<'_>,
    id: Option<&[u8]>,
    published_us: u64,
) -> Result<Lsn, StoreError> {
    let Content {
        topic,
        headers,
        payload,
    } = content;
    let (head, queues, seq) = (&mut state.scratch, &set.queues, state.next_seq);
    match id {
        None => {
            let kind = record::MESSAGE;
            record::message_head(head, kind, seq, published_us, queues, topic, headers);
        }
        Some(id) => {
            record::identified_head(head, seq, published_us, queues, id, topic, headers);
        }
    }
    Ok(inner.log.append(&[head, topic, headers, payload])?)
}

impl State {
    /// Lets `done` hear of a publish that came before. It comes back when that is durable.
    fn join_publish(&mut self, seen: &Seen, done: Option<Done>) -> Option<Done> {
        let at = seen.lsn.and_then(|lsn| {
            let at = self
                .pending
                .binary_search_by_key(&lsn, |pending| pending.lsn);
            at.ok()
        });
        match at.and_then(|at| self.pending.get_mut(at)) {
            Some(Pending {
                op: Op::Publish { dones, .. },
                ..
            }) => {
                dones.others.extend(done);
                None
            }
            // `done` of a message that no queue took is dropped, here as at first.
            _ => done.filter(|_| seen.seq.is_some()),
        }
    }
}
