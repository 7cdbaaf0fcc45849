//! The figures of one worker from its client's legs.
//!
//! Invariant: a worker's totals are its client's final word where that exists and the sum of its
//! samples where it does not; never both for the same process. Histograms are merged only in the
//! second case, which is what keeps a large finished run cheap.

use std::collections::BTreeMap;

use pinnace_proto::Histogram;
use pinnace_proto::event::{WorkerResources, WorkerTotals};
use pinnace_proto::host::PathFacts;

use crate::client::{rate, thin};
use crate::fold::{Fold, Leg};
use crate::latency::Latency;
use crate::limits::MARKS_MAX;
use crate::summary::{CpuPoint, FigureSource, Integrity, WorkerSummary};

/// What is being added up for one worker.
#[derive(Default)]
pub(crate) struct Worker {
    source: Option<FigureSource>,
    pub(crate) bytes: u64,
    pub(crate) rollovers: u64,
    busy_us: Option<u64>,
    cpu_us: Option<u64>,
    pub(crate) writes: Histogram,
    pub(crate) syncs: Histogram,
    share_us: f64,
    share_over_us: f64,
    share_max: Option<f64>,
    last: Option<WorkerResources>,
    voluntary_switches: u64,
    involuntary_switches: u64,
    pub(crate) heartbeats_missed: u64,
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
pub(crate) fn add_totals(
    leg: &Leg<'_>,
    workers: &mut BTreeMap<u32, Worker>,
    integrity: &mut Integrity,
) {
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
    let timely = leg.samples.iter().map(|taken| taken.sample);
    for sample in timely.chain(leg.timeless.iter().copied()) {
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

pub(crate) fn add_resources(leg: &Leg<'_>, start_us: u64, workers: &mut BTreeMap<u32, Worker>) {
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

pub(crate) fn finish(
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
