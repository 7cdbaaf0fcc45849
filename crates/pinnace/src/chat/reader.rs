//! The reader of one channel: a task between its queue and the session.

use pinnace_client::queue::Queue;
use tokio::sync::{mpsc, oneshot};

use super::Event;

/// Hands the messages of a channel to the session, one by one, until it is told to stop.
pub(super) async fn read(
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
            Err(error) => {
                // After the end nobody wants to know.
                let _ = events.send(Event::Lost { channel, error });
                return;
            }
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
