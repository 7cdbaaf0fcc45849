//! Every limit of the log, with its unit.
//!
//! Invariant: the relations between them are asserted here at compile time, and those that depend
//! on options are checked by `Options::check`.

/// Size of a segment unless an option says otherwise.
pub const SEGMENT_BYTES_DEFAULT: u32 = 64 << 20;

/// Largest segment: offsets are 32 bits, and recovery reads a whole segment into memory.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// Smallest segment: the header block and a little room.
pub const SEGMENT_BYTES_MIN: u32 = 2 * SEGMENT_HEADER_BYTES;

/// Largest payload unless an option says otherwise.
pub const RECORD_BYTES_DEFAULT: u32 = 16 << 20;

/// Bytes that may wait for the committer unless an option says otherwise. As much again can be in
/// the committer's hands.
pub const BUFFER_BYTES_DEFAULT: usize = 64 << 20;

/// Bytes a record costs on top of its payload.
pub const RECORD_OVERHEAD_BYTES: u32 = 24;

/// Bytes before the first record of a segment: both copies of the header, page aligned.
pub(crate) const SEGMENT_HEADER_BYTES: u32 = 4096;

/// Largest part at the end of a segment that is kept for urgent records.
pub(crate) const RESERVE_BYTES_MAX: u32 = 1 << 20;

/// The reserve is at most this fraction of the segment.
pub(crate) const RESERVE_DIVISOR: u32 = 16;

/// Sealed segments whose files are kept open for reading.
pub const OPEN_SEGMENTS_MAX: usize = 64;

/// A buffer that once grew beyond this is given back to the allocator after its batch.
pub(crate) const BUFFER_KEEP_BYTES: usize = 1 << 20;

/// Zeros written at a time ahead of small batches.
pub(crate) const ZEROS_AHEAD_BYTES: u32 = 256 << 10;

/// Batches of at least this size are not worth zeros ahead of them.
pub(crate) const ZEROS_FOR_BYTES_MAX: usize = 64 << 10;

/// Bytes of a record fetched by the first read; longer payloads take a second one.
pub(crate) const READ_AHEAD_BYTES: usize = 1024;

/// Bytes a check reads at a time, unless a record is larger.
pub(crate) const CHECK_WINDOW_BYTES: usize = 256 << 10;

/// Where a disk does not give a segment's bytes, the check tries pieces of this size.
pub(crate) const CHECK_BLOCK_BYTES: usize = 4096;

const _: () = assert!(SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_DEFAULT < SEGMENT_BYTES_DEFAULT / 2);
const _: () = assert!(SEGMENT_BYTES_MIN > SEGMENT_HEADER_BYTES + RECORD_OVERHEAD_BYTES);
const _: () = assert!(READ_AHEAD_BYTES > RECORD_OVERHEAD_BYTES as usize);
