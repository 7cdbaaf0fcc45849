//! How a stream's messages look, and the words with which one ends.

use super::envelope::Envelope;

/// Writes messages in the form that a stream's client reads.
pub(super) trait Form: Send + Sync + 'static {
    /// Begins a message; `id` is its number unless an earlier one was higher.
    fn begin(&self, out: &mut Vec<u8>, id: Option<u64>);
    /// The rest of a message.
    fn message(&self, out: &mut Vec<u8>, envelope: &Envelope<'_>);
    /// Says that messages behind `after` are stored no more.
    fn gap(&self, out: &mut Vec<u8>, after: u64);
    /// Says that so many messages were dropped before the next.
    fn dropped(&self, out: &mut Vec<u8>, count: u64);
    /// A sign of life.
    fn heartbeat(&self, out: &mut Vec<u8>);
    /// The words after which a stream that was closed ends.
    fn farewell(&self, out: &mut Vec<u8>, reason: Reason);
}

/// Why a stream ends although its client did not ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The server is going down.
    Stopping,
    /// The client does not read as fast as messages come.
    SlowConsumer,
    /// Another stream reads this queue now.
    Replaced,
    /// The queue was deleted.
    Unsubscribed,
    /// Storage failed.
    Storage,
}

impl Reason {
    /// Stable word for programs.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Stopping => "server-stopping",
            Self::SlowConsumer => "slow-consumer",
            Self::Replaced => "replaced",
            Self::Unsubscribed => "no-such-subscription",
            Self::Storage => "storage-failed",
        }
    }

    /// A sentence for people.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Stopping => "the server is going down; connect again later",
            Self::SlowConsumer => {
                "messages came faster than this stream was read; connect again and read faster, or \
                 use a queue"
            }
            Self::Replaced => "another stream reads this queue now",
            Self::Unsubscribed => "the subscription was deleted",
            Self::Storage => "storage has failed; see /-/health",
        }
    }
}
