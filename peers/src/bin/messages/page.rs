//! The table and the page: medians over the rounds, and ratios taken within a round.
//!
//! Invariant: a ratio is Pinnace's figure over the peer's of the same round; the median is of those.

use std::fmt::Write as _;

use anyhow::Result;
use peers::figures::{Spread, spread, table};
use peers::load::Figures;

use super::cases::Case;
use super::{Raw, Run};

const OURS: &str = "pinnace";
const MIB: f64 = 1_048_576.0;

const HEAD: [&str; 12] = [
    "server",
    "k msg/s",
    "k delivered/s",
    "server CPU s per M",
    "per M delivered",
    "p50 / p99 µs",
    "from due p50 / p99 µs",
    "peak RSS MiB",
    "generator CPUs",
    "× rate",
    "× CPU",
    "× p50 / p99",
];

/// One run, for who watches.
pub(crate) fn line(case: &Case, server: &str, done: &Result<Figures>) -> String {
    match done {
        Ok(figures) => {
            let row = cells(&[figures]);
            format!("{} {server}: {}", case.name, row.join(" | ")).replace("**", "")
        }
        Err(error) => format!("{} {server}: FAILED: {error:#}", case.name),
    }
}

/// The page.
pub(crate) fn page(raw: &Raw) -> String {
    let mut text = format!(
        "# Messages, {}\n\nMachine: {}.\nCommand: `{}`; {} rounds in turns, each run on a freshly started \
         server{}.\nHow to read it: `../README.md`.\n\n",
        raw.date,
        raw.machine.line(),
        raw.command,
        raw.rounds,
        if raw.one_core {
            ", server on the first CPU, generator on the second"
        } else {
            ""
        },
    );
    for (name, version) in &raw.servers {
        let _ = writeln!(text, "- {name}: {version}");
    }
    for (name, why) in &raw.missing {
        let _ = writeln!(text, "- {name}: not measured: {why}");
    }
    let mut cases: Vec<&str> = raw.runs.iter().map(|run| run.case.as_str()).collect();
    cases.dedup();
    for case in &cases {
        let _ = write!(text, "\n## {case}\n\n{}", case_table(raw, case));
    }
    text.push_str(&stuck(raw));
    text
}

fn runs<'a>(raw: &'a Raw, case: &'a str, server: &'a str) -> impl Iterator<Item = &'a Run> {
    let of = move |run: &&Run| run.case == case && run.server == server;
    raw.runs.iter().filter(of)
}

fn case_table(raw: &Raw, case: &str) -> String {
    let mut rows = Vec::new();
    let mut notes = String::new();
    for (server, _) in &raw.servers {
        let all: Vec<&Run> = runs(raw, case, server).collect();
        let good: Vec<&Figures> = all.iter().filter_map(|run| run.figures.as_ref()).collect();
        for run in &all {
            let figures = run.figures.as_ref();
            let note = run.error.as_ref().or(figures.map(|figures| &figures.note));
            if let Some(note) = note.filter(|note| !note.is_empty()) {
                let _ = writeln!(notes, "- {server}, round {}: {note}", run.round);
            }
        }
        if good.is_empty() {
            continue;
        }
        let mut row = vec![(*server).to_owned()];
        row.extend(cells(&good));
        let ours = |figure: fn(&Figures) -> Option<f64>| ratio(raw, case, server, figure);
        row.push(show(ours(rate), 2));
        row.push(show(ours(cpu_per_million), 2));
        let quantile = [ours(p50), ours(p99)].map(|ratio| show(ratio, 2));
        row.push(if quantile[0].is_empty() {
            String::new()
        } else {
            quantile.join(" / ")
        });
        rows.push(row);
    }
    let mut text = table(&HEAD, &rows);
    if let Some(memory) = memory(raw, case) {
        let _ = write!(text, "\n{memory}");
    }
    if !notes.is_empty() {
        let _ = write!(text, "\n{notes}");
    }
    text
}

/// All columns but the name and the ratios.
fn cells(good: &[&Figures]) -> Vec<String> {
    let of = |figure: fn(&Figures) -> Option<f64>| {
        spread(
            &good
                .iter()
                .filter_map(|one| figure(one))
                .collect::<Vec<_>>(),
        )
    };
    let both = |figures: [Option<Spread>; 2]| match figures {
        [Some(first), Some(second)] => format!("{:.0} / {:.0}", first.median, second.median),
        _ => String::new(),
    };
    let thousands = |spread: Option<Spread>| {
        spread.map_or_else(String::new, |spread| {
            let digits = if spread.median < 100.0 { 2 } else { 0 };
            spread.show(digits)
        })
    };
    vec![
        thousands(of(|one| rate(one).map(|rate| rate / 1e3))),
        thousands(of(|one| {
            (one.delivered > 0).then(|| one.delivered as f64 / one.seconds / 1e3)
        })),
        of(cpu_per_million).map_or_else(String::new, |cpu| cpu.show(3)),
        median(of(|one| {
            let cpu = one.server_cpu_s * 1e6 / one.delivered as f64;
            (one.delivered > 0).then_some(cpu)
        })),
        both([of(p50), of(p99)]),
        both([
            of(|one| one.from_due.map(|times| times.p50_us)),
            of(|one| one.from_due.map(|times| times.p99_us)),
        ]),
        of(|one| Some(one.peak_rss_bytes as f64 / MIB))
            .map_or_else(String::new, |spread| format!("{:.1}", spread.median)),
        of(|one| Some(one.generator_cpu_s / one.seconds))
            .map_or_else(String::new, |spread| format!("{:.2}", spread.median)),
    ]
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |spread| format!("{:.3}", spread.median))
}

fn show(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.digits$}"))
}

fn rate(figures: &Figures) -> Option<f64> {
    (figures.seconds > 0.0).then(|| figures.published as f64 / figures.seconds)
}

fn cpu_per_million(figures: &Figures) -> Option<f64> {
    (figures.published > 0).then(|| figures.server_cpu_s * 1e6 / figures.published as f64)
}

fn p50(figures: &Figures) -> Option<f64> {
    figures.from_send.map(|times| times.p50_us)
}

fn p99(figures: &Figures) -> Option<f64> {
    figures.from_send.map(|times| times.p99_us)
}

/// Pinnace's figure over that of `server`, within each round, then the median; none for itself.
fn ratio(raw: &Raw, case: &str, server: &str, figure: fn(&Figures) -> Option<f64>) -> Option<f64> {
    if server == OURS {
        return None;
    }
    over(raw, (case, OURS), (case, server), figure)
}

/// The median over the rounds of the first's figure over the second's.
fn over(
    raw: &Raw,
    (case, server): (&str, &str),
    (other_case, other_server): (&str, &str),
    figure: fn(&Figures) -> Option<f64>,
) -> Option<f64> {
    let ratios: Vec<f64> = runs(raw, case, server)
        .filter_map(|ours| {
            let mut theirs = runs(raw, other_case, other_server);
            let theirs = theirs.find(|theirs| theirs.round == ours.round)?;
            let divisor = figure(theirs.figures.as_ref()?)?;
            let value = figure(ours.figures.as_ref()?)?;
            (divisor > 0.0).then(|| value / divisor)
        })
        .collect();
    Some(spread(&ratios)?.median)
}

/// What a connection costs, where that was asked.
fn memory(raw: &Raw, case: &str) -> Option<String> {
    let mut rows = Vec::new();
    for (server, _) in &raw.servers {
        let of = |figure: fn(&Figures) -> Option<f64>| {
            let values = runs(raw, case, server).filter_map(|run| figure(run.figures.as_ref()?));
            spread(&values.collect::<Vec<_>>())
        };
        let each = |figure: fn(&Figures) -> Option<f64>, unit: f64| {
            of(figure).map(|spread| format!("{:.2}", spread.median / unit))
        };
        let rss = each(
            |one| {
                one.memory
                    .map(|m| m.rss_bytes as f64 / m.connections as f64)
            },
            1024.0,
        );
        let pss = each(
            |one| {
                one.memory
                    .map(|m| m.pss_bytes as f64 / m.connections as f64)
            },
            1024.0,
        );
        let all = each(|one| one.memory.map(|m| m.pss_all_bytes as f64), MIB);
        if let (Some(rss), Some(pss), Some(all)) = (rss, pss, all) {
            rows.push(vec![(*server).to_owned(), rss, pss, all]);
        }
    }
    let head = [
        "server",
        "RSS KiB a connection",
        "PSS KiB a connection",
        "PSS MiB in all",
    ];
    (!rows.is_empty()).then(|| table(&head, &rows))
}

/// What one stuck reader takes from the others: the same server with it and without.
fn stuck(raw: &Raw) -> String {
    let mut rows = Vec::new();
    for (server, _) in &raw.servers {
        let ratio = |kind: &str, figure: fn(&Figures) -> Option<f64>| {
            let with = format!("stuck/{kind}/with");
            let without = format!("stuck/{kind}/without");
            over(raw, (&with, server), (&without, server), figure)
        };
        let row = [
            ratio("flood", rate),
            ratio("rate1000", p50),
            ratio("rate1000", p99),
        ];
        if row.iter().any(Option::is_some) {
            let shown = row.map(|value| show(value, 2));
            let mut cells = vec![(*server).to_owned()];
            cells.extend(shown);
            rows.push(cells);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let head = ["server", "rate", "p50", "p99"];
    format!(
        "\n## One stuck reader among 100: with it over without it\n\n{}",
        table(&head, &rows)
    )
}

#[cfg(test)]
mod tests {
    use peers::machine::Machine;

    use super::*;

    fn run(server: &'static str, round: u32, published: u64, cpu: f64) -> Run {
        Run {
            case: "1to1/16".to_owned(),
            server,
            round,
            figures: Some(Figures {
                published,
                seconds: 1.0,
                server_cpu_s: cpu,
                ..Figures::default()
            }),
            error: None,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The second round was disturbed: both were slower, the ratio was not.
        let raw = Raw {
            date: String::new(),
            machine: Machine::here(std::path::Path::new("/")),
            command: String::new(),
            rounds: 2,
            seconds: 1.0,
            one_core: false,
            servers: vec![("pinnace", String::new()), ("other", String::new())],
            missing: Vec::new(),
            runs: vec![
                run("pinnace", 1, 3_000_000, 0.3),
                run("other", 1, 1_000_000, 0.4),
                run("pinnace", 2, 300_000, 0.03),
                run("other", 2, 100_000, 0.04),
            ],
        };
        let found = |figure| ratio(&raw, "1to1/16", "other", figure).unwrap();
        assert!((found(rate) - 3.0).abs() < 1e-9);
        assert!((found(cpu_per_million) - 0.25).abs() < 1e-9);
        assert_eq!(ratio(&raw, "1to1/16", "pinnace", rate), None);
        assert!(page(&raw).contains("| other | "));
    }
}
