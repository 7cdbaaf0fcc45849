//! `pinnace bench`, telling nobody (`--offline`) or a server on the same machine.
//!
//! It stops by the clock, the peers by count. So that every side is timed over the same bytes, its
//! clock is read at the rollover that completes the count; a run that was too slow to get there
//! counts the files it completed over the whole of its time. (Stopping every run at the last rollover
//! before its end instead would leave out the slow end of a run that meets cold memory.) CPU of the
//! writing thread is the worker's own figure in the stop event, over all it wrote; CPU of the process
//! includes the calibration before the run, whose bytes are not counted.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pinnace_proto::event::StopReason;
use pinnace_proto::{Body, Event};

use super::{Outcome, Task, Writer};
use crate::limits::WRITER_RUN_MAX;
use crate::process;

/// The program under test.
#[derive(Debug)]
pub struct Pinnace {
    /// Where it is.
    pub program: PathBuf,
    /// URL of the server it tells; `None` runs offline.
    pub server: Option<String>,
}

impl Writer for Pinnace {
    fn name(&self) -> &'static str {
        if self.server.is_some() {
            "pinnace, server"
        } else {
            "pinnace"
        }
    }

    fn run(&mut self, task: &Task<'_>) -> Result<Outcome> {
        let state = tempfile::tempdir()?;
        let spent = process::measure(&mut self.command(task, state.path()), WRITER_RUN_MAX)?;
        let events = read_events(&state.path().join("pinnace/events"))?;
        let mut outcome = Outcome {
            bytes: 0,
            seconds: 0.0,
            thread_cpu_s: None,
            cpu_bytes: 0,
            process_cpu_s: spent.cpu.as_secs_f64(),
            process_wall_s: spent.wall.as_secs_f64(),
        };
        for event in &events {
            match &event.body {
                Body::Rollover(rollover) if rollover.number <= task.files => {
                    outcome.bytes += rollover.bytes;
                    outcome.seconds = event.elapsed_us as f64 / 1e6;
                }
                Body::Stopped(stopped) => {
                    ensure!(stopped.reason == StopReason::Completed, "{stopped:?}");
                    if outcome.bytes < task.files * task.file_bytes {
                        outcome.seconds = stopped.ran_us as f64 / 1e6;
                    }
                    let cpu_us: u64 = stopped.workers.iter().map(|worker| worker.cpu_us).sum();
                    outcome.thread_cpu_s = Some(cpu_us as f64 / 1e6);
                    outcome.cpu_bytes = stopped.workers.iter().map(|worker| worker.bytes).sum();
                }
                _ => {}
            }
        }
        ensure!(
            outcome.bytes > 0,
            "no file was completed within {:?}",
            task.run_time
        );
        Ok(outcome)
    }
}

impl Pinnace {
    fn command(&self, task: &Task<'_>, state: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("HOME", state)
            .env("XDG_STATE_HOME", state)
            .env("XDG_CONFIG_HOME", state)
            .current_dir(state)
            .args([
                "bench",
                "--json",
                "--quiet",
                "--force",
                "--min-free=1%",
                "--path",
            ])
            .arg(task.folder)
            .arg(format!("--chunk-size={}", task.chunk_bytes))
            .arg(format!("--file-size={}", task.file_bytes))
            .arg(format!("--run-time={}ms", task.run_time.as_millis()));
        if task.direct {
            command.arg("--direct");
        }
        match &self.server {
            Some(url) => command.args(["--server", url]),
            None => command.arg("--offline"),
        };
        command
    }
}

/// The events of the only log in a folder.
fn read_events(folder: &Path) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for entry in std::fs::read_dir(folder).context("there is no event log")? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            for line in std::fs::read_to_string(&path)?.lines() {
                events.push(serde_json::from_str(line).context("a line of the event log")?);
            }
        }
    }
    Ok(events)
}
