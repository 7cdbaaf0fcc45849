//! Server-sent events through the real door: live messages, coming back to a place, queues as
//! streams, slow readers, the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::support::{PATIENCE, Server, wait_for};

/// An event, or a comment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<u64>,
    pub(crate) name: String,
    pub(crate) data: Option<String>,
}

impl Event {
    fn message(id: Option<u64>, data: &str) -> Self {
        Self {
            id,
            name: String::new(),
            data: Some(data.to_owned()),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.data.as_deref().unwrap()).unwrap()
    }
}

/// A client that reads a stream as a browser does.
pub(crate) struct Stream {
    reader: BufReader<TcpStream>,
    decoded: Vec<u8>,
}

impl Stream {
    #[track_caller]
    pub(crate) fn open(server: &Server, path: &str, last: Option<u64>) -> Self {
        let stream = TcpStream::connect(&server.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(stream);
        let last = last.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\naccept: text/html;q=0.1, text/event-stream\r\n{last}\r\n"
        );
        reader.get_mut().write_all(request.as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(
            head.contains("content-type: text/event-stream\r\n"),
            "{head}"
        );
        assert!(head.contains("cache-control: no-store\r\n"), "{head}");
        let mut stream = Self {
            reader,
            decoded: Vec::new(),
        };
        assert_eq!(stream.block().as_deref(), Some("retry: 1000"));
        stream
    }

    /// Decodes one more chunk; false at the end.
    fn chunk(&mut self) -> bool {
        let mut size = String::new();
        if self.reader.read_line(&mut size).unwrap_or(0) == 0 {
            return false;
        }
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let at = self.decoded.len();
        self.decoded.resize(at + size + 2, 0);
        self.reader.read_exact(&mut self.decoded[at..]).unwrap();
        assert!(self.decoded.ends_with(b"\r\n"));
        self.decoded.truncate(at + size);
        size > 0
    }

    /// Text up to the next empty line; `None` at the end of the stream.
    fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.decoded.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.decoded.split_off(end + 2);
                let block = std::mem::replace(&mut self.decoded, rest);
                return Some(
                    String::from_utf8(block)
                        .unwrap()
                        .trim_end_matches('\n')
                        .into(),
                );
            }
            if !self.chunk() {
                return None;
            }
        }
    }

    fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        for line in self.block()?.split('\n') {
            match line.split_once(':').unwrap() {
                ("id", id) => event.id = Some(id.trim().parse().unwrap()),
                ("event", name) => event.name = name.trim().to_owned(),
                ("data", text) => {
                    let text = text.strip_prefix(' ').unwrap_or(text);
                    match &mut event.data {
                        Some(data) => *data += &format!("\n{text}"),
                        None => event.data = Some(text.to_owned()),
                    }
                }
                ("", _) => {}
                other => panic!("{other:?}"),
            }
        }
        Some(event)
    }

    /// The next event that is no comment.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Event {
        loop {
            let event = self.next().expect("the stream ended");
            if event != Event::default() {
                return event;
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, events: &[(u64, &str)]) {
        for (id, data) in events {
            assert_eq!(self.event(), Event::message(Some(*id), data));
        }
    }
}

fn waiting(server: &Server, path: &str) -> u64 {
    server.get(path).json()["subscribers"][0]["waiting"]
        .as_u64()
        .unwrap()
}

#[test]
fn live_messages_come_as_they_were_sent() {
    let server = Server::start();
    let mut stream = Stream::open(&server, "/t", None);
    let mut nats = server.nats_client();
    assert_eq!(
        server.post("/t", "one\ntwo\n").header("pinnace-live"),
        Some("1")
    );
    assert_eq!(stream.event(), Event::message(None, "one\ntwo\n"));
    server.post("/t", "");
    assert_eq!(stream.event(), Event::message(None, ""));
    server.http("POST", "/t", &[], b"a\r\nb\xff");
    let event = stream.event();
    assert_eq!(
        (event.name.as_str(), event.data.as_deref()),
        ("base64", Some("YQ0KYv8="))
    );
    server.post("/t/keeper", "");
    nats.send("PUB t 4\r\nkept\r\nPUB other 1\r\nx\r\n");
    nats.until_pong();
    assert_eq!(stream.event(), Event::message(Some(1), "kept"));
    server.post("/t", "more");
    assert_eq!(stream.event(), Event::message(Some(2), "more"));
    drop(stream);
    wait_for("the subscription's end", || {
        server.get("/t").json()["live"] == 0
    });
}

#[test]
fn a_pattern_says_where_each_message_was_published() {
    let server = Server::start();
    let mut all = Stream::open(&server, "/lab.%3E", None);
    let mut one = Stream::open(&server, "/lab.a?format=json", None);
    server.post("/lab.a/q", "");
    let headers = [("content-type", "text/plain")];
    server.http("POST", "/lab.a", &headers, b"1\r\n");
    server.post("/other", "2");
    server.post("/lab.b.c", "3");
    for stream in [&mut all, &mut one] {
        let event = stream.event();
        let object = event.json();
        assert_eq!(
            (event.id, &object["seq"], &object["topic"]),
            (Some(1), &1.into(), &"lab.a".into())
        );
        assert_eq!(
            (&object["text"], &object["headers"]["content-type"]),
            (&"1\r\n".into(), &"text/plain".into())
        );
    }
    assert_eq!(all.event().json()["topic"], "lab.b.c");
    for (path, code) in [
        ("/lab.%3E?format=text", "bad-parameter"),
        ("/lab.a?after=x", "bad-parameter"),
        ("/lab.a?from=first", "unknown-parameter"),
        ("/lab.%3E/q", "bad-topic"),
    ] {
        let refused = server.http("GET", path, &[("accept", "text/event-stream")], b"");
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (400, Some(code)),
            "{path}"
        );
    }
    assert_eq!(server.get("/lab.%3E").status, 400);
    assert_eq!(server.get("/lab.a").json()["live"], 1);
}

#[test]
fn a_silent_stream_shows_that_it_lives() {
    let server = Server::start();
    server.post("/t/a", "");
    for path in ["/t?heartbeat=100ms", "/t/a?heartbeat=100ms"] {
        let mut stream = Stream::open(&server, path, None);
        assert_eq!(stream.block().as_deref(), Some(":"), "{path}");
        assert_eq!(stream.block().as_deref(), Some(":"), "{path}");
    }
}

#[test]
fn coming_back_brings_what_is_stored_then_what_is_new() {
    let mut server = Server::start();
    server.post("/t/keeper", "");
    server.post("/u/keeper", "");
    for text in ["1", "2", "3"] {
        server.post("/t", text);
        server.post("/u", "elsewhere");
    }
    let mut stream = Stream::open(&server, "/t", Some(1));
    stream.expect(&[(3, "2"), (5, "3")]);
    server.post("/t", "4");
    stream.expect(&[(7, "4")]);
    Stream::open(&server, "/t?after=5", None).expect(&[(7, "4")]);
    Stream::open(&server, "/t?after=0", Some(5)).expect(&[(7, "4")]);

    // What the only queue has given out is nowhere any more, and that is said once.
    assert_eq!(server.get("/t/keeper").text(), "1");
    assert_eq!(server.get("/t/keeper").text(), "2");
    for restart in [false, true] {
        if restart {
            server.kill();
            server.restart();
        }
        let mut stream = Stream::open(&server, "/t", Some(1));
        let gap = stream.event();
        assert_eq!(
            (gap.name.as_str(), gap.json()),
            ("gap", serde_json::json!({"after": 1}))
        );
        stream.expect(&[(5, "3"), (7, "4")]);
        // Who had it is missing nothing.
        Stream::open(&server, "/t", Some(3)).expect(&[(5, "3"), (7, "4")]);
    }
}

#[test]
fn nothing_is_missing_and_nothing_double_where_stored_meets_live() {
    const MESSAGES: u64 = 3_000;
    let server = Server::start();
    server.post("/t/keeper", "");
    let mut nats = server.nats_client();
    let publisher = std::thread::spawn(move || {
        for n in 1..=MESSAGES {
            let text = n.to_string();
            nats.send(format!("PUB t {}\r\n{text}\r\n", text.len()));
            if n % 16 == 0 {
                // One read of the server at a time, so that the stream is behind, level and ahead.
                nats.until_pong();
            }
        }
        nats.until_pong();
    });
    let (mut seen, mut round) = (0, 0);
    while seen < MESSAGES {
        let mut stream = Stream::open(&server, "/t", Some(seen));
        round += 1;
        for _ in 0..(round * 37 % 90) + 1 {
            if seen == MESSAGES {
                break;
            }
            let event = stream.event();
            assert_eq!(
                event,
                Event::message(Some(seen + 1), &(seen + 1).to_string())
            );
            seen += 1;
        }
    }
    publisher.join().unwrap();
    assert!(round > 20, "{round}");
}

#[test]
fn a_queue_is_consumed_as_its_stream_is_sent() {
    let server = Server::start();
    server.post("/t/a", "");
    for text in ["1", "2", "3"] {
        server.post("/t", text);
    }
    let mut stream = Stream::open(&server, "/t/a?heartbeat=10m", None);
    stream.expect(&[(1, "1"), (2, "2"), (3, "3")]);
    assert_eq!(waiting(&server, "/t"), 3, "nothing went out after them yet");
    server.post("/t", "4");
    stream.expect(&[(4, "4")]);
    wait_for("the first three to be consumed", || {
        waiting(&server, "/t") == 1
    });
    drop(stream);
    // Whether the fourth arrived nobody knows, so it comes again, unless the client says it did.
    Stream::open(&server, "/t/a", None).expect(&[(4, "4")]);
    server.post("/t", "5");
    let mut stream = Stream::open(&server, "/t/a?heartbeat=100ms", Some(4));
    stream.expect(&[(5, "5")]);
    wait_for("a heartbeat to confirm the fifth", || {
        waiting(&server, "/t") == 0
    });
    assert_eq!(server.get("/t/a").status, 204);

    assert_eq!(server.delete("/t/a").status, 200);
    let end = stream.event();
    assert_eq!(
        (end.name.as_str(), &end.json()["code"]),
        ("error", &"no-such-subscription".into())
    );
    assert_eq!(stream.next(), None);
    let accept = [("accept", "text/event-stream")];
    assert_eq!(server.http("GET", "/t/nobody", &accept, b"").status, 404);
}

#[test]
fn the_latest_stream_of_a_queue_reads_it() {
    let server = Server::start();
    server.post("/t/a", "");
    server.post("/t", "1");
    let mut earlier = Stream::open(&server, "/t/a", None);
    earlier.expect(&[(1, "1")]);
    let mut later = Stream::open(&server, "/t/a", None);
    let end = earlier.event();
    assert_eq!(
        (end.name.as_str(), &end.json()["code"]),
        ("error", &"replaced".into())
    );
    assert_eq!(earlier.next(), None);
    later.expect(&[(1, "1")]);
    server.post("/t", "2");
    later.expect(&[(2, "2")]);
}

#[test]
fn a_long_queue_comes_whole_and_in_order() {
    const MESSAGES: u64 = 1_000;
    let server = Server::start();
    server.post("/t/a", "");
    let mut nats = server.nats_client();
    for n in 1..=MESSAGES {
        nats.send(format!("PUB t 4\r\n{n:04}\r\n"));
    }
    nats.until_pong();
    let mut stream = Stream::open(&server, "/t/a?heartbeat=100ms", None);
    for n in 1..=MESSAGES {
        stream.expect(&[(n, &format!("{n:04}"))]);
    }
    wait_for("all to be consumed", || waiting(&server, "/t") == 0);
}

#[test]
fn a_stream_that_is_not_read_is_ended_and_told_why() {
    let server = Server::start();
    let mut stuck = Stream::open(&server, "/t", None);
    let mut witness = server.nats_client();
    witness.send("SUB t 1\r\n");
    witness.until_pong();
    let large = "x".repeat(1 << 19);
    let mut sent = 0;
    // 8 MiB in the stream's buffer, and what the socket's buffers take.
    loop {
        let answer = server.post("/t", &large);
        sent += 1;
        assert_eq!(witness.line(), format!("MSG t 1 {}", large.len()));
        assert_eq!(witness.line().len(), large.len());
        if answer.header("pinnace-live") == Some("1") {
            break;
        }
        assert!(sent < 200, "a stream held {sent} messages of half a MiB");
    }
    let mut got = 0;
    let end = loop {
        match stuck.event() {
            event if event.name.is_empty() => got += 1,
            event => break event,
        }
    };
    assert_eq!(
        (end.name.as_str(), &end.json()["code"]),
        ("error", &"slow-consumer".into())
    );
    assert!(got <= sent && got >= 16, "{got} of {sent}");
    assert_eq!(stuck.next(), None);
}

#[test]
fn the_server_says_goodbye() {
    let mut server = Server::start();
    server.post("/t/a", "");
    let mut streams = [
        Stream::open(&server, "/t", None),
        Stream::open(&server, "/t/a", None),
    ];
    assert_eq!(server.terminate(), 0);
    for stream in &mut streams {
        let end = stream.event();
        assert_eq!(
            (end.name.as_str(), &end.json()["code"]),
            ("end", &"server-stopping".into())
        );
        assert_eq!(stream.next(), None);
    }
}
