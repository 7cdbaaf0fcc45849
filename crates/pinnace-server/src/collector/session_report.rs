//! The report of a session: all runs this server process heard of, on one page.
//!
//! Written whole beside its place and renamed into it, so a reader never sees half a page.

use std::path::{Path, PathBuf};

use pinnace_runs::Reader;

use crate::clock::now_us;

pub(super) struct SessionReport {
    path: Option<PathBuf>,
    runs: Vec<String>,
}

impl SessionReport {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            runs: Vec::new(),
        }
    }

    /// An event of this run arrived.
    pub(super) fn saw(&mut self, run: &str) {
        if !self.runs.iter().any(|known| known == run) {
            self.runs.push(run.to_owned());
        }
    }

    /// Writes the page, if one was asked for.
    pub(super) fn write(&self, runs: &Reader) {
        let Some(path) = &self.path else { return };
        let mut summaries = Vec::new();
        for run in &self.runs {
            match runs.load(run) {
                Ok(Some(record)) => summaries.push(pinnace_report::summarize(&record)),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, run, "a run is missing in the report"),
            }
        }
        let page = pinnace_report::html(&summaries, now_us());
        match replace(path, page.as_bytes()) {
            Ok(()) => tracing::info!(report = %path.display(), "report written"),
            Err(error) => {
                tracing::error!(report = %path.display(), %error, "the report cannot be written");
            }
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, path)
}
