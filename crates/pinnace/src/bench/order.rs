//! What one client is told to do: the document a parent hands to the client process it starts, and
//! the lines that process says back.

use std::path::PathBuf;

use pinnace_proto::Event;
use pinnace_proto::job::Job;
use serde::{Deserialize, Serialize};

/// One client's orders.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What to measure.
    pub(crate) job: Job,
    /// The run to take part in.
    pub(crate) run: String,
    /// The client's name in it.
    pub(crate) client: String,
    /// Which process of that name: random, 16 hex digits.
    pub(crate) instance: String,
    /// The server; `None` keeps everything local.
    pub(crate) server: Option<String>,
    /// Folder of the event logs.
    pub(crate) events: PathBuf,
}

/// What a client process says on its stdout, one a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    clippy::large_enum_variant,
    reason = "a line lives briefly; a box would only cost words"
)]
pub(crate) enum Line {
    /// Checked, connected and calibrated; waits for `go`.
    Ready,
    /// Something happened.
    Event(Event),
    /// It is over.
    Ended(Ended),
    /// It never began, or broke off.
    Failed {
        /// Exit code.
        code: u8,
        /// What was wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

/// How a client ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Events the server has not acknowledged.
    pub(crate) undelivered: u64,
    /// The event log.
    pub(crate) log: PathBuf,
}
