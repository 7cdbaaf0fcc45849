//! Times and sizes of this crate, named with their units.

use std::time::Duration;

/// An HTTP request that is not a long-poll is answered within this time.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is made within this time.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A durable publish is acknowledged within this time, or tried again.
pub(crate) const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A request to the server itself is answered within this time.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// One wait for messages of a queue; the server answers sooner when there are some.
pub(crate) const QUEUE_WAIT: Duration = Duration::from_secs(25);
/// Messages of a queue that were not acknowledged come again after this time.
pub(crate) const QUEUE_LEASE: Duration = Duration::from_secs(60);
/// Messages of a queue fetched at a time.
pub(crate) const QUEUE_BATCH: usize = 100;
/// Longest pause between tries to reach a server that went away.
pub(crate) const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Largest answer read, bytes: a whole run's record is the largest there is.
pub(crate) const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// A mirror's connection on which nothing comes for so long is given up; a server answers pings every few seconds.
pub(crate) const MIRROR_SILENCE_MAX: Duration = Duration::from_secs(20);
/// A mirror's connection whose other end takes nothing for so long is given up.
pub(crate) const MIRROR_WRITE_MAX: Duration = Duration::from_secs(60);
/// Bytes of a server's answer to a request for a mirror's connection.
pub(crate) const UPGRADE_HEAD_BYTES_MAX: usize = 16 << 10;
/// Finished event logs kept at the client.
pub(crate) const EVENT_LOGS_MAX: usize = 50;
