//! Readers that stop reading and then read on, under each policy, over both doors: what they miss is
//! counted exactly and told, what they get is in order, and nobody else is held up.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use crate::chat::Talk;
use crate::requests::Asker;
use crate::sockets::Socket;
use crate::streams::Stream;
use crate::support::{Raw, Server, wait_for};

/// Bytes of a message: a few hundred are more than the sockets' buffers hold.
const BYTES: usize = 100_000;
/// Messages that are more than the sockets' buffers, a connection's and a small backlog hold.
const MANY: usize = 400;

/// Message `n`, which says its number.
fn text(n: usize) -> String {
    format!("{n:08}:{}", "x".repeat(BYTES - 9))
}

fn number(text: &str) -> usize {
    text.split(':').next().unwrap().parse().unwrap()
}

/// Publishes messages to `topic`, while a reader without a choice gets every one of them.
fn publish(
    server: &Server,
    numbers: std::ops::Range<usize>,
    topic: impl Fn(usize) -> String + Sync,
) {
    let mut witness = server.nats();
    // It cannot be told what is dropped, so nothing is, also where that is usual.
    witness.send("CONNECT {\"verbose\":false}\r\nSUB > 1\r\n");
    witness.until_pong();
    let mut publisher = server.nats_client();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in numbers.clone() {
                let (head, payload) = next_message(&mut witness);
                assert_eq!(head.split(' ').nth(1), Some(&*topic(n)));
                assert_eq!(number(&payload), n);
            }
        });
        for n in numbers.clone() {
            publisher.send(format!("PUB {} {BYTES}\r\n{}\r\n", topic(n), text(n)));
        }
        publisher.until_pong();
    });
}

/// Head and payload of the next message that is none of the server's own.
#[track_caller]
fn next_message(raw: &mut Raw) -> (String, String) {
    loop {
        let head = raw.line();
        assert!(head.contains("MSG "), "{head}");
        if head.starts_with("HMSG") {
            while !raw.line().is_empty() {}
        }
        let payload = raw.line();
        if !head.contains("MSG pinnace.") && !head.contains("MSG _INBOX") {
            return (head, payload);
        }
    }
}

/// The next message's number, and how many were dropped before it.
#[track_caller]
fn next(raw: &mut Raw) -> (usize, u64) {
    let head = raw.line();
    let mut dropped = 0;
    if head.starts_with("HMSG") {
        loop {
            let line = raw.line();
            match line.strip_prefix("Pinnace-Dropped: ") {
                Some(count) => dropped = count.parse().unwrap(),
                None if line.is_empty() => break,
                None => {}
            }
        }
    }
    assert!(head.contains("MSG t"), "{head}");
    (number(&raw.line()), dropped)
}

/// A client over NATS that chose what becomes of its subscription to `pattern`, which is its second.
#[track_caller]
fn subscriber(server: &Server, pattern: &str, choice: &Value) -> Asker {
    let mut asker = subscribing(server, pattern, choice);
    asker.raw.until_pong();
    asker
}

/// The same, which may have messages already.
#[track_caller]
fn subscribing(server: &Server, pattern: &str, choice: &Value) -> Asker {
    let mut asker = Asker::of(server);
    let mut fields = choice.clone();
    fields["topic"] = pattern.into();
    let answer = asker.ask("slow", &fields);
    assert_eq!(answer["error"], Value::Null, "{answer}");
    asker.raw.send(format!("SUB {pattern} 2\r\n"));
    asker
}

/// What the metrics count.
fn counted(server: &Server, sample: &str) -> u64 {
    let page = server.get("/-/metrics");
    let line = page.text().lines().find(|line| line.starts_with(sample));
    let line = line.unwrap_or_else(|| panic!("no {sample}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Numbers with what was dropped before each add up to all there were, in order.
#[track_caller]
fn check_counts(got: &[(usize, u64)], all: usize) -> u64 {
    assert!(got.is_sorted_by(|a, b| a.0 < b.0), "{got:?}");
    let dropped: u64 = got.iter().map(|(_, dropped)| dropped).sum();
    assert!(dropped > 0);
    assert_eq!(got.len() as u64 + dropped, all as u64);
    dropped
}

#[test]
fn the_oldest_are_dropped_and_the_next_message_says_how_many() {
    let server = Server::start();
    let choice = json!({"slow": "drop-oldest", "pending": "1M"});
    let mut stuck = subscriber(&server, "t", &choice);
    publish(&server, 0..MANY, |_| "t".to_owned());
    let behind = server.get("/t").json()["behind"][0].take();
    assert_eq!(behind["policy"], "drop-oldest");
    assert!(behind["waiting_bytes"].as_u64() > Some(0), "{behind}");
    let mut got = Vec::new();
    while got.last().is_none_or(|(n, _)| n + 1 < MANY) {
        got.push(next(&mut stuck.raw));
    }
    let dropped = check_counts(&got, MANY);
    let now = server.get("/t").json()["behind"][0].take();
    assert_eq!(
        (&now["dropped"], &now["waiting_bytes"]),
        (&dropped.into(), &0.into())
    );
    // One gap, and exactly what is missing in it.
    for pair in got.windows(2) {
        assert_eq!((pair[1].0 - pair[0].0 - 1) as u64, pair[1].1, "{pair:?}");
    }
    let sample = r#"pinnace_dropped_messages_total{door="nats",policy="drop-oldest"}"#;
    assert_eq!(counted(&server, sample), dropped);
    publish(&server, MANY..MANY + 5, |_| "t".to_owned());
    for n in MANY..MANY + 5 {
        assert_eq!(next(&mut stuck.raw), (n, 0));
    }
    assert_eq!(
        counted(&server, "pinnace_slow_consumers_total{door=\"nats\"}"),
        0
    );
}

#[test]
fn of_each_topic_the_newest_comes() {
    const TOPICS: usize = 7;
    let server = Server::start();
    // For a subscription that is there already.
    let mut stuck = Asker::of(&server);
    stuck.raw.send("SUB t.* 2\r\n");
    let choice = json!({"topic": "t.*", "slow": "newest-only"});
    assert_eq!(stuck.ask("slow", &choice)["subscriptions"], 1);
    publish(&server, 0..MANY, |n| format!("t.{}", n % TOPICS));
    let mut got = Vec::new();
    while got.last().is_none_or(|(n, _)| n + 1 < MANY) {
        got.push(next(&mut stuck.raw));
    }
    let dropped = check_counts(&got, MANY);
    let newest: Vec<usize> = got[got.len() - TOPICS..].iter().map(|(n, _)| *n).collect();
    assert_eq!(newest, (MANY - TOPICS..MANY).collect::<Vec<_>>());
    let sample = r#"pinnace_dropped_messages_total{door="nats",policy="newest-only"}"#;
    assert_eq!(counted(&server, sample), dropped);
}

#[test]
fn who_chose_it_is_disconnected_at_a_limit_of_its_own_and_told_why() {
    let server = Server::start();
    let choice = json!({"slow": "disconnect", "pending": "1M"});
    let mut stuck = subscriber(&server, "t", &choice);
    publish(&server, 0..MANY, |_| "t".to_owned());
    wait_for("the slow consumer's end", || {
        counted(&server, "pinnace_slow_consumers_total{door=\"nats\"}") == 1
    });
    let mut expected = 0;
    loop {
        let line = stuck.raw.line();
        if line == "-ERR 'Slow Consumer'" {
            break;
        }
        assert!(line.starts_with("MSG t 2 "), "{line}");
        assert_eq!(number(&stuck.raw.line()), expected);
        expected += 1;
    }
    assert!(expected < MANY);
    assert_eq!(stuck.raw.next_line(), None);
}

#[test]
fn what_is_spilled_comes_whole_and_in_order_and_then_live_again() {
    let server = Server::start();
    let choice = json!({"spill": "alice", "pending": "1M"});
    let mut stuck = subscriber(&server, "t", &choice);
    for round in 0..2 {
        let (first, last) = (2 * round * MANY, 2 * (round + 1) * MANY);
        publish(&server, first..first + MANY, |_| "t".to_owned());
        wait_for("a queue", || {
            let spills = counted(&server, "pinnace_spills_total{door=\"nats\"}");
            spills as usize > round
        });
        // More comes while it reads what it has.
        std::thread::scope(|scope| {
            scope.spawn(|| publish(&server, first + MANY..last, |_| "t".to_owned()));
            for n in first..last {
                assert_eq!(next(&mut stuck.raw), (n, 0));
            }
        });
        wait_for("the queue's end", || {
            server.get("/t").json()["subscribers"] == json!([])
        });
    }
    assert!(counted(&server, "pinnace_spilled_messages_total{door=\"nats\"}") > 0);
    publish(&server, 0..3, |_| "t".to_owned());
    for n in 0..3 {
        assert_eq!(next(&mut stuck.raw), (n, 0));
    }
}

#[test]
fn between_live_and_spilled_there_is_no_seam() {
    const EACH: usize = 8_000;
    let server = Server::start();
    let choice = json!({"spill": "alice", "pending": "1k"});
    let mut reader = subscriber(&server, "t.*", &choice);
    reader.raw.keep_little();
    let filler = "x".repeat(2_000);
    for round in 0..4 {
        let publish = |topic: usize| {
            let mut publisher = server.nats_client();
            for n in round * EACH..(round + 1) * EACH {
                let payload = format!("{n}:{filler}");
                let bytes = payload.len();
                publisher.send(format!("PUB t.{topic} {bytes}\r\n{payload}\r\n"));
            }
            publisher.until_pong();
        };
        std::thread::scope(|scope| {
            for topic in 0..2 {
                scope.spawn(move || publish(topic));
            }
            // Sometimes it reads at once, sometimes when it is behind already.
            if round % 2 == 0 {
                wait_for("a queue", || {
                    counted(&server, "pinnace_spills_total{door=\"nats\"}") as usize > round / 2
                });
            }
            let mut expected = [round * EACH; 2];
            for _ in 0..2 * EACH {
                let (head, payload) = next_message(&mut reader.raw);
                let topic = usize::from(head.starts_with("MSG t.1 "));
                assert_eq!(number(&payload), expected[topic], "{head}");
                expected[topic] += 1;
            }
        });
        wait_for("the queue's end", || {
            let listed = server.get("/-/topics").json();
            let mut topics = listed["topics"].as_array().unwrap().iter();
            topics.all(|topic| topic["topic"] != "t.*" || topic["subscribers"] == json!([]))
        });
    }
}

#[test]
fn a_spilled_queue_outlives_a_kill_and_is_read_first() {
    let mut server = Server::start();
    let choice = json!({"spill": "alice", "pending": "1M"});
    let mut stuck = subscriber(&server, "t", &choice);
    for n in 0..MANY {
        assert_eq!(server.post("/t", &text(n)).status, 200);
    }
    let shown = server.get("/t").json();
    server.kill();
    // What was with the operating system arrives, in order.
    let mut before = 0;
    while let Some(head) = stuck.raw.next_line() {
        let payload = stuck.raw.next_line();
        let Some(payload) = payload.filter(|payload| payload.len() == BYTES) else {
            break;
        };
        assert!(head.starts_with("MSG t 2 "), "{head}");
        assert_eq!(number(&payload), before);
        before += 1;
    }
    server.restart();
    let now = server.get("/t").json();
    let waiting = now["subscribers"][0]["waiting"].as_u64();
    let waiting = waiting.unwrap_or_else(|| panic!("{before}: {shown}, then {now}"));
    let first = MANY - waiting as usize;
    assert!(before > 0 && first > 0 && first < MANY, "{before}, {first}");
    // What was lost waited in memory: no more than it chose, twice.
    assert!(
        first.saturating_sub(before) * BYTES <= 3 << 20,
        "{before}, {first}"
    );
    let mut again = subscribing(&server, "t", &choice);
    for n in first..MANY {
        assert_eq!(next(&mut again.raw), (n, 0));
    }
    wait_for("the queue's end", || {
        server.get("/t").json()["subscribers"] == json!([])
    });
    publish(&server, 0..3, |_| "t".to_owned());
    for n in 0..3 {
        assert_eq!(next(&mut again.raw), (n, 0));
    }
}

#[test]
fn a_later_reader_takes_over() {
    let mut server = Server::start();
    let choice = json!({"spill": "alice"});
    let mut earlier = subscriber(&server, "t", &choice);
    let mut later = subscriber(&server, "t", &choice);
    assert_eq!(earlier.raw.line(), "-ERR 'Replaced By Another Reader'");
    assert_eq!(earlier.raw.next_line(), None);
    let mut stream = Stream::open(&server, "/t?spill=alice", None);
    assert_eq!(later.raw.line(), "-ERR 'Replaced By Another Reader'");
    let _latest = Stream::open(&server, "/t?spill=alice", None);
    assert_eq!(stream.event().json()["code"], "replaced");
    // Of one connection the first spills, and a second gets its own copies.
    let mut twice = subscriber(&server, "u", &choice);
    twice.raw.send("SUB u 3\r\n");
    twice.raw.until_pong();
    server.post("/u", "0:");
    let mut copies = [(); 2].map(|()| (twice.raw.line(), twice.raw.line()));
    copies.sort();
    let expected = ["MSG u 2 2", "MSG u 3 2"].map(|head| (head.to_owned(), "0:".to_owned()));
    assert_eq!(copies, expected);
    assert_eq!(server.terminate(), 0, "nobody holds it up");
}

/// The next message of a stream with a number, and how many were dropped before it.
fn next_event(stream: &mut Stream) -> (usize, u64) {
    let mut dropped = 0;
    loop {
        let event = stream.event();
        match event.name.as_str() {
            "dropped" => dropped += event.json()["count"].as_u64().unwrap(),
            "" => return (number(event.data.as_deref().unwrap()), dropped),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_stream_is_told_what_was_dropped() {
    let server = Server::start();
    let mut stuck = Stream::open(&server, "/t?slow=drop-oldest&pending=1M", None);
    let mut newest = Stream::open(&server, "/t?slow=newest-only", None);
    publish(&server, 0..MANY, |_| "t".to_owned());
    let mut dropped = [0; 2];
    for (stream, dropped) in [&mut stuck, &mut newest].into_iter().zip(&mut dropped) {
        let mut got = Vec::new();
        while got.last().is_none_or(|(n, _)| n + 1 < MANY) {
            got.push(next_event(stream));
        }
        *dropped = check_counts(&got, MANY);
    }
    for (policy, dropped) in ["drop-oldest", "newest-only"].iter().zip(dropped) {
        let sample = format!(r#"pinnace_dropped_messages_total{{door="http",policy="{policy}"}}"#);
        assert_eq!(counted(&server, &sample), dropped);
    }
}

#[test]
fn a_stream_spills_and_goes_on_where_it_was() {
    let server = Server::start();
    let path = "/t?spill=alice&pending=1M";
    let mut stuck = Stream::open(&server, path, None);
    publish(&server, 0..MANY, |_| "t".to_owned());
    wait_for("a queue", || {
        counted(&server, "pinnace_spills_total{door=\"http\"}") == 1
    });
    let (mut expected, mut last) = (0, None);
    while last.is_none() {
        let event = stuck.event();
        assert_eq!(number(event.data.as_deref().unwrap()), expected);
        (expected, last) = (expected + 1, event.id);
    }
    drop(stuck);
    wait_for("the stream's end", || server.get("/t").json()["live"] == 0);
    publish(&server, MANY..MANY + 5, |_| "t".to_owned());
    let waiting = server.get("/t").json()["subscribers"][0]["waiting"].as_u64();
    let waiting = waiting.expect("a queue") as usize;
    assert!(waiting > 5, "{waiting}");
    // What it said it has is not sent again.
    let first = expected.max(MANY + 5 - waiting);
    let mut again = Stream::open(&server, path, last);
    if first > expected {
        // It was with the operating system when the connection broke.
        assert_eq!(again.event().name, "gap");
    }
    for n in first..MANY + 5 {
        assert_eq!(next_event(&mut again), (n, 0));
    }
    wait_for("the queue's end", || {
        server.get("/t").json()["subscribers"] == json!([])
    });
    publish(&server, 0..3, |_| "t".to_owned());
    for n in 0..3 {
        assert_eq!(next_event(&mut again), (n, 0));
    }
}

#[test]
fn a_socket_is_told_what_was_dropped_or_spills() {
    let server = Server::start();
    let mut stuck = Socket::open(&server, "/t?slow=drop-oldest&pending=1M");
    let mut spills = Socket::open(&server, "/t?spill=bob&pending=1M");
    publish(&server, 0..MANY, |_| "t".to_owned());
    let next = |socket: &mut Socket| -> (usize, u64) {
        let mut dropped = 0;
        loop {
            let object = socket.json();
            match object["text"].as_str() {
                Some(text) => return (number(text), dropped),
                None => dropped += object["dropped"]["count"].as_u64().unwrap(),
            }
        }
    };
    let mut got = Vec::new();
    while got.last().is_none_or(|(n, _)| n + 1 < MANY) {
        got.push(next(&mut stuck));
    }
    check_counts(&got, MANY);
    for n in 0..MANY {
        assert_eq!(next(&mut spills), (n, 0));
    }
    assert_eq!(counted(&server, "pinnace_spills_total{door=\"http\"}"), 1);
}

#[test]
fn the_command_line_says_what_was_dropped() {
    let server = Server::start();
    let sub = [
        "--json",
        "sub",
        "t",
        "--slow",
        "drop-oldest",
        "--pending",
        "1M",
    ];
    let mut stuck = server.spawn(&sub);
    wait_for("the subscription", || server.get("/t").json()["live"] == 1);
    publish(&server, 0..MANY, |_| "t".to_owned());
    let mut got = Vec::new();
    let lines = BufReader::new(stuck.stdout.take().unwrap()).lines();
    for line in lines {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let n = number(line["payload"].as_str().unwrap());
        got.push((n, line["dropped"].as_u64().unwrap_or(0)));
        if n + 1 == MANY {
            break;
        }
    }
    check_counts(&got, MANY);
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    server
        .run(&["sub", "t", "--slow", "oldest"])
        .expect(2, &["drop-oldest"]);
    server
        .run(&["sub", "t", "--slow", "spill", "--queue", "a"])
        .expect(2, &["--queue"]);
}

#[test]
fn the_command_line_reads_what_was_spilled_first_also_after_a_restart() {
    let mut server = Server::start();
    // As a reader that was behind would have left it.
    let leave = |server: &Server, text: &str| {
        server.post("/t/alice", "");
        server.post("/t", text);
    };
    let read = |server: &Server| {
        wait_for("the queue's end", || {
            server.get("/t").json()["subscribers"] == json!([])
        });
    };
    leave(&server, "one");
    let sub = Talk::start(&server, &["sub", "t", "--spill", "alice"]);
    sub.expect("t  one");
    read(&server);
    // It keeps up now, so this one it has; the queue has it too.
    leave(&server, "two");
    sub.expect("t  two");
    server.kill();
    server.restart();
    sub.expect("t  two");
    read(&server);
    server.post("/t", "three");
    sub.expect("t  three");
}

#[test]
fn the_server_has_a_usual_choice() {
    let server =
        Server::configured("server:\n  slow_consumer: {policy: drop-oldest, pending: 1M}\n");
    let mut stuck = server.nats_client();
    stuck.send("SUB t 1\r\n");
    stuck.until_pong();
    let mut plain = server.nats();
    plain.send("CONNECT {\"verbose\":false}\r\nSUB t 1\r\n");
    plain.until_pong();
    let _raw = Socket::open(&server, "/t?format=raw");
    publish(&server, 0..MANY, |_| "t".to_owned());
    let mut got = Vec::new();
    while got.last().is_none_or(|(n, _)| n + 1 < MANY) {
        got.push(next(&mut stuck));
    }
    check_counts(&got, MANY);
    // Who cannot be told is not left without messages silently.
    for n in 0..MANY {
        assert_eq!(next(&mut plain), (n, 0));
    }
    wait_for("the end of what cannot be told", || {
        counted(&server, "pinnace_slow_consumers_total{door=\"http\"}") == 1
    });
    let shown = server.run(&["config", "show"]).expect(0, &[]).stdout;
    assert!(shown.contains("server.slow_consumer.policy"), "{shown}");
}

#[test]
fn choices_that_make_no_sense_are_refused() {
    let server = Server::start();
    let mut asker = Asker::of(&server);
    asker.raw.send("SUB t 2\r\nSUB g group 3\r\n");
    for (topic, fields, code) in [
        ("t", json!({"slow": "oldest"}), "bad-parameter"),
        ("t", json!({"slow": "spill"}), "bad-parameter"),
        (
            "t",
            json!({"slow": "disconnect", "spill": "a"}),
            "bad-parameter",
        ),
        ("t", json!({"pending": 0}), "bad-parameter"),
        ("t", json!({"pending": 67_108_865}), "bad-parameter"),
        ("t", json!({"policy": "spill"}), "unknown-parameter"),
        (
            "",
            json!({"topic": "t..u", "slow": "disconnect"}),
            "bad-topic",
        ),
        ("", json!({"slow": "disconnect"}), "bad-parameter"),
    ] {
        let request = format!("slow.{topic}");
        let answer = asker.ask(request.trim_end_matches('.'), &fields);
        assert_eq!(answer["error"]["code"], code, "{fields}: {answer}");
    }
    assert_eq!(
        asker.ask("slow.t", &json!({})),
        json!({"topic": "t", "slow": "disconnect", "pending": 67_108_864, "spill": null, "subscriptions": 1})
    );
    let spill = json!({"spill": "a", "pending": "1k"});
    assert_eq!(asker.ask("slow.t", &spill)["subscriptions"], 1);
    assert_eq!(asker.ask("slow.t", &spill)["spill"], "a");
    let other = asker.ask("slow.t", &json!({"slow": "drop-oldest"}));
    assert_eq!(other["error"]["code"], "spills-already", "{other}");
    let mut plain = server.nats();
    plain.send("CONNECT {\"verbose\":false}\r\n");
    let mut plain = Asker::over(plain);
    let refused = plain.ask("slow.t", &json!({"slow": "newest-only"}));
    assert_eq!(refused["error"]["code"], "bad-parameter", "{refused}");
    assert_eq!(plain.ask("slow.t", &json!({"spill": "b"}))["slow"], "spill");
    let mut deaf = server.nats();
    deaf.send("CONNECT {\"verbose\":false,\"headers\":true,\"echo\":false}\r\n");
    let refused = Asker::over(deaf).ask("slow.t", &json!({"spill": "c"}));
    assert_eq!(refused["error"]["code"], "bad-parameter", "{refused}");
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let events = [("accept", "text/event-stream")];
    for (path, headers) in [
        ("/t?slow=later", &events[..]),
        ("/t?slow=spill", &events),
        ("/t?pending=0", &events),
        ("/t?slow=drop-oldest&format=raw", &upgrade),
        ("/t?spill=a&echo=false", &upgrade),
        ("/t/q?slow=drop-oldest", &events),
    ] {
        let answer = server.http("GET", path, headers, b"");
        assert_eq!(answer.status / 100, 4, "{path}: {answer:?}");
    }
    for (yaml, part) in [
        ("{policy: drop-oldst}", "did you mean `drop-oldest`?"),
        ("{policy: spill}", "spill needs a queue's name"),
        ("{pending: 0}", "1 to 67108864"),
        ("{polcy: disconnect}", "policy"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("server:\n  slow_consumer: {yaml}\n");
        std::fs::write(folder.path().join("pinnace.yaml"), text).unwrap();
        crate::support::run(folder.path(), &["serve", "--http", "127.0.0.1:0"]).expect(2, &[part]);
    }
}

#[test]
fn what_a_subscription_is_promised_holds_for_one_that_is_behind() {
    let server = Server::start();
    let choice = json!({"slow": "drop-oldest"});
    let mut stuck = subscriber(&server, "t", &choice);
    stuck.raw.send("UNSUB 2 300\r\n");
    stuck.raw.until_pong();
    publish(&server, 0..MANY, |_| "t".to_owned());
    for n in 0..300 {
        assert_eq!(next(&mut stuck.raw), (n, 0), "as many as were wanted wait");
    }
    stuck.raw.until_pong();
    wait_for("the subscription's end", || {
        server.get("/t").json()["live"] == 0
    });
}
