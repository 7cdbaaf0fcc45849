//! Calls to a server: typed requests over HTTP, messages over NATS, and the courier that brings a
//! bench client's events to the server however often it goes away.
//!
//! Invariant: nothing here loses an event that was handed over: it is on disk before it is sent,
//! and sent until the server acknowledged it as synced.
//!
//! Left to others: what the documents mean (`pinnace-proto`), what people see (the binary).

pub mod api;
pub mod courier;
mod limits;
mod login;
pub mod messages;
mod mirror;
pub mod queue;
mod runs;
mod shares;
mod spool;

pub use api::{Api, ApiError};
pub use courier::{Courier, CourierError, Delivery};
pub use login::log_in;
pub use messages::{Messages, MessagesError};
pub use mirror::MirrorServer;
pub use queue::Queue;
