//! Who is at work and when each was last heard: decides who is overdue.
//!
//! Time comes in as a value; monotonic for decisions, wall clock only to be shown.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pinnace_proto::event::BenchIdentity;

use crate::limits::HEARTBEATS_MISSED_MAX;

/// With nobody at work the collector only wakes for commands.
const LONG: Duration = Duration::from_secs(3_600);

#[derive(Default)]
pub(super) struct Watches {
    clients: HashMap<(String, String), Watch>,
}

struct Watch {
    instance: String,
    connection: Option<u64>,
    heard: Instant,
    heard_us: u64,
    heartbeat: Duration,
    /// It started and has not ended or been given up.
    at_work: bool,
}

impl Watch {
    fn deadline(&self) -> Instant {
        self.heard + self.heartbeat * HEARTBEATS_MISSED_MAX
    }
}

fn key(bench: &BenchIdentity) -> (String, String) {
    (bench.run.clone(), bench.client.clone())
}

impl Watches {
    /// A client said hello on a connection, before it starts or when it is back.
    pub(super) fn joined(
        &mut self,
        bench: BenchIdentity,
        connection: u64,
        heartbeat_us: u64,
        now_us: u64,
        now: Instant,
    ) {
        let watch = self.clients.entry(key(&bench)).or_insert_with(|| Watch {
            instance: bench.instance,
            connection: None,
            heard: now,
            heard_us: now_us,
            heartbeat: Duration::from_micros(heartbeat_us),
            at_work: false,
        });
        watch.connection = Some(connection);
        watch.heard = now;
    }

    /// A client started, or was at work when the server came up.
    pub(super) fn heard(
        &mut self,
        bench: &BenchIdentity,
        heard_us: u64,
        heartbeat_us: u64,
        now: Instant,
    ) {
        let watch = self.clients.entry(key(bench)).or_insert_with(|| Watch {
            instance: bench.instance.clone(),
            connection: None,
            heard: now,
            heard_us,
            heartbeat: Duration::from_micros(heartbeat_us),
            at_work: true,
        });
        watch.heartbeat = Duration::from_micros(heartbeat_us);
        (watch.at_work, watch.heard, watch.heard_us) = (true, now, heard_us);
    }

    /// Any other event of a client: it lives (again).
    pub(super) fn heard_again(&mut self, bench: &BenchIdentity, heard_us: u64, now: Instant) {
        if let Some(watch) = self.clients.get_mut(&key(bench)) {
            (watch.at_work, watch.heard, watch.heard_us) = (true, now, heard_us);
        }
    }

    /// A client gave its final word or was given up.
    pub(super) fn ended(&mut self, bench: &BenchIdentity) {
        if let Some(watch) = self.clients.get_mut(&key(bench)) {
            watch.at_work = false;
        }
    }

    /// A connection closed; true when it was the client's last known one.
    pub(super) fn left(&mut self, bench: &BenchIdentity, connection: u64) -> bool {
        let key = key(bench);
        let Some(watch) = self.clients.get_mut(&key) else {
            return false;
        };
        if watch.instance != bench.instance || watch.connection != Some(connection) {
            return false;
        }
        watch.connection = None;
        if !watch.at_work {
            self.clients.remove(&key);
            return false;
        }
        true
    }

    /// Stops watching a client and says when it was last heard; `None` when it was not at work.
    pub(super) fn give_up(&mut self, bench: &BenchIdentity) -> Option<u64> {
        let watch = self
            .clients
            .get_mut(&key(bench))
            .filter(|watch| watch.at_work)?;
        watch.at_work = false;
        Some(watch.heard_us)
    }

    /// Drops everyone of a run.
    pub(super) fn forget_run(&mut self, run: &str) {
        self.clients.retain(|(of, _), _| of != run);
    }

    /// The process that is known under a name in a run.
    pub(super) fn instance_of(&self, run: &str, client: &str) -> Option<String> {
        let watch = self.clients.get(&(run.to_owned(), client.to_owned()))?;
        Some(watch.instance.clone())
    }

    /// Those who missed too many heartbeats.
    pub(super) fn overdue(&self, now: Instant) -> Vec<BenchIdentity> {
        let overdue = self
            .clients
            .iter()
            .filter(|(_, w)| w.at_work && w.deadline() <= now);
        overdue
            .map(|((run, client), watch)| BenchIdentity {
                run: run.clone(),
                client: client.clone(),
                instance: watch.instance.clone(),
            })
            .collect()
    }

    /// How long nothing can become overdue.
    pub(super) fn patience(&self) -> Duration {
        let deadlines = self
            .clients
            .values()
            .filter(|w| w.at_work)
            .map(Watch::deadline);
        deadlines.min().map_or(LONG, |first| {
            first.saturating_duration_since(Instant::now())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(instance: &str) -> BenchIdentity {
        BenchIdentity {
            run: "r".into(),
            client: "c".into(),
            instance: instance.into(),
        }
    }

    const HEARTBEAT_US: u64 = 5_000_000;
    const HEARTBEAT: Duration = Duration::from_micros(HEARTBEAT_US);

    #[test]
    fn three_missed_heartbeats_and_not_one_less() {
        let (mut watches, start) = (Watches::default(), Instant::now());
        watches.heard(&bench("i"), 1, HEARTBEAT_US, start);
        let almost = start + HEARTBEAT * 3 - Duration::from_micros(1);
        assert!(watches.overdue(almost).is_empty());
        watches.heard_again(&bench("i"), 2, almost);
        assert!(watches.overdue(start + HEARTBEAT * 3).is_empty());
        assert_eq!(watches.overdue(almost + HEARTBEAT * 3), [bench("i")]);
        assert_eq!(watches.give_up(&bench("i")), Some(2));
        assert_eq!(watches.give_up(&bench("i")), None);
        assert!(watches.overdue(almost + HEARTBEAT * 9).is_empty());
    }

    #[test]
    fn only_the_last_connection_of_a_client_at_work_counts() {
        let (mut watches, now) = (Watches::default(), Instant::now());
        watches.joined(bench("i"), 7, HEARTBEAT_US, 0, now);
        assert!(!watches.left(&bench("i"), 7), "it had not started");
        watches.joined(bench("i"), 8, HEARTBEAT_US, 0, now);
        watches.heard(&bench("i"), 1, HEARTBEAT_US, now);
        watches.joined(bench("i"), 9, HEARTBEAT_US, 0, now);
        assert!(!watches.left(&bench("i"), 8), "it has a newer connection");
        assert!(!watches.left(&bench("j"), 9), "another process");
        assert!(watches.left(&bench("i"), 9));
        watches.ended(&bench("i"));
        assert_eq!(watches.patience(), LONG);
        assert_eq!(watches.instance_of("r", "c").as_deref(), Some("i"));
        watches.forget_run("r");
        assert_eq!(watches.instance_of("r", "c"), None);
    }
}
