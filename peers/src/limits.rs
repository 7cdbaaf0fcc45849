//! Every limit of the measuring programs, named with its unit.
//!
//! Invariant: nothing here waits, loops or grows beyond one of these.

use std::time::Duration;

/// A single run of a writer; after it the writer is killed and the measurement fails.
pub const WRITER_RUN_MAX: Duration = Duration::from_secs(180);
/// Most files one run of a peer writes.
pub const FILES_MAX: u64 = 3_000;
/// Memory touched beyond the expected footprint before a run, bytes.
pub const PREWARM_MARGIN_BYTES: u64 = 256 << 20;
/// Most memory touched before a run, bytes.
pub const PREWARM_BYTES_MAX: u64 = 4 << 30;

/// A server must say that it is ready within this time.
pub const SERVER_READY_MAX: Duration = Duration::from_secs(10);
/// A server has this long to end after SIGTERM.
pub const SERVER_END_MAX: Duration = Duration::from_secs(15);
/// Between two looks at a condition that has no event.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Connecting, or one HTTP exchange.
pub const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// Waiting for the acknowledgement of one event.
pub const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(10);
/// Tries to have one event acknowledged.
pub const ACKNOWLEDGE_TRIES: u32 = 6;
/// After the last acknowledgement, all events must be visible within this time.
pub const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Largest HTTP answer read, bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Most simulated clients: each has a connection, and the process has so many descriptors.
pub const CLIENTS_MAX: u32 = 4_000;
