//! `pinnace clients`: the roster.

use std::time::Duration;

use clap::Args;
use pinnace_proto::units::show_duration;

use super::Context;
use super::runs::local_time;
use crate::failure::{DONE, Result};
use crate::output::table;

/// Who is connected: name, kind, address, since when, for how long.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Also those that left, and why
    #[arg(long)]
    history: bool,
}

pub(crate) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let clients = context.api()?.clients(arguments.history)?;
    if context.output.json {
        context.output.document(&clients);
        return Ok(DONE);
    }
    if clients.clients.is_empty() {
        context.output.line("nobody is connected");
        return Ok(DONE);
    }
    let rows: Vec<Vec<String>> = clients
        .clients
        .iter()
        .map(|client| {
            vec![
                client.name.clone(),
                client.kind.clone(),
                client.address.clone(),
                local_time(client.since_us),
                match client.reason {
                    Some(_) => local_time(client.since_us + client.duration_us),
                    None => "-".to_owned(),
                },
                show_duration(Duration::from_micros(client.duration_us)),
                client
                    .reason
                    .clone()
                    .unwrap_or_else(|| "connected".to_owned()),
            ]
        })
        .collect();
    let heads = [
        ("name", false),
        ("kind", false),
        ("address", false),
        ("since", false),
        ("until", false),
        ("for", true),
        ("state", false),
    ];
    context.output.line(table(&heads, &rows));
    Ok(DONE)
}
