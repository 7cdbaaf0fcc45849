//! Whether a copy is equal, by a program that is not ours: rsync, asked what it would change.
//!
//! Invariant: a copy that rsync would change anything in is not equal, and a run that left it so has no
//! figure.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use peers::limits::MIRROR_COMPARE_LOOK;
use peers::load::clock::pause;

use super::tools::rsync::PROGRAM;

/// Everything a mirror keeps, contents by checksum.
pub(crate) const ALL: &[&str] = &["-aHAXn", "--delete", "--checksum", "--itemize-changes"];
/// The same by size and time.
pub(crate) const QUICK: &[&str] = &["-aHAXn", "--delete", "--itemize-changes"];
/// Most differences an error names.
const SHOWN_LINES_MAX: usize = 8;

/// Compares.
///
/// # Errors
/// When they are not equal; the error names some of what differs.
pub(crate) fn check(source: &Path, mirror: &Path, flags: &[&str]) -> Result<()> {
    let mut ends = [source, mirror].map(|end| end.as_os_str().to_owned());
    for end in &mut ends {
        end.push("/");
    }
    let ran = Command::new(PROGRAM).args(flags).args(ends).output();
    let ran = ran.context("the oracle rsync")?;
    let [said, complained] = [ran.stdout, ran.stderr].map(|text| text.escape_ascii().to_string());
    ensure!(ran.status.success(), "the oracle rsync: {complained}");
    if said.is_empty() {
        return Ok(());
    }
    bail!("not equal: {}", shortened(&said));
}

/// Compares again and again until they are equal.
///
/// # Errors
/// When they are not in time.
pub(crate) fn wait_for(
    source: &Path,
    mirror: &Path,
    flags: &[&str],
    limit: Duration,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let found = check(source, mirror, flags);
        if found.is_ok() || Instant::now() > deadline {
            return found;
        }
        pause(MIRROR_COMPARE_LOOK)?;
    }
}

/// The first of escaped lines.
fn shortened(said: &str) -> String {
    let lines: Vec<&str> = said.split("\\n").filter(|line| !line.is_empty()).collect();
    let more = lines.len().saturating_sub(SHOWN_LINES_MAX);
    let mut text = lines[..lines.len() - more].join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shown_in_part() {
        assert_eq!(shortened("a\\nb\\n"), "a; b");
        let many = "x\\n".repeat(11);
        assert!(shortened(&many).ends_with("x; and 3 more"));
    }
}
