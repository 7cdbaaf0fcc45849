//! What the operating system knows about this process.

use procfs::process::{LimitValue, Process};

/// Figures of the process; `None` where the system would not tell.
pub(super) struct Figures {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

/// Reads them.
pub(super) fn figures() -> Figures {
    let process = Process::myself().ok();
    let stat = process.as_ref().and_then(|process| process.stat().ok());
    let fds = process.as_ref().and_then(|process| process.fd_count().ok());
    let limits = process.as_ref().and_then(|process| process.limits().ok());
    let ticks = procfs::ticks_per_second() as f64;
    let pages = procfs::page_size();
    Figures {
        cpu_seconds: stat
            .as_ref()
            .map(|stat| (stat.utime + stat.stime) as f64 / ticks),
        resident_bytes: stat.as_ref().map(|stat| stat.rss * pages),
        virtual_bytes: stat.as_ref().map(|stat| stat.vsize),
        threads: stat.map(|stat| stat.num_threads.unsigned_abs()),
        open_fds: fds.map(|count| count as u64),
        max_fds: limits.and_then(|limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(most) => Some(most),
            LimitValue::Unlimited => None,
        }),
    }
}
