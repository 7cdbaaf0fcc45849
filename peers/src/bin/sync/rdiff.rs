//! What librsync's `rdiff` would send for a changed file: bytes only, as a mark to compare with.
//!
//! Invariant: signature and delta both count: one goes each way.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use peers::limits::MIRROR_RUN_MAX;
use peers::process;

const PROGRAM: &str = "rdiff";

/// A line about `old` and `new`; `None` when it is not installed.
pub(crate) fn line([old, new]: &[PathBuf; 2], folder: &Path) -> Result<Option<String>> {
    if Command::new(PROGRAM).arg("--version").output().is_err() {
        return Ok(None);
    }
    let [signature, delta] = ["signature", "delta"].map(|name| folder.join(name));
    let step = |name: &str, files: [&Path; 3]| {
        let mut command = Command::new(PROGRAM);
        command.arg("--force").arg(name);
        command.args(files.iter().filter(|file| !file.as_os_str().is_empty()));
        process::measure(&mut command, MIRROR_RUN_MAX)
    };
    let none = Path::new("");
    let first = step("signature", [old, &signature, none])?;
    let second = step("delta", [&signature, new, &delta])?;
    let length = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.len());
    let sent = [length(&signature)?, length(&delta)?];
    for file in [&signature, &delta] {
        std::fs::remove_file(file)?;
    }
    Ok(Some(said(sent, first.cpu + second.cpu)))
}

fn said([signature, delta]: [u64; 2], cpu: Duration) -> String {
    format!(
        "rdiff would send {:.3} MB (signature {:.3}, delta {:.3}) after {:.2} s of CPU, without writing the file",
        (signature + delta) as f64 / 1e6,
        signature as f64 / 1e6,
        delta as f64 / 1e6,
        cpu.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_count() {
        let line = said([1_000_000, 500_000], Duration::from_secs(2));
        assert!(line.contains("1.500 MB"), "{line}");
    }
}
