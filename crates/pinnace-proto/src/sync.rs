//! The documents of the mirror: how a session begins, what either side asks, and what is told about a share.
//!
//! Invariant: documents are few and small; changes and file bytes travel beside them in a form of their own
//! (`docs/formats/sync.md`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is certain when the server says that changes are durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Nothing is synced unless somebody waits for it; the operating system writes when it likes.
    None,
    /// Many changes are synced together before they are said to be durable.
    #[default]
    Batch,
    /// Each file and directory is synced before it is said to be there.
    Strict,
}

/// First word of a client: what it mirrors, and what it knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// Document version, 1.
    pub v: u32,
    /// Name of the share.
    pub share: String,
    /// Who this is, for people: a client's name.
    pub name: String,
    /// Identifies the client's index: random, made with it, 32 hexadecimal digits. A session of the same
    /// index takes the place of an earlier one, whose connection may not have ended yet.
    pub replica: String,
    /// The history that the client knows, as [`Welcome::lineage`] named it; empty if it knows none.
    pub lineage: String,
    /// The last change of that history that it knows to be in the share.
    pub seq: u64,
    /// What it wants to be certain of.
    pub durability: Durability,
    /// Version of the way files are cut into chunks.
    pub chunking: u8,
    /// It only wants to look: no lease is taken and nothing can be changed.
    #[serde(default)]
    pub only_looks: bool,
    /// The server is to compare what it knows of the share with what is there first.
    #[serde(default)]
    pub recheck: bool,
}

/// First word on a further connection of a session, which bulk data takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attach {
    /// Document version, 1.
    pub v: u32,
    /// [`Welcome::token`].
    pub token: String,
}

/// The server takes the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Welcome {
    /// Document version, 1.
    pub v: u32,
    /// Identifies the share's history: random, made with the share's index and anew after a start of the machine, 32 hexadecimal digits.
    pub lineage: String,
    /// The last change that is in the share.
    pub seq: u64,
    /// The last change that is durable.
    pub durable: u64,
    /// For further connections of this session.
    pub token: String,
    /// Whether rows of the whole share follow, and not only those the client does not know.
    pub whole: bool,
    /// Whether the server may give files to other owners. If not it keeps owners in its index only.
    pub sets_owners: bool,
    /// Bytes that the client may have under way on its first connection without an answer.
    pub window_bytes: u64,
    /// Where the share lies, for clients on the same machine: none may mirror what holds it, or lies beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Where a directory lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// Identifies the machine since it was started; places of others cannot be compared.
    pub boot: String,
    /// File system and inode of the directory itself and of all above it, up to the top.
    pub above: Vec<(u64, u64)>,
}

/// The server does not take the session, or ends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// `held` (another client mirrors into the share), `replaced` (this client connected anew), `protocol`,
    /// `storage`, `stopping`, `removed` (the share was removed while it was mirrored into), `again` (what is in it could
    /// not be recorded, as when the disk is full; the next session compares it).
    pub code: String,
    /// What happened and what to do.
    pub detail: String,
}

/// A question of the server on behalf of somebody who asked it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ask {
    /// Number of the question.
    pub id: u64,
    /// What is asked.
    pub what: Question,
}

/// What can be asked of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Answer when everything that happened up to now is durable in the share.
    Wait,
    /// The same, and say what the digest of the source is then.
    Digest,
    /// The same, with the source's files read again.
    DeepDigest,
}

/// A client's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// Number of the question.
    pub id: u64,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Digest of the tree, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The change up to which this holds.
    #[serde(default)]
    pub seq: u64,
}

/// What a client is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It compares the source with its index, and sends what differs.
    #[default]
    Scanning,
    /// The share is equal, and changes are sent as they happen.
    Live,
    /// It was stopped for safety.
    Halted,
}

/// How a client is, as it tells the server now and then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClientState {
    /// What it is doing.
    pub phase: Phase,
    /// Entries in its index.
    pub entries: u64,
    /// Paths that are waiting to be compared.
    pub pending: u64,
    /// Directories that are watched.
    pub watched: u64,
    /// Directories that cannot be watched, because the system allows no more, and are looked at now and then.
    pub polled: u64,
    /// Entries that could not be read or are of a kind that is not mirrored.
    pub skipped: u64,
    /// Bytes it has sent in this session.
    pub sent_bytes: u64,
    /// What is wrong, or why it halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Who mirrors into a share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Writer {
    /// The client's name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Since when, microseconds since 1970.
    pub since_us: u64,
    /// How it is.
    pub state: ClientState,
}

/// A share: `GET /-/shares/{share}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShareInfo {
    /// Document version, 1.
    pub v: u32,
    /// Its name.
    pub share: String,
    /// The last change that is in it.
    pub seq: u64,
    /// The last change that is durable.
    pub durable: u64,
    /// Entries: files, directories and links.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Things in its trash.
    pub trash: u64,
    /// Who mirrors into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<Writer>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// All shares: `GET /-/shares`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shares {
    /// Document version, 1.
    pub v: u32,
    /// By name.
    pub shares: Vec<ShareInfo>,
}

/// Something that was deleted from a share and is still kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrashItem {
    /// Identifies it.
    pub id: u64,
    /// Where it was; bytes that are no UTF-8 are escaped.
    pub path: String,
    /// `file`, `directory` or `symlink`.
    pub kind: String,
    /// When it was deleted, microseconds since 1970.
    pub removed_us: u64,
    /// Entries in it, itself included.
    pub entries: u64,
}

/// What is in a share's trash: `GET /-/shares/{share}/trash`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trash {
    /// Document version, 1.
    pub v: u32,
    /// Seconds that a deletion is kept.
    pub kept_s: u64,
    /// The newest first.
    pub items: Vec<TrashItem>,
}

/// Whether a share is what its source is: `POST /-/shares/{share}/verify`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Document version, 1.
    pub v: u32,
    /// They are equal.
    pub equal: bool,
    /// The change up to which this holds.
    pub seq: u64,
    /// Digest of the source, 64 hexadecimal digits.
    pub source: String,
    /// Digest of the share.
    pub share: String,
    /// Entries that were compared.
    pub entries: u64,
    /// Whether the content of all files was read again.
    pub deep: bool,
    /// What was found to be different in the share and is sent again, at most 1000.
    pub repaired: Vec<String>,
}

/// Everything that had happened is durable: `POST /-/shares/{share}/wait`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Waited {
    /// Document version, 1.
    pub v: u32,
    /// The change up to which it is.
    pub seq: u64,
}

/// `pinnace.sync.<share>.changed`: changes are in the share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Document version, 1.
    pub v: u32,
    /// Name of the share.
    pub share: String,
    /// The last of the changes.
    pub seq: u64,
    /// How many there are.
    pub changes: u64,
    /// Their paths, at most 100; bytes that are no UTF-8 are escaped.
    pub paths: Vec<String>,
}

/// `pinnace.sync.<share>.synced`: the share is equal to its source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Synced {
    /// Document version, 1.
    pub v: u32,
    /// Name of the share.
    pub share: String,
    /// The last change.
    pub seq: u64,
    /// Entries.
    pub entries: u64,
}

/// `pinnace.sync.<share>.halted`: the client stopped for safety.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Halted {
    /// Document version, 1.
    pub v: u32,
    /// Name of the share.
    pub share: String,
    /// Why.
    pub reason: String,
}
