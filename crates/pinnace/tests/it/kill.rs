//! `kill -9` of the server again and again while publishers record what was acknowledged: nothing
//! acknowledged is lost, nothing comes twice, each publisher's messages keep their order.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Server, try_http};

const KILLS: u32 = 100;
const PUBLISHERS: usize = 4;

/// Publishes numbered messages until told to stop, each until it is acknowledged or the server
/// dies; returns the numbers acknowledged. A number is never used twice.
fn publish(publisher: usize, address: &str, first: u64, stop: &AtomicBool) -> (u64, Vec<u64>) {
    let mut acknowledged = Vec::new();
    let mut number = first;
    while !stop.load(Ordering::Relaxed) {
        let body = format!("{publisher} {number}");
        match try_http(address, "POST", "/t", &[], body.as_bytes()) {
            Ok(answer) if answer.status == 200 => acknowledged.push(number),
            // Without an answer nobody knows; the number is not used again.
            Ok(answer) => panic!("refused: {answer:?}"),
            Err(_) => {}
        }
        number += 1;
    }
    (number, acknowledged)
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
fn a_hundred_kills_lose_double_and_reorder_nothing() {
    let mut server = Server::start();
    assert_eq!(server.post("/t/reader", "").status, 200);
    let mut next = [0_u64; PUBLISHERS];
    let mut acknowledged: HashMap<usize, Vec<u64>> = HashMap::new();
    let mut received: HashMap<usize, Vec<u64>> = HashMap::new();
    for round in 0..KILLS {
        let stop = AtomicBool::new(false);
        let address = server.http.clone();
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for (publisher, first) in next.into_iter().enumerate() {
                let (stop, address, results) = (&stop, &address, &results);
                scope.spawn(move || {
                    let result = publish(publisher, address, first, stop);
                    results.lock().unwrap().push((publisher, result));
                });
            }
            // The moment of the kill moves through the publishers' work from round to round.
            std::thread::park_timeout(Duration::from_millis(u64::from(5 + round * 7 % 60)));
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        for (publisher, (number, numbers)) in results.into_inner().unwrap() {
            next[publisher] = number;
            acknowledged.entry(publisher).or_default().extend(numbers);
        }
        server.restart();
        for (publisher, number) in drain(&server) {
            received.entry(publisher).or_default().push(number);
        }
    }
    let mut total = 0;
    for publisher in 0..PUBLISHERS {
        let got = received.remove(&publisher).unwrap_or_default();
        assert!(
            got.is_sorted_by(|a, b| a < b),
            "publisher {publisher}: doubled or reordered"
        );
        let expected = acknowledged.remove(&publisher).unwrap_or_default();
        let lost: Vec<_> = expected
            .iter()
            .filter(|n| got.binary_search(n).is_err())
            .collect();
        assert!(lost.is_empty(), "publisher {publisher} lost {lost:?}");
        total += expected.len();
    }
    assert!(
        total > 20 * KILLS as usize,
        "only {total} publishes were acknowledged: no test"
    );
    println!("{KILLS} kills, {total} acknowledged, 0 lost, 0 doubled, 0 reordered");
}
