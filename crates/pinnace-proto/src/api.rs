//! The JSON documents of the HTTP door's system paths.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::RunHead;

/// `GET /-/info`: who answers, and where its doors are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Info {
    /// Document version, 1.
    pub v: u32,
    /// Always `pinnace`.
    pub server: String,
    /// Version of the program.
    pub version: String,
    /// This server process: random, new at each start.
    pub server_id: String,
    /// Address and port of the HTTP door as bound.
    pub http: String,
    /// Address and port of the NATS door as bound.
    pub nats: String,
    /// Process id.
    pub pid: u32,
    /// When it started, microseconds since 1970.
    pub started_us: u64,
    /// Data folder.
    pub data: String,
    /// Largest message accepted, bytes.
    pub max_payload_bytes: u64,
}

/// `GET /-/health`: is it well, and if not why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Document version, 1.
    pub v: u32,
    /// `ok`, `degraded` (damage was found, or storage is full) or `failed` (a sync failed).
    pub status: String,
    /// One sentence each: what is wrong.
    pub problems: Vec<String>,
}

/// One line of `GET /-/clients`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClientEntry {
    /// Connection number.
    pub connection: u64,
    /// Name it gave, or its address.
    pub name: String,
    /// `nats`, `http` or `bench`.
    pub kind: String,
    /// Peer address and port.
    pub address: String,
    /// When it connected, microseconds since 1970.
    pub since_us: u64,
    /// Connected for this long, microseconds.
    pub duration_us: u64,
    /// Why it left; `None` while it is connected.
    pub reason: Option<String>,
}

/// `GET /-/clients`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Clients {
    /// Document version, 1.
    pub v: u32,
    /// Connected now, or with `?history` also those that left.
    pub clients: Vec<ClientEntry>,
}

/// `GET /`: where everything is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Links {
    /// Document version, 1.
    pub v: u32,
    /// Always `pinnace`.
    pub server: String,
    /// Paths by what they are.
    pub links: std::collections::BTreeMap<String, String>,
    /// Something to begin with.
    #[serde(rename = "try")]
    pub try_this: String,
}

/// A message where several are answered as lines, or streamed as objects. It has `text`, or `base64`
/// when its payload is no UTF-8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageLine {
    /// Its number; live messages that no queue keeps have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Where it was published.
    pub topic: String,
    /// When, microseconds since 1970; not told of live messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_us: Option<u64>,
    /// How many times it was lent, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<u32>,
    /// Its headers, names in lower case.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub headers: std::collections::BTreeMap<String, String>,
    /// The payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The payload, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// One topic, as `GET /-/topics` lists it and `GET /<topic>` answers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopicEntry {
    /// The topic, or the pattern a queue or subscription was made with.
    pub topic: String,
    /// Live subscriptions with exactly this topic or pattern.
    pub live: u64,
    /// Queues with exactly this topic or pattern.
    pub subscribers: Vec<QueueEntry>,
    /// Of the live subscriptions, those that keep to a choice for slow readers and are behind or missed
    /// something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<BehindEntry>,
}

/// A live subscription that is behind, or missed something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BehindEntry {
    /// Connection number of a NATS client, address of an HTTP one.
    pub client: String,
    /// `disconnect`, `drop-oldest`, `newest-only` or `spill`.
    pub policy: String,
    /// Bytes that wait for it in memory, besides what is on its way.
    pub waiting_bytes: u64,
    /// Messages it did not get since it was subscribed.
    pub dropped: u64,
    /// Whether a queue takes its messages now.
    pub spilling: bool,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueueEntry {
    /// The subscriber's name.
    pub name: String,
    /// Messages not yet given away, those on a lease among them.
    pub waiting: u64,
    /// Of these, messages given out on a lease.
    #[serde(default)]
    pub leased: u64,
    /// Their bytes: topic, headers, payload.
    #[serde(default)]
    pub bytes: u64,
    /// Sequence number of the oldest of these messages.
    pub oldest_seq: Option<u64>,
    /// When the oldest was published, microseconds since 1970.
    pub oldest_us: Option<u64>,
    /// Messages dropped for a limit of the queue, since the server started.
    #[serde(default)]
    pub dropped: u64,
    /// Messages that could not be read when they were to be given out, since the server started.
    #[serde(default)]
    pub damaged: u64,
    /// What was asked for when it was subscribed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<QueueLimits>,
}

/// What a queue may hold, and what becomes of what it cannot deliver; what is absent has no limit of
/// its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueueLimits {
    /// Messages that may wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_messages: Option<u64>,
    /// Bytes (topic, headers, payload) that may wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Microseconds after which a message is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_us: Option<u64>,
    /// What happens to a publish that does not fit: `refuse`, `drop-oldest`, or `expire` (the queue
    /// goes).
    pub overflow: String,
    /// Deliveries of one message after which it is a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_deliveries: Option<u32>,
    /// The topic dead letters are published to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
}

/// `GET /<topic>?unread=<seq>`: who has not taken a message yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Unread {
    /// The message.
    pub seq: u64,
    /// Whether it is stored still; if not, everybody has taken it, or it never was.
    pub stored: bool,
    /// Queues that hold it.
    pub unread: Vec<UnreadBy>,
}

/// A queue that holds a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnreadBy {
    /// The topic or pattern it is subscribed to.
    pub topic: String,
    /// The subscriber's name.
    pub name: String,
    /// Messages it has not taken, this one among them.
    pub waiting: u64,
}

/// `GET /-/topics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Topics {
    /// Document version, 1.
    pub v: u32,
    /// By topic.
    pub topics: Vec<TopicEntry>,
}

/// `GET /-/runs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Runs {
    /// Document version, 1.
    pub v: u32,
    /// The newest first.
    pub runs: Vec<RunHead>,
}

/// `POST /-/runs/<id>/clients`: a bench client makes itself known, and again after each reconnect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JoinRequest {
    /// Document version, 1.
    pub v: u32,
    /// Its name in the run.
    pub client: String,
    /// Which process of that name: random, 16 hex digits.
    pub instance: String,
    /// Number of its NATS connection (`client_id` of INFO), so that the server knows when it goes.
    pub connection: u64,
    /// Time between its heartbeats, microseconds: three missed and it counts as lost.
    pub heartbeat_us: u64,
}

/// Answer to a join.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Joined {
    /// Document version, 1.
    pub v: u32,
    /// The run joined.
    pub run: String,
    /// True when this client is the first of the run.
    pub opened: bool,
}

/// `POST /-/query`: one read-only SQL statement over the run database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Query {
    /// The statement.
    pub sql: String,
}

/// Answer to a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rows {
    /// Document version, 1.
    pub v: u32,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows; numbers, texts and nulls.
    pub rows: Vec<Vec<serde_json::Value>>,
    /// True when there were more rows than the server hands out.
    pub truncated: bool,
}

/// An error of the HTTP door (`application/problem+json`, RFC 9457).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// A stable address of the kind: `urn:pinnace:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A few words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong, where, and what to do.
    pub detail: String,
    /// Stable code for programs, such as `no-such-subscription`.
    pub code: String,
}
