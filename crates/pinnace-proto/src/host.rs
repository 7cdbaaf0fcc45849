//! Facts about the machine and the storage a figure was measured on, gathered at the client before
//! its workers start. A fact that could not be had is `None`, never a guess.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine a client runs on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    /// Host name.
    pub hostname: String,
    /// Operating system's name, such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: Option<String>,
    /// Kernel name and release.
    pub kernel: String,
    /// Machine architecture, such as `x86_64`.
    pub architecture: String,
    /// CPU model.
    pub cpu_model: Option<String>,
    /// CPUs this process may run on.
    pub cpus: u32,
    /// Memory in all, bytes.
    pub memory_bytes: Option<u64>,
    /// Memory available at the start, bytes.
    pub memory_available_bytes: Option<u64>,
    /// Frequency governor of the first CPU.
    pub governor: Option<String>,
    /// Clock source of the kernel.
    pub clock_source: Option<String>,
    /// Version of Pinnace.
    pub pinnace: String,
}

/// The storage behind one worker's path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathFacts {
    /// The path as given, made absolute.
    pub path: String,
    /// File-system type, such as `ext4` or `nfs4`.
    pub file_system: Option<String>,
    /// Where it is mounted.
    pub mount_point: Option<String>,
    /// What is mounted: a device, an export, `tmpfs`.
    pub source: Option<String>,
    /// Mount options, as the kernel shows them.
    pub mount_options: Option<String>,
    /// Block device's name, such as `nvme0n1`; `None` for network and memory file systems.
    pub device: Option<String>,
    /// The device's model.
    pub device_model: Option<String>,
    /// I/O scheduler in force.
    pub scheduler: Option<String>,
    /// True for a spinning disk.
    pub rotational: Option<bool>,
    /// Size of the file system, bytes.
    pub total_bytes: u64,
    /// Free for this user at the start, bytes.
    pub free_bytes: u64,
}
