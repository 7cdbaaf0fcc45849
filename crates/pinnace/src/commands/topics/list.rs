//! `pinnace topics` alone: what is subscribed to, by whom, and what waits.

use crate::commands::Context;
use crate::failure::{DONE, Result};
use crate::output::table;

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
            rows.push(vec![
                topic.topic.clone(),
                live,
                "-".to_owned(),
                "-".to_owned(),
            ]);
            continue;
        }
        for queue in &topic.subscribers {
            let waiting = queue.waiting.to_string();
            rows.push(vec![
                topic.topic.clone(),
                live.clone(),
                queue.name.clone(),
                waiting,
            ]);
        }
    }
    let heads = [
        ("topic", false),
        ("live", true),
        ("queue", false),
        ("waiting", true),
    ];
    context.output.line(table(&heads, &rows));
    Ok(DONE)
}
