//! The cases, by name.
//!
//! Invariant: a name says everything about a case but its length: what is done, the payload.

use std::time::Duration;

use anyhow::{Result, ensure};
use peers::load::durable::Store;
use peers::load::flood::Plan;
use peers::load::http::Half;
use peers::load::publisher::Pace;
use peers::load::startup::Stored;
use peers::servers::Broker;

/// Keep-alive connections of the HTTP cases.
pub(crate) const HTTP_CONNECTIONS: usize = 64;
/// Connections of the idle case.
const IDLE_CONNECTIONS: usize = 10_000;
/// Messages a second where latency is the question.
const RATE: f64 = 20_000.0;
/// The same with a hundred subscribers.
const RATE_FAN: f64 = 1_000.0;

/// What a case does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Publish and deliver.
    Live(Plan),
    /// Request and reply with this payload, bytes.
    Request(usize),
    /// So many idle connections.
    Idle(usize),
    /// Durable publishes: payload bytes, and how many are under way.
    Durable((usize, usize)),
    /// Start-up with so much stored, of this payload, bytes.
    Startup(Stored, usize),
    /// Over HTTP, with this payload, bytes.
    Http(Half, usize),
}

impl Work {
    /// Whether `broker` does that.
    pub(crate) fn is_offered(&self, broker: &dyn Broker) -> bool {
        match self {
            Self::Live(_) | Self::Idle(_) => broker.live().is_some(),
            Self::Request(_) => broker
                .live()
                .is_some_and(|(wire, _)| wire.publishes_while_subscribed()),
            Self::Durable(_) => broker.store().is_some(),
            Self::Startup(..) => broker.store() == Some(Store::Queue),
            Self::Http(..) => broker.http().is_some(),
        }
    }
}

/// A case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: String,
    /// What it does.
    pub(crate) work: Work,
}

/// Those that are named by one of `wanted`, or whose names begin with it when none is named so; all
/// when nothing is wanted.
pub(crate) fn chosen(wanted: &[String]) -> Result<Vec<Case>> {
    let all = all();
    if wanted.is_empty() {
        return Ok(all);
    }
    let mut is_chosen = vec![false; all.len()];
    for word in wanted {
        let is_named = all.iter().any(|case| case.name == *word);
        let fits = |name: &str| name == word || !is_named && name.starts_with(word.as_str());
        ensure!(
            all.iter().any(|case| fits(&case.name)),
            "no case begins with {word:?}; --list names them"
        );
        for (case, chosen) in all.iter().zip(&mut is_chosen) {
            *chosen |= fits(&case.name);
        }
    }
    let chosen = all.into_iter().zip(is_chosen);
    Ok(chosen
        .filter_map(|(case, yes)| yes.then_some(case))
        .collect())
}

fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, work| cases.push(Case { name, work });
    let plan = |topics, subscribers, payload_bytes| Plan {
        topics,
        subscribers,
        stuck: false,
        payload_bytes,
        pace: Pace::Flood,
        duration: Duration::ZERO,
    };
    for (name, topics, subscribers) in [("publish", 1, 0), ("1to1", 1, 1), ("4to4", 4, 1)] {
        for bytes in [16, 128, 1024, 16_384] {
            let plan = plan(topics, subscribers, bytes);
            add(format!("{name}/{bytes}"), Work::Live(plan));
        }
    }
    for subscribers in [10, 100, 1000] {
        for bytes in [128, 1024] {
            let plan = plan(1, subscribers, bytes);
            add(format!("fan{subscribers}/{bytes}"), Work::Live(plan));
        }
    }
    let open = Pace::Open(RATE);
    let paced = Plan {
        pace: open,
        ..plan(1, 1, 128)
    };
    add("rate20000/128".to_owned(), Work::Live(paced));
    add("request/128".to_owned(), Work::Request(128));
    for (name, pace) in [("flood", Pace::Flood), ("rate1000", Pace::Open(RATE_FAN))] {
        for stuck in [false, true] {
            let plan = Plan {
                pace,
                stuck,
                ..plan(1, 100, 128)
            };
            let side = if stuck { "with" } else { "without" };
            add(format!("stuck/{name}/{side}"), Work::Live(plan));
        }
    }
    add(
        format!("idle/{IDLE_CONNECTIONS}"),
        Work::Idle(IDLE_CONNECTIONS),
    );
    for window in [1, 32, 256] {
        for bytes in [128, 1024] {
            let work = Work::Durable((bytes, window));
            add(format!("durable{window}/{bytes}"), work);
        }
    }
    add(
        "http-publish/128".to_owned(),
        Work::Http(Half::Publish, 128),
    );
    add("http-fetch/128".to_owned(), Work::Http(Half::Fetch, 128));
    let stored = Stored {
        topics: 10_000,
        queues: 10,
        messages: 100,
    };
    add("startup/1M-100k".to_owned(), Work::Startup(stored, 128));
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_differ_and_choose() {
        let all = chosen(&[]).unwrap();
        let names: HashSet<&str> = all.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        let some = chosen(&["1to1/16".to_owned(), "durable1/".to_owned()]).unwrap();
        let names: Vec<&str> = some.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["1to1/16", "durable1/128", "durable1/1024"]);
        assert!(chosen(&["nothing".to_owned()]).is_err());
    }
}
