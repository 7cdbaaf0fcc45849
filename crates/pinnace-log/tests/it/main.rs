//! Integration tests of the log, on the twin disk and on the real one.
//!
//! One binary: a module per promise. `harness` waits for events, never for time.

// Clippy's leave for tests covers test functions, not the helpers they share.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod check;
mod commit;
mod crash;
mod damage;
mod faults;
mod format;
mod harness;
mod space;
