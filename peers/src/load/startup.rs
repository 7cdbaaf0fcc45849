//! Start-up with much that is stored: queues and messages, then a kill, and the time to be ready.
//!
//! Invariant: the server is started on what it itself stored and acknowledged; nothing is prepared
//! behind its back.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::line::Target;
use super::spent::Meter;
use super::{Figures, durable, http};
use crate::limits::{FILL_CONNECTIONS, FILL_WINDOW};
use crate::servers::Broker;

/// What is stored before.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Topics.
    pub topics: usize,
    /// Queues of each topic.
    pub queues: usize,
    /// Messages in each topic.
    pub messages: usize,
}

/// Fills a server, kills it, and starts it again, then ends it in good order and starts it again.
///
/// # Errors
/// When it does not come back, or not with all queues.
pub fn run(
    broker: &dyn Broker,
    data: &Path,
    stored: Stored,
    payload_bytes: usize,
) -> Result<Figures> {
    let (wire, _) = broker.live().context("no live messages")?;
    let server = broker.start(data)?;
    let topics: Vec<String> = (0..stored.topics)
        .map(|index| format!("t{index}"))
        .collect();
    let began = Instant::now();
    subscribe_all(&server.http, &topics, stored.queues)?;
    let subscribed = began.elapsed();
    let target = Target {
        wire,
        address: Some(&server.nats),
        window: None,
    };
    let began = Instant::now();
    let count = stored.topics * stored.messages;
    durable::fill(&target, &topics, (payload_bytes, FILL_WINDOW), count)?;
    let published = began.elapsed();
    // Dropping a server kills it: it starts from what is on disk.
    drop(server);

    let cpu_before = Meter::default().cpu()?;
    let began = Instant::now();
    let server = broker.start(data)?;
    let killed = began.elapsed();
    let meter = Meter::of(server.pid())?;
    let cpu = meter.cpu()?;
    check(&server.http, &topics[0], stored)?;
    check(&server.http, &topics[stored.topics - 1], stored)?;
    let held = meter.memory()?;
    server.end()?;

    let began = Instant::now();
    let server = broker.start(data)?;
    let ended = began.elapsed();
    server.end()?;
    Ok(Figures {
        published: count as u64,
        seconds: killed.as_secs_f64(),
        server_cpu_s: cpu.server.as_secs_f64(),
        generator_cpu_s: (cpu - cpu_before).generator.as_secs_f64(),
        peak_rss_bytes: held.peak_rss_bytes,
        note: format!(
            "ready {:.2} s after a kill, {:.2} s after an orderly end, with {count} messages and {} queues; \
             before that {:.1} s to subscribe, {:.1} s to publish; resident {} MiB",
            killed.as_secs_f64(),
            ended.as_secs_f64(),
            stored.topics * stored.queues,
            subscribed.as_secs_f64(),
            published.as_secs_f64(),
            held.rss_bytes >> 20,
        ),
        ..Figures::default()
    })
}

fn subscribe_all(address: &str, topics: &[String], queues: usize) -> Result<()> {
    std::thread::scope(|scope| {
        let share = topics.len().div_ceil(FILL_CONNECTIONS).max(1);
        let threads: Vec<_> = topics
            .chunks(share)
            .map(|topics| {
                scope.spawn(move || -> Result<()> {
                    let mut client = http::Client::open(address)?;
                    for topic in topics {
                        for queue in 0..queues {
                            client.ask("POST", &format!("/{topic}/q{queue}"), b"")?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().ok().context("a subscriber panicked")??;
        }
        Ok(())
    })
}

/// The topic is back whole.
fn check(address: &str, topic: &str, stored: Stored) -> Result<()> {
    let answer = http::ask(address, "GET", &format!("/{topic}"), b"")?;
    let answer: Value = serde_json::from_slice(&answer).context("a topic's answer")?;
    let queues = answer["subscribers"].as_array().context("no subscribers")?;
    ensure!(
        queues.len() == stored.queues
            && queues
                .iter()
                .all(|queue| queue["waiting"] == stored.messages),
        "{topic} came back as {answer}"
    );
    Ok(())
}
