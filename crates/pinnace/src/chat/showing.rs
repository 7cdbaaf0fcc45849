//! Messages on the screen, and the last of them kept for `/history`.

use pinnace_client::messages::direct_topic;
use pinnace_client::queue::Queued;
use serde_json::{Value, json};

use super::session::Session;
use crate::commands::since_text;
use crate::payload::{self, clean};

/// Shown messages remembered for `/history`, of each channel.
const HISTORY_MAX: usize = 200;
/// A message older than this is shown with its time.
const AGE_SHOWN_US: u64 = 5_000_000;

impl Session {
    pub(super) fn remember(&mut self, channel: &str, line: String) {
        if let Some(entry) = self.joined.get_mut(channel) {
            if entry.history.len() == HISTORY_MAX {
                entry.history.pop_front();
            }
            entry.history.push_back(line);
        }
    }

    pub(super) fn show(&mut self, channel: &str, message: &Queued) {
        if let Some(entry) = self.joined.get_mut(channel) {
            entry.last_seq = message.seq;
        }
        if message.instance.as_ref() == Some(&self.instance) {
            // Its own words are on the screen already.
            return;
        }
        if self.output.json {
            let text = String::from_utf8_lossy(&message.payload);
            let value: Option<Value> = serde_json::from_str(&text).ok();
            let payload = value.unwrap_or_else(|| text.into_owned().into());
            self.output.json_line(&json!({
                "topic": message.topic, "seq": message.seq, "from": message.from,
                "published_us": message.published_us, "payload": payload,
            }));
            return;
        }
        let from = clean(message.from.as_deref().unwrap_or("?"));
        let place = if message.topic == direct_topic(&self.name) {
            "to you".to_owned()
        } else {
            clean(&message.topic)
        };
        let age_us = now_us().saturating_sub(message.published_us);
        let time = match age_us > AGE_SHOWN_US {
            true => format!(" ({})", since_text(message.published_us)),
            false => String::new(),
        };
        let text = payload::shown(&message.payload, self.output.reader());
        let line = format!("[{place}] {from}{time}: {text}");
        self.screen.show(&line);
        self.remember(channel, line);
    }
}

fn now_us() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_micros() as u64)
}
