//! The same scripts to the reference server and to Pinnace, and the transcripts compared.
//!
//! Invariant: scripts run one after another on each server, so a script sees nobody but itself; the two
//! servers run side by side and know nothing of each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::differences::{self, Intended, Verdict};
use crate::play::play;
use crate::script::Script;
use crate::servers::{Kind, Programs, Server};

/// Fewer scripts than this are a folder that was not found.
const SCRIPTS_MIN: usize = 150;

type Transcripts = BTreeMap<String, Vec<String>>;

/// Prints what the reference answers to the scripts whose name holds `only`, for whoever writes one.
pub(crate) fn show(own: &Path, programs: &Programs, only: Option<&str>) -> Result<()> {
    let all = scripts(&own.join("scripts"))?;
    let chosen = chosen(&all, only);
    let said = transcripts(Kind::Reference, programs, &chosen, &own.join("servers"))?;
    for (name, lines) in said {
        println!("{name}");
        lines.iter().for_each(|line| println!("    {line}"));
    }
    Ok(())
}

/// Compares all scripts whose name holds `only`.
pub(crate) fn run(own: &Path, programs: &Programs, only: Option<&str>) -> Result<()> {
    let began = Instant::now();
    let all = scripts(&own.join("scripts"))?;
    if all.len() < SCRIPTS_MIN {
        bail!("{} scripts; there have to be {SCRIPTS_MIN}", all.len());
    }
    let intended = differences::read(&own.join("differences.md"))?;
    if let Some(name) = intended
        .names()
        .find(|name| all.iter().all(|s| s.name != *name))
    {
        bail!("differences.md names {name}, which is no script");
    }
    let chosen = chosen(&all, only);
    let confs = own.join("servers");
    let (reference, ours) = std::thread::scope(|scope| {
        let reference = scope.spawn(|| transcripts(Kind::Reference, programs, &chosen, &confs));
        let ours = transcripts(Kind::Pinnace, programs, &chosen, &confs);
        (reference.join(), ours)
    });
    let Ok(reference) = reference else {
        bail!("the reference's part of the comparison panicked");
    };
    let (reference, ours) = (reference?, ours?);
    let wrong = compare(&chosen, &reference, &ours, &intended)?;
    let runs: usize = chosen.iter().map(|script| 1 + script.cuts()).sum();
    println!(
        "{} scripts in {runs} runs against {} and Pinnace: {} alike, {} differ as listed, {wrong} wrong; {:.1} s",
        chosen.len(),
        crate::reference::VERSION,
        chosen.len() - wrong - listed(&chosen, &intended),
        listed(&chosen, &intended),
        began.elapsed().as_secs_f64()
    );
    if wrong > 0 {
        bail!("{wrong} scripts are answered otherwise than they should be");
    }
    Ok(())
}

fn chosen<'a>(all: &'a [Script], only: Option<&str>) -> Vec<&'a Script> {
    all.iter()
        .filter(|script| only.is_none_or(|only| script.name.contains(only)))
        .collect()
}

fn listed(chosen: &[&Script], intended: &Intended) -> usize {
    let is_chosen = |name: &&str| chosen.iter().any(|script| script.name == *name);
    intended.names().filter(is_chosen).count()
}

fn compare(
    chosen: &[&Script],
    reference: &Transcripts,
    ours: &Transcripts,
    intended: &Intended,
) -> Result<usize> {
    let mut wrong = 0;
    for script in chosen {
        let name = &script.name;
        let reference = reference.get(name).context("no transcript")?;
        let ours = ours.get(name).context("no transcript")?;
        match intended.judge(name, reference, ours) {
            Verdict::Same | Verdict::Intended => {}
            Verdict::Gone => {
                wrong += 1;
                println!("{name}: no difference any more; take it out of differences.md");
            }
            Verdict::Differs(lines) => {
                wrong += 1;
                println!("{name}: - reference, + pinnace");
                lines.iter().for_each(|line| println!("    {line}"));
            }
        }
    }
    Ok(wrong)
}

/// Every script below `folder`, by name.
fn scripts(folder: &Path) -> Result<Vec<Script>> {
    let mut scripts = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "txt") {
                let name = path.strip_prefix(folder)?.with_extension("");
                let text = std::fs::read_to_string(&path)?;
                scripts.push(Script::parse(&name.to_string_lossy(), &text)?);
            }
        }
    }
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scripts)
}

/// What one kind of server answers to each script.
fn transcripts(
    kind: Kind,
    programs: &Programs,
    scripts: &[&Script],
    confs: &Path,
) -> Result<Transcripts> {
    let mut by_server: BTreeMap<&str, Vec<&Script>> = BTreeMap::new();
    for script in scripts {
        by_server.entry(&script.server).or_default().push(script);
    }
    let mut transcripts = Transcripts::new();
    let mut run = 0;
    for (name, scripts) in by_server {
        let conf: PathBuf = confs.join(name).with_extension("conf");
        let mut shared = None;
        for script in scripts {
            let server = match (script.fresh, shared.take()) {
                (false, Some(server)) => server,
                _ => Server::start(kind, programs, &conf)?,
            };
            let lines = play(script, &server, &mut run);
            transcripts.insert(script.name.clone(), lines);
            if !script.fresh {
                shared = Some(server);
            }
        }
    }
    Ok(transcripts)
}
