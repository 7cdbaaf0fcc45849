//! The system's own pages: health, info, roster, topics; `runs` has a file of its own.

use hyper::{Method, Request, StatusCode};
use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::api::{Clients, Health, Links, Topics};
use pinnace_topics::StorageState;

use super::answer::{self, Answer, Failure};
use super::request::Payload;
use super::{Context, docs, request, routes, runs, shares, topics, upkeep};
use crate::caller::Action;
use crate::clock::now_us;
use crate::harbour::Harbour;
use crate::metrics;

/// `GET /`: where everything is.
pub(super) fn root(request: &Request<Payload>) -> Result<Answer, Failure> {
    only_get(request)?;
    let pages = [
        "health", "ready", "info", "metrics", "clients", "topics", "runs", "shares", "docs",
    ];
    let links = pages.map(|page| (page.to_owned(), format!("/-/{page}")));
    answer::json(&Links {
        v: DOCUMENT_VERSION,
        server: "pinnace".to_owned(),
        links: links.into_iter().collect(),
        try_this: "curl -d hi http://HOST/alerts".to_owned(),
    })
}

/// Everything under `/-/`.
pub(super) async fn handle(
    context: &Context,
    segments: &[&str],
    request: Request<Payload>,
) -> Result<Answer, Failure> {
    if !context.caller.may(Action::Look) {
        return Err(Failure::forbidden());
    }
    match segments {
        ["runs", rest @ ..] => runs::handle(context, rest, request).await,
        ["shares", rest @ ..] => shares::handle(context, rest, request).await,
        ["query"] => runs::query(context, request).await,
        ["health"] => health(&context.harbour, &request),
        ["ready"] => ready(&context.harbour, &request),
        ["info"] => {
            only_get(&request)?;
            request::parameters(request.uri(), &[])?;
            answer::json(&context.harbour.info)
        }
        ["openapi.json"] => {
            request::parameters(request.uri(), &[])?;
            Ok(docs::document())
        }
        ["docs"] => {
            request::parameters(request.uri(), &[])?;
            Ok(docs::page())
        }
        ["metrics"] => {
            only_get(&request)?;
            request::parameters(request.uri(), &[])?;
            let page = metrics::render(&context.harbour, &routes::PATHS);
            Ok(answer::with_body(metrics::CONTENT_TYPE, page))
        }
        ["clients"] => clients(&context.harbour, &request),
        ["topics", "check"] => upkeep::check(context, &request).await,
        ["topics", "backup"] => upkeep::backup(context, &request),
        ["topics"] => list_topics(&context.harbour, &request),
        _ => Err(Failure::not_found(
            "no-such-path",
            format!(
                "there is no /-/{}; GET / lists what there is",
                segments.join("/")
            ),
        )),
    }
}

/// Refuses all but GET.
pub(super) fn only_get(request: &Request<Payload>) -> Result<(), Failure> {
    if request.method() == Method::GET {
        Ok(())
    } else {
        Err(Failure::method_not_allowed("GET"))
    }
}

/// Alive, and if something is wrong: what. 200 as long as the process can answer.
fn health(harbour: &Harbour, request: &Request<Payload>) -> Result<Answer, Failure> {
    only_get(request)?;
    request::parameters(request.uri(), &[])?;
    answer::json(&health_of(harbour))
}

/// 200 when messages can be stored, 503 with the reason when not.
fn ready(harbour: &Harbour, request: &Request<Payload>) -> Result<Answer, Failure> {
    only_get(request)?;
    let mut health = health_of(harbour);
    let stopping = harbour.is_stopping();
    if stopping {
        health.problems.push("the server is going down".to_owned());
    }
    let mut answer = answer::json(&health)?;
    if stopping || !matches!(harbour.broker.state(), StorageState::Ok) {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(answer)
}

fn health_of(harbour: &Harbour) -> Health {
    let mut problems = harbour.damage.clone();
    let status = match harbour.broker.state() {
        StorageState::Failed(reason) => {
            problems.push(format!("storage has failed, restart the server: {reason}"));
            "failed"
        }
        StorageState::Full(reason) => {
            problems.push(format!("storage is full, free some space: {reason}"));
            "degraded"
        }
        StorageState::Ok if problems.is_empty() => "ok",
        StorageState::Ok => "degraded",
    };
    Health {
        v: DOCUMENT_VERSION,
        status: status.to_owned(),
        problems,
    }
}

fn clients(harbour: &Harbour, request: &Request<Payload>) -> Result<Answer, Failure> {
    only_get(request)?;
    let history = !request::parameters(request.uri(), &["history"])?.is_empty();
    let clients = harbour.roster.list(history, now_us());
    answer::json(&Clients {
        v: DOCUMENT_VERSION,
        clients,
    })
}

fn list_topics(harbour: &Harbour, request: &Request<Payload>) -> Result<Answer, Failure> {
    only_get(request)?;
    request::parameters(request.uri(), &[])?;
    let topics = topics::entries(harbour);
    answer::json(&Topics {
        v: DOCUMENT_VERSION,
        topics,
    })
}
