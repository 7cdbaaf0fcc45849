//! Putting replayed messages into their queues, many at a time.
//!
//! Invariant: a queue gets its messages in the order they were noted. A million queues do not fit into
//! a CPU's cache, so each visit to one costs as much as reading several records; here a queue is visited
//! once for all messages of a stretch of the log, however they were interleaved. Left to others: knowing
//! when a queue must be up to date (`replay`), and the counts of the index.

use std::sync::Arc;

use crate::limits::FILLING_MAX;
use crate::paged::Paged;
use crate::queue::Queue;

/// A message on its way into a queue.
struct Note {
    queue: u32,
    bytes: u32,
    seq: u64,
}

#[derive(Default)]
pub(crate) struct Filling {
    notes: Vec<Note>,
}

impl Filling {
    /// A message goes into a queue.
    pub(crate) fn note(&mut self, queue: u32, seq: u64, bytes: u32) {
        self.notes.push(Note { queue, bytes, seq });
    }

    /// Whether so much is noted that it has to go where it belongs.
    pub(crate) fn is_full(&self) -> bool {
        self.notes.len() >= FILLING_MAX
    }

    /// Puts every noted message where it belongs. A queue that is not there is made, and its id told
    /// to `made`.
    pub(crate) fn fill(&mut self, queues: &mut Paged<Queue>, mut made: impl FnMut(u32)) {
        // Stable: the messages of a queue stay in order.
        self.notes.sort_by_key(|note| note.queue);
        for notes in self.notes.chunk_by(|a, b| a.queue == b.queue) {
            let id = notes[0].queue;
            if !queues.contains(u64::from(id)) {
                made(id);
                queues.insert(u64::from(id), Queue::new(Arc::from([]), ""));
            }
            if let Some(queue) = queues.get_mut(u64::from(id)) {
                queue.extend(notes.iter().map(|note| (note.seq, note.bytes)));
            }
        }
        self.notes.clear();
    }
}
