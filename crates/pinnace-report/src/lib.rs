//! Statistics over runs and what people see of them: summaries, and their rendering as text, HTML
//! and CSV (JSON by serde).
//!
//! Invariant: plain functions of their arguments. Nothing here prints, reads a clock, a file or the
//! environment, and no record, however broken, makes it panic or divide by zero.
//!
//! Left to others: how a figure was measured (`pinnace-bench`), stored (`pinnace-runs`) or served
//! (`pinnace-server`).

mod client;
mod columns;
mod csv;
mod fio;
mod fold;
mod html;
mod judge;
mod latency;
mod limits;
mod repeat;
mod summarize;
mod summary;
mod text;
mod timeline;
mod warning;
mod words;
mod worker;

pub use csv::{csv, csv_samples};
pub use fio::fio;
pub use html::html;
pub use latency::{CurvePoint, Latency};
pub use summarize::summarize;
pub use summary::*;
pub use text::text;
pub use warning::{Grade, Warning, WarningCode};
