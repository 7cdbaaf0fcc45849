//! `pinnace serve`: the server, until a signal or until nobody uses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use pinnace_proto::api::Info;
use pinnace_server::{
    LoggedPayload, MessageLogSettings, Running, Settings, StartError, StopCause, is_valid_pattern,
};
use tokio::sync::oneshot;

use super::Context;
use crate::failure::{DONE, Failure, Result, UNSAFE};
use crate::logging::{Format, LogFile};
use crate::settings::Layers;
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
    /// Lines of the log as text or as JSON [default: text]
    #[arg(long, value_name = "text|json")]
    log_format: Option<String>,
    /// Log messages that clients publish here, one JSON line each
    #[arg(long, value_name = "FILE")]
    message_log_file: Option<PathBuf>,
    /// Topics whose messages are logged, with commas between; wildcards allowed [default: all]
    #[arg(long, value_name = "PATTERN,…")]
    message_log_patterns: Option<String>,
    /// How much of each payload is logged [default: none]
    #[arg(long, value_name = "none|head|full")]
    message_log_payload: Option<String>,
    /// Size at which a new message log is begun [default: 100M]
    #[arg(long, value_name = "SIZE")]
    message_log_size: Option<String>,
    /// Earlier message logs that are kept [default: 5]
    #[arg(long, value_name = "N")]
    message_log_keep: Option<u32>,
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
        .flag("server.log_format", arguments.log_format)
        .flag("server.message_log.file", shown(arguments.message_log_file))
        .flag(
            "server.message_log.patterns",
            arguments.message_log_patterns,
        )
        .flag("server.message_log.payload", arguments.message_log_payload)
        .flag("server.message_log.size", arguments.message_log_size)
        .flag("server.message_log.keep", arguments.message_log_keep)
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
        slow_consumer: layers.slow_consumer()?,
        auth: layers.auth_settings()?,
        exit_when_idle: layers.duration("server.exit_when_idle")?,
        report: layers.path("server.report"),
        message_log: message_log(layers)?,
        expose_without_authentication: layers.yes("server.expose_without_authentication")?,
    };
    let ready_file = layers.path("server.ready_file");
    let log_file = layers.path("server.log_file");
    let format = layers.parsed("server.log_format", str::parse)?;
    let format = format.unwrap_or_default();
    let filter = context.log.as_deref();
    let log = crate::logging::start(filter, "info", format, log_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("pn-doors")
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(serve(
        settings,
        ready_file.as_deref(),
        (log, format),
        &context,
    ))
}

/// Which messages are logged, when a file for them is given.
fn message_log(layers: &Layers) -> Result<Option<MessageLogSettings>> {
    let Some(file) = layers.path("server.message_log.file") else {
        return Ok(None);
    };
    let patterns = |text: &str| {
        let patterns = text.split(',').map(str::trim);
        let wrong = patterns.clone().find(|pattern| !is_valid_pattern(pattern));
        match wrong {
            Some(pattern) => Err(format!(
                "`{pattern}` is no pattern; write topics with dots, `*` for one token, a last `>` for the rest"
            )),
            None => Ok(patterns.map(str::to_owned).collect()),
        }
    };
    let payload = |text: &str| match text {
        "none" => Ok(LoggedPayload::None),
        "head" => Ok(LoggedPayload::Head),
        "full" => Ok(LoggedPayload::Full),
        other => Err(format!("`{other}` is neither none nor head nor full")),
    };
    let keep = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| format!("`{text}` is no number of files"))
    };
    let (size, size_key) = (
        layers.size("server.message_log.size")?,
        "server.message_log.size",
    );
    if size == Some(0) {
        return Err(layers.wrong(size_key, "a file of 0 bytes holds no line"));
    }
    Ok(Some(MessageLogSettings {
        file,
        patterns: layers
            .parsed("server.message_log.patterns", patterns)?
            .unwrap_or_default(),
        payload: layers
            .parsed("server.message_log.payload", payload)?
            .unwrap_or_default(),
        file_bytes_max: size.unwrap_or(u64::MAX),
        files_max: layers
            .parsed("server.message_log.keep", keep)?
            .unwrap_or_default(),
    }))
}

async fn serve(
    settings: Settings,
    ready_file: Option<&Path>,
    (log, format): (Option<Arc<LogFile>>, Format),
    context: &Context<'_>,
) -> Result<u8> {
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
    let message_log = running.reopen();
    signals::on_hangup(move || {
        if let Some(Err(error)) = log.as_ref().map(|log| log.reopen()) {
            tracing::warn!(%error, "the log file cannot be opened anew; the old one goes on");
        }
        message_log.now();
        tracing::info!("log files opened anew");
    })
    .map_err(Failure::failed)?;
    announce(running.info(), ready_file, format, context)?;
    let cause = running
        .until(async {
            // The sender lives in the signal thread, as long as the process.
            let _ = asked.await;
        })
        .await;
    if cause == StopCause::Idle && format == Format::Text {
        context.output.note("nobody is connected any more; ending");
    }
    Ok(DONE)
}

fn announce(
    info: &Info,
    ready_file: Option<&Path>,
    format: Format,
    context: &Context<'_>,
) -> Result<()> {
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
    if format == Format::Json {
        // Whoever reads stderr as JSON shall find nothing else there.
        let Info {
            version,
            http,
            nats,
            data,
            ..
        } = info;
        tracing::info!(version, http, nats, data, "serving");
        return Ok(());
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
