//! The mirror: a directory here, the same directory in a share there, in full and then as it changes.
//!
//! What it keeps: a share is at every moment what the source was at some moment, in the order in which its
//! changes were seen (a prefix of its history); no file is ever half there; nothing is deleted because a
//! directory could not be read; durable is said only of what was synced.
//!
//! One code path, *compare this path with the index*, serves the first sync, live changes, an overflow, a
//! reconnection and a sweep; they differ in the paths they feed to it.
//!
//! What it leaves to others: sockets, HTTP and TLS (a session is bytes in and bytes out), who may do what, and
//! where shares and indexes lie (it is given directories).

pub mod archive;
pub mod chunk;
pub mod client;
pub mod filter;
pub mod fs;
mod ids;
pub mod index;
pub mod meta;
pub mod path;
pub mod server;
pub mod watch;
pub mod wire;

pub use meta::{ContentId, Fingerprint, Kind, Meta, Stamp};
