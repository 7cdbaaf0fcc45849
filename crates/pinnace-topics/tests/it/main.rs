//! Integration tests of topics, on the twin disk of `pinnace-log`.
//!
//! One binary: a module per promise. `harness` waits for events, never for time.

// Clippy's leave for tests covers test functions, not the helpers they share.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod bounds;
mod check;
mod exercise;
mod faults;
mod harness;
mod leases;
mod limits;
mod live;
mod model;
mod pages;
mod queues;
mod reclaim;
mod rot;
mod sim;
mod space;
mod spill;
