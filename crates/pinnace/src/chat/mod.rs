//! The chat: channels are topics, and whoever chats has a queue of its own in each.
//!
//! Invariant: one task owns all there is to know and shows everything; readers of queues, the connection
//! and the keyboard send it events. A message is acknowledged once it was shown. A name's queues stay
//! when its owner goes, so that what is said meanwhile waits; those of a name that was only given
//! because the wanted one was taken go with it.

mod command;
mod input;
mod listing;
mod membership;
mod reader;
mod session;
mod showing;

use pinnace_client::messages::{Change, Messages};
use pinnace_client::queue::Queued;
use pinnace_client::{Api, MessagesError};
use tokio::sync::{mpsc, oneshot};

use crate::failure::{Failure, Result};
use crate::output::Output;
use input::{Lines, Screen};
use session::Session;

/// Everything that can happen to a chat.
enum Event {
    /// A line was typed.
    Line(String),
    /// There will be no more lines.
    End,
    /// A message came on a channel; `shown` is told when it is on the screen.
    Message {
        channel: String,
        message: Queued,
        shown: oneshot::Sender<()>,
    },
    /// A channel cannot be read any more.
    Lost {
        channel: String,
        error: MessagesError,
    },
    /// The connection broke or is there again.
    Link(Change),
    /// Somebody came or went.
    Presence { topic: String, payload: Vec<u8> },
}

/// Chats until `/quit`, the end of the lines, or a signal.
pub(crate) async fn run(
    api: Api,
    wanted: String,
    output: &Output,
    is_terminal: bool,
) -> Result<()> {
    let (events, mut happened) = mpsc::unbounded_channel();
    on_signal(&events)?;
    let address = {
        let api = api.clone();
        blocking(move || api.nats_address()).await??
    };
    let changed = {
        let events = events.clone();
        // After the end nobody wants to know.
        move |change| drop(events.send(Event::Link(change)))
    };
    let messages = Messages::connect(&address, "pinnace-chat", changed).await?;
    let words = input::Words::default();
    let (lines, screen): (Lines, Screen) = if is_terminal {
        input::terminal(words.clone())?
    } else {
        input::plain(output)
    };
    let prompts = read_lines(lines, &events)?;
    let mut session = Session::new(api, messages, events, screen, words, output.clone());
    session.begin(&wanted).await?;
    // The thread that reads lines ends with the lines.
    let _ = prompts.send(session.prompt());
    while let Some(event) = happened.recv().await {
        let is_line = matches!(event, Event::Line(_));
        if !session.handle(event).await {
            break;
        }
        if is_line {
            let _ = prompts.send(session.prompt());
        }
    }
    session.end().await;
    Ok(())
}

/// Reads lines in a thread of its own, each when it is asked to by a prompt.
fn read_lines(
    mut lines: Lines,
    events: &mpsc::UnboundedSender<Event>,
) -> Result<std::sync::mpsc::Sender<String>> {
    let (ask, asked) = std::sync::mpsc::channel::<String>();
    let events = events.clone();
    let read = move || {
        while let Ok(prompt) = asked.recv() {
            let event = lines(&prompt).map_or(Event::End, Event::Line);
            let is_last = matches!(event, Event::End);
            if events.send(event).is_err() || is_last {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("pn-lines".into());
    thread.spawn(read).map_err(Failure::failed)?;
    Ok(ask)
}

fn on_signal(events: &mpsc::UnboundedSender<Event>) -> Result<()> {
    let events = events.clone();
    crate::signals::on_stop(move || drop(events.send(Event::End))).map_err(Failure::failed)
}

/// Calls of the HTTP door wait for their answer.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let called = tokio::task::spawn_blocking(call).await;
    called.map_err(Failure::failed)
}
