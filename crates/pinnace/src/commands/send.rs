//! `pinnace send`: a message to one client, by its name on the roster.
//!
//! Messages to a client go to a topic of its own, `pinnace.to.<client>`, that `pinnace chat` and `pinnace sub
//! --name` listen to; a client that is away gets them later if it left a queue there.

use clap::Args;
use pinnace_client::Api;
use pinnace_client::messages::{FROM_HEADER, direct_topic};

use super::Context;
use crate::failure::{DONE, Failure, Result, nearest};

/// Send a message to one client, by its name on the roster.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Name of the client, as `pinnace clients` shows it
    client: String,
    /// The message
    text: String,
    /// Who sends it; else the name of the user
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let from = arguments.name.clone().unwrap_or_else(own_name);
    pinnace_proto::name::check(&from).map_err(Failure::usage)?;
    let headers = [(FROM_HEADER, from.as_str())];
    let (client, text) = (&arguments.client, &arguments.text);
    let said = send(&context.api()?, client, &headers, text)?;
    context.output.note(said);
    Ok(DONE)
}

/// The name of the user, as a name on the roster.
pub(crate) fn own_name() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    pinnace_proto::name::from_text(&user.unwrap_or_else(|_| "guest".to_owned()))
}

/// Sends it if the client is there or has left a queue; says what became of it.
pub(crate) fn send(
    api: &Api,
    client: &str,
    headers: &[(&str, &str)],
    text: &str,
) -> Result<String> {
    let topic = direct_topic(client);
    let roster = api.clients(false)?.clients;
    let is_here = roster.iter().any(|entry| entry.name == client);
    let topics = api.topics()?.topics;
    let waits = topics
        .iter()
        .any(|entry| entry.topic == topic && !entry.subscribers.is_empty());
    if !is_here && !waits {
        let failure = Failure::failed(format!("there is no client `{client}`"));
        let near = nearest(client, roster.iter().map(|entry| entry.name.as_str()));
        return Err(match near {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure.hint("`pinnace clients` lists who is there"),
        });
    }
    let answer = api.publish_with(
        &topic,
        "text/plain; charset=utf-8",
        headers,
        text.as_bytes(),
    )?;
    match (answer.queues + answer.live, is_here) {
        (0, _) => Err(
            Failure::failed(format!("`{client}` listens to no messages of its own")).hint(format!(
                "they go to `{topic}`, which it would have to subscribe to"
            )),
        ),
        (_, true) => Ok(format!("sent to {client}")),
        (_, false) => Ok(format!("{client} is away; the message waits")),
    }
}
