//! The collector: bench events from its queue into the run database, and what follows from them.
//!
//! One thread owns the database's writing end and a closed list of commands. An event is stored
//! before it is consumed from the queue, and the database drops what it has already, so a server
//! killed in between loses and doubles nothing. That a client is lost is itself an event: published,
//! queued and stored like any other.

mod read;
mod session_report;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::event::{
    BenchIdentity, Body, Event, Finished, Lost, LostReason, SERVER_INSTANCE,
};
use pinnace_runs::{Received, RunningClient, Store};
use tokio::sync::oneshot;

use crate::clock::now_us;
use crate::harbour::Harbour;
use crate::limits::COLLECT_EVENTS_MAX;
use session_report::SessionReport;
use watch::Watches;

/// What the collector's queue is subscribed to.
pub(crate) const PATTERN: &[u8] = b"pinnace.bench.>";
/// Its name; reserved, so that nobody fetches from it over HTTP.
pub(crate) const NAME: &str = "-collector";
/// Between tries while the database cannot be written.
const RETRY: Duration = Duration::from_secs(1);

/// What the collector is asked.
pub(crate) enum Command {
    /// A message waits in the queue.
    Wake,
    /// A client wants to take part in a run.
    Join {
        bench: BenchIdentity,
        connection: u64,
        heartbeat_us: u64,
        /// True when it is the first of its run.
        answer: oneshot::Sender<Result<bool, JoinRefused>>,
    },
    /// A connection that had joined a run closed.
    Left {
        bench: BenchIdentity,
        connection: u64,
    },
    /// Remove a run; false when there is none.
    Remove {
        run: String,
        answer: oneshot::Sender<Result<bool, String>>,
    },
    /// Store what waits, write the report, end.
    Stop,
}

/// Why a client may not join.
pub(crate) enum JoinRefused {
    /// Another process has that name in the run.
    NameTaken,
    /// The database could not be asked.
    Failed(String),
}

pub(crate) struct Collector {
    harbour: Arc<Harbour>,
    store: Store,
    commands: mpsc::Receiver<Command>,
    watches: Watches,
    report: SessionReport,
}

impl Collector {
    pub(crate) fn new(
        harbour: Arc<Harbour>,
        store: Store,
        commands: mpsc::Receiver<Command>,
        report: Option<PathBuf>,
    ) -> Self {
        Self {
            harbour,
            store,
            commands,
            watches: Watches::default(),
            report: SessionReport::new(report),
        }
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self) {
        self.resume();
        let mut armed = false;
        loop {
            let stored = self.drain();
            if stored && !armed {
                armed = self.arm();
            }
            let patience = if stored {
                self.watches.patience()
            } else {
                RETRY
            };
            match self.commands.recv_timeout(patience) {
                Ok(Command::Wake) => armed = false,
                Ok(Command::Join {
                    bench,
                    connection,
                    heartbeat_us,
                    answer,
                }) => {
                    // The asker may be gone; then nobody is refused or let in.
                    let _ = answer.send(self.join(bench, connection, heartbeat_us));
                }
                Ok(Command::Left { bench, connection }) => {
                    // Its stop event was synced before it closed, so it is in the queue by now.
                    self.drain();
                    if self.watches.left(&bench, connection) {
                        self.give_up(&bench, LostReason::Connection);
                    }
                }
                Ok(Command::Remove { run, answer }) => {
                    self.watches.forget_run(&run);
                    let _ = answer.send(self.store.remove(&run).map_err(|e| e.to_string()));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    for bench in self.watches.overdue(Instant::now()) {
                        self.give_up(&bench, LostReason::Heartbeats);
                    }
                }
                Ok(Command::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        self.drain();
        self.report.write(&self.harbour.runs);
    }

    /// Clients that were at work when the last server ended have three heartbeats to come back.
    fn resume(&mut self) {
        match self.store.running_clients() {
            Ok(clients) => clients
                .into_iter()
                .for_each(|client| self.watch_again(client)),
            Err(error) => tracing::error!(%error, "cannot read who was at work"),
        }
    }

    fn watch_again(&mut self, client: RunningClient) {
        let RunningClient {
            run,
            client,
            instance,
            last_heard_us,
            heartbeat_us,
        } = client;
        tracing::info!(
            run,
            client,
            "was at work when the server ended; waiting for it"
        );
        let bench = BenchIdentity {
            run,
            client,
            instance,
        };
        self.watches
            .heard(&bench, last_heard_us, heartbeat_us, Instant::now());
    }

    fn arm(&self) -> bool {
        let wake = self.harbour.collector.clone();
        let wake = Box::new(move || drop(wake.send(Command::Wake)));
        match self.harbour.broker.notify(PATTERN, NAME, wake) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%error, "the collector's queue is gone; bench events are not stored");
                false
            }
        }
    }

    /// Stores all that waits; false when the database refused and it is to be tried again.
    fn drain(&mut self) -> bool {
        loop {
            let waiting = match self.harbour.broker.peek(PATTERN, NAME, COLLECT_EVENTS_MAX) {
                Ok(waiting) => waiting,
                Err(error) => {
                    tracing::error!(%error, "cannot read the collector's queue");
                    return true;
                }
            };
            let Some(last) = waiting.through_seq else {
                return true;
            };
            let batch: Vec<Received> = waiting
                .messages
                .into_iter()
                .filter_map(read::event)
                .collect();
            if let Err(error) = self.store_batch(&batch) {
                tracing::error!(%error, "bench events cannot be stored; they wait in the queue");
                return false;
            }
            let consumed = self
                .harbour
                .broker
                .consume(PATTERN, NAME, last, Box::new(|_| {}));
            if let Err(error) = consumed {
                tracing::error!(%error, "cannot consume from the collector's queue");
                return false;
            }
        }
    }

    fn store_batch(&mut self, batch: &[Received]) -> Result<(), pinnace_runs::Error> {
        let applied = self.store.apply(batch)?;
        for refusal in &applied.refused {
            let pinnace_runs::Refusal {
                run,
                client,
                reason,
            } = refusal;
            tracing::warn!(run, client, reason, "bench event refused");
        }
        let refused = |event: &Event| {
            applied
                .refused
                .iter()
                .any(|r| r.run == event.run && r.client == event.client)
        };
        let now = Instant::now();
        for received in batch.iter().filter(|received| !refused(&received.event)) {
            read::log(&received.event);
            self.report.saw(&received.event.run);
            self.follow(received, now);
        }
        for run in applied.finished {
            self.finished(&run);
        }
        Ok(())
    }

    /// Keeps watch over who is at work.
    fn follow(&mut self, received: &Received, now: Instant) {
        let event = &received.event;
        let bench = BenchIdentity {
            run: event.run.clone(),
            client: event.client.clone(),
            instance: event.instance.clone(),
        };
        match &event.body {
            Body::Stopped(_) | Body::Lost(_) => self.watches.ended(&bench),
            Body::Started(started) => {
                self.watches
                    .heard(&bench, received.received_us, started.job.heartbeat_us, now);
            }
            _ => self.watches.heard_again(&bench, received.received_us, now),
        }
    }

    fn join(
        &mut self,
        bench: BenchIdentity,
        connection: u64,
        heartbeat_us: u64,
    ) -> Result<bool, JoinRefused> {
        let failed = |error: pinnace_runs::Error| JoinRefused::Failed(error.to_string());
        let stored = self
            .harbour
            .runs
            .instance_of(&bench.run, &bench.client)
            .map_err(failed)?;
        let joined = self.watches.instance_of(&bench.run, &bench.client);
        let other = |instance: String| instance != bench.instance;
        if stored.is_some_and(other) || joined.is_some_and(other) {
            return Err(JoinRefused::NameTaken);
        }
        let opened = !self.harbour.runs.exists(&bench.run).map_err(failed)?;
        tracing::info!(run = bench.run, client = bench.client, connection, "joined");
        self.watches
            .joined(bench, connection, heartbeat_us, now_us(), Instant::now());
        Ok(opened)
    }

    /// Publishes that a client is lost, if it ever started; the event comes back through the queue.
    fn give_up(&mut self, bench: &BenchIdentity, reason: LostReason) {
        let Some(last_heard_us) = self.watches.give_up(bench) else {
            return;
        };
        let running = self.store.running_clients();
        let still_running = running.is_ok_and(|running| {
            running
                .iter()
                .any(|c| c.run == bench.run && c.client == bench.client)
        });
        if !still_running {
            return;
        }
        let n = match self.store.next_server_event(&bench.run, &bench.client) {
            Ok(n) => n,
            Err(error) => return tracing::error!(%error, "cannot number a lost event"),
        };
        let event = Event {
            v: DOCUMENT_VERSION,
            run: bench.run.clone(),
            client: bench.client.clone(),
            instance: SERVER_INSTANCE.to_owned(),
            n,
            at_us: now_us(),
            elapsed_us: 0,
            body: Body::Lost(Lost {
                reason,
                last_heard_us,
            }),
        };
        self.harbour.publish(&event.topic(), &event);
    }

    fn finished(&mut self, run: &str) {
        let record = match self.harbour.runs.load(run) {
            Ok(Some(record)) => record,
            Ok(None) => return,
            Err(error) => return tracing::error!(%error, run, "cannot read a finished run"),
        };
        let summary = pinnace_report::summarize(&record);
        let clients_lost = record.run.clients_lost;
        let finished = Finished {
            v: DOCUMENT_VERSION,
            run: run.to_owned(),
            at_us: now_us(),
            clients_stopped: record.run.clients - clients_lost,
            clients_lost,
            coverage: summary.coverage.share.unwrap_or(0.0),
        };
        tracing::info!(
            run,
            state = record.run.state.name(),
            clients = record.run.clients,
            clients_lost,
            bytes = record.run.bytes,
            coverage = finished.coverage,
            "run finished"
        );
        self.harbour
            .publish(&format!("pinnace.bench.{run}.finished"), &finished);
        self.report.write(&self.harbour.runs);
    }
}
