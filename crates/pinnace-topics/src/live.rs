//! What a publisher hands over and what a live subscription's door supplies.
//!
//! Invariant: a batch flushes each touched connection once, however many messages it got.

use std::sync::Arc;

use crate::limits::BATCH_SWEEP_MIN;

/// A message as published. `headers` is an opaque block, empty when there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Where it was published.
    pub topic: &'a [u8],
    /// Where answers go. Not kept in queues.
    pub reply: Option<&'a [u8]>,
    /// Kept byte for byte.
    pub headers: &'a [u8],
    /// Kept byte for byte.
    pub payload: &'a [u8],
}

/// A connection that has been written to and wants to know when the batch is over.
pub trait Flush: Send + Sync {
    /// Sends on what was delivered. Must not block or call back into the broker. True when the
    /// receiver is so far behind that its publishers should pause.
    fn flush(&self) -> bool;
}

/// A live subscription's receiving end, supplied by a door. Must not block, and must not call back
/// into the broker.
pub trait Sink: Send + Sync {
    /// Takes a message, and touches `batch` if it wants to be flushed. False when it is exhausted
    /// or closed and did not take the message; another member of its group is then tried.
    fn deliver(&self, message: &Message<'_>, batch: &mut Batch) -> bool;

    /// Like `deliver`, for a message that is also kept in queues. It need not be durable yet.
    fn deliver_kept(&self, message: &Message<'_>, _kept: &Kept, batch: &mut Batch) -> bool {
        self.deliver(message, batch)
    }
}

/// A queue among all there were since the broker was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueueId(pub(crate) u32);

/// Where a message that is delivered live is kept too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number.
    pub seq: u64,
    /// Sorted.
    pub(crate) queues: Arc<[u32]>,
}

impl Kept {
    /// Whether it waits in this queue, or waited there.
    #[must_use]
    pub fn is_in(&self, queue: QueueId) -> bool {
        self.queues.binary_search(&queue.0).is_ok()
    }
}

/// The connections touched by one publisher's messages, flushed together.
#[derive(Default)]
pub struct Batch {
    touched: Vec<Arc<dyn Flush>>,
    /// Length at which doubles are removed.
    sweep_at: usize,
    /// Bytes of the messages that were delivered into it.
    bytes: usize,
}

impl Batch {
    /// Notes a connection for the next flush. Cheap when it is the one touched last.
    pub fn touch(&mut self, connection: Arc<dyn Flush>) {
        if self
            .touched
            .last()
            .is_some_and(|last| address(last) == address(&connection))
        {
            return;
        }
        if self.touched.len() >= self.sweep_at.max(BATCH_SWEEP_MIN) {
            self.sweep();
            // Doubling keeps the cost of sweeping in proportion to the touches.
            self.sweep_at = self.touched.len() * 2;
        }
        self.touched.push(connection);
    }

    /// Counts bytes that a sink took.
    #[inline]
    pub fn add_bytes(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Bytes that sinks took since the last flush.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Flushes each touched connection once and forgets them. True when any of them is so far behind
    /// that the publisher should pause.
    pub fn flush(&mut self) -> bool {
        if self.touched.len() > 1 {
            self.sweep();
        }
        (self.sweep_at, self.bytes) = (0, 0);
        let mut behind = false;
        for connection in self.touched.drain(..) {
            behind |= connection.flush();
        }
        behind
    }

    /// Whether nothing waits for a flush.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    fn sweep(&mut self) {
        self.touched.sort_unstable_by_key(address);
        self.touched.dedup_by_key(|connection| address(connection));
    }
}

fn address(connection: &Arc<dyn Flush>) -> usize {
    Arc::as_ptr(connection).cast::<()>() as usize
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Flush for Count {
        fn flush(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            false
        }
    }

    #[test]
    fn each_connection_is_flushed_once_per_batch() {
        let connections: Vec<Arc<Count>> = (0..300).map(|_| Arc::default()).collect();
        let mut batch = Batch::default();
        for round in 1..=3 {
            for _ in 0..50 {
                for connection in &connections {
                    batch.touch(Arc::clone(connection) as Arc<dyn Flush>);
                }
            }
            assert!(
                batch.touched.len() <= 2 * connections.len(),
                "doubles are swept"
            );
            batch.flush();
            assert!(batch.is_empty());
            let counts: Vec<_> = connections
                .iter()
                .map(|c| c.0.load(Ordering::Relaxed))
                .collect();
            assert_eq!(counts, vec![round; 300]);
        }
    }
}
