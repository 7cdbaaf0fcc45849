//! What is asked about a share: status, wait, verify, trash.

use clap::Args;
use pinnace_proto::units::show_size;

use super::super::runs::local_time;
use super::super::shares::state;
use super::Context;
use crate::failure::{DONE, Failure, INTEGRITY, Result};
use crate::output::table;

#[derive(Debug, Args)]
pub(super) struct Share {
    /// Name of the share
    share: String,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Name of the share
    share: String,
    /// Read all files of both sides again
    #[arg(long)]
    deep: bool,
}

impl Share {
    fn name(&self) -> Result<&str> {
        pinnace_proto::name::check(&self.share).map_err(Failure::usage)
    }
}

pub(super) fn status(of: &Share, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let share = context.api()?.share(of.name()?)?;
    if context.output.json {
        context.output.document(&share);
        return Ok(DONE);
    }
    let line = |text: String| context.output.line(text);
    line(format!("{}: {}", share.share, state(&share)));
    line(format!(
        "  {} entries, {}; change {}, durable {}",
        share.entries,
        show_size(share.bytes),
        share.seq,
        share.durable
    ));
    if let Some(writer) = &share.writer {
        line(format!(
            "  mirrored by {} at {} since {}",
            writer.name,
            writer.address,
            local_time(writer.since_us)
        ));
        let state = &writer.state;
        line(format!(
            "  {} directories watched, {} polled, {} paths waiting, {} skipped, {} sent",
            state.watched,
            state.polled,
            state.pending,
            state.skipped,
            show_size(state.sent_bytes)
        ));
    }
    if share.trash > 0 {
        line(format!("  {} deletions are kept in the trash", share.trash));
    }
    Ok(DONE)
}

pub(super) fn wait(of: &Share, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let waited = context.api()?.share_wait(of.name()?)?;
    if context.output.json {
        context.output.document(&waited);
    } else {
        context
            .output
            .note(format!("durable up to change {}", waited.seq));
    }
    Ok(DONE)
}

pub(super) fn verify(of: &Verify, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let name = pinnace_proto::name::check(&of.share).map_err(Failure::usage)?;
    let verdict = context.api()?.share_verify(name, of.deep)?;
    if context.output.json {
        context.output.document(&verdict);
    } else if verdict.equal {
        let how = if of.deep {
            "all files read again"
        } else {
            "by what is known of them"
        };
        context.output.line(format!(
            "equal: {} entries ({how}), digest {}",
            verdict.entries, verdict.source
        ));
    } else {
        for path in &verdict.repaired {
            context
                .output
                .line(format!("was different and is sent again: {path}"));
        }
        context.output.line(format!(
            "not equal: source {}, share {}",
            verdict.source, verdict.share
        ));
    }
    Ok(if verdict.equal { DONE } else { INTEGRITY })
}

pub(super) fn trash(of: &Share, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let trash = context.api()?.share_trash(of.name()?)?;
    if context.output.json {
        context.output.document(&trash);
        return Ok(DONE);
    }
    if trash.items.is_empty() {
        context.output.line("nothing was deleted lately");
        return Ok(DONE);
    }
    let rows: Vec<Vec<String>> = trash
        .items
        .iter()
        .map(|item| {
            vec![
                item.id.to_string(),
                local_time(item.removed_us),
                item.kind.clone(),
                item.entries.to_string(),
                item.path.clone(),
            ]
        })
        .collect();
    let heads = [
        ("id", true),
        ("deleted", false),
        ("kind", false),
        ("entries", true),
        ("path", false),
    ];
    context.output.line(table(&heads, &rows).trim_end());
    context.output.note(format!(
        "each is kept for {} days; `pinnace sync restore {} ID` writes one into this directory",
        trash.kept_s / 86_400,
        of.share
    ));
    Ok(DONE)
}
