//! `fio`: one job whose files are written one after the other, each synced as it is closed, all of
//! them removed at the end of a loop.
//!
//! There are two ways to make that the rollover job, and neither is quite it. Three files a loop have
//! its footprint, but free the memory of three files at once; one file a loop frees as much at a time
//! as a rollover does, but never needs more than one file's memory, which is easier than the job.
//! So fio is measured both ways, and the better one counts as the best peer.
//!
//! Its settings are the best we found: `psync` (an I/O at a time needs no queue), a thread instead
//! of a process, no preallocation, one file open at a time; the default buffers, which are random
//! and scrambled at each write. A fio per file would pay its start for every file.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Outcome, Task, Writer};
use crate::limits::{FILES_MAX, WRITER_RUN_MAX};
use crate::process;

/// The flexible I/O tester.
#[derive(Debug)]
pub struct Fio {
    /// Files written before they are removed: 1 or [`super::FILES_AT_ONCE`].
    pub files_per_loop: u64,
}

impl Writer for Fio {
    fn name(&self) -> &'static str {
        if self.files_per_loop == 1 {
            "fio, one file"
        } else {
            "fio"
        }
    }

    fn run(&mut self, task: &Task<'_>) -> Result<Outcome> {
        let loops = task.files.min(FILES_MAX).div_ceil(self.files_per_loop);
        let spent = process::measure(&mut self.command(task, loops), WRITER_RUN_MAX)?;
        let report: Value = serde_json::from_slice(&spent.stdout).context("fio's report")?;
        let job = &report["jobs"][0];
        let number = |value: &Value| {
            value
                .as_f64()
                .context("a figure is missing in fio's report")
        };
        let bytes = number(&job["write"]["io_bytes"])? as u64;
        let expected = loops * self.files_per_loop * task.file_bytes;
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

impl Fio {
    fn command(&self, task: &Task<'_>, loops: u64) -> Command {
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
            .arg(format!("--nrfiles={}", self.files_per_loop))
            .arg(format!("--bs={}", task.chunk_bytes))
            .arg(format!("--filesize={}", task.file_bytes))
            .arg(format!("--size={}", self.files_per_loop * task.file_bytes))
            .arg(format!("--loops={loops}"))
            .arg(format!("--direct={}", u8::from(task.direct)));
        command
    }
}
