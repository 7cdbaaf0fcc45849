//! The figures of one client from its sorted events.
//!
//! Invariant: a worker's totals are its client's final word where that exists and the sum of its
//! samples where it does not; never both for the same process. Histograms are merged only in the
//! second case, which is what keeps a large finished run cheap.
//!
//! Left to others: sums over clients and judgement.

use std::collections::BTreeMap;

use pinnace_proto::Histogram;
use pinnace_proto::event::{StopReason, WorkerResources, WorkerTotals};
use pinnace_proto::host::PathFacts;
use pinnace_proto::run::ClientState;

use crate::fold::{Fold, Leg};
use crate::latency::Latency;
use crate::limits::{ERRORS_MAX, MARKS_MAX, SAMPLE_INTERVAL_DEFAULT_US};
use crate::summary::{
    ClientSummary, CpuPoint, ErrorMark, FigureSource, Gap, HeartbeatMark, HeartbeatSummary,
    Integrity, LostSummary, MemoryPoint, ProcessSummary, RolloverMark, WorkerSummary,
};
use crate::timeline::{Rates, Start, gaps};

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
        workers: finish_workers(workers, fold, worked_us),
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

/// What is being added up for one worker.
#[derive(Default)]
struct Worker {
    source: Option<FigureSource>,
    bytes: u64,
    rollovers: u64,
    busy_us: Option<u64>,
    cpu_us: Option<u64>,
    writes: Histogram,
    syncs: Histogram,
    share_us: f64,
    share_over_us: f64,
    share_max: Option<f64>,
    last: Option<WorkerResources>,
    voluntary_switches: u64,
    involuntary_switches: u64,
    heartbeats_missed: u64,
    cpu: Vec<CpuPoint>,
}

impl Worker {
    fn add_source(&mut self, source: FigureSource) {
        self.source = match self.source {
            Some(before) if before != source => Some(FigureSource::Both),
            _ => Some(source),
        };
    }

    fn add_stopped(&mut self, totals: &WorkerTotals) {
        self.add_source(FigureSource::Stopped);
        self.bytes = self.bytes.saturating_add(totals.bytes);
        self.rollovers = self.rollovers.saturating_add(totals.rollovers);
        self.busy_us = Some(self.busy_us.unwrap_or(0).saturating_add(totals.busy_us));
        self.cpu_us = Some(self.cpu_us.unwrap_or(0).saturating_add(totals.cpu_us));
        self.writes.merge(&totals.writes);
        self.syncs.merge(&totals.syncs);
    }
}

/// Adds a leg's totals: the final word of each worker that gave one, samples for the others.
fn add_totals(leg: &Leg<'_>, workers: &mut BTreeMap<u32, Worker>, integrity: &mut Integrity) {
    let mut final_words: BTreeMap<u32, &WorkerTotals> = BTreeMap::new();
    let stopped = leg.stopped.map_or(&[][..], |stopped| &stopped.workers);
    for totals in stopped.iter().filter(|totals| totals.answered) {
        if final_words.insert(totals.worker, totals).is_none() {
            workers
                .entry(totals.worker)
                .or_default()
                .add_stopped(totals);
            let bytes = &mut integrity.bytes_by_stopped;
            *bytes = bytes.saturating_add(totals.bytes);
        }
    }
    for totals in stopped {
        workers.entry(totals.worker).or_default();
    }
    for sample in leg.samples.iter().chain(&leg.timeless) {
        for figures in &sample.workers {
            if final_words.contains_key(&figures.worker) {
                let bytes = &mut integrity.bytes_by_samples;
                *bytes = bytes.saturating_add(figures.bytes);
                continue;
            }
            let worker = workers.entry(figures.worker).or_default();
            worker.add_source(FigureSource::Samples);
            worker.bytes = worker.bytes.saturating_add(figures.bytes);
            worker.writes.merge(&figures.writes);
            worker.syncs.merge(&figures.syncs);
        }
    }
    for (_, rollover) in &leg.rollovers {
        if !final_words.contains_key(&rollover.worker) {
            workers.entry(rollover.worker).or_default().rollovers += 1;
        }
    }
}

fn add_resources(leg: &Leg<'_>, start_us: u64, workers: &mut BTreeMap<u32, Worker>) {
    let mut last: BTreeMap<u32, &WorkerResources> = BTreeMap::new();
    for (elapsed_us, resources) in &leg.resources {
        for figures in &resources.workers {
            last.insert(figures.worker, figures);
            if !figures.cpu_share.is_finite() {
                continue;
            }
            let share = figures.cpu_share.max(0.0);
            let worker = workers.entry(figures.worker).or_default();
            let interval_us = resources.interval_us as f64;
            worker.share_us += share * interval_us;
            worker.share_over_us += interval_us;
            worker.share_max = Some(worker.share_max.map_or(share, |max| max.max(share)));
            worker.cpu.push(CpuPoint {
                at_us: start_us + elapsed_us,
                share,
            });
        }
    }
    let answered = |number: u32| {
        leg.stopped.is_some_and(|stopped| {
            let mut totals = stopped.workers.iter();
            totals.any(|totals| totals.worker == number && totals.answered)
        })
    };
    for (number, figures) in last {
        let worker = workers.entry(number).or_default();
        if !answered(number) {
            let cpu_us = figures.user_us.saturating_add(figures.system_us);
            worker.cpu_us = Some(worker.cpu_us.unwrap_or(0).saturating_add(cpu_us));
        }
        let (voluntary, involuntary) = (
            &mut worker.voluntary_switches,
            &mut worker.involuntary_switches,
        );
        *voluntary = voluntary.saturating_add(figures.voluntary_switches);
        *involuntary = involuntary.saturating_add(figures.involuntary_switches);
        worker.last = Some(figures.clone());
    }
}

fn finish_workers(
    workers: BTreeMap<u32, Worker>,
    fold: &Fold<'_>,
    worked_us: u64,
) -> Vec<WorkerSummary> {
    let started = fold.started();
    let calibration = |number: u32| {
        let mut all = started.into_iter().flat_map(|started| &started.calibration);
        all.find(|calibration| calibration.worker == number)
    };
    let storage = |number: u32| -> Option<PathFacts> {
        started.and_then(|started| started.paths.get(number as usize).cloned())
    };
    let finite = |value: f64| value.is_finite().then_some(value);
    workers
        .into_iter()
        .map(|(number, worker)| {
            // The final word speaks for the whole run, the intervals for what was looked at.
            let looked_at =
                (worker.share_over_us > 0.0).then(|| worker.share_us / worker.share_over_us);
            let whole = worker
                .cpu_us
                .filter(|cpu_us| *cpu_us > 0 && worked_us > 0 && worker.busy_us.is_some())
                .map(|cpu_us| cpu_us as f64 / worked_us as f64);
            let calibration = calibration(number);
            let last = worker.last.as_ref();
            WorkerSummary {
                worker: number,
                source: worker.source.unwrap_or(FigureSource::Samples),
                bytes: worker.bytes,
                bytes_per_second: rate(worker.bytes, worked_us),
                rollovers: worker.rollovers,
                rollovers_predicted: calibration.and_then(|c| finite(c.rollovers)),
                bytes_per_second_predicted: calibration.and_then(|c| finite(c.bytes_per_second)),
                writes: Latency::of(&worker.writes),
                syncs: Latency::of(&worker.syncs),
                busy_us: worker.busy_us,
                cpu_us: worker.cpu_us,
                cpu_share: whole.or(looked_at),
                cpu_share_max: worker.share_max,
                last_state: last.map(|r| r.state.clone()).unwrap_or_default(),
                buffer_bytes: last.map(|r| r.buffer_bytes),
                voluntary_switches: last.map(|_| worker.voluntary_switches),
                involuntary_switches: last.map(|_| worker.involuntary_switches),
                heartbeats_missed: worker.heartbeats_missed,
                cpu: thin(worker.cpu, MARKS_MAX),
                storage: storage(number),
            }
        })
        .collect()
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
