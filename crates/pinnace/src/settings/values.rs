//! Texts to values, each complaint naming the setting and where it came from.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pinnace_proto::job::{Engine, MinFree};
use pinnace_proto::units::{parse_duration, parse_size};

use super::layers::Layers;
use crate::failure::Result;

impl Layers {
    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> std::result::Result<T, E>,
    ) -> Result<Option<T>> {
        match self.get(key) {
            Some((text, _)) => parse(&text)
                .map(Some)
                .map_err(|error| self.wrong(key, error)),
            None => Ok(None),
        }
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.wrong(key, "has no value"))
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(|(text, _)| text)
    }

    /// A path; a leading `~/` is the home folder.
    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        let text = self.text(key)?;
        match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
            (Some(rest), Some(home)) => Some(PathBuf::from(home).join(rest)),
            _ => Some(PathBuf::from(text)),
        }
    }

    /// An address and port.
    pub(crate) fn address(&self, key: &str) -> Result<SocketAddr> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                format!("`{text}` is no address and port; write 127.0.0.1:7420 or [::1]:7420")
            })
        };
        self.required(key, self.parsed(key, parse)?)
    }

    /// A size in bytes.
    pub(crate) fn size(&self, key: &str) -> Result<Option<u64>> {
        self.parsed(key, parse_size)
    }

    /// A comma-separated list of sizes in bytes.
    pub(crate) fn sizes(&self, key: &str) -> Result<Vec<u64>> {
        let parse = |text: &str| text.split(',').map(parse_size).collect();
        self.required(key, self.parsed(key, parse)?)
    }

    /// A duration.
    pub(crate) fn duration(&self, key: &str) -> Result<Option<Duration>> {
        self.parsed(key, parse_duration)
    }

    /// A duration in microseconds that must have a value.
    pub(crate) fn duration_us(&self, key: &str) -> Result<u64> {
        let duration = self.required(key, self.duration(key)?)?;
        u64::try_from(duration.as_micros()).map_err(|_| self.wrong(key, "is too long"))
    }

    /// Yes or no.
    pub(crate) fn yes(&self, key: &str) -> Result<bool> {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(format!("`{text}` is neither true nor false")),
        };
        Ok(self.parsed(key, parse)?.unwrap_or(false))
    }

    /// A floor of free space: a size or a percentage.
    pub(crate) fn min_free(&self, key: &str) -> Result<MinFree> {
        let parse = |text: &str| match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse::<f64>() {
                Ok(percent) if (0.0..100.0).contains(&percent) => Ok(MinFree::Percent(percent)),
                _ => Err(format!("`{text}` is no percentage from 0% to below 100%")),
            },
            None => parse_size(text)
                .map(MinFree::Bytes)
                .map_err(|error| error.to_string()),
        };
        self.required(key, self.parsed(key, parse)?)
    }

    /// An I/O engine.
    pub(crate) fn engine(&self, key: &str) -> Result<Engine> {
        let parse = |text: &str| match text {
            "auto" | "psync" => Ok(Engine::Psync),
            "null" => Ok(Engine::Null),
            "uring" | "dd" => Err(format!(
                "engine `{text}` is not in this version; use auto, psync or null"
            )),
            other => Err(format!("`{other}` is no engine; use auto, psync or null")),
        };
        self.required(key, self.parsed(key, parse)?)
    }
}
