//! Opening the database file: pragmas, the schema's number, migrations, refusals.
//!
//! The number lives in `PRAGMA user_version`; migration *k* leads from schema *k* to *k* + 1 and
//! runs in one transaction with the new number.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

/// Each entry leads to the schema of its place, counted from 1.
const MIGRATIONS: [&str; 2] = [include_str!("sql/1.sql"), include_str!("sql/2.sql")];

/// The schema this version writes.
pub const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// How long a reader waits for a checkpoint to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Made by a newer Pinnace.
    #[error(
        "the run database {path} has schema {found}, this version of Pinnace knows up to {known}; \
         use the newer version, or another data folder. Nothing was changed"
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// Not a database, not readable, or no room.
    #[error("the run database {path} cannot be opened: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Opens or makes the database for writing.
pub(crate) fn for_writing(path: &Path) -> Result<Connection, OpenError> {
    let fail = |source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    };
    let mut connection = Connection::open(path).map_err(fail)?;
    let found = version(&connection).map_err(fail)?;
    if found > SCHEMA_VERSION {
        return Err(OpenError::NewerSchema {
            path: path.to_owned(),
            found,
            known: SCHEMA_VERSION,
        });
    }
    prepare(&mut connection, found).map_err(fail)?;
    Ok(connection)
}

/// Opens an existing database for reading only.
pub(crate) fn for_reading(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn version(connection: &Connection) -> Result<u32, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn prepare(connection: &mut Connection, found: u32) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    for (next, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", next)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_schema_is_brought_up_to_date_with_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute("INSERT INTO runs VALUES ('r', 'n', 's', 1, NULL)", [])
            .unwrap();
        drop(old);
        let connection = for_writing(&path).unwrap();
        assert_eq!(version(&connection).unwrap(), SCHEMA_VERSION);
        let rows: u32 = connection
            .query_row(
                "SELECT count(*) FROM runs, (SELECT count(*) FROM samples)",
                [],
                |r| r.get(0),
            )
            .unwrap();
        assert_eq!(rows, 1);
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.db");
        let newer = Connection::open(&path).unwrap();
        newer
            .pragma_update(None, "user_version", SCHEMA_VERSION + 1)
            .unwrap();
        drop(newer);
        let before = std::fs::read(&path).unwrap();
        let error = for_writing(&path).unwrap_err();
        assert!(
            matches!(error, OpenError::NewerSchema { found, .. } if found == SCHEMA_VERSION + 1)
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.db");
        std::fs::write(&path, "this is a text that somebody left here".repeat(50)).unwrap();
        assert!(matches!(for_writing(&path), Err(OpenError::Sqlite { .. })));
    }
}
