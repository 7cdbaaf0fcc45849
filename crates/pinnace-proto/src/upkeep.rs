//! The documents of those who look after stored topics: checks and backups.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /-/topics/check` and `pinnace topics check`: whether what is stored still is what was
/// acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopicsCheck {
    /// Document version, 1.
    pub v: u32,
    /// Nothing is wrong.
    pub clean: bool,
    /// Segments of the log.
    pub segments: u64,
    /// Whole records.
    pub records: u64,
    /// Bytes of these records.
    pub bytes: u64,
    /// Records among them that hold a message; one that was moved within the log counts again.
    pub messages: u64,
    /// Queues that exist.
    pub queues: u64,
    /// Number of the last record.
    pub last_record: u64,
    /// The unfinished end that a crash left. It is no damage: nothing of it was acknowledged.
    pub torn: Option<TornEnd>,
    /// What is wrong, in the order of the log; at most a thousand are told.
    pub problems: Vec<StoredProblem>,
    /// How many there are.
    pub problems_count: u64,
}

/// The unfinished end of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TornEnd {
    /// Name of the segment's file.
    pub segment: String,
    /// Where the log will end once it is opened, bytes.
    pub offset: u64,
    /// Bytes after it.
    pub bytes: u64,
    /// Whole records among them.
    pub records: u64,
}

/// A place in the log where something is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoredProblem {
    /// `records` (they cannot be read), `header` (a spare copy does not hold), `unreadable` (a whole
    /// record that this program does not understand) or `undefined-queue` (a message is for a queue
    /// that nothing defines).
    pub kind: String,
    /// Name of the segment's file.
    pub segment: String,
    /// First byte.
    pub offset: u64,
    /// Length; 0 when the bytes are missing altogether.
    pub bytes: u64,
    /// First record concerned, if any is.
    pub first_record: Option<u64>,
    /// Last record concerned.
    pub last_record: Option<u64>,
    /// What is wrong and what it costs, in words.
    pub detail: String,
    /// Messages that are lost although they wait; none when nobody knows.
    pub lost_messages: Option<u64>,
    /// Those messages, at most a hundred of them.
    pub lost: Vec<LostMessage>,
    /// Number of the first message that was published there; it may have been taken since.
    pub first_seq: Option<u64>,
    /// Number of the last.
    pub last_seq: Option<u64>,
}

/// A message that waits and cannot be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LostMessage {
    /// Its number.
    pub seq: u64,
    /// Where it was published.
    pub topic: String,
    /// Who was to have it.
    pub queues: Vec<LostFor>,
}

/// A queue that a lost message was for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LostFor {
    /// The topic or pattern it is subscribed to.
    pub topic: String,
    /// The subscriber's name.
    pub name: String,
}

/// `pinnace topics backup`, `pinnace topics restore` and `pinnace topics check --file`: what a backup
/// holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backup {
    /// Document version, 1.
    pub v: u32,
    /// The file.
    pub file: String,
    /// The moment whose state it holds, microseconds since 1970.
    pub created_us: u64,
    /// Segments of the log in it.
    pub segments: u64,
    /// Size of the file, bytes.
    pub bytes: u64,
}
