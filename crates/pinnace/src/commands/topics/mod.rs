//! `pinnace topics`: what is subscribed to and what waits; and looking after what is stored.

mod backup;
mod check;
mod list;
mod restore;
mod unfinished;

use clap::{Args, Subcommand};
use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::upkeep::Backup;
use pinnace_server::BackupFacts;

use super::Context;
use crate::failure::{Failure, INTEGRITY, Result};

/// Topics with their subscribers and what waits for them; or, with a command, looking after them.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify every record that is stored
    Check(check::Arguments),
    /// Take everything that is stored along, as one file
    Backup(backup::Arguments),
    /// Make a data folder from a backup
    Restore(restore::Arguments),
}

pub(crate) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    match &arguments.command {
        None => list::run(context),
        Some(Command::Check(arguments)) => check::run(arguments, context),
        Some(Command::Backup(arguments)) => backup::run(arguments, context),
        Some(Command::Restore(arguments)) => restore::run(arguments, context),
    }
}

/// What there is to say of a backup.
fn document(file: String, facts: &BackupFacts) -> Backup {
    Backup {
        v: DOCUMENT_VERSION,
        file,
        created_us: facts.created_us,
        segments: facts.segments,
        bytes: facts.bytes,
    }
}

/// A backup that is not to be used: spoiled, or only not for this program.
fn unusable(error: &pinnace_server::BackupError, message: String) -> Failure {
    use pinnace_server::BackupError::{Cut, Damaged, Newer, NoBackup, Read};
    match error {
        Cut(_) | Damaged(_) => Failure::new(INTEGRITY, message),
        Read(_) | NoBackup | Newer(_) => Failure::failed(message),
    }
}
