//! The one writer: a batch of events into one transaction.
//!
//! Invariant: applying the same events again changes nothing, so a collector that crashed between
//! this commit and its own acknowledgement may simply repeat the batch.

use std::path::Path;

use pinnace_proto::Event;
use pinnace_proto::event::{Body, SERVER_INSTANCE, StopReason, Stopped};
use pinnace_proto::job::Job;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::Error;
use crate::open::{self, OpenError};

/// The writing end of the database. There is one.
pub struct Store {
    connection: Connection,
}

/// An event as it came out of the queue.
#[derive(Clone, Debug)]
pub struct Received {
    /// When the server stored it, microseconds since 1970.
    pub received_us: u64,
    /// The event.
    pub event: Event,
    /// The document as received, with fields this version does not know.
    pub document: String,
}

/// What a batch did.
#[derive(Debug, Default)]
pub struct Applied {
    /// Events that are now stored and were not before.
    pub stored: u64,
    /// Events that were there already.
    pub duplicates: u64,
    /// Events that were not stored, and why.
    pub refused: Vec<Refusal>,
    /// Runs in which no client is at work any more as of this batch.
    pub finished: Vec<String>,
}

/// An event that was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The run it named.
    pub run: String,
    /// The client it named.
    pub client: String,
    /// One sentence.
    pub reason: String,
}

/// A client that started and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningClient {
    /// Its run.
    pub run: String,
    /// Its name.
    pub client: String,
    /// Which process of that name.
    pub instance: String,
    /// When it was last heard, microseconds since 1970.
    pub last_heard_us: u64,
    /// Time between its heartbeats, microseconds.
    pub heartbeat_us: u64,
}

enum Step {
    Stored { ended: bool },
    Duplicate,
    Refused(String),
}

impl Store {
    /// Opens or makes the database in `path`.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            connection: open::for_writing(path)?,
        })
    }

    /// Stores a batch in one synced transaction.
    pub fn apply(&mut self, batch: &[Received]) -> Result<Applied, Error> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut applied = Applied::default();
        let mut ended_runs = Vec::new();
        for received in batch {
            match apply_one(&transaction, received)? {
                Step::Duplicate => applied.duplicates += 1,
                Step::Refused(reason) => applied.refused.push(Refusal {
                    run: received.event.run.clone(),
                    client: received.event.client.clone(),
                    reason,
                }),
                Step::Stored { ended } => {
                    applied.stored += 1;
                    if ended && !ended_runs.contains(&received.event.run) {
                        ended_runs.push(received.event.run.clone());
                    }
                }
            }
        }
        for run in ended_runs {
            if finish_if_idle(&transaction, &run)? {
                applied.finished.push(run);
            }
        }
        transaction.commit()?;
        Ok(applied)
    }

    /// Every client that has started and not ended, in any run.
    pub fn running_clients(&self) -> Result<Vec<RunningClient>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT run, client, instance, last_heard_us, heartbeat_us FROM clients \
             WHERE state = 'running'",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(RunningClient {
                run: row.get(0)?,
                client: row.get(1)?,
                instance: row.get(2)?,
                last_heard_us: row.get::<_, i64>(3)? as u64,
                heartbeat_us: row.get::<_, i64>(4)? as u64,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The number the next event of the server about this client gets.
    pub fn next_server_event(&self, run: &str, client: &str) -> Result<u64, Error> {
        let last: Option<i64> = self.connection.query_row(
            "SELECT max(n) FROM events WHERE run = ?1 AND client = ?2 AND instance = ?3",
            params![run, client, SERVER_INSTANCE],
            |row| row.get(0),
        )?;
        Ok(last.map_or(1, |last| last as u64 + 1))
    }

    /// Removes a run with all its events; false when there is none of that id.
    pub fn remove(&mut self, run: &str) -> Result<bool, Error> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("DELETE FROM events WHERE run = ?1", [run])?;
        transaction.execute("DELETE FROM clients WHERE run = ?1", [run])?;
        let removed = transaction.execute("DELETE FROM runs WHERE id = ?1", [run])?;
        transaction.commit()?;
        Ok(removed > 0)
    }
}

fn apply_one(transaction: &Transaction<'_>, received: &Received) -> Result<Step, Error> {
    let event = &received.event;
    let known: Option<(String, String)> = transaction
        .prepare_cached("SELECT instance, state FROM clients WHERE run = ?1 AND client = ?2")?
        .query_row(params![event.run, event.client], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let by_server = event.instance == SERVER_INSTANCE;
    match &known {
        None if !matches!(event.body, Body::Started(_)) => {
            return Ok(Step::Refused(
                "the client never started in this run".to_owned(),
            ));
        }
        Some((instance, _)) if !by_server && *instance != event.instance => {
            return Ok(Step::Refused(format!(
                "another process with this client's name takes part in the run \
                 (instance {instance}, not {})",
                event.instance
            )));
        }
        // The client ended or came back while the server was giving it up.
        Some((_, state)) if by_server && state != "running" => return Ok(Step::Duplicate),
        _ => {}
    }
    let inserted = transaction
        .prepare_cached("INSERT OR IGNORE INTO events VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)")?
        .execute(params![
            event.run,
            event.client,
            event.instance,
            event.n as i64,
            event.body.kind(),
            received.received_us as i64,
            event.at_us as i64,
            event.elapsed_us as i64,
            received.document,
        ])?;
    if inserted == 0 {
        return Ok(Step::Duplicate);
    }
    follow(transaction, received, known.map(|(_, state)| state))
}

/// Brings `runs` and `clients` up to what the event says.
fn follow(
    transaction: &Transaction<'_>,
    received: &Received,
    state: Option<String>,
) -> Result<Step, Error> {
    let event = &received.event;
    let mut ended = false;
    match &event.body {
        Body::Started(started) => {
            open_run(transaction, received, &started.job)?;
            return Ok(Step::Stored { ended });
        }
        Body::Stopped(stopped) => {
            ended = true;
            set_state(transaction, event, "stopped", Some(reason_name(stopped)))?;
            set_bytes(transaction, event, stopped)?;
        }
        Body::Lost(_) => {
            ended = true;
            set_state(transaction, event, "lost", None)?;
        }
        Body::Sample(sample) => {
            let bytes: u64 = sample.workers.iter().map(|worker| worker.bytes).sum();
            transaction
                .prepare_cached(
                    "UPDATE clients SET bytes = bytes + ?3 WHERE run = ?1 AND client = ?2",
                )?
                .execute(params![event.run, event.client, bytes as i64])?;
        }
        Body::Heartbeat(_) | Body::Resources(_) | Body::Rollover(_) | Body::Error(_) => {}
    }
    if !ended && state.as_deref() == Some("lost") {
        // It was given up and is back: what it spooled meanwhile is arriving.
        set_state(transaction, event, "running", None)?;
        transaction.execute(
            "UPDATE runs SET finished_us = NULL WHERE id = ?1",
            [&event.run],
        )?;
    }
    if event.instance != SERVER_INSTANCE {
        transaction
            .prepare_cached("UPDATE clients SET last_heard_us = ?3 WHERE run = ?1 AND client = ?2")?
            .execute(params![
                event.run,
                event.client,
                received.received_us as i64
            ])?;
    }
    Ok(Step::Stored { ended })
}

fn open_run(transaction: &Transaction<'_>, received: &Received, job: &Job) -> Result<(), Error> {
    let Received {
        event, received_us, ..
    } = received;
    transaction
        .prepare_cached(
            "INSERT INTO runs VALUES (?1, ?2, ?3, ?4, NULL) \
             ON CONFLICT (id) DO UPDATE SET finished_us = NULL",
        )?
        .execute(params![
            event.run,
            job.name,
            job.solution,
            *received_us as i64
        ])?;
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO clients VALUES (?1, ?2, ?3, 'running', NULL, ?4, ?5, 0)",
        )?
        .execute(params![
            event.run,
            event.client,
            event.instance,
            *received_us as i64,
            job.heartbeat_us as i64
        ])?;
    Ok(())
}

fn reason_name(stopped: &Stopped) -> &'static str {
    match stopped.reason {
        StopReason::Completed => "completed",
        StopReason::Interrupted => "interrupted",
        StopReason::DiskFull => "disk_full",
        StopReason::Failed => "failed",
    }
}

fn set_state(
    transaction: &Transaction<'_>,
    event: &Event,
    state: &str,
    reason: Option<&str>,
) -> Result<(), Error> {
    transaction
        .prepare_cached(
            "UPDATE clients SET state = ?3, stop_reason = ?4 WHERE run = ?1 AND client = ?2",
        )?
        .execute(params![event.run, event.client, state, reason])?;
    Ok(())
}

fn set_bytes(transaction: &Transaction<'_>, event: &Event, stopped: &Stopped) -> Result<(), Error> {
    let bytes: u64 = stopped.workers.iter().map(|worker| worker.bytes).sum();
    transaction
        .prepare_cached("UPDATE clients SET bytes = ?3 WHERE run = ?1 AND client = ?2")?
        .execute(params![event.run, event.client, bytes as i64])?;
    Ok(())
}

fn finish_if_idle(transaction: &Transaction<'_>, run: &str) -> Result<bool, Error> {
    let changed = transaction
        .prepare_cached(
            "UPDATE runs SET finished_us = (SELECT max(received_us) FROM events WHERE run = ?1) \
             WHERE id = ?1 AND finished_us IS NULL AND NOT EXISTS \
             (SELECT 1 FROM clients WHERE run = ?1 AND state = 'running')",
        )?
        .execute([run])?;
    Ok(changed > 0)
}
