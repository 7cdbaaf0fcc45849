//! CPU time, memory and state of this process and its threads, from `/proc` and the CPU clocks.
//!
//! Invariant: a figure that cannot be read is absent or 0, never an error: a run does not fail for
//! want of one.

use procfs::process::Process;
use rustix::time::{ClockId, clock_gettime};

/// Figures of one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskFigures {
    pub(crate) state: char,
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    /// Time on a CPU: finer than user and system, which the kernel counts in ticks.
    pub(crate) cpu_us: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

/// Figures of a thread of this process; `None` when it has ended.
pub(crate) fn task(thread: u32) -> Option<TaskFigures> {
    let task = Process::myself()
        .ok()?
        .task_from_tid(i32::try_from(thread).ok()?)
        .ok()?;
    let stat = task.stat().ok()?;
    let status = task.status().ok();
    let tick_us = 1_000_000 / procfs::ticks_per_second().max(1);
    let (user_us, system_us) = (stat.utime * tick_us, stat.stime * tick_us);
    let on_cpu_us = task
        .schedstat()
        .ok()
        .map(|schedstat| schedstat.sum_exec_runtime / 1_000);
    Some(TaskFigures {
        state: stat.state,
        user_us,
        system_us,
        cpu_us: on_cpu_us.unwrap_or(user_us + system_us),
        voluntary_switches: status
            .as_ref()
            .and_then(|s| s.voluntary_ctxt_switches)
            .unwrap_or(0),
        involuntary_switches: status
            .and_then(|s| s.nonvoluntary_ctxt_switches)
            .unwrap_or(0),
    })
}

/// Resident memory of this process now and at its largest, bytes.
pub(crate) fn memory_bytes() -> (u64, u64) {
    let status = Process::myself().and_then(|process| process.status()).ok();
    let bytes = |kib: Option<u64>| kib.unwrap_or(0) * 1024;
    status.map_or((0, 0), |status| (bytes(status.vmrss), bytes(status.vmhwm)))
}

/// CPU time of the whole process, microseconds.
pub(crate) fn process_cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec) * 1_000_000 + part(time.tv_nsec) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_has_figures() {
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let before = task(thread).unwrap();
        let mut burnt = 0u64;
        while task(thread).unwrap().cpu_us <= before.cpu_us {
            burnt = burnt.wrapping_add(1);
        }
        assert_eq!(task(thread).unwrap().state, 'R');
        assert_eq!(task(0), None);
        let (now, peak) = memory_bytes();
        assert!(now > 100_000 && peak >= now);
        assert!(process_cpu_us() > 0);
    }
}
