//! The cost of observing: the same rollover job by `pinnace bench`, `fio` and `dd`, interleaved.
//!
//! Each case has one warm-up round that is not counted and then rounds in which every side runs
//! once, in an order of its own. Ratios are taken within a round, so that what the machine did
//! meanwhile hits both sides; the medians of the ratios are the result.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use peers::figures::{Spread, spread, table};
use peers::limits::FILES_MAX;
use peers::machine::{Machine, version_of};
use peers::servers::{self, Served};
use peers::writers::dd::Dd;
use peers::writers::engine::Engine;
use peers::writers::fio::Fio;
use peers::writers::pinnace::Pinnace;
use peers::writers::{FILES_AT_ONCE, Outcome, Task, Writer};
use peers::{memory, results};
use pinnace_proto::units::parse_size;
use serde::Serialize;

/// Compare what it costs to write and observe a rollover job: pinnace bench, fio, dd.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program under test
    #[arg(long, default_value = "../target/release/pinnace")]
    pinnace: PathBuf,
    /// The engine's example program, for the side `engine`
    #[arg(long, default_value = "../target/release/examples/rollover")]
    engine: PathBuf,
    /// Sides, ours first: pinnace (offline), server (pinnace telling one), engine, fio, fio1, dd
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "pinnace,server,fio,fio1,dd"
    )]
    sides: Vec<String>,
    /// Directory on the file system under test; a folder is made in it and removed
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Cases, chunk/file or chunk/file/direct; files are multiples of the chunk
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1M/64M,10M/60M,40M/80M,1M/512M,10M/510M,40M/520M,10M/510M/direct"
    )]
    cases: Vec<String>,
    /// Rounds that count
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long pinnace writes in a round, milliseconds; the peers write as much
    #[arg(long, default_value_t = 3000)]
    run_ms: u64,
    /// Folder for the results; without it they are only printed
    #[arg(long)]
    results: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Case {
    label: String,
    chunk_bytes: u64,
    file_bytes: u64,
    direct: bool,
}

/// All runs of one case: side, then its rounds in order.
#[derive(Debug, Serialize)]
struct Measured {
    case: String,
    files_of_peers: u64,
    sides: BTreeMap<String, Vec<Outcome>>,
}

#[derive(Serialize)]
struct Raw<'a> {
    date: String,
    machine: &'a Machine,
    versions: &'a [String],
    run_ms: u64,
    cases: &'a [Measured],
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    arguments.dir = arguments.dir.canonicalize().context("--dir")?;
    let cases: Vec<Case> = arguments
        .cases
        .iter()
        .map(|text| parse_case(text))
        .collect::<Result<_>>()?;
    let machine = Machine::here(&arguments.dir);
    let data = tempfile::tempdir_in(&arguments.dir)?;
    let (mut sides, server) = sides(&arguments, data.path())?;
    let mut measured = Vec::new();
    let mut out = std::io::stdout();
    for case in &cases {
        let done = measure(case, &arguments, &mut sides)?;
        writeln!(out, "{}", section(&done))?;
        measured.push(done);
    }
    drop(sides);
    server.map_or(Ok(()), Served::end)?;
    if let Some(folder) = &arguments.results {
        let programs = [
            arguments.pinnace.as_path(),
            Path::new("fio"),
            Path::new("dd"),
        ];
        let versions = programs.map(version_of);
        let raw = Raw {
            date: results::today(),
            machine: &machine,
            versions: &versions,
            run_ms: arguments.run_ms,
            cases: &measured,
        };
        let page = page(&raw, arguments.rounds);
        results::write(folder, "rollover", &page, &raw)?;
    }
    Ok(())
}

fn parse_case(text: &str) -> Result<Case> {
    let mut words = text.split('/');
    let mut size = || -> Result<u64> {
        let word = words
            .next()
            .with_context(|| format!("case `{text}`: chunk/file[/direct]"))?;
        Ok(parse_size(word)?)
    };
    let (chunk_bytes, file_bytes) = (size()?, size()?);
    let direct = match words.next() {
        None => false,
        Some("direct") => true,
        Some(other) => anyhow::bail!("case `{text}`: `{other}` is not `direct`"),
    };
    ensure!(
        file_bytes.is_multiple_of(chunk_bytes),
        "case `{text}`: fio writes whole chunks only, so a file must be a multiple of the chunk"
    );
    Ok(Case {
        label: text.to_owned(),
        chunk_bytes,
        file_bytes,
        direct,
    })
}

type Sides = Vec<Box<dyn Writer>>;

/// The sides in the order of the tables, ours first, and the server one of them talks to.
fn sides(arguments: &Arguments, data: &Path) -> Result<(Sides, Option<Served>)> {
    let mut sides: Sides = Vec::new();
    let mut server = None;
    let program = || arguments.pinnace.canonicalize().context("--pinnace");
    for side in &arguments.sides {
        sides.push(match side.as_str() {
            "pinnace" => Box::new(Pinnace {
                program: program()?,
                server: None,
            }),
            "server" => {
                let started = servers::pinnace::start(&program()?, data)?;
                let url = format!("http://{}", started.http);
                server = Some(started);
                Box::new(Pinnace {
                    program: program()?,
                    server: Some(url),
                })
            }
            "engine" => Box::new(Engine {
                program: arguments.engine.canonicalize().context("--engine")?,
            }),
            "fio" => Box::new(Fio {
                files_per_loop: FILES_AT_ONCE,
            }),
            "fio1" => Box::new(Fio { files_per_loop: 1 }),
            "dd" => Box::new(Dd),
            other => anyhow::bail!("--sides: there is no side `{other}`"),
        });
    }
    ensure!(
        sides
            .first()
            .is_some_and(|side| OURS.contains(&side.name())),
        "--sides: the first is to be ours, its warm-up says how many files there are to write"
    );
    Ok((sides, server))
}

/// Files that count, as a share of what pinnace wrote in the warm-up: so that a slower run of it
/// usually completes them too.
const COUNT_SHARE: f64 = 0.7;

/// One warm-up round, which also says how many files the peers are to write, then the rounds.
fn measure(case: &Case, arguments: &Arguments, sides: &mut Sides) -> Result<Measured> {
    // Until the warm-up has said how many: all that pinnace completes in its time.
    let mut files = FILES_MAX;
    let mut measured: BTreeMap<String, Vec<Outcome>> = BTreeMap::new();
    let count = sides.len();
    for round in 0..=arguments.rounds {
        for (turn, index) in order(count, round).into_iter().enumerate() {
            let side = &mut sides[index];
            let folder = tempfile::tempdir_in(&arguments.dir)?;
            rustix::fs::sync();
            memory::prewarm((FILES_AT_ONCE + 1) * case.file_bytes + case.chunk_bytes);
            let outcome = side
                .run(&Task {
                    folder: folder.path(),
                    chunk_bytes: case.chunk_bytes,
                    file_bytes: case.file_bytes,
                    direct: case.direct,
                    run_time: Duration::from_millis(arguments.run_ms),
                    files,
                })
                .with_context(|| format!("{}, {}", case.label, side.name()))?;
            if round > 0 {
                measured
                    .entry(side.name().to_owned())
                    .or_default()
                    .push(outcome);
            } else if turn == 0 {
                let rate = outcome.bytes as f64 / outcome.seconds;
                let bytes = rate * arguments.run_ms as f64 / 1e3 * COUNT_SHARE;
                // Whole rounds of fio's three files.
                let loops = (bytes / (FILES_AT_ONCE * case.file_bytes) as f64).round() as u64;
                files = (loops * FILES_AT_ONCE).clamp(FILES_AT_ONCE, FILES_MAX);
            }
        }
    }
    Ok(Measured {
        case: case.label.clone(),
        files_of_peers: files,
        sides: measured,
    })
}

/// The order of the sides in a round. The warm-up goes in order: ours says how many files there are to
/// write. Later rounds change who comes first and who comes after whom, since a run also inherits the
/// memory and the disk that the one before it left.
fn order(count: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut random = round as u64;
    for last in (1..count).rev().filter(|_| round > 0) {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (random >> 33) as usize % (last + 1));
    }
    order
}

/// The sides that are ours; all others are peers.
const OURS: [&str; 3] = ["pinnace", "pinnace, server", "engine alone"];

fn series(runs: &[Outcome], figure: impl Fn(&Outcome) -> Option<f64>) -> Option<Spread> {
    let values: Option<Vec<f64>> = runs.iter().map(figure).collect();
    spread(&values?)
}

/// Ratios of one side to another, round by round.
fn ratios(
    ours: &[Outcome],
    theirs: &[Outcome],
    figure: impl Fn(&Outcome) -> Option<f64>,
) -> Option<Spread> {
    let pairs = ours.iter().zip(theirs);
    let values: Option<Vec<f64>> = pairs.map(|(a, b)| Some(figure(a)? / figure(b)?)).collect();
    spread(&values?)
}

/// The tables of one case.
fn section(measured: &Measured) -> String {
    let show = |spread: Option<Spread>| spread.map_or("–".to_owned(), |spread| spread.show(3));
    let rate = |run: &Outcome| Some(run.gib_per_second());
    let process_cpu = |run: &Outcome| Some(run.process_cpu_per_gib());
    let rows: Vec<Vec<String>> = measured
        .sides
        .iter()
        .map(|(side, runs)| {
            vec![
                side.clone(),
                show(series(runs, rate)),
                show(series(runs, Outcome::thread_cpu_per_gib)),
                show(series(runs, process_cpu)),
            ]
        })
        .collect();
    let mut compared = Vec::new();
    for (ours, runs) in measured
        .sides
        .iter()
        .filter(|(side, _)| OURS.contains(&side.as_str()))
    {
        for (peer, theirs) in &measured.sides {
            if !OURS.contains(&peer.as_str()) {
                compared.push(vec![
                    format!("{ours} / {peer}"),
                    show(ratios(runs, theirs, rate)),
                    show(ratios(runs, theirs, Outcome::thread_cpu_per_gib)),
                    show(ratios(runs, theirs, process_cpu)),
                ]);
            }
        }
    }
    format!(
        "## {} ({} files a round)\n\n{}\n{}",
        measured.case,
        measured.files_of_peers,
        table(
            &[
                "side",
                "GiB/s",
                "writing thread, CPU s/GiB",
                "process, CPU s/GiB"
            ],
            &rows
        ),
        table(
            &["ratio", "throughput", "writing thread CPU", "process CPU"],
            &compared
        ),
    )
}

fn page(raw: &Raw<'_>, rounds: usize) -> String {
    let sections: Vec<String> = raw.cases.iter().map(section).collect();
    format!(
        "# Rollover: the cost of observing, {}\n\nMachine: {}.\nVersions: {}.\n\
         Every figure: **median** (min … max) of {rounds} rounds after a warm-up; ratios are taken \
         within a round. How to read it: `../README.md`.\n\n{}",
        raw.date,
        raw.machine.line(),
        raw.versions.join(", "),
        sections.join("\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_runs_once_a_round_and_not_always_after_the_same() {
        assert_eq!(order(5, 0), [0, 1, 2, 3, 4]);
        let mut pairs = std::collections::HashSet::new();
        for round in 1..=5 {
            let order = order(5, round);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
            pairs.extend(order.windows(2).map(|pair| (pair[0], pair[1])));
        }
        // Five rounds of four neighbours; a mere rotation would know five pairs.
        assert!(pairs.len() >= 12, "{pairs:?}");
    }

    #[test]
    fn cases_are_checked() {
        let case = parse_case("10M/60M/direct").unwrap();
        assert_eq!(
            (case.chunk_bytes, case.file_bytes, case.direct),
            (10 << 20, 60 << 20, true)
        );
        for bad in ["10M", "10M/64M", "10M/60M/sync", "x/60M"] {
            assert!(parse_case(bad).is_err(), "{bad}");
        }
    }
}
