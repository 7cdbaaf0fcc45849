//! What a chat knows, and what each event does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;
use std::time::Duration;

use pinnace_client::messages::{Change, FROM_HEADER, INSTANCE_HEADER, Messages, direct_topic};
use pinnace_client::queue::{Queue, Queued};
use pinnace_client::{Api, MessagesError};
use pinnace_proto::api::{Clients, Topics};
use pinnace_proto::event::Presence;
use pinnace_proto::units::show_duration;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::command::{self, Command};
use super::input::{Screen, Words};
use super::{Event, blocking};
use crate::commands::{send, since_text};
use crate::failure::{Failure, Result, nearest};
use crate::output::Output;
use crate::payload::{self, clean};

/// Where everybody is who joined nothing yet.
const FIRST_CHANNEL: &str = "lobby";
/// Shown messages remembered for `/history`, of each channel.
const HISTORY_MAX: usize = 200;
/// The server answers within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// A message older than this is shown with its time.
const AGE_SHOWN_US: u64 = 5_000_000;

pub(super) struct Session {
    api: Api,
    messages: Messages,
    events: mpsc::UnboundedSender<Event>,
    screen: Screen,
    words: Words,
    output: Output,
    /// Which program of its name this is.
    instance: String,
    name: String,
    /// The name was given because the wanted one was taken; its queues go with it.
    is_makeshift: bool,
    current: Option<String>,
    joined: BTreeMap<String, Channel>,
    is_lost: bool,
}

/// A channel that is listened to.
struct Channel {
    reader: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
    /// The number of the last message shown.
    last_seq: u64,
    history: VecDeque<String>,
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
            None => self.create(FIRST_CHANNEL).await?,
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

    fn say(&mut self, text: &str) {
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

    fn queue_name(&self) -> String {
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

    /// Asks for a name of its own; says so when it is another than the wanted.
    async fn take_name(&mut self, wanted: &str) -> Result<()> {
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

    async fn rename(&mut self, wanted: &str) -> Result<()> {
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
    async fn move_from(&mut self, before: &str, gives_up: bool) -> Result<()> {
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

    async fn queue_for(&self, channel: &str) -> Result<Queue> {
        let name = self.queue_name();
        Ok(self.messages.queue(channel, &name, &limits()).await?)
    }

    async fn listen(&mut self, channel: &str, skip_through: u64) -> Result<()> {
        let queue = self.queue_for(channel).await?;
        self.start(channel, queue, skip_through);
        Ok(())
    }

    fn start(&mut self, channel: &str, mut queue: Queue, skip_through: u64) {
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
    async fn stop(&mut self, channel: &str) {
        if let Some(entry) = self.joined.get_mut(channel) {
            drop(entry.stop.take());
            if self.is_lost {
                entry.reader.abort();
            }
            // One that ended badly has nothing to say either.
            let _ = (&mut entry.reader).await;
        }
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

    fn remember(&mut self, channel: &str, line: String) {
        if let Some(entry) = self.joined.get_mut(channel) {
            if entry.history.len() == HISTORY_MAX {
                entry.history.pop_front();
            }
            entry.history.push_back(line);
        }
    }

    fn show(&mut self, channel: &str, message: &Queued) {
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

    async fn topics(&self) -> Result<Topics> {
        let answer = self.messages.ask("topics", &json!({}), PATIENCE).await?;
        serde_json::from_value(answer).map_err(Failure::failed)
    }

    async fn clients(&self) -> Result<Clients> {
        let answer = self.messages.ask("clients", &json!({}), PATIENCE).await?;
        serde_json::from_value(answer).map_err(Failure::failed)
    }

    async fn list_channels(&mut self) -> Result<()> {
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

    async fn list_clients(&mut self) -> Result<()> {
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

    fn list_history(&mut self, channel: Option<String>) -> Result<()> {
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

    /// What can be completed from now on; left as it is while the server does not say.
    async fn refresh_words(&self) {
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

/// What a queue of somebody who is away may hold: it must not stand in the way of those who talk.
fn limits() -> Value {
    json!({ "max_messages": 10_000, "max_age": "720h", "overflow": "drop-oldest" })
}

/// A topic for people: neither the server's own nor anybody's inbox.
fn is_channel(topic: &str) -> bool {
    !topic.starts_with(['$', '_', '-']) && !topic.starts_with("pinnace.")
}

fn is_pattern(channel: &str) -> bool {
    channel.split('.').any(|token| token == "*" || token == ">")
}

fn borrowed<'a>(headers: &'a [(&'static str, String); 2]) -> [(&'a str, &'a str); 2] {
    [0, 1].map(|n: usize| (headers[n].0, headers[n].1.as_str()))
}

fn now_us() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_micros() as u64)
}

/// Hands the messages of a channel to the session, one by one, until it is told to stop.
async fn read(
    mut queue: Queue,
    channel: String,
    events: mpsc::UnboundedSender<Event>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        let next = tokio::select! {
            next = queue.next() => next,
            _ = &mut stopped => break,
        };
        let message = match next {
            Ok(message) => message,
            Err(error) => return lost(&events, channel, error),
        };
        let (shown, was_shown) = oneshot::channel();
        let event = Event::Message {
            channel: channel.clone(),
            message: message.clone(),
            shown,
        };
        let is_shown = events.send(event).is_ok()
            && tokio::select! {
                biased;
                shown = was_shown => shown.is_ok(),
                _ = &mut stopped => false,
            };
        if !is_shown {
            queue.put_back(message);
            break;
        }
    }
    queue.finish().await;
}

fn lost(events: &mpsc::UnboundedSender<Event>, channel: String, error: MessagesError) {
    // After the end nobody wants to know.
    let _ = events.send(Event::Lost { channel, error });
}
