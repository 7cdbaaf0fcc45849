//! WebSockets through the real door: messages both ways, coming back to a place, limits, the end.

use std::net::TcpStream;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::support::{PATIENCE, Raw, Server, wait_for};

pub(crate) struct Socket(WebSocket<TcpStream>);

impl Socket {
    #[track_caller]
    pub(crate) fn open(server: &Server, path: &str) -> Self {
        let stream = TcpStream::connect(&server.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("ws://{}{path}", server.http)
            .into_client_request()
            .unwrap();
        Self(client(request, stream).unwrap().0)
    }

    #[track_caller]
    fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).unwrap();
    }

    /// The next frame that is no ping.
    #[track_caller]
    fn next(&mut self) -> Message {
        loop {
            let message = self.0.read().unwrap();
            if !message.is_ping() {
                return message;
            }
        }
    }

    #[track_caller]
    pub(crate) fn json(&mut self) -> Value {
        serde_json::from_str(self.next().to_text().unwrap()).unwrap()
    }

    /// Code and reason of the close frame that comes next.
    #[track_caller]
    fn close(&mut self) -> (u16, String) {
        match self.next() {
            Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn frames_in_are_published_and_messages_come_out() {
    let server = Server::start();
    let mut socket = Socket::open(&server, "/chat.room");
    let mut quiet = Socket::open(&server, "/chat.room?echo=false&format=raw");
    let mut nats = server.nats_client();
    nats.send("SUB chat.> 1\r\n");
    nats.until_pong();
    socket.send("hello");
    assert_eq!(nats.line(), "MSG chat.room 1 5");
    assert_eq!(nats.line(), "hello");
    assert_eq!(
        socket.json(),
        json!({"topic": "chat.room", "text": "hello"})
    );
    assert_eq!(quiet.next(), Message::text("hello"));
    quiet.send(&b"\xff\x00"[..]);
    assert_eq!(
        socket.json(),
        json!({"topic": "chat.room", "base64": "/wA="})
    );
    assert_eq!(
        (nats.line().as_str(), nats.line().len()),
        ("MSG chat.room 1 2", 4)
    );
    server.http("POST", "/chat.room", &[("pinnace-from", "curl")], b"\xfe");
    assert_eq!(
        quiet.next(),
        Message::binary(&b"\xfe"[..]),
        "its own was not for it"
    );
    assert_eq!(socket.json()["headers"]["pinnace-from"], "curl");
    socket.0.close(None).unwrap();
    assert_eq!(
        socket.next(),
        Message::Close(None),
        "no code is answered with none"
    );
    drop(quiet);
    wait_for("the subscriptions' end", || {
        server.get("/chat.room").json()["live"] == 0
    });
}

#[test]
fn a_publish_is_acknowledged_once_synced() {
    let mut server = Server::start();
    let mut socket = Socket::open(&server, "/t?acknowledge&echo=false");
    socket.send("nobody");
    assert_eq!(socket.json(), json!({"ack": 1, "live": 0}));
    server.post("/t/keeper", "");
    socket.send("kept");
    assert_eq!(socket.json(), json!({"ack": 2, "seq": 1}));
    server.kill();
    server.restart();
    assert_eq!(server.get("/t/keeper").text(), "kept");
}

#[test]
fn coming_back_brings_what_is_stored_and_says_what_is_gone() {
    let server = Server::start();
    server.post("/t/keeper", "");
    for text in ["1", "2", "3"] {
        server.post("/t", text);
    }
    server.get("/t/keeper");
    let mut socket = Socket::open(&server, "/t?after=0");
    assert_eq!(socket.json(), json!({"gap": {"after": 0}}));
    for seq in 2..=3 {
        let object = socket.json();
        assert_eq!(
            (&object["seq"], &object["text"]),
            (&seq.into(), &seq.to_string().into())
        );
    }
    server.post("/t", "4");
    assert_eq!(socket.json(), json!({"seq": 4, "topic": "t", "text": "4"}));
}

#[test]
fn a_pattern_only_listens() {
    let server = Server::start();
    let mut socket = Socket::open(&server, "/a.*");
    server.post("/a.b", "x");
    assert_eq!(socket.json()["topic"], "a.b");
    socket.send("where to?");
    let (code, reason) = socket.close();
    assert_eq!(code, 1008);
    assert!(reason.contains("pattern"), "{reason}");
}

#[test]
fn what_breaks_the_protocol_or_a_limit_is_closed_with_its_reason() {
    let server = Server::start();
    let limit = 1 << 20;
    let mut socket = Socket::open(&server, "/t?echo=false&acknowledge");
    socket.send("x".repeat(limit));
    assert_eq!(socket.json()["ack"], 1, "the limit itself is fine");
    // It may be closed before all of it is sent.
    let _ = socket.0.send(Message::text("x".repeat(limit + 1)));
    let (code, reason) = socket.close();
    assert_eq!(code, 1009);
    assert!(reason.contains("1048576"), "{reason}");

    let mut socket = Socket::open(&server, "/t");
    let text = Frame::message(vec![0xff], OpCode::Data(Data::Text), true);
    socket.send(Message::Frame(text));
    assert_eq!(socket.close().0, 1007);

    let mut socket = Socket::open(&server, "/t");
    let stray = Frame::message(vec![1], OpCode::Data(Data::Continue), true);
    socket.send(Message::Frame(stray));
    assert_eq!(socket.close().0, 1002);

    let mut socket = Socket::open(&server, "/t");
    socket.send(Message::Ping(b"there?".to_vec().into()));
    assert_eq!(socket.next(), Message::Pong(b"there?".to_vec().into()));
}

#[test]
fn an_opening_that_makes_no_sense_is_refused() {
    let server = Server::start();
    let ask = |path: &str, lines: &str| {
        let mut raw = Raw::connect(&server.http);
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\n{lines}\r\n",
            server.http
        ));
        let status = raw.line();
        while !raw.line().is_empty() {}
        (status, raw)
    };
    let key = "connection: keep-alive, Upgrade\r\nsec-websocket-version: 13\r\n\
               sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (path, lines, status) in [
        ("/t", "", "400"),
        (
            "/t",
            "connection: upgrade\r\nsec-websocket-version: 8\r\nsec-websocket-key: x\r\n",
            "400",
        ),
        (
            "/t",
            "connection: upgrade\r\nsec-websocket-version: 13\r\n",
            "400",
        ),
        ("/t?format=xml", key, "400"),
        ("/t?format=raw&after=1", key, "400"),
        (
            "/t",
            &format!("{key}origin: http://evil.example\r\n"),
            "403",
        ),
        ("/t", &format!("{key}origin: null\r\n"), "403"),
        (
            "/t",
            &format!("{key}origin: http://{}\r\n", server.http),
            "101",
        ),
        ("/t", key, "101"),
    ] {
        let (answer, _raw) = ask(path, lines);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path} {lines}: {answer}"
        );
    }
    wait_for("the sockets' end", || server.get("/t").json()["live"] == 0);
}

#[test]
fn a_socket_that_is_not_read_is_closed_and_others_go_on() {
    let server = Server::start();
    let mut stuck = Socket::open(&server, "/t");
    let mut witness = Socket::open(&server, "/t?format=raw");
    let large = "x".repeat(1 << 19);
    let mut sent = 0;
    loop {
        let answer = server.post("/t", &large);
        sent += 1;
        assert_eq!(witness.next().len(), large.len());
        if answer.header("pinnace-live") == Some("1") {
            break;
        }
        assert!(sent < 200, "a socket held {sent} messages of half a MiB");
    }
    let mut got = 0;
    let (code, reason) = loop {
        match stuck.next() {
            Message::Close(Some(frame)) => break (u16::from(frame.code), frame.reason.to_string()),
            message => {
                assert!(message.len() > large.len());
                got += 1;
            }
        }
    };
    assert_eq!((code, reason.as_str()), (1008, "slow-consumer"));
    assert!(got <= sent && got >= 16, "{got} of {sent}");
}

#[test]
fn the_server_says_goodbye_to_sockets() {
    let mut server = Server::start();
    let mut socket = Socket::open(&server, "/t");
    let http = server.http.clone();
    let closed = std::thread::spawn(move || socket.close());
    assert_eq!(server.terminate(), 0);
    assert_eq!(closed.join().unwrap(), (1001, "server-stopping".to_owned()));
    assert!(TcpStream::connect(http).is_err());
}
