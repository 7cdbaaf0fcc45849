//! What answers a publish with a reply subject that a queue keeps: its number once synced, or why not.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use pinnace_topics::{Done, StoreError};

use crate::harbour::Harbour;
use crate::mail::{self, Letter};

/// An answer that waits for its message to be synced.
pub(crate) struct Acknowledgement {
    harbour: Arc<Harbour>,
    reply: Box<[u8]>,
    /// When the message was read, for those whose times are taken.
    began: Option<Instant>,
}

impl Acknowledgement {
    pub(super) fn new(harbour: &Arc<Harbour>, reply: &[u8], began: Option<Instant>) -> Self {
        Self {
            harbour: harbour.clone(),
            reply: reply.into(),
            began,
        }
    }

    /// What gives the answer once the broker calls it.
    pub(super) fn done(self) -> Done {
        Box::new(mail::leave(|outcome| Letter::Answer(self, outcome)))
    }

    /// Gives it.
    pub(crate) fn give(self, outcome: Result<u64, StoreError>) {
        match outcome {
            Ok(seq) => {
                let mut answer = [0; 32];
                let mut rest = &mut answer[..];
                // Twenty digits and the words around them fit.
                let _ = write!(rest, "{{\"seq\":{seq}}}");
                let left = rest.len();
                let length = answer.len() - left;
                self.harbour.answer(&self.reply, &answer[..length]);
                if let Some(began) = self.began {
                    let times = &self.harbour.metrics.nats.publish_to_ack;
                    times.add(began.elapsed(), 1);
                }
            }
            Err(error) => self.harbour.answer(&self.reply, &refusal(&error)),
        }
    }
}

/// The answer to a durable publish that was not stored.
pub(super) fn refusal(error: &impl std::fmt::Display) -> Vec<u8> {
    serde_json::json!({ "error": error.to_string() })
        .to_string()
        .into_bytes()
}
