//! Runs of the bench and what is stored of them, as typed calls.
//!
//! Invariant: each call is one request to the HTTP door. Left to others: events of a run, which travel as messages
//! ([`crate::Courier`]).

use pinnace_proto::api::{JoinRequest, Joined, Query, Rows, Runs};
use pinnace_proto::run::RunRecord;

use crate::api::segment;
use crate::{Api, ApiError};

impl Api {
    /// The list of runs.
    pub fn runs(&self) -> Result<Runs, ApiError> {
        self.get("/-/runs")
    }

    /// A run with all its events.
    pub fn run_record(&self, run: &str) -> Result<RunRecord, ApiError> {
        self.get(&format!("/-/runs/{}/record.json", segment(run)))
    }

    /// Removes a run.
    pub fn remove_run(&self, run: &str) -> Result<(), ApiError> {
        self.remove(&format!("/-/runs/{}", segment(run)))
    }

    /// Makes a bench client known to the server.
    pub fn join(&self, run: &str, join: &JoinRequest) -> Result<Joined, ApiError> {
        self.post_json(&format!("/-/runs/{}/clients", segment(run)), join)
    }

    /// One read-only SQL statement.
    pub fn query(&self, sql: &str) -> Result<Rows, ApiError> {
        self.post_json(
            "/-/query",
            &Query {
                sql: sql.to_owned(),
            },
        )
    }
}
