//! Runs of the cases that end when the copy is equal: in turns, the order turned round each time.
//!
//! ```text
//! for each round: source before ─ every tool brings its copy there ─ source after ─ each tool in turn:
//!                 memory touched, source and copy read, sync ─ timed run ─ then each copy is compared
//! ```
//!
//! Invariant: a figure is of a run after which the copy was equal. Round 0 counts for nothing but the
//! bytes on the wire: it goes through the counting proxy. No copy is deleted before all is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use peers::delay_proxy::{Passed, Proxy, Way};
use peers::limits::{MIRROR_ROOM_BYTES, MIRROR_RUN_MAX};
use peers::load::clock::pause;
use peers::memory::prewarm;
use peers::process;
use peers::servers::Served;
use serde::Serialize;

use super::cases::OnceCase;
use super::gauge::{Gauge, Sides, server_cpu};
use super::inputs::{Held, Inputs, read_all};
use super::oracle;
use super::scene::Scene;
use super::tools::Once;

/// Trees up to this size are compared by checksum after every run, larger ones after the last round.
const CHECKSUM_BYTES_MAX: u64 = 512 << 20;
/// A folder with so many entries is removed at once.
const FEW_ENTRIES: u64 = 1_000;
/// A block of the file system.
const BLOCK_BYTES: u64 = 4096;
/// Between the two states of a source.
const WHOLE_SECOND: Duration = Duration::from_millis(1_100);

/// What holds for all cases.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Where inputs are.
    pub(crate) inputs: Inputs,
    /// Folder of this program's run; removed with everything in it at the end.
    pub(crate) folder: PathBuf,
    /// Measured rounds.
    pub(crate) pairs: u32,
    /// Whether the page cache is dropped before each run.
    pub(crate) is_cold: bool,
    /// Whether copies are compared.
    pub(crate) is_verified: bool,
    /// The directory of the tree that gets another name.
    pub(crate) renamed: PathBuf,
    /// Changes of each kind in a live case.
    pub(crate) samples: usize,
}

impl Bench {
    /// An error as it may stand on a page: without the paths of this machine.
    pub(crate) fn said(&self, error: &anyhow::Error) -> String {
        let mut said = format!("{error:#}");
        for folder in [&self.folder, &self.inputs.kept] {
            said = said.replace(&folder.display().to_string(), "…");
        }
        said
    }
}

/// What one run cost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// From the start of the client to its end.
    pub(crate) wall_s: f64,
    /// The same and until a `sync` after it was through.
    pub(crate) synced_s: f64,
    /// CPU time, seconds.
    pub(crate) cpu_s: Sides,
    /// Peak memory, bytes.
    pub(crate) peak_rss_bytes: Sides,
    /// What passed the proxy, in runs that have one.
    pub(crate) wire: Option<Passed>,
    /// What the client says it sent and received.
    pub(crate) said_bytes: Option<u64>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) tool: String,
    /// 0 does not count.
    pub(crate) round: u32,
    pub(crate) figures: Option<Figures>,
    pub(crate) error: Option<String>,
}

/// A case's runs and its source.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Done {
    /// The source as it was measured last.
    pub(crate) source: Held,
    /// Those that ran, in the order of the table.
    pub(crate) tools: Vec<String>,
    pub(crate) runs: Vec<Run>,
}

/// Runs a case.
///
/// # Errors
/// When its source cannot be made; what goes wrong with a tool is in its runs.
pub(crate) fn run(
    bench: &Bench,
    case: &OnceCase,
    tools: &[Box<dyn Once>],
    folder: &Path,
    mut seen: impl FnMut(&Run),
) -> Result<Done> {
    fs::create_dir_all(folder)?;
    let scene = Scene::prepare(case.change, &bench.inputs, folder, &bench.renamed)?;
    // On a way that is far slower than the machine the first run is like the others.
    let first = u32::from(case.is_single || case.way.is_some());
    let last = if case.is_single { 1 } else { bench.pairs };
    let mut done = Done {
        tools: tools.iter().map(|tool| tool.name()).collect(),
        ..Done::default()
    };
    for round in first..=last {
        // The old and the new state of a source may both be there for a moment.
        ensure_room(folder, 2 * bench.inputs.big_bytes)?;
        scene.before()?;
        let places = tools.iter().enumerate().map(|(which, tool)| {
            let name = if scene.has_copy {
                format!("{which}")
            } else {
                format!("{which}-{round}")
            };
            Place::open(tool.as_ref(), folder.join(name), &scene)
        });
        let mut places: Vec<(usize, Result<Place<'_>>)> = places.enumerate().collect();
        if scene.has_copy {
            // rsync compares times by whole seconds; what changes twice within one would escape it.
            pause(WHOLE_SECOND)?;
        }
        scene.after()?;
        if round % 2 == 0 {
            places.reverse();
        }
        let way = case.way.or((round == 0).then(Way::default));
        let is_last = round == last;
        let mut runs = Vec::new();
        for (which, place) in &places {
            let result = place.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"));
            let result =
                result.and_then(|place| place.measure(bench, &scene, way, &mut done.source));
            runs.push((*which, result));
        }
        for ((which, result), (_, place)) in runs.into_iter().zip(places) {
            let figures = result.and_then(|figures| {
                place?.close(bench, &scene, is_last, done.source.bytes)?;
                Ok(figures)
            });
            let run = Run {
                tool: tools[which].name(),
                round,
                error: figures.as_ref().err().map(|error| bench.said(error)),
                figures: figures.ok(),
            };
            seen(&run);
            done.runs.push(run);
        }
    }
    remove_if_few(folder, done.source.entries)?;
    Ok(done)
}

/// Gives the room of a case back when that deletes next to no inodes: the file system steps over those that
/// were deleted lately, which the next case would pay for.
pub(crate) fn remove_if_few(folder: &Path, entries: u64) -> Result<()> {
    if entries <= FEW_ENTRIES {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Fails where so many bytes more would fill the file system, which others may use too.
fn ensure_room(folder: &Path, needed_bytes: u64) -> Result<()> {
    let room = rustix::fs::statvfs(folder)?;
    let free_bytes = room.f_bavail * room.f_frsize;
    ensure!(
        free_bytes > needed_bytes + MIRROR_ROOM_BYTES,
        "no room: {free_bytes} bytes free, {needed_bytes} needed"
    );
    Ok(())
}

/// A tool's folder with its server running.
struct Place<'a> {
    tool: &'a dyn Once,
    root: PathBuf,
    server: Served,
}

impl<'a> Place<'a> {
    /// Starts the server and brings the copy, if there shall be one, to the source as it is.
    fn open(tool: &'a dyn Once, root: PathBuf, scene: &Scene) -> Result<Self> {
        fs::create_dir_all(&root)?;
        let server = tool.start(&root)?;
        if scene.has_copy {
            let mut client = tool.client(&root, &scene.source, &server.http);
            process::measure(&mut client, MIRROR_RUN_MAX).context("before the measured run")?;
        }
        Ok(Self { tool, root, server })
    }

    fn measure(
        &self,
        bench: &Bench,
        scene: &Scene,
        way: Option<Way>,
        source: &mut Held,
    ) -> Result<Figures> {
        let proxy = way.map(|way| Proxy::start(&self.server.http, way));
        let proxy = proxy.transpose()?;
        let address = proxy.as_ref().map(Proxy::address);
        let address = address.as_ref().unwrap_or(&self.server.http);
        *source = self.ready(bench, scene)?;
        let mut client = self.tool.client(&self.root, &scene.source, address);
        let cpu_before = server_cpu(self.server.pid())?;
        let gauge = Gauge::start(self.server.pid());
        let began = Instant::now();
        let spent = process::measure_watched(&mut client, MIRROR_RUN_MAX, gauge.client());
        rustix::fs::sync();
        let synced_s = began.elapsed().as_secs_f64();
        let peak_rss_bytes = gauge.end()?;
        let spent = spent?;
        let server_cpu = server_cpu(self.server.pid())?.saturating_sub(cpu_before);
        Ok(Figures {
            wall_s: spent.wall.as_secs_f64(),
            synced_s,
            cpu_s: Sides {
                client: spent.cpu.as_secs_f64(),
                server: server_cpu.as_secs_f64(),
            },
            peak_rss_bytes,
            wire: proxy.as_ref().map(Proxy::passed),
            said_bytes: self.tool.said_bytes(&spent.stdout),
        })
    }

    /// Brings the machine to the same state for every tool.
    fn ready(&self, bench: &Bench, scene: &Scene) -> Result<Held> {
        let source = read_all(&scene.source)?;
        // Files of a few bytes take a block each.
        let needed_bytes = source.bytes + source.entries * BLOCK_BYTES;
        ensure_room(&self.root, needed_bytes)?;
        rustix::fs::sync();
        if bench.is_cold {
            fs::write("/proc/sys/vm/drop_caches", "3").context("--cold needs to be root")?;
            return Ok(source);
        }
        prewarm(needed_bytes);
        if scene.has_copy {
            // A copy that was read and written a minute ago may have been paged out.
            read_all(&self.tool.mirror(&self.root))?;
        }
        read_all(&scene.source)
    }

    /// Compares and ends the server.
    fn close(self, bench: &Bench, scene: &Scene, is_last: bool, bytes: u64) -> Result<()> {
        if bench.is_verified {
            let is_thorough = is_last || bytes <= CHECKSUM_BYTES_MAX;
            let flags = if is_thorough {
                oracle::ALL
            } else {
                oracle::QUICK
            };
            oracle::check(&scene.source, &self.tool.mirror(&self.root), flags)?;
        }
        self.server.end()
    }
}
