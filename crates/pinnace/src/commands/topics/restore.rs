//! `pinnace topics restore`: a data folder from a backup.

use std::path::PathBuf;

use clap::Args;
use pinnace_proto::units::show_size;
use pinnace_server::{RestoreError, restore};

use super::{check, document, unusable};
use crate::commands::Context;
use crate::failure::{DONE, Failure, PARTIAL, Result, UNSAFE};

/// Make a data folder from a backup, for a server to be started on.
///
/// The whole backup is verified before anything is put in place. A folder that holds topics already is left
/// as it is.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The backup
    file: PathBuf,
    /// The data folder; made when it is not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

pub(super) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    let restored = restore(&arguments.file, &arguments.data).map_err(|error| failure(&error))?;
    let document = document(arguments.file.display().to_string(), &restored.facts);
    let data = arguments.data.display();
    if context.output.json {
        context.output.document(&document);
    }
    context.output.line(format!(
        "restored {} of topics into {data}: pinnace serve --data {data}",
        show_size(document.bytes),
    ));
    check::show(&restored.check, context);
    if restored.check.clean {
        return Ok(DONE);
    }
    context
        .output
        .note("warning: what is damaged was so when the backup was made; the rest is restored");
    Ok(PARTIAL)
}

fn failure(error: &RestoreError) -> Failure {
    match error {
        RestoreError::Backup { source, .. } => unusable(source, error.to_string()),
        RestoreError::Taken { .. } => Failure::new(UNSAFE, error),
        RestoreError::Lock(_) | RestoreError::Write { .. } | RestoreError::Unreadable { .. } => {
            Failure::failed(error)
        }
    }
}
