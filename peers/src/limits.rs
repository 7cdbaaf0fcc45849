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
/// Pinnace must be ready within this time, also with a million stored messages.
pub const STARTED_READY_MAX: Duration = Duration::from_secs(120);
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

/// Bytes a publisher of messages hands to the kernel at a time.
pub const BATCH_BYTES: usize = 64 << 10;
/// Bytes subscribers read at a time; it holds the largest frame many times over.
pub const RECEIVE_BYTES: usize = 256 << 10;
/// Largest frame a connection keeps while waiting for its end, bytes.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// A publisher at its window looks again after this, nanoseconds.
pub const WINDOW_LOOK_NS: u64 = 30_000;
/// Between two looks of the receiver at whether all is delivered, when nothing arrives.
pub const RECEIVE_LOOK: Duration = Duration::from_millis(5);
/// Deliveries that do not come for so long are lost.
pub const DELIVERY_STALL_MAX: Duration = Duration::from_secs(10);
/// A publisher that the server takes nothing from for so long gives up. What lies in socket buffers may
/// be sixteen million deliveries to a thousand subscribers; whether those still come is the receiver's
/// question.
pub const PUBLISH_STALL_MAX: Duration = Duration::from_secs(90);
/// Flooding before the measured phase.
pub const WARM_UP: Duration = Duration::from_millis(300);
/// Publishing at a rate before the measured phase.
pub const WARM_UP_PACED: Duration = Duration::from_millis(500);
/// Connections that subscribe queues at once before start-up is measured.
pub const FILL_CONNECTIONS: usize = 64;
/// Publishes under way while a server is filled.
pub const FILL_WINDOW: usize = 256;
/// Between opening idle connections and looking at the server's memory.
pub const IDLE_SETTLE: Duration = Duration::from_secs(2);
/// Receive buffer of a subscriber that never reads, bytes.
pub const STUCK_RECEIVE_BYTES: usize = 4 << 10;

/// Bytes the proxy reads at a time when it only counts.
pub const PROXY_READ_BYTES: usize = 256 << 10;
/// Bytes the proxy reads at a time when it has a rate: what the line carries as one piece.
pub const PROXY_PIECE_BYTES: usize = 16 << 10;
/// Bytes on their way through the proxy, for one direction of one connection; then it reads no more.
pub const PROXY_QUEUE_BYTES: usize = 1 << 20;
/// Receive buffer of the proxy's sockets when it has a rate, bytes: else the kernel's would be a queue of
/// many megabytes before the line.
pub const PROXY_RECEIVE_BYTES: usize = 256 << 10;
/// The longest delay the proxy keeps bytes for.
pub const PROXY_DELAY_MAX: Duration = Duration::from_secs(10);

/// One run of a mirror; after it the client is killed and the measurement fails.
pub const MIRROR_RUN_MAX: Duration = Duration::from_secs(3_600);
/// A tool that follows changes must have mirrored the whole tree within this time.
pub const MIRROR_SETTLE_MAX: Duration = Duration::from_secs(3_600);
/// One change must be visible in the mirror within this time.
pub const MIRROR_CHANGE_MAX: Duration = Duration::from_secs(180);
/// Children of a server that its client has left must be gone within this time.
pub const MIRROR_LEFT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at whether a mirror shows a change.
pub const MIRROR_LOOK: Duration = Duration::from_micros(200);
/// Between two comparisons of whole trees.
pub const MIRROR_COMPARE_LOOK: Duration = Duration::from_millis(500);
/// Between two looks at the memory of both sides.
pub const MEMORY_LOOK: Duration = Duration::from_millis(50);
/// Free room that a run leaves on the file system, bytes.
pub const MIRROR_ROOM_BYTES: u64 = 2 << 30;

const _: () = assert!(PROXY_PIECE_BYTES < PROXY_QUEUE_BYTES);
const _: () = assert!(DELIVERY_STALL_MAX.as_nanos() < PUBLISH_STALL_MAX.as_nanos());
const _: () = assert!(BATCH_BYTES < RECEIVE_BYTES);
const _: () = assert!(RECEIVE_LOOK.as_nanos() < DELIVERY_STALL_MAX.as_nanos());
