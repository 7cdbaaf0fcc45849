//! What a queue costs in which nothing happens: memory for each, and the time to open them again.
//!
//! `cargo run --release -p pinnace-topics --example idle_queues -- <directory> <topics> <queues of each>`;
//! the directory is made and holds the log. Figures go to standard output.

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use pinnace_topics::{Broker, Error, Options, Start, StoreError};

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn open(dir: &std::path::Path) -> Broker {
    let options = Options {
        queues_max: 10_000_000,
        ..Options::default()
    };
    let (broker, recovery) = Broker::open(dir, options, Arc::new(|| 0)).unwrap();
    println!("{} queues in the log", recovery.queues);
    broker
}

fn create(broker: &Broker, topics: u64, queues: u64) {
    let (sender, receiver) = channel();
    for number in 0..topics * queues {
        let topic = format!("lab.topic-{:07}", number % topics);
        let name = format!("subscriber-{:07}", number / topics);
        loop {
            let last = (number + 1 == topics * queues).then(|| sender.clone());
            let done = Box::new(move |outcome: Result<u64, StoreError>| {
                outcome.unwrap();
                if let Some(last) = last {
                    last.send(()).unwrap();
                }
            });
            match broker.create_queue(topic.as_bytes(), &name, Start::New, done) {
                Ok(_) => break,
                Err(Error::Store(StoreError::Busy)) => broker.wait_for_room(256),
                Err(error) => panic!("{error}"),
            }
        }
    }
    receiver.recv().unwrap();
}

/// Opens the log in a process that does nothing else, so that nothing but the queues is counted.
fn measure(dir: &std::path::Path) {
    let (before, start) = (resident(), Instant::now());
    let broker = open(dir);
    let (elapsed, grown) = (start.elapsed(), resident() - before);
    let queues = broker.queues().len() as u64;
    println!(
        "opened in {elapsed:.2?}, {} bytes of memory for each queue",
        grown / queues
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[..] {
        [_, dir] => measure(&PathBuf::from(dir)),
        [program, dir, topics, queues] => {
            let start = Instant::now();
            let broker = open(&PathBuf::from(dir));
            create(&broker, topics.parse().unwrap(), queues.parse().unwrap());
            println!("created in {:.2?}", start.elapsed());
            drop(broker);
            let measured = std::process::Command::new(program).arg(dir).status();
            assert!(measured.unwrap().success());
        }
        _ => println!("idle_queues <directory> [<topics> <queues of each>]"),
    }
}
