//! The contract: every document that crosses a process boundary, each with a version and a JSON
//! Schema (generated from these types into `docs/schemas/`, pinned by a test).
//!
//! Invariant: a document that was written by version *v* is read by every later version; unknown
//! fields are ignored, unknown versions are refused by the reader.
//!
//! Left to others: how documents travel (doors and `pinnace-client`), how they are stored
//! (`pinnace-runs`) and what follows from them (`pinnace-report`).

pub mod api;
pub mod event;
pub mod histogram;
pub mod host;
pub mod job;
pub mod name;
pub mod openapi;
pub mod run;
pub mod schema;
pub mod sync;
pub mod units;
pub mod upkeep;

pub use event::{Body, Event};
pub use histogram::Histogram;

/// Version of every document in this crate, written as its field `v`.
pub const DOCUMENT_VERSION: u32 = 1;
