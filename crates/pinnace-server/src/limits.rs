//! Every limit of the doors, named with its unit. Relations are asserted at the end.

use std::time::Duration;

/// Largest message either door takes, headers and payload together, bytes.
pub const PAYLOAD_BYTES_MAX: usize = pinnace_nats::limits::PAYLOAD_BYTES_MAX;
/// Largest body of a system request (a join, a query), bytes.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Longest name of a subscriber in an HTTP path, bytes.
pub const SUBSCRIBER_BYTES_MAX: usize = 255;
/// Longest topic in an HTTP path, bytes.
pub const TOPIC_BYTES_MAX: usize = 1_024;
/// Most messages one fetch hands out.
pub const FETCH_MESSAGES_MAX: usize = 1_000;
/// Longest id of a fetch, bytes.
pub const FETCH_ID_BYTES_MAX: usize = 256;
/// How long a fetch that consumed can be repeated by its id.
pub const FETCH_WINDOW: Duration = Duration::from_secs(120);
/// Messages kept for fetches to be repeated, bytes; beyond it the oldest go first.
pub const FETCHES_BYTES_MAX: usize = 64 << 20;
/// Shortest lease.
pub const LEASE_MIN: Duration = Duration::from_millis(10);
/// Longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(12 * 3_600);
/// Longest time between two looks for leases that are over and messages that are too old.
pub const TICK: Duration = Duration::from_secs(1);
/// Longest wait of a fetch.
pub const WAIT_MAX: Duration = Duration::from_secs(600);
/// Request line and headers of an HTTP request must be here within this time.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a request for this long is closed.
pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of one request, head and body, up to which it can be a plain one, answered in the short way.
pub const HTTP_PLAIN_BYTES_MAX: usize = 64 << 10;
/// Headers of a plain request.
pub const HTTP_HEADERS_PLAIN_MAX: usize = 32;
/// Room for what is read of plain requests at a time, at least, bytes.
pub const HTTP_READ_BYTES: usize = 2 << 10;
/// A body must be here within this time.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Buffer for the head of one HTTP request, bytes.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 << 10;

/// A stream whose client is further behind than this is ended, bytes.
pub const STREAM_PENDING_BYTES_MAX: usize = 8 << 20;
/// A publisher pauses while a stream is further behind than this, bytes.
pub const STREAM_PENDING_BYTES_PAUSE: usize = 2 << 20;
/// Stored messages a stream reads and sends at a time.
pub const STREAM_PAGE_MESSAGES: usize = 64;
/// Buffers of a WebSocket's codec, bytes each.
pub const SOCKET_BUFFER_BYTES: usize = 8 << 10;
/// Silence of a stream before a sign of life, unless its client asks for another.
pub const STREAM_HEARTBEAT: Duration = Duration::from_secs(15);
/// Shortest time between signs of life.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
/// Longest time between signs of life.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(600);
/// A stream that was ended because its client does not read is cut after this.
pub const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// An HTTP connection whose peer acknowledges nothing for this long is gone.
pub const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// Frames of a backup that wait for its client.
pub const BACKUP_FRAMES_AHEAD: usize = 4;
/// Pieces of an archive that wait for its client.
pub const ARCHIVE_PIECES_AHEAD: usize = 4;
/// Such a piece, bytes.
pub const ARCHIVE_PIECE_BYTES: usize = 256 << 10;
/// A check or backup works this long at a time.
pub const UPKEEP_STRETCH: Duration = Duration::from_millis(2);
/// Then it rests this long.
pub const UPKEEP_REST: Duration = Duration::from_millis(8);

/// Paths that requests are counted by.
pub const METRIC_PATHS_MAX: usize = 48;
/// Queues that metrics tell by name: the fullest.
pub const METRIC_QUEUES_MAX: usize = 50;
/// Longest label of a metric, characters.
pub const METRIC_LABEL_CHARS_MAX: usize = 128;

/// Messages that may wait for the message log, bytes; more are dropped and counted.
pub const MESSAGE_LOG_PENDING_BYTES_MAX: usize = 16 << 20;
/// Lines the message log writes at a time, bytes, and one line more.
pub const MESSAGE_LOG_BATCH_BYTES: usize = 256 << 10;
/// What the message log shows of a payload when only its head is wanted, bytes.
pub const PAYLOAD_HEAD_BYTES: usize = 256;

/// Outcomes of one batch of the log that are told to a lane's tasks from the log's thread; more of them are
/// told on the lane.
pub const LETTERS_DIRECT_MAX: usize = 4;
/// Send buffer of a NATS connection from this host, bytes. There is no distance to be filled with bytes
/// under way, and what does not stay in the CPU's cache costs twice as much (`peers/README.md`). Connections from
/// elsewhere have what the system finds right.
pub const LOOPBACK_SEND_BYTES: usize = 256 << 10;
/// Bytes read from a NATS connection at a time.
pub const READ_BYTES: usize = 64 << 10;
/// A NATS client further behind than this is disconnected, bytes.
pub const PENDING_BYTES_MAX: usize = 64 << 20;
/// The least that limit can be set to, bytes.
pub const PENDING_BYTES_MIN: usize = 2 * BATCH_BYTES_MAX;
/// A receiver's buffer that is empty is kept up to this size until nothing has happened for a while,
/// bytes: what one read of messages becomes, with room for longer heads.
pub const OUTBOX_BYTES_KEPT: usize = 256 << 10;
/// A smaller one is not worth keeping, bytes.
pub const OUTBOX_BYTES_SMALL: usize = 4 << 10;
/// A publisher pauses while a receiver is further behind than this, bytes.
pub const PENDING_BYTES_PAUSE: usize = 2 << 20;
/// A receiver whose socket took nothing for this long is stuck; publishers do not pause for it.
pub const STUCK_AFTER: Duration = Duration::from_millis(200);
/// Bytes of messages for which a batch is flushed before its operations are all carried out, so that
/// many receivers of one publisher do not fill memory.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Longest such pause; after it the publisher goes on.
pub const PAUSE_MAX: Duration = Duration::from_millis(10);
/// What a subscriber that wants only the newest has on its way before messages wait, bytes; for others
/// it is what makes publishers pause.
pub const NEWEST_BYTES_AHEAD: usize = 64 << 10;
/// What usually may wait before a queue takes over, bytes: a cut takes what is not in it.
pub const SPILL_PENDING_BYTES: usize = 4 << 20;
/// What may wait beyond the limit while a queue to spill to comes to be, bytes.
pub const SPILL_SLACK_BYTES: usize = 64 << 20;
/// Queues one subscription spilled to whose messages it still knows.
pub const SPILLS_REMEMBERED: usize = 8;
/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_MAX: usize = 100_000;
/// Time between pings to a silent NATS client.
pub const PING_INTERVAL: Duration = Duration::from_secs(120);
/// Unanswered pings after which a connection is stale.
pub const PINGS_UNANSWERED_MAX: u32 = 2;
/// A connection being closed has this long to take its last words.
pub const LINGER: Duration = Duration::from_millis(500);
/// A NATS client that has to say who it is has this long to do so.
pub const AUTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest message the NATS door can be set to take, bytes; the log holds no larger record.
pub const PAYLOAD_BYTES_CEILING: usize = 8 << 20;
/// Topics whose permission one connection remembers; beyond it the memory starts afresh.
pub const PERMITTED_TOPICS_MAX: usize = 1_024;
/// Connections of both doors together.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Requests on `$PN.` of one connection at a time, those that wait for messages among them.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1_024;
/// Topics that are listed although nobody is subscribed.
pub const CHANNELS_MAX: usize = 10_000;
/// Past connections the roster remembers.
pub const ROSTER_HISTORY_MAX: usize = 10_000;

/// Events the collector stores in one transaction.
pub const COLLECT_EVENTS_MAX: usize = 512;
/// Missed heartbeats after which a client is lost.
pub const HEARTBEATS_MISSED_MAX: u32 = 3;
/// Open doors wait this long for their connections to end when the server stops.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Between telling NATS clients to go and closing their connections.
pub const LAME_DUCK_GRACE: Duration = Duration::from_secs(1);
/// The connections that are left are closed in turn over this time, so that those who come back
/// elsewhere do not all come at once.
pub const LAME_DUCK_SPREAD: Duration = Duration::from_secs(4);

const _: () = assert!(PENDING_BYTES_PAUSE < PENDING_BYTES_MIN);
const _: () = assert!(PENDING_BYTES_MIN < PENDING_BYTES_MAX);
const _: () = assert!(NEWEST_BYTES_AHEAD < PENDING_BYTES_PAUSE);
const _: () = assert!(PAYLOAD_BYTES_MAX < PENDING_BYTES_PAUSE);
const _: () = assert!(STREAM_PENDING_BYTES_PAUSE < STREAM_PENDING_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_MAX * 2 < STREAM_PENDING_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_MAX * 2 < MESSAGE_LOG_PENDING_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_CEILING < PENDING_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_MAX <= PAYLOAD_BYTES_CEILING);

/// A mirror's connection on which nothing comes for so long is given up: clients say something every five seconds.
pub(crate) const MIRROR_READ_SILENCE_MAX: Duration = Duration::from_secs(20);
/// A mirror's connection whose client takes nothing for so long is given up.
pub(crate) const MIRROR_WRITE_SILENCE_MAX: Duration = Duration::from_secs(60);
