//! `pinnace sub`: messages as they come, live or from a queue.

use clap::Args;
use pinnace_client::Api;
use pinnace_client::messages::{Change, Messages};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Context;
use crate::failure::{DONE, Failure, Result};
use crate::output::Output;
use crate::signals;

/// One long-poll of a queue, seconds; the server answers sooner when a message comes.
const WAIT_S: u64 = 25;

/// Print messages as they come, until Ctrl-C.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Topic or pattern: `*` is one token, `>` the rest
    pattern: String,
    /// Keep a queue of this name: messages wait for it, and each is printed once
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let (ask, asked) = oneshot::channel();
    signals::on_stop(move || {
        // Nobody waits any more when the command has ended by itself.
        let _ = ask.send(());
    })
    .map_err(Failure::failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let api = context.api()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            result = async {
                match &arguments.queue {
                    Some(queue) => from_queue(arguments, queue, api, context.output).await,
                    None => live(arguments, &api, context.output).await,
                }
            } => result,
            _ = asked => Ok(()),
        }
    });
    // A long-poll still open at the server must not hold us up.
    runtime.shutdown_background();
    ended.map(|()| DONE)
}

async fn live(arguments: &Arguments, api: &Api, output: &Output) -> Result<()> {
    let address = api.nats_address()?;
    let quiet = output.clone();
    let changed = move |change| match change {
        Change::Disconnected => quiet.note("connection lost; trying again"),
        Change::Connected => {}
    };
    let messages = Messages::connect(&address, "pinnace-sub", changed).await?;
    let mut subscription = messages.subscribe(&arguments.pattern, None).await?;
    output.note(format!("listening on {}", arguments.pattern));
    let mut seen = 0;
    while arguments.count != Some(seen) {
        let Some(message) = subscription.next().await else {
            break;
        };
        print(output, &message.topic, None, &message.payload);
        seen += 1;
    }
    Ok(())
}

async fn from_queue(arguments: &Arguments, queue: &str, api: Api, output: &Output) -> Result<()> {
    let (topic, queue) = (arguments.pattern.clone(), queue.to_owned());
    api.subscribe(&topic, &queue)?;
    output.note(format!("waiting for what {queue} has in {topic}"));
    let mut seen = 0;
    while arguments.count != Some(seen) {
        let (api, topic, queue) = (api.clone(), topic.clone(), queue.clone());
        let poll = tokio::task::spawn_blocking(move || api.fetch(&topic, &queue, WAIT_S));
        if let Some(message) = poll.await.map_err(Failure::failed)?? {
            print(
                output,
                &arguments.pattern,
                Some(message.seq),
                &message.payload,
            );
            seen += 1;
        }
    }
    Ok(())
}

fn print(output: &Output, topic: &str, seq: Option<u64>, payload: &[u8]) {
    let text = String::from_utf8_lossy(payload);
    let value: Option<Value> = serde_json::from_str(&text).ok();
    if output.json {
        let payload = value.unwrap_or_else(|| text.into_owned().into());
        output.json_line(&json!({ "topic": topic, "seq": seq, "payload": payload }));
    } else {
        // Control characters of a stranger's message do not reach the terminal.
        let shown: String = text
            .chars()
            .map(|c| {
                if c.is_control() && c != '\n' && c != '\t' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect();
        output.line(format!("{topic}  {shown}"));
    }
}
