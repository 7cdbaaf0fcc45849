//! Pinnace's engine without the program around it: the example `rollover` of `pinnace-bench`, which
//! neither calibrates nor tells anybody. Beside `pinnace` it shows what those two cost.
//!
//! Its figures include the last file, which the end of the run time leaves unsynced.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::{Outcome, Task, Writer};
use crate::limits::WRITER_RUN_MAX;
use crate::process;

/// The example program.
#[derive(Debug)]
pub struct Engine {
    /// Where it is.
    pub program: PathBuf,
}

impl Writer for Engine {
    fn name(&self) -> &'static str {
        "engine alone"
    }

    fn run(&mut self, task: &Task<'_>) -> Result<Outcome> {
        let mut command = Command::new(&self.program);
        command
            .arg(task.folder)
            .arg(task.chunk_bytes.to_string())
            .arg(task.file_bytes.to_string())
            .arg(format!("{}ms", task.run_time.as_millis()));
        if task.direct {
            command.arg("direct");
        }
        let spent = process::measure(&mut command, WRITER_RUN_MAX)?;
        let said = String::from_utf8_lossy(&spent.stdout);
        let numbers = numbers(&said);
        let [gib, seconds, _, worker_cpu_per_gib, ..] = numbers[..] else {
            anyhow::bail!("the example said `{said}`");
        };
        let bytes = (gib * (1u64 << 30) as f64) as u64;
        anyhow::ensure!(bytes > 0, "the example wrote nothing");
        Ok(Outcome {
            bytes,
            seconds,
            thread_cpu_s: Some(worker_cpu_per_gib * gib),
            cpu_bytes: bytes,
            process_cpu_s: spent.cpu.as_secs_f64(),
            process_wall_s: spent.wall.as_secs_f64(),
        })
    }
}

/// The words of a text that are numbers.
fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_words_that_are_numbers() {
        let line = "1.000 GiB in 4.056 s: 0.247 GiB/s, worker CPU 3.2699 s/GiB, p50 32 µs";
        assert_eq!(numbers(line), [1.0, 4.056, 0.247, 3.2699, 32.0]);
    }
}
