//! What there is: channels, clients, what was said; and the words that can be completed.

use std::sync::PoisonError;
use std::time::Duration;

use pinnace_proto::api::{Clients, Topics};
use pinnace_proto::units::show_duration;
use serde_json::json;

use super::input::Screen;
use super::session::{PATIENCE, Session};
use crate::commands::since_text;
use crate::failure::{Failure, Result};

impl Session {
    pub(super) async fn topics(&self) -> Result<Topics> {
        let answer = self.messages.ask("topics", &json!({}), PATIENCE).await?;
        serde_json::from_value(answer).map_err(Failure::failed)
    }

    pub(super) async fn clients(&self) -> Result<Clients> {
        let answer = self.messages.ask("clients", &json!({}), PATIENCE).await?;
        serde_json::from_value(answer).map_err(Failure::failed)
    }

    pub(super) async fn list_channels(&mut self) -> Result<()> {
        let topics = self.topics().await?.topics;
        let channels = topics.iter().filter(|entry| is_channel(&entry.topic));
        let lines: Vec<String> = channels
            .map(|entry| {
                let mark = if self.joined.contains_key(&entry.topic) {
                    "you and "
                } else {
                    ""
                };
                let count = entry.live + entry.subscribers.len() as u64;
                let others = count - u64::from(!mark.is_empty()).min(count);
                format!("{}  {mark}{others} listening", entry.topic)
            })
            .collect();
        self.say(&lines.join("\n"));
        self.refresh_words().await;
        Ok(())
    }

    pub(super) async fn list_clients(&mut self) -> Result<()> {
        let clients = self.clients().await?.clients;
        for client in clients {
            let duration = show_duration(Duration::from_micros(client.duration_us));
            let you = if client.name == self.name {
                " (you)"
            } else {
                ""
            };
            let (name, kind, address) = (&client.name, &client.kind, &client.address);
            let since = since_text(client.since_us);
            self.say(&format!(
                "{name}{you}  {kind}  {address}  since {since}, for {duration}"
            ));
        }
        Ok(())
    }

    pub(super) fn list_history(&mut self, channel: Option<String>) -> Result<()> {
        let channel = channel.or_else(|| self.current.clone()).unwrap_or_default();
        let Some(entry) = self.joined.get(&channel) else {
            return Err(Failure::failed(format!("you are not in {channel}")));
        };
        let lines: Vec<String> = entry.history.iter().cloned().collect();
        if lines.is_empty() {
            self.say(&format!(
                "nothing was said in {channel} while you were here"
            ));
        }
        for line in lines {
            self.screen.show(&format!("  {line}"));
        }
        Ok(())
    }

    /// What can be completed from now on; left as it is while the server does not say.
    pub(super) async fn refresh_words(&self) {
        if matches!(self.screen, Screen::Plain(_)) || self.is_lost {
            return;
        }
        if let (Ok(topics), Ok(clients)) = (self.topics().await, self.clients().await) {
            let topics = topics.topics.into_iter().map(|entry| entry.topic);
            let mut known: Vec<String> = topics.filter(|topic| is_channel(topic)).collect();
            known.extend(clients.clients.into_iter().map(|entry| entry.name));
            known.sort();
            known.dedup();
            *self.words.lock().unwrap_or_else(PoisonError::into_inner) = known;
        }
    }
}

/// A topic for people: neither the server's own nor anybody's inbox.
pub(super) fn is_channel(topic: &str) -> bool {
    !topic.starts_with(['$', '_', '-']) && !topic.starts_with("pinnace.")
}
