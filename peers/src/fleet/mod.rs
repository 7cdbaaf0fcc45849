//! A fleet of simulated bench clients: each has its own NATS connection, joins the run over HTTP and
//! tells its events in order, one at a time, each until it is acknowledged.
//!
//! Invariant: an event is counted as acknowledged once, when the server answered with its sequence
//! number; what a client had to say and when it was due does not depend on the server's speed.
//!
//! Left to others: the server (`servers`), what is printed (`bin/collector`).

pub mod client;
pub mod http;
pub mod script;
pub mod tally;
