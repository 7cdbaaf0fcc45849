//! `pinnace serve`: the server, until a signal or until nobody uses it.

use std::path::{Path, PathBuf};

use clap::Args;
use pinnace_proto::api::Info;
use pinnace_server::{Running, Settings, StartError, StopCause};
use tokio::sync::oneshot;

use super::Context;
use crate::failure::{DONE, Failure, Result, UNSAFE};
use crate::signals;

/// Run the server: topics over HTTP and NATS, runs collected into a database.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folder for everything the server keeps [default: pinnace-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// HTTP door; port 0 picks a free one [default: 127.0.0.1:7420]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// NATS door; port 0 picks a free one [default: 127.0.0.1:4222]
    #[arg(long, value_name = "ADDR")]
    nats: Option<String>,
    /// End by itself after this long without clients
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "30s")]
    exit_when_idle: Option<String>,
    /// Write the report of this session's runs here
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Log reports, heartbeats, figures, connections and timeouts here
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Write the doors' addresses here once every door accepts
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Listen on addresses other hosts can reach although nobody is asked who they are
    #[arg(long)]
    expose_without_authentication: bool,
}

pub(crate) fn run(arguments: Arguments, mut context: Context<'_>) -> Result<u8> {
    let shown = |path: Option<PathBuf>| path.map(|path| path.to_string_lossy().into_owned());
    let layers = &mut context.layers;
    layers
        .flag("server.data", shown(arguments.data))
        .flag("server.http", arguments.http)
        .flag("server.nats", arguments.nats)
        .flag("server.exit_when_idle", arguments.exit_when_idle)
        .flag("server.report", shown(arguments.report))
        .flag("server.log_file", shown(arguments.log_file))
        .flag("server.ready_file", shown(arguments.ready_file))
        .switch(
            "server.expose_without_authentication",
            arguments.expose_without_authentication,
        );
    let layers = &context.layers;
    let settings = Settings {
        data: layers.path("server.data").unwrap_or_default(),
        http: layers.address("server.http")?,
        nats: layers.address("server.nats")?,
        nats_advertise: layers
            .text("server.nats_advertise")
            .map(|list| list.split(',').map(|at| at.trim().to_owned()).collect())
            .unwrap_or_default(),
        nats_limits: layers.nats_limits()?,
        auth: layers.auth_settings()?,
        exit_when_idle: layers.duration("server.exit_when_idle")?,
        report: layers.path("server.report"),
        expose_without_authentication: layers.yes("server.expose_without_authentication")?,
    };
    let ready_file = layers.path("server.ready_file");
    let log_file = layers.path("server.log_file");
    crate::logging::start(context.log.as_deref(), "info", log_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("pn-doors")
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(serve(settings, ready_file.as_deref(), &context))
}

async fn serve(settings: Settings, ready_file: Option<&Path>, context: &Context<'_>) -> Result<u8> {
    let (ask, asked) = oneshot::channel();
    signals::on_stop(move || {
        // Nobody waits any more when the command has ended by itself.
        let _ = ask.send(());
    })
    .map_err(Failure::failed)?;
    let running = Running::start(settings)
        .await
        .map_err(|error| match error {
            StartError::Exposed { .. } => Failure::new(UNSAFE, error),
            _ => Failure::failed(error),
        })?;
    announce(running.info(), ready_file, context)?;
    let cause = running
        .until(async {
            // The sender lives in the signal thread, as long as the process.
            let _ = asked.await;
        })
        .await;
    if cause == StopCause::Idle {
        context.output.note("nobody is connected any more; ending");
    }
    Ok(DONE)
}

fn announce(info: &Info, ready_file: Option<&Path>, context: &Context<'_>) -> Result<()> {
    let ready = serde_json::json!({
        "http": format!("http://{}", info.http),
        "nats": format!("nats://{}", info.nats),
        "pid": info.pid,
    });
    if let Some(path) = ready_file {
        write_whole(path, &format!("{ready}\n")).map_err(|error| {
            Failure::failed(format!(
                "the ready file {} cannot be written: {error}",
                path.display()
            ))
        })?;
    }
    if context.output.json {
        context.output.json_line(&ready);
    }
    context.output.note(format!(
        "pinnace {} serves http://{} and nats://{}, data in {}\ntry: curl -d hi http://{}/alerts",
        info.version, info.http, info.nats, info.data, info.http
    ));
    Ok(())
}

/// A reader sees the whole file or none.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path)
}
