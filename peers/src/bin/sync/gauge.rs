//! What a run costs: CPU and memory of both sides, each with all its children.
//!
//! Invariant: the memory of a side is the sum over its processes of their peaks so far (`VmHWM`), looked
//! at twenty times a second; the largest sum counts. A process that lives on between runs has its peak
//! reset before each.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use peers::limits::{LOOK_INTERVAL, MEMORY_LOOK, MIRROR_LEFT_MAX};
use peers::process::{children, cpu_with_waited};

/// The sides of a mirror: who has the source, and who has the copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Sides {
    /// At the source.
    pub(crate) client: f64,
    /// At the copy.
    pub(crate) server: f64,
}

impl Sides {
    /// Both together.
    pub(crate) fn total(self) -> f64 {
        self.client + self.server
    }
}

/// Looks at the memory of both sides until it is asked for the peaks.
#[derive(Debug)]
pub(crate) struct Gauge {
    shared: Arc<Shared>,
    end: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The client's process; 0 until it is known.
    client: AtomicU32,
    is_client_ended: AtomicBool,
    peaks: [AtomicU64; 2],
}

impl Gauge {
    /// Starts looking at the server, and at the client once [`Gauge::client`] was told.
    pub(crate) fn start(server: u32) -> Self {
        let shared = Arc::new(Shared::default());
        let (end, ended) = mpsc::channel();
        let looking = Arc::clone(&shared);
        reset_peak(server);
        let thread = std::thread::spawn(move || {
            loop {
                let is_last =
                    ended.recv_timeout(MEMORY_LOOK) != Err(mpsc::RecvTimeoutError::Timeout);
                looking.look(server);
                if is_last {
                    return;
                }
            }
        });
        Self {
            shared,
            end,
            thread,
        }
    }

    /// Tells the client's process. It may be a wrapper that becomes the program at once.
    pub(crate) fn client(&self) -> impl FnOnce(u32) + use<> {
        let shared = Arc::clone(&self.shared);
        move |pid| shared.client.store(pid, Ordering::Release)
    }

    /// Peaks in bytes; looks once more.
    pub(crate) fn end(self) -> Result<Sides> {
        self.shared.is_client_ended.store(true, Ordering::Release);
        drop(self.end);
        let joined = self.thread.join();
        joined.map_err(|_| anyhow!("looking at memory broke off"))?;
        let [client, server] = &self.shared.peaks;
        Ok(Sides {
            client: client.load(Ordering::Acquire) as f64,
            server: server.load(Ordering::Acquire) as f64,
        })
    }
}

impl Shared {
    fn look(&self, server: u32) {
        let client = self.client.load(Ordering::Acquire);
        // The number of a client that was waited for may be another process's by now.
        if client != 0 && !self.is_client_ended.load(Ordering::Acquire) {
            self.peaks[0].fetch_max(tree_peak(client), Ordering::AcqRel);
        }
        self.peaks[1].fetch_max(tree_peak(server), Ordering::AcqRel);
    }
}

/// Sum of the peaks of a process and all below it.
fn tree_peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let own = status.ok().as_deref().and_then(peak_bytes).unwrap_or(0);
    own + children(pid).into_iter().map(tree_peak).sum::<u64>()
}

/// `VmHWM` of a status file, bytes.
fn peak_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Makes the peak of a process what it holds now; without the right to, it stays and counts.
fn reset_peak(pid: u32) {
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// CPU so far of a process and all below it.
pub(crate) fn tree_cpu(pid: u32) -> Duration {
    let own = cpu_with_waited(pid).unwrap_or_default();
    own + children(pid).into_iter().map(tree_cpu).sum::<Duration>()
}

/// CPU of a server, when the children that served its client are gone and so part of it.
pub(crate) fn server_cpu(pid: u32) -> Result<Duration> {
    let deadline = Instant::now() + MIRROR_LEFT_MAX;
    while !children(pid).is_empty() {
        ensure!(
            Instant::now() < deadline,
            "a child of the server stays {MIRROR_LEFT_MAX:?} after its client"
        );
        std::thread::park_timeout(LOOK_INTERVAL);
    }
    cpu_with_waited(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_read_in_bytes() {
        let status = "Name:\trsync\nVmPeak:\t  9000 kB\nVmHWM:\t    8424 kB\nVmRSS:\t 10 kB\n";
        assert_eq!(peak_bytes(status), Some(8424 * 1024));
        // A kernel thread and a process that ends have none.
        assert_eq!(peak_bytes("Name:\tkthreadd\n"), None);
        assert_eq!(peak_bytes("VmHWM:\tmuch kB\n"), None);
    }

    #[test]
    fn both_sides_are_seen_and_a_client_that_ended_is_not_looked_for() {
        let gauge = Gauge::start(std::process::id());
        gauge.client()(std::process::id());
        let peaks = gauge.end().unwrap();
        assert!(peaks.server > 0.0);
        assert!(peaks.total() >= peaks.server);
    }
}
