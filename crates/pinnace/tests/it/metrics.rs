//! `GET /-/metrics`: read strictly, counted after known traffic, and what alert rules and the
//! dashboard name is there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{Server, wait_for};

/// A family: its kind and its samples by name and sorted labels.
#[derive(Debug)]
struct Family {
    kind: String,
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

struct Page(BTreeMap<String, Family>);

/// Reads the text format and refuses whatever it does not allow.
fn parse(text: &str) -> Page {
    assert!(text.ends_with('\n'));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut lines = text.lines();
    let mut current = String::new();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(
                is_name(name) && help.ends_with('.') && help.len() > 5,
                "{line}"
            );
            let kind = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
            let (same, kind) = kind.split_once(' ').unwrap();
            assert_eq!(same, name);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} {kind}");
            let family = Family {
                kind: kind.to_owned(),
                samples: BTreeMap::new(),
            };
            assert!(
                families.insert(name.to_owned(), family).is_none(),
                "{name} twice"
            );
            current = name.to_owned();
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match key.split_once('{') {
            Some((name, labels)) => (name, labels_of(labels.strip_suffix('}').unwrap())),
            None => (key, BTreeMap::new()),
        };
        let family = families.get_mut(&current).unwrap();
        let suffix = name
            .strip_prefix(current.as_str())
            .unwrap_or_else(|| panic!("{line}"));
        match family.kind.as_str() {
            "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
            _ => assert_eq!(suffix, "", "{line}"),
        }
        let value: f64 = value.parse().unwrap();
        assert!(value >= 0.0, "{line}");
        let sample = (name.to_owned(), labels);
        assert!(
            family.samples.insert(sample, value).is_none(),
            "twice: {line}"
        );
    }
    let page = Page(families);
    page.check_histograms();
    page
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn labels_of(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(is_name(name), "{text}");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (end, '"') => break end,
                (_, '\\') => match chars.next().unwrap().1 {
                    'n' => value.push('\n'),
                    c @ ('"' | '\\') => value.push(c),
                    c => panic!("\\{c} in {text}"),
                },
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{text}");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}

impl Page {
    /// Counts rise with their class, and the last class holds them all.
    fn check_histograms(&self) {
        for (name, family) in self.0.iter().filter(|(_, f)| f.kind == "histogram") {
            let mut series: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
            for ((sample, labels), value) in &family.samples {
                if sample.ends_with("_bucket") {
                    let mut labels = labels.clone();
                    let end = labels.remove("le").unwrap();
                    let end = if end == "+Inf" {
                        f64::INFINITY
                    } else {
                        end.parse().unwrap()
                    };
                    series.entry(labels).or_default().push((end, *value));
                }
            }
            for (labels, mut classes) in series {
                classes.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(classes.is_sorted_by(|a, b| a.1 <= b.1), "{name} {labels:?}");
                let (end, all) = *classes.last().unwrap();
                assert_eq!(end, f64::INFINITY);
                assert_eq!(
                    all,
                    family.samples[&(format!("{name}_count"), labels.clone())]
                );
                assert!(
                    family
                        .samples
                        .contains_key(&(format!("{name}_sum"), labels))
                );
            }
        }
    }

    #[track_caller]
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|s| name.strip_suffix(s));
        let family = self.0.get(name).or_else(|| self.0.get(base?));
        let family = family.unwrap_or_else(|| panic!("no family {name}"));
        let value = family.samples.get(&(name.to_owned(), labels));
        *value.unwrap_or_else(|| panic!("no such sample of {name}: {:#?}", family.samples))
    }
}

fn page(server: &Server) -> Page {
    let answer = server.get("/-/metrics");
    assert_eq!(answer.status, 200);
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    parse(answer.text())
}

const NATS: &[(&str, &str)] = &[("door", "nats")];
const HTTP: &[(&str, &str)] = &[("door", "http")];

#[test]
fn traffic_is_counted_exactly() {
    let server = Server::start();
    let before = page(&server);
    assert_eq!(before.value("pinnace_connections", NATS), 0.0);
    assert_eq!(before.value("pinnace_received_messages_total", HTTP), 0.0);

    let mut subscriber = server.nats_client();
    subscriber.send("SUB t.> 1\r\nSUB t.a 2\r\n");
    subscriber.until_pong();
    let mut publisher = server.nats_client();
    for _ in 0..10 {
        publisher.send("PUB t.a 3\r\nabc\r\nPUB t.b 3\r\nabc\r\nPUB nobody 1\r\nx\r\n");
    }
    publisher.until_pong();
    assert_eq!(subscriber.until_pong().len(), 2 * 30);
    for path in ["/q/one", "/q/two"] {
        server.post(path, "");
    }
    for n in 0..7 {
        assert_eq!(server.post("/q", &"x".repeat(n)).status, 200);
    }
    assert_eq!(server.get("/q/one?max=5").status, 200);
    assert_eq!(server.get("/q/nobody").status, 404);
    assert_eq!(server.http("PUT", "/q", &[], b"").status, 405);
    assert_eq!(
        server
            .http("POST", "/q", &[], &vec![0; (1 << 20) + 1])
            .status,
        413
    );

    let after = page(&server);
    let value = |name, labels: &[(&str, &str)]| after.value(name, labels);
    for (name, nats, http) in [
        ("pinnace_received_messages_total", 30.0, 7.0),
        ("pinnace_sent_messages_total", 30.0, 5.0),
        ("pinnace_connections", 2.0, 1.0),
        ("pinnace_connections_total", 2.0, 15.0),
        ("pinnace_slow_consumers_total", 0.0, 0.0),
        ("pinnace_refused_publishes_total", 0.0, 1.0),
    ] {
        assert_eq!(
            (value(name, NATS), value(name, HTTP)),
            (nats, http),
            "{name}"
        );
    }
    // What the publisher said, and at least that.
    let said =
        10.0 * ("PUB t.a 3\r\nabc\r\n".len() as f64 * 2.0 + "PUB nobody 1\r\nx\r\n".len() as f64);
    let received = value("pinnace_received_bytes_total", NATS);
    assert!(received > said && received < said + 1_000.0, "{received}");
    assert!(value("pinnace_sent_bytes_total", NATS) > 30.0 * "MSG t.a 1 3\r\nabc\r\n".len() as f64);
    // Fifteen requests; the body that was refused was not read.
    let received = value("pinnace_received_bytes_total", HTTP);
    assert!(
        received > 15.0 * 40.0 && received < 1_048_576.0,
        "{received}"
    );
    for (path, method, code, count) in [
        ("/{topic}", "POST", "200", 7.0),
        ("/{topic}", "POST", "413", 1.0),
        ("/{topic}", "PUT", "405", 1.0),
        ("/{topic}/{subscriber}", "POST", "200", 2.0),
        ("/{topic}/{subscriber}", "GET", "200", 1.0),
        ("/{topic}/{subscriber}", "GET", "404", 1.0),
        ("/-/metrics", "GET", "200", 1.0),
    ] {
        let labels = [("path", path), ("method", method), ("code", code)];
        assert_eq!(
            value("pinnace_http_requests_total", &labels),
            count,
            "{labels:?}"
        );
    }
    assert_eq!(value("pinnace_publish_ack_seconds_count", HTTP), 7.0);
    assert!(value("pinnace_publish_ack_seconds_sum", HTTP) > 0.0);
    assert_eq!(value("pinnace_publish_deliver_seconds_count", HTTP), 7.0);
    let sampled = value("pinnace_publish_deliver_seconds_count", NATS);
    assert!((0.0..=30.0).contains(&sampled));
    assert_eq!(
        value(
            "pinnace_http_request_seconds_count",
            &[("path", "/{topic}")]
        ),
        9.0
    );

    let (one, two) = (
        [("topic", "q"), ("subscriber", "one")],
        [("topic", "q"), ("subscriber", "two")],
    );
    assert_eq!(value("pinnace_queue_waiting_messages", &one), 2.0);
    assert_eq!(value("pinnace_queue_waiting_messages", &two), 7.0);
    assert_eq!(value("pinnace_queues_waiting_messages", &[]), 9.0);
    assert_eq!(value("pinnace_queues_waiting_messages_max", &[]), 7.0);
    assert_eq!(
        value("pinnace_queues_waiting_bytes", &[]),
        21.0 + 7.0 + 11.0 + 2.0
    );
    assert_eq!(value("pinnace_stored_messages", &[]), 7.0);
    assert_eq!(value("pinnace_queues", &[]), 3.0, "the collector's is one");
    let oldest = value("pinnace_queues_oldest_seconds", &[]);
    assert!(oldest > 0.0 && oldest < 60.0, "{oldest}");
    assert!(oldest >= value("pinnace_queue_oldest_seconds", &one));
    // Two queues, seven publishes and a fetch were synced one after the other.
    assert!(value("pinnace_log_fsync_seconds_count", &[]) >= 10.0);
    assert_eq!(value("pinnace_storage_state", &[("state", "ok")]), 1.0);
    assert_eq!(value("pinnace_storage_state", &[("state", "full")]), 0.0);
    assert!(value("process_resident_memory_bytes", &[]) > 1e6);
    assert!(value("process_open_fds", &[]) > 5.0);
    assert!(value("process_cpu_seconds_total", &[]) < 60.0);
}

#[test]
fn streams_and_their_messages_are_counted() {
    let server = Server::start();
    let mut raw = crate::support::Raw::connect(&server.http);
    raw.send("GET /t HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n");
    while !raw.line().is_empty() {}
    let events = [("kind", "events")];
    assert_eq!(page(&server).value("pinnace_streams", &events), 1.0);
    for _ in 0..3 {
        server.post("/t", "x");
    }
    wait_for("three messages out", || {
        page(&server).value("pinnace_sent_messages_total", HTTP) == 3.0
    });
    drop(raw);
    wait_for("the stream's end", || {
        page(&server).value("pinnace_streams", &events) == 0.0
    });
}

#[test]
fn odd_names_are_labels_like_any_other() {
    let server = Server::start();
    let long = "n".repeat(255);
    for name in ["a%22b%5C", "k%C3%A4se", &long] {
        server.post(&format!("/t/{name}"), "");
    }
    server.post("/t", "x");
    let page = page(&server);
    assert_eq!(
        page.value(
            "pinnace_queue_waiting_messages",
            &[("topic", "t"), ("subscriber", "a\"b\\")]
        ),
        1.0
    );
    assert_eq!(page.0["pinnace_queue_waiting_messages"].samples.len(), 3);
    let labels = page.0["pinnace_queue_waiting_messages"].samples.keys();
    assert!(
        labels
            .flat_map(|(_, labels)| labels.values())
            .all(|l| l.chars().count() <= 128)
    );
}

/// Names of metrics in a text, without what histograms append.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("pinnace_") || word.starts_with("process_"))
        .map(|word| {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|s| word.strip_suffix(s));
            base.unwrap_or(word).to_owned()
        })
        .collect()
}

#[test]
fn alerts_and_dashboard_name_what_is_there() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operation/");
    let read = |name: &str| std::fs::read_to_string(format!("{folder}{name}")).unwrap();
    let page = page(&Server::start());

    let alerts: Value = serde_saphyr::from_str(&read("alerts.yaml")).unwrap();
    let rules = alerts["groups"][0]["rules"].as_array().unwrap();
    for rule in rules {
        for part in ["alert", "expr"] {
            assert!(rule[part].is_string(), "{rule}");
        }
        assert!(rule["labels"]["severity"].is_string(), "{rule}");
        for part in ["summary", "description"] {
            assert!(rule["annotations"][part].is_string(), "{rule}");
        }
    }
    let dashboard: Value = serde_json::from_str(&read("grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array())
        .flatten();
    let exprs: Vec<_> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(
        rules.len() >= 10 && exprs.len() >= 20,
        "{} {}",
        rules.len(),
        exprs.len()
    );

    let mut names = named(&alerts.to_string());
    names.extend(named(&exprs.join(" ")));
    names.extend(named(&read("metrics.md")));
    for name in &names {
        assert!(page.0.contains_key(name), "{name} does not exist");
    }
    // And the list tells of every one there is.
    let listed = named(&read("metrics.md"));
    for name in page.0.keys() {
        assert!(listed.contains(name), "{name} is not in metrics.md");
    }
}
