//! What a mirror tells, for people and for programs.
//!
//! Invariant: with `--json` each event is a line, and nothing else is said. Left to others: how far it is (`progress`).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pinnace_proto::units::show_size;
use pinnace_sync::client::{Gauge, Outcome, Tell, Told};
use pinnace_sync::path::show;
use serde::Serialize;

use super::progress::{LOOK_EVERY, Progress};
use crate::output::Output;

/// Tells people or programs.
pub(super) struct Teller<'a> {
    output: &'a Output,
    is_dry: bool,
    progress: &'a Progress<'a>,
    /// When a change was shown last, and how many there were.
    shown: Mutex<(Instant, u64)>,
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
    fn gauge(&self) -> Option<&Gauge> {
        self.progress.gauge()
    }

    fn tell(&self, told: &Told<'_>) {
        if self.output.json {
            self.tell_programs(told);
        } else {
            self.tell_people(told);
        }
    }
}

impl<'a> Teller<'a> {
    pub(super) fn new(output: &'a Output, is_dry: bool, progress: &'a Progress<'a>) -> Self {
        Self {
            output,
            is_dry,
            progress,
            shown: Mutex::new((Instant::now(), 0)),
        }
    }

    fn tell_programs(&self, told: &Told<'_>) {
        let line = match told {
            Told::Connected => Line::new("connected"),
            Told::Change {
                what,
                path,
                from,
                why,
            } => {
                let (path, from) = (show(path), from.map(show));
                return self.output.json_line(&Line {
                    path: Some(&path),
                    from: from.as_deref(),
                    detail: *why,
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
            Told::Change {
                what,
                path,
                from,
                why: Some(why),
            } if self.is_dry => {
                let path = show(path);
                let path = if path.is_empty() { ".".into() } else { path };
                self.output.line(match from {
                    Some(from) => format!("{what} {} -> {path} ({why})", show(from)),
                    None => format!("{what} {path} ({why})"),
                });
            }
            Told::Change { path, .. } => self.count(path),
            Told::Synced { entries, .. } => {
                self.progress.end();
                if !self.is_dry {
                    self.output.note(format!("equal: {entries} entries"));
                }
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

    /// After the first comparison there is only now and then something to show.
    fn count(&self, path: &[u8]) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.1 += 1;
        if self.progress.is_over() && shown.0.elapsed() > LOOK_EVERY {
            shown.0 = Instant::now();
            self.output
                .progress(&format!("{} changes, now {}", shown.1, show(path)));
        }
    }

    pub(super) fn sum_up(&self, outcome: &Outcome, elapsed: Duration) {
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
