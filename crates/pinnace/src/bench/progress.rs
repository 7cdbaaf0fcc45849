//! What a person sees while a run goes on: one line that changes, or one line now and then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pinnace_proto::Event;
use pinnace_proto::event::Body;
use pinnace_proto::units::{show_duration, show_rate};

use crate::output::Output;

/// Without a terminal to redraw on, a line this often.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) struct Progress<'a> {
    output: &'a Output,
    clients: BTreeMap<String, Client>,
    run_time: Duration,
    last_note: Instant,
}

#[derive(Default)]
struct Client {
    bytes_per_second: f64,
    rollovers: u64,
    elapsed_us: u64,
    ended: bool,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(output: &'a Output, run_time: Duration) -> Self {
        Self {
            output,
            clients: BTreeMap::new(),
            run_time,
            last_note: Instant::now(),
        }
    }

    /// Takes an event into account and shows what changed.
    pub(crate) fn event(&mut self, event: &Event) {
        let client = self.clients.entry(event.client.clone()).or_default();
        client.elapsed_us = event.elapsed_us;
        match &event.body {
            Body::Sample(sample) => {
                let bytes: u64 = sample.workers.iter().map(|worker| worker.bytes).sum();
                let seconds = sample.to_us.saturating_sub(sample.from_us).max(1) as f64 / 1e6;
                client.bytes_per_second = bytes as f64 / seconds;
                self.show();
            }
            Body::Rollover(_) => client.rollovers += 1,
            Body::Stopped(_) => {
                client.ended = true;
                client.bytes_per_second = 0.0;
            }
            Body::Error(error) => {
                let place = error.path.as_deref().unwrap_or("-");
                self.output.note(format!(
                    "{}: {} {place}: {}",
                    event.client, error.operation, error.message
                ));
            }
            Body::Heartbeat(heartbeat) => {
                for worker in heartbeat.workers.iter().filter(|worker| !worker.answered) {
                    self.output.note(format!(
                        "{}: worker {} has not answered for {}",
                        event.client,
                        worker.worker,
                        show_duration(Duration::from_micros(worker.after_us))
                    ));
                }
            }
            Body::Started(_) | Body::Resources(_) | Body::Lost(_) => {}
        }
    }

    fn show(&mut self) {
        if !self.output.is_live() && self.last_note.elapsed() < NOTE_INTERVAL {
            return;
        }
        self.last_note = Instant::now();
        let line = self.line();
        if self.output.is_live() {
            self.output.progress(&line);
        } else {
            self.output.note(line);
        }
    }

    fn line(&self) -> String {
        let elapsed_us = self
            .clients
            .values()
            .map(|client| client.elapsed_us)
            .max()
            .unwrap_or(0);
        let rate: f64 = self
            .clients
            .values()
            .map(|client| client.bytes_per_second)
            .sum();
        let at_work = self.clients.values().filter(|client| !client.ended).count();
        let rollovers: Vec<String> = self
            .clients
            .values()
            .map(|client| client.rollovers.to_string())
            .collect();
        format!(
            "{:>5.1} s of {}  {at_work} of {} clients at work  {}  rollovers {}",
            elapsed_us as f64 / 1e6,
            show_duration(self.run_time),
            self.clients.len(),
            show_rate(rate),
            rollovers.join(" ")
        )
    }
}
