//! Writes `corpus/`: for each target a few inputs to begin with, made with the product's own writers and
//! schemas. What a target finds besides stays in `target/corpus/`.

mod sync_seeds;

use std::fs;
use std::path::Path;
use std::sync::Arc;

// The instrumented crates need its symbols.
use libfuzzer_sys as _;
use pinnace_log::twin::TwinDisk;
use pinnace_proto::{Histogram, schema};
use pinnace_topics::{Batch, Broker, Message, Options, Overflow, QueueOptions, Start};
use serde_json::{Map, Value, json};

const SESSIONS: [&str; 6] = [
    "CONNECT {\"verbose\":false}\r\nPING\r\nPONG\r\n",
    "SUB a.* 1\r\nSUB a.> group 2\r\nUNSUB 1 5\r\nUNSUB 2\r\n",
    "PUB a.b 5\r\nhello\r\nPUB a reply 0\r\n\r\n",
    "HPUB a 12 17\r\nNATS/1.0\r\n\r\nhello\r\nHPUB a r 22 22\r\nNATS/1.0\r\nA: b\r\n\r\n\r\n",
    "INFO {}\r\n+OK\r\n-ERR 'x'\r\n",
    "pub\ta.b \t 1\nx\r\nPUB a 1000\r\n",
];
const CONNECTS: [&str; 3] = [
    "{}",
    r#"{"verbose":true,"pedantic":true,"name":"n","protocol":1,"echo":false,"headers":true,"no_responders":true,"lang":"rust","version":"1","tls_required":false}"#,
    r#"{"user":"u","pass":"p","auth_token":"t","nkey":"UA","sig":"s","verbose":null,"other":[1,{"a":"b"}]}"#,
];
const TEXTS: [&str; 8] = [
    "10MiB",
    "1.5GB",
    "4k",
    "1h30m",
    "500ms",
    "30s",
    "12.5us",
    "host name_1",
];

/// A corpus by the name of its target.
fn write(target: &str, inputs: impl IntoIterator<Item = Vec<u8>>) {
    let dir = Path::new("corpus").join(target);
    fs::create_dir_all(&dir).expect("a folder");
    for (n, input) in inputs.into_iter().enumerate() {
        fs::write(dir.join(format!("{n:02}")), input).expect("a file");
    }
}

/// A value that fits a schema, with everything in it; of alternatives the `which`-th.
fn sample(schema: &Value, root: &Value, which: usize) -> Value {
    if let Some(path) = schema["$ref"].as_str() {
        let referred = root
            .pointer(path.trim_start_matches('#'))
            .expect("a definition");
        let mut referred = sample(referred, root, which);
        if let (Some(all), Some(own)) = (referred.as_object_mut(), schema["properties"].as_object())
        {
            all.extend(
                own.iter()
                    .map(|(key, value)| (key.clone(), sample(value, root, which))),
            );
        }
        return referred;
    }
    if !schema["const"].is_null() {
        return schema["const"].clone();
    }
    if let Some(values) = schema["enum"].as_array() {
        return values[which % values.len()].clone();
    }
    let alternatives = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    let chosen = alternatives.map(|all| sample(&all[which % all.len()], root, which));
    let kind = schema["type"].as_str().or(schema["type"][0].as_str());
    match kind {
        Some("object") => {
            let own = schema["properties"].as_object().into_iter().flatten();
            let own = own.map(|(key, value)| (key.clone(), sample(value, root, which)));
            let mut object: Map<String, Value> = own.collect();
            if let Some(Value::Object(chosen)) = chosen {
                object.extend(chosen);
            }
            Value::Object(object)
        }
        Some("array") => json!([sample(&schema["items"], root, which)]),
        Some("integer" | "number") => json!(which + 1),
        Some("boolean") => json!(which.is_multiple_of(2)),
        Some("string") => json!("a"),
        _ => chosen.unwrap_or(Value::Null),
    }
}

/// Each document of the contract that a target reads, behind the letter that chooses it.
fn documents() -> Vec<Vec<u8>> {
    let letters = [
        ("event.json", 'e', 8),
        ("finished.json", 'f', 1),
        ("client.json", 'p', 2),
        ("run.json", 'r', 2),
        ("message.json", 'm', 1),
        ("topics.json", 't', 1),
    ];
    let mut inputs = Vec::new();
    for (name, schema) in schema::all() {
        let Some((_, letter, count)) = letters.iter().find(|(file, ..)| *file == name) else {
            continue;
        };
        let schema = schema.to_value();
        inputs.extend((0..*count).map(|which| {
            let document = sample(&schema, &schema, which);
            format!("{letter}{document}").into_bytes()
        }));
    }
    let started = inputs.iter().find_map(|input| {
        let document: Value = serde_json::from_slice(&input[1..]).expect("a document");
        document.get("job").cloned()
    });
    let mut histogram = Histogram::for_recording();
    histogram.record(1_000_000);
    let histogram = serde_json::to_string(&histogram).expect("a document");
    inputs.push(format!("j{}", started.expect("a job")).into_bytes());
    inputs.push(format!("h{histogram}").into_bytes());
    for text in [
        r#"q{"sql":"select 1"}"#,
        r#"o{"run":"r","client":"c","instance":"0"}"#,
    ] {
        inputs.push(text.into());
    }
    inputs
}

/// The disk of a broker on which everything was done that writes a record.
fn disk() -> TwinDisk {
    let disk = TwinDisk::new();
    let mut options = Options::default();
    (options.log.segment_bytes, options.log.record_bytes_max) = (8192, 2048);
    options.log.salt = Some(7);
    let clock = Arc::new(|| 1_000_000);
    let opened = Broker::open_on(Arc::new(disk.clone()), Path::new("log"), options, clock);
    let (broker, _) = opened.expect("an empty disk");
    let limits = QueueOptions {
        messages_max: Some(2),
        overflow: Overflow::DropOldest,
        dead_letter: Some((*b"d").into()),
        ..QueueOptions::default()
    };
    let mut publisher = broker.publisher();
    let mut publish = |id: Option<&[u8]>| {
        let message = Message {
            topic: b"a",
            reply: None,
            headers: b"",
            payload: b"x",
        };
        let published = publisher.publish_with(&message, id, None, &mut Batch::default(), || None);
        published.expect("room");
    };
    let settled = || {
        let (sender, receiver) = std::sync::mpsc::channel();
        broker.settle(Box::new(move |outcome| drop(sender.send(outcome))));
        receiver.recv().expect("an answer").expect("no fault");
    };
    for (name, start, options) in [("q", Start::New, None), ("l", Start::First, Some(limits))] {
        let call = Box::new(|_| ());
        broker
            .create_queue_with(b"a", name, start, options, call)
            .expect("a queue");
        publish(None);
        publish(Some(b"id"));
    }
    publish(None);
    settled();
    broker
        .take(b"a", "q", 1, Box::new(|taken| drop(taken)))
        .expect("the queue");
    broker
        .consume(b"a", "q", 2, Box::new(|_| ()))
        .expect("the queue");
    broker
        .delete_queue(b"a", "l", Box::new(|_| ()))
        .expect("the queue");
    settled();
    drop((publisher, broker));
    disk
}

/// The file without its zeros, as `log_recovery` reads it.
fn compact(file: &[u8]) -> Vec<u8> {
    let used = file
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    [&file[..32], &file[2048..2080], &file[4096..used.max(4096)]].concat()
}

fn main() {
    write("sync_messages", sync_seeds::messages());
    write("sync_index", sync_seeds::index());
    write("nats_operations", SESSIONS.map(|text| text.into()));
    write("nats_connect", CONNECTS.map(|text| text.into()));
    write("units", TEXTS.map(|text| text.into()));
    write("documents", documents());
    let disk = disk();
    let file = disk.contents(&disk.paths()[0]).expect("a segment");
    let one = compact(&file);
    let log = |flags: u8, split: u8| [&[flags, split], one.as_slice()].concat();
    write("log_recovery", [log(0, 255), log(1, 255), log(1, 128)]);
    let mut records = Vec::new();
    let mut at = 4096;
    while let Some(header) = file.get(at..at + 24) {
        let length = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
        let Some(record) = file
            .get(at + 24..at + 24 + length)
            .filter(|record| !record.is_empty())
        else {
            break;
        };
        records.push(length as u8);
        records.extend_from_slice(record);
        at += 24 + length;
    }
    let restated = [
        &[9, 4, 1, 1],
        b"a".as_slice(),
        &[1],
        b"q",
        &[3, 6, 1, 2],
        &[3, 7, 9, 9],
    ]
    .concat();
    write(
        "topic_records",
        [records.clone(), [records, restated].concat()],
    );
}
