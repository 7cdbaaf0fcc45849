//! `pinnace runs`: list, show, report, export, query, remove.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pinnace_proto::run::RunHead;
use pinnace_proto::units::{show_duration, show_size};
use pinnace_report::Summary;
use serde_json::Value;

use super::Context;
use crate::bench::conduct::now_us;
use crate::failure::{DONE, Failure, Result};
use crate::output::table;

/// The database of runs, kept by the server.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All runs, the newest first
    List,
    /// One run as text
    Show {
        /// Its id, or `last`
        run: String,
    },
    /// Runs as one self-contained HTML page
    Report {
        /// Their ids, or `last`
        #[arg(required = true)]
        run: Vec<String>,
        /// Where to write the page
        #[arg(long, value_name = "FILE")]
        html: PathBuf,
    },
    /// One run for other programs
    Export {
        /// Its id, or `last`
        run: String,
        /// json: summary; csv: figures as rows; fio: as fio's JSON; record: every event as told
        #[arg(long, value_enum, default_value = "json")]
        format: Format,
    },
    /// Ask the database: one SELECT over runs, clients, events, samples, rollovers, heartbeats,
    /// resources
    Query {
        /// The statement
        sql: String,
    },
    /// Remove runs
    Rm {
        /// Their ids
        #[arg(required = true)]
        run: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Json,
    Csv,
    Fio,
    Record,
}

pub(crate) fn run(arguments: Arguments, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    match arguments.command {
        Command::List => list(context),
        Command::Show { run } => show(context, &run),
        Command::Report { run, html } => report(context, &run, &html),
        Command::Export { run, format } => export(context, &run, format),
        Command::Query { sql } => query(context, &sql),
        Command::Rm { run } => remove(context, &run),
    }
}

/// `last` is the newest run; anything else is an id.
fn resolve(context: &Context<'_>, run: &str) -> Result<String> {
    if run != "last" {
        return Ok(run.to_owned());
    }
    let newest = context.api()?.runs()?.runs.into_iter().next();
    newest.map(|run| run.id).ok_or_else(|| {
        Failure::failed("there are no runs yet").hint("make one with `pinnace bench --path DIR`")
    })
}

fn summary(context: &Context<'_>, run: &str) -> Result<Summary> {
    let record = context.api()?.run_record(&resolve(context, run)?)?;
    Ok(pinnace_report::summarize(&record))
}

fn list(context: &Context<'_>) -> Result<u8> {
    let runs = context.api()?.runs()?;
    if context.output.json {
        context.output.document(&runs);
    } else if runs.runs.is_empty() {
        context
            .output
            .line("no runs yet; make one with `pinnace bench --path DIR`");
    } else {
        let heads = [
            ("run", false),
            ("started", false),
            ("state", false),
            ("name", false),
            ("solution", false),
            ("clients", true),
            ("written", true),
            ("took", true),
        ];
        let rows: Vec<_> = runs.runs.iter().map(row).collect();
        context.output.line(table(&heads, &rows));
    }
    Ok(DONE)
}

fn row(run: &RunHead) -> Vec<String> {
    let clients = match run.clients_lost {
        0 => run.clients.to_string(),
        lost => format!("{} ({lost} lost)", run.clients),
    };
    let took = run.finished_us.map_or_else(
        || "-".to_owned(),
        |end| show_duration(Duration::from_micros(end.saturating_sub(run.opened_us))),
    );
    vec![
        run.id.clone(),
        local_time(run.opened_us),
        run.state.name().to_owned(),
        run.name.clone(),
        if run.solution.is_empty() {
            "-".to_owned()
        } else {
            run.solution.clone()
        },
        clients,
        show_size(run.bytes),
        took,
    ]
}

/// A wall-clock time as this machine's people read it.
pub(crate) fn local_time(us: u64) -> String {
    let timestamp = i64::try_from(us)
        .ok()
        .and_then(|us| Timestamp::from_microsecond(us).ok());
    timestamp.map_or_else(
        || "-".to_owned(),
        |time| {
            time.to_zoned(TimeZone::system())
                .strftime("%Y-%m-%d %H:%M:%S %Z")
                .to_string()
        },
    )
}

fn show(context: &Context<'_>, run: &str) -> Result<u8> {
    let summary = summary(context, run)?;
    if context.output.json {
        context.output.document(&summary);
    } else {
        let output = context.output;
        output.line(pinnace_report::text(
            &summary,
            output.columns(),
            output.color(),
        ));
    }
    Ok(DONE)
}

fn report(context: &Context<'_>, runs: &[String], html: &PathBuf) -> Result<u8> {
    let summaries = runs
        .iter()
        .map(|run| summary(context, run))
        .collect::<Result<Vec<_>>>()?;
    let page = pinnace_report::html(&summaries, now_us());
    std::fs::write(html, &page).map_err(|error| {
        Failure::failed(format!("{} cannot be written: {error}", html.display()))
    })?;
    if context.output.json {
        context
            .output
            .document(&serde_json::json!({"html": html, "bytes": page.len()}));
    }
    context.output.line(format!(
        "wrote {} ({})",
        html.display(),
        show_size(page.len() as u64)
    ));
    Ok(DONE)
}

fn export(context: &Context<'_>, run: &str, format: Format) -> Result<u8> {
    match format {
        Format::Json => context.output.document(&summary(context, run)?),
        Format::Csv => {
            context
                .output
                .raw(pinnace_report::csv(&summary(context, run)?).as_bytes());
        }
        Format::Fio => context
            .output
            .document(&pinnace_report::fio(&summary(context, run)?)),
        Format::Record => {
            let record = context.api()?.run_record(&resolve(context, run)?)?;
            context.output.document(&record);
        }
    }
    Ok(DONE)
}

fn query(context: &Context<'_>, sql: &str) -> Result<u8> {
    let rows = context.api()?.query(sql)?;
    if context.output.json {
        context.output.document(&rows);
        return Ok(DONE);
    }
    let numeric = |column: usize| {
        let cells = || rows.rows.iter().filter_map(|row| row.get(column));
        cells().all(|cell| cell.is_number() || cell.is_null()) && cells().any(Value::is_number)
    };
    let heads: Vec<(&str, bool)> = rows
        .columns
        .iter()
        .enumerate()
        .map(|(i, name)| (name.as_str(), numeric(i)))
        .collect();
    let cells: Vec<Vec<String>> = rows
        .rows
        .iter()
        .map(|row| row.iter().map(cell_text).collect())
        .collect();
    context.output.line(table(&heads, &cells));
    if rows.truncated {
        context
            .output
            .note(format!("only the first {} rows are shown", rows.rows.len()));
    }
    Ok(DONE)
}

fn cell_text(cell: &Value) -> String {
    match cell {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn remove(context: &Context<'_>, runs: &[String]) -> Result<u8> {
    let api = context.api()?;
    for run in runs {
        api.remove_run(run)?;
        context.output.line(format!("removed {run}"));
    }
    if context.output.json {
        context
            .output
            .document(&serde_json::json!({ "removed": runs }));
    }
    Ok(DONE)
}
