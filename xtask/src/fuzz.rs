//! `cargo xtask fuzz`: every fuzz target of `fuzz/` for a minute, two side by side.
//!
//! Invariant: a target that fails is named with the input that failed it and the command that repeats
//! that. What targets find to begin with next time stays in `fuzz/target/corpus/`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// The decoders, each a program in `fuzz/src/`.
const TARGETS: [&str; 8] = [
    "topic_records",
    "sync_index",
    "sync_messages",
    "log_recovery",
    "documents",
    "nats_operations",
    "nats_connect",
    "units",
];
/// For each target.
const SECONDS: u32 = 60;
const SIDE_BY_SIDE: usize = 2;
/// Longest input, bytes.
const INPUT_BYTES_MAX: u32 = 2_048;
/// An input that takes longer hangs.
const INPUT_SECONDS_MAX: u32 = 20;

/// Whether what is needed is here; if not, it is named.
pub(crate) fn can_run() -> bool {
    let compiler = Command::new("c++").arg("--version").output();
    let found = compiler.is_ok_and(|output| output.status.success());
    if !found {
        println!("fuzzing needs a C++ compiler, for libFuzzer; install g++");
    }
    found
}

/// Runs all targets.
pub(crate) fn command(root: &Path) -> Result<()> {
    let folder = root.join("fuzz");
    let built = cargo(&folder, &["build", "--quiet", "--release"]).status()?;
    if !built.success() {
        bail!("the fuzz targets could not be built; see above");
    }
    let (waiting, failures) = (Mutex::new(TARGETS.iter()), Mutex::new(Vec::new()));
    let work = || {
        let next = || waiting.lock().ok()?.next();
        while let Some(target) = next() {
            match run(&folder, target) {
                Ok(line) => println!("{line}"),
                Err(error) => {
                    println!("{error:#}");
                    failures.lock().map(|mut all| all.push(*target)).ok();
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    if !failures.is_empty() {
        bail!("these fuzz targets failed: {}", failures.join(", "));
    }
    Ok(())
}

/// Runs one target, and says how far it came.
fn run(folder: &Path, target: &str) -> Result<String> {
    let own = |what: &str| format!("target/{what}/{target}");
    let (corpus, artifacts) = (own("corpus"), own("artifacts"));
    for needed in [&corpus, &artifacts] {
        fs::create_dir_all(folder.join(needed))?;
    }
    let log = folder.join(&artifacts).join("log");
    let output = File::create(&log).context("the log of a fuzz target")?;
    let status = cargo(
        folder,
        &["run", "--quiet", "--release", "--bin", target, "--"],
    )
    .args([&corpus, &format!("corpus/{target}")])
    .arg(format!("-max_total_time={SECONDS}"))
    .arg(format!("-max_len={INPUT_BYTES_MAX}"))
    .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
    .arg(format!("-artifact_prefix={artifacts}/"))
    .stdout(Stdio::null())
    .stderr(output)
    .status()?;
    let text = fs::read(&log)?;
    let text = String::from_utf8_lossy(&text);
    if !status.success() {
        bail!("{}", failure(target, &text));
    }
    Ok(summary(target, &text))
}

/// What a person needs to know of a failure, from what the target said.
fn failure(target: &str, text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let said = panic.unwrap_or(lines.len().saturating_sub(5));
    let said = lines[said..].iter().take(5).copied().collect::<Vec<_>>();
    let input = text.split("Test unit written to ").nth(1);
    let input = input.and_then(|rest| rest.split_whitespace().next());
    let repeat = match input {
        Some(input) => format!(
            "the input is fuzz/{input}; repeat it with: \
             cd fuzz && cargo run --release --bin {target} {input}"
        ),
        None => "no input was kept".to_owned(),
    };
    format!("{target} failed: {}\n{repeat}", said.join("\n"))
}

/// Coverage at the beginning and at the end.
fn summary(target: &str, text: &str) -> String {
    let figure = |line: Option<&str>, name: &str| {
        let words = line.unwrap_or("").split_whitespace();
        let mut behind = words.skip_while(move |word| *word != name).skip(1);
        behind.next().unwrap_or("?").to_owned()
    };
    let mut covered = text.lines().filter(|line| line.contains(" cov: "));
    let (first, last) = (covered.next(), covered.next_back());
    let inputs = last.and_then(|line| line.split('\t').next()).unwrap_or("?");
    format!(
        "{target:<16} {:>10} inputs, coverage {} to {}",
        inputs.trim_start_matches('#'),
        figure(first, "cov:"),
        figure(last, "cov:")
    )
}

/// Cargo in the folder of the targets, whose settings say how they are instrumented.
fn cargo(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(words).current_dir(folder);
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR"] {
        command.env_remove(variable);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_program_and_a_beginning() {
        let folder = crate::root().join("fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let programs = manifest.matches("[[bin]]").count();
        assert_eq!(programs, TARGETS.len() + 1, "the targets and their seeds");
        for target in TARGETS {
            assert!(
                manifest.contains(&format!("name = \"{target}\"")),
                "{target}"
            );
            let mut corpus = fs::read_dir(folder.join("corpus").join(target)).unwrap();
            assert!(corpus.next().is_some(), "{target}");
        }
    }

    #[test]
    fn a_failure_says_how_it_is_repeated() {
        let text = "#2 INITED cov: 5\nthread 'x' panicked at a.rs:1:\nboom\n\
                    Test unit written to target/artifacts/units/crash-1\n";
        let said = failure("units", text);
        let command = "cd fuzz && cargo run --release --bin units target/artifacts/units/crash-1";
        assert!(said.contains("boom") && said.ends_with(command), "{said}");
    }

    #[test]
    fn coverage_is_read_from_what_a_target_says() {
        let text =
            "#2\tINITED cov: 26 ft: 26\n#9\tNEW    cov: 30 ft: 1\n#739\tDONE   cov: 197 ft: 9\n";
        let line = summary("units", text);
        assert!(line.ends_with("739 inputs, coverage 26 to 197"), "{line}");
    }
}
