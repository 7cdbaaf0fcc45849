//! What a warning is: a stable code for programs, a grade, and a sentence for people.
//!
//! Invariant: a code keeps its name and meaning for good; the sentence may improve.
//!
//! Left to others: when a warning is due (`judge`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something to know before believing a run's figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// What it is about.
    pub code: WarningCode,
    /// How much it matters.
    pub grade: Grade,
    /// The clients it concerns; empty when it concerns the run.
    pub clients: Vec<String>,
    /// One or two plain sentences.
    pub message: String,
}

/// How much a warning matters.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Figures are missing or wrong.
    Serious,
    /// Figures are right but may mislead.
    Caution,
    /// Context for comparing.
    Note,
}

impl Grade {
    /// The word for lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serious => "serious",
            Self::Caution => "caution",
            Self::Note => "note",
        }
    }
}

/// What a warning is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// Nothing was written or nothing was reported.
    NoData,
    /// A client was given up.
    ClientLost,
    /// A client was interrupted.
    Interrupted,
    /// A client ran out of space.
    DiskFull,
    /// Every worker of a client failed.
    ClientFailed,
    /// Errors were reported.
    ErrorsSeen,
    /// Less than 95 % of the planned client-seconds was reported.
    CoverageLow,
    /// Samples and final words do not add up to the same.
    TotalsDiffer,
    /// Samples are missing from the middle of a client's run.
    SamplesMissing,
    /// A worker did not roll over as often as promised.
    RolloversMissed,
    /// Workers did not answer heartbeats, or heartbeats did not come.
    HeartbeatsMissed,
    /// A client was started more than once.
    ClientRestarted,
    /// Events were doubled or impossible.
    OddEvents,
    /// A client's clock was set while it ran, or does not fit the server's.
    ClockStepped,
    /// The null engine was in use: nothing reached a disk.
    NullEngine,
    /// The files are in memory.
    MemoryFileSystem,
    /// Writes went to the page cache.
    PageCache,
    /// A worker was limited by its CPU.
    CpuBound,
    /// Clients started at different times.
    StartSkew,
    /// Several workers of a host write to one device.
    SharedDevice,
    /// Too few operations for the highest percentiles.
    FewOperations,
    /// The run was forced although its prediction said no.
    Forced,
    /// Clients had different jobs.
    JobsDiffer,
    /// Clients had different kernels or versions of Pinnace.
    SystemsDiffer,
    /// Clients wrote to different file systems.
    FileSystemsDiffer,
}

impl WarningCode {
    /// The code as it stands in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoData => "no_data",
            Self::ClientLost => "client_lost",
            Self::Interrupted => "interrupted",
            Self::DiskFull => "disk_full",
            Self::ClientFailed => "client_failed",
            Self::ErrorsSeen => "errors_seen",
            Self::CoverageLow => "coverage_low",
            Self::TotalsDiffer => "totals_differ",
            Self::SamplesMissing => "samples_missing",
            Self::RolloversMissed => "rollovers_missed",
            Self::HeartbeatsMissed => "heartbeats_missed",
            Self::ClientRestarted => "client_restarted",
            Self::OddEvents => "odd_events",
            Self::ClockStepped => "clock_stepped",
            Self::NullEngine => "null_engine",
            Self::MemoryFileSystem => "memory_file_system",
            Self::PageCache => "page_cache",
            Self::CpuBound => "cpu_bound",
            Self::StartSkew => "start_skew",
            Self::SharedDevice => "shared_device",
            Self::FewOperations => "few_operations",
            Self::Forced => "forced",
            Self::JobsDiffer => "jobs_differ",
            Self::SystemsDiffer => "systems_differ",
            Self::FileSystemsDiffer => "file_systems_differ",
        }
    }

    /// How much it matters.
    pub fn grade(self) -> Grade {
        match self {
            Self::NoData
            | Self::ClientLost
            | Self::Interrupted
            | Self::DiskFull
            | Self::ClientFailed
            | Self::ErrorsSeen
            | Self::CoverageLow
            | Self::TotalsDiffer
            | Self::SamplesMissing
            | Self::RolloversMissed => Grade::Serious,
            Self::HeartbeatsMissed
            | Self::ClientRestarted
            | Self::OddEvents
            | Self::ClockStepped
            | Self::NullEngine
            | Self::MemoryFileSystem
            | Self::PageCache
            | Self::CpuBound
            | Self::StartSkew => Grade::Caution,
            Self::SharedDevice
            | Self::FewOperations
            | Self::Forced
            | Self::JobsDiffer
            | Self::SystemsDiffer
            | Self::FileSystemsDiffer => Grade::Note,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codes_name_is_its_json() {
        for code in [
            WarningCode::NoData,
            WarningCode::CpuBound,
            WarningCode::FileSystemsDiffer,
            WarningCode::RolloversMissed,
        ] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        }
    }
}
