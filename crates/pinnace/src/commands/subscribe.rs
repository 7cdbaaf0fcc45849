//! `pinnace sub`: messages as they come, live or from a queue.

use clap::Args;
use pinnace_client::Queue;
use pinnace_client::messages::{Change, Messages, Subscription, direct_topic};
use pinnace_server::SlowPolicy;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::Context;
use crate::failure::{DONE, Failure, Result};
use crate::output::Output;
use crate::{payload, signals};

/// Print messages as they come, until Ctrl-C.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Topic or pattern: `*` is one token, `>` the rest
    pattern: String,
    /// Keep a queue of this name: messages wait for it, and each is printed once
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Be on the roster by this name, and print messages to it too
    #[arg(long, value_name = "NAME", conflicts_with = "queue")]
    name: Option<String>,
    /// When this reader is too far behind: disconnect, drop-oldest, newest-only or spill
    #[arg(long, value_name = "POLICY", conflicts_with = "queue")]
    slow: Option<SlowPolicy>,
    /// So much may wait before that [default: 64M, to spill 4M]
    #[arg(long, value_name = "SIZE", conflicts_with = "queue")]
    pending: Option<String>,
    /// Spill to a queue of this name when too far behind, and begin with what is in it
    #[arg(long, value_name = "NAME", conflicts_with = "queue")]
    spill: Option<String>,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

impl Arguments {
    /// Whether it says what is to become of this reader when it is behind.
    fn chooses(&self) -> bool {
        self.slow.is_some() || self.pending.is_some() || self.spill.is_some()
    }
}

pub(crate) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    if let Some(name) = &arguments.name {
        pinnace_proto::name::check(name).map_err(Failure::usage)?;
    }
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
    let address = context.api()?.nats_address()?;
    let output = context.output;
    runtime.block_on(async {
        let name = arguments.name.as_deref().unwrap_or("pinnace-sub");
        let (tell, returned) = mpsc::unbounded_channel();
        let messages = Messages::connect(&address, name, noting(output, tell)).await?;
        match &arguments.queue {
            Some(name) => from_queue(arguments, name, &messages, output, asked).await,
            None => live(arguments, &messages, output, (asked, returned)).await,
        }
    })?;
    Ok(DONE)
}

/// Says when the connection is lost and re-made, the latter to `tell` too.
fn noting(
    output: &Output,
    tell: mpsc::UnboundedSender<()>,
) -> impl Fn(Change) + Send + Sync + 'static {
    let output = output.clone();
    let was_lost = std::sync::atomic::AtomicBool::new(false);
    move |change| {
        let is_lost = change == Change::Disconnected;
        let was_lost = was_lost.swap(is_lost, std::sync::atomic::Ordering::Relaxed);
        match (was_lost, is_lost) {
            (false, true) => output.note("connection lost; trying again"),
            (true, false) => {
                output.note("connected again");
                // Who reads a queue does not listen.
                let _ = tell.send(());
            }
            _ => {}
        }
    }
}

async fn live(
    arguments: &Arguments,
    messages: &Messages,
    output: &Output,
    (mut asked, mut returned): (oneshot::Receiver<()>, mpsc::UnboundedReceiver<()>),
) -> Result<()> {
    let mut subscription = Some(subscribe(arguments, messages).await?);
    let mut direct = match &arguments.name {
        Some(name) => Some(messages.subscribe(&direct_topic(name), None).await?),
        None => None,
    };
    output.note(format!("listening on {}", arguments.pattern));
    let mut seen = 0;
    while arguments.count != Some(seen) {
        let message = tokio::select! {
            message = next_of(&mut subscription) => message,
            message = next_of(&mut direct) => message,
            refused = messages.refused() => return Err(refused.into()),
            Some(()) = returned.recv(), if arguments.chooses() => {
                // The server forgot what was chosen; a new subscription has it from its beginning.
                if let Some(subscription) = subscription.take() {
                    subscription.end().await;
                }
                match subscribe(arguments, messages).await {
                    Ok(anew) => subscription = Some(anew),
                    // It broke again: the next time.
                    Err(error) => output.note(error.message()),
                }
                continue;
            }
            _ = &mut asked => break,
        };
        let Some(message) = message else {
            break;
        };
        if message.dropped > 0 {
            let dropped = message.dropped;
            output.note(format!("this reader was too far behind: {dropped} dropped"));
        }
        let from = message.from.as_deref();
        let place = Place::Live(message.dropped);
        print(output, &message.topic, place, from, &message.payload);
        seen += 1;
    }
    Ok(())
}

/// Subscribes, after saying what is to become of this reader when it is behind.
async fn subscribe(arguments: &Arguments, messages: &Messages) -> Result<Subscription> {
    if arguments.chooses() {
        let choice = json!({
            "slow": arguments.slow.map(SlowPolicy::name),
            "pending": arguments.pending,
            "spill": arguments.spill,
        });
        messages.choose_slow(&arguments.pattern, &choice).await?;
    }
    Ok(messages.subscribe(&arguments.pattern, None).await?)
}

async fn next_of(
    subscription: &mut Option<Subscription>,
) -> Option<pinnace_client::messages::Received> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

async fn from_queue(
    arguments: &Arguments,
    name: &str,
    messages: &Messages,
    output: &Output,
    mut asked: oneshot::Receiver<()>,
) -> Result<()> {
    let topic = &arguments.pattern;
    let mut queue: Queue = messages.queue(topic, name, &json!({})).await?;
    output.note(format!("waiting for what {name} has in {topic}"));
    let mut seen = 0;
    let ended = loop {
        if arguments.count == Some(seen) {
            break Ok(());
        }
        let message = tokio::select! {
            message = queue.next() => message,
            refused = messages.refused() => break Err(refused),
            _ = &mut asked => break Ok(()),
        };
        match message {
            Ok(message) => {
                let from = message.from.as_deref();
                print(
                    output,
                    &message.topic,
                    Place::Queue(message.seq),
                    from,
                    &message.payload,
                );
                seen += 1;
            }
            Err(error) => break Err(error),
        }
    };
    queue.finish().await;
    Ok(ended?)
}

/// Where a message is among the others.
enum Place {
    /// Behind so many that were dropped.
    Live(u64),
    /// Under its number in a queue.
    Queue(u64),
}

fn print(output: &Output, topic: &str, place: Place, from: Option<&str>, payload: &[u8]) {
    if output.json {
        let text = String::from_utf8_lossy(payload);
        let value: Option<Value> = serde_json::from_str(&text).ok();
        let payload = value.unwrap_or_else(|| text.into_owned().into());
        let mut line = json!({ "topic": topic, "seq": null, "payload": payload });
        match place {
            Place::Live(0) => {}
            Place::Live(dropped) => line["dropped"] = dropped.into(),
            Place::Queue(seq) => line["seq"] = seq.into(),
        }
        if let Some(from) = from {
            line["from"] = from.into();
        }
        output.json_line(&line);
    } else {
        let shown = payload::shown(payload, output.reader());
        let from = from
            .map(|from| payload::clean(from) + ": ")
            .unwrap_or_default();
        output.line(format!("{}  {from}{shown}", payload::clean(topic)));
    }
}
