//! `fio`: one job over three files, written one after the other, each synced as it is closed, all
//! three removed at the end of a loop: the same bytes, syncs and footprint as a rollover job.
//!
//! Its settings are the best we found: `psync` (an I/O at a time needs no queue), a thread instead
//! of a process, no preallocation, one file open at a time; the default buffers, which are random
//! and scrambled at each write. A fio per file would pay its start for every file.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{FILES_AT_ONCE, Outcome, Task, Writer};
use crate::limits::{FILES_MAX, WRITER_RUN_MAX};
use crate::process;

/// The flexible I/O tester.
#[derive(Debug, Default)]
pub struct Fio;

impl Writer for Fio {
    fn name(&self) -> &'static str {
        "fio"
    }

    fn run(&mut self, task: &Task<'_>) -> Result<Outcome> {
        let loops = task.files.min(FILES_MAX).div_ceil(FILES_AT_ONCE);
        let spent = process::measure(&mut command(task, loops), WRITER_RUN_MAX)?;
        let report: Value = serde_json::from_slice(&spent.stdout).context("fio's report")?;
        let job = &report["jobs"][0];
        let number = |value: &Value| {
            value
                .as_f64()
                .context("a figure is missing in fio's report")
        };
        let bytes = number(&job["write"]["io_bytes"])? as u64;
        let expected = loops * FILES_AT_ONCE * task.file_bytes;
        anyhow::ensure!(bytes == expected, "fio wrote {bytes} bytes, not {expected}");
        let seconds = number(&job["job_runtime"])? / 1e3;
        let cpu_percent = number(&job["usr_cpu"])? + number(&job["sys_cpu"])?;
        Ok(Outcome {
            bytes,
            seconds,
            thread_cpu_s: Some(cpu_percent / 100.0 * seconds),
            cpu_bytes: bytes,
            process_cpu_s: spent.cpu.as_secs_f64(),
            process_wall_s: spent.wall.as_secs_f64(),
        })
    }
}

fn command(task: &Task<'_>, loops: u64) -> Command {
    let mut command = Command::new("fio");
    command
        .args([
            "--name=rollover",
            "--rw=write",
            "--ioengine=psync",
            "--thread=1",
        ])
        .args([
            "--file_service_type=sequential",
            "--openfiles=1",
            "--create_on_open=1",
        ])
        .args(["--fsync_on_close=1", "--fallocate=none"])
        .args(["--unlink=1", "--unlink_each_loop=1", "--output-format=json"])
        .arg(format!("--directory={}", task.folder.display()))
        .arg(format!("--nrfiles={FILES_AT_ONCE}"))
        .arg(format!("--bs={}", task.chunk_bytes))
        .arg(format!("--filesize={}", task.file_bytes))
        .arg(format!("--size={}", FILES_AT_ONCE * task.file_bytes))
        .arg(format!("--loops={loops}"))
        .arg(format!("--direct={}", u8::from(task.direct)));
    command
}
