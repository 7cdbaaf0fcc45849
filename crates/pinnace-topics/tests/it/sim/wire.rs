//! What goes over the network, and how a message is recognised.

use std::sync::{Arc, Mutex};

use pinnace_topics::{Batch, LeaseId, Message, Sink};

use super::checker::{Happened, MessageId};

/// What a client asks for.
#[derive(Debug, Clone)]
pub(super) enum Request {
    /// A message, with an identity if it may be sent again.
    Publish {
        id: MessageId,
        on: &'static str,
        identified: bool,
    },
    Fetch {
        queue: usize,
        max: usize,
    },
    Lease {
        queue: usize,
        max: usize,
    },
    /// Some of a lease's messages.
    Acknowledge {
        queue: usize,
        lease: LeaseId,
        seqs: Vec<u64>,
    },
    GiveBack {
        queue: usize,
        lease: LeaseId,
    },
    Subscribe,
}

/// What it is told.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Published(MessageId),
    Fetched,
    Leased(LeaseId, Vec<u64>),
    Acknowledged,
    /// None waits, or the lease is over.
    Nothing,
    /// Given back, subscribed.
    Done,
}

pub(super) type ConnectionId = usize;

/// A live subscription that writes the history.
pub(super) struct Listener {
    pub(super) number: u32,
    pub(super) got: Arc<Mutex<Vec<Happened>>>,
    pub(super) large: bool,
}

impl Sink for Listener {
    fn deliver(&self, message: &Message<'_>, _: &mut Batch) -> bool {
        let id = identify(message.payload, self.large);
        self.got
            .lock()
            .unwrap()
            .push(Happened::Live(self.number, id));
        true
    }
}

/// The payload of a message, which is not to be taken for another's.
pub(super) fn payload(id: MessageId, large: bool) -> String {
    let text = format!("{}.{}.", id.publisher, id.number);
    let times = if large {
        150 + id.number as usize % 50
    } else {
        1
    };
    text.repeat(times)
}

/// The message whose payload this is, byte for byte.
pub(super) fn identify(bytes: &[u8], large: bool) -> MessageId {
    let text = str::from_utf8(bytes).unwrap();
    let mut numbers = text.split('.').map(|number| number.parse().unwrap());
    let (publisher, number) = (numbers.next().unwrap(), numbers.next().unwrap());
    let id = MessageId { publisher, number };
    assert_eq!(text, payload(id, large), "a wrong payload");
    id
}
