//! `pinnace sync restore`: what was deleted comes back, as a copy beside the source.
//!
//! A share is what its source is, so what comes back is written here; a mirror that runs carries it into the share.
//!
//! Invariant: nothing that exists is written over, and what is not whole leaves nothing. Left to others: the archive
//! (`pinnace-sync`), and the trash, in which everything stays.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use pinnace_client::Api;
use pinnace_proto::sync::TrashItem;
use pinnace_proto::units::show_size;
use pinnace_sync::archive::{UnpackError, Unpacked, unpack};
use pinnace_sync::fs::Root;
use pinnace_sync::path::show;
use serde::Serialize;

use super::super::runs::local_time;
use super::Context;
use crate::failure::{DONE, Failure, Result};
use crate::signals;

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// Name of the share
    share: String,
    /// Numbers as `pinnace sync trash` lists them, or paths: what was deleted last at one, also inside a
    /// directory that was deleted. A path of digits is written ./1
    #[arg(required = true, value_name = "ID|PATH")]
    what: Vec<String>,
    /// The directory to write into
    #[arg(long, value_name = "DIR", default_value = ".")]
    to: PathBuf,
}

/// A line for programs.
#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    id: u64,
    path: &'a str,
    to: &'a str,
    entries: u64,
    bytes: u64,
    has_owners: bool,
}

pub(super) fn run(of: &Restore, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let share = pinnace_proto::name::check(&of.share).map_err(Failure::usage)?;
    let into = Root::open(&of.to).map_err(|error| {
        let error = io::Error::from(error);
        Failure::usage(format!("--to {}: {error}", of.to.display()))
    })?;
    let api = context.api()?;
    let items = api.share_trash(share)?.items;
    let is_stopped = Arc::new(AtomicBool::new(false));
    let theirs = is_stopped.clone();
    signals::on_stop(move || theirs.store(true, Ordering::Relaxed))
        .map_err(|error| Failure::failed(format!("signals cannot be caught: {error}")))?;
    for what in &of.what {
        let (item, inside, archive) = find(&api, share, &items, what)?;
        let mut archive = Stoppable(archive, &is_stopped);
        let unpacked =
            unpack(&mut archive, &into).map_err(|error| failure(&error, share, &of.to))?;
        told(context, &of.to, (item, inside), &unpacked);
    }
    Ok(DONE)
}

/// Ends an archive when the process is asked to end, so that what is half there is removed.
struct Stoppable<'a, R>(R, &'a AtomicBool);

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.1.load(Ordering::Relaxed) {
            true => Err(io::Error::other("it was stopped")),
            false => self.0.read(into),
        }
    }
}

/// The thing that was meant, what of it, and its archive.
fn find<'a>(
    api: &Api,
    share: &str,
    items: &'a [TrashItem],
    what: &'a str,
) -> Result<(&'a TrashItem, &'a str, Box<dyn Read>)> {
    for (item, inside) in meant(items, what) {
        match api.share_thing(share, item.id, inside) {
            Ok(archive) => return Ok((item, inside, Box::new(archive))),
            // An earlier deletion of the directory may have had it.
            Err(error) if error.code() == Some("no-such-thing") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(
        Failure::failed(format!("nothing in the trash of `{share}` is `{what}`")).hint(format!(
            "`pinnace sync trash {share}` lists numbers and paths"
        )),
    )
}

/// What may be meant, the newest first: a thing, and a path inside it.
fn meant<'a>(
    items: &'a [TrashItem],
    what: &'a str,
) -> impl Iterator<Item = (&'a TrashItem, &'a str)> {
    let id: Option<u64> = what.parse().ok();
    let path = what.trim_start_matches("./").trim_end_matches('/');
    items.iter().filter_map(move |item| match id {
        Some(id) => (item.id == id).then_some((item, "")),
        None => {
            let rest = path.strip_prefix(&item.path)?;
            let inside = match rest {
                "" => rest,
                rest => rest.strip_prefix('/')?,
            };
            Some((item, inside))
        }
    })
}

fn failure(error: &UnpackError, share: &str, to: &Path) -> Failure {
    match error {
        UnpackError::Exists(name) => {
            let there = to.join(name);
            Failure::failed(format!(
                "{} exists, and nothing is written over",
                there.display()
            ))
            .hint(format!(
                "move it away, or say with --to where else: pinnace sync restore {share} … --to DIR"
            ))
        }
        UnpackError::Archive(_) => Failure::failed(format!("{error}; nothing was written"))
            .hint("it is still in the trash: try again"),
        UnpackError::Write { .. } => {
            Failure::failed(format!("{}: {error}; nothing was written", to.display()))
        }
    }
}

fn told(context: &Context<'_>, to: &Path, (item, inside): (&TrashItem, &str), unpacked: &Unpacked) {
    let to = to.join(&*show(&unpacked.name));
    let to = to.display().to_string();
    let path = match inside {
        "" => item.path.clone(),
        inside => format!("{}/{inside}", item.path),
    };
    if context.output.json {
        return context.output.json_line(&Line {
            event: "restored",
            id: item.id,
            path: &path,
            to: &to,
            entries: unpacked.entries,
            bytes: unpacked.bytes,
            has_owners: unpacked.has_owners,
        });
    }
    context.output.line(format!(
        "{to}: {path} as it was deleted {}; {} entries, {}",
        local_time(item.removed_us),
        unpacked.entries,
        show_size(unpacked.bytes)
    ));
    if !unpacked.has_owners {
        context
            .output
            .note("the owners are those of this process, which may not give files away");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: u64, path: &str) -> TrashItem {
        TrashItem {
            id,
            path: path.to_owned(),
            kind: "directory".to_owned(),
            removed_us: 0,
            entries: 1,
        }
    }

    #[test]
    fn numbers_and_paths_mean_the_newest_that_may_be_meant() {
        let items = [
            item(9, "a/b"),
            item(8, "7"),
            item(7, "a"),
            item(6, "a/b"),
            item(5, "ab"),
        ];
        for (what, expected) in [
            ("7", vec![(7, "")]),
            ("./7", vec![(8, "")]),
            ("a", vec![(7, "")]),
            ("a/", vec![(7, "")]),
            ("a/b", vec![(9, ""), (7, "b"), (6, "")]),
            ("a/b/c", vec![(9, "c"), (7, "b/c"), (6, "c")]),
            ("b", vec![]),
            ("10", vec![]),
        ] {
            let found = meant(&items, what).map(|(item, inside)| (item.id, inside));
            assert_eq!(found.collect::<Vec<_>>(), expected, "{what}");
        }
    }
}
