//! The commands: each has a file with its arguments and what it does, and one line here.

mod bench;
mod chat;
mod clients;
mod config;
mod demo;
mod publish;
mod request;
mod runs;
pub(crate) mod send;
mod serve;
mod shares;
mod subscribe;
mod sync;
mod topics;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pinnace_client::Api;

pub(crate) use runs::local_time as since_text;

use crate::bench::fleet;
use crate::failure::Result;
use crate::output::{Color, Output};
use crate::settings::Layers;

/// Measures storage, mirrors directories and carries messages across a fleet of machines.
///
/// Try `pinnace demo` first: a server and three clients on this machine, and a report.
#[derive(Debug, Parser)]
#[command(
    name = "pinnace",
    version,
    max_term_width = 100,
    propagate_version = true,
    args_override_self = true
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Server to talk to [env: PINNACE_SERVER] [default: http://127.0.0.1:7420]
    #[arg(long, global = true, value_name = "URL", help_heading = "Everywhere")]
    pub(crate) server: Option<String>,
    /// Configuration file; else ./pinnace.yaml, then the user's, then the system's
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PINNACE_CONFIG",
        help_heading = "Everywhere"
    )]
    pub(crate) config: Option<PathBuf>,
    /// JSON on stdout and nothing else there
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// No progress and no notes
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    pub(crate) quiet: bool,
    /// When to use colour
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        help_heading = "Everywhere"
    )]
    pub(crate) color: Color,
    /// What to log: error, warn, info, debug, trace, or room=level, …
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "PINNACE_LOG",
        help_heading = "Everywhere"
    )]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show it all on this machine: a server, three clients, a report
    Demo(demo::Arguments),
    /// Run the server
    Serve(Box<serve::Arguments>),
    /// Run a storage benchmark here and report
    Bench(Box<bench::Arguments>),
    /// One client of `bench --clients`, started by it
    #[command(hide = true)]
    BenchClient,
    /// The database of runs
    Runs(runs::Arguments),
    /// Publish a message
    Pub(publish::Arguments),
    /// Print messages as they come
    Sub(subscribe::Arguments),
    /// Ask on a topic and print the answer
    Request(request::Arguments),
    /// Send a message to one client
    Send(send::Arguments),
    /// Talk with others on channels
    Chat(chat::Arguments),
    /// Topics with their subscribers and what waits; check, back up, restore
    Topics(topics::Arguments),
    /// Who is connected
    Clients(clients::Arguments),
    /// Mirror a directory into a share, and keep it so
    Sync(Box<sync::Arguments>),
    /// Shares, who mirrors into them and how far they are
    Shares(shares::Arguments),
    /// Settings and where each comes from
    Config(config::Arguments),
}

/// What every command is given.
pub(crate) struct Context<'a> {
    pub(crate) output: &'a Output,
    pub(crate) layers: Layers,
    pub(crate) log: Option<String>,
}

impl Context<'_> {
    /// Calls to the server that the settings name.
    pub(crate) fn api(&self) -> Result<Api> {
        Ok(Api::new(&self.layers.server()?)?)
    }

    /// Starts logging for a command that has nothing of its own to log.
    pub(crate) fn log_warnings(&self) -> Result<()> {
        let format = crate::logging::Format::Text;
        crate::logging::start(self.log.as_deref(), "warn", format, None)?;
        Ok(())
    }
}

/// Runs the command and says with which code the process ends.
pub(crate) fn run(arguments: Arguments, output: &Output) -> Result<u8> {
    let Arguments { global, command } = arguments;
    if matches!(command, Command::BenchClient) {
        return fleet::serve(output);
    }
    let mut layers = Layers::load(global.config.as_deref())?;
    layers.flag("client.server", global.server);
    let context = Context {
        output,
        layers,
        log: global.log,
    };
    match command {
        Command::Demo(arguments) => demo::run(&arguments, &context),
        Command::Serve(arguments) => serve::run(*arguments, context),
        Command::Bench(arguments) => bench::run(*arguments, context),
        Command::BenchClient => fleet::serve(output),
        Command::Runs(arguments) => runs::run(arguments, &context),
        Command::Pub(arguments) => publish::run(&arguments, &context),
        Command::Sub(arguments) => subscribe::run(&arguments, &context),
        Command::Request(arguments) => request::run(&arguments, &context),
        Command::Send(arguments) => send::run(&arguments, &context),
        Command::Chat(arguments) => chat::run(&arguments, &context),
        Command::Topics(arguments) => topics::run(&arguments, &context),
        Command::Clients(arguments) => clients::run(&arguments, &context),
        Command::Sync(arguments) => sync::run(&arguments, &context),
        Command::Shares(arguments) => shares::run(&arguments, &context),
        Command::Config(arguments) => config::run(&arguments, &context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
