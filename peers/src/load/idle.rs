//! Idle connections, one subscription each: what the server holds for them.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::line::{Line, Target};
use super::spent::Meter;
use super::{Figures, Memory};
use crate::limits::IDLE_SETTLE;

/// Opens `connections`, waits a moment, and looks.
///
/// # Errors
/// When one is refused.
pub fn run(target: &Target<'_>, meter: &Meter, connections: usize) -> Result<Figures> {
    // The first connection pays for what the server sets up once.
    let _first = Line::open(target, 0, &["idle.first"])?;
    let before = meter.memory()?;
    let (cpu_before, began) = (meter.cpu()?, Instant::now());
    let lines: Vec<Line<'_>> = (1..=connections)
        .map(|number| Line::open(target, number, &[&format!("idle.{number}")]))
        .collect::<Result<_>>()?;
    let (cpu, opening) = (meter.cpu()? - cpu_before, began.elapsed());
    settle(IDLE_SETTLE);
    let after = meter.memory()?;
    drop(lines);
    Ok(Figures {
        published: connections as u64,
        seconds: opening.as_secs_f64(),
        server_cpu_s: cpu.server.as_secs_f64(),
        generator_cpu_s: cpu.generator.as_secs_f64(),
        peak_rss_bytes: after.peak_rss_bytes,
        memory: Some(Memory {
            connections: connections as u64,
            rss_bytes: after.rss_bytes.saturating_sub(before.rss_bytes),
            pss_bytes: after.pss_bytes.saturating_sub(before.pss_bytes),
            pss_all_bytes: after.pss_bytes,
        }),
        ..Figures::default()
    })
}

/// Collectors of garbage have nothing else to do now.
fn settle(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}
