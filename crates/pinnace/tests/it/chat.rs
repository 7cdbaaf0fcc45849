//! People: `request`, `send`, `sub` across a restart, and `chat` with and without a terminal.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc;

use crate::support::{PATIENCE, Server, finish, pinnace, signal, wait_for};

/// A program that runs, read line by line while it does.
pub(crate) struct Talk {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Talk {
    pub(crate) fn start(server: &Server, arguments: &[&str]) -> Self {
        Self::of(server.spawn_with_stdin(arguments))
    }

    fn of(mut child: Child) -> Self {
        let (tell, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for output in outputs {
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if tell.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines }
    }

    /// The first line from here on that holds `part`.
    #[track_caller]
    pub(crate) fn expect(&self, part: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!("{error}: `{part}` did not come after {before:#?}"),
            }
        }
    }

    /// The first lines that hold one part and the other: what goes to stdout and what goes to stderr
    /// may come in either order.
    #[track_caller]
    fn expect_both(&self, parts: [&str; 2]) -> [String; 2] {
        let (mut found, mut before) = ([None, None], Vec::new());
        loop {
            if let [Some(one), Some(other)] = &found {
                return [one, other].map(String::clone);
            }
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => match parts.iter().position(|part| line.contains(part)) {
                    Some(place) => found[place] = Some(line),
                    None => before.push(line),
                },
                Err(error) => panic!("{error}: not {parts:?} but {found:?} after {before:#?}"),
            }
        }
    }

    fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    /// Waits for its end; its exit code and what it still said.
    fn end(mut self) -> (i32, Vec<String>) {
        drop(self.child.stdin.take());
        wait_for("the program's end", || {
            self.child.try_wait().unwrap().is_some()
        });
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (code, self.lines.iter().collect())
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_request_is_answered_or_says_why_not() {
    let server = Server::start();
    let asked = server.run(&["--json", "request", "$PN.create.orders"]);
    let answer = asked.expect(0, &[]).json();
    assert_eq!(answer["answer"]["created"], true, "{answer}");
    server
        .run(&["request", "ordesr", "x"])
        .expect(1, &["nobody listens on `ordesr`", "did you mean `orders`"]);
    server
        .run(&["request", "far", "x", "--timeout", "never"])
        .expect(2, &["--timeout"]);
    let mut answerer = server.nats_client();
    answerer.send("SUB help 1\r\n");
    answerer.until_pong();
    let asking = server.spawn(&["request", "help", "how?"]);
    let head = answerer.line();
    let reply = head.split(' ').nth(3).unwrap().to_owned();
    assert_eq!(answerer.line(), "how?");
    answerer.send(format!("PUB {reply} 4\r\nthus\r\n"));
    assert_eq!(finish(asking).expect(0, &[]).stdout, "thus\n");
}

#[test]
fn a_message_to_one_client_reaches_it_or_says_who_there_is() {
    let server = Server::start();
    let bob = Talk::start(&server, &["sub", "news", "--name", "bob"]);
    bob.expect("listening");
    server
        .run(&["send", "bob", "hi", "--name", "eve"])
        .expect(0, &["sent to bob"]);
    assert_eq!(bob.expect("hi"), "pinnace.to.bob  eve: hi");
    server
        .run(&["send", "bobb", "hi"])
        .expect(1, &["no client `bobb`", "did you mean `bob`"]);
    server
        .run(&["send", "zzzzz", "hi"])
        .expect(1, &["no client", "pinnace clients"]);
    let deaf = server.nats_client();
    let name = server.get("/-/clients").json()["clients"][1]["name"].clone();
    server
        .run(&["send", name.as_str().unwrap(), "hi"])
        .expect(1, &["listens to no messages", "pinnace.to.127-0-0-1-"]);
    drop(deaf);
}

#[test]
fn a_queue_misses_nothing_while_the_server_is_away() {
    let mut server = Server::start();
    let sub = Talk::start(&server, &["sub", "jobs.*", "--queue", "me"]);
    sub.expect("waiting");
    for round in 0..3 {
        server.post("/jobs.a", &format!("before {round}"));
        assert_eq!(sub.expect("before"), format!("jobs.a  before {round}"));
        server.kill();
        sub.expect("connection lost");
        server.restart();
        server.post("/jobs.b", &format!("after {round}"));
        let [_, message] = sub.expect_both(["connected again", "jobs"]);
        assert_eq!(message, format!("jobs.b  after {round}"));
    }
    signal(sub.child.id(), "INT");
    let (code, rest) = sub.end();
    assert_eq!((code, rest), (0, vec![]));
    // All of it is acknowledged, nothing comes twice.
    server.post("/jobs.c", "last");
    let last = server.run(&["sub", "jobs.*", "--queue", "me", "--count", "1"]);
    assert_eq!(last.expect(0, &[]).stdout, "jobs.c  last\n");
}

fn chat(server: &Server, name: &str) -> Talk {
    let talk = Talk::start(server, &["chat", "--name", name]);
    talk.expect("you are in ");
    talk
}

#[test]
fn people_talk_on_channels() {
    let server = Server::start();
    let mut alice = chat(&server, "alice");
    let mut bob = chat(&server, "bob");
    alice.expect("bob is here");
    alice.say("hello there, all of you");
    assert_eq!(
        bob.expect("hello"),
        "[lobby] alice: hello there, all of you"
    );
    bob.say(r#"{"json": [1, 2]}"#);
    assert_eq!(alice.expect("json"), r#"[lobby] bob: {"json": [1, 2]}"#);
    alice.say("/create plans");
    alice.expect("you are in plans");
    bob.say("/channels");
    bob.expect("plans  1 listening");
    bob.say("/join plan");
    bob.expect("there is no channel plan");
    bob.expect("did you mean plans?");
    bob.say("/join plans");
    bob.expect("you are in plans");
    bob.say("here too");
    alice.expect("[plans] bob: here too");
    alice.say("/to bob only you");
    alice.expect("sent to bob");
    bob.expect("[to you] alice: only you");
    alice.say("/to bobb x");
    alice.expect("did you mean `bob`?");
    bob.say("/history");
    bob.expect("bob: here too");
    bob.say("/leave lobby");
    bob.expect("you left lobby");
    alice.say("/join lobby");
    alice.expect("you are in lobby");
    alice.say("anybody?");
    alice.expect("nobody else is in lobby");
    alice.say("/jion x");
    alice.expect("did you mean /join?");
    bob.say("/who");
    bob.expect("alice  nats  127.0.0.1:");
    bob.say("/name robert");
    bob.expect("you are robert");
    alice.expect("robert is here");
    alice.say("/to robert still there?");
    bob.expect("[to you] alice: still there?");
    // Any client of the other protocols takes part.
    server.post("/plans", "from elsewhere");
    bob.expect("[plans] ?: from elsewhere");
    bob.say("/quit");
    alice.expect("robert left");
    assert_eq!(bob.end().0, 0);
    assert_eq!(alice.end().0, 0);
}

#[test]
fn a_name_is_taken_once() {
    let server = Server::start();
    let first = chat(&server, "alice");
    let second = Talk::start(&server, &["chat", "--name", "alice"]);
    second.expect("there is a alice already; you are alice-2");
    second.expect("you are in lobby");
    let queues = |topic: &str| {
        let listed = server.get(topic).json();
        let queues = listed["subscribers"].as_array().unwrap().iter();
        let names: Vec<String> = queues
            .map(|queue| queue["name"].as_str().unwrap().to_owned())
            .collect();
        names
    };
    assert_eq!(queues("/lobby"), ["chat-alice", "chat-alice-2"]);
    assert_eq!(second.end().0, 0);
    assert_eq!(first.end().0, 0);
    // What waits, waits for a name somebody chose.
    assert_eq!(queues("/lobby"), ["chat-alice"]);
    assert_eq!(queues("/pinnace.to.alice-2"), Vec::<String>::new());
}

#[test]
fn what_is_said_while_one_is_away_waits() {
    let mut server = Server::start();
    let mut bob = chat(&server, "bob");
    bob.say("/create plans");
    bob.expect("you are in plans");
    assert_eq!(bob.end().0, 0);
    server.post("/plans", "while you were away");
    server
        .run(&["send", "bob", "call me", "--name", "eve"])
        .expect(0, &["bob is away; the message waits"]);
    let mut bob = chat(&server, "bob");
    let mut waited = [bob.expect("] "), bob.expect("] ")];
    waited.sort();
    assert!(waited[0].starts_with("[plans] ?"), "{waited:?}");
    assert!(waited[0].ends_with(": while you were away"), "{waited:?}");
    assert!(waited[1].starts_with("[to you] eve"), "{waited:?}");
    // A server that goes and comes back is said, and nothing is missed or told twice.
    for round in 0..2 {
        server.kill();
        bob.expect("connection lost");
        server.restart();
        server.post("/plans", &format!("round {round}"));
        bob.expect("connected again");
        assert!(bob.expect("] ").ends_with(&format!(": round {round}")));
    }
    bob.say("/who");
    bob.expect("bob (you)");
    signal(bob.child.id(), "TERM");
    assert_eq!(bob.end().0, 0);
}

/// A chat in a terminal: what is typed goes in byte by byte, what the screen gets comes out.
struct Terminal {
    child: Child,
    keys: File,
    screen: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(server: &Server, name: &str) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = File::options().read(true).write(true).open(path).unwrap();
        let child = pinnace(server.folder.path())
            .env("TERM", "xterm")
            .args(["--server", &server.url(), "chat", "--name", name])
            .stdin(Stdio::from(theirs.try_clone().unwrap()))
            .stdout(Stdio::from(theirs.try_clone().unwrap()))
            .stderr(Stdio::from(theirs))
            .spawn()
            .unwrap();
        let keys = File::from(ours);
        let mut output = keys.try_clone().unwrap();
        let (tell, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if tell.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keys,
            screen,
            seen: String::new(),
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// What the screen got up to and with `part`.
    #[track_caller]
    fn expect(&mut self, part: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(part) {
                let rest = self.seen.split_off(at + part.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(error) => panic!("{error}: `{part}` did not come: {:?}", self.seen),
            }
        }
    }

    /// Waits for its end and says its exit code.
    fn end(mut self) -> i32 {
        wait_for("the end of the chat", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_terminal_has_an_editor_and_messages_come_above_it() {
    let server = Server::start();
    let mut alice = Terminal::start(&server, "alice");
    alice.expect("alice lobby> ");
    alice.press("half a li");
    alice.expect("half a li");
    server.post("/lobby", "{\"a\":1}");
    // The message in colour, then the prompt with what was typed so far.
    alice.expect("\x1b[36m\"a\"\x1b[0m: \x1b[33m1\x1b[0m");
    alice.expect("alice lobby> half a li");
    alice.press("ne\r");
    alice.expect("nobody else is in lobby");
    alice.expect("alice lobby> ");
    alice.press("/cr\t");
    alice.expect("/create ");
    alice.press("plans\r");
    alice.expect("alice plans> ");
    // The key upwards brings the line before.
    alice.press("\x1b[A");
    alice.expect("/create plans");
    alice.press("\x15/join lo\t");
    alice.expect("/join lobby ");
    alice.press("\r");
    alice.expect("alice lobby> ");
    // Ctrl-D ends it, and so does Ctrl-C.
    alice.press("\x04");
    assert_eq!(alice.end(), 0);
    let mut again = Terminal::start(&server, "alice");
    again.expect("alice lobby> ");
    again.press("\x03");
    assert_eq!(again.end(), 0);
}
