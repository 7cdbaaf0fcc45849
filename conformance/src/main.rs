//! Proof by others: is Pinnace's NATS door what clients and suites nobody here wrote expect?
//!
//! Invariant: what a step needs and the machine lacks is said by name and ends with [`NOT_RUN`], so that
//! nothing passes by not being run; what passes or fails is never decided by time.

// Tooling whose purpose is to tell somebody something.
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod clients;
mod conf;
mod differences;
mod differential;
mod launcher;
mod normal;
mod play;
mod reference;
mod script;
mod servers;
mod suite;
mod unread;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

/// Exit code of a step that could not be run, as automake has it.
const NOT_RUN: u8 = 77;

const HELP: &str = "\
conformance differential [PART]            scripts/ to the reference server and to Pinnace, compared
conformance differential PART --reference  what the reference answers
conformance async-nats [--write]           the tests of the async-nats crate against Pinnace
conformance clients                        smoke programs in four languages against Pinnace
nats-server …                              under this name: Pinnace with the reference's flags and log";

/// Something a step needs is not on this machine.
#[derive(Debug)]
pub(crate) struct NotRun(String);

impl NotRun {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Display for NotRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotRun {}

fn main() -> ExitCode {
    let mut words = std::env::args();
    let called = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let done = match Path::new(&called).file_name() {
        Some(name) if name == "nats-server" => launcher::run(&words),
        _ => command(&words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<NotRun>() => {
            eprintln!("not run: {error}");
            ExitCode::from(NOT_RUN)
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(words: &[String]) -> Result<()> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.parent().context("this crate lies below the root")?;
    let target = root.join("target/conformance");
    let switch = |name: &str| words.iter().any(|word| word == name);
    let mut plain = words.iter().filter(|word| !word.starts_with("--"));
    match plain.next().map(String::as_str) {
        Some("differential") => {
            let programs = servers::Programs {
                reference: reference::program(&target)?,
                pinnace: pinnace(root)?,
            };
            let only = plain.next().map(String::as_str);
            if switch("--reference") {
                differential::show(own, &programs, only)
            } else {
                differential::run(own, &programs, only)
            }
        }
        Some("async-nats") => suite::run(own, &target, &pinnace(root)?, switch("--write")),
        Some("clients") => clients::run(own, &target, &pinnace(root)?),
        Some("scribe") => launcher::write_log(&words[1..]),
        None => {
            println!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("`{other}` is no part of this; there are:\n{HELP}"),
    }
}

/// The program of this workspace, built if it has to be.
fn pinnace(root: &Path) -> Result<PathBuf> {
    executable(root, &["--package", "pinnace"], "pinnace")
}

/// Builds what `words` name and says where the program `name` is.
fn executable(folder: &Path, words: &[&str], name: &str) -> Result<PathBuf> {
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet"])
        .args(words)
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    if !built.status.success() {
        bail!("{name} does not build");
    }
    let said = String::from_utf8(built.stdout)?;
    let found = said.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let built = message["target"]["name"].as_str()?;
        let path = message["executable"].as_str()?;
        (built == name).then(|| PathBuf::from(path))
    });
    found.with_context(|| format!("cargo built no program {name}"))
}
