//! Request and reply: a client with one request under way, a responder on another connection.
//!
//! Invariant: every request is answered with its own payload before the next is sent.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Figures;
use super::clock::now_ns;
use super::line::{Line, Target};
use super::spent::Meter;
use super::wire::Item;
use crate::limits::WARM_UP;

const SERVICE: &str = "bench.service";
const INBOX: &str = "bench.inbox";
/// A payload that tells the responder to end.
const LAST: [u8; 8] = u64::MAX.to_le_bytes();

/// Round trips one after another for `duration`.
///
/// # Errors
/// When an answer does not come or is another's.
pub fn run(
    target: &Target<'_>,
    meter: &Meter,
    payload_bytes: usize,
    duration: Duration,
) -> Result<Figures> {
    ensure!(payload_bytes >= LAST.len(), "a payload needs 8 bytes");
    let mut responder = Line::open(target, 1, &[SERVICE])?;
    let mut client = Line::open(target, 2, &[INBOX])?;
    let mut asking = target.wire.publish(SERVICE, Some(INBOX), payload_bytes);
    let mut answering = target.wire.publish(INBOX, None, payload_bytes);
    std::thread::scope(|scope| {
        let answers = scope.spawn(move || -> Result<()> {
            loop {
                let (item, payload) = responder.receive()?;
                if !matches!(item, Item::Message(_)) {
                    continue;
                }
                answering.bytes[answering.payload.clone()].copy_from_slice(payload);
                let is_last = payload.starts_with(&LAST);
                responder.send(&answering.bytes)?;
                if is_last {
                    return Ok(());
                }
            }
        });
        let mut exchange = |stamp: &[u8]| -> Result<()> {
            let at = asking.payload.start;
            asking.bytes[at..at + stamp.len()].copy_from_slice(stamp);
            client.send(&asking.bytes)?;
            loop {
                match client.receive()? {
                    (Item::Message(_), payload) if payload.starts_with(stamp) => return Ok(()),
                    (Item::Message(_), _) => bail!("the answer to another request"),
                    _ => {}
                }
            }
        };
        let mut number = 0u64;
        let mut phase = |duration: Duration| -> Result<(u64, Vec<u32>)> {
            let (first, began) = (number, Instant::now());
            let mut times_ns = Vec::new();
            while began.elapsed() < duration {
                let sent_ns = now_ns();
                exchange(&number.to_le_bytes())?;
                times_ns.push(u32::try_from(now_ns() - sent_ns).unwrap_or(u32::MAX));
                number += 1;
            }
            Ok((number - first, times_ns))
        };
        phase(WARM_UP)?;
        let (cpu_before, began) = (meter.cpu()?, Instant::now());
        let (published, times_ns) = phase(duration)?;
        let (cpu, seconds) = (meter.cpu()? - cpu_before, began.elapsed().as_secs_f64());
        exchange(&LAST)?;
        answers.join().ok().context("the responder panicked")??;
        let figures = Figures {
            published,
            delivered: published * 2,
            seconds,
            server_cpu_s: cpu.server.as_secs_f64(),
            generator_cpu_s: cpu.generator.as_secs_f64(),
            peak_rss_bytes: meter.memory()?.peak_rss_bytes,
            ..Figures::default()
        };
        Ok(figures.with_latencies(times_ns, Vec::new()))
    })
}
