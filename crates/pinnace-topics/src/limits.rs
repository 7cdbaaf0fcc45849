//! Every limit of topics and queues, with its unit.
//!
//! Invariant: lengths that a record stores in 16 bits cannot exceed 16 bits.

use std::time::Duration;

/// Longest topic or pattern, in bytes.
pub const TOPIC_BYTES_MAX: usize = 4096;

/// Most tokens in a topic or pattern; bounds the depth of the routing tree.
pub const TOPIC_TOKENS_MAX: usize = 128;

/// Longest queue name, in bytes.
pub const QUEUE_NAME_BYTES_MAX: usize = 256;

/// Queues of a broker unless an option says otherwise.
pub const QUEUES_DEFAULT: usize = 1_000_000;

/// Messages that may wait in one queue unless an option says otherwise.
pub const QUEUE_MESSAGES_DEFAULT: u64 = 1_000_000;

/// Bytes (topic, headers, payload) that may wait in one queue unless an option says otherwise.
pub const QUEUE_BYTES_DEFAULT: u64 = 16 << 30;

/// Topics whose matches one publisher remembers; beyond it the memory starts afresh.
pub(crate) const CACHE_TOPICS_MAX: usize = 4096;

/// Wakes that may wait on one queue.
pub(crate) const WAKES_MAX: usize = 65_536;

/// Bytes of messages one step of a reclaim copies; keeps commits flowing in between.
pub(crate) const RECLAIM_STEP_BYTES: u64 = 1 << 20;

/// Queue definitions one step of a reclaim copies.
pub(crate) const RECLAIM_STEP_QUEUES: usize = 8192;

/// Bytes that a copied message costs on top of its own, roughly.
pub(crate) const MESSAGE_OVERHEAD_BYTES: u64 = 24 + 24;

/// Bytes that a copied queue definition costs, roughly.
pub(crate) const DEFINITION_BYTES: u64 = 24 + 40;

/// Segments are reclaimed when at most this fraction of their bytes is still needed, so that
/// copying costs at most one byte for each byte given back.
pub(crate) const RECLAIM_GAIN: u64 = 2;

/// A reclaim in a full log may use this fraction of the reserve, so that takes and deletes never
/// lack it.
pub(crate) const RECLAIM_RESERVE_DIVISOR: u64 = 8;

/// Connections in a batch before doubles are removed for the first time.
pub(crate) const BATCH_SWEEP_MIN: usize = 64;

/// Stored messages that one page looks at, so that a reader of a rare topic holds nobody up.
pub(crate) const PAGE_SCAN_MAX: usize = 65_536;

/// Problems that a check tells one by one.
pub(crate) const PROBLEMS_MAX: usize = 1000;

/// Places of replayed messages in queues that are noted before they are taken, 16 bytes each.
pub(crate) const FILLING_MAX: usize = 1 << 21;

/// Lost messages that a check names for one place.
pub(crate) const LOST_MESSAGES_MAX: usize = 100;

const _: () = assert!(TOPIC_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(QUEUE_NAME_BYTES_MAX <= u16::MAX as usize);

/// Bytes of messages one take or peek returns, unless its first message alone is larger.
pub(crate) const TAKE_BYTES_MAX: u64 = 64 << 20;

/// Identities of messages that are remembered; beyond it the oldest are forgotten before their
/// window is over.
pub(crate) const IDENTITIES_MAX: usize = 1 << 20;

/// Microseconds for which an identity is remembered unless an option says otherwise.
pub const IDENTITY_WINDOW_US_DEFAULT: u64 = 120_000_000;

/// Bytes of an identity that a publisher may give a message.
pub const IDENTITY_BYTES_MAX: usize = 256;

/// Acknowledged leases that are remembered, so that an acknowledgement may be repeated.
pub(crate) const ENDED_LEASES_MAX: usize = 4096;

/// How long whoever gets a dead letter has to put it elsewhere.
pub(crate) const DEAD_LETTER_LEASE: Duration = Duration::from_secs(60);

/// Greatest number of a message; there are always some left.
pub(crate) const SEQ_MAX: u64 = u64::MAX >> 1;

/// Messages of one queue that one tick drops for their age.
pub(crate) const TICK_DROPS_MAX: usize = 100_000;
