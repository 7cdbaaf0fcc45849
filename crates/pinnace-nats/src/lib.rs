//! The NATS client protocol as bytes: what a server reads from its clients and writes to them.
//!
//! [`decode`] turns the front of a buffer into one operation that borrows from it; the `write_*`
//! functions append to a buffer. Nothing here owns a socket, keeps state between calls or
//! allocates by a number a peer sent. Behaviour follows the reference server 2.15, whose answers
//! to odd input are listed in `docs/formats/nats.md`.
//!
//! Left to others: what an operation does (the NATS door), whether a subject is well formed
//! (`pinnace-topics`).

mod decode;
mod documents;
mod encode;
pub mod limits;

pub use decode::{Bounds, DecodeError, Op, decode};
pub use documents::{Connect, ConnectError, Credentials, ServerInfo};
pub use encode::{
    NO_RESPONDERS, OK, PING, PONG, no_responders_headers, write_err, write_info, write_msg,
};
