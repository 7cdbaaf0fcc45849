//! From a run's record to its summary.
//!
//! Invariant: any record gives a summary. Missing, doubled or impossible events cost at most their
//! own figures and a warning; nothing panics, divides by zero or grows beyond the record's size.

use pinnace_proto::Histogram;
use pinnace_proto::job::MinFree;
use pinnace_proto::run::{ClientState, RunRecord};

use crate::client::{Client, Frame, build, rate};
use crate::fold::Fold;
use crate::judge::warnings;
use crate::latency::Latency;
use crate::limits::ROLLOVERS_PROMISED;
use crate::summary::{
    ClientSummary, Coverage, Promise, PromiseOutcome, RateSeries, SUMMARY_VERSION, Summary, Totals,
    Window,
};
use crate::timeline::{Axis, Rates, axis, bytes_within, step_us};
use crate::words::headline;

/// What a run came to.
pub fn summarize(record: &RunRecord) -> Summary {
    let folds: Vec<Fold<'_>> = record.clients.iter().map(Fold::of).collect();
    let axis = axis(&record.run, &folds);
    let frame = frame(&folds, &axis);
    let clients: Vec<Client> = folds
        .iter()
        .zip(&axis.starts)
        .map(|(fold, starts)| build(fold, starts, &frame))
        .collect();

    let mut rates = Rates::new(frame.step_us, frame.span_us);
    let (mut writes, mut syncs) = (Histogram::default(), Histogram::default());
    for client in &clients {
        rates.add_client(&client.rates);
        writes.merge(&client.writes);
        syncs.merge(&client.syncs);
    }
    let mut clients: Vec<ClientSummary> = clients.into_iter().map(|c| c.summary).collect();
    clients.iter_mut().for_each(make_finite);
    let mut totals = totals(&clients, &writes, &syncs);
    totals.common_window = common_window(&clients, &folds, &axis);
    let mut summary = Summary {
        v: SUMMARY_VERSION,
        headline: String::new(),
        run: record.run.clone(),
        started_us: axis.origin_us,
        coverage: coverage(&clients),
        totals,
        writes: Latency::of(&writes),
        syncs: Latency::of(&syncs),
        promise: promise(&clients),
        series: RateSeries::default(),
        clients,
        warnings: Vec::new(),
    };
    summary.series = rates.series();
    summary.warnings = warnings(&summary);
    summary.headline = headline(&summary);
    summary
}

fn frame(folds: &[Fold<'_>], axis: &Axis) -> Frame {
    let span_us = folds
        .iter()
        .zip(&axis.starts)
        .flat_map(|(fold, starts)| fold.legs.iter().zip(starts))
        .map(|(leg, start)| start.us + leg.figures_until_us().max(leg.sampled_until_us()))
        .max()
        .unwrap_or(0);
    let run_times = folds.iter().filter_map(Fold::started);
    Frame {
        step_us: step_us(span_us),
        span_us,
        run_time_us: run_times.map(|s| s.job.run_time_us).max().unwrap_or(0),
    }
}

/// A document of ours holds no NaN; one made by hand might, and JSON could not carry it.
fn make_finite(client: &mut ClientSummary) {
    if let Some(job) = &mut client.job
        && let MinFree::Percent(percent) = &mut job.min_free
        && !percent.is_finite()
    {
        *percent = 0.0;
    }
}

fn coverage(clients: &[ClientSummary]) -> Coverage {
    let sum = |of: fn(&ClientSummary) -> u64| clients.iter().map(of).fold(0, u64::saturating_add);
    let (planned_us, reported_us) = (sum(|c| c.planned_us), sum(|c| c.reported_us));
    Coverage {
        planned_us,
        reported_us,
        share: (planned_us > 0).then(|| reported_us as f64 / planned_us as f64),
    }
}

fn totals(clients: &[ClientSummary], writes: &Histogram, syncs: &Histogram) -> Totals {
    let sum = |of: fn(&ClientSummary) -> u64| clients.iter().map(of).fold(0, u64::saturating_add);
    let bytes = sum(|c| c.bytes);
    let first_start_us = clients.iter().map(|c| c.start_us).min().unwrap_or(0);
    let last_start_us = clients.iter().map(|c| c.start_us).max().unwrap_or(0);
    let last_end_us = clients.iter().map(|c| c.end_us).max().unwrap_or(0);
    let duration_us = last_end_us.saturating_sub(first_start_us);
    Totals {
        bytes,
        writes: writes.count(),
        syncs: syncs.count(),
        rollovers: sum(|c| c.rollovers),
        errors: sum(|c| c.error_count),
        duration_us,
        bytes_per_second: rate(bytes, duration_us),
        first_end_us: clients.iter().map(|c| c.end_us).min(),
        start_skew_us: last_start_us - first_start_us,
        common_window: None,
    }
}

fn common_window(clients: &[ClientSummary], folds: &[Fold<'_>], axis: &Axis) -> Option<Window> {
    let from_us = clients.iter().map(|c| c.start_us).max()?;
    let to_us = clients.iter().map(|c| c.end_us).min()?;
    if from_us >= to_us {
        return None;
    }
    let bytes: f64 = folds
        .iter()
        .zip(&axis.starts)
        .flat_map(|(fold, starts)| fold.legs.iter().zip(starts))
        .map(|(leg, start)| bytes_within(leg, start.us, from_us, to_us))
        .sum();
    let bytes = bytes as u64;
    Some(Window {
        from_us,
        to_us,
        bytes,
        bytes_per_second: rate(bytes, to_us - from_us),
    })
}

fn promise(clients: &[ClientSummary]) -> Promise {
    let workers = || clients.iter().flat_map(|client| &client.workers);
    let short = |client: &ClientSummary| {
        let mut workers = client.workers.iter();
        workers.any(|worker| worker.rollovers < ROLLOVERS_PROMISED)
    };
    let happened_min = workers().map(|worker| worker.rollovers).min();
    let outcome = if happened_min.is_none() {
        PromiseOutcome::Unknown
    } else if !clients.iter().any(short) {
        PromiseOutcome::Held
    } else if clients
        .iter()
        .any(|client| short(client) && client.state != ClientState::Running)
    {
        PromiseOutcome::Missed
    } else {
        PromiseOutcome::Open
    };
    Promise {
        rollovers_promised: ROLLOVERS_PROMISED,
        predicted_min: workers()
            .filter_map(|worker| worker.rollovers_predicted)
            .reduce(f64::min),
        happened_min,
        outcome,
    }
}
