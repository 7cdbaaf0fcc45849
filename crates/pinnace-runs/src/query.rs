//! A person's own SQL: one statement, read-only, bounded in rows and time.
//!
//! Invariant: no statement reaches another file or changes this one. The connection is read-only,
//! and attaching is limited to nothing.

use std::time::{Duration, Instant};

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::api::Rows;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use serde_json::Value;

use crate::Reader;

/// Most rows handed out; more are cut and said to be.
pub const QUERY_ROWS_MAX: usize = 10_000;
const QUERY_TIME_MAX: Duration = Duration::from_secs(10);
/// SQLite looks at the clock once per so many steps of its machine.
const STEPS_PER_LOOK: i32 = 10_000;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is wrong, not a read, or took too long.
    #[error("{0}")]
    Refused(String),
    /// The database cannot be read.
    #[error("the run database: {0}")]
    Sqlite(rusqlite::Error),
}

impl Reader {
    /// Runs one read-only statement.
    pub fn query(&self, sql: &str) -> Result<Rows, QueryError> {
        let mut connection = self.connect().map_err(QueryError::Sqlite)?;
        connection
            .set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)
            .map_err(QueryError::Sqlite)?;
        let began = Instant::now();
        connection
            .progress_handler(
                STEPS_PER_LOOK,
                Some(move || began.elapsed() > QUERY_TIME_MAX),
            )
            .map_err(QueryError::Sqlite)?;
        let refused = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => QueryError::Refused(format!(
                "the query took longer than {} s; ask for less",
                QUERY_TIME_MAX.as_secs()
            )),
            Some(rusqlite::ErrorCode::ReadOnly) => {
                QueryError::Refused("a query only reads; this statement would write".to_owned())
            }
            _ => QueryError::Refused(error.to_string()),
        };
        let mut statement = connection.prepare(sql).map_err(refused)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut cursor = statement.query([]).map_err(refused)?;
        let mut rows = Vec::new();
        while let Some(row) = cursor.next().map_err(refused)? {
            if rows.len() == QUERY_ROWS_MAX {
                return Ok(Rows {
                    v: DOCUMENT_VERSION,
                    columns,
                    rows,
                    truncated: true,
                });
            }
            let mut cells = Vec::with_capacity(columns.len());
            for column in 0..columns.len() {
                cells.push(to_json(row.get_ref(column).map_err(refused)?));
            }
            rows.push(cells);
        }
        Ok(Rows {
            v: DOCUMENT_VERSION,
            columns,
            rows,
            truncated: false,
        })
    }
}

fn to_json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        // JSON has no infinity and no NaN; they become null.
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
        ValueRef::Blob(bytes) => format!("<{} bytes>", bytes.len()).into(),
    }
}
