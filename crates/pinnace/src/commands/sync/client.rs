//! The mirroring client: from what was typed to the engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use pinnace_client::MirrorServer;
use pinnace_proto::sync::Durability;
use pinnace_proto::units::parse_size;
use pinnace_sync::client::{DeleteLimit, MirrorError, Settings, Stop, mirror};

use super::progress::Progress;
use super::tell::Teller;
use super::{Arguments, Context};
use crate::failure::{DONE, FAILED, Failure, PARTIAL, Result, UNSAFE};
use crate::signals;

pub(super) fn run(
    arguments: &Arguments,
    dir: &Path,
    share: &str,
    context: &Context<'_>,
) -> Result<u8> {
    context.log_warnings()?;
    pinnace_proto::name::check(share).map_err(Failure::usage)?;
    let server = context.layers.server()?;
    let connect = MirrorServer::new(&server, share)?;
    let settings = settings(arguments, dir, share, &server)?;
    let stop = Arc::new(Stop::default());
    let asked = stop.clone();
    signals::on_stop(move || asked.stop())
        .map_err(|error| Failure::failed(format!("signals cannot be caught: {error}")))?;
    let progress = Progress::new(context.output);
    let teller = Teller::new(context.output, settings.dry_run, &progress);
    let began = Instant::now();
    let ended = progress.shown_while(&settings, || mirror(&settings, &connect, &teller, &stop));
    let outcome = ended.map_err(failure)?;
    if !settings.once {
        return Ok(DONE);
    }
    if outcome.is_interrupted {
        let message = "interrupted before the share was equal";
        return Err(Failure::new(PARTIAL, message)
            .hint("what has arrived stays; the same command goes on with the rest"));
    }
    teller.sum_up(&outcome, began.elapsed());
    Ok(if outcome.skipped.is_empty() {
        DONE
    } else {
        PARTIAL
    })
}

fn failure(error: MirrorError) -> Failure {
    match error {
        MirrorError::Halted(_) => Failure::new(UNSAFE, error),
        MirrorError::Filter(_) | MirrorError::Overlap(_) => Failure::usage(error),
        MirrorError::Refused { ref code, .. } if code == "held" => {
            Failure::new(FAILED, error).hint("`pinnace shares` shows who mirrors into which share")
        }
        error => Failure::failed(error),
    }
}

fn settings(arguments: &Arguments, dir: &Path, share: &str, server: &str) -> Result<Settings> {
    let root = std::path::absolute(dir)
        .map_err(|error| Failure::usage(format!("{}: {error}", dir.display())))?;
    let state = match &arguments.state {
        Some(state) => state.clone(),
        None => usual_state(&root, share, server)?,
    };
    let bandwidth = arguments.bandwidth.as_deref().map(parse_size).transpose();
    let durability = match arguments.durability.as_str() {
        "none" => Durability::None,
        "batch" => Durability::Batch,
        "strict" => Durability::Strict,
        other => {
            return Err(Failure::usage(format!(
                "--durability `{other}`: none, batch or strict"
            )));
        }
    };
    Ok(Settings {
        root,
        state,
        share: share.to_owned(),
        name: arguments.name.clone().unwrap_or_else(host),
        durability,
        excludes: arguments.exclude.clone(),
        delete_limit: delete_limit(arguments.delete_limit.as_deref())?,
        bandwidth: bandwidth.map_err(|error| Failure::usage(format!("--bandwidth: {error}")))?,
        once: arguments.once || arguments.dry_run,
        dry_run: arguments.dry_run,
    })
}

fn delete_limit(text: Option<&str>) -> Result<DeleteLimit> {
    let Some(text) = text else {
        return Ok(DeleteLimit::default());
    };
    let limit = match text.strip_suffix('%') {
        Some(percent) => percent
            .parse()
            .ok()
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(DeleteLimit::Percent),
        None if text == "off" => Some(DeleteLimit::Off),
        None => text.parse().ok().map(DeleteLimit::Entries),
    };
    let wrong = || {
        Failure::usage(format!(
            "--delete-limit `{text}`: a percentage such as 25%, a number of entries, or off"
        ))
    };
    limit.ok_or_else(wrong)
}

fn host() -> String {
    let name = rustix::system::uname();
    pinnace_proto::name::from_text(&name.nodename().to_string_lossy())
}

/// A folder for each source, share and server.
fn usual_state(root: &Path, share: &str, server: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("XDG_STATE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => match std::env::var_os("HOME") {
            Some(home) => PathBuf::from(home).join(".local/state"),
            None => {
                return Err(Failure::usage("neither HOME nor XDG_STATE_HOME is set")
                    .hint("say with --state where this client may remember what the server has"));
            }
        },
    };
    // A login is no part of where something is.
    let server = server.rsplit_once('@').map_or(server, |(_, host)| host);
    let server = server.trim_start_matches("http://");
    let text = format!("{server}/{share}/{}", root.display());
    let name: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    // Long names, and those that differ only in other characters, are told apart by a number.
    let short: String = name
        .chars()
        .rev()
        .take(80)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    let number = pinnace_sync::path::number_of(text.as_bytes());
    Ok(folder
        .join("pinnace/sync")
        .join(format!("{short}-{number:016x}")))
}
