//! Facts about this machine and the storage behind a path, read from `/proc`, `/sys` and system
//! calls.
//!
//! Invariant: a fact that could not be read is `None`, never a guess, and never an error; only the
//! size and the room of a path's file system must be had.
//!
//! Left to others: what follows from the facts.

mod mount;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pinnace_proto::host::{HostFacts, PathFacts};
use procfs::{CpuInfo, Current, Meminfo};
use rustix::system::uname;
use rustix::thread::sched_getaffinity;

use mount::Mount;

/// The machine this runs on.
pub fn host_facts() -> HostFacts {
    let uname = uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let memory = Meminfo::current().ok();
    HostFacts {
        hostname: text(uname.nodename()),
        os: fs::read_to_string("/etc/os-release")
            .ok()
            .and_then(|text| os_name(&text)),
        kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
        architecture: text(uname.machine()),
        cpu_model: CpuInfo::current().ok().and_then(|cpu| cpu_model(&cpu)),
        cpus: cpus(),
        memory_bytes: memory.as_ref().map(|memory| memory.mem_total),
        memory_available_bytes: memory.and_then(|memory| memory.mem_available),
        governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        clock_source: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        pinnace: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The storage behind `path`.
///
/// # Errors
/// When the path cannot be resolved or its file system does not tell its size.
pub fn path_facts(path: &Path) -> io::Result<PathFacts> {
    let absolute = fs::canonicalize(path)?;
    let (free_bytes, total_bytes) = space(&absolute)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = Mount::of(&mounts, &absolute);
    let block = mount
        .as_ref()
        .and_then(|mount| BlockDevice::of(&mount.device_number));
    Ok(PathFacts {
        path: absolute.to_string_lossy().into_owned(),
        file_system: mount.as_ref().map(|m| m.file_system.clone()),
        mount_point: mount
            .as_ref()
            .map(|m| m.mount_point.to_string_lossy().into_owned()),
        source: mount.as_ref().map(|m| m.source.clone()),
        mount_options: mount.as_ref().map(|m| m.options.clone()),
        device: block.as_ref().map(|b| b.name.clone()),
        device_model: block.as_ref().and_then(|b| b.read("device/model")),
        scheduler: block
            .as_ref()
            .and_then(|b| b.read("queue/scheduler"))
            .map(|s| in_force(&s)),
        rotational: block
            .as_ref()
            .and_then(|b| b.read("queue/rotational"))
            .map(|s| s == "1"),
        total_bytes,
        free_bytes,
    })
}

/// Free for this user and size of the file system at `path`, bytes.
pub(crate) fn space(path: &Path) -> io::Result<(u64, u64)> {
    let figures = rustix::fs::statvfs(path)?;
    let unit = figures.f_frsize.max(1);
    Ok((
        figures.f_bavail.saturating_mul(unit),
        figures.f_blocks.saturating_mul(unit),
    ))
}

/// Memory that can be had without swapping.
pub(crate) fn memory_available_bytes() -> Option<u64> {
    Meminfo::current().ok()?.mem_available
}

/// One whole block device: the disk, not its partition.
struct BlockDevice {
    name: String,
    folder: PathBuf,
}

impl BlockDevice {
    /// The device with this `major:minor`, or the disk that holds it.
    fn of(number: &str) -> Option<Self> {
        let mut folder = fs::canonicalize(Path::new("/sys/dev/block").join(number)).ok()?;
        if folder.join("partition").exists() {
            folder = folder.parent()?.to_owned();
        }
        let name = folder.file_name()?.to_string_lossy().into_owned();
        Some(Self { name, folder })
    }

    fn read(&self, attribute: &str) -> Option<String> {
        line(self.folder.join(attribute))
    }
}

/// CPUs this process may run on.
fn cpus() -> u32 {
    sched_getaffinity(None).map_or(1, |set| set.count())
}

fn cpu_model(cpu: &CpuInfo) -> Option<String> {
    // ARM kernels give no model name; the field's absence is the fact.
    cpu.model_name(0).map(str::to_owned)
}

/// First line of a small file, if there is one.
fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// The scheduler in brackets: `mq-deadline [none]` is `none`.
fn in_force(schedulers: &str) -> String {
    schedulers
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or(schedulers, |(name, _)| name)
        .to_owned()
}

/// `PRETTY_NAME` of an os-release file.
fn os_name(text: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let name = value.trim().trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        let facts = host_facts();
        assert!(
            !facts.hostname.is_empty() && facts.kernel.starts_with("Linux "),
            "{facts:?}"
        );
        assert!(
            facts.cpus >= 1 && facts.memory_bytes > facts.memory_available_bytes,
            "{facts:?}"
        );
        assert!(!facts.architecture.is_empty() && !facts.pinnace.is_empty());
        assert!(memory_available_bytes().is_some());
    }

    #[test]
    fn a_path_has_a_mount_and_room() {
        let dir = tempfile::tempdir().unwrap();
        let facts = path_facts(dir.path()).unwrap();
        assert!(
            facts.file_system.is_some() && facts.mount_point.is_some(),
            "{facts:?}"
        );
        assert!(
            facts.total_bytes >= facts.free_bytes && facts.free_bytes > 0,
            "{facts:?}"
        );
        assert!(facts.path.starts_with('/'));
        assert!(path_facts(&dir.path().join("none")).is_err());
        let proc = path_facts(Path::new("/proc")).unwrap();
        assert_eq!(proc.file_system.as_deref(), Some("proc"));
        assert_eq!((proc.device, proc.rotational), (None, None));
    }

    #[test]
    fn small_texts_are_read() {
        assert_eq!(in_force("mq-deadline kyber [none]"), "none");
        assert_eq!(in_force("none"), "none");
        assert_eq!(
            os_name("A=1\nPRETTY_NAME=\"Debian 12\"\n").as_deref(),
            Some("Debian 12")
        );
        assert_eq!(os_name("NAME=x"), None);
        assert_eq!(line("/proc/none"), None);
    }
}
