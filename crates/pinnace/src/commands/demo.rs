//! `pinnace demo`: everything on this machine in one command, through the same doors as always.
//!
//! A server, a mirror and three bench clients run as processes of this program; what they write is paced so
//! that at most 3 GiB are written in all and 1 GiB is in use at a time.

mod mirror;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;
use pinnace_client::Api;
use pinnace_proto::units::{parse_duration, show_size};
use serde::Deserialize;

use self::mirror::Mirror;
use super::{Context, bench};
use crate::bench::resolve::{Request, resolve};
use crate::failure::{Failure, Result};
use crate::output::Output;

/// Clients, each with one worker and its own chunk size: 10M, 20M, 40M.
const CLIENTS: u64 = 3;
const FILE_BYTES: u64 = 80 << 20;
/// All clients together write no more than this while they run; calibration may add a file each.
const WRITE_BYTES_MAX: u64 = (3 << 30) - CLIENTS * FILE_BYTES - (256 << 20);

/// Show it all on this machine: a server on free loopback ports, three bench clients writing real
/// files, messages on topics, a directory that is mirrored while it changes, and a report.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to write, and to leave the report and the database [default: a new folder in the
    /// system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How long the clients write
    #[arg(long, value_name = "TIME", default_value = "20s")]
    run_time: String,
    /// Keep the server up afterwards, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(arguments: &Arguments, context: &Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    let output = context.output;
    let run_time = parse_duration(&arguments.run_time)
        .map_err(|error| Failure::usage(format!("--run-time: {error}")))?;
    let folder = folder(arguments.dir.as_deref())?;
    let report = folder.join("report.html");
    let work = folder.join("work");
    make(&work)?;
    let mut server = Server::start(&folder, &report, output)?;
    output.note(format!(
        "server: {} and {}",
        server.ready.http, server.ready.nats
    ));
    let mirror = Mirror::start(&folder.join("mirror"), &server.ready.http)?;
    let served = show(context, &server, &mirror, &work, run_time);
    let _ = std::fs::remove_dir_all(&work);
    if served.is_ok() && arguments.keep {
        output.note(format!(
            "still serving {}; Ctrl-C ends it",
            server.ready.http
        ));
        server.wait()?;
        drop(mirror);
    } else {
        drop(mirror);
        server.stop()?;
    }
    let database = folder.join("runs.db");
    let kept = std::fs::rename(folder.join("data/runs.db"), &database);
    let _ = std::fs::remove_dir_all(folder.join("data"));
    let code = served?;
    kept.map_err(|error| Failure::failed(format!("the database cannot be kept: {error}")))?;
    let size = std::fs::metadata(&report).map_or(0, |metadata| metadata.len());
    output.line(format!(
        "report:   {} ({})",
        report.display(),
        show_size(size)
    ));
    output.line(format!("database: {}", database.display()));
    Ok(code)
}

/// What the demo shows while the server is up.
fn show(
    context: &Context<'_>,
    server: &Server,
    mirror: &Mirror,
    work: &Path,
    run_time: Duration,
) -> Result<u8> {
    let api = Api::new(&server.ready.http)?;
    messages(&api, context.output)?;
    let mut layers = context.layers.clone();
    let rate = WRITE_BYTES_MAX / CLIENTS / run_time.as_secs().max(1);
    layers
        .flag("client.server", Some(&server.ready.http))
        .flag("client.id", Some("demo"))
        .flag("job.name", Some("demo"))
        .flag("job.solution", Some("this-machine"))
        .flag("job.chunk_size", Some("10M,20M,40M"))
        .flag("job.file_size", Some(FILE_BYTES))
        .flag("job.run_time", Some(format!("{}us", run_time.as_micros())))
        .flag("job.rate", Some(rate));
    let request = Request {
        paths: vec![work.to_owned()],
        workers: None,
        clients: CLIENTS as usize,
        run: Some("demo".to_owned()),
        offline: false,
    };
    let orders = resolve(&request, &layers)?;
    context
        .output
        .note("three clients calibrate, then write: watch with");
    context.output.note(format!(
        "  pinnace --server {} sub 'pinnace.bench.>'",
        api.base()
    ));
    context.output.note(format!(
        "meanwhile a directory is mirrored into the share {}: pinnace --server {} shares",
        mirror::SHARE,
        api.base()
    ));
    let code = bench::run_orders(&orders, context)?;
    context.output.note(mirror.sum_up(&api)?);
    Ok(code)
}

/// A queue in five lines: subscribe, publish, fetch.
fn messages(api: &Api, output: &Output) -> Result<()> {
    api.subscribe("demo.hello", "alice")?;
    let answer = api.publish("demo.hello", "text/plain", b"ahoy")?;
    let fetched = api.fetch("demo.hello", "alice", 0)?;
    match fetched {
        Some(message) if message.payload == b"ahoy" => output.note(format!(
            "messages: published to demo.hello as {}, synced, fetched by alice",
            answer.seq.unwrap_or(0)
        )),
        _ => {
            return Err(Failure::failed(
                "a message published to demo.hello did not come back",
            ));
        }
    }
    Ok(())
}

fn folder(dir: Option<&Path>) -> Result<PathBuf> {
    let folder = match dir {
        Some(dir) => dir.to_owned(),
        None => {
            let name = format!("pinnace-demo-{}", std::process::id());
            std::env::temp_dir().join(name)
        }
    };
    make(&folder)?;
    folder
        .canonicalize()
        .map_err(|error| Failure::failed(format!("{} cannot be used: {error}", folder.display())))
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::failed(format!("{} cannot be made: {error}", folder.display())))
}

/// The server's process.
struct Server {
    process: Child,
    ready: Ready,
}

/// What a server says once its doors accept.
#[derive(Deserialize)]
struct Ready {
    http: String,
    nats: String,
}

impl Server {
    fn start(folder: &Path, report: &Path, output: &Output) -> Result<Self> {
        let program = std::env::current_exe().map_err(Failure::failed)?;
        let mut process = Command::new(program)
            .args(["serve", "--json", "--quiet", "--log", "warn"])
            .args(["--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"])
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--report")
            .arg(report)
            .env_remove("PINNACE_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::failed(format!("the server cannot start: {error}")))?;
        let mut line = String::new();
        let mut words = process.stdout.take().map(BufReader::new);
        let read = words.as_mut().map(|words| words.read_line(&mut line));
        let ready = match read {
            Some(Ok(count)) if count > 0 => serde_json::from_str(&line).ok(),
            _ => None,
        };
        let Some(ready) = ready else {
            let _ = process.wait();
            return Err(Failure::failed(
                "the server did not start; it said why above",
            ));
        };
        // Nothing more is expected; the pipe is read so that it never blocks the server.
        if let Some(mut words) = words {
            std::thread::spawn(move || words.read_to_end(&mut Vec::new()));
        }
        output.progress("");
        Ok(Self { process, ready })
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(pid) = rustix::process::Pid::from_raw(self.process.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        self.wait()
    }

    fn wait(&mut self) -> Result<()> {
        match self.process.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::failed(format!("the server ended with {status}"))),
            Err(error) => Err(Failure::failed(format!("the server is gone: {error}"))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
