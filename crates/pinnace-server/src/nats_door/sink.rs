//! The receiving end of one NATS subscription: a message becomes `MSG` in its connection's outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pinnace_nats::write_msg;
use pinnace_topics::{Batch, Message, Sink, topic};

use super::outbox::Outbox;
use crate::permissions::Withheld;

/// No limit on the number of messages.
const UNLIMITED: u64 = u64::MAX;

pub(super) struct Subscription {
    outbox: Arc<Outbox>,
    sid: Box<[u8]>,
    with_headers: bool,
    /// Topics its client must not get although they match.
    withheld: Option<Withheld>,
    delivered: AtomicU64,
    max: AtomicU64,
}

impl Subscription {
    pub(super) fn new(
        outbox: Arc<Outbox>,
        sid: &[u8],
        with_headers: bool,
        withheld: Option<Withheld>,
    ) -> Self {
        Self {
            outbox,
            sid: sid.into(),
            with_headers,
            withheld,
            delivered: AtomicU64::new(0),
            max: AtomicU64::new(UNLIMITED),
        }
    }

    /// It had its last message; its client may use the name for another.
    pub(super) fn is_used_up(&self) -> bool {
        self.delivered.load(Ordering::Relaxed) >= self.max.load(Ordering::Relaxed)
    }

    /// Whether its client must not get messages of this topic.
    #[inline]
    pub(super) fn withholds(&self, name: &[u8]) -> bool {
        self.withheld
            .as_ref()
            .is_some_and(|withheld| withheld.iter().any(|pattern| topic::matches(pattern, name)))
    }

    /// Whether it takes one more message when so many others wait for it.
    pub(super) fn takes_another_after(&self, waiting: usize) -> bool {
        let promised = self.delivered.load(Ordering::Relaxed) + waiting as u64;
        promised < self.max.load(Ordering::Relaxed) && self.outbox.closed().is_none()
    }

    /// Ends it after `max` messages in all; true when it had that many already.
    pub(super) fn limit(&self, max: u64) -> bool {
        self.outbox.undisturbed(|| {
            self.max.store(max, Ordering::Relaxed);
            self.is_used_up()
        })
    }
}

impl Sink for Subscription {
    #[inline]
    fn deliver(&self, message: &Message<'_>, batch: &mut Batch) -> bool {
        if self.withholds(message.topic) {
            return false;
        }
        let headers = if self.with_headers {
            message.headers
        } else {
            b""
        };
        let Some(used_up) = self.outbox.add_message(|bytes| {
            // Under the outbox's lock, so the counts need no more than plain steps.
            let number = self.delivered.load(Ordering::Relaxed) + 1;
            let max = self.max.load(Ordering::Relaxed);
            if number > max {
                return None;
            }
            self.delivered.store(number, Ordering::Relaxed);
            write_msg(
                bytes,
                message.topic,
                &self.sid,
                message.reply,
                headers,
                message.payload,
            );
            Some(number == max)
        }) else {
            return false;
        };
        batch.add_bytes(message.payload.len() + headers.len());
        if self.outbox.touch() {
            batch.touch(self.outbox.clone());
        }
        if used_up {
            self.outbox.use_up(&self.sid);
        }
        true
    }
}
