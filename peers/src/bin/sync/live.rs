//! Mirrors that follow: from a change in the source to the moment the copy shows it.
//!
//! Invariant: a sample counts from just before the call that makes the change visible in the source
//! until a look finds the copy showing all of it; between samples there is a random gap, so that no
//! timer of a tool is met in step. After the last sample the trees are compared.

use std::fs::{self, Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use peers::limits::{LOOK_INTERVAL, MIRROR_CHANGE_MAX, MIRROR_LOOK, MIRROR_SETTLE_MAX};
use peers::load::clock::{be_punctual, pause};
use serde::Serialize;

use super::cases::LiveCase;
use super::gauge::{Gauge, Sides, tree_cpu};
use super::inputs::{DIRECTORY_FILES, SMALL_BYTES, Seeded, count, file_name, replace};
use super::once::{Bench, remove_if_few};
use super::oracle;
use super::scene::{bring, renamed_directory};
use super::tools::{Following, Live};

/// Between two samples: at least, and at most so much more, milliseconds.
const GAP_MS: (u64, u64) = (50, 500);
/// Of the samples asked for, so many fewer renames of what is large.
const RENAMES_FEWER: usize = 20;
/// Between two looks at whether a tool still runs that shows no change.
const ALIVE_LOOK: Duration = Duration::from_secs(2);

/// One kind of change, mirrored again and again.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Samples {
    /// What was done.
    pub(crate) kind: &'static str,
    /// Each time, milliseconds.
    pub(crate) times_ms: Vec<f64>,
}

/// What one tool did in a case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Followed {
    /// Entries in the source.
    pub(crate) entries: u64,
    /// From the start of both sides to equal trees.
    pub(crate) settled_s: f64,
    /// By kind of change.
    pub(crate) samples: Vec<Samples>,
    /// CPU time while changes were made, seconds.
    pub(crate) cpu_s: Sides,
    /// Peak memory from the first change on, bytes.
    pub(crate) peak_rss_bytes: Sides,
}

/// Runs one tool through a case.
///
/// # Errors
/// When it cannot be started, a change does not come or the trees are not equal at the end.
pub(crate) fn run(
    bench: &Bench,
    case: LiveCase,
    tool: &dyn Live,
    folder: &Path,
) -> Result<Followed> {
    let source = folder.join("source");
    let root = folder.join("root");
    fs::create_dir_all(&root)?;
    let names = prepare(bench, case, &source)?;
    let mirror = tool.mirror(&root);
    fs::create_dir_all(&root)?;
    let began = Instant::now();
    let mut following = tool.start(&root, &source)?;
    settle(&mut following, &source, &mirror, tool.oracle())?;
    let settled_s = began.elapsed().as_secs_f64();
    let pids = [following.client.pid(), following.server.pid()];
    let cpu_before = pids.map(tree_cpu);
    let gauge = Gauge::start(pids[1]);
    gauge.client()(pids[0]);
    let changing = Changing {
        source: &source,
        mirror: &mirror,
        client: Some(&mut following.client.child),
        seeded: Seeded::new(11),
    };
    let samples = changing.all(bench, case, &names);
    let peak_rss_bytes = gauge.end()?;
    let spent = [0, 1].map(|side| tree_cpu(pids[side]).saturating_sub(cpu_before[side]));
    if samples.is_err() {
        // Beside the error, not in it: it may name anything of this machine.
        writeln!(std::io::stderr(), "{}: {}", tool.name(), said_by(&root))?;
    }
    let samples = samples?;
    if bench.is_verified {
        oracle::wait_for(&source, &mirror, tool.oracle(), MIRROR_CHANGE_MAX)?;
    }
    let entries = count(&source);
    following.end()?;
    remove_if_few(folder, entries)?;
    Ok(Followed {
        entries,
        settled_s,
        samples,
        cpu_s: Sides {
            client: spent[0].as_secs_f64(),
            server: spent[1].as_secs_f64(),
        },
        peak_rss_bytes,
    })
}

/// Makes the source; returns what is renamed, from and to.
fn prepare(bench: &Bench, case: LiveCase, source: &Path) -> Result<Option<[PathBuf; 2]>> {
    match case {
        LiveCase::Save(files) => {
            bring(&bench.inputs.small(files)?, source, &["-a"])?;
            Ok(None)
        }
        LiveCase::RenameFile => {
            fs::create_dir_all(source)?;
            let names = ["big.tar", "renamed.tar"].map(|name| source.join(name));
            replace(&bench.inputs.big()?, &names[0])?;
            Ok(Some(names))
        }
        LiveCase::RenameDirectory => {
            renamed_directory(&bench.inputs.tree()?, source, &bench.renamed).map(Some)
        }
    }
}

/// Waits until the trees are equal. Where the tool says when that is, it must be so then.
fn settle(following: &mut Following, source: &Path, mirror: &Path, flags: &[&str]) -> Result<()> {
    let Some(settled) = following.settled.take() else {
        return oracle::wait_for(source, mirror, flags, MIRROR_SETTLE_MAX);
    };
    let told = settled.recv_timeout(MIRROR_SETTLE_MAX);
    told.context("the tool does not say that the trees are equal")??;
    oracle::check(source, mirror, flags).context("the tool said that they are equal")
}

/// The end of what a tool wrote about itself.
fn said_by(root: &Path) -> String {
    let log = fs::read(root.join("client.log")).unwrap_or_default();
    let end = &log[log.len().saturating_sub(1_000)..];
    format!("its log ends with {:?}", String::from_utf8_lossy(end))
}

struct Changing<'a> {
    source: &'a Path,
    mirror: &'a Path,
    /// The tool's process at the source.
    client: Option<&'a mut Child>,
    seeded: Seeded,
}

impl Changing<'_> {
    fn all(
        mut self,
        bench: &Bench,
        case: LiveCase,
        names: &Option<[PathBuf; 2]>,
    ) -> Result<Vec<Samples>> {
        be_punctual()?;
        let samples = |kind, times_ms| Samples { kind, times_ms };
        match (case, names) {
            (LiveCase::Save(files), _) => {
                let mut times_ms = [Vec::new(), Vec::new()];
                // In turns, so that both kinds meet the same machine.
                for _ in 0..bench.samples {
                    self.gap()?;
                    times_ms[0].push(self.save(files, Saving::Renamed)?);
                    self.gap()?;
                    times_ms[1].push(self.save(files, Saving::InPlace)?);
                }
                let [renamed, in_place] = times_ms;
                let first = samples("written beside and renamed", renamed);
                Ok(vec![first, samples("written in place", in_place)])
            }
            (_, Some(names)) => {
                let (kind, is_file) = match case {
                    LiveCase::RenameFile => ("file renamed", true),
                    _ => ("directory renamed", false),
                };
                let renames = (bench.samples / RENAMES_FEWER).max(2);
                let times = (0..renames).map(|turn| {
                    self.gap()?;
                    let [from, to] = [&names[turn % 2], &names[(turn + 1) % 2]];
                    self.rename(from, to, is_file)
                });
                let times_ms = times.collect::<Result<_>>()?;
                Ok(vec![samples(kind, times_ms)])
            }
            (_, None) => bail!("nothing to rename"),
        }
    }

    fn gap(&mut self) -> Result<()> {
        let (least, more) = GAP_MS;
        pause(Duration::from_millis(least + self.seeded.number() % more))
    }

    /// Saves one file of the tree with new content.
    fn save(&mut self, files: u64, saving: Saving) -> Result<f64> {
        let name = file_name(self.seeded.number() % files, DIRECTORY_FILES);
        let path = self.source.join(&name);
        let mut content = vec![0; SMALL_BYTES];
        self.seeded.fill(&mut content);
        let target = self.mirror.join(&name);
        let mut known = fs::symlink_metadata(&target).ok().as_ref().map(Look::of);
        let began = match saving {
            Saving::Renamed => {
                let beside = path.with_extension("new");
                fs::write(&beside, &content)?;
                let began = Instant::now();
                fs::rename(&beside, &path)?;
                began
            }
            Saving::InPlace => {
                let file = OpenOptions::new().write(true).open(&path)?;
                let began = Instant::now();
                file.write_all_at(&content, 0)?;
                began
            }
        };
        self.wait(began, || {
            let now = fs::symlink_metadata(&target).ok().as_ref().map(Look::of);
            // Content is read when something of the file has changed, not at each look.
            if now == known {
                return false;
            }
            known = now;
            let read = fs::read(&target);
            let is_there = read.is_ok_and(|read| read == content);
            // A write may go on without a change of what a look sees.
            if !is_there {
                known = None;
            }
            is_there
        })
        .with_context(|| format!("{name} {saving:?}"))
    }

    /// Gives something another name.
    fn rename(&mut self, from: &Path, to: &Path, is_file: bool) -> Result<f64> {
        let (source, mirror) = (self.source, self.mirror);
        let there = |path: &Path| anyhow::Ok(mirror.join(path.strip_prefix(source)?));
        let (old, new) = (there(from)?, there(to)?);
        let length = fs::metadata(from)?.len();
        let entries = if is_file { 0 } else { count(from) };
        let began = Instant::now();
        fs::rename(from, to)?;
        let has_moved = || !old.exists() && new.exists();
        if is_file {
            return self.wait(began, || {
                has_moved() && fs::metadata(&new).is_ok_and(|new| new.len() == length)
            });
        }
        // Counting thousands of entries takes longer than what is measured may: what it finds complete was
        // so when the name was seen.
        loop {
            let moved_ms = self.wait(began, has_moved)?;
            if count(&new) >= entries {
                return Ok(moved_ms);
            }
            ensure!(began.elapsed() < MIRROR_CHANGE_MAX, "entries are missing");
            pause(LOOK_INTERVAL)?;
        }
    }

    /// Milliseconds from `began` to the end of the look that finds it so.
    fn wait(&mut self, began: Instant, mut is_so: impl FnMut() -> bool) -> Result<f64> {
        let mut asked = began;
        loop {
            let is_there = is_so();
            let waited = began.elapsed();
            if is_there {
                return Ok(waited.as_secs_f64() * 1e3);
            }
            ensure!(
                waited < MIRROR_CHANGE_MAX,
                "the copy does not show the change within {MIRROR_CHANGE_MAX:?}"
            );
            if asked.elapsed() > ALIVE_LOOK {
                asked = Instant::now();
                if let Some(client) = &mut self.client {
                    let ended = client.try_wait()?;
                    ensure!(ended.is_none(), "the tool has ended: {ended:?}");
                }
            }
            pause(MIRROR_LOOK)?;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Saving {
    Renamed,
    InPlace,
}

/// What a look at a file sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_where_it_is_made() {
        // A mirror without any delay: both names are the same folder.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file_name(0, DIRECTORY_FILES));
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, "old").unwrap();
        let mut changing = Changing {
            source: folder.path(),
            mirror: folder.path(),
            client: None,
            seeded: Seeded::new(1),
        };
        for saving in [Saving::Renamed, Saving::InPlace] {
            let time = changing.save(1, saving).unwrap();
            assert!((0.0..60_000.0).contains(&time));
        }
        let to = path.with_extension("moved");
        assert!(changing.rename(&path, &to, true).is_ok());
        let [from, to] = ["d0000", "moved"].map(|name| folder.path().join(name));
        assert!(changing.rename(&from, &to, false).is_ok());
    }
}
