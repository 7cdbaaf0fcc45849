//! `pinnace sync`: a directory here, mirrored into a share of the server; and what is asked about shares.
//!
//! `pinnace sync DIR SHARE` and `pinnace sync status SHARE` share their first place: a word that is a command is one, and a
//! directory of that name is written `./status`.

mod ask;
mod client;
mod progress;
mod restore;
mod tell;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Context;
use crate::failure::{Failure, Result};

/// Mirror a directory into a share of the server, then stay and mirror its changes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    question: Option<Question>,
    /// The directory
    dir: Option<PathBuf>,
    /// The share: letters, digits, - and _
    share: Option<String>,
    /// End when the share is equal
    #[arg(long)]
    once: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave out what matches, as in .gitignore; also from .pinnaceignore files
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// How much may be deleted at once: 25%, a number of entries, or off [default: 25%, but always 32 entries]
    #[arg(long, value_name = "LIMIT")]
    delete_limit: Option<String>,
    /// Send at most so many bytes a second
    #[arg(long, value_name = "SIZE")]
    bandwidth: Option<String>,
    /// What is certain once it is acknowledged: none, batch (synced, many changes at once), strict (each one)
    #[arg(long, value_name = "LEVEL", default_value = "batch")]
    durability: String,
    /// Where this client remembers what the server has [default: in the user's state folder]
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Name of this client [default: the host's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Who mirrors into a share and how far it is
    Status(ask::Share),
    /// Wait until everything that happened up to now is durable on the server
    Wait(ask::Share),
    /// Prove that a share is what its source is
    Verify(ask::Verify),
    /// What was deleted from a share and is still kept
    Trash(ask::Share),
    /// Write what was deleted from a share into a directory here
    Restore(restore::Restore),
}

pub(crate) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    match &arguments.question {
        Some(Question::Status(of)) => ask::status(of, context),
        Some(Question::Wait(of)) => ask::wait(of, context),
        Some(Question::Verify(of)) => ask::verify(of, context),
        Some(Question::Trash(of)) => ask::trash(of, context),
        Some(Question::Restore(of)) => restore::run(of, context),
        None => match (&arguments.dir, &arguments.share) {
            (Some(dir), Some(share)) => client::run(arguments, dir, share, context),
            _ => Err(
                Failure::usage("a directory and the name of a share are needed")
                    .hint("pinnace sync DIR SHARE; `pinnace sync --help` tells more"),
            ),
        },
    }
}
