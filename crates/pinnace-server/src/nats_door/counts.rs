//! What one connection did since its counts were last added to the server's.
//!
//! Invariant: a message costs an addition to a plain number; the shared ones are touched once a batch,
//! and clocks are read for one batch, or one durable publish, in [`SAMPLE`].

use std::time::Instant;

use crate::metrics::{DoorMetrics, SAMPLE};

#[derive(Default)]
pub(super) struct Counts {
    /// Messages published.
    pub(super) messages: u64,
    /// Publishes that were refused.
    pub(super) refused: u64,
    batches: u32,
    durable: u32,
}

impl Counts {
    /// When a batch begins, if its times are taken.
    pub(super) fn begin_batch(&mut self) -> Option<Instant> {
        sample(&mut self.batches)
    }

    /// When a durable publish begins, if its time is taken.
    pub(super) fn begin_durable(&mut self) -> Option<Instant> {
        sample(&mut self.durable)
    }

    /// A batch has been carried out and written: adds what it did to the door's counts.
    pub(super) fn fold(&mut self, door: &DoorMetrics, began: Option<Instant>) {
        let messages = std::mem::take(&mut self.messages);
        door.received_messages.add(messages);
        door.refused_publishes
            .add(std::mem::take(&mut self.refused));
        if let Some(began) = began.filter(|_| messages > 0) {
            door.publish_to_deliver.add(began.elapsed(), messages);
        }
    }
}

fn sample(count: &mut u32) -> Option<Instant> {
    *count = count.wrapping_add(1);
    (*count % SAMPLE == 1).then(Instant::now)
}
