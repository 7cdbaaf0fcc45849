//! `cargo xtask test`: everything that must hold before a commit is shared, in one go.
//!
//! Invariant: the first step that fails ends it, and the last line says how many passed or which
//! command repeats the failure. A step that needs something this machine lacks says what, is counted
//! apart, and is a failure where `CI` is `true`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{fuzz, tidy};

/// One step: what it is called and how it is repeated.
struct Step {
    name: &'static str,
    environment: Option<(&'static str, &'static str)>,
    words: Vec<&'static str>,
}

impl Step {
    fn cargo(name: &'static str, words: &[&'static str]) -> Self {
        Self {
            name,
            environment: None,
            words: words.to_vec(),
        }
    }

    /// As it would be typed.
    fn command(&self) -> String {
        let environment = self
            .environment
            .map(|(name, value)| format!("{name}=\"{value}\" "));
        format!(
            "{}cargo {}",
            environment.unwrap_or_default(),
            self.words.join(" ")
        )
    }

    fn run(&self, root: &Path) -> Result<Verdict> {
        if self.words == ["xtask", "tidy"] {
            let tidy = tidy::command(root).inspect_err(|error| eprintln!("{error:#}"));
            return Ok(Verdict::of(tidy.is_ok()));
        }
        if self.words == ["xtask", "fuzz"] {
            if !fuzz::can_run() {
                return Ok(Verdict::NotRun);
            }
            let fuzzed = fuzz::command(root).inspect_err(|error| eprintln!("{error:#}"));
            return Ok(Verdict::of(fuzzed.is_ok()));
        }
        let mut command = Command::new(env!("CARGO"));
        command.args(&self.words).current_dir(root);
        command.envs(self.environment);
        let status = command.status()?;
        let by_others = self.words.contains(&"conformance");
        Ok(match status.code() {
            Some(NOT_RUN) if by_others => Verdict::NotRun,
            _ => Verdict::of(status.success()),
        })
    }
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    /// Something it needs is not here.
    NotRun,
}

impl Verdict {
    fn of(passed: bool) -> Self {
        match passed {
            true => Self::Passed,
            false => Self::Failed,
        }
    }
}

/// Exit code of a step of `conformance` that could not be run.
const NOT_RUN: i32 = 77;

fn steps(nextest: bool) -> Vec<Step> {
    let tests: &[&str] = match nextest {
        true => &["nextest", "run", "--workspace"],
        false => &["test", "--workspace", "--lib", "--bins", "--tests"],
    };
    let mut documentation = Step::cargo(
        "documentation",
        &["doc", "--workspace", "--no-deps", "--quiet"],
    );
    documentation.environment = Some(("RUSTDOCFLAGS", "-D warnings"));
    vec![
        Step::cargo("format", &["fmt", "--all", "--check"]),
        Step::cargo(
            "clippy",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ],
        ),
        Step::cargo("tidy", &["xtask", "tidy"]),
        Step::cargo("tests", tests),
        Step::cargo("fuzz", &["xtask", "fuzz"]),
        conformance("reference", "differential"),
        conformance("async-nats", "async-nats"),
        conformance("clients", "clients"),
        Step::cargo("doctests", &["test", "--workspace", "--doc", "--quiet"]),
        documentation,
    ]
}

/// A step of the crate that holds the proofs by others.
fn conformance(name: &'static str, part: &'static str) -> Step {
    Step::cargo(
        name,
        &["run", "--quiet", "--package", "conformance", "--", part],
    )
}

/// Runs all steps.
pub(crate) fn test(root: &Path) -> Result<()> {
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    let nextest = Command::new(env!("CARGO"))
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut lines = Vec::new();
    let mut missing = 0;
    for step in steps(nextest) {
        println!("==> {}: {}", step.name, step.command());
        let before = Instant::now();
        let verdict = step.run(root)?;
        let word = match verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::NotRun => "NOT RUN",
        };
        lines.push(line(step.name, word, before.elapsed()));
        missing += usize::from(verdict == Verdict::NotRun);
        if verdict == Verdict::Failed || (strict && verdict == Verdict::NotRun) {
            lines.iter().for_each(|line| println!("{line}"));
            bail!(
                "{} steps passed, 1 failed; repeat it with: {}",
                lines.len() - 1 - (missing - usize::from(verdict == Verdict::NotRun)),
                step.command()
            );
        }
    }
    lines.iter().for_each(|line| println!("{line}"));
    println!("{} steps passed, 0 failed", lines.len() - missing);
    if missing > 0 {
        println!("{missing} steps were not run: what they need is said above; .ci/run installs it");
    }
    Ok(())
}

fn line(name: &str, verdict: &str, time: Duration) -> String {
    format!("{name:<14} {verdict:<7}  {:>6.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_repeated_by_what_it_prints() {
        let steps = steps(false);
        let commands: Vec<String> = steps.iter().map(Step::command).collect();
        assert_eq!(commands[0], "cargo fmt --all --check");
        assert_eq!(
            commands[commands.len() - 1],
            "RUSTDOCFLAGS=\"-D warnings\" cargo doc --workspace --no-deps --quiet"
        );
        assert!(commands[1].ends_with("-D warnings"));
    }

    #[test]
    fn a_failing_step_is_seen_to_fail() {
        let step = Step::cargo("none", &["no-such-command-of-cargo"]);
        assert_eq!(step.run(&crate::root()).unwrap(), Verdict::Failed);
        let step = Step::cargo("version", &["--version"]);
        assert_eq!(step.run(&crate::root()).unwrap(), Verdict::Passed);
    }
}
