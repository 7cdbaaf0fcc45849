//! What can go wrong, told so that a person can act on it.
//!
//! Invariant: callers decide by variant, never by text. Names and topics in messages are shown
//! with everything unprintable escaped.

use pinnace_log::AppendError;

/// Why a broker could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log could not be opened, or holds records this program does not know.
    #[error(transparent)]
    Log(#[from] pinnace_log::OpenError),
}

impl OpenError {
    /// Whether the log is damaged so that nothing in it can be read.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            OpenError::Log(pinnace_log::OpenError::HeaderLost { .. })
        )
    }
}

/// Why something could not be made durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space; heals when messages are taken or space is freed.
    #[error("storage is full: {0}; take or delete messages, or free space")]
    Full(String),
    /// The storage has failed; nothing can be stored until a restart.
    #[error("storage has failed: {0}; check the disk, then restart the server")]
    Failed(String),
    /// Too much waits for the disk just now; nothing is wrong.
    #[error("the disk is behind; try again")]
    Busy,
    /// The message is larger than a stored one may be.
    #[error("{bytes} bytes are too many to store; at most {max_bytes} are allowed")]
    TooLarge {
        /// Bytes of the message with its frame.
        bytes: usize,
        /// The limit.
        max_bytes: u32,
    },
    /// Messages could not be read; they are still there.
    #[error("the disk could not be read: {0}; nothing is lost, try again and check the disk")]
    Unreadable(String),
    /// The broker is being closed.
    #[error("the server is stopping")]
    Closed,
}

impl From<AppendError> for StoreError {
    fn from(error: AppendError) -> StoreError {
        match error {
            AppendError::Busy { .. } => StoreError::Busy,
            AppendError::TooLarge { bytes, max_bytes } => StoreError::TooLarge { bytes, max_bytes },
            AppendError::Full { reason } => StoreError::Full(reason),
            AppendError::Failed { reason } => StoreError::Failed(reason),
            AppendError::Closed => StoreError::Closed,
        }
    }
}

/// Why an operation on a queue was refused. Its callback was not called and never will be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such queue.
    #[error("no queue {name:?} on {pattern}; create it first")]
    NoSuchQueue {
        /// Its pattern, printable.
        pattern: String,
        /// Its name.
        name: String,
    },
    /// The lease is over, or never was.
    #[error(
        "there is no such lease: it has ended, and its messages may be with somebody else; fetch again"
    )]
    NoSuchLease,
    /// Not a topic to publish to.
    #[error(
        "{topic} is not a topic: tokens split by dots, none empty, no white space or wildcards"
    )]
    InvalidDeadLetterTopic {
        /// The text, printable.
        topic: String,
    },
    /// Not a pattern.
    #[error(
        "{pattern} is not a pattern: tokens split by dots, none empty, no white space, > only last"
    )]
    InvalidPattern {
        /// The text, printable.
        pattern: String,
    },
    /// Not a name for a queue.
    #[error(
        "a queue name has 1 to {max_bytes} bytes and no control characters; this one has {bytes} bytes"
    )]
    InvalidName {
        /// Bytes of the name.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// There are as many queues as allowed.
    #[error("there are {queues} queues, which is the limit; delete some or raise it")]
    TooManyQueues {
        /// The limit.
        queues: usize,
    },
    /// Too many wait for messages of this queue.
    #[error("{waiting} already wait for this queue, which is the limit")]
    TooManyWaiting {
        /// The limit.
        waiting: usize,
    },
    /// It could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a message was not published: nobody got it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Not a topic.
    #[error("{topic} is not a topic: tokens split by dots, none empty, no white space")]
    InvalidTopic {
        /// The text, printable.
        topic: String,
    },
    /// A matching queue holds as much as it may.
    #[error(
        "queue {name:?} on {pattern} is full: {messages} messages, {bytes} bytes wait; \
         take some, delete the queue, or raise its limit"
    )]
    QueueLimit {
        /// The queue's pattern, printable.
        pattern: String,
        /// The queue's name.
        name: String,
        /// Messages waiting.
        messages: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The broker holds as much as it may.
    #[error(
        "the server holds {messages} messages of {bytes} bytes, which is its limit; take some, or raise it"
    )]
    ServerLimit {
        /// Messages stored.
        messages: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Not an identity.
    #[error("a message id has 1 to {max_bytes} bytes; this one has {bytes}")]
    InvalidIdentity {
        /// Bytes of the id.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Bytes as text that is safe to show.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}
