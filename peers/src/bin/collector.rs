//! How the server keeps up with a fleet: simulated bench clients tell their events, and it is seen
//! how fast each is acknowledged and how far the database is behind the acknowledgements.
//!
//! The program fails when an event is missing at the end, the run did not finish, or the lag did not
//! return to 0.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use peers::figures::table;
use peers::fleet::client::{Member, Target};
use peers::fleet::http;
use peers::fleet::tally::{Counts, Tally};
use peers::limits::{CLIENTS_MAX, LOOK_INTERVAL, SETTLE_MAX};
use peers::machine::{Machine, version_of};
use peers::process::{Usage, usage};
use peers::{results, servers};
use pinnace_proto::Histogram;
use pinnace_proto::api::Runs;
use pinnace_proto::run::{RunHead, RunState};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Let simulated bench clients report to a server and watch how it keeps up.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program under test
    #[arg(long, default_value = "../target/release/pinnace")]
    pinnace: PathBuf,
    /// Directory for the server's data; a folder is made in it and removed
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Simulated clients, each with a connection
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(CLIENTS_MAX)))]
    clients: u32,
    /// Seconds of the simulated run
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Wall time of a simulated second, milliseconds: less presses harder
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    tick_ms: u64,
    /// Time between two rows, seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    every: u64,
    /// Folder for the results; without it they are only printed
    #[arg(long)]
    results: Option<PathBuf>,
}

/// One row of the table.
#[derive(Clone, Debug, Serialize)]
struct Row {
    at_s: f64,
    acknowledged: u64,
    acknowledged_per_s: f64,
    acknowledgement_p50_us: f64,
    acknowledgement_p99_us: f64,
    delay_p99_us: f64,
    due_not_acknowledged: u64,
    lag: i64,
    server_cpu_share: f64,
    server_rss_mib: f64,
}

#[derive(Serialize)]
struct Raw {
    date: String,
    machine: Machine,
    version: String,
    clients: u32,
    seconds: u64,
    tick_ms: u64,
    rows: Vec<Row>,
    events: u64,
    event_bytes: u64,
    repeated: u64,
    settled_ms: f64,
    server_cpu_us_per_event: f64,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    arguments.dir = arguments.dir.canonicalize().context("--dir")?;
    arguments.pinnace = arguments.pinnace.canonicalize().context("--pinnace")?;
    // One thread for the fleet: the other CPU is the server's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let raw = runtime.block_on(measure(&arguments))?;
    let name = format!("collector-{}x{}ms", raw.clients, raw.tick_ms);
    if let Some(folder) = &arguments.results {
        results::write(folder, &name, &page(&raw), &raw)?;
    }
    Ok(())
}

async fn measure(arguments: &Arguments) -> Result<Raw> {
    let machine = Machine::here(&arguments.dir);
    let data = tempfile::tempdir_in(&arguments.dir)?;
    let server = servers::pinnace::start(&arguments.pinnace, data.path())?;
    let target = Arc::new(Target {
        nats: server.nats.clone(),
        http: server.http.clone(),
        run: "collector".to_owned(),
        ticks: arguments.seconds,
        tick: Duration::from_millis(arguments.tick_ms),
    });
    let tally = Arc::new(Tally::default());
    let members = assemble(&target, &tally, arguments.clients).await?;
    let cpu_before = usage(server.pid())?.cpu;
    let start = Instant::now();
    let mut fleet = JoinSet::new();
    for (index, member) in members.into_iter().enumerate() {
        // Real clients are not in step: their ticks are spread over the length of one.
        let phase = target.tick * u32::try_from(index)? / arguments.clients;
        fleet.spawn(member.tell(start + phase));
    }
    let mut watch = Watch::new(Arc::clone(&target), Arc::clone(&tally), server.pid(), start)?;
    let every = Duration::from_secs(arguments.every);
    let mut due = start + every;
    while !fleet.is_empty() {
        tokio::select! {
            told = fleet.join_next() => told.transpose()?.transpose().map(drop)?,
            () = sleep_until(due) => {
                watch.row().await?;
                due += every;
            }
        }
    }
    let told = Instant::now();
    let counts = watch.row().await?;
    settle(&target, &counts, told + SETTLE_MAX).await?;
    let settled_ms = told.elapsed().as_secs_f64() * 1e3;
    let cpu = usage(server.pid())?.cpu - cpu_before;
    server.end()?;
    let raw = Raw {
        date: results::today(),
        machine,
        version: version_of(&arguments.pinnace),
        clients: arguments.clients,
        seconds: arguments.seconds,
        tick_ms: arguments.tick_ms,
        rows: watch.rows,
        events: counts.acknowledged,
        event_bytes: counts.bytes,
        repeated: counts.repeated,
        settled_ms,
        server_cpu_us_per_event: cpu.as_secs_f64() * 1e6 / counts.acknowledged as f64,
    };
    writeln!(std::io::stdout(), "{}", summary(&raw))?;
    Ok(raw)
}

/// Connects and joins all clients.
async fn assemble(target: &Arc<Target>, tally: &Arc<Tally>, clients: u32) -> Result<Vec<Member>> {
    let mut joining = JoinSet::new();
    for number in 0..clients {
        joining.spawn(Member::join(Arc::clone(target), Arc::clone(tally), number));
    }
    let mut members = Vec::new();
    while let Some(joined) = joining.join_next().await {
        members.push(joined??);
    }
    Ok(members)
}

/// The head of the run as the server shows it; `None` before its first event is stored.
async fn head(target: &Target) -> Result<Option<RunHead>> {
    let body = http::exchange(&target.http, "GET", "/-/runs", b"").await?;
    let runs: Runs = serde_json::from_slice(&body).context("GET /-/runs")?;
    Ok(runs.runs.into_iter().find(|run| run.id == target.run))
}

/// Looks until all events are visible and the run is complete.
async fn settle(target: &Target, counts: &Counts, deadline: Instant) -> Result<()> {
    loop {
        let head = head(target).await?.context("the run is not there")?;
        if head.events == counts.acknowledged && head.state != RunState::Running {
            ensure!(
                head.state == RunState::Complete,
                "the run ended {:?}",
                head.state
            );
            ensure!(
                head.clients_lost == 0,
                "{} clients were lost",
                head.clients_lost
            );
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline && head.events <= counts.acknowledged,
            "{} events acknowledged, {} visible, {:?}",
            counts.acknowledged,
            head.events,
            head.state
        );
        sleep(LOOK_INTERVAL).await;
    }
}

/// Makes the rows.
struct Watch {
    target: Arc<Target>,
    tally: Arc<Tally>,
    pid: u32,
    start: Instant,
    last: (Instant, u64, Usage),
    rows: Vec<Row>,
}

impl Watch {
    fn new(target: Arc<Target>, tally: Arc<Tally>, pid: u32, start: Instant) -> Result<Self> {
        Ok(Self {
            last: (start, 0, usage(pid)?),
            target,
            tally,
            pid,
            start,
            rows: Vec::new(),
        })
    }

    async fn row(&mut self) -> Result<Counts> {
        let counts = self.tally.take();
        // Events acknowledged while the answer is under way can only make the lag look smaller.
        let visible = head(&self.target).await?.map_or(0, |head| head.events);
        let (now, used) = (Instant::now(), usage(self.pid)?);
        let (before, acknowledged_before, used_before) = self.last;
        let seconds = (now - before).as_secs_f64();
        let micros = |histogram: &Histogram, quantile| {
            histogram.quantile_ns(quantile).unwrap_or(0) as f64 / 1e3
        };
        let row = Row {
            at_s: (now - self.start).as_secs_f64(),
            acknowledged: counts.acknowledged,
            acknowledged_per_s: (counts.acknowledged - acknowledged_before) as f64 / seconds,
            acknowledgement_p50_us: micros(&counts.acknowledgement, 0.5),
            acknowledgement_p99_us: micros(&counts.acknowledgement, 0.99),
            delay_p99_us: micros(&counts.delay, 0.99),
            due_not_acknowledged: counts.due - counts.acknowledged,
            lag: counts.acknowledged.cast_signed() - visible.cast_signed(),
            server_cpu_share: (used.cpu - used_before.cpu).as_secs_f64() / seconds,
            server_rss_mib: used.rss_bytes as f64 / f64::from(1 << 20),
        };
        if self.rows.is_empty() {
            writeln!(std::io::stdout(), "{}", HEAD.join("\t"))?;
        }
        writeln!(std::io::stdout(), "{}", cells(&row).join("\t"))?;
        self.last = (now, counts.acknowledged, used);
        self.rows.push(row);
        Ok(counts)
    }
}

const HEAD: [&str; 9] = [
    "s",
    "events",
    "events/s",
    "ack p50 µs",
    "ack p99 µs",
    "due→ack p99 µs",
    "lag",
    "CPU",
    "RSS MiB",
];

fn cells(row: &Row) -> Vec<String> {
    vec![
        format!("{:.1}", row.at_s),
        row.acknowledged.to_string(),
        format!("{:.0}", row.acknowledged_per_s),
        format!("{:.0}", row.acknowledgement_p50_us),
        format!("{:.0}", row.acknowledgement_p99_us),
        format!("{:.0}", row.delay_p99_us),
        row.lag.to_string(),
        format!("{:.2}", row.server_cpu_share),
        format!("{:.1}", row.server_rss_mib),
    ]
}

fn summary(raw: &Raw) -> String {
    format!(
        "{} events of {:.0} bytes on average, {} repeated; all visible and the run complete {:.0} ms \
         after the last acknowledgement; server CPU {:.0} µs an event",
        raw.events,
        raw.event_bytes as f64 / raw.events as f64,
        raw.repeated,
        raw.settled_ms,
        raw.server_cpu_us_per_event
    )
}

fn page(raw: &Raw) -> String {
    let rows: Vec<Vec<String>> = raw.rows.iter().map(cells).collect();
    format!(
        "# Collector: {} clients, a tick of {} ms, {} ticks, {}\n\nMachine: {}.\nVersion: {}.\n\
         How to read it: `../README.md`.\n\n{}\n{}.\n",
        raw.clients,
        raw.tick_ms,
        raw.seconds,
        raw.date,
        raw.machine.line(),
        raw.version,
        table(&HEAD, &rows),
        summary(raw),
    )
}
