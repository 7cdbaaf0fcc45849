//! `pinnace topics check`: is what is stored still what was acknowledged?

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;
use pinnace_proto::units::show_size;
use pinnace_proto::upkeep::{StoredProblem, TopicsCheck};
use pinnace_server::{CheckError, check_data, verify_backup};

use super::{document, unusable};
use crate::commands::{Context, since_text};
use crate::failure::{DONE, Failure, INTEGRITY, Result};

/// Verify every record that is stored, and name what is damaged and what that costs.
///
/// Asks the server to look at its own log while it works, unless a folder or file is given. Nothing is
/// changed. Ends with 7 when something is damaged.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Look at this data folder, whose server does not run
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    data: Option<PathBuf>,
    /// Look at this backup
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    let document = match (&arguments.data, &arguments.file) {
        (_, Some(file)) => return check_backup(file, context),
        (Some(data), None) => check_data(data).map_err(|error| failure(&error))?,
        (None, None) => context.api()?.check_topics()?,
    };
    if context.output.json {
        context.output.document(&document);
    } else {
        show(&document, context);
    }
    Ok(if document.clean { DONE } else { INTEGRITY })
}

fn failure(error: &CheckError) -> Failure {
    match error {
        CheckError::Lock(_) => Failure::failed(error)
            .hint("without --data a running server checks its own log: `pinnace topics check`"),
        CheckError::Nothing(_) => Failure::usage(error),
        CheckError::Open(_) if error.is_damage() => Failure::new(INTEGRITY, error),
        CheckError::Open(_) => Failure::failed(error),
    }
}

/// What was found, for people.
pub(super) fn show(document: &TopicsCheck, context: &Context<'_>) {
    let output = context.output;
    for problem in &document.problems {
        output.line(in_words(problem));
    }
    let told = document.problems.len() as u64;
    if document.problems_count > told {
        output.line(format!("… and {} more", document.problems_count - told));
    }
    if let Some(torn) = &document.torn {
        output.line(format!(
            "{}: {} unfinished at {}, which a crash left and nobody was told is stored; no damage, the next \
             start cuts it off",
            torn.segment,
            count(torn.bytes, "byte"),
            torn.offset
        ));
    }
    let verdict = match document.problems_count {
        0 => "clean".to_owned(),
        places => format!("damaged in {}", count(places, "place")),
    };
    output.line(format!(
        "{verdict}: {} with {} and {}, {} in {}",
        count(document.records, "record"),
        count(document.messages, "message"),
        count(document.queues, "queue"),
        show_size(document.bytes),
        count(document.segments, "segment"),
    ));
}

fn in_words(problem: &StoredProblem) -> String {
    let place = match problem.bytes {
        0 => "missing".to_owned(),
        bytes => format!("{} at {}", count(bytes, "byte"), problem.offset),
    };
    let mut text = format!("{}, {place}: {}", problem.segment, problem.detail);
    for message in &problem.lost {
        let queues = message.queues.iter().map(|queue| &*queue.name);
        let queues: Vec<&str> = queues.collect();
        text += &format!(
            "\n    message {} on {}, which waits for {}",
            message.seq,
            message.topic,
            queues.join(", ")
        );
    }
    let named = problem.lost.len() as u64;
    if let Some(all) = problem.lost_messages.filter(|all| *all > named) {
        text += &format!("\n    … and {} more", all - named);
    }
    text
}

/// So many of something.
fn count(n: u64, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

fn check_backup(file: &Path, context: &Context<'_>) -> Result<u8> {
    let name = file.display();
    let opened = File::open(file)
        .map_err(|error| Failure::usage(format!("{name} cannot be opened: {error}")))?;
    let facts = verify_backup(BufReader::with_capacity(1 << 20, opened)).map_err(|error| {
        unusable(
            &error,
            format!("the backup {name} is not to be used: {error}"),
        )
    })?;
    let document = document(name.to_string(), &facts);
    if context.output.json {
        context.output.document(&document);
    }
    context.output.line(format!(
        "whole: a backup of {}, {} in {}",
        since_text(document.created_us),
        show_size(document.bytes),
        count(document.segments, "segment")
    ));
    Ok(DONE)
}
