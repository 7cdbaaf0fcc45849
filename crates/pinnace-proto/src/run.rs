//! A run as the database hands it out and reports are made from: its clients and their events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Event;

/// One execution of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// Document version, 1.
    pub v: u32,
    /// Head data of the run.
    pub run: RunHead,
    /// Its clients, by name.
    pub clients: Vec<ClientRecord>,
}

/// The head data of a run: what a list shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunHead {
    /// Its id.
    pub id: String,
    /// The job's name.
    pub name: String,
    /// What was measured.
    pub solution: String,
    /// Where it stands.
    pub state: RunState,
    /// Wall clock of the server at the first event, microseconds since 1970.
    pub opened_us: u64,
    /// Wall clock of the server when the last client ended; `None` while it runs.
    pub finished_us: Option<u64>,
    /// Clients that ever started.
    pub clients: u32,
    /// Clients given up.
    pub clients_lost: u32,
    /// Bytes written, as far as reported.
    pub bytes: u64,
    /// Events stored.
    pub events: u64,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// A client is at work.
    Running,
    /// Every client ran to its end.
    Complete,
    /// A client was lost, interrupted, failed or ran out of disk: figures are kept, coverage says
    /// how much of the plan they are.
    Partial,
}

impl RunState {
    /// The word for lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Partial => "partial",
        }
    }
}

/// One client of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClientRecord {
    /// Its name in the run.
    pub client: String,
    /// Where it stands.
    pub state: ClientState,
    /// Wall clock of the server when it was last heard, microseconds since 1970.
    pub last_heard_us: u64,
    /// All its events in order of `n`; the server's own (`lost`) last.
    pub events: Vec<Event>,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientState {
    /// Started and not ended.
    Running,
    /// Gave its final word.
    Stopped,
    /// Given up by the server.
    Lost,
}

impl ClientState {
    /// The word for lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
        }
    }
}
