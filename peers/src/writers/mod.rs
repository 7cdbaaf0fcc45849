//! Writers under test: each does the same rollover job and says what it cost. One file per writer.
//!
//! The job: files of a given size, filled chunk by chunk by one thread, each synced when it is full,
//! the oldest removed so that never more than three are there.

pub mod dd;
pub mod engine;
pub mod fio;
pub mod pinnace;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

/// Files that are there at once: the one being written and the two before it.
pub const FILES_AT_ONCE: u64 = 3;

/// A rollover job.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Empty directory on the file system under test.
    pub folder: &'a Path,
    /// Bytes of one write.
    pub chunk_bytes: u64,
    /// Bytes of a file, a multiple of the chunk.
    pub file_bytes: u64,
    /// Past the page cache.
    pub direct: bool,
    /// How long a writer that stops by the clock writes.
    pub run_time: Duration,
    /// How many files a writer that stops by count writes.
    pub files: u64,
}

/// What one run of a writer did and cost.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Bytes of whole, synced files.
    pub bytes: u64,
    /// Time in which they were written, synced and rotated, by the writer's own report.
    pub seconds: f64,
    /// CPU seconds of the thread that wrote, over all it wrote; `None` when the writer is not asked.
    pub thread_cpu_s: Option<f64>,
    /// Bytes that `thread_cpu_s` and `process_cpu_s` were spent on.
    pub cpu_bytes: u64,
    /// CPU seconds of the whole process tree, from start to end.
    pub process_cpu_s: f64,
    /// From the start of the process to its end, seconds.
    pub process_wall_s: f64,
}

const GIB: f64 = (1u64 << 30) as f64;

impl Outcome {
    /// GiB/s of whole, synced files.
    pub fn gib_per_second(&self) -> f64 {
        self.bytes as f64 / GIB / self.seconds
    }

    /// CPU seconds of the writing thread per GiB.
    pub fn thread_cpu_per_gib(&self) -> Option<f64> {
        Some(self.thread_cpu_s? * GIB / self.cpu_bytes as f64)
    }

    /// CPU seconds of the whole process tree per GiB.
    pub fn process_cpu_per_gib(&self) -> f64 {
        self.process_cpu_s * GIB / self.cpu_bytes as f64
    }
}

/// A program that can do a rollover job.
pub trait Writer {
    /// Its name in tables.
    fn name(&self) -> &'static str;

    /// Does the job in `task.folder`, which is empty, and leaves it empty.
    ///
    /// # Errors
    /// When the program fails or its report cannot be read.
    fn run(&mut self, task: &Task<'_>) -> Result<Outcome>;
}
