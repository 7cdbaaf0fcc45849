//! Messages whose deliveries are used up: published where their queue asked for, then acknowledged.
//!
//! Invariant: a dead letter is acknowledged only when its copy is durable; until then it comes again
//! from the broker. A crash in between makes two copies, never none.

use std::sync::Arc;

use pinnace_topics::{Batch, DeadLetter, Done, Message, Start};

use crate::harbour::Harbour;

const BLOCK_START: &[u8] = b"NATS/1.0\r\n";

/// Publishes dead letters; each is acknowledged once that is durable.
pub(crate) fn bury(harbour: &Arc<Harbour>, letters: Vec<DeadLetter>) {
    for letter in letters {
        let topic = String::from_utf8_lossy(&letter.topic).into_owned();
        let (seq, subscriber) = (letter.message.seq, letter.name.clone());
        tracing::warn!(seq, subscriber, topic, "deliveries used up: a dead letter");
        if let Err(error) = publish(harbour, letter) {
            tracing::error!(seq, topic, %error, "a dead letter could not be published; it is kept and tried again");
        }
    }
}

fn publish(harbour: &Arc<Harbour>, letter: DeadLetter) -> Result<(), Box<dyn std::error::Error>> {
    // It waits for whom it was meant; deleted or not, nobody's dead letters are dropped.
    let ignored: Done = Box::new(|_| ());
    let broker = &harbour.broker;
    broker.create_queue(&letter.topic, &letter.name, Start::New, ignored)?;
    let headers = headers(&letter);
    let message = Message {
        topic: &letter.topic,
        reply: None,
        headers: &headers,
        payload: &letter.message.payload,
    };
    let done: Done = {
        let broker = broker.clone();
        let DeadLetter {
            pattern,
            name,
            lease,
            ..
        } = letter.clone();
        Box::new(move |stored| {
            if stored.is_ok() {
                // If this is refused, the letter comes again.
                let _ = broker.acknowledge(&pattern, &name, lease, None, Box::new(|_| ()));
            }
        })
    };
    let mut batch = Batch::default();
    let published = broker
        .publisher()
        .publish(&message, None, &mut batch, Some(done));
    batch.flush();
    published?;
    Ok(())
}

/// The message's own headers, and why it is here.
fn headers(letter: &DeadLetter) -> Vec<u8> {
    let own = &letter.message.headers;
    let own = own.strip_prefix(BLOCK_START).unwrap_or(b"");
    let own = own.strip_suffix(b"\r\n").unwrap_or(own);
    let mut block = BLOCK_START.to_vec();
    // An identity is the message's, and this is another message.
    for line in own.split_inclusive(|byte| *byte == b'\n') {
        if !line.to_ascii_lowercase().starts_with(b"nats-msg-id:") {
            block.extend_from_slice(line);
        }
    }
    let topic = String::from_utf8_lossy(&letter.message.topic);
    let reason = format!(
        "Pinnace-Dead-Topic: {topic}\r\nPinnace-Dead-Subscriber: {}\r\nPinnace-Dead-Seq: {}\r\n\
         Pinnace-Dead-Deliveries: {}\r\n\r\n",
        letter.name, letter.message.seq, letter.deliveries
    );
    block.extend_from_slice(reason.as_bytes());
    block
}
