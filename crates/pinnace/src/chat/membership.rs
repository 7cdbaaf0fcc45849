//! The name a chat has, and its queues in the channels it listens to, which go with the name.

use std::collections::VecDeque;

use pinnace_client::messages::direct_topic;
use pinnace_client::queue::Queue;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::reader::read;
use super::session::{Channel, PATIENCE, Session};
use crate::failure::Result;

impl Session {
    /// Asks for a name of its own; says so when it is another than the wanted.
    pub(super) async fn take_name(&mut self, wanted: &str) -> Result<()> {
        let fields = json!({ "name": wanted, "instance": self.instance });
        let granted = self.messages.ask("name", &fields, PATIENCE).await?;
        let name = granted["name"].as_str().unwrap_or(wanted).to_owned();
        self.is_makeshift = name != wanted;
        if self.is_makeshift {
            self.say(&format!("there is a {wanted} already; you are {name}"));
        }
        self.name = name;
        Ok(())
    }

    pub(super) async fn rename(&mut self, wanted: &str) -> Result<()> {
        if wanted == self.name {
            return Ok(());
        }
        let before = self.name.clone();
        self.take_name(wanted).await?;
        self.move_from(&before, true).await?;
        let text = format!("you are {}", self.name);
        self.say(&text);
        Ok(())
    }

    /// Has the channels under the new name. What waits under the old is shown first, if that is given up.
    pub(super) async fn move_from(&mut self, before: &str, gives_up: bool) -> Result<()> {
        let old_queue = format!("chat-{before}");
        let old_direct = direct_topic(before);
        let channels: Vec<String> = self.joined.keys().cloned().collect();
        for channel in channels {
            let is_direct = channel == old_direct;
            let target = if is_direct {
                direct_topic(&self.name)
            } else {
                channel.clone()
            };
            // The new queue is there before the old one goes, so nothing falls between them.
            let queue = self.queue_for(&target).await?;
            self.stop(&channel).await;
            let mut moved = self.joined.remove(&channel);
            if gives_up {
                let mut old = self.messages.queue(&channel, &old_queue, &limits()).await?;
                while let Some(message) = old.next_waiting().await? {
                    self.show(&channel, &message);
                    if let Some(moved) = &mut moved {
                        moved.last_seq = message.seq;
                    }
                }
                old.finish().await;
                self.messages.end_queue(&channel, &old_queue).await?;
            }
            let last_seq = moved.as_ref().map_or(0, |moved| moved.last_seq);
            self.start(&target, queue, last_seq);
            if let (Some(moved), Some(new)) = (moved, self.joined.get_mut(&target)) {
                new.history = moved.history;
            }
        }
        Ok(())
    }

    pub(super) async fn queue_for(&self, channel: &str) -> Result<Queue> {
        let name = self.queue_name();
        Ok(self.messages.queue(channel, &name, &limits()).await?)
    }

    pub(super) async fn listen(&mut self, channel: &str, skip_through: u64) -> Result<()> {
        let queue = self.queue_for(channel).await?;
        self.start(channel, queue, skip_through);
        Ok(())
    }

    pub(super) fn start(&mut self, channel: &str, mut queue: Queue, skip_through: u64) {
        queue.skip_through(skip_through);
        let (stop, stopped) = oneshot::channel();
        let reader = tokio::spawn(read(
            queue,
            channel.to_owned(),
            self.events.clone(),
            stopped,
        ));
        let entry = Channel {
            reader,
            stop: Some(stop),
            last_seq: skip_through,
            history: VecDeque::new(),
        };
        self.joined.insert(channel.to_owned(), entry);
    }

    /// Ends the reader of a channel, with what was shown acknowledged.
    pub(super) async fn stop(&mut self, channel: &str) {
        if let Some(entry) = self.joined.get_mut(channel) {
            drop(entry.stop.take());
            if self.is_lost {
                entry.reader.abort();
            }
            // One that ended badly has nothing to say either.
            let _ = (&mut entry.reader).await;
        }
    }
}

/// What a queue of somebody who is away may hold: it must not stand in the way of those who talk.
fn limits() -> Value {
    json!({ "max_messages": 10_000, "max_age": "720h", "overflow": "drop-oldest" })
}
