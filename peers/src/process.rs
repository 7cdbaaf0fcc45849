//! Processes: what a tree of them cost, and the end of one that takes too long.
//!
//! Invariant: a process is signalled through its pidfd, so never another one that got its number.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What a command cost, and what it said.
#[derive(Clone, Debug)]
pub struct Spent {
    /// From its start to its end.
    pub wall: Duration,
    /// CPU time of it and of all it waited for.
    pub cpu: Duration,
    /// Its standard output.
    pub stdout: Vec<u8>,
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started, ends with a failure, or takes longer than `limit`.
pub fn measure(command: &mut Command, limit: Duration) -> Result<Spent> {
    measure_watched(command, limit, |_| {})
}

/// The same, and tells `started` the number of the process as soon as it runs.
///
/// # Errors
/// As [`measure`].
pub fn measure_watched(
    command: &mut Command,
    limit: Duration,
    started: impl FnOnce(u32),
) -> Result<Spent> {
    let shown = format!("{command:?}");
    let before = children_cpu()?;
    let began = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    started(child.id());
    let (done, waiting) = mpsc::channel::<()>();
    let pidfd = pidfd_open(pid(&child)?, PidfdFlags::empty())?;
    let watchdog = std::thread::spawn(move || {
        let late = waiting.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        late && pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
    });
    let output = child.wait_with_output()?;
    let wall = began.elapsed();
    let cpu = children_cpu()?.saturating_sub(before);
    drop(done);
    if watchdog.join().unwrap_or(false) {
        bail!("{shown} took longer than {limit:?}");
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{shown}: {}: {said}", output.status);
    }
    Ok(Spent {
        wall,
        cpu,
        stdout: output.stdout,
    })
}

fn pid(child: &Child) -> Result<Pid> {
    let number = i32::try_from(child.id())?;
    Pid::from_raw(number).context("a process without a number")
}

/// CPU time of all children waited for so far, and of theirs.
fn children_cpu() -> Result<Duration> {
    cpu_of(UsageWho::RUSAGE_CHILDREN)
}

/// CPU time of this thread so far.
///
/// # Errors
/// When the kernel does not say.
pub fn thread_cpu() -> Result<Duration> {
    cpu_of(UsageWho::RUSAGE_THREAD)
}

fn cpu_of(who: UsageWho) -> Result<Duration> {
    let usage = getrusage(who).context("getrusage")?;
    let part = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().unsigned_abs())
            + Duration::from_micros(time.tv_usec().unsigned_abs())
    };
    Ok(part(usage.user_time()) + part(usage.system_time()))
}

/// CPU time so far and resident memory of a running process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time, in the kernel's ticks of 10 ms.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
}

/// Looks at a running process.
///
/// # Errors
/// When it is gone.
pub fn usage(pid: u32) -> Result<Usage> {
    let stat = Process::new(i32::try_from(pid)?)
        .and_then(|process| process.stat())
        .with_context(|| format!("process {pid}"))?;
    let ticks = (stat.utime + stat.stime) as f64;
    Ok(Usage {
        cpu: Duration::from_secs_f64(ticks / procfs::ticks_per_second() as f64),
        rss_bytes: stat.rss * procfs::page_size(),
    })
}

/// CPU time so far of a running process and of all children it has waited for, to 10 ms.
///
/// # Errors
/// When it is gone.
pub fn cpu_with_waited(pid: u32) -> Result<Duration> {
    let stat = Process::new(i32::try_from(pid)?)
        .and_then(|process| process.stat())
        .with_context(|| format!("process {pid}"))?;
    let waited = stat.cutime.unsigned_abs() + stat.cstime.unsigned_abs();
    let ticks = (stat.utime + stat.stime + waited) as f64;
    Ok(Duration::from_secs_f64(
        ticks / procfs::ticks_per_second() as f64,
    ))
}

/// Children of a running process now, those of all its threads; none when it is gone.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let numbers = list.split_whitespace().map(str::parse);
            numbers.filter_map(Result::ok).collect::<Vec<u32>>()
        })
        .collect()
}

/// Ends a child: SIGTERM, and SIGKILL when that took longer than `limit`.
///
/// # Errors
/// When it cannot be signalled or waited for, or had to be killed.
pub fn end(child: &mut Child, limit: Duration, look_interval: Duration) -> Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let pidfd = pidfd_open(pid(child)?, PidfdFlags::empty())?;
    pidfd_send_signal(&pidfd, Signal::TERM)?;
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        std::thread::park_timeout(look_interval);
    }
    child.kill()?;
    child.wait()?;
    bail!("a process did not end within {limit:?} of SIGTERM and was killed");
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_tree_is_measured_whole() {
        // The CPU is burnt in a grandchild.
        let script = "sh -c 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done'; echo done";
        let spent = measure(
            Command::new("sh").args(["-c", script]),
            Duration::from_secs(30),
        )
        .unwrap();
        assert_eq!(spent.stdout, b"done\n");
        assert!(spent.cpu > Duration::from_millis(5), "{spent:?}");
        assert!(spent.wall >= spent.cpu / 2);
    }

    #[test]
    fn a_failure_and_a_late_one_are_errors() {
        let failed = measure(
            Command::new("sh").args(["-c", "echo why >&2; exit 3"]),
            Duration::MAX / 4,
        );
        assert!(failed.unwrap_err().to_string().contains("why"));
        let late = measure(
            Command::new("sh").args(["-c", "read x <&1"]),
            Duration::from_millis(20),
        );
        assert!(late.is_err());
    }

    #[test]
    fn a_child_ends_on_sigterm() {
        let mut cat = Command::new("cat");
        let mut child = cat
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // What it says back shows that it is the program by now, with memory of its own.
        child.stdin.as_mut().unwrap().write_all(b"a").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert!(usage(child.id()).unwrap().rss_bytes > 0);
        assert!(children(std::process::id()).contains(&child.id()));
        let tick = Duration::from_millis(1);
        end(&mut child, Duration::from_secs(10), tick).unwrap();
        assert!(child.try_wait().unwrap().is_some());
    }
}
