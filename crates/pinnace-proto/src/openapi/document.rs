//! The table as an OpenAPI 3.1 document.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{Answer, Content, Example, Kind, Operation, Place, operations};
use crate::api;
use crate::run::RunRecord;
use crate::sync;
use crate::upkeep;

/// The document. Built once by whoever serves it: it is the same every time.
pub fn document() -> Value {
    let mut listed = Map::new();
    for (place, operation) in operations().enumerate() {
        let methods = listed.entry(operation.path).or_insert_with(|| json!({}));
        let mut described = described(operation);
        // Objects have no order, but a reader is told of publishing before the finer points.
        described["x-place"] = place.into();
        methods[operation.method.to_ascii_lowercase()] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Pinnace",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Topics, durable queues, streams and runs over HTTP.",
            "description": "Topics live at the root: one path segment is a topic, two are a topic and a subscriber. \
                Segments are percent-decoded after splitting; names that begin with `-`, `_` or `$` are reserved. \
                Failures are problem documents (RFC 9457) with a stable `code`. Any path answers 405 with `Allow` to other methods, \
                500 when something is wrong with the server, 503 when storage has failed or the server is going down. \
                Where users are configured, everything but `/-/health` and `/-/ready` answers 401 to nobody in particular and 403 to who may not. \
                The same messages travel over the NATS door.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This server"}],
        "tags": [
            {"name": "Messages", "description": "Publish, look, listen."},
            {"name": "Queues", "description": "A named subscriber's messages wait until they are fetched."},
            {"name": "Server", "description": "How it is and who is there."},
            {"name": "Runs", "description": "What was measured."},
            {"name": "Shares", "description": "What is mirrored."},
        ],
        "paths": listed,
        "security": [{}, {"token": []}, {"password": []}],
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
    })
}

fn described(operation: &Operation) -> Value {
    let mut described = Map::new();
    described.insert("operationId".into(), operation.id.into());
    described.insert("tags".into(), json!([operation.tag]));
    described.insert("summary".into(), operation.summary.into());
    if !operation.detail.is_empty() {
        described.insert("description".into(), operation.detail.into());
    }
    let mut parameters = in_path(operation.path);
    parameters.extend(operation.parameters.iter().map(|parameter| {
        let place = match parameter.place {
            Place::Query => "query",
            Place::Header => "header",
        };
        json!({
            "name": parameter.name,
            "in": place,
            "description": parameter.detail,
            "schema": kind(parameter.kind),
            "allowEmptyValue": matches!(parameter.kind, Kind::Flag),
        })
    }));
    if !parameters.is_empty() {
        described.insert("parameters".into(), parameters.into());
    }
    if let Some(body) = operation.body {
        let content = Map::from_iter([content(body)]);
        let required = matches!(body, Content::Json(_));
        described.insert(
            "requestBody".into(),
            json!({"required": required, "content": content}),
        );
    }
    let answers: Map<String, Value> = operation
        .answers
        .iter()
        .map(|answer| (answer.status.to_string(), answered(answer)))
        .collect();
    described.insert("responses".into(), answers.into());
    let examples: Vec<Value> = operation
        .examples
        .iter()
        .map(|example| shown(operation.method, example))
        .collect();
    described.insert("x-examples".into(), examples.into());
    described.into()
}

fn in_path(path: &str) -> Vec<Value> {
    let named = path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        let (detail, example) = match name {
            "topic" => ("Tokens with dots between them", "lab.alerts"),
            "subscriber" => ("A name of your choice", "alice"),
            _ => ("Name of the run", "nightly"),
        };
        Some(json!({
            "name": name, "in": "path", "required": true, "description": detail,
            "schema": {"type": "string", "examples": [example]},
        }))
    });
    named.collect()
}

fn kind(kind: Kind) -> Value {
    match kind {
        Kind::Text(example) => json!({"type": "string", "examples": [example]}),
        Kind::Number => json!({"type": "integer", "minimum": 0}),
        Kind::Duration => json!({"type": "string", "examples": ["30s", "5m"]}),
        Kind::Size => json!({"type": "string", "examples": ["10M"]}),
        Kind::Flag => json!({"type": "string"}),
        Kind::Word(words) => json!({"type": "string", "enum": words}),
    }
}

fn answered(answer: &Answer) -> Value {
    let mut described = Map::new();
    described.insert("description".into(), answer.detail.into());
    if !answer.content.is_empty() {
        let is_problem = answer.status >= 400;
        let contents = answer.content.iter().map(|one| match content(*one) {
            (_, body) if is_problem && matches!(one, Content::Json("Problem")) => {
                ("application/problem+json".to_owned(), body)
            }
            other => other,
        });
        described.insert("content".into(), contents.collect::<Map<_, _>>().into());
    }
    if !answer.headers.is_empty() {
        let headers: Map<String, Value> = answer
            .headers
            .iter()
            .map(|(name, detail)| {
                let header = json!({"description": detail, "schema": {"type": "string"}});
                ((*name).to_owned(), header)
            })
            .collect();
        described.insert("headers".into(), headers.into());
    }
    described.into()
}

fn content(content: Content) -> (String, Value) {
    let of = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    match content {
        Content::Json(name) => ("application/json".into(), json!({"schema": of(name)})),
        Content::Lines(name) => (
            "application/x-ndjson".into(),
            json!({"schema": {"type": "string"}, "x-line": of(name)}),
        ),
        Content::Raw => ("*/*".into(), json!({"schema": {"type": "string"}})),
        Content::Events => (
            "text/event-stream".into(),
            json!({"schema": {"type": "string"}}),
        ),
        Content::Text(kind) => (kind.into(), json!({"schema": {"type": "string"}})),
    }
}

/// An example as it is sent, and as somebody would type it.
fn shown(method: &str, example: &Example) -> Value {
    let mut typed = "curl".to_owned();
    if example
        .headers
        .iter()
        .any(|(_, value)| *value == "text/event-stream")
    {
        typed += " -N";
    }
    match (method, example.body) {
        ("GET", _) | ("POST", _) if method == "GET" || !example.body.is_empty() => {}
        _ => typed += &format!(" -X {method}"),
    }
    for (name, value) in example.headers {
        typed += &format!(" -H '{name}: {value}'");
    }
    if !example.body.is_empty() {
        typed += &format!(" -d '{}'", example.body);
    }
    let quoted = example.target.contains(['?', '&', '%']);
    let quote = if quoted { "'" } else { "" };
    typed += &format!(" {quote}http://127.0.0.1:7420{}{quote}", example.target);
    let headers: Map<String, Value> = example
        .headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
        .collect();
    json!({
        "title": example.title, "curl": typed, "target": example.target, "headers": headers,
        "body": example.body, "status": example.status,
    })
}

fn schemas() -> Map<String, Value> {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    // Each document stands under its name, and says nothing about which draft it is.
    settings.meta_schema = None;
    let mut generator = SchemaGenerator::new(settings);
    add::<api::Info>(&mut generator);
    add::<api::Health>(&mut generator);
    add::<api::Clients>(&mut generator);
    add::<api::Topics>(&mut generator);
    add::<upkeep::TopicsCheck>(&mut generator);
    add::<api::TopicEntry>(&mut generator);
    add::<api::Unread>(&mut generator);
    add::<api::MessageLine>(&mut generator);
    add::<api::Links>(&mut generator);
    add::<api::Runs>(&mut generator);
    add::<api::JoinRequest>(&mut generator);
    add::<api::Joined>(&mut generator);
    add::<api::Query>(&mut generator);
    add::<api::Rows>(&mut generator);
    add::<api::Problem>(&mut generator);
    add::<RunRecord>(&mut generator);
    add::<sync::Shares>(&mut generator);
    add::<sync::Trash>(&mut generator);
    add::<sync::Waited>(&mut generator);
    add::<sync::Verdict>(&mut generator);
    let mut schemas = generator.take_definitions(true);
    schemas.insert(
        "TopicAnswer".into(),
        json!({
            "description": "The topic; with `unread`, who has not taken a message.",
            "anyOf": [
                {"$ref": "#/components/schemas/TopicEntry"},
                {"$ref": "#/components/schemas/Unread"},
            ],
        }),
    );
    schemas.insert(
        "Report".into(),
        json!({"description": "A run's report: totals, clients, workers, warnings.", "type": "object"}),
    );
    schemas.insert(
        "Description".into(),
        json!({"description": "An OpenAPI document.", "type": "object"}),
    );
    schemas
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    // The reference is not needed: it is made by name.
    drop(generator.subschema_for::<T>());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(parts) => {
                if let Some(Value::String(reference)) = parts.get("$ref") {
                    found.push(reference.clone());
                }
                parts.values().for_each(|part| references(part, found));
            }
            Value::Array(parts) => parts.iter().for_each(|part| references(part, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 40);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn examples_can_be_typed() {
        let document = document();
        let curl = |pointer: &str| document.pointer(pointer).unwrap().as_str().unwrap();
        for (pointer, typed) in [
            (
                "/paths/~1{topic}/post/x-examples/0/curl",
                "curl -H 'content-type: text/plain' -d 'hi' http://127.0.0.1:7420/alerts",
            ),
            (
                "/paths/~1{topic}~1{subscriber}/post/x-examples/0/curl",
                "curl -X POST http://127.0.0.1:7420/alerts/alice",
            ),
            (
                "/paths/~1{topic}~1{subscriber}/get/x-examples/0/curl",
                "curl 'http://127.0.0.1:7420/alerts/alice?wait=30s'",
            ),
        ] {
            assert_eq!(curl(pointer), typed);
        }
    }
}
