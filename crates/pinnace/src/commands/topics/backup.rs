//! `pinnace topics backup`: everything that is stored, as one file.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;

use clap::Args;
use pinnace_proto::units::show_size;
use pinnace_server::verify_backup;

use super::unfinished::Unfinished;
use super::{document, unusable};
use crate::commands::Context;
use crate::failure::{DONE, Failure, Result};

/// Take everything that is stored along, as one file, while the server works.
///
/// Whatever was acknowledged before is in it, as it was at one moment: messages, queues, created topics. The
/// file is there when it is whole, verified and synced, and not before; one of that name is replaced.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to put it
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    let name = arguments.file.display().to_string();
    let unwritable = |error| {
        let failure = Failure::failed(format!("the backup {name} cannot be written: {error}"));
        failure.hint("nothing was left there, and the server goes on as before")
    };
    let api = context.api()?;
    let unfinished = Unfinished::beside(&arguments.file).map_err(&unwritable)?;
    let mut copy = Copying {
        source: api.backup_topics()?,
        target: unfinished.file(),
        failed: None,
    };
    let verified = verify_backup(BufReader::with_capacity(1 << 20, &mut copy));
    if let Some(error) = copy.failed {
        return Err(unwritable(error));
    }
    let facts = verified.map_err(|error| {
        unusable(&error, format!("the backup did not arrive whole: {error}"))
            .hint("nothing was left; `pinnace topics check` says whether the server's log is well")
    })?;
    unfinished.finish().map_err(unwritable)?;
    let document = document(name, &facts);
    if context.output.json {
        context.output.document(&document);
    }
    context.output.line(format!(
        "wrote {} ({})",
        document.file,
        show_size(document.bytes)
    ));
    Ok(DONE)
}

/// Writes what is read, so that what is verified is what is kept.
struct Copying<'a, R> {
    source: R,
    target: &'a File,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Copying<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        match self.target.write_all(&buffer[..read]) {
            Ok(()) => Ok(read),
            Err(error) => {
                self.failed = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}
