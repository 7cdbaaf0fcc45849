//! Reading: the list of runs, and a run with everything that was reported.
//!
//! Opens its own read-only connection per question; WAL lets that go on beside the writer.

use std::path::{Path, PathBuf};

use pinnace_proto::event::SERVER_INSTANCE;
use pinnace_proto::run::{ClientRecord, ClientState, RunHead, RunRecord, RunState};
use pinnace_proto::{DOCUMENT_VERSION, Event};
use rusqlite::{Connection, Row, params};

use crate::{Error, open};

/// Questions to the database in one file.
#[derive(Clone, Debug)]
pub struct Reader {
    path: PathBuf,
}

const HEAD: &str = "\
    SELECT r.id, r.name, r.solution, r.opened_us, r.finished_us, \
        (SELECT count(*) FROM clients c WHERE c.run = r.id), \
        (SELECT count(*) FROM clients c WHERE c.run = r.id AND c.state = 'lost'), \
        (SELECT coalesce(sum(bytes), 0) FROM clients c WHERE c.run = r.id), \
        (SELECT count(*) FROM events e WHERE e.run = r.id), \
        (SELECT count(*) FROM clients c WHERE c.run = r.id AND c.state = 'running'), \
        (SELECT count(*) FROM clients c WHERE c.run = r.id \
            AND NOT (c.state = 'stopped' AND c.stop_reason = 'completed')) \
    FROM runs r";

impl Reader {
    /// For the database in `path`, which a [`crate::Store`] has opened before.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    pub(crate) fn connect(&self) -> Result<Connection, rusqlite::Error> {
        open::for_reading(&self.path)
    }

    /// All runs, the newest first.
    pub fn list(&self) -> Result<Vec<RunHead>, Error> {
        let connection = self.connect()?;
        let mut statement =
            connection.prepare(&format!("{HEAD} ORDER BY r.opened_us DESC, r.id DESC"))?;
        let heads = statement.query_map([], read_head)?;
        Ok(heads.collect::<Result<_, _>>()?)
    }

    /// One run with all its events; `None` when there is none of that id.
    pub fn load(&self, run: &str) -> Result<Option<RunRecord>, Error> {
        let mut connection = self.connect()?;
        // One transaction, so that head, clients and events are of one moment.
        let moment = connection.transaction()?;
        let Some(head) = moment
            .prepare(&format!("{HEAD} WHERE r.id = ?1"))?
            .query_map([run], read_head)?
            .next()
            .transpose()?
        else {
            return Ok(None);
        };
        let mut clients = Vec::new();
        let mut statement = moment.prepare(
            "SELECT client, state, last_heard_us FROM clients WHERE run = ?1 ORDER BY client",
        )?;
        let mut rows = statement.query([run])?;
        while let Some(row) = rows.next()? {
            let client: String = row.get(0)?;
            let state: String = row.get(1)?;
            let events = events_of(&moment, run, &client)?;
            clients.push(ClientRecord {
                state: match state.as_str() {
                    "running" => ClientState::Running,
                    "stopped" => ClientState::Stopped,
                    _ => ClientState::Lost,
                },
                last_heard_us: row.get::<_, i64>(2)? as u64,
                events,
                client,
            });
        }
        Ok(Some(RunRecord {
            v: DOCUMENT_VERSION,
            run: head,
            clients,
        }))
    }

    /// True when a client ever started in `run`.
    pub fn exists(&self, run: &str) -> Result<bool, Error> {
        let connection = self.connect()?;
        let mut statement = connection.prepare("SELECT 1 FROM runs WHERE id = ?1")?;
        Ok(statement.exists([run])?)
    }

    /// The instance that takes part in `run` as `client`, if one ever started.
    pub fn instance_of(&self, run: &str, client: &str) -> Result<Option<String>, Error> {
        let connection = self.connect()?;
        let mut statement =
            connection.prepare("SELECT instance FROM clients WHERE run = ?1 AND client = ?2")?;
        Ok(statement
            .query_map(params![run, client], |row| row.get(0))?
            .next()
            .transpose()?)
    }
}

fn read_head(row: &Row<'_>) -> Result<RunHead, rusqlite::Error> {
    let (running, not_completed): (u32, u32) = (row.get(9)?, row.get(10)?);
    Ok(RunHead {
        id: row.get(0)?,
        name: row.get(1)?,
        solution: row.get(2)?,
        state: match (running, not_completed) {
            (0, 0) => RunState::Complete,
            (0, _) => RunState::Partial,
            _ => RunState::Running,
        },
        opened_us: row.get::<_, i64>(3)? as u64,
        finished_us: row.get::<_, Option<i64>>(4)?.map(|us| us as u64),
        clients: row.get(5)?,
        clients_lost: row.get(6)?,
        bytes: row.get::<_, i64>(7)? as u64,
        events: row.get::<_, i64>(8)? as u64,
    })
}

fn events_of(connection: &Connection, run: &str, client: &str) -> Result<Vec<Event>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT document, n FROM events WHERE run = ?1 AND client = ?2 \
         ORDER BY instance = ?3, n",
    )?;
    let mut rows = statement.query(params![run, client, SERVER_INSTANCE])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let document: String = row.get(0)?;
        events.push(
            serde_json::from_str(&document).map_err(|error| Error::BadEvent {
                run: run.to_owned(),
                client: client.to_owned(),
                n: row.get::<_, i64>(1).unwrap_or(0) as u64,
                reason: error.to_string(),
            })?,
        );
    }
    Ok(events)
}
