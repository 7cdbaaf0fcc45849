//! The figures of one client from its sorted events.
//!
//! Invariant: what a client covers of its plan ends with its figures: a final word, or else the last
//! sample; silence before that is a gap, silence after it is what was lost.
//!
//! Left to others: its workers (`worker`), sums over clients (`summarize`) and judgement (`judge`).

use std::collections::BTreeMap;

use pinnace_proto::Histogram;
use pinnace_proto::event::StopReason;
use pinnace_proto::run::ClientState;

use crate::fold::{Fold, Leg};
use crate::latency::Latency;
use crate::limits::{ERRORS_MAX, MARKS_MAX, SAMPLE_INTERVAL_DEFAULT_US};
use crate::summary::{
    ClientSummary, ErrorMark, Gap, HeartbeatMark, HeartbeatSummary, Integrity, LostSummary,
    MemoryPoint, ProcessSummary, RolloverMark,
};
use crate::timeline::{Rates, Start, gaps};
use crate::worker::{Worker, add_resources, add_totals, finish};

/// A client's summary, and what is still needed to add clients up.
pub(crate) struct Client {
    pub(crate) summary: ClientSummary,
    pub(crate) rates: Rates,
    pub(crate) writes: Histogram,
    pub(crate) syncs: Histogram,
}

/// What is known about the whole run when a client is built.
pub(crate) struct Frame {
    /// Width of one step of a series, microseconds.
    pub(crate) step_us: u64,
    /// End of the last figure of the run, microseconds.
    pub(crate) span_us: u64,
    /// Run time of a client whose own is not on record, microseconds.
    pub(crate) run_time_us: u64,
}

/// Builds the summary of one client; `starts` has one entry per leg.
pub(crate) fn build(fold: &Fold<'_>, starts: &[Start], frame: &Frame) -> Client {
    let job = fold.started().map(|started| &started.job);
    let planned_us = job.map_or(frame.run_time_us, |job| job.run_time_us);
    let legs: Vec<(&Leg<'_>, Start)> = fold.legs.iter().zip(starts.iter().copied()).collect();
    let ended_us = |(leg, start): &(&Leg<'_>, Start)| start.us + leg.figures_until_us();
    let start_us = legs.iter().map(|(_, start)| start.us).min().unwrap_or(0);
    let end_us = legs.iter().map(ended_us).max().unwrap_or(0).max(start_us);
    let worked_us: u64 = legs.iter().map(|(leg, _)| leg.figures_until_us()).sum();

    let mut rates = Rates::new(frame.step_us, frame.span_us);
    let mut workers: BTreeMap<u32, Worker> = BTreeMap::new();
    let mut integrity = integrity(fold, starts);
    for (leg, start) in &legs {
        leg.samples.iter().for_each(|s| rates.add(start.us, s));
        add_totals(leg, &mut workers, &mut integrity);
        add_resources(leg, start.us, &mut workers);
    }
    let heartbeats = heartbeats(fold, &legs, planned_us, &mut workers);
    let (mut writes, mut syncs) = (Histogram::default(), Histogram::default());
    for worker in workers.values() {
        writes.merge(&worker.writes);
        syncs.merge(&worker.syncs);
    }
    let sum = |of: fn(&Worker) -> u64| workers.values().map(of).fold(0, u64::saturating_add);
    let summary = ClientSummary {
        client: fold.record.client.clone(),
        state: fold.record.state,
        stop_reason: stop_reason(&legs),
        lost: (fold.record.state == ClientState::Lost).then(|| LostSummary {
            reason: fold.lost.map(|lost| lost.reason),
            at_us: end_us,
            last_heard_us: fold
                .lost
                .map_or(fold.record.last_heard_us, |lost| lost.last_heard_us),
        }),
        start_us,
        end_us,
        planned_us,
        reported_us: reported_us(&legs, planned_us),
        bytes: sum(|worker| worker.bytes),
        bytes_per_second: rate(sum(|worker| worker.bytes), worked_us),
        rollovers: sum(|worker| worker.rollovers),
        writes: Latency::of(&writes),
        syncs: Latency::of(&syncs),
        workers: finish(workers, fold, worked_us),
        process: process(&legs),
        heartbeats,
        series: rates.series(),
        gaps: all_gaps(fold, &legs, planned_us),
        rollover_marks: rollover_marks(&legs),
        error_count: legs.iter().map(|(leg, _)| leg.errors.len() as u64).sum(),
        errors: error_marks(&legs),
        integrity,
        job: job.cloned(),
        host: fold.started().map(|started| started.host.clone()),
    };
    Client {
        summary,
        rates,
        writes,
        syncs,
    }
}

/// Bytes per second; `None` when no time passed.
pub(crate) fn rate(bytes: u64, us: u64) -> Option<f64> {
    (us > 0).then(|| bytes as f64 * 1e6 / us as f64)
}

fn process(legs: &[(&Leg<'_>, Start)]) -> ProcessSummary {
    let resources = || {
        legs.iter().flat_map(|(leg, start)| {
            let all = leg.resources.iter();
            all.map(move |(elapsed_us, resources)| (start.us + elapsed_us, *resources))
        })
    };
    let cpu_us = legs
        .iter()
        .filter_map(|(leg, _)| {
            let seen = leg.resources.last().map(|(_, r)| r.process_cpu_us);
            leg.stopped.map(|stopped| stopped.process_cpu_us).or(seen)
        })
        .reduce(u64::saturating_add);
    let stopped_rss = legs
        .iter()
        .filter_map(|(leg, _)| leg.stopped.map(|stopped| stopped.peak_rss_bytes));
    ProcessSummary {
        cpu_us,
        peak_rss_bytes: resources()
            .map(|(_, r)| r.rss_bytes)
            .chain(stopped_rss)
            .max(),
        peak_buffer_bytes: resources().map(|(_, r)| r.buffer_bytes).max(),
        memory: thin(
            resources()
                .map(|(at_us, r)| MemoryPoint {
                    at_us,
                    rss_bytes: r.rss_bytes,
                    buffer_bytes: r.buffer_bytes,
                })
                .collect(),
            MARKS_MAX,
        ),
    }
}

fn heartbeats(
    fold: &Fold<'_>,
    legs: &[(&Leg<'_>, Start)],
    planned_us: u64,
    workers: &mut BTreeMap<u32, Worker>,
) -> HeartbeatSummary {
    let mut summary = HeartbeatSummary::default();
    for (place, (leg, start)) in legs.iter().enumerate() {
        let mut before_us = 0;
        let mut interval_us = leg.started.map_or(0, |started| started.job.heartbeat_us);
        for (at_us, heartbeat) in &leg.heartbeats {
            summary.absent += absent(at_us.saturating_sub(before_us), interval_us, 1.5);
            (before_us, interval_us) = (*at_us, heartbeat.next_us);
            summary.received += 1;
            let mut answered = 0;
            for worker in &heartbeat.workers {
                if worker.answered {
                    answered += 1;
                    let slowest = summary.slowest_answer_us.unwrap_or(0);
                    summary.slowest_answer_us = Some(slowest.max(worker.after_us));
                } else {
                    workers.entry(worker.worker).or_default().heartbeats_missed += 1;
                }
            }
            let asked = heartbeat.workers.len() as u32;
            summary.asked += u64::from(asked);
            summary.answered += u64::from(answered);
            summary.marks.push(HeartbeatMark {
                at_us: start.us + at_us,
                asked,
                answered,
            });
        }
        let last = place + 1 == legs.len();
        let until_us = expected_until_us(fold, leg, last, planned_us);
        summary.absent += absent(until_us.saturating_sub(before_us), interval_us, 0.5);
    }
    summary.missed = summary.asked - summary.answered;
    summary.marks = thin(summary.marks, MARKS_MAX);
    summary
}

/// Heartbeats that fit into a silence of `silence_us`, less those that explain themselves: half an
/// interval of lateness, and, when a heartbeat ends the silence, that one.
fn absent(silence_us: u64, interval_us: u64, allowed: f64) -> u64 {
    if interval_us == 0 {
        return 0;
    }
    let due = silence_us as f64 / interval_us as f64 - allowed;
    if due > 0.0 {
        due.floor() as u64 + u64::from(allowed > 1.0)
    } else {
        0
    }
}

/// Until when, in the leg's own time, figures should have come.
fn expected_until_us(fold: &Fold<'_>, leg: &Leg<'_>, last_leg: bool, planned_us: u64) -> u64 {
    match leg.stopped {
        Some(_) => leg.figures_until_us(),
        None if last_leg && fold.record.state == ClientState::Lost => {
            planned_us.max(leg.last_elapsed_us)
        }
        None => leg.last_elapsed_us,
    }
}

fn all_gaps(fold: &Fold<'_>, legs: &[(&Leg<'_>, Start)], planned_us: u64) -> Vec<Gap> {
    let mut found = Vec::new();
    for (place, (leg, start)) in legs.iter().enumerate() {
        let sample_us = leg
            .started
            .map_or(SAMPLE_INTERVAL_DEFAULT_US, |started| started.job.sample_us);
        let until_us = expected_until_us(fold, leg, place + 1 == legs.len(), planned_us);
        found.extend(gaps(leg, start.us, until_us, sample_us));
    }
    found.truncate(MARKS_MAX);
    found
}

fn rollover_marks(legs: &[(&Leg<'_>, Start)]) -> Vec<RolloverMark> {
    let mut marks: Vec<RolloverMark> = legs
        .iter()
        .flat_map(|(leg, start)| {
            leg.rollovers
                .iter()
                .map(|(elapsed_us, rollover)| RolloverMark {
                    at_us: start.us + elapsed_us,
                    worker: rollover.worker,
                    number: rollover.number,
                    file: rollover.file.clone(),
                    bytes: rollover.bytes,
                    file_us: rollover.file_us,
                    sync_us: rollover.sync_us,
                })
        })
        .collect();
    marks.sort_by_key(|mark| (mark.at_us, mark.worker, mark.number));
    thin(marks, MARKS_MAX)
}

fn error_marks(legs: &[(&Leg<'_>, Start)]) -> Vec<ErrorMark> {
    legs.iter()
        .flat_map(|(leg, start)| {
            leg.errors.iter().map(|(elapsed_us, error)| ErrorMark {
                at_us: start.us + elapsed_us,
                worker: error.worker,
                operation: error.operation.clone(),
                path: error.path.clone(),
                message: error.message.clone(),
            })
        })
        .take(ERRORS_MAX)
        .collect()
}

fn stop_reason(legs: &[(&Leg<'_>, Start)]) -> Option<StopReason> {
    legs.iter()
        .rev()
        .find_map(|(leg, _)| leg.stopped.map(|stopped| stopped.reason))
}

/// Part of the plan that figures exist for. A client that says its run time was over has covered
/// it, whatever the last microseconds were.
fn reported_us(legs: &[(&Leg<'_>, Start)], planned_us: u64) -> u64 {
    legs.iter()
        .map(|(leg, _)| match leg.stopped {
            Some(stopped) if stopped.reason == StopReason::Completed => planned_us,
            _ => leg.figures_until_us(),
        })
        .fold(0, u64::saturating_add)
        .min(planned_us)
}

fn integrity(fold: &Fold<'_>, starts: &[Start]) -> Integrity {
    Integrity {
        instances: fold.legs.len() as u32,
        duplicate_events: fold.duplicate_events,
        impossible_samples: fold.legs.iter().map(|leg| leg.timeless.len() as u64).sum(),
        clock_moved_us: fold.legs.iter().map(Leg::clock_moved_us).max().unwrap_or(0),
        start_by_server_clock: starts.iter().any(|start| start.by_server_clock),
        ..Integrity::default()
    }
}

/// At most `most` of `items`, evenly spread, the first and the last among them.
pub(crate) fn thin<T>(items: Vec<T>, most: usize) -> Vec<T> {
    let count = items.len();
    if count <= most || most < 2 {
        return items;
    }
    let mut kept = 0;
    items
        .into_iter()
        .enumerate()
        .filter(|(place, _)| {
            let due = kept * (count - 1) / (most - 1) == *place;
            kept += usize::from(due);
            due
        })
        .map(|(_, item)| item)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_ends_and_the_number_asked_for() {
        assert_eq!(thin((0..5).collect(), 9), [0, 1, 2, 3, 4]);
        let thinned = thin((0..1_000).collect::<Vec<i32>>(), 10);
        assert_eq!(thinned.len(), 10);
        assert_eq!((thinned[0], thinned[9]), (0, 999));
    }

    #[test]
    fn absent_heartbeats_are_counted_between_and_after_those_that_came() {
        for (silence_us, allowed, expected) in [
            (5_000_000, 1.5, 0),
            (7_400_000, 1.5, 0),
            (10_000_000, 1.5, 1),
            (15_000_000, 1.5, 2),
            (5_000_000, 0.5, 0),
            (15_000_000, 0.5, 2),
        ] {
            assert_eq!(
                absent(silence_us, 5_000_000, allowed),
                expected,
                "{silence_us} {allowed}"
            );
        }
        assert_eq!(absent(u64::MAX, 0, 0.5), 0);
    }

    #[test]
    fn no_time_has_no_rate() {
        assert_eq!(rate(5, 0), None);
        assert_eq!(rate(5, 2_000_000), Some(2.5));
    }
}
