//! `pinnace config`: every setting, its value, and where it came from.

use clap::{Args, Subcommand};
use serde_json::{Map, json};

use super::Context;
use crate::failure::{DONE, Result};
use crate::output::table;
use crate::settings::shown;

/// Settings: flag, then PINNACE_* environment, then file, then default.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every setting that has a value
    Show {
        /// And where each came from
        #[arg(long)]
        origin: bool,
    },
    /// Check the file and every value in it
    Check,
}

pub(crate) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    match arguments.command {
        Command::Show { origin } => show(origin, context),
        Command::Check => check(context),
    }
}

fn show(origin: bool, context: &Context<'_>) -> Result<u8> {
    let mut rows = Vec::new();
    let mut document = Map::new();
    for key in context.layers.keys() {
        let Some((value, from)) = context.layers.get(&key) else {
            continue;
        };
        let (value, from) = (shown(&key, &value), from.to_string());
        document.insert(key.clone(), json!({ "value": value, "origin": from }));
        rows.push(if origin {
            vec![key, value, from]
        } else {
            vec![key, value]
        });
    }
    if context.output.json {
        context.output.document(&document);
        return Ok(DONE);
    }
    let heads = [("setting", false), ("value", false), ("origin", false)];
    context
        .output
        .line(table(&heads[..if origin { 3 } else { 2 }], &rows));
    Ok(DONE)
}

/// Unknown keys were refused when the file was read; here every value is read as what it means.
fn check(context: &Context<'_>) -> Result<u8> {
    let layers = &context.layers;
    layers.address("server.http")?;
    layers.address("server.nats")?;
    layers.duration("server.exit_when_idle")?;
    layers.yes("server.expose_without_authentication")?;
    layers.nats_limits()?;
    layers.auth_settings()?;
    for key in ["client.heartbeat", "client.monitor", "job.run_time"] {
        layers.duration_us(key)?;
    }
    for key in ["job.chunk_size", "job.file_size"] {
        layers.sizes(key)?;
    }
    layers.size("job.rate")?;
    layers.min_free("job.min_free")?;
    layers.engine("job.engine")?;
    for key in ["job.direct", "job.keep_files", "job.force"] {
        layers.yes(key)?;
    }
    context.api()?;
    if context.output.json {
        context.output.document(&json!({ "ok": true }));
    }
    context.output.line("the configuration is sound");
    Ok(DONE)
}
