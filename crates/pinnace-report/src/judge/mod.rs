//! When a warning is due.
//!
//! Invariant: rules read the summary only, so a stored summary can be judged again by a later
//! version; each rule gives one warning at most per cause and names the clients it concerns.

mod conditions;

use pinnace_proto::event::StopReason;
use pinnace_proto::run::{ClientState, RunState};
use pinnace_proto::units::show_size;

use self::conditions::{clocks, jobs, speed, storage, systems};
use crate::limits::{COVERAGE_MIN, NAMES_IN_SENTENCE, ROLLOVERS_PROMISED};
use crate::summary::{ClientSummary, PromiseOutcome, Summary};
use crate::warning::{Warning, WarningCode};
use crate::words::{clean, client_names, count, counted, lost_reason, percent, us};

/// All warnings that are due, gravest first.
pub(crate) fn warnings(summary: &Summary) -> Vec<Warning> {
    let rules: [fn(&Summary) -> Vec<Warning>; 9] = [
        endings, data, promise, heartbeats, clocks, storage, speed, jobs, systems,
    ];
    let mut found: Vec<Warning> = rules.iter().flat_map(|rule| rule(summary)).collect();
    found.sort_by_key(|warning| (warning.grade, warning.code));
    found
}

fn warn(code: WarningCode, clients: Vec<String>, message: String) -> Warning {
    Warning {
        code,
        grade: code.grade(),
        clients,
        message,
    }
}

/// Names of clients.
fn names_of(clients: &[&ClientSummary]) -> Vec<String> {
    clients.iter().map(|client| client.client.clone()).collect()
}

/// The clients for which `test` holds.
fn where_client(summary: &Summary, test: impl Fn(&ClientSummary) -> bool) -> Vec<&ClientSummary> {
    summary
        .clients
        .iter()
        .filter(|client| test(client))
        .collect()
}

/// A sum over some clients.
fn sum(clients: &[&ClientSummary], of: fn(&ClientSummary) -> u64) -> u64 {
    clients
        .iter()
        .map(|client| of(client))
        .fold(0, u64::saturating_add)
}

/// A warning about the clients for which `test` holds, if there are any; `message` is given their
/// names as the subject of a sentence, and them.
fn about(
    summary: &Summary,
    code: WarningCode,
    test: impl Fn(&ClientSummary) -> bool,
    message: impl Fn(&str, &[&ClientSummary]) -> String,
) -> Option<Warning> {
    let clients = where_client(summary, test);
    let names = names_of(&clients);
    let message = message(&client_names(&names), &clients);
    (!clients.is_empty()).then(|| warn(code, names, message))
}

/// Each lost client with its story, or one warning when they are many.
fn lost(summary: &Summary) -> Vec<Warning> {
    let clients = where_client(summary, |client| client.lost.is_some());
    if clients.len() > NAMES_IN_SENTENCE {
        let missing_us = sum(&clients, |c| c.planned_us.saturating_sub(c.reported_us));
        let names = names_of(&clients);
        let message = format!(
            "{} were lost; their figures up to then are kept, {} of their plans is missing.",
            client_names(&names),
            us(missing_us),
        );
        return vec![warn(WarningCode::ClientLost, names, message)];
    }
    clients
        .into_iter()
        .filter_map(|client| {
            let message = format!(
                "Client {} was lost after {} because {}; its figures up to then are kept, {} of \
                 its plan is missing.",
                clean(&client.client),
                us(client.end_us - client.start_us),
                lost_reason(client.lost.as_ref()?.reason),
                us(client.planned_us.saturating_sub(client.reported_us)),
            );
            let names = names_of(&[client]);
            Some(warn(WarningCode::ClientLost, names, message))
        })
        .collect()
}

fn endings(summary: &Summary) -> Vec<Warning> {
    let mut found = lost(summary);
    let ended = |reason| move |client: &ClientSummary| client.stop_reason == Some(reason);
    found.extend(about(
        summary,
        WarningCode::Interrupted,
        ended(StopReason::Interrupted),
        |who, _| format!("{who} ended early by a signal; figures up to then are kept."),
    ));
    found.extend(about(
        summary,
        WarningCode::DiskFull,
        ended(StopReason::DiskFull),
        |who, _| format!("{who} stopped because free space fell below the job's floor."),
    ));
    found.extend(about(
        summary,
        WarningCode::ClientFailed,
        ended(StopReason::Failed),
        |who, _| format!("{who} stopped because every worker had failed."),
    ));
    if let Some(first) = summary.clients.iter().find_map(|c| c.errors.first()) {
        let clients = where_client(summary, |client| client.error_count > 0);
        let clients = names_of(&clients);
        let message = format!(
            "{} on record at {}; the first: {} {}: {}.",
            counted(summary.totals.errors, "error"),
            lowercase_first(&client_names(&clients)),
            clean(&first.operation),
            clean(first.path.as_deref().unwrap_or("")),
            clean(first.message.trim_end_matches('.')),
        );
        found.push(warn(WarningCode::ErrorsSeen, clients, message));
    }
    found
}

/// A sentence's subject in the middle of a sentence.
fn lowercase_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

fn data(summary: &Summary) -> Vec<Warning> {
    let mut found = Vec::new();
    let over = summary.run.state != RunState::Running;
    if over && summary.totals.bytes == 0 {
        let message = "The run has no figures: no byte was reported as written.".to_owned();
        found.push(warn(WarningCode::NoData, Vec::new(), message));
    }
    if let Some(share) = summary.coverage.share
        && over
        && share < COVERAGE_MIN
    {
        let message = format!(
            "Only {} of the planned client-seconds was reported; totals and means speak for that \
             part.",
            percent(Some(share))
        );
        found.push(warn(WarningCode::CoverageLow, Vec::new(), message));
    }
    found.extend(about(
        summary,
        WarningCode::TotalsDiffer,
        |client| client.integrity.bytes_by_samples != client.integrity.bytes_by_stopped,
        |who, clients| {
            format!(
                "{who}: the samples add up to {} and the final word says {}; totals follow the \
                 final word, the time line follows the samples.",
                show_size(sum(clients, |c| c.integrity.bytes_by_samples)),
                show_size(sum(clients, |c| c.integrity.bytes_by_stopped)),
            )
        },
    ));
    found.extend(about(
        summary,
        WarningCode::SamplesMissing,
        |client| client.gaps.iter().any(|gap| gap.from_us < client.end_us),
        |who, _| format!("{who} sent no samples for part of the time; the gaps are hatched."),
    ));
    found.extend(about(
        summary,
        WarningCode::ClientRestarted,
        |client| client.integrity.instances > 1,
        |who, _| format!("{who} reported from more than one process; their figures are added up."),
    ));
    found.extend(about(
        summary,
        WarningCode::OddEvents,
        |client| {
            client.integrity.duplicate_events > 0
                || client.integrity.impossible_samples > 0
                || (client.job.is_none() && client.bytes > 0)
        },
        |who, _| {
            format!(
                "{who}: the record holds doubled events (counted once), samples without a possible \
                 interval, or no start."
            )
        },
    ));
    found
}

fn promise(summary: &Summary) -> Vec<Warning> {
    let mut found = Vec::new();
    if summary.promise.outcome == PromiseOutcome::Missed {
        let clients = where_client(summary, |client| {
            client.state != ClientState::Running
                && (client.workers.iter()).any(|worker| worker.rollovers < ROLLOVERS_PROMISED)
        });
        let clients = names_of(&clients);
        let message = format!(
            "{} did not close {ROLLOVERS_PROMISED} files at every worker (fewest: {}, predicted: \
             {}). Take smaller files or a longer run time.",
            client_names(&clients),
            count(summary.promise.happened_min.unwrap_or(0)),
            summary
                .promise
                .predicted_min
                .map_or("nothing".to_owned(), |fewest| format!("{fewest:.1}")),
        );
        found.push(warn(WarningCode::RolloversMissed, clients, message));
    }
    found.extend(about(
        summary,
        WarningCode::Forced,
        |client| client.job.as_ref().is_some_and(|job| job.force),
        |who, _| format!("{who} ran with force: a prediction of too few rollovers was overruled."),
    ));
    found
}

fn heartbeats(summary: &Summary) -> Vec<Warning> {
    about(
        summary,
        WarningCode::HeartbeatsMissed,
        |client| client.heartbeats.missed > 0 || client.heartbeats.absent > 0,
        |who, clients| {
            let missed = match sum(clients, |c| c.heartbeats.missed) {
                0 => String::new(),
                missed => format!(
                    "{} of {} to workers had no answer in time. ",
                    count(missed),
                    counted(sum(clients, |c| c.heartbeats.asked), "heartbeat question")
                ),
            };
            let absent = match sum(clients, |c| c.heartbeats.absent) {
                0 => String::new(),
                absent => format!("{} did not come at all.", counted(absent, "heartbeat")),
            };
            format!("{who}: {}", format!("{missed}{absent}").trim_end())
        },
    )
    .into_iter()
    .collect()
}
