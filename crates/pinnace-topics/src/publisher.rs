//! Publishing: the path every message takes.
//!
//! Invariant: a message is stored before anybody gets it live; where storing is refused, nobody
//! does. To a topic without queues, with its matches remembered, a publish takes no lock and
//! allocates nothing.

use std::collections::HashMap;
use std::sync::Arc;

use crate::broker::Inner;
use crate::error::{PublishError, StoreError, printable};
use crate::limits::CACHE_TOPICS_MAX;
use crate::live::{Batch, Message};
use crate::queues::Done;
use crate::record::{self, Content};
use crate::routing::MatchSet;
use crate::state::{Op, Pending};
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
        let generation = self.inner.core.routes.generation();
        if generation != self.generation {
            self.cache.clear();
            self.last = None;
            self.generation = generation;
        }
        if !matches!(&self.last, Some(set) if *set.topic == *message.topic) {
            self.last = Some(self.look_up(message.topic)?);
        }
        // Always there now.
        let Some(set) = &self.last else {
            return Ok(Published::default());
        };
        if set.queues.is_empty() {
            let live = set.deliver(message, skip_owner, batch);
            return Ok(Published {
                live,
                queues: 0,
                seq: None,
            });
        }
        let set = Arc::clone(set);
        let (set, seq) = store(&self.inner, set, self.generation, message, done)?;
        let live = match seq {
            Some(seq) => set.deliver_kept(message, seq, skip_owner, batch),
            None => set.deliver(message, skip_owner, batch),
        };
        Ok(Published {
            live,
            queues: set.queues.len() as u32,
            seq,
        })
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

/// Appends the message's record. Returns the matches as of that moment, and the message's number
/// unless the last queue has just gone.
fn store(
    inner: &Inner,
    mut set: Arc<MatchSet>,
    generation: u64,
    message: &Message<'_>,
    done: Option<Done>,
) -> Result<(Arc<MatchSet>, Option<u64>), PublishError> {
    let core = &inner.core;
    let content = Content {
        topic: message.topic,
        headers: message.headers,
        payload: message.payload,
    };
    let bytes = u32::try_from(content.bytes()).map_err(|_| StoreError::TooLarge {
        bytes: content.bytes(),
        max_bytes: core.options.log.record_bytes_max,
    })?;
    let published_us = (core.clock)();
    let mut guard = core.lock();
    let state = &mut *guard;
    // Queues come and go only under the lock of the state, so from here on the set is right.
    if core.routes.generation() != generation {
        set = core.routes.find(message.topic).0;
        if set.queues.is_empty() {
            return Ok((set, None));
        }
    }
    for id in set.queues.iter() {
        let Some(queue) = state.queues.get(id) else {
            continue;
        };
        let full = queue.waiting.len() as u64 >= core.options.queue_messages_max
            || queue.bytes + u64::from(bytes) > core.options.queue_bytes_max;
        if full {
            return Err(PublishError::QueueLimit {
                pattern: printable(&queue.pattern),
                name: queue.name.to_string(),
                messages: queue.waiting.len() as u64,
                bytes: queue.bytes,
            });
        }
    }
    let seq = state.next_seq;
    let Content {
        topic,
        headers,
        payload,
    } = content;
    let head = &mut state.scratch;
    record::message_head(head, false, seq, published_us, &set.queues, topic, headers);
    let lsn = inner
        .log
        .append(&[head, topic, headers, payload])
        .map_err(StoreError::from)?;
    state.next_seq += 1;
    state.add_message(seq, &set.queues, &set.topic, bytes);
    let queues = Arc::clone(&set.queues);
    state.pending.push_back(Pending {
        lsn,
        op: Op::Publish { seq, queues, done },
    });
    drop(guard);
    Ok((set, Some(seq)))
}
