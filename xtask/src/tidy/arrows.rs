//! Which crate may use which: the architecture's table of arrows, compared with the manifests.
//!
//! Invariant: a crate that is not in the table may use nothing of ours, so a new one cannot be
//! forgotten. Only normal dependencies count: a test may look behind any door.

use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

use super::Finding;

/// What a crate may use of ours.
const ALLOWED: &[(&str, &[&str])] = &[
    // It knows the program only by its command line and its doors, as any stranger does.
    ("conformance", &[]),
    (
        "pinnace",
        &[
            "pinnace-proto",
            "pinnace-report",
            "pinnace-bench",
            "pinnace-client",
            "pinnace-server",
            "pinnace-sync",
        ],
    ),
    ("pinnace-bench", &["pinnace-proto"]),
    ("pinnace-client", &["pinnace-proto", "pinnace-sync"]),
    ("pinnace-log", &[]),
    ("pinnace-nats", &[]),
    ("pinnace-proto", &[]),
    ("pinnace-report", &["pinnace-proto"]),
    ("pinnace-runs", &["pinnace-proto"]),
    (
        "pinnace-server",
        &[
            "pinnace-proto",
            "pinnace-report",
            "pinnace-topics",
            "pinnace-nats",
            "pinnace-sync",
            "pinnace-runs",
        ],
    ),
    ("pinnace-sync", &["pinnace-proto"]),
    ("pinnace-topics", &["pinnace-log"]),
    ("xtask", &["pinnace-proto"]),
];

/// Crates from outside that a crate must not know, and why.
const BANNED: &[(&str, &[&str], &str)] = &[
    (
        "pinnace-log",
        &["tokio", "serde", "serde_json"],
        "a log moves bytes; what they mean is its users' business",
    ),
    (
        "pinnace-nats",
        &["tokio"],
        "a codec has no sockets and no tasks",
    ),
    ("pinnace-proto", &["tokio"], "documents know no transport"),
    ("pinnace-report", &["tokio"], "reports are plain functions"),
    (
        "pinnace-bench",
        &["tokio"],
        "an engine is threads and system calls",
    ),
    (
        "pinnace-sync",
        &["tokio"],
        "both ends of a session are bytes in, bytes out",
    ),
    (
        "pinnace-topics",
        &["tokio"],
        "delivery is a call on a sink that the door gives",
    ),
];

/// Crates from outside that only one of ours may use, and why.
const ONLY_IN: &[(&str, &str, &str)] = &[
    ("rusqlite", "pinnace-runs", "one room knows SQL"),
    ("clap", "pinnace", "one room knows the command line"),
];

/// Compares the workspace's manifests with the tables.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("reading the workspace with cargo metadata")?;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let manifest = package
            .manifest_path
            .strip_prefix(root)
            .unwrap_or(&package.manifest_path);
        let normal = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal);
        for dependency in normal {
            findings.extend(judge(&package.name, &dependency.name, manifest.as_str()));
        }
    }
    Ok(findings)
}

/// What is wrong with crate `name` using `dependency`.
fn judge(name: &str, dependency: &str, manifest: &str) -> Option<Finding> {
    let found = |text: String| Some(Finding::new(manifest, 1, text));
    if dependency == "pinnace" || dependency.starts_with("pinnace-") {
        let row = ALLOWED.iter().find(|(of, _)| *of == name);
        let allowed = row.map_or(&[][..], |(_, allowed)| allowed);
        if !allowed.contains(&dependency) {
            return found(format!(
                "{name} must not use {dependency}; let the caller bring the two together, or change \
                 the architecture and its table in xtask/src/tidy/arrows.rs"
            ));
        }
    }
    let banned = BANNED
        .iter()
        .find(|(of, banned, _)| *of == name && banned.contains(&dependency));
    if let Some((_, _, why)) = banned {
        return found(format!("{name} must not use {dependency}: {why}"));
    }
    let only = ONLY_IN
        .iter()
        .find(|(what, of, _)| *what == dependency && *of != name);
    if let Some((_, of, why)) = only {
        return found(format!("only {of} may use {dependency}, not {name}: {why}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_that_are_drawn_hold_and_others_do_not() {
        for (name, dependency, wrong) in [
            ("pinnace-report", "pinnace-proto", false),
            ("pinnace-report", "pinnace-runs", true),
            ("pinnace-proto", "pinnace-log", true),
            ("pinnace-server", "pinnace-client", true),
            ("pinnace-new", "pinnace-proto", true),
            ("pinnace-log", "serde", true),
            ("pinnace-runs", "serde", false),
            ("pinnace-bench", "tokio", true),
            ("pinnace-server", "tokio", false),
            ("pinnace-server", "rusqlite", true),
            ("pinnace-runs", "rusqlite", false),
            ("pinnace-server", "clap", true),
            ("pinnace", "clap", false),
        ] {
            let finding = judge(name, dependency, "m");
            assert_eq!(
                finding.is_some(),
                wrong,
                "{name} -> {dependency}: {finding:?}"
            );
        }
    }

    #[test]
    fn the_tables_agree_with_each_other() {
        for (name, allowed) in ALLOWED {
            for used in *allowed {
                assert!(ALLOWED.iter().any(|(of, _)| of == used), "{name} -> {used}");
            }
        }
    }
}
