//! `pinnace bench`: a rollover job on this machine, by one client or several.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pinnace_bench::Stop;
use pinnace_proto::Event;
use pinnace_proto::event::StopReason;

use super::Context;
use crate::bench::conduct::{Front, conduct};
use crate::bench::fleet::{self, End};
use crate::bench::order::{Ended, Order};
use crate::bench::outcome::Outcome;
use crate::bench::progress::Progress;
use crate::bench::resolve::{Request, resolve};
use crate::failure::{DONE, Failure, PARTIAL, Result};
use crate::output::Output;
use crate::settings::{Layers, url_shown};
use crate::signals;

/// Write files of a given size, chunk by chunk, rolling over to a new one until time is up.
///
/// Sizes: 4k, 10M, 1G are powers of 1024; 10MB is a power of 1000. Times: 500ms, 30s, 1h30m.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A file with the job; flags override it
    #[arg(value_name = "JOB.yaml")]
    job: Option<PathBuf>,
    /// Directory to write in; repeat it for several workers
    #[arg(long, value_name = "DIR")]
    path: Vec<PathBuf>,
    /// Workers of each client [default: one per path]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Client processes on this machine
    #[arg(long, value_name = "N", default_value_t = 1)]
    clients: usize,
    /// Bytes of one write; a list is one per client or per worker, a single size doubles from
    /// client to client [default: 10M]
    #[arg(long, value_name = "SIZE[,…]")]
    chunk_size: Option<String>,
    /// Size at which a file is closed and the next begun [default: 64M]
    #[arg(long, value_name = "SIZE[,…]")]
    file_size: Option<String>,
    /// How long to write [default: 30s]
    #[arg(long, value_name = "TIME")]
    run_time: Option<String>,
    /// A label for the experiment
    #[arg(long)]
    name: Option<String>,
    /// What is measured, for comparing
    #[arg(long, value_name = "LABEL")]
    solution: Option<String>,
    /// This client's name [default: the host's name and a random part]
    #[arg(long)]
    id: Option<String>,
    /// Join this run, or open it: clients started on several hosts are then one run
    #[arg(long)]
    run: Option<String>,
    /// Time between heartbeats [default: 5s]
    #[arg(long, value_name = "TIME")]
    heartbeat: Option<String>,
    /// Time between looks at each worker's CPU and memory [default: 10s]
    #[arg(long, value_name = "TIME")]
    monitor: Option<String>,
    /// What issues the writes: auto, psync, null [default: auto]
    #[arg(long)]
    engine: Option<String>,
    /// Bypass the page cache
    #[arg(long)]
    direct: bool,
    /// Stop when less than this is free: a size or a percentage [default: 5%]
    #[arg(long, value_name = "SIZE|%")]
    min_free: Option<String>,
    /// Write at most this many bytes per second and worker
    #[arg(long, value_name = "SIZE")]
    rate: Option<String>,
    /// Leave the data files in place
    #[arg(long)]
    keep_files: bool,
    /// Run even if two rollovers cannot be expected
    #[arg(long)]
    force: bool,
    /// Tell no server
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(arguments: Arguments, mut context: Context<'_>) -> Result<u8> {
    context.log_warnings()?;
    if let Some(job) = &arguments.job {
        context.layers.add_file(job)?;
    }
    let request = typed(arguments, &mut context.layers);
    let orders = resolve(&request, &context.layers)?;
    run_orders(&orders, &context)
}

/// Carries the orders out, reports, and says with which code the process ends.
pub(crate) fn run_orders(orders: &[Order], context: &Context<'_>) -> Result<u8> {
    let Some(first) = orders.first() else {
        return Ok(DONE);
    };
    let output = context.output;
    let mut watcher = Watcher {
        outcome: Outcome::default(),
        progress: Progress::new(output, Duration::from_micros(first.job.run_time_us)),
    };
    let ends = match orders {
        [order] => vec![alone(order, &mut watcher)?],
        orders => fleet::run(orders, &mut |event| watcher.event(event))?,
    };
    output.end_progress();
    let outcome = watcher.outcome;
    let mut code = outcome.code();
    for end in ends {
        match end {
            End::Ended(ended) => code = code.max(undelivered(&ended, output)),
            End::Died(how) => {
                output.note(format!("warning: {how}; its figures up to then are kept"));
                code = if code == DONE { PARTIAL } else { code };
            }
            End::Failed(failure) if outcome.is_empty() => return Err(failure),
            End::Failed(failure) => {
                output.failure(&failure);
                code = if code == DONE { PARTIAL } else { code };
            }
        }
    }
    let summary = pinnace_report::summarize(&outcome.record(&first.run));
    if output.json {
        output.document(&summary);
    } else {
        output.line(pinnace_report::text(
            &summary,
            output.columns(),
            output.color(),
        ));
    }
    if let Some(server) = &first.server {
        output.note(format!(
            "run {} is kept by {}: pinnace runs show {0}",
            first.run,
            url_shown(server)
        ));
    }
    Ok(code)
}

fn undelivered(ended: &Ended, output: &Output) -> u8 {
    if ended.undelivered == 0 {
        return DONE;
    }
    output.note(format!(
        "warning: {} events could not be brought to the server; they are kept in {} and delivered \
         by the next `pinnace bench` with this server",
        ended.undelivered,
        ended.log.display()
    ));
    PARTIAL
}

/// One client in this process.
fn alone(order: &Order, watcher: &mut Watcher<'_>) -> Result<End> {
    let stop = Stop::new();
    let asked = stop.clone();
    signals::on_stop(move || asked.request(StopReason::Interrupted)).map_err(Failure::failed)?;
    conduct(order, &stop, watcher).map(End::Ended)
}

struct Watcher<'a> {
    outcome: Outcome,
    progress: Progress<'a>,
}

impl Front for Watcher<'_> {
    fn ready(&mut self) -> Result<()> {
        Ok(())
    }

    fn event(&mut self, event: &Event) {
        self.outcome.event(event);
        self.progress.event(event);
    }
}

fn typed(arguments: Arguments, layers: &mut Layers) -> Request {
    layers
        .flag("job.chunk_size", arguments.chunk_size)
        .flag("job.file_size", arguments.file_size)
        .flag("job.run_time", arguments.run_time)
        .flag("job.name", arguments.name)
        .flag("job.solution", arguments.solution)
        .flag("client.id", arguments.id)
        .flag("client.heartbeat", arguments.heartbeat)
        .flag("client.monitor", arguments.monitor)
        .flag("job.engine", arguments.engine)
        .flag("job.min_free", arguments.min_free)
        .flag("job.rate", arguments.rate)
        .switch("job.direct", arguments.direct)
        .switch("job.keep_files", arguments.keep_files)
        .switch("job.force", arguments.force);
    Request {
        paths: arguments.path,
        workers: arguments.workers,
        clients: arguments.clients,
        run: arguments.run,
        offline: arguments.offline,
    }
}
