//! Sorts the events of a client by kind, one leg per process of its name.
//!
//! Invariant: an event counts once (its identity is instance and `n`), whatever the order and
//! number in which the record holds it. Nothing is computed here beyond counting the oddities.
//!
//! Left to others: where legs lie in time (`timeline`) and what the figures are (`client`).

use std::collections::HashSet;

use pinnace_proto::Event;
use pinnace_proto::event::{
    Body, Error, Heartbeat, Lost, Resources, Rollover, Sample, Started, Stopped,
};
use pinnace_proto::run::ClientRecord;

use crate::limits::TIMELINE_MAX_US;

/// A sample with its place in time and its sum, so that passes over time need not open it.
#[derive(Clone, Copy)]
pub(crate) struct Taken<'a> {
    pub(crate) from_us: u64,
    pub(crate) to_us: u64,
    /// Bytes of all workers.
    pub(crate) bytes: u64,
    pub(crate) sample: &'a Sample,
}

impl<'a> Taken<'a> {
    pub(crate) fn of(sample: &'a Sample) -> Self {
        let workers = sample.workers.iter();
        Self {
            from_us: sample.from_us,
            to_us: sample.to_us,
            bytes: workers.fold(0, |sum, worker| sum.saturating_add(worker.bytes)),
            sample,
        }
    }
}

/// Numbers of events that were seen: all up to one, and some beyond a gap.
#[derive(Default)]
pub(crate) struct Seen {
    up_to: u64,
    beyond: HashSet<u64>,
}

impl Seen {
    /// Takes a number; false when it was there before.
    fn insert(&mut self, n: u64) -> bool {
        if n != self.up_to.saturating_add(1) {
            return n > self.up_to && self.beyond.insert(n);
        }
        if !self.beyond.is_empty() && self.beyond.contains(&n) {
            return false;
        }
        self.up_to = n;
        true
    }
}

/// One process of a client: what it said, by kind. The numbers are `elapsed_us` of the event.
#[derive(Default)]
pub(crate) struct Leg<'a> {
    pub(crate) instance: &'a str,
    pub(crate) started: Option<&'a Started>,
    /// Its wall clock at `started`, microseconds since 1970.
    pub(crate) started_at_us: Option<u64>,
    pub(crate) stopped: Option<&'a Stopped>,
    pub(crate) samples: Vec<Taken<'a>>,
    pub(crate) seen: Seen,
    pub(crate) resources: Vec<(u64, &'a Resources)>,
    pub(crate) heartbeats: Vec<(u64, &'a Heartbeat)>,
    pub(crate) rollovers: Vec<(u64, &'a Rollover)>,
    pub(crate) errors: Vec<(u64, &'a Error)>,
    /// Latest moment it spoke of, microseconds since its workers started.
    pub(crate) last_elapsed_us: u64,
    /// Smallest and largest distance of its wall clock from its monotonic one.
    pub(crate) clock: Option<(u64, u64)>,
    /// Samples whose interval cannot be: they count, but have no place in time.
    pub(crate) timeless: Vec<&'a Sample>,
}

impl Leg<'_> {
    /// How far the wall clock moved against the monotonic one, microseconds.
    pub(crate) fn clock_moved_us(&self) -> u64 {
        self.clock.map_or(0, |(low, high)| high - low)
    }

    /// End of the last sample, microseconds since the workers started; 0 without samples.
    pub(crate) fn sampled_until_us(&self) -> u64 {
        self.samples.iter().map(|s| s.to_us).max().unwrap_or(0)
    }

    /// Where its figures end: at its final word, or else at its last sample.
    pub(crate) fn figures_until_us(&self) -> u64 {
        match self.stopped {
            Some(stopped) => stopped.ran_us.min(TIMELINE_MAX_US),
            None => self.sampled_until_us(),
        }
    }
}

/// One client, sorted.
pub(crate) struct Fold<'a> {
    pub(crate) record: &'a ClientRecord,
    pub(crate) legs: Vec<Leg<'a>>,
    pub(crate) lost: Option<&'a Lost>,
    pub(crate) duplicate_events: u64,
}

impl<'a> Fold<'a> {
    /// Sorts the events of `record`.
    pub(crate) fn of(record: &'a ClientRecord) -> Self {
        let mut fold = Self {
            record,
            legs: Vec::new(),
            lost: None,
            duplicate_events: 0,
        };
        for event in &record.events {
            if let Body::Lost(lost) = &event.body {
                fold.lost = Some(lost);
                continue;
            }
            let place = fold.leg_of(&event.instance);
            let Some(leg) = fold.legs.get_mut(place) else {
                continue;
            };
            if event.n > 0 && !leg.seen.insert(event.n) {
                fold.duplicate_events += 1;
                continue;
            }
            leg.take(event);
        }
        fold
    }

    fn leg_of(&mut self, instance: &'a str) -> usize {
        // A client has one instance, rarely two: a search from the back beats a map.
        if let Some(place) = self.legs.iter().rposition(|leg| leg.instance == instance) {
            return place;
        }
        self.legs.push(Leg {
            instance,
            ..Leg::default()
        });
        self.legs.len() - 1
    }

    /// The start document, from the first process that has one.
    pub(crate) fn started(&self) -> Option<&'a Started> {
        self.legs.iter().find_map(|leg| leg.started)
    }
}

impl<'a> Leg<'a> {
    fn take(&mut self, event: &'a Event) {
        let elapsed_us = event.elapsed_us.min(TIMELINE_MAX_US);
        self.last_elapsed_us = self.last_elapsed_us.max(elapsed_us);
        if elapsed_us > 0 && event.at_us >= elapsed_us {
            let distance = event.at_us - elapsed_us;
            let (low, high) = self.clock.unwrap_or((distance, distance));
            self.clock = Some((low.min(distance), high.max(distance)));
        }
        match &event.body {
            Body::Started(started) => {
                if self.started.is_none() {
                    self.started = Some(started);
                    self.started_at_us = (event.at_us > 0).then_some(event.at_us);
                }
            }
            Body::Heartbeat(heartbeat) => self.heartbeats.push((elapsed_us, heartbeat)),
            Body::Resources(resources) => self.resources.push((elapsed_us, resources)),
            Body::Sample(sample) => {
                if sample.from_us < sample.to_us && sample.to_us <= TIMELINE_MAX_US {
                    self.last_elapsed_us = self.last_elapsed_us.max(sample.to_us);
                    self.samples.push(Taken::of(sample));
                } else {
                    self.timeless.push(sample);
                }
            }
            Body::Rollover(rollover) => self.rollovers.push((elapsed_us, rollover)),
            Body::Error(error) => self.errors.push((elapsed_us, error)),
            Body::Stopped(stopped) => {
                self.stopped.get_or_insert(stopped);
            }
            Body::Lost(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_once_in_any_order() {
        let mut seen = Seen::default();
        let taken: Vec<bool> = [1, 2, 2, 5, 4, 5, 3, 1, 4, 6, 6]
            .into_iter()
            .map(|n| seen.insert(n))
            .collect();
        let expected = [1, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0].map(|new| new == 1);
        assert_eq!(taken, expected);
        assert!(seen.insert(u64::MAX) && !seen.insert(u64::MAX));
    }
}
