//! What a server and the generator spend: exact CPU clocks and memory.
//!
//! Invariant: CPU time is the kernel's own clock of the process (user and system, to the
//! nanosecond), not ticks; a server of several processes is the sum of them.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use procfs::process::Process;

const KIB: u64 = 1024;

/// The processes of a server; none for the generator alone.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    pids: Vec<i32>,
}

/// CPU time so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// Of the server.
    pub server: Duration,
    /// Of this process.
    pub generator: Duration,
}

/// Memory of the server now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Resident, bytes.
    pub rss_bytes: u64,
    /// Proportional, bytes.
    pub pss_bytes: u64,
    /// Largest resident so far, bytes.
    pub peak_rss_bytes: u64,
}

impl Meter {
    /// Of the process `pid` and its children as they are now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let parent = i32::try_from(pid)?;
        let mut pids = vec![parent];
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(children).context("the server is gone")?;
        for child in children.split_whitespace() {
            pids.push(child.parse()?);
        }
        Ok(Self { pids })
    }

    /// CPU time so far.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn cpu(&self) -> Result<Cpu> {
        let mut server = Duration::ZERO;
        for pid in &self.pids {
            let clock = clock_getcpuclockid(Pid::from_raw(*pid)).context("the server is gone")?;
            server += clock_gettime(clock).context("the server is gone")?.into();
        }
        let generator = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into();
        Ok(Cpu { server, generator })
    }

    /// Memory now.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn memory(&self) -> Result<Held> {
        let mut held = Held::default();
        for pid in &self.pids {
            let process = Process::new(*pid).context("the server is gone")?;
            let status = process.status()?;
            held.rss_bytes += status.vmrss.unwrap_or(0) * KIB;
            held.peak_rss_bytes += status.vmhwm.unwrap_or(0) * KIB;
            let rollup = process.smaps_rollup()?.memory_map_rollup;
            let maps = rollup.into_iter();
            held.pss_bytes += maps
                .filter_map(|map| map.extension.map.get("Pss").copied())
                .sum::<u64>();
        }
        Ok(held)
    }
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            generator: self.generator.saturating_sub(before.generator),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_this_process_runs_and_its_memory_is_seen() {
        let meter = Meter::of(std::process::id()).unwrap();
        let before = meter.cpu().unwrap();
        let mut sum = 0u64;
        while meter.cpu().unwrap().generator - before.generator < Duration::from_millis(2) {
            sum = std::hint::black_box(sum + 1);
        }
        let spent = meter.cpu().unwrap() - before;
        assert!(spent.server >= Duration::from_millis(1), "{spent:?}");
        let held = meter.memory().unwrap();
        assert!(held.pss_bytes > 0 && held.pss_bytes <= held.rss_bytes * 2);
        assert!(held.peak_rss_bytes > 0);
    }
}
