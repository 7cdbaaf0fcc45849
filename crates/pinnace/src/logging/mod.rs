//! The program's log: for people on stderr, and in a file when one is asked for; as text, or as JSON
//! lines for programs.
//!
//! The file is opened for appending and holds more than the terminal shows: heartbeats, samples,
//! every connection. It can be opened anew while the program runs, so that it can be moved away.

mod file;
mod json;

use std::path::Path;
use std::sync::Arc;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::{Failure, Result};
pub(crate) use file::LogFile;

/// Level of the file unless `--log` says otherwise.
const FILE_FILTER: &str = "warn,pinnace=debug,pinnace_server=debug";

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// An object a line: time, level, target, message, fields.
    Json,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("`{other}` is no format of a log; use text or json")),
        }
    }
}

/// Starts logging; `filter` as in `--log`, such as `info` or `pinnace_server=debug`. Says where
/// the file is, if there is one, to be opened anew.
pub(crate) fn start(
    filter: Option<&str>,
    usual: &str,
    format: Format,
    file: Option<&Path>,
) -> Result<Option<Arc<LogFile>>> {
    let parse = |text: &str| {
        EnvFilter::try_new(text).map_err(|error| {
            Failure::usage(format!("--log `{text}`: {error}"))
                .hint("write a level (error, warn, info, debug, trace) or room=level, …")
        })
    };
    let terminal = lines(std::io::stderr, format, false);
    let terminal = terminal.with_filter(parse(filter.unwrap_or(usual))?);
    let opened = match file {
        Some(path) => Some(Arc::new(LogFile::open(path).map_err(|error| {
            Failure::failed(format!(
                "the log file {} cannot be written: {error}",
                path.display()
            ))
        })?)),
        None => None,
    };
    let file = match &opened {
        Some(opened) => {
            let opened = opened.clone();
            let file = lines(move || opened.current(), format, true);
            Some(file.with_filter(parse(filter.unwrap_or(FILE_FILTER))?))
        }
        None => None,
    };
    let started = tracing_subscriber::registry()
        .with(terminal)
        .with(file)
        .try_init();
    started.map_err(|error| Failure::failed(format!("logging cannot start: {error}")))?;
    Ok(opened)
}

/// A layer that writes lines of a format; text names the room a line comes from only when asked to.
fn lines<S, W>(writer: W, format: Format, with_target: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let text = layer().with_writer(writer).with_ansi(false);
    match format {
        Format::Text => text.with_target(with_target).boxed(),
        Format::Json => text.event_format(json::JsonLines).boxed(),
    }
}
