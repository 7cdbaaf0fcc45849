//! Chores of the workspace: `cargo xtask test`, `tidy`, `fuzz`, `schemas`.
//!
//! Invariant: continuous integration runs these commands and no others, so whatever it refuses a
//! person can see refused at home first.

// A chore's whole purpose is to tell somebody something.
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod fuzz;
mod schemas;
mod steps;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test      all checks: format, clippy, tidy, tests, fuzz, proofs by others, doctests, documentation
cargo xtask tidy      house rules only: arrows between crates, heads, sizes, manifests
cargo xtask fuzz      every fuzz target for a minute
cargo xtask schemas   write docs/schemas/ and docs/openapi.json from the types of pinnace-proto";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test"] => steps::test(&root()),
        ["tidy"] => tidy::command(&root()),
        ["fuzz"] => fuzz::command(&root()),
        ["schemas"] => schemas::write(&root()),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(anyhow::anyhow!(
            "`{}` is not a chore; there are:\n{HELP}",
            other.join(" ")
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root: the folder above this crate's.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}
