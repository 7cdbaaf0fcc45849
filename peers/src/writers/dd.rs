//! `dd`: a process per file, zeros instead of data, `fdatasync` at its end; files are removed here.
//!
//! It measures nothing but the whole, so it is the floor for cost. Its zeros cost less than data a
//! storage system cannot compress: it wins on storage that does.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use super::{FILES_AT_ONCE, Outcome, Task, Writer};
use crate::limits::{FILES_MAX, WRITER_RUN_MAX};
use crate::process;

/// coreutils' dd.
#[derive(Debug, Default)]
pub struct Dd;

impl Writer for Dd {
    fn name(&self) -> &'static str {
        "dd"
    }

    fn run(&mut self, task: &Task<'_>) -> Result<Outcome> {
        let files = task.files.min(FILES_MAX);
        let path = |number: u64| task.folder.join(format!("dd.{number}"));
        let thread_before = process::thread_cpu()?;
        let mut cpu_s = 0.0;
        let began = Instant::now();
        for number in 1..=files {
            cpu_s += process::measure(&mut command(task, path(number)), WRITER_RUN_MAX)?
                .cpu
                .as_secs_f64();
            if number >= FILES_AT_ONCE {
                std::fs::remove_file(path(number + 1 - FILES_AT_ONCE))?;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        // Removing is part of the job: what this thread spent on it counts.
        cpu_s += (process::thread_cpu()? - thread_before).as_secs_f64();
        for left in (files + 2).saturating_sub(FILES_AT_ONCE)..=files {
            std::fs::remove_file(path(left.max(1)))?;
        }
        let bytes = files * task.file_bytes;
        Ok(Outcome {
            bytes,
            seconds,
            thread_cpu_s: None,
            cpu_bytes: bytes,
            process_cpu_s: cpu_s,
            process_wall_s: seconds,
        })
    }
}

fn command(task: &Task<'_>, path: PathBuf) -> Command {
    let mut command = Command::new("dd");
    command
        .args(["if=/dev/zero", "conv=fdatasync", "status=none"])
        .arg(format!("of={}", path.display()))
        .arg(format!("bs={}", task.chunk_bytes))
        .arg(format!("count={}", task.file_bytes / task.chunk_bytes));
    if task.direct {
        command.arg("oflag=direct");
    }
    command
}
