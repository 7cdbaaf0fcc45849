//! House rules that a compiler does not know: arrows between crates, heads of files, sizes, tests
//! that are forgotten or sleep, machine paths, manifests.
//!
//! Invariant: each rule is a function from text to findings, so that each is tried on a text that
//! breaks it; reading the tree happens here and only here. A finding says where, what, and what to
//! do.

mod arrows;
mod forbidden;
mod heads;
mod manifests;
mod places;
mod sizes;
mod suites;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// File, from the root.
    file: String,
    /// Line, from 1.
    line: usize,
    /// What is wrong and what to do.
    text: String,
}

impl Finding {
    fn new(file: &str, line: usize, text: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            text: text.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// A tracked text file.
pub(crate) struct File {
    /// Path from the root, with `/`.
    path: String,
    text: String,
}

impl File {
    #[cfg(test)]
    fn of(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Written to be tested against, not shipped: under `tests`, `examples` or `benches`.
    fn is_test(&self) -> bool {
        let mut folders = self.path.split('/');
        folders.any(|folder| matches!(folder, "tests" | "examples" | "benches"))
    }

    /// Number of lines before the unit tests at the file's end.
    fn production_lines(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines
            .windows(2)
            .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod "));
        tests.unwrap_or(lines.len())
    }
}

/// `cargo xtask tidy`.
pub(crate) fn command(root: &Path) -> Result<()> {
    let findings = findings(root)?;
    if findings.is_empty() {
        println!("tidy");
        return Ok(());
    }
    findings.iter().for_each(|finding| println!("{finding}"));
    bail!("tidy has {} findings", findings.len());
}

/// Everything that breaks a rule in the tree at `root`.
fn findings(root: &Path) -> Result<Vec<Finding>> {
    let files = files(root)?;
    let mut findings = arrows::check(root)?;
    findings.extend(suites::check(&files));
    findings.extend(sizes::check(&files));
    for file in &files {
        findings.extend(places::check(file));
        if file.is_rust() {
            findings.extend(heads::check(file));
            findings.extend(forbidden::check(file));
        }
        if file.path.ends_with("/Cargo.toml") && !is_apart(file, &files) {
            findings.extend(manifests::check(file));
        }
    }
    findings.sort();
    Ok(findings)
}

/// Whether a manifest belongs to a workspace of its own, such as `peers/`, which keeps its versions itself.
fn is_apart(manifest: &File, files: &[File]) -> bool {
    let mut workspaces = files.iter().filter(|file| {
        file.path.ends_with("/Cargo.toml") && file.text.lines().any(|line| line == "[workspace]")
    });
    workspaces.any(|workspace| {
        let folder = workspace.path.trim_end_matches("Cargo.toml");
        manifest.path.starts_with(folder)
    })
}

/// All files git knows or would add, as far as they are text.
fn files(root: &Path) -> Result<Vec<File>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("tidy lists files with git, which could not be run")?;
    if !listed.status.success() {
        bail!(
            "git ls-files failed: {}",
            String::from_utf8_lossy(&listed.stderr)
        );
    }
    let listed = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
    let files = listed.lines().filter_map(|path| {
        // A deleted file may still be listed, and an image is none of our business.
        let text = fs::read_to_string(root.join(path)).ok()?;
        Some(File {
            path: path.to_owned(),
            text,
        })
    });
    Ok(files.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let findings = findings(&crate::root()).unwrap();
        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
    }

    #[test]
    fn files_of_the_tree_are_seen() {
        let files = files(&crate::root()).unwrap();
        assert!(
            files
                .iter()
                .any(|file| file.path == "xtask/src/tidy/mod.rs")
        );
        assert!(files.iter().any(|file| file.path == "Cargo.toml"));
    }

    #[test]
    fn a_workspace_of_its_own_keeps_its_versions() {
        let files = [
            ("Cargo.toml", "[workspace]\n"),
            ("a/Cargo.toml", "[package]\n"),
            ("b/Cargo.toml", "[workspace]\n"),
            ("b/c/Cargo.toml", "[package]\n"),
        ];
        let files = files.map(|(path, text)| File::of(path, text));
        let apart: Vec<bool> = files.iter().map(|file| is_apart(file, &files)).collect();
        assert_eq!(apart, [false, false, true, true]);
    }

    #[test]
    fn production_ends_where_unit_tests_begin() {
        for (text, lines) in [
            ("a\nb\n#[cfg(test)]\nmod tests {\n}\n", 2),
            ("a\n#[cfg(test)]\nfn helper() {}\nb\n", 4),
            ("a\nb\n", 2),
            ("", 0),
        ] {
            assert_eq!(File::of("x.rs", text).production_lines(), lines, "{text}");
        }
    }
}
