//! Engine 1: plans a rollover job, drives the writes, measures them and yields events.
//!
//! [`plan`] checks a job against the paths it names, [`calibrate()`] measures what the storage gives
//! with all workers at once, [`judge`] says whether two rollovers fit, and [`run()`] does the work
//! and hands over one [`Report`] after another. [`Stop`] ends any of it from another thread.
//!
//! Invariant: no file of a run outlives [`run()`] unless the job asks to keep it, whichever way the
//! run ends; and a write's latency holds that write and nothing else.
//!
//! Left to others: numbering and sending the reports, the wall clock, printing, exit codes.

mod buffer;
pub mod calibrate;
mod clock;
mod controller;
pub mod device;
mod error;
pub mod facts;
mod figures;
mod ledger;
pub mod limits;
mod link;
mod pace;
mod payload;
mod plan;
mod promise;
mod resources;
mod roster;
mod space;
mod stop;
mod worker;

pub use buffer::AlignedBuffer;
pub use calibrate::{calibrate, calibrate_on};
pub use controller::{Outcome, Report, run, run_on};
pub use error::{CalibrationError, ErrorKind, PlanError};
pub use facts::{host_facts, path_facts};
pub use plan::{Plan, plan};
pub use promise::{Advice, Infeasible, judge, rollovers};
pub use stop::Stop;
