//! `pinnace request`: ask on a topic and wait for the answer.

use std::time::Duration;

use clap::Args;
use pinnace_client::{Messages, MessagesError};
use pinnace_proto::units::parse_duration;

use super::Context;
use crate::failure::{DONE, Failure, Result, nearest};
use crate::payload;

/// Ask on a topic and print the first answer.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where somebody answers; `$PN.topics` asks the server itself
    topic: String,
    /// What to ask; nothing is an empty message
    text: Option<String>,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
}

pub(crate) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let api = context.api()?;
    let address = api.nats_address()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let question = arguments.text.clone().unwrap_or_default().into_bytes();
    let topic = &arguments.topic;
    let answered = runtime.block_on(async {
        let messages = Messages::connect(&address, "pinnace-request", |_| ()).await?;
        messages.request(topic, question, arguments.timeout).await
    });
    let answer = match answered {
        Err(error @ MessagesError::NoResponders(_)) => {
            let topics = api.topics()?.topics;
            let near = nearest(topic, topics.iter().map(|entry| entry.topic.as_str()));
            let failure = Failure::failed(error);
            return Err(match near {
                Some(near) => failure.hint(format!("did you mean `{near}`?")),
                None => failure.hint("`pinnace topics` lists where somebody listens"),
            });
        }
        answer => answer?,
    };
    if context.output.json {
        let text = String::from_utf8_lossy(&answer);
        let value: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let value = value.unwrap_or_else(|| text.into_owned().into());
        context
            .output
            .json_line(&serde_json::json!({ "topic": topic, "answer": value }));
    } else {
        context
            .output
            .line(payload::shown(&answer, context.output.reader()));
    }
    Ok(DONE)
}
