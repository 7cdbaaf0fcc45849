//! Facts about the machine a result was measured on: what matters for reading it, and nothing that
//! names the machine or its owner.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// CPU model.
    pub cpu: String,
    /// CPUs this process may use.
    pub cpus: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// File system under test: type and mount options.
    pub file_system: String,
    /// Average number of runnable tasks over the minute before: other work on the machine.
    pub load_before: f64,
}

impl Machine {
    /// Facts of this machine, with the file system that holds `path`.
    pub fn here(path: &Path) -> Self {
        let system = rustix::system::sysinfo();
        let uname = rustix::system::uname();
        Self {
            cpu: cpu_model().unwrap_or_else(|| "unknown".to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: system.totalram as u64 * u64::from(system.mem_unit),
            kernel: uname.release().to_string_lossy().into_owned(),
            file_system: file_system(path).unwrap_or_else(|| "unknown".to_owned()),
            load_before: system.loads[0] as f64 / 65_536.0,
        }
    }

    /// One line for the head of a result.
    pub fn line(&self) -> String {
        format!(
            "{} × {}, {:.0} GiB, kernel {}, {}; load before: {:.2}",
            self.cpus,
            self.cpu,
            self.memory_bytes as f64 / (1u64 << 30) as f64,
            self.kernel,
            self.file_system,
            self.load_before
        )
    }
}

fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Type and options of the mount with the longest path that holds `path`.
fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let text = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = text.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?, words.next()?))
    });
    let (_, kind, options) = fields
        .filter(|(point, ..)| path.starts_with(point))
        .max_by_key(|(point, ..)| point.len())?;
    Some(format!("{kind} ({options})"))
}

/// First line of what `program --version` says.
pub fn version_of(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    output.ok().map_or_else(
        || "unknown".to_owned(),
        |output| {
            let text = String::from_utf8_lossy(&output.stdout);
            text.lines().next().unwrap_or("unknown").to_owned()
        },
    )
}
