//! Whole runs and calibrations on a real directory, and on the failing twin of the device. Nothing
//! here sleeps: tests wait for reports, and time limits are those of channels.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail like tests; the lints know only the test functions themselves"
)]

mod bed;
mod calibration;
mod faults;
mod runs;
