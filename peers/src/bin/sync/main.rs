//! The mirror side by side: `pinnace sync` beside rsync with its daemon, lsyncd and syncthing, on this
//! machine, over loopback or over a long way made of our own proxy.
//!
//! A run whose copy is not equal has no figure. The program fails when one of Pinnace's is so.

mod cases;
mod gauge;
mod inputs;
mod live;
mod once;
mod oracle;
mod page;
mod rdiff;
mod scene;
mod tools;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cases::{Case, Change, LONG_WAY, LiveCase, OnceCase, Work};
use clap::Parser;
use inputs::Inputs;
use live::Followed;
use once::{Bench, Done, Run};
use peers::delay_proxy::{self, Checked};
use peers::machine::Machine;
use peers::results;
use serde::Serialize;
use tools::lsyncd::Lsyncd;
use tools::pinnace::{NAME as OURS, Pinnace};
use tools::rsync::Rsync;
use tools::syncthing::Syncthing;
use tools::{Live, Once};

/// Found by the check, the long way may differ so much from what it should be.
const WAY_TOLERANCE: f64 = 0.1;

/// Measure mirrors side by side.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program under test
    #[arg(long, default_value = "../target/release/pinnace")]
    pinnace: PathBuf,
    /// An unpacked tree of source code
    #[arg(long)]
    tree: Option<PathBuf>,
    /// Another release of the same
    #[arg(long)]
    tree2: Option<PathBuf>,
    /// Folder whose content fills the big file up
    #[arg(long, default_value = "/usr")]
    filler: PathBuf,
    /// Directory for inputs, which stay, and copies, which are removed at the end
    #[arg(long, default_value = "target/sync")]
    scratch: PathBuf,
    /// Cases to run, by the beginning of their names; all without it. `--list` names them
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Tools to run, by the beginning of their names; all that are installed without it
    #[arg(long, value_delimiter = ',')]
    tools: Vec<String>,
    /// Measured runs of each case and tool, in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,
    /// Changes of each kind in a live case; a twentieth of it where something large is renamed
    #[arg(long, default_value_t = 200)]
    samples: usize,
    /// Drop the page cache before each run
    #[arg(long)]
    cold: bool,
    /// Do not compare the copies
    #[arg(long)]
    no_verify: bool,
    /// Directory of the tree that gets another name
    #[arg(long, default_value = "drivers/gpu")]
    rename_dir: PathBuf,
    /// Size of the big file, MiB
    #[arg(long, default_value_t = 2048)]
    big_mib: u64,
    /// Files of 4 KiB in the case `small`
    #[arg(long, default_value_t = 100_000)]
    small_files: u64,
    /// Entries in the case `memory`
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// Names the cases and ends
    #[arg(long)]
    list: bool,
    /// Folder for the results; without it they are only printed
    #[arg(long)]
    results: Option<PathBuf>,
    /// Added to the names of the result files
    #[arg(long, default_value = "")]
    label: String,
}

/// Runs of a case.
#[derive(Debug, Serialize)]
enum Runs {
    /// Until the copy is equal.
    Once(Done),
    /// While it follows.
    Live(Vec<FollowRun>),
    /// Nothing could be measured, and why.
    Broken(String),
}

/// One tool in a live case.
#[derive(Debug, Serialize)]
struct FollowRun {
    tool: String,
    followed: Option<Followed>,
    error: Option<String>,
}

/// A case with its runs.
#[derive(Debug, Serialize)]
struct CaseRuns {
    name: String,
    runs: Runs,
    notes: Vec<String>,
}

/// Everything a page is made from.
#[derive(Debug, Serialize)]
struct Raw {
    date: String,
    machine: Machine,
    command: String,
    pairs: u32,
    is_cold: bool,
    /// Name and version.
    tools: Vec<(String, String)>,
    /// Name and why it was not measured.
    missing: Vec<(String, String)>,
    long_way: Option<Checked>,
    cases: Vec<CaseRuns>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let chosen = cases::chosen(&arguments.cases)?;
    if arguments.list {
        for case in &chosen {
            writeln!(std::io::stdout(), "{}", case.name)?;
        }
        return Ok(());
    }
    let raw = measure(&arguments, &chosen)?;
    let page = page::page(&raw);
    writeln!(std::io::stdout(), "{page}")?;
    if let Some(folder) = &arguments.results {
        let label = &arguments.label;
        let name = format!("sync{}{label}", if label.is_empty() { "" } else { "-" });
        results::write(folder, &name, &page, &raw)?;
    }
    let failures = raw.cases.iter().map(failures).sum::<usize>();
    ensure!(
        failures == 0,
        "{failures} runs of {OURS} or whole cases failed"
    );
    Ok(())
}

/// Whole cases and runs of Pinnace that failed; a peer's failure is said in the table.
fn failures(case: &CaseRuns) -> usize {
    match &case.runs {
        Runs::Once(done) => {
            let failed = |run: &&Run| run.tool == OURS && run.error.is_some();
            done.runs.iter().filter(failed).count()
        }
        Runs::Live(runs) => {
            let failed = |run: &&FollowRun| run.tool == OURS && run.error.is_some();
            runs.iter().filter(failed).count()
        }
        Runs::Broken(_) => 1,
    }
}

fn measure(arguments: &Arguments, cases: &[Case]) -> Result<Raw> {
    std::fs::create_dir_all(&arguments.scratch)?;
    let scratch = arguments.scratch.canonicalize().context("--scratch")?;
    // On the same file system as the inputs; it goes with this value, also when something fails.
    let folder = tempfile::Builder::new()
        .prefix("runs-")
        .tempdir_in(&scratch)?;
    let bench = bench(arguments, &scratch, folder.path())?;
    let mut raw = Raw {
        date: results::today(),
        machine: Machine::here(&scratch),
        command: command_line(),
        pairs: arguments.pairs,
        is_cold: arguments.cold,
        tools: Vec::new(),
        missing: Vec::new(),
        long_way: None,
        cases: Vec::new(),
    };
    let is_delayed = |case: &Case| matches!(case.work, Work::Once(once) if once.way.is_some());
    if cases.iter().any(is_delayed) {
        raw.long_way = Some(checked_way()?);
    }
    for case in cases {
        tell(&format!("== {}", case.name))?;
        let folder = folder.path().join(case.name.replace('/', "-"));
        let done = match case.work {
            Work::Once(once) => run_once(arguments, &bench, &once, &folder, &mut raw),
            Work::Live(live) => run_live(arguments, &bench, live, &folder, &mut raw),
        };
        // What the cases before it found is not lost with it.
        let (runs, notes) = done.or_else(|error| {
            let said = bench.said(&error);
            tell(&said)?;
            anyhow::Ok((Runs::Broken(said), Vec::new()))
        })?;
        raw.cases.push(CaseRuns {
            name: case.name.clone(),
            runs,
            notes,
        });
    }
    Ok(raw)
}

fn bench(arguments: &Arguments, scratch: &Path, folder: &Path) -> Result<Bench> {
    let given = |tree: &Option<PathBuf>, option: &'static str| {
        let path = tree.as_ref().map(|tree| tree.canonicalize());
        path.transpose().context(option)
    };
    let tree = given(&arguments.tree, "--tree")?;
    let tree2 = given(&arguments.tree2, "--tree2")?;
    // What was cut from other trees is another input.
    let mut cut_from = DefaultHasher::new();
    (&tree, &tree2, &arguments.filler).hash(&mut cut_from);
    Ok(Bench {
        inputs: Inputs {
            kept: scratch.join(format!("inputs-{:016x}", cut_from.finish())),
            tree,
            tree2,
            filler: arguments.filler.clone(),
            big_bytes: arguments.big_mib << 20,
            small_files: arguments.small_files,
            million_entries: arguments.entries,
        },
        folder: folder.to_owned(),
        pairs: arguments.pairs,
        is_cold: arguments.cold,
        is_verified: !arguments.no_verify,
        renamed: arguments.rename_dir.clone(),
        samples: arguments.samples,
    })
}

fn run_once(
    arguments: &Arguments,
    bench: &Bench,
    once: &OnceCase,
    folder: &Path,
    raw: &mut Raw,
) -> Result<(Runs, Vec<String>)> {
    let mut tools: Vec<Box<dyn Once>> = vec![Box::new(Pinnace {
        program: program(arguments),
        durability: once.durability,
    })];
    for flags in once.rivals {
        tools.push(Box::new(Rsync { flags }));
    }
    tools.retain(|tool| is_present(arguments, (tool.name(), tool.version()), raw));
    let mut failed = Ok(());
    let done = once::run(bench, once, &tools, folder, |run| {
        let told = tell(&format!("{} {}", run.round, page::line(run)));
        if told.is_err() {
            failed = told;
        }
    })?;
    failed?;
    let files = match once.change {
        Change::Tar => Some(bench.inputs.tars()?),
        Change::Inserted if once.way.is_none() => {
            Some([bench.inputs.big()?, bench.inputs.inserted()?])
        }
        _ => None,
    };
    let note = files
        .map(|files| rdiff::line(&files, &bench.folder))
        .transpose()?;
    Ok((Runs::Once(done), note.flatten().into_iter().collect()))
}

fn run_live(
    arguments: &Arguments,
    bench: &Bench,
    live: LiveCase,
    folder: &Path,
    raw: &mut Raw,
) -> Result<(Runs, Vec<String>)> {
    let mut tools: Vec<Box<dyn Live>> = vec![
        Box::new(Pinnace {
            program: program(arguments),
            durability: "none",
        }),
        Box::new(Lsyncd),
        Box::new(Syncthing),
    ];
    tools.retain(|tool| is_present(arguments, (tool.name(), tool.version()), raw));
    let mut runs = Vec::new();
    for tool in &tools {
        let followed = live::run(bench, live, tool.as_ref(), &folder.join(tool.name()));
        let run = FollowRun {
            tool: tool.name(),
            error: followed.as_ref().err().map(|error| bench.said(error)),
            followed: followed.ok(),
        };
        tell(&page::live_line(&run))?;
        runs.push(run);
    }
    Ok((Runs::Live(runs), Vec::new()))
}

/// Whether a tool is wanted and installed; notes what there is to know of it once.
fn is_present(
    arguments: &Arguments,
    (name, version): (String, Result<String>),
    raw: &mut Raw,
) -> bool {
    let wanted = &arguments.tools;
    if !wanted.is_empty() && !wanted.iter().any(|word| name.starts_with(word.as_str())) {
        return false;
    }
    let is_there = version.is_ok();
    let (list, said) = match version {
        Ok(version) => (&mut raw.tools, version),
        Err(error) => (&mut raw.missing, format!("{error:#}")),
    };
    let line = (name, said);
    if !list.contains(&line) {
        list.push(line);
    }
    is_there
}

fn program(arguments: &Arguments) -> PathBuf {
    let program = &arguments.pinnace;
    program.canonicalize().unwrap_or_else(|_| program.clone())
}

/// The long way, measured before anything goes through it.
fn checked_way() -> Result<Checked> {
    let found = delay_proxy::check(LONG_WAY)?;
    let expected_ms = LONG_WAY.delay.as_secs_f64() * 2e3;
    let expected_mbit = LONG_WAY.rate_bits.unwrap_or(0) as f64 / 1e6;
    let is_near = |found: f64, expected: f64| (found / expected - 1.0).abs() <= WAY_TOLERANCE;
    ensure!(
        is_near(found.round_trip_ms, expected_ms) && is_near(found.rate_mbit, expected_mbit),
        "the long way is {found:?}, not {expected_ms} ms and {expected_mbit} Mbit/s"
    );
    Ok(found)
}

fn tell(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "{line}")?)
}

/// What was typed, without the paths of the machine.
fn command_line() -> String {
    let words = std::env::args().skip(1);
    let words = words.map(|word| match word.rsplit_once('/') {
        Some((_, name)) if word.starts_with('/') => name.to_owned(),
        _ => word,
    });
    let words: Vec<String> = std::iter::once("target/release/sync".to_owned())
        .chain(words)
        .collect();
    words.join(" ")
}
