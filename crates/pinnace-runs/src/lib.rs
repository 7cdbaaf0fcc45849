//! The database of runs: SQLite in one file, and the only room that knows SQL.
//!
//! Every event of every bench client is one row of `events`, kept as it was received; `clients` and
//! `runs` hold what follows from them. [`Store`] is the one writer, fed in batches by the
//! collector; [`Reader`] hands out lists, whole runs and the rows of a person's own query.
//!
//! Invariant: an event is stored at most once, by (run, client, instance, n), and a batch is stored
//! wholly or not at all (WAL, `synchronous=FULL`). A database of a newer schema is refused
//! unchanged; an older one is brought up to date when it is opened.
//!
//! Left to others: where events come from, what figures mean (`pinnace-report`).

mod apply;
mod open;
mod query;
mod reader;

pub use apply::{Applied, Received, Refusal, RunningClient, Store};
pub use open::{OpenError, SCHEMA_VERSION};
pub use query::{QUERY_ROWS_MAX, QueryError};
pub use reader::Reader;

/// Why the database could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite refused: the disk is full, the file damaged, or worse.
    #[error("the run database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A stored event cannot be read any more.
    #[error(
        "the run database holds an event that is no document of this version ({run} {client} {n}): {reason}"
    )]
    BadEvent {
        /// Its run.
        run: String,
        /// Its client.
        client: String,
        /// Its number.
        n: u64,
        /// What the reader said.
        reason: String,
    },
}
