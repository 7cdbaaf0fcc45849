//! The tests of the async-nats crate, unchanged, against Pinnace.
//!
//! Invariant: every test of the suite is in the table, as passed or as skipped with its reason. A test that is
//! expected to pass and does not fails the step; one that is skipped and passes all the same asks to be taken off
//! the list.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::launcher;

/// One file of tests that hangs is ended after this; the longest takes about a tenth of it.
const PATIENCE: Duration = Duration::from_secs(600);

/// Tests by `file::test`, and whether each passed.
type Results = BTreeMap<String, bool>;

/// Why tests are not expected to pass.
struct Skips(Vec<(String, String)>);

/// Runs the suite and compares with the table, or writes the table anew.
pub(crate) fn run(own: &Path, target: &Path, pinnace: &Path, write: bool) -> Result<()> {
    let place = own.join("async-nats");
    let skips = Skips::parse(&std::fs::read_to_string(place.join("skips.txt"))?)?;
    let (source, version) = source(own)?;
    let home = target.join("async-nats");
    copy(&source.join("tests"), &home.join("tests"))?;
    let all = tests_of(&source.join("tests"))?;
    let programs = build(&place)?;
    let path = path_with_launcher(target)?;
    let mut results = Results::new();
    for (file, program) in &programs {
        println!("    {file}");
        results.extend(run_file(file, program, &home, &path, pinnace)?);
    }
    results.retain(|test, _| !skips.depends_on_internet(test));
    let table = table(&version, &all, &programs, &results, &skips);
    judge(&all, &programs, &results, &skips)?;
    let pinned = place.join("results.md");
    if write {
        std::fs::write(&pinned, &table)?;
        println!("written: {}", pinned.display());
    } else if std::fs::read_to_string(&pinned).unwrap_or_default() != table {
        bail!(
            "the table is not the one in {}; write it with: cargo run -p conformance -- async-nats --write",
            pinned.display()
        );
    }
    let passed = results.values().filter(|passed| **passed).count();
    println!(
        "async-nats {version}: {passed} of {} tests pass, {} are skipped",
        all.len(),
        all.len() - passed
    );
    Ok(())
}

impl Skips {
    /// Lines of `file::test: reason`; `file::*` is the whole file.
    fn parse(text: &str) -> Result<Self> {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let skip = |line: &str| {
            let (name, reason) = line.split_once(": ")?;
            (!reason.is_empty()).then(|| (name.to_owned(), reason.to_owned()))
        };
        let skips = lines.map(|line| skip(line).with_context(|| format!("skips.txt: `{line}`")));
        Ok(Self(skips.collect::<Result<_>>()?))
    }

    /// Its result says more about the network than about Pinnace.
    fn depends_on_internet(&self, test: &str) -> bool {
        self.reason(test)
            .is_some_and(|reason| reason.starts_with("Internet: "))
    }

    fn reason(&self, test: &str) -> Option<&str> {
        let (file, _) = test.split_once("::").unwrap_or((test, ""));
        let matches = |name: &str| name == test || name.strip_suffix("::*") == Some(file);
        let found = self.0.iter().find(|(name, _)| matches(name));
        found.map(|(_, reason)| reason.as_str())
    }
}

/// Where the registry's source of the crate is, and its version.
fn source(own: &Path) -> Result<(PathBuf, String)> {
    let said = Command::new(cargo())
        .args(["metadata", "--format-version", "1"])
        .current_dir(own)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    let metadata: serde_json::Value = serde_json::from_slice(&said.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let package = packages
        .iter()
        .find(|package| package["name"] == "async-nats")
        .context("async-nats is no dependency any more")?;
    let manifest = package["manifest_path"].as_str().context("no manifest")?;
    let folder = Path::new(manifest).parent().context("no folder")?;
    let version = package["version"].as_str().unwrap_or_default().to_owned();
    Ok((folder.to_owned(), version))
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &place)?;
        } else if std::fs::read(&path)? != std::fs::read(&place).unwrap_or_default() {
            // Left alone when it is the same, so that nothing is built anew.
            std::fs::copy(&path, &place)?;
        }
    }
    Ok(())
}

/// Every test the suite holds, as `file::module::test` is known to its program: `file::test`.
fn tests_of(folder: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(file) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        if path.extension().is_some_and(|ending| ending == "rs") {
            let names = names(&std::fs::read_to_string(&path)?);
            all.extend(names.into_iter().map(|name| format!("{file}::{name}")));
        }
    }
    all.sort();
    Ok(all)
}

/// The functions that follow an attribute ending in `test]` or `test(…)]`.
fn names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        let attribute = line
            .strip_prefix("#[")
            .map(|rest| rest.split(['(', ']']).next());
        if let Some(Some(name)) = attribute {
            is_test |= name == "test" || name.ends_with("::test");
        } else if let Some((_, rest)) = line.split_once("fn ")
            && is_test
        {
            names.extend(rest.split(['(', '<']).next().map(str::to_owned));
            is_test = false;
        }
    }
    names
}

/// Builds the tests and says where each program is.
fn build(place: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let built = Command::new(cargo())
        .args([
            "test",
            "--no-run",
            "--locked",
            "--quiet",
            "--package",
            "suite",
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .env("CARGO_TARGET_DIR", place.join("../../target"))
        .current_dir(place)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    if !built.status.success() {
        bail!("the suite does not build");
    }
    let said = String::from_utf8(built.stdout)?;
    let program = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_test = message["target"]["kind"][0] == "test";
        let name = message["target"]["name"].as_str().filter(|_| is_test)?;
        let path = message["executable"].as_str()?;
        Some((name.to_owned(), PathBuf::from(path)))
    };
    Ok(said.lines().filter_map(program).collect())
}

/// The path of programs with this one in front, under the name tests call.
fn path_with_launcher(target: &Path) -> Result<std::ffi::OsString> {
    let folder = target.join("bin");
    std::fs::create_dir_all(&folder)?;
    let link = folder.join("nats-server");
    // One of an earlier build may point elsewhere.
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(std::env::current_exe()?, &link)?;
    let before = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder).chain(std::env::split_paths(&before));
    Ok(std::env::join_paths(folders)?)
}

fn run_file(
    file: &str,
    program: &Path,
    home: &Path,
    path: &std::ffi::OsStr,
    pinnace: &Path,
) -> Result<Results> {
    let log = home.join(format!("{file}.log"));
    let mut process = Command::new(program)
        .arg("--test-threads=4")
        .env("PATH", path)
        .env(launcher::PROGRAM, pinnace)
        .env("CARGO_MANIFEST_DIR", home)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::fs::File::create(&log)?))
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + PATIENCE;
    while process.try_wait()?.is_none() {
        if Instant::now() > deadline {
            process.kill()?;
            process.wait()?;
            bail!("{file} does not end; what it said is in {}", log.display());
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let mut said = String::new();
    std::fs::File::open(&log)?.read_to_string(&mut said)?;
    Ok(results(file, &said))
}

/// `test module::name ... ok` and its like.
fn results(file: &str, said: &str) -> Results {
    let result = |line: &str| {
        let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let name = name
            .trim_end_matches(" - should panic")
            .rsplit("::")
            .next()?;
        let passed = match verdict.trim() {
            "ok" => true,
            "FAILED" => false,
            _ => return None,
        };
        Some((format!("{file}::{name}"), passed))
    };
    said.lines().filter_map(result).collect()
}

fn judge(
    all: &[String],
    programs: &BTreeMap<String, PathBuf>,
    results: &Results,
    skips: &Skips,
) -> Result<()> {
    let mut wrong = Vec::new();
    for test in all {
        let (file, _) = test.split_once("::").unwrap_or((test, ""));
        match (results.get(test), skips.reason(test)) {
            (Some(true), None) | (Some(false), Some(_)) => {}
            (None, Some(_)) if !programs.contains_key(file) => {}
            (Some(false), None) => wrong.push(format!("{test} failed")),
            (Some(true), Some(_)) => {
                wrong.push(format!("{test} passes; take it out of skips.txt"));
            }
            (None, None) => wrong.push(format!("{test} was not run")),
            // Ignored by its own file, or left to the network.
            (None, Some(_)) => {}
        }
    }
    let known = |name: &String| {
        let file = name.strip_suffix("::*");
        all.iter().any(|test| {
            test == name || file.is_some_and(|file| test.split("::").next() == Some(file))
        })
    };
    let gone = skips
        .0
        .iter()
        .map(|(name, _)| name)
        .filter(|name| !known(name));
    wrong.extend(gone.map(|name| format!("{name} in skips.txt is no test")));
    wrong.iter().for_each(|line| println!("    {line}"));
    match wrong.len() {
        0 => Ok(()),
        count => bail!("{count} tests of async-nats are not as expected"),
    }
}

fn table(
    version: &str,
    all: &[String],
    programs: &BTreeMap<String, PathBuf>,
    results: &Results,
    skips: &Skips,
) -> String {
    let mut text = format!(
        "# The tests of async-nats {version} against Pinnace\n\n\
         Written by `cargo run -p conformance -- async-nats --write`; the reasons are in `skips.txt`.\n\n\
         | file | tests | passed | skipped |\n|---|---|---|---|\n"
    );
    let mut files: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for test in all {
        let (file, _) = test.split_once("::").unwrap_or((test, ""));
        let (count, passed) = files.entry(file).or_default();
        *count += 1;
        *passed += usize::from(results.get(test) == Some(&true));
    }
    for (file, (count, passed)) in &files {
        text += &format!("| {file} | {count} | {passed} | {} |\n", count - passed);
    }
    text += "\n| test | result |\n|---|---|\n";
    for file in files.keys().filter(|file| !programs.contains_key(**file)) {
        let reason = skips.reason(&format!("{file}::")).unwrap_or("not run");
        text += &format!("| {file} (all) | skipped: {reason} |\n");
    }
    for test in all {
        let (file, _) = test.split_once("::").unwrap_or((test, ""));
        if programs.contains_key(file) {
            let result = match results.get(test) {
                Some(true) => "passed".to_owned(),
                _ => format!("skipped: {}", skips.reason(test).unwrap_or("not run")),
            };
            text += &format!("| {test} | {result} |\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_in_a_source() {
        let text = "#[tokio::test]\nasync fn one() {\n    #[test]\n    #[cfg_attr(x, ignore)]\n    fn two() {}\nfn three() {}\n\
                    #[tokio::test(flavor = \"multi_thread\")]\npub async fn four() {}\n";
        assert_eq!(names(text), ["one", "two", "four"]);
    }

    #[test]
    fn what_a_test_program_says_is_read() {
        let said = "running 3 tests\ntest client::a ... ok\ntest client::b ... FAILED\n\
                    test c ... ignored\ntest d - should panic ... ok\n\nfailures:\n";
        let expected = [("f::a", true), ("f::b", false), ("f::d", true)];
        let expected = expected.map(|(name, passed)| (name.to_owned(), passed));
        assert_eq!(results("f", said), Results::from(expected));
    }

    #[test]
    fn only_what_is_listed_may_fail_and_has_to() {
        let all: Vec<String> = ["f::a", "f::b", "g::c"].map(str::to_owned).into();
        let programs = BTreeMap::from([("f".to_owned(), PathBuf::new())]);
        let skips = |text| Skips::parse(text).unwrap();
        let results = |a, b| Results::from([("f::a".to_owned(), a), ("f::b".to_owned(), b)]);
        for (list, a, b, right) in [
            ("f::b: why\ng::*: why\n", true, false, true),
            ("f::b: why\ng::*: why\n", true, true, false),
            ("g::*: why\n", true, false, false),
            ("f::b: why\n", true, false, false),
            ("f::b: why\ng::*: why\nf::gone: why\n", true, false, false),
        ] {
            let judged = judge(&all, &programs, &results(a, b), &skips(list));
            assert_eq!(judged.is_ok(), right, "{list} {a} {b}");
        }
        assert!(Skips::parse("f::a\n").is_err());
    }
}
