//! The description of the API against the door: every example is sent, every answer is as described,
//! and nothing is answered that is not described.

use std::collections::BTreeSet;

use pinnace_proto::openapi::{Example, Operation, Place, methods, operations, paths};
use serde_json::{Map, Value};

use crate::support::{Answer, Raw, Server};

/// Checks a document against a schema; an unknown keyword is an error of the check.
fn validate(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let Value::Object(rules) = schema else {
        return if schema == &Value::Bool(true) {
            Ok(())
        } else {
            Err(format!("{place}: nothing is allowed"))
        };
    };
    for (rule, wanted) in rules {
        let holds = match rule.as_str() {
            "description" | "title" | "format" | "examples" | "default" => true,
            "$ref" => {
                let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                validate(root, root.pointer(pointer).unwrap(), value, place)?;
                true
            }
            "type" => is_of(value, wanted),
            "enum" => wanted.as_array().unwrap().contains(value),
            "const" => wanted == value,
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "maximum" => value
                .as_f64()
                .is_none_or(|number| number <= wanted.as_f64().unwrap()),
            "required" => wanted.as_array().unwrap().iter().all(|key| {
                value
                    .as_object()
                    .is_none_or(|o| o.contains_key(key.as_str().unwrap()))
            }),
            "anyOf" | "oneOf" => {
                let fitting = wanted.as_array().unwrap().iter();
                let fitting = fitting.filter(|one| validate(root, one, value, place).is_ok());
                if rule == "anyOf" {
                    fitting.count() > 0
                } else {
                    fitting.count() == 1
                }
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    validate(root, wanted, item, &format!("{place}/{n}"))?;
                }
                true
            }
            "properties" => {
                for (key, property) in wanted.as_object().unwrap() {
                    if let Some(part) = value.get(key) {
                        validate(root, property, part, &format!("{place}/{key}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let none = Map::new();
                let known = rules
                    .get("properties")
                    .and_then(Value::as_object)
                    .unwrap_or(&none);
                for (key, part) in value.as_object().into_iter().flatten() {
                    if !known.contains_key(key) {
                        validate(root, wanted, part, &format!("{place}/{key}"))?;
                    }
                }
                true
            }
            other => panic!("the check does not know `{other}`"),
        };
        if !holds {
            return Err(format!("{place}: {value} against {rule} {wanted}"));
        }
    }
    Ok(())
}

fn is_of(value: &Value, kinds: &Value) -> bool {
    if let Value::Array(kinds) = kinds {
        return kinds.iter().any(|kind| is_of(value, kind));
    }
    match kinds.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the check does not know type `{other}`"),
    }
}

fn document(server: &Server) -> Value {
    server.get("/-/openapi.json").json()
}

/// What the document says of an answer.
#[track_caller]
fn described<'a>(document: &'a Value, operation: &Operation, status: u16) -> &'a Value {
    let path = operation.path.replace('~', "~0").replace('/', "~1");
    let method = operation.method.to_ascii_lowercase();
    let pointer = format!("/paths/{path}/{method}/responses/{status}");
    document
        .pointer(&pointer)
        .unwrap_or_else(|| panic!("{pointer} is not described"))
}

/// An answer's type and body are among those described; what is JSON fits its schema.
#[track_caller]
fn check(document: &Value, operation: &Operation, answer: &Answer) {
    let told = described(document, operation, answer.status);
    let what = format!("{} {} {}", operation.method, operation.path, answer.status);
    let contents = told["content"].as_object();
    let Some(contents) = contents else {
        assert_eq!(answer.text(), "", "{what} has a body");
        return;
    };
    let kind = answer
        .header("content-type")
        .unwrap_or_else(|| panic!("{what} has no type"));
    let content = contents.get(kind).or_else(|| contents.get("*/*"));
    let content = content.unwrap_or_else(|| panic!("{what} is {kind}: {contents:?}"));
    if kind == "application/json" || kind == "application/problem+json" {
        validate(document, &content["schema"], &answer.json(), "")
            .unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    if kind == "application/x-ndjson" {
        assert!(!answer.body.is_empty());
        for line in answer.text().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            validate(document, &content["x-line"], &line, "")
                .unwrap_or_else(|e| panic!("{what}: {e}"));
        }
    }
    for name in told["headers"].as_object().into_iter().flat_map(Map::keys) {
        assert!(name.starts_with("Pinnace-"), "{name}");
    }
}

/// Sends an example; a stream is read no further than its head.
fn send(server: &Server, operation: &Operation, example: &Example) -> Answer {
    if !example.headers.contains(&("accept", "text/event-stream")) {
        return server.http(
            operation.method,
            example.target,
            example.headers,
            example.body.as_bytes(),
        );
    }
    let mut raw = Raw::connect(&server.http);
    let target = example.target;
    raw.send(format!(
        "GET {target} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n"
    ));
    let mut headers = Vec::new();
    loop {
        match raw.line() {
            line if line.is_empty() => break,
            line => headers.push(line),
        }
    }
    Answer {
        status: headers[0].split(' ').nth(1).unwrap().parse().unwrap(),
        headers: headers.join("\n"),
        body: Vec::new(),
    }
}

#[test]
fn every_example_works_as_described() {
    let server = Server::start();
    let document = document(&server);
    let mut sent = 0;
    for operation in operations() {
        for example in operation.examples {
            let answer = send(&server, operation, example);
            assert_eq!(
                answer.status, example.status,
                "{} {}: {answer:?}",
                operation.method, example.target
            );
            check(&document, operation, &answer);
            sent += 1;
        }
    }
    assert!(sent > 30, "{sent}");
}

#[test]
fn what_a_busy_server_answers_fits_its_schemas() {
    let server = Server::start();
    let document = document(&server);
    let mut nats = server.nats_client();
    nats.send("SUB t 1\r\n");
    nats.until_pong();
    drop(server.nats_client());
    server.post(
        "/t/a?max_messages=9&max_age=1h&max_deliveries=3&dead_letter=t.dead",
        "",
    );
    server.http(
        "POST",
        "/t",
        &[("content-type", "text/plain"), ("nats-msg-id", "1")],
        b"one",
    );
    server.http("POST", "/t", &[], b"\xff");
    let find = |method: &str, path: &str| {
        operations()
            .find(|o| (o.method, o.path) == (method, path))
            .unwrap()
    };
    for (method, path, target, body, status) in [
        ("GET", "/{topic}", "/t", "", 200),
        ("GET", "/{topic}", "/t?unread=1", "", 200),
        ("GET", "/-/topics", "/-/topics", "", 200),
        ("GET", "/-/clients", "/-/clients?history", "", 200),
        (
            "GET",
            "/{topic}/{subscriber}",
            "/t/a?max=5&lease=1m",
            "",
            200,
        ),
        ("GET", "/{topic}/{subscriber}", "/t/a", "", 204),
        (
            "POST",
            "/{topic}/{subscriber}",
            "/t/a?lease=0123456789abcdef&extend=1s",
            "",
            410,
        ),
        (
            "POST",
            "/-/query",
            "/-/query",
            r#"{"sql": "SELECT 1 AS a, NULL AS b, 'x' AS c"}"#,
            200,
        ),
        ("POST", "/-/query", "/-/query", "no JSON", 400),
        ("POST", "/{topic}", "/_reserved", "", 400),
    ] {
        let answer = server.http(method, target, &[], body.as_bytes());
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        check(&document, find(method, path), &answer);
    }
}

#[test]
fn the_check_can_fail() {
    let root = serde_json::json!({"a": {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer", "minimum": 0}}}});
    let schema = serde_json::json!({"$ref": "#/a"});
    for (value, fits) in [
        (serde_json::json!({"x": 1}), true),
        (serde_json::json!({"x": -1}), false),
        (serde_json::json!({"x": "1"}), false),
        (serde_json::json!({}), false),
        (serde_json::json!([]), false),
    ] {
        assert_eq!(
            validate(&root, &schema, &value, "").is_ok(),
            fits,
            "{value}"
        );
    }
}

#[test]
fn only_what_is_described_is_answered() {
    let server = Server::start();
    for path in paths() {
        let target = path
            .replace("{topic}", "t")
            .replace("{subscriber}", "s")
            .replace("{run}", "r");
        let allowed = methods(path);
        for method in ["GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"] {
            let answer = server.http(method, &target, &[], b"");
            if allowed.contains(&method) {
                assert_ne!(answer.status, 405, "{method} {path}");
            } else {
                assert_eq!(answer.status, 405, "{method} {path}");
                assert_eq!(
                    answer.header("allow"),
                    Some(allowed.join(", ").as_str()),
                    "{path}"
                );
            }
        }
    }
    assert_eq!(server.get("/-/nothing").json()["code"], "no-such-path");
}

#[test]
fn parameters_are_those_described() {
    let server = Server::start();
    server.post("/t/s", "");
    let mut checked = 0;
    for operation in operations() {
        let target = operation
            .path
            .replace("{topic}", "t")
            .replace("{subscriber}", "s")
            .replace("{run}", "r");
        let answer = server.http(operation.method, &format!("{target}?zzz=1"), &[], b"");
        if answer.status != 400 || answer.json()["code"] != "unknown-parameter" {
            continue;
        }
        let json = answer.json();
        let known = json["detail"]
            .as_str()
            .unwrap()
            .split("known: ")
            .nth(1)
            .unwrap();
        let known: BTreeSet<&str> = known
            .split(", ")
            .filter(|name| *name != "none here")
            .collect();
        let told = operation
            .parameters
            .iter()
            .filter(|p| p.place == Place::Query);
        let told: BTreeSet<&str> = told.map(|parameter| parameter.name).collect();
        assert!(
            known.is_subset(&told),
            "{}: {known:?} but {told:?} are described",
            operation.id
        );
        checked += 1;
    }
    assert!(checked >= 10, "{checked}");
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let server = Server::start();
    let answer = server.get("/-/docs");
    let policy = answer.header("content-security-policy").unwrap();
    let nonce = policy
        .split("'nonce-")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    let again = server.get("/-/docs");
    assert!(
        !again
            .header("content-security-policy")
            .unwrap()
            .contains(nonce),
        "it is new each time"
    );
    let page = answer.text();
    assert_eq!(
        page.matches("<script").count(),
        page.matches(&format!("nonce=\"{nonce}\"")).count() - 1
    );
    for outside in [" src=", "@import", "url(", "//cdn", "innerHTML"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let inside = page.split("id=\"document\"").nth(1).unwrap();
    let inside = inside
        .split_once('>')
        .unwrap()
        .1
        .split("</script>")
        .next()
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(inside).unwrap(),
        document(&server)
    );
    let pinned = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let pinned = std::fs::read_to_string(pinned).unwrap();
    assert_eq!(
        server.get("/-/openapi.json").text(),
        pinned,
        "run `cargo xtask schemas` and commit"
    );
}
