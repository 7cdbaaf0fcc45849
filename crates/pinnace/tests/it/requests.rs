//! Requests on `$PN.`: topics, the roster, created topics and durable queues, asked over NATS by a raw
//! socket and by a client of the ecosystem.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Raw, Server, wait_for};

/// A raw client that asks.
pub(crate) struct Asker {
    pub(crate) raw: Raw,
    inbox: u32,
}

impl Asker {
    pub(crate) fn of(server: &Server) -> Self {
        Self::over(server.nats_client())
    }

    pub(crate) fn over(mut raw: Raw) -> Self {
        static INBOXES: AtomicU32 = AtomicU32::new(0);
        let inbox = INBOXES.fetch_add(1, Ordering::Relaxed);
        raw.send(format!("SUB _INBOX.{inbox} 1\r\n"));
        raw.until_pong();
        Self { raw, inbox }
    }

    /// Sends a request; its answer is to be read with `answer`.
    fn send(&mut self, subject: &str, payload: &str) {
        let (inbox, bytes) = (self.inbox, payload.len());
        self.raw.send(format!(
            "PUB $PN.{subject} _INBOX.{inbox} {bytes}\r\n{payload}\r\n"
        ));
    }

    #[track_caller]
    fn answer(&mut self) -> Value {
        let head = self.raw.line();
        assert!(head.starts_with("MSG _INBOX."), "{head}");
        serde_json::from_str(&self.raw.line()).unwrap()
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, subject: &str, payload: &Value) -> Value {
        self.send(subject, &payload.to_string());
        self.answer()
    }
}

fn texts(next: &Value) -> Vec<&str> {
    let messages = next["messages"].as_array().unwrap();
    messages
        .iter()
        .map(|m| m["text"].as_str().unwrap())
        .collect()
}

fn topics(listed: &Value) -> Vec<&str> {
    let topics = listed["topics"].as_array().unwrap().iter();
    topics
        .map(|topic| topic["topic"].as_str().unwrap())
        .filter(|topic| !topic.starts_with("pinnace.") && !topic.starts_with('_'))
        .collect()
}

#[test]
fn topics_and_clients_are_those_of_the_other_door() {
    let server = Server::start();
    server.post("/a.b/alice", "");
    let mut asker = Asker::of(&server);
    let listed = asker.ask("topics", &json!({}));
    assert_eq!(listed, server.get("/-/topics").json());
    assert_eq!(topics(&listed), ["a.b"]);
    drop(server.nats_client());
    // The server notices some time after the socket is closed: both answers are waited for.
    wait_for("a client that left", || {
        let mut count = |asked: Value| {
            let answer = asker.ask("clients", &asked);
            answer["clients"].as_array().unwrap().len()
        };
        count(json!({"history": true})) == 2 && count(json!({})) == 1
    });
}

#[test]
fn a_created_topic_is_listed_until_it_is_removed_and_after_a_crash() {
    let mut server = Server::start();
    let mut asker = Asker::of(&server);
    for (request, expected) in [
        ("create.lobby", json!({"topic": "lobby", "created": true})),
        ("create.lobby", json!({"topic": "lobby", "created": false})),
        ("create.gone", json!({"topic": "gone", "created": true})),
        ("remove.gone", json!({"topic": "gone", "removed": true})),
        ("remove.gone", json!({"topic": "gone", "removed": false})),
    ] {
        assert_eq!(asker.ask(request, &json!({})), expected, "{request}");
    }
    for bad in [json!({"topic": "a.*"}), json!({"topic": "$x"}), json!({})] {
        let refused = asker.ask("create", &bad);
        assert!(refused["error"]["code"].is_string(), "{bad}: {refused}");
    }
    server.kill();
    server.restart();
    assert_eq!(topics(&server.get("/-/topics").json()), ["lobby"]);
    // Nothing is kept for nobody.
    let published = server.post("/lobby", "x");
    assert_eq!(published.header("pinnace-queues"), Some("0"));
}

#[test]
fn a_queue_lends_its_messages_and_gives_them_up() {
    let server = Server::start();
    let mut asker = Asker::of(&server);
    let mine = json!({"name": "w"});
    let made = asker.ask("queue.subscribe.jobs", &mine);
    assert_eq!(made, json!({"topic": "jobs", "name": "w", "created": true}));
    let again = asker.ask("queue.subscribe", &json!({"topic": "jobs", "name": "w"}));
    assert_eq!(again["created"], false);
    assert_eq!(asker.ask("queue.next.jobs", &mine), json!({"messages": []}));
    for text in ["one", "two", "three"] {
        server.post("/jobs", text);
    }
    let next = json!({"name": "w", "max": 2, "lease_ms": 600_000});
    let first = asker.ask("queue.next.jobs", &next);
    assert_eq!(texts(&first), ["one", "two"]);
    assert_eq!(first["messages"][0]["deliveries"], 1);
    let (lease, seq) = (&first["lease"], &first["messages"][0]["seq"]);
    let unread = json!({"topic": "jobs", "seq": seq});
    assert_eq!(asker.ask("unread", &unread)["unread"][0]["name"], "w");
    let ok = json!({"ok": true});
    let one = json!({"name": "w", "lease": lease, "seq": [seq]});
    assert_eq!(asker.ask("queue.ack.jobs", &one), ok);
    assert_eq!(asker.ask("unread", &unread)["stored"], false);
    let whole = json!({"name": "w", "lease": lease});
    let longer = json!({"name": "w", "lease": lease, "extend_ms": 60_000});
    assert_eq!(asker.ask("queue.extend.jobs", &longer), ok);
    assert_eq!(asker.ask("queue.return.jobs", &whole), ok);
    let gone = asker.ask("queue.ack.jobs", &whole);
    assert_eq!(gone["error"]["code"], "no-such-lease");
    // Without a lease the messages are taken for good; the other door finds the queue empty.
    let taken = asker.ask("queue.next.jobs", &json!({"name": "w", "max": 9}));
    assert_eq!(texts(&taken), ["two", "three"]);
    assert_eq!(server.get("/jobs/w").status, 204);
    assert_eq!(asker.ask("queue.unsubscribe.jobs", &mine), ok);
    assert_eq!(server.get("/jobs/w").status, 404);
}

#[test]
fn limits_and_patterns_are_taken_as_by_http() {
    let server = Server::start();
    let mut asker = Asker::of(&server);
    let limits = json!({
        "topic": "s.*", "name": "w", "max_messages": 2, "overflow": "drop-oldest", "max_age": "1h",
        "max_deliveries": 3, "dead_letter": "dead"
    });
    assert_eq!(asker.ask("queue.subscribe", &limits)["created"], true);
    for text in ["1", "2", "3"] {
        server.post(&format!("/s.{text}"), text);
    }
    let next = asker.ask(
        "queue.next",
        &json!({"topic": "s.*", "name": "w", "max": 5}),
    );
    assert_eq!(texts(&next), ["2", "3"]);
    assert_eq!(next["messages"][1]["topic"], "s.3");
    for (request, payload, code) in [
        ("queue.next.x", json!({"name": "w"}), "no-such-subscription"),
        (
            "queue.next.x",
            json!({"name": "w", "max": 1_001}),
            "bad-parameter",
        ),
        (
            "queue.next.x",
            json!({"name": "w", "max": 0}),
            "bad-parameter",
        ),
        (
            "queue.next.x",
            json!({"name": "w", "wiat_ms": 1}),
            "unknown-parameter",
        ),
        ("queue.next.x", json!({"name": "-w"}), "bad-subscriber"),
        ("queue.next.x", json!({}), "bad-parameter"),
        ("queue.next.$x", json!({"name": "w"}), "bad-topic"),
        (
            "queue.ack.x",
            json!({"name": "w", "lease": "zz"}),
            "bad-parameter",
        ),
        (
            "queue.subscribe.x",
            json!({"name": "w", "max_deliveries": 2}),
            "bad-parameter",
        ),
        (
            "queue.subscribe.x",
            json!({"name": "w", "overflow": "burst"}),
            "bad-parameter",
        ),
        ("topics.x", json!({}), "bad-topic"),
        ("clients", json!({"histroy": true}), "unknown-parameter"),
        ("name", json!({"name": "a b"}), "bad-name"),
        ("tpoics", json!({}), "no-such-request"),
    ] {
        let answer = asker.ask(request, &payload);
        assert_eq!(
            answer["error"]["code"], code,
            "{request} {payload}: {answer}"
        );
    }
    asker.send("topics", "no json");
    assert_eq!(asker.answer()["error"]["code"], "bad-document");
}

#[test]
fn a_wait_ends_with_a_message_and_with_its_connection() {
    let server = Server::start();
    let mut asker = Asker::of(&server);
    asker.ask("queue.subscribe.jobs", &json!({"name": "w"}));
    let wait = json!({"name": "w", "wait_ms": 600_000});
    let began = Instant::now();
    asker.send("queue.next.jobs", &wait.to_string());
    // The connection goes on meanwhile.
    assert_eq!(asker.ask("create.x", &json!({}))["created"], true);
    server.post("/jobs", "first");
    assert_eq!(texts(&asker.answer()), ["first"]);
    // One that waits on a connection that ends takes nothing with it.
    asker.send("queue.next.jobs", &wait.to_string());
    asker.raw.until_pong();
    drop(asker);
    wait_for("the end of the connection", || {
        let clients = server.get("/-/clients").json();
        clients["clients"].as_array().unwrap().is_empty()
    });
    server.post("/jobs", "second");
    assert_eq!(server.get("/jobs/w?wait=60s").text(), "second");
    assert!(began.elapsed() < Duration::from_secs(600));
}

#[test]
fn a_repeated_request_gets_what_the_first_got() {
    let server = Server::start();
    server.post("/jobs/w", "");
    server.post("/jobs", "x");
    let once = json!({"name": "w", "lease_ms": 600_000, "id": "1"});
    let mut asker = Asker::of(&server);
    let first = asker.ask("queue.next.jobs", &once);
    assert_eq!(texts(&first), ["x"]);
    // Also on another connection, as one that lost its own would make.
    assert_eq!(Asker::of(&server).ask("queue.next.jobs", &once), first);
    let other = json!({"name": "w", "lease_ms": 600_000, "id": "2"});
    assert_eq!(asker.ask("queue.next.jobs", &other)["messages"], json!([]));
}

#[test]
fn messages_whose_answer_reaches_nobody_are_given_back() {
    let server = Server::start();
    server.post("/jobs/w", "");
    server.post("/jobs", "x");
    let mut deaf = server.nats_client();
    let payload = r#"{"name":"w"}"#;
    let bytes = payload.len();
    for reply in ["_INBOX.nobody", ""] {
        deaf.send(format!(
            "PUB $PN.queue.next.jobs {reply} {bytes}\r\n{payload}\r\n"
        ));
    }
    deaf.until_pong();
    let mut asker = Asker::of(&server);
    let next = json!({"name": "w", "wait_ms": 60_000});
    assert_eq!(texts(&asker.ask("queue.next.jobs", &next)), ["x"]);
}

#[test]
fn a_request_is_carried_out_as_the_one_who_asks() {
    let server = Server::configured(
        r#"
server:
  auth:
    users:
      - {user: admin, password: all}
      - user: narrow
        password: n
        permissions:
          publish: {allow: [ok.>, $PN.>], deny: [ok.secret]}
          subscribe: {allow: [ok.>, _INBOX.*], deny: [ok.hidden]}
      - {user: mute, password: m, permissions: {publish: {deny: ["$PN.>"]}}}
"#,
    );
    let login = |user: &str, password: &str| {
        let mut raw = server.nats();
        raw.send(format!(
            "CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\n"
        ));
        Asker::over(raw)
    };
    let mut narrow = login("narrow", "n");
    let name = json!({"name": "w"});
    let spill = json!({"spill": "w"});
    for (request, payload, allowed) in [
        ("topics", json!({}), true),
        ("create.ok.a", json!({}), true),
        ("create.ok.secret", json!({}), false),
        ("create.other", json!({}), false),
        ("queue.subscribe.ok.a", name.clone(), true),
        ("queue.subscribe.ok.hidden", name.clone(), false),
        (
            "queue.subscribe",
            json!({"topic": "ok.*", "name": "w"}),
            false,
        ),
        ("queue.subscribe.other", name.clone(), false),
        ("queue.next.other", name, false),
        ("slow.ok.a", spill.clone(), true),
        ("slow.ok.hidden", spill.clone(), false),
        ("slow", json!({"topic": "ok.*", "spill": "w"}), false),
        ("slow.other", spill, false),
        ("unread.other", json!({"seq": 1}), false),
        (
            "queue.subscribe.ok.a",
            json!({"name": "w", "max_deliveries": 2, "dead_letter": "other"}),
            false,
        ),
    ] {
        let answer = narrow.ask(request, &payload);
        assert_eq!(
            answer["error"]["code"] != "forbidden",
            allowed,
            "{request}: {answer}"
        );
    }
    // An answer does not go where the asker may not listen.
    let mut admin = login("admin", "all");
    admin.raw.send("SUB other 7\r\nSUB $PN.> 8\r\n");
    admin.raw.until_pong();
    narrow.raw.send("PUB $PN.topics other 0\r\n\r\n");
    narrow.ask("topics", &json!({}));
    assert!(admin.raw.until_pong().is_empty());
    let mut mute = login("mute", "m");
    mute.raw.send("PUB $PN.topics _INBOX.1 0\r\n\r\n");
    let lines = mute.raw.until_pong();
    assert!(lines[0].contains("Permissions Violation"), "{lines:?}");
}

#[test]
fn names_are_given_once() {
    let server = Server::start();
    let mut clients: Vec<Asker> = (0..3).map(|_| Asker::of(&server)).collect();
    let want = json!({"name": "alice"});
    let granted: Vec<Value> = clients
        .iter_mut()
        .map(|client| client.ask("name", &want)["name"].take())
        .collect();
    assert_eq!(granted, ["alice", "alice-2", "alice-3"]);
    let roster = server.get("/-/clients").json();
    let names = roster["clients"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["alice", "alice-2", "alice-3"]);
}

#[test]
fn who_was_connected_is_known_after_a_crash() {
    let mut server = Server::start();
    let mut here = Asker::of(&server);
    here.ask("name", &json!({"name": "alice"}));
    drop(server.nats_client());
    wait_for("a client that left", || {
        let all = here.ask("clients", &json!({"history": true}));
        let all = all["clients"].as_array().unwrap();
        all.iter()
            .any(|client| client["reason"] == "client closed the connection")
    });
    server.kill();
    server.restart();
    let done = server.run(&["clients", "--history"]).expect(0, &[]);
    let line = |part: &str| {
        done.stdout
            .lines()
            .find(|line| line.contains(part))
            .unwrap()
    };
    assert!(line("alice").contains("the server ended"), "{done:?}");
    assert!(line("until").contains("since"), "{done:?}");
    assert!(
        done.stdout.contains("client closed the connection"),
        "{done:?}"
    );
}

#[test]
fn a_client_of_the_ecosystem_asks() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(&server.nats).await.unwrap();
        let ask = async |subject: &str, payload: Value| -> Value {
            let payload = payload.to_string().into();
            let answer = client.request(subject.to_owned(), payload).await.unwrap();
            serde_json::from_slice(&answer.payload).unwrap()
        };
        ask("$PN.queue.subscribe.orders", json!({"name": "w"})).await;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Kind", "test");
        let publish = client.publish_with_headers("orders", headers, "seven".into());
        publish.await.unwrap();
        let next = json!({"name": "w", "wait_ms": 60_000, "lease_ms": 60_000});
        let next = ask("$PN.queue.next.orders", next).await;
        assert_eq!(texts(&next), ["seven"]);
        assert_eq!(next["messages"][0]["headers"]["kind"], "test");
        let ack = json!({"name": "w", "lease": next["lease"]});
        assert_eq!(ask("$PN.queue.ack.orders", ack).await, json!({"ok": true}));
    });
}

#[test]
fn requests_at_a_time_are_bounded() {
    let server = Server::start();
    let mut asker = Asker::of(&server);
    asker.ask("queue.subscribe.jobs", &json!({"name": "w"}));
    let wait = json!({"name": "w", "wait_ms": 600_000}).to_string();
    for _ in 0..1_024 {
        asker.send("queue.next.jobs", &wait);
    }
    asker.send("topics", "");
    assert_eq!(asker.answer()["error"]["code"], "too-many-requests");
    for number in 0..3 {
        server.post("/jobs", &number.to_string());
        assert_eq!(texts(&asker.answer()).len(), 1);
        // There is room for another.
        asker.send("queue.next.jobs", &wait);
    }
}
