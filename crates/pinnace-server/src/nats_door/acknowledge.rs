//! What answers a publish with a reply subject that a queue keeps: its number once synced, or why not.

use std::sync::Arc;
use std::time::Instant;

use pinnace_topics::Done;

use crate::harbour::Harbour;

/// What answers a durable publish with a reply subject once it is synced.
/// `began` is when it was read, for those whose times are taken.
pub(super) fn acknowledgement(
    harbour: &Arc<Harbour>,
    reply: Box<[u8]>,
    began: Option<Instant>,
) -> Done {
    let harbour = harbour.clone();
    Box::new(move |stored| match stored {
        Ok(seq) => {
            harbour.answer(&reply, format!("{{\"seq\":{seq}}}").as_bytes());
            if let Some(began) = began {
                harbour.metrics.nats.publish_to_ack.add(began.elapsed(), 1);
            }
        }
        Err(error) => harbour.answer(&reply, &refusal(&error)),
    })
}

/// The answer to a durable publish that was not stored.
pub(super) fn refusal(error: &impl std::fmt::Display) -> Vec<u8> {
    serde_json::json!({ "error": error.to_string() })
        .to_string()
        .into_bytes()
}
