//! `kill -9` of the server again and again while publishers on both doors record what was
//! acknowledged: nothing acknowledged is lost, nothing comes twice or from nowhere, each publisher's
//! messages keep their order.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Server, try_http};

const KILLS: u64 = 300;
/// Half of them speak HTTP, half NATS.
const PUBLISHERS: usize = 8;
/// Messages a NATS publisher has under way at once.
const WINDOW: u64 = 16;

/// What one publisher did before the server died.
struct Outcome {
    /// The number it would use next; one is never used twice.
    next: u64,
    acknowledged: Vec<u64>,
}

/// What the publishers of one round share.
struct Round<'a> {
    server: &'a Server,
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

impl Round<'_> {
    fn acknowledge(&self, outcome: &mut Outcome, number: u64) {
        outcome.acknowledged.push(number);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// One message at a time, each until it is acknowledged or the server dies.
    fn publish_over_http(&self, publisher: usize, outcome: &mut Outcome) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = outcome.next;
            let body = format!("{publisher} {number}");
            outcome.next += 1;
            match try_http(&self.server.http, "POST", "/t", &[], body.as_bytes()) {
                Ok(answer) if answer.status == 200 => self.acknowledge(outcome, number),
                // Without an answer nobody knows; the number is not used again.
                Ok(answer) => panic!("refused: {answer:?}"),
                Err(_) => {}
            }
        }
    }

    /// A window of messages at a time, until the connection breaks.
    fn publish_over_nats(&self, publisher: usize, outcome: &mut Outcome) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(&self.server.nats)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let inbox = format!("inbox.{publisher}");
        write!(
            stream,
            "CONNECT {{\"verbose\":false}}\r\nSUB {inbox}.* 1\r\n"
        )?;
        let mut under_way = 0;
        loop {
            let mut batch = String::new();
            while under_way < WINDOW {
                let (number, body) = (outcome.next, format!("{publisher} {}", outcome.next));
                batch += &format!("PUB t {inbox}.{number} {}\r\n{body}\r\n", body.len());
                outcome.next += 1;
                under_way += 1;
            }
            stream.write_all(batch.as_bytes())?;
            let Some(line) = lines.next().transpose()? else {
                return Ok(());
            };
            if let Some(rest) = line.strip_prefix(&format!("MSG {inbox}.")) {
                let number = rest.split(' ').next().unwrap().parse().unwrap();
                let answer = lines.next().transpose()?.unwrap_or_default();
                // Cut in the middle of its last words, it acknowledged nothing.
                if answer.starts_with("{\"seq\":") && answer.ends_with('}') {
                    self.acknowledge(outcome, number);
                } else {
                    assert!(!answer.contains("error"), "refused: {answer}");
                }
                under_way -= 1;
            }
        }
    }

    fn publish(&self, publisher: usize, next: u64) -> Outcome {
        let mut outcome = Outcome {
            next,
            acknowledged: Vec::new(),
        };
        if publisher < PUBLISHERS / 2 {
            self.publish_over_http(publisher, &mut outcome);
        } else {
            // It ends with an error, as the server is killed.
            let _ = self.publish_over_nats(publisher, &mut outcome);
        }
        outcome
    }

    /// Returns when so many publishes were acknowledged that it is time for the kill.
    fn wait_for_acknowledgements(&self, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.acknowledged.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < deadline, "{count} were not acknowledged");
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }
}

/// All that waits in the queue, in order.
fn drain(server: &Server) -> Vec<(usize, u64)> {
    let mut got = Vec::new();
    loop {
        let answer = server.get("/t/reader?max=1000");
        if answer.status == 204 {
            return got;
        }
        for line in answer.text().lines() {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            let (publisher, number) = message["text"].as_str().unwrap().split_once(' ').unwrap();
            got.push((publisher.parse().unwrap(), number.parse().unwrap()));
        }
    }
}

#[test]
fn three_hundred_kills_lose_double_and_reorder_nothing() {
    let mut server = Server::start();
    assert_eq!(server.post("/t/reader", "").status, 200);
    let mut next = [0_u64; PUBLISHERS];
    let mut acknowledged: HashMap<usize, Vec<u64>> = HashMap::new();
    let mut received: HashMap<usize, Vec<u64>> = HashMap::new();
    for kill in 0..KILLS {
        let pid = server.pid();
        let round = Round {
            server: &server,
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
        };
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for (publisher, next) in next.into_iter().enumerate() {
                let (round, results) = (&round, &results);
                scope.spawn(move || {
                    let outcome = round.publish(publisher, next);
                    results.lock().unwrap().push((publisher, outcome));
                });
            }
            // The moment of the kill moves through the publishers' work from round to round.
            round.wait_for_acknowledgements(1 + kill * 7 % 97);
            crate::support::signal(pid, "KILL");
            round.stop.store(true, Ordering::Relaxed);
        });
        for (publisher, outcome) in results.into_inner().unwrap() {
            next[publisher] = outcome.next;
            let all = acknowledged.entry(publisher).or_default();
            all.extend(outcome.acknowledged);
        }
        server.kill();
        server.restart();
        for (publisher, number) in drain(&server) {
            received.entry(publisher).or_default().push(number);
        }
    }
    let mut total = 0;
    for (publisher, next) in next.into_iter().enumerate() {
        let got = received.remove(&publisher).unwrap_or_default();
        assert!(
            got.is_sorted_by(|a, b| a < b),
            "publisher {publisher}: doubled or reordered"
        );
        assert!(
            got.last().is_none_or(|last| *last < next),
            "publisher {publisher}: a message nobody sent"
        );
        let expected = acknowledged.remove(&publisher).unwrap_or_default();
        let lost: Vec<_> = expected
            .iter()
            .filter(|n| got.binary_search(n).is_err())
            .collect();
        assert!(lost.is_empty(), "publisher {publisher} lost {lost:?}");
        assert!(!expected.is_empty(), "publisher {publisher}: no test");
        total += expected.len();
    }
    println!("{KILLS} kills, {total} acknowledged, 0 lost, 0 doubled, 0 reordered, 0 from nowhere");
}
