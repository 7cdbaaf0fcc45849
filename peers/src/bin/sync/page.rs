//! The tables and the page: medians over the rounds, and ratios taken within a round.
//!
//! Invariant: a ratio is Pinnace's figure over the peer's of the same round; the median is of those.
//! Round 0 gives bytes on the wire and nothing else.

use std::fmt::Write as _;

use peers::figures::{Spread, spread, table};

use super::live::{Followed, Samples};
use super::once::{Done, Figures, Run};
use super::tools::pinnace::NAME as OURS;
use super::{CaseRuns, FollowRun, Raw, Runs};

const MIB: f64 = 1_048_576.0;
const MB: f64 = 1e6;

const ONCE_HEAD: [&str; 11] = [
    "tool",
    "wall s",
    "and `sync` s",
    "CPU s client + server",
    "CPU s",
    "peak RSS MiB client + server",
    "wire MB up + down",
    "× wall",
    "× CPU",
    "× RSS client, server",
    "× wire",
];
const LIVE_HEAD: [&str; 9] = [
    "tool",
    "change",
    "n",
    "p50 ms",
    "p99 ms",
    "min … max ms",
    "CPU ms a change, client + server",
    "peak RSS MiB client + server",
    "× p50, p99",
];

/// One run, for who watches.
pub(crate) fn line(run: &Run) -> String {
    match (&run.figures, &run.error) {
        (Some(figures), _) => {
            let cells = cells(&[figures], figures.wire.map(|wire| wire.total()));
            format!("{}: {}", run.tool, cells.join(" | ")).replace("**", "")
        }
        (None, error) => {
            let error = error.as_deref().unwrap_or("nothing measured");
            format!("{}: FAILED: {error}", run.tool)
        }
    }
}

/// One tool of a live case, for who watches.
pub(crate) fn live_line(run: &FollowRun) -> String {
    match (&run.followed, &run.error) {
        (Some(followed), _) => {
            let all = followed.samples.iter().map(|samples| {
                let [p50, p99] = [0.5, 0.99].map(|share| quantile(&samples.times_ms, share));
                format!("{}: p50 {p50:.2}, p99 {p99:.2} ms", samples.kind)
            });
            let all: Vec<String> = all.collect();
            format!("{}: {}", run.tool, all.join("; "))
        }
        (None, error) => {
            let error = error.as_deref().unwrap_or("nothing measured");
            format!("{}: FAILED: {error}", run.tool)
        }
    }
}

/// The page.
pub(crate) fn page(raw: &Raw) -> String {
    let mut text = format!(
        "# The mirror, {}\n\nMachine: {}.\nCommand: `{}`; {} pairs, page cache {}.\n\
         How to read it: `../README.md`, section *The mirror*.\n\n",
        raw.date,
        raw.machine.line(),
        raw.command,
        raw.pairs,
        if raw.is_cold {
            "dropped before each run"
        } else {
            "warm"
        },
    );
    for (name, version) in &raw.tools {
        let _ = writeln!(text, "- {name}: {version}");
    }
    for (name, why) in &raw.missing {
        let _ = writeln!(text, "- {name}: not measured: {why}");
    }
    if let Some(way) = &raw.long_way {
        let _ = writeln!(
            text,
            "- the long way, as it was found: {:.1} ms there and back, {:.1} Mbit/s",
            way.round_trip_ms, way.rate_mbit
        );
    }
    text.push_str(&in_short(&raw.cases));
    for case in &raw.cases {
        let _ = write!(text, "\n## {}\n\n", case.name);
        text.push_str(&match &case.runs {
            Runs::Once(done) => once_table(done),
            Runs::Live(runs) => live_table(runs),
            Runs::Broken(why) => format!("**failed**: {why}\n"),
        });
        for note in &case.notes {
            let _ = writeln!(text, "\n{note}");
        }
    }
    text
}

/// Pinnace against the first peer of each case.
fn in_short(cases: &[CaseRuns]) -> String {
    let rows = cases.iter().filter_map(|case| {
        let Runs::Once(done) = &case.runs else {
            return None;
        };
        let rival = done.tools.iter().find(|tool| *tool != OURS)?;
        let ratio = |figure| show(ratio(done, rival, figure));
        let row = vec![
            case.name.clone(),
            rival.clone(),
            ratio(wall),
            ratio(synced),
            ratio(cpu),
        ];
        let row = [
            row,
            vec![
                ratio(client_rss),
                ratio(server_rss),
                show(wire_ratio(done, rival)),
            ],
        ];
        let row = row.concat();
        (row[2..].iter().any(|cell| !cell.is_empty())).then_some(row)
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "case",
        "beside",
        "wall",
        "and `sync`",
        "CPU",
        "client RSS",
        "server RSS",
        "wire",
    ];
    format!(
        "\n## Pinnace over its first peer\n\n{}",
        table(&head, &rows)
    )
}

fn once_table(done: &Done) -> String {
    let mut rows = Vec::new();
    let mut notes = String::new();
    for tool in done.tools.iter().map(String::as_str) {
        for run in done.runs.iter().filter(|run| run.tool == tool) {
            if let Some(error) = &run.error {
                let _ = writeln!(notes, "- {tool}, round {}: **failed**: {error}", run.round);
            }
        }
        let good: Vec<&Figures> = counted(done, tool).map(|(_, figures)| figures).collect();
        if good.is_empty() {
            continue;
        }
        let mut row = vec![tool.to_owned()];
        row.extend(cells(&good, wire(done, tool)));
        if tool == OURS {
            row.extend(["", "", "", ""].map(str::to_owned));
        } else {
            row.push(show(ratio(done, tool, wall)));
            row.push(show(ratio(done, tool, cpu)));
            let rss = [client_rss, server_rss].map(|figure| show(ratio(done, tool, figure)));
            row.push(if rss[0].is_empty() {
                String::new()
            } else {
                rss.join(", ")
            });
            row.push(show(wire_ratio(done, tool)));
        }
        rows.push(row);
    }
    let source = &done.source;
    let mut text = format!(
        "Source: {} entries, {:.1} MB.\n\n{}",
        source.entries,
        source.bytes as f64 / MB,
        table(&ONCE_HEAD, &rows)
    );
    if !notes.is_empty() {
        let _ = write!(text, "\n{notes}");
    }
    text
}

/// All columns but the name and the ratios.
fn cells(good: &[&Figures], wire_bytes: Option<u64>) -> Vec<String> {
    let of = |figure: fn(&Figures) -> f64| {
        spread(&good.iter().map(|one| figure(one)).collect::<Vec<_>>()).unwrap_or_default()
    };
    let wire = good.iter().find_map(|one| one.wire);
    let wire = wire.filter(|wire| Some(wire.total()) == wire_bytes);
    let digits = |spread: &Spread| if spread.median < 1.0 { 3 } else { 2 };
    let [wall, synced] = [of(wall), of(synced)];
    vec![
        wall.show(digits(&wall)),
        format!("{:.*}", digits(&synced), synced.median),
        format!(
            "{:.2} + {:.2}",
            of(|one| one.cpu_s.client).median,
            of(|one| one.cpu_s.server).median
        ),
        of(cpu).show(2),
        format!(
            "{:.1} + {:.1}",
            of(client_rss).median / MIB,
            of(server_rss).median / MIB
        ),
        match (wire, wire_bytes) {
            (Some(wire), _) => format!(
                "{:.3} + {:.3}",
                wire.up_bytes as f64 / MB,
                wire.down_bytes as f64 / MB
            ),
            (None, Some(bytes)) => format!("{:.3}", bytes as f64 / MB),
            (None, None) => String::new(),
        },
    ]
}

fn counted<'a>(done: &'a Done, tool: &'a str) -> impl Iterator<Item = (u32, &'a Figures)> {
    let of = move |run: &&Run| run.tool == tool && run.round > 0;
    done.runs
        .iter()
        .filter(of)
        .filter_map(|run| Some((run.round, run.figures.as_ref()?)))
}

/// Pinnace's figure over that of `tool`, within each round, then the median.
fn ratio(done: &Done, tool: &str, figure: fn(&Figures) -> f64) -> Option<f64> {
    let ratios = counted(done, OURS).filter_map(|(round, ours)| {
        let (_, theirs) = counted(done, tool).find(|(other, _)| *other == round)?;
        let divisor = figure(theirs);
        (divisor > 0.0).then(|| figure(ours) / divisor)
    });
    Some(spread(&ratios.collect::<Vec<_>>())?.median)
}

/// Bytes both ways in a run that could be counted, the median of them.
fn wire(done: &Done, tool: &str) -> Option<u64> {
    let runs = done.runs.iter().filter(|run| run.tool == tool);
    let mut all: Vec<u64> = runs
        .filter_map(|run| Some(run.figures?.wire?.total()))
        .collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

fn wire_ratio(done: &Done, tool: &str) -> Option<f64> {
    let theirs = wire(done, tool).filter(|bytes| *bytes > 0)?;
    Some(wire(done, OURS)? as f64 / theirs as f64)
}

fn wall(figures: &Figures) -> f64 {
    figures.wall_s
}

fn synced(figures: &Figures) -> f64 {
    figures.synced_s
}

fn cpu(figures: &Figures) -> f64 {
    figures.cpu_s.total()
}

fn client_rss(figures: &Figures) -> f64 {
    figures.peak_rss_bytes.client
}

fn server_rss(figures: &Figures) -> f64 {
    figures.peak_rss_bytes.server
}

/// A ratio: enough digits also where it is small.
fn show(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| {
        let digits = if ratio < 0.1 { 4 } else { 2 };
        format!("{ratio:.digits$}")
    })
}

fn live_table(runs: &[FollowRun]) -> String {
    let ours = runs.iter().find(|run| run.tool == OURS);
    let ours = ours.and_then(|run| run.followed.as_ref());
    let mut rows = Vec::new();
    let mut notes = String::new();
    for run in runs {
        if let Some(error) = &run.error {
            let _ = writeln!(notes, "- {}: **failed**: {error}", run.tool);
        }
        let Some(followed) = &run.followed else {
            continue;
        };
        let _ = writeln!(
            notes,
            "- {}: {} entries, equal {:.2} s after its start",
            run.tool, followed.entries, followed.settled_s
        );
        for samples in &followed.samples {
            rows.push(live_row(run, followed, samples, ours));
        }
    }
    format!("{}\n{notes}", table(&LIVE_HEAD, &rows))
}

fn live_row(
    run: &FollowRun,
    followed: &Followed,
    samples: &Samples,
    ours: Option<&Followed>,
) -> Vec<String> {
    let at = |share| quantile(&samples.times_ms, share);
    let changes: usize = followed
        .samples
        .iter()
        .map(|kind| kind.times_ms.len())
        .sum();
    let cpu_ms = |seconds: f64| seconds * 1e3 / changes.max(1) as f64;
    let same = |kind: &&Samples| kind.kind == samples.kind;
    let ours = ours.filter(|_| run.tool != OURS);
    let ours = ours.and_then(|ours| ours.samples.iter().find(same));
    let ratio = ours.map_or_else(String::new, |ours| {
        let ratio = |share| show(Some(quantile(&ours.times_ms, share) / at(share)));
        format!("{}, {}", ratio(0.5), ratio(0.99))
    });
    vec![
        run.tool.clone(),
        samples.kind.to_owned(),
        samples.times_ms.len().to_string(),
        format!("**{:.2}**", at(0.5)),
        format!("{:.2}", at(0.99)),
        format!("{:.2} … {:.2}", at(0.0), at(1.0)),
        format!(
            "{:.1} + {:.1}",
            cpu_ms(followed.cpu_s.client),
            cpu_ms(followed.cpu_s.server)
        ),
        format!(
            "{:.1} + {:.1}",
            followed.peak_rss_bytes.client / MIB,
            followed.peak_rss_bytes.server / MIB
        ),
        ratio,
    ]
}

/// The smallest time that is not exceeded by more than 1 - `share` of them; 0 when there are none.
fn quantile(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use peers::delay_proxy::Passed;

    use super::*;
    use crate::gauge::Sides;

    fn run(tool: &str, round: u32, wall_s: f64, up_bytes: Option<u64>) -> Run {
        let figures = Figures {
            wall_s,
            cpu_s: Sides {
                client: wall_s,
                server: wall_s,
            },
            wire: up_bytes.map(|up_bytes| Passed {
                up_bytes,
                down_bytes: 0,
            }),
            ..Figures::default()
        };
        Run {
            tool: tool.to_owned(),
            round,
            figures: Some(figures),
            error: None,
        }
    }

    fn done() -> Done {
        // The second round was disturbed: both were slower, the ratio was not.
        let runs = vec![
            run("rsync", 0, 900.0, Some(4_000_000)),
            run(OURS, 0, 9.0, Some(1_000_000)),
            run(OURS, 1, 1.0, None),
            run("rsync", 1, 2.0, None),
            run("rsync", 2, 20.0, None),
            run(OURS, 2, 10.0, None),
        ];
        Done {
            tools: [OURS, "rsync"].map(str::to_owned).to_vec(),
            runs,
            ..Done::default()
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_the_warm_up_gives_only_bytes() {
        let done = done();
        assert_eq!(ratio(&done, "rsync", wall), Some(0.5));
        assert_eq!(ratio(&done, "rsync", cpu), Some(0.5));
        // Memory that was not seen gives no ratio.
        assert_eq!(ratio(&done, "rsync", client_rss), None);
        assert_eq!(wire_ratio(&done, "rsync"), Some(0.25));
        let text = once_table(&done);
        assert!(
            text.contains("| rsync | **11.00** (2.00 … 20.00) |"),
            "{text}"
        );
        assert!(text.contains("| 4.000 | 0.50 | 0.50 |"), "{text}");
    }

    #[test]
    fn a_failed_run_is_said_and_has_no_figure() {
        let mut done = done();
        done.runs[5].figures = None;
        done.runs[5].error = Some("not equal: a".to_owned());
        assert!(once_table(&done).contains("round 2: **failed**: not equal: a"));
        assert_eq!(ratio(&done, "rsync", wall), Some(0.5));
        assert!(line(&done.runs[5]).contains("FAILED"));
    }

    #[test]
    fn quantiles_of_times_are_times() {
        let times: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let found = [0.0, 0.5, 0.99, 1.0].map(|share| quantile(&times, share));
        assert_eq!(found, [1.0, 100.0, 198.0, 200.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn live_ratios_are_of_the_same_change() {
        let followed = |factor: f64| Followed {
            entries: 3,
            settled_s: 1.0,
            samples: vec![Samples {
                kind: "saved",
                times_ms: vec![factor, 2.0 * factor],
            }],
            cpu_s: Sides::default(),
            peak_rss_bytes: Sides::default(),
        };
        let run = |tool: &str, factor| FollowRun {
            tool: tool.to_owned(),
            followed: Some(followed(factor)),
            error: None,
        };
        let text = live_table(&[run(OURS, 2.0), run("lsyncd", 1_000.0)]);
        assert!(text.contains("| 0.0020, 0.0020 |"), "{text}");
        assert!(live_line(&run(OURS, 2.0)).contains("p50 2.00"));
    }
}
