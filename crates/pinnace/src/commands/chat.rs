//! `pinnace chat`: talk with others on channels.

use std::io::IsTerminal;

use clap::Args;

use super::{Context, send};
use crate::chat;
use crate::failure::{DONE, Failure, Result};

/// Talk with others on channels, which are topics; `/help` lists what can be done.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Be called NAME; else the name of the user
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let name = arguments.name.clone().unwrap_or_else(send::own_name);
    pinnace_proto::name::check(&name).map_err(Failure::usage)?;
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let is_terminal = is_terminal && !context.output.json;
    let modes = rustix::termios::tcgetattr(std::io::stdin()).ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let api = context.api()?;
    let ended = runtime.block_on(chat::run(api, name, context.output, is_terminal));
    // A line may still be waited for.
    runtime.shutdown_background();
    if let Some(modes) = modes.filter(|_| is_terminal) {
        // The editor had the terminal; a signal does not let it tidy up.
        let now = rustix::termios::OptionalActions::Now;
        let _ = rustix::termios::tcsetattr(std::io::stdin(), now, &modes);
    }
    ended.map(|()| DONE)
}
