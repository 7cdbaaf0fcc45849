//! The program's log: for people on stderr, and in a file when one is asked for.
//!
//! The file is opened for appending and holds more than the terminal shows: heartbeats, samples,
//! every connection.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::{Failure, Result};

/// Level of the file unless `--log` says otherwise.
const FILE_FILTER: &str = "warn,pinnace=debug,pinnace_server=debug";

/// Starts logging; `filter` as in `--log`, such as `info` or `pinnace_server=debug`.
pub(crate) fn start(filter: Option<&str>, usual: &str, file: Option<&Path>) -> Result<()> {
    let parse = |text: &str| {
        EnvFilter::try_new(text).map_err(|error| {
            Failure::usage(format!("--log `{text}`: {error}"))
                .hint("write a level (error, warn, info, debug, trace) or room=level, …")
        })
    };
    let terminal = layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_filter(parse(filter.unwrap_or(usual))?);
    let file = match file {
        Some(path) => {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            let opened = opened.map_err(|error| {
                Failure::failed(format!(
                    "the log file {} cannot be written: {error}",
                    path.display()
                ))
            })?;
            let file = layer()
                .with_writer(Arc::new(opened))
                .with_ansi(false)
                .with_filter(parse(filter.unwrap_or(FILE_FILTER))?);
            Some(file)
        }
        None => None,
    };
    let started = tracing_subscriber::registry()
        .with(terminal)
        .with(file)
        .try_init();
    started.map_err(|error| Failure::failed(format!("logging cannot start: {error}")))
}
