//! `pinnace shares`: what is mirrored into the server.

use clap::Args;
use pinnace_proto::sync::ShareInfo;
use pinnace_proto::units::show_size;

use super::Context;
use crate::failure::{DONE, Result};
use crate::output::table;

/// Shares, who mirrors into them and how far they are.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let shares = context.api()?.shares()?;
    if context.output.json {
        context.output.document(&shares);
        return Ok(DONE);
    }
    if shares.shares.is_empty() {
        context
            .output
            .line("there are no shares; `pinnace sync DIR SHARE` makes one");
        return Ok(DONE);
    }
    let rows: Vec<Vec<String>> = shares.shares.iter().map(row).collect();
    let heads = [
        ("share", false),
        ("entries", true),
        ("size", true),
        ("changes", true),
        ("durable", true),
        ("trash", true),
        ("client", false),
        ("state", false),
    ];
    context.output.line(table(&heads, &rows).trim_end());
    Ok(DONE)
}

fn row(share: &ShareInfo) -> Vec<String> {
    let writer = share.writer.as_ref();
    vec![
        share.share.clone(),
        share.entries.to_string(),
        show_size(share.bytes),
        share.seq.to_string(),
        share.durable.to_string(),
        share.trash.to_string(),
        writer.map_or_else(|| "-".to_owned(), |writer| writer.name.clone()),
        state(share),
    ]
}

/// How a share is, in words.
pub(super) fn state(share: &ShareInfo) -> String {
    match (&share.problem, &share.writer) {
        (Some(problem), _) => problem.clone(),
        (None, Some(writer)) => match &writer.state.reason {
            Some(reason) => reason.clone(),
            None => format!("{:?}", writer.state.phase).to_lowercase(),
        },
        (None, None) => "nobody mirrors into it".to_owned(),
    }
}
