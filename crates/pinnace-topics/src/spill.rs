//! A queue that stands in for a live subscription while its reader is behind.
//!
//! Invariant: it begins and ends at an exact place in the order of messages. One that was published in
//! between is in the queue and says so (`Kept::is_in`); of the others none is. Left to the door:
//! reading the queue, and what its subscription gets live.

use crate::broker::Broker;
use crate::error::Error;
use crate::live::QueueId;
use crate::queue::{Overflow, QueueOptions};
use crate::queues::{Done, Start, check, create, delete, no_such_queue};

impl Broker {
    /// Creates a durable queue unless it exists, and says which it is: from now on every message that
    /// matches is in it. When it is full it goes, so that no publish is ever refused for it.
    ///
    /// # Errors
    /// Those of `create_queue`.
    pub fn begin_spill(&self, pattern: &[u8], name: &str) -> Result<QueueId, Error> {
        check(pattern, name, None)?;
        let mut guard = self.inner.core.lock();
        let state = &mut *guard;
        if let Some(id) = state.queue_id(pattern, name) {
            return Ok(QueueId(id));
        }
        let id = state.next_queue;
        let options = QueueOptions {
            overflow: Overflow::Expire,
            ..QueueOptions::default()
        };
        // What it holds is acknowledged to publishers after the creation, which is before it in the log.
        let done = Box::new(|_| ());
        let (inner, options) = (&self.inner, Some(options));
        create(inner, state, (pattern, name), Start::New, options, done)?;
        Ok(QueueId(id))
    }

    /// Deletes the queue if nothing is in it; false when something is. From then on no message is, unless
    /// `done` hears that the deletion was refused: then the queue is as if it had never gone. `done` is
    /// dropped when something is in it.
    ///
    /// # Errors
    /// `NoSuchQueue`, `Store`.
    pub fn end_spill(&self, pattern: &[u8], name: &str, done: Done) -> Result<bool, Error> {
        let mut guard = self.inner.core.lock();
        let state = &mut *guard;
        let id = state.queue_id(pattern, name);
        let id = id.ok_or_else(|| no_such_queue(pattern, name))?;
        let is_empty = state.queue(id).is_none_or(|queue| queue.messages() == 0);
        if is_empty {
            delete(&self.inner, state, id, Some(done))?;
        }
        Ok(is_empty)
    }
}
