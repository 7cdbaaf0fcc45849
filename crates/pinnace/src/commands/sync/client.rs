//! The mirroring client: from what was typed to the engine, and from what it tells to people and programs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pinnace_client::MirrorServer;
use pinnace_proto::sync::Durability;
use pinnace_proto::units::{parse_size, show_size};
use pinnace_sync::client::{DeleteLimit, MirrorError, Outcome, Settings, Stop, Tell, Told, mirror};
use pinnace_sync::path::show;
use serde::Serialize;

use super::{Arguments, Context};
use crate::failure::{DONE, FAILED, Failure, PARTIAL, Result, UNSAFE};
use crate::output::Output;
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
    let teller = Teller {
        output: context.output,
        is_dry: settings.dry_run,
        progress: Mutex::new((Instant::now(), 0)),
    };
    let began = Instant::now();
    let ended = mirror(&settings, &connect, &teller, &stop);
    context.output.end_progress();
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
        MirrorError::Filter(_) => Failure::usage(error),
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

/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(200);

struct Teller<'a> {
    output: &'a Output,
    is_dry: bool,
    progress: Mutex<(Instant, u64)>,
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_ms: Option<u64>,
}

impl<'a> Line<'a> {
    fn new(event: &'a str) -> Self {
        Self {
            event,
            path: None,
            from: None,
            detail: None,
            seq: None,
            entries: None,
            changes: None,
            sent_bytes: None,
            received_bytes: None,
            elapsed_ms: None,
        }
    }
}

impl Tell for Teller<'_> {
    fn tell(&self, told: &Told<'_>) {
        if self.output.json {
            self.tell_programs(told);
        } else {
            self.tell_people(told);
        }
    }
}

impl Teller<'_> {
    fn tell_programs(&self, told: &Told<'_>) {
        let line = match told {
            Told::Connected => Line::new("connected"),
            Told::Change { what, path, from } => {
                let (path, from) = (show(path), from.map(show));
                return self.output.json_line(&Line {
                    path: Some(&path),
                    from: from.as_deref(),
                    ..Line::new(what)
                });
            }
            Told::Synced {
                seq,
                entries,
                sent_bytes,
            } => Line {
                seq: Some(*seq),
                entries: Some(*entries),
                sent_bytes: Some(*sent_bytes),
                ..Line::new("synced")
            },
            Told::Lost(detail) => Line {
                detail: Some(detail),
                ..Line::new("lost")
            },
            Told::Overflowed => Line::new("overflowed"),
            Told::Unwatched(detail) => Line {
                detail: Some(detail),
                ..Line::new("unwatched")
            },
            Told::Skipped { path, why } => {
                return self.output.json_line(&Line {
                    path: Some(&show(path)),
                    detail: Some(why),
                    ..Line::new("skipped")
                });
            }
        };
        self.output.json_line(&line);
    }

    fn tell_people(&self, told: &Told<'_>) {
        match told {
            Told::Connected => {}
            Told::Change { what, path, from } if self.is_dry => {
                let path = show(path);
                let path = if path.is_empty() { ".".into() } else { path };
                self.output.line(match from {
                    Some(from) => format!("{what} {} -> {path}", show(from)),
                    None => format!("{what} {path}"),
                });
            }
            Told::Change { path, .. } => self.count(path),
            Told::Synced { entries, .. } => {
                self.output.end_progress();
                self.output.note(format!("equal: {entries} entries"));
            }
            Told::Lost(detail) => self.output.note(format!("{detail}; trying again")),
            Told::Overflowed => {
                let note = "more changed at once than the system keeps; comparing everything";
                self.output.note(note);
            }
            Told::Unwatched(detail) => self.output.note(detail),
            Told::Skipped { path, why } => {
                self.output.note(format!("skipped {}: {why}", show(path)));
            }
        }
    }

    fn count(&self, path: &[u8]) {
        let mut progress = self
            .progress
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        progress.1 += 1;
        if progress.0.elapsed() > PROGRESS {
            progress.0 = Instant::now();
            self.output
                .progress(&format!("{} changes, now {}", progress.1, show(path)));
        }
    }

    fn sum_up(&self, outcome: &Outcome, elapsed: Duration) {
        if self.output.json {
            self.output.json_line(&Line {
                seq: Some(outcome.seq),
                entries: Some(outcome.entries),
                changes: Some(outcome.changes),
                sent_bytes: Some(outcome.sent_bytes),
                received_bytes: Some(outcome.received_bytes),
                elapsed_ms: Some(elapsed.as_millis() as u64),
                ..Line::new("done")
            });
            return;
        }
        let verb = if self.is_dry { "would be sent" } else { "sent" };
        self.output.note(format!(
            "{} changes {verb}, {}, in {:.2} s",
            outcome.changes,
            show_size(outcome.sent_bytes),
            elapsed.as_secs_f64()
        ));
    }
}
