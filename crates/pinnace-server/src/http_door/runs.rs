//! `/-/runs…` and `/-/query`: the database of runs over HTTP.
//!
//! Reading happens on a blocking thread with its own connection; what changes the database is asked
//! of the collector, its one writer.

use hyper::{Method, Request};
use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::api::{JoinRequest, Joined, Query, Runs};
use pinnace_proto::event::BenchIdentity;
use pinnace_proto::run::RunRecord;
use pinnace_runs::{QueryError, Reader};
use tokio::sync::oneshot;

use super::answer::{self, Answer, Failure};
use super::request::Payload;
use super::{Context, request, system};
use crate::caller::Action;
use crate::clock::now_us;
use crate::collector::{Command, JoinRefused};
use crate::limits::REQUEST_BYTES_MAX;

pub(super) async fn handle(
    context: &Context,
    segments: &[&str],
    request: Request<Payload>,
) -> Result<Answer, Failure> {
    match segments {
        [] => {
            system::only_get(&request)?;
            request::parameters(request.uri(), &[])?;
            let runs = blocking(context, |runs| runs.list()).await?;
            answer::json(&Runs {
                v: DOCUMENT_VERSION,
                runs,
            })
        }
        [run, "clients"] if request.method() == Method::POST => join(context, run, request).await,
        [_, "clients"] => Err(Failure::method_not_allowed("POST")),
        [run] if request.method() == Method::DELETE => remove(context, run).await,
        [run] if request.method() == Method::GET => {
            let record = load(context, run).await?;
            answer::json(&pinnace_report::summarize(&record))
        }
        [_] => Err(Failure::method_not_allowed("DELETE, GET")),
        [run, document] => {
            system::only_get(&request)?;
            let record = load(context, run).await?;
            render(&record, document)
        }
        _ => Err(Failure::not_found(
            "no-such-path",
            "a run has no pages below its documents",
        )),
    }
}

fn render(record: &RunRecord, document: &str) -> Result<Answer, Failure> {
    if document == "record.json" {
        return answer::json(record);
    }
    let summary = pinnace_report::summarize(record);
    match document {
        "report.json" => answer::json(&summary),
        "report.html" => Ok(answer::with_body(
            "text/html; charset=utf-8",
            pinnace_report::html(&[summary], now_us()),
        )),
        "report.csv" => Ok(answer::with_body(
            "text/csv; charset=utf-8",
            pinnace_report::csv(&summary),
        )),
        "report.txt" => Ok(answer::with_body(
            "text/plain; charset=utf-8",
            pinnace_report::text(&summary, 80, false),
        )),
        other => Err(Failure::not_found(
            "no-such-document",
            format!(
                "a run has report.html, report.json, report.csv, report.txt and record.json, not `{other}`"
            ),
        )),
    }
}

async fn blocking<T: Send + 'static>(
    context: &Context,
    read: impl FnOnce(&Reader) -> Result<T, pinnace_runs::Error> + Send + 'static,
) -> Result<T, Failure> {
    let runs = context.harbour.runs.clone();
    match tokio::task::spawn_blocking(move || read(&runs)).await {
        Ok(result) => result.map_err(|error| Failure::internal(&error.to_string())),
        Err(error) => Err(Failure::internal(&error.to_string())),
    }
}

async fn load(context: &Context, run: &str) -> Result<RunRecord, Failure> {
    let id = run.to_owned();
    blocking(context, move |runs| runs.load(&id))
        .await?
        .ok_or_else(|| no_such_run(run))
}

fn no_such_run(run: &str) -> Failure {
    Failure::not_found(
        "no-such-run",
        format!("there is no run `{run}`; GET /-/runs lists them"),
    )
}

async fn remove(context: &Context, run: &str) -> Result<Answer, Failure> {
    if !context.caller.may(Action::Remove) {
        return Err(Failure::forbidden());
    }
    let (answer, removed) = oneshot::channel();
    ask(
        context,
        Command::Remove {
            run: run.to_owned(),
            answer,
        },
    )?;
    match removed.await {
        Ok(Ok(true)) => Ok(answer::empty()),
        Ok(Ok(false)) => Err(no_such_run(run)),
        Ok(Err(reason)) => Err(Failure::internal(&reason)),
        Err(_) => Err(Failure::unavailable("the server is stopping")),
    }
}

/// A bench client makes itself known.
async fn join(context: &Context, run: &str, request: Request<Payload>) -> Result<Answer, Failure> {
    if !context.caller.may(Action::Bench) {
        return Err(Failure::forbidden());
    }
    let body = request::body(request, REQUEST_BYTES_MAX).await?;
    let join: JoinRequest = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request("bad-document", format!("join: {error}")))?;
    for name in [run, &join.client, &join.instance] {
        pinnace_proto::name::check(name)
            .map_err(|error| Failure::bad_request("bad-name", format!("`{name}`: {error}")))?;
    }
    if join.heartbeat_us == 0 {
        return Err(Failure::bad_request(
            "bad-document",
            "join: heartbeat_us cannot be 0",
        ));
    }
    let bench = BenchIdentity {
        run: run.to_owned(),
        client: join.client.clone(),
        instance: join.instance.clone(),
    };
    if !context.harbour.roster.join(join.connection, bench.clone()) {
        let detail = format!(
            "there is no NATS connection {} to this server",
            join.connection
        );
        return Err(Failure::conflict("no-such-connection", detail));
    }
    let (answer, joined) = oneshot::channel();
    let connection = join.connection;
    let heartbeat_us = join.heartbeat_us;
    ask(
        context,
        Command::Join {
            bench,
            connection,
            heartbeat_us,
            answer,
        },
    )?;
    match joined.await {
        Ok(Ok(opened)) => answer::json(&Joined {
            v: DOCUMENT_VERSION,
            run: run.to_owned(),
            opened,
        }),
        Ok(Err(JoinRefused::NameTaken)) => Err(Failure::conflict(
            "client-id-taken",
            format!(
                "a client `{}` already takes part in run `{run}`; choose another --id or --run",
                join.client
            ),
        )),
        Ok(Err(JoinRefused::Failed(reason))) => Err(Failure::internal(&reason)),
        Err(_) => Err(Failure::unavailable("the server is stopping")),
    }
}

fn ask(context: &Context, command: Command) -> Result<(), Failure> {
    let sent = context.harbour.collector.send(command);
    sent.map_err(|_| Failure::unavailable("the server is stopping"))
}

/// `POST /-/query`: one read-only statement.
pub(super) async fn query(context: &Context, request: Request<Payload>) -> Result<Answer, Failure> {
    if request.method() != Method::POST {
        return Err(Failure::method_not_allowed("POST"));
    }
    let body = request::body(request, REQUEST_BYTES_MAX).await?;
    let query: Query = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request("bad-document", format!("query: {error}")))?;
    let runs = context.harbour.runs.clone();
    let rows = tokio::task::spawn_blocking(move || runs.query(&query.sql)).await;
    match rows {
        Ok(Ok(rows)) => answer::json(&rows),
        Ok(Err(QueryError::Refused(reason))) => Err(Failure::bad_request("bad-query", reason)),
        Ok(Err(error)) => Err(Failure::internal(&error.to_string())),
        Err(error) => Err(Failure::internal(&error.to_string())),
    }
}
