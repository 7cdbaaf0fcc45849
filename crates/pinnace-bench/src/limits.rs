//! Every limit of the engine, named with its unit. Nothing in this crate waits, allocates or queues
//! beyond one of these.
//!
//! Invariant: the relations the code relies on are asserted below at compile time.

/// Unit of data on storage: buffers are aligned to it and every such piece is stamped.
pub const SECTOR_BYTES: usize = 4096;
/// Bytes of a stamp at the head of every sector.
pub const STAMP_BYTES: usize = 32;
/// Room beyond one chunk in a worker's buffer, over which the window of the next write moves.
pub const SLACK_BYTES: usize = 256 << 10;
/// Largest chunk; one write of more than this is cut short by the kernel anyway (2 GiB less a page).
pub const MAX_CHUNK_BYTES: u64 = 1 << 30;
/// Most workers of one client.
pub const MAX_WORKERS: usize = 1024;

/// Finished files a worker keeps; with the one being written it needs room for one more.
pub const FINISHED_FILES_KEPT: usize = 2;
/// Files a worker may have on disk at once.
pub const FILES_AT_ONCE: u64 = FINISHED_FILES_KEPT as u64 + 1;
/// Rollovers a run promises.
pub const ROLLOVERS_PROMISED: f64 = 2.0;
/// Advice is this much on the safe side of the measured speed.
pub const ADVICE_MARGIN: f64 = 1.2;

/// Most bytes one worker writes to find its speed, unless a single chunk is larger.
pub const CALIBRATION_BYTES: u64 = 256 << 20;
/// Time a worker aims to spend on finding its speed.
pub const CALIBRATION_AIM_US: u64 = 750_000;
/// A calibration that is not done after this is given up.
pub const CALIBRATION_LIMIT_US: u64 = 30_000_000;

/// Messages from workers that may wait for the controller; beyond it a worker waits at its rollover.
pub const MAILBOX_MESSAGES: usize = 4096;
/// Longest wait for the answers to a heartbeat.
pub const HEARTBEAT_ANSWER_US: u64 = 1_000_000;
/// Longest wait for the figures of an interval.
pub const SAMPLE_ANSWER_US: u64 = 250_000;
/// Free space is looked at this often, or with each sample if that is more often.
pub const SPACE_CHECK_US: u64 = 100_000;
/// A worker that has not given its final word so long after the end is left behind.
pub const STUCK_GRACE_US: u64 = 10_000_000;
/// Removing the files of a run may take this long before it is left to a thread of its own.
pub const CLEANUP_LIMIT_US: u64 = 60_000_000;
/// A paced worker that fell behind may catch up at most this much.
pub const PACE_CATCH_UP_US: u64 = 100_000;

/// Shortest time between two events of the same kind.
pub const MIN_INTERVAL_US: u64 = 1_000;

const _: () = assert!(SLACK_BYTES.is_multiple_of(SECTOR_BYTES));
const _: () = assert!(STAMP_BYTES < SECTOR_BYTES / 100);
const _: () = assert!(CALIBRATION_AIM_US < CALIBRATION_LIMIT_US);
const _: () = assert!(SAMPLE_ANSWER_US <= HEARTBEAT_ANSWER_US);
const _: () = assert!(HEARTBEAT_ANSWER_US < STUCK_GRACE_US);
