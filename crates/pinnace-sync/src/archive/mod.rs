//! A file, directory or symlink with all that is in it, as a tar archive: how what was deleted leaves the server.
//!
//! The archive is POSIX pax (`head`), so that any tar reads it; names of any bytes, nanoseconds and attributes are in its
//! records. Written from held descriptors (`pack`), unpacked beneath one (`unpack`).
//!
//! Invariant: neither end follows a symlink or leaves the directory it was given; what is unpacked is seen under its
//! name whole or not at all. Left to others: which thing, and how its bytes travel.
//!
//! Alternatives: the `tar` crate splits records at newlines, which names and attributes (every ACL may) have in them.

mod head;
mod pack;
mod unpack;

pub use pack::{PackError, pack};
pub use unpack::{UnpackError, Unpacked, unpack};

/// Unpacking happens under a name that begins so; mirrors leave it out.
pub(crate) const UNPACKING: &[u8] = b".pinnace-restore-";

/// Bytes that are read and written at a time.
const PIECE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
