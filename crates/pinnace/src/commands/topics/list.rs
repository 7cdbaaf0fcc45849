//! `pinnace topics` alone: what is subscribed to, by whom, and what waits.

use std::time::Duration;

use pinnace_proto::units::show_duration;

use crate::bench::conduct::now_us;
use crate::commands::Context;
use crate::failure::{DONE, Result};
use crate::output::table;

const HEADS: [(&str, bool); 6] = [
    ("topic", false),
    ("live", true),
    ("queue", false),
    ("waiting", true),
    ("on lease", true),
    ("oldest", true),
];

pub(super) fn run(context: &Context<'_>) -> Result<u8> {
    let topics = context.api()?.topics()?;
    if context.output.json {
        context.output.document(&topics);
        return Ok(DONE);
    }
    if topics.topics.is_empty() {
        context.output.line("nobody is subscribed to anything");
        return Ok(DONE);
    }
    let mut rows = Vec::new();
    for topic in &topics.topics {
        let live = topic.live.to_string();
        if topic.subscribers.is_empty() {
            let mut row = vec![topic.topic.clone(), live];
            row.resize(HEADS.len(), "-".to_owned());
            rows.push(row);
            continue;
        }
        for queue in &topic.subscribers {
            rows.push(vec![
                topic.topic.clone(),
                live.clone(),
                queue.name.clone(),
                queue.waiting.to_string(),
                queue.leased.to_string(),
                queue.oldest_us.map_or("-".to_owned(), age),
            ]);
        }
    }
    context.output.line(table(&HEADS, &rows));
    Ok(DONE)
}

/// How long ago that was.
fn age(us: u64) -> String {
    show_duration(Duration::from_micros(now_us().saturating_sub(us)))
}
