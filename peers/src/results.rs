//! Where results go: a dated Markdown page for people and the raw figures beside it.
//!
//! Invariant: a page names no host and no path of the machine it was measured on.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// Today in UTC, `2026-11-21`.
pub fn today() -> String {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    now.date().to_string()
}

/// Writes `<date>-<name>.md` and `<date>-<name>.json` into `folder`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, name: &str, page: &str, raw: &impl Serialize) -> Result<()> {
    let stem = format!("{}-{name}", today());
    let put = |extension: &str, text: String| {
        let path = folder.join(format!("{stem}.{extension}"));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    std::fs::create_dir_all(folder)?;
    put("md", page.to_owned())?;
    put("json", serde_json::to_string(raw)? + "\n")
}
