//! `pinnace pub`: one message, acknowledged.

use std::io::Read;

use clap::Args;

use super::Context;
use crate::failure::{DONE, Failure, Result};

/// Publish a message and wait until it is as safe as its subscribers asked for.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to publish
    topic: String,
    /// The message; `-` or nothing reads it from stdin
    text: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let payload = match arguments.text.as_deref() {
        Some(text) if text != "-" => text.as_bytes().to_vec(),
        _ => {
            let mut payload = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut payload);
            read.map_err(|error| Failure::failed(format!("stdin cannot be read: {error}")))?;
            payload
        }
    };
    let content_type = match std::str::from_utf8(&payload) {
        Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            "application/json"
        }
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    let answer = context
        .api()?
        .publish(&arguments.topic, content_type, &payload)?;
    if context.output.json {
        context.output.document(&answer);
    } else if let Some(seq) = answer.seq {
        let (queues, live) = (answer.queues, answer.live);
        context.output.note(format!(
            "stored as {seq} for {queues} queues, {live} live subscribers"
        ));
    } else if answer.live == 0 {
        context
            .output
            .note(format!("nobody is subscribed to {}", arguments.topic));
    } else {
        context
            .output
            .note(format!("{} live subscribers", answer.live));
    }
    Ok(DONE)
}
