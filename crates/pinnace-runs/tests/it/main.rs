//! The database through its public face: batches in, lists, runs and queries out.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "helpers of tests fail by panicking"
)]

mod query;
mod samples;
mod store;
