//! What a chat knows, and what each event does.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pinnace_client::Api;
use pinnace_client::messages::{Change, FROM_HEADER, INSTANCE_HEADER, Messages, direct_topic};
use pinnace_proto::event::Presence;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::command::{self, Command};
use super::input::{Screen, Words};
use super::listing::is_channel;
use super::{Event, blocking};
use crate::commands::send;
use crate::failure::{Failure, Result, nearest};
use crate::output::Output;
use crate::payload::clean;

/// Where everybody is who joined nothing yet.
const FIRST_CHANNEL: &str = "lobby";
/// The server answers within this time.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Session {
    api: Api,
    pub(super) messages: Messages,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) screen: Screen,
    pub(super) words: Words,
    pub(super) output: Output,
    /// Which program of its name this is.
    pub(super) instance: String,
    pub(super) name: String,
    /// The name was given because the wanted one was taken; its queues go with it.
    pub(super) is_makeshift: bool,
    pub(super) current: Option<String>,
    pub(super) joined: BTreeMap<String, Channel>,
    pub(super) is_lost: bool,
}

/// A channel that is listened to.
pub(super) struct Channel {
    pub(super) reader: JoinHandle<()>,
    pub(super) stop: Option<oneshot::Sender<()>>,
    /// The number of the last message shown.
    pub(super) last_seq: u64,
    pub(super) history: VecDeque<String>,
}

impl Session {
    pub(super) fn new(
        api: Api,
        messages: Messages,
        events: mpsc::UnboundedSender<Event>,
        screen: Screen,
        words: Words,
        output: Output,
    ) -> Self {
        use std::hash::{BuildHasher, Hasher};
        let random = std::hash::RandomState::new().build_hasher().finish();
        Self {
            api,
            messages,
            events,
            screen,
            words,
            output,
            instance: format!("{random:016x}"),
            name: String::new(),
            is_makeshift: false,
            current: None,
            joined: BTreeMap::new(),
            is_lost: false,
        }
    }

    pub(super) fn prompt(&self) -> String {
        let channel = self.current.as_deref().unwrap_or("-");
        format!("{} {channel}> ", self.name)
    }

    /// Gets a name and goes to the channels that name is in.
    pub(super) async fn begin(&mut self, wanted: &str) -> Result<()> {
        self.watch_presence().await?;
        self.take_name(wanted).await?;
        self.say(&format!("you are {}; /help lists what there is", self.name));
        let queue = self.queue_name();
        let topics = self.topics().await?;
        let direct = direct_topic(&self.name);
        let mine = topics.topics.into_iter().filter(|entry| {
            let mut queues = entry.subscribers.iter();
            entry.topic != direct && queues.any(|subscriber| subscriber.name == queue)
        });
        let mine: Vec<String> = mine.map(|entry| entry.topic).collect();
        self.listen(&direct, 0).await?;
        for channel in &mine {
            self.listen(channel, 0).await?;
        }
        match mine.into_iter().next() {
            Some(first) => self.current = Some(first),
            None => return self.create(FIRST_CHANNEL).await,
        }
        self.refresh_words().await;
        let channels: Vec<&str> = self.channels().collect();
        let text = format!("you are in {}", channels.join(", "));
        self.say(&text);
        Ok(())
    }

    /// Does what an event asks for; false at the end.
    pub(super) async fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::End => return false,
            Event::Line(line) => match command::read(&line) {
                Ok(Command::Quit) => return false,
                Ok(command) => {
                    if let Err(failure) = self.carry_out(command).await {
                        self.say(failure.message());
                        if let Some(advice) = failure.advice() {
                            self.say(&format!("  {advice}"));
                        }
                    }
                }
                Err(advice) => self.say(&advice),
            },
            Event::Message {
                channel,
                message,
                shown,
            } => {
                // Nobody waits for it any more when its channel was left meanwhile.
                if !shown.is_closed() {
                    self.show(&channel, &message);
                    let _ = shown.send(());
                }
            }
            Event::Lost { channel, error } => {
                self.joined.remove(&channel);
                self.say(&format!("you are out of {channel}: {error}"));
            }
            Event::Link(change) => self.link(change).await,
            Event::Presence { topic, payload } => self.presence(&topic, &payload).await,
        }
        true
    }

    /// Stops listening; what is said from now on waits for this name.
    pub(super) async fn end(&mut self) {
        let channels: Vec<String> = self.joined.keys().cloned().collect();
        for channel in channels {
            self.stop(&channel).await;
            if self.is_makeshift && !self.is_lost {
                // A queue that stays is one too many, and no loss.
                let _ = self.messages.end_queue(&channel, &self.queue_name()).await;
            }
        }
    }

    async fn carry_out(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Nothing | Command::Quit => Ok(()),
            Command::Help => {
                self.say(&command::help());
                Ok(())
            }
            Command::Say(text) => self.publish(&text).await,
            Command::To(client, text) => {
                let (api, headers) = (self.api.clone(), self.headers());
                let sent = blocking(move || {
                    let headers = borrowed(&headers);
                    send::send(&api, &client, &headers, &text)
                });
                let said = sent.await??;
                self.say(&said);
                Ok(())
            }
            Command::Name(name) => self.rename(&name).await,
            Command::Create(channel) => self.create(&channel).await,
            Command::Join(channel) => self.join(&channel).await,
            Command::Leave(channel) => self.leave(channel).await,
            Command::Channels => self.list_channels().await,
            Command::Who => self.list_clients().await,
            Command::History(channel) => self.list_history(channel),
        }
    }

    pub(super) fn say(&mut self, text: &str) {
        if self.output.json {
            self.output.note(text);
        } else {
            for line in text.lines() {
                self.screen.show(&format!("* {}", clean(line)));
            }
        }
    }

    fn channels(&self) -> impl Iterator<Item = &str> {
        let direct = direct_topic(&self.name);
        let joined = self.joined.keys().map(String::as_str);
        joined.filter(move |channel| *channel != direct)
    }

    pub(super) fn queue_name(&self) -> String {
        format!("chat-{}", self.name)
    }

    fn headers(&self) -> [(&'static str, String); 2] {
        [
            (FROM_HEADER, self.name.clone()),
            (INSTANCE_HEADER, self.instance.clone()),
        ]
    }

    async fn watch_presence(&self) -> Result<()> {
        let mut presence = self.messages.subscribe("pinnace.client.*", None).await?;
        let events = self.events.clone();
        tokio::spawn(async move {
            while let Some(message) = presence.next().await {
                let (topic, payload) = (message.topic, message.payload);
                if events.send(Event::Presence { topic, payload }).is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    async fn publish(&mut self, text: &str) -> Result<()> {
        let Some(channel) = self.current.clone() else {
            return Err(Failure::failed("you are in no channel; /join one first"));
        };
        if is_pattern(&channel) {
            let text =
                format!("{channel} is a pattern: it can be listened to; /join a channel to talk");
            return Err(Failure::failed(text));
        }
        let (api, headers) = (self.api.clone(), self.headers());
        let payload = text.as_bytes().to_vec();
        let kind = match serde_json::from_slice::<Value>(&payload) {
            Ok(Value::Object(_) | Value::Array(_)) => "application/json",
            _ => "text/plain; charset=utf-8",
        };
        let target = channel.clone();
        let published = blocking(move || {
            let headers = borrowed(&headers);
            api.publish_with(&target, kind, &headers, &payload)
        });
        let published = published.await?;
        let answer = published.map_err(|error| {
            Failure::failed(format!("not said: {error}"))
                .hint("say it again when you are connected")
        })?;
        let line = format!("{}: {}", self.name, clean(text));
        self.remember(&channel, line);
        if answer.queues + answer.live <= 1 {
            self.say(&format!("nobody else is in {channel}"));
        }
        Ok(())
    }

    async fn create(&mut self, channel: &str) -> Result<()> {
        let fields = json!({ "topic": channel });
        let answer = self.messages.ask("create", &fields, PATIENCE).await?;
        if answer["created"] == false && channel != FIRST_CHANNEL {
            self.say(&format!("{channel} was there already"));
        }
        self.enter(channel).await
    }

    async fn join(&mut self, channel: &str) -> Result<()> {
        if !self.joined.contains_key(channel) && !is_pattern(channel) {
            let topics = self.topics().await?.topics;
            let all = || topics.iter().map(|entry| entry.topic.as_str());
            if !all().any(|topic| topic == channel) {
                let failure = Failure::failed(format!("there is no channel {channel}"));
                let make = format!("/create {channel} makes it");
                let near = nearest(channel, all().filter(|topic| is_channel(topic)));
                return Err(match near {
                    Some(near) => failure.hint(format!("did you mean {near}? {make}")),
                    None => failure.hint(make),
                });
            }
        }
        self.enter(channel).await
    }

    async fn enter(&mut self, channel: &str) -> Result<()> {
        if !self.joined.contains_key(channel) {
            self.listen(channel, 0).await?;
        }
        self.current = Some(channel.to_owned());
        self.say(&format!("you are in {channel}"));
        self.refresh_words().await;
        Ok(())
    }

    async fn leave(&mut self, channel: Option<String>) -> Result<()> {
        let channel = channel.or_else(|| self.current.clone());
        let is_direct = |channel: &String| *channel == direct_topic(&self.name);
        let known = channel
            .as_ref()
            .filter(|channel| self.joined.contains_key(*channel) && !is_direct(channel));
        let Some(channel) = known.cloned() else {
            let what = channel.map_or_else(|| "no channel".to_owned(), |c| format!("not in {c}"));
            let all: Vec<&str> = self.channels().collect();
            let hint = format!("you are in {}", all.join(", "));
            return Err(Failure::failed(format!("you are {what}")).hint(hint));
        };
        self.stop(&channel).await;
        self.joined.remove(&channel);
        self.messages
            .end_queue(&channel, &self.queue_name())
            .await?;
        if self.current.as_ref() == Some(&channel) {
            let next = self.channels().next().map(str::to_owned);
            self.current = next;
        }
        self.say(&format!("you left {channel}"));
        Ok(())
    }

    async fn link(&mut self, change: Change) {
        match (change, self.is_lost) {
            (Change::Disconnected, false) => {
                self.is_lost = true;
                self.say("connection lost; trying again");
            }
            (Change::Connected, true) => {
                self.is_lost = false;
                self.say("connected again");
                let before = self.name.clone();
                let renamed = async {
                    self.take_name(&before).await?;
                    if self.name != before {
                        self.move_from(&before, false).await?;
                    }
                    Ok::<(), Failure>(())
                };
                if let Err(failure) = renamed.await {
                    self.say(failure.message());
                }
            }
            _ => {}
        }
    }

    async fn presence(&mut self, topic: &str, payload: &[u8]) {
        let Ok(presence) = serde_json::from_slice::<Presence>(payload) else {
            return;
        };
        let name = &presence.name;
        if *name == self.name || name.starts_with("pinnace-") || presence.bench.is_some() {
            return;
        }
        let word = if topic.ends_with(".joined") {
            "is here"
        } else {
            "left"
        };
        self.say(&format!("{name} {word}"));
        self.refresh_words().await;
    }
}

fn is_pattern(channel: &str) -> bool {
    channel.split('.').any(|token| token == "*" || token == ">")
}

fn borrowed<'a>(headers: &'a [(&'static str, String); 2]) -> [(&'a str, &'a str); 2] {
    [0, 1].map(|n: usize| (headers[n].0, headers[n].1.as_str()))
}
