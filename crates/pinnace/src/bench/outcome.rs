//! What is left of a run when its clients are gone: the record, and the exit code it deserves.

use std::collections::BTreeMap;

use pinnace_proto::event::{Body, StopReason};
use pinnace_proto::run::{ClientRecord, ClientState, RunHead, RunRecord, RunState};
use pinnace_proto::{DOCUMENT_VERSION, Event};

use crate::failure::{DONE, FAILED, PARTIAL, UNSAFE};

/// The events of this invocation's clients, by client.
#[derive(Default)]
pub(crate) struct Outcome {
    events: BTreeMap<String, Vec<Event>>,
}

impl Outcome {
    pub(crate) fn event(&mut self, event: &Event) {
        self.events
            .entry(event.client.clone())
            .or_default()
            .push(event.clone());
    }

    /// True when no client ever began.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The run as far as this machine knows it.
    pub(crate) fn record(&self, run: &str) -> RunRecord {
        let clients: Vec<ClientRecord> = self.events.iter().map(client_record).collect();
        let lost = clients
            .iter()
            .filter(|client| client.state == ClientState::Lost)
            .count();
        let all = || self.events.values().flatten();
        let job = all().find_map(|event| match &event.body {
            Body::Started(started) => Some(&started.job),
            _ => None,
        });
        let complete = self
            .reasons()
            .all(|reason| reason == Some(StopReason::Completed));
        let head = RunHead {
            id: run.to_owned(),
            name: job.map(|job| job.name.clone()).unwrap_or_default(),
            solution: job.map(|job| job.solution.clone()).unwrap_or_default(),
            state: if complete {
                RunState::Complete
            } else {
                RunState::Partial
            },
            opened_us: all().map(|event| event.at_us).min().unwrap_or(0),
            finished_us: all().map(|event| event.at_us).max(),
            clients: clients.len() as u32,
            clients_lost: lost as u32,
            bytes: all().map(bytes_of).sum(),
            events: all().count() as u64,
        };
        RunRecord {
            v: DOCUMENT_VERSION,
            run: head,
            clients,
        }
    }

    /// Why each client stopped; `None` for one that gave no final word.
    fn reasons(&self) -> impl Iterator<Item = Option<StopReason>> {
        self.events.values().map(|events| {
            events.iter().find_map(|event| match &event.body {
                Body::Stopped(stopped) => Some(stopped.reason),
                _ => None,
            })
        })
    }

    /// The exit code: the gravest of what happened to the clients.
    pub(crate) fn code(&self) -> u8 {
        let errors = self
            .events
            .values()
            .flatten()
            .any(|e| matches!(e.body, Body::Error(_)));
        let reasons: Vec<_> = self.reasons().collect();
        if reasons.contains(&Some(StopReason::DiskFull)) {
            UNSAFE
        } else if !reasons.is_empty() && reasons.iter().all(|r| *r == Some(StopReason::Failed)) {
            FAILED
        } else if errors
            || reasons
                .iter()
                .any(|reason| *reason != Some(StopReason::Completed))
        {
            PARTIAL
        } else {
            DONE
        }
    }
}

fn client_record((client, events): (&String, &Vec<Event>)) -> ClientRecord {
    let stopped = events
        .iter()
        .any(|event| matches!(event.body, Body::Stopped(_)));
    ClientRecord {
        client: client.clone(),
        state: if stopped {
            ClientState::Stopped
        } else {
            ClientState::Lost
        },
        last_heard_us: events.iter().map(|event| event.at_us).max().unwrap_or(0),
        events: events.clone(),
    }
}

fn bytes_of(event: &Event) -> u64 {
    match &event.body {
        Body::Sample(sample) => sample.workers.iter().map(|worker| worker.bytes).sum(),
        _ => 0,
    }
}
