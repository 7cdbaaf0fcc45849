//! A program shaped like `nats-server`: its flags, its log lines, its signals, and Pinnace behind them.
//!
//! ```text
//! nats-server --store_dir D -p PORT|-1 -l LOG -P PIDFILE [-a HOST] [-c CONF]
//! nats-server --signal ldm=PID
//! ```
//!
//! Invariant: the process a caller started *is* the server, so its number and its death are those of the server:
//! the launcher becomes it. What the log has to say once the doors are open is written by a second process that
//! ends as soon as it has.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::conf::Conf;

/// The program the launcher becomes.
pub(crate) const PROGRAM: &str = "CONFORMANCE_PINNACE";

/// No server takes longer to open its doors.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Default, PartialEq, Eq)]
struct Flags {
    store: Option<PathBuf>,
    host: Option<String>,
    port: Option<i64>,
    log: Option<PathBuf>,
    pid: Option<PathBuf>,
    configuration: Option<PathBuf>,
    signal: Option<String>,
}

impl Flags {
    fn parse(words: &[String]) -> Result<Self> {
        let mut flags = Self::default();
        let mut words = words.iter();
        while let Some(flag) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("{flag} takes a value"))?;
            match flag.as_str() {
                "--store_dir" | "-sd" => flags.store = Some(value.into()),
                "-a" | "--addr" => flags.host = Some(value.clone()),
                "-p" | "--port" => flags.port = Some(value.parse().context("-p takes a number")?),
                "-l" | "--log" => flags.log = Some(value.into()),
                "-P" | "--pid" => flags.pid = Some(value.into()),
                "-c" | "--config" => flags.configuration = Some(value.into()),
                "--signal" => flags.signal = Some(value.clone()),
                other => bail!("{other} is no flag this server knows"),
            }
        }
        Ok(flags)
    }
}

/// Becomes the server; returns only when it could not.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let flags = Flags::parse(words)?;
    if let Some(signal) = &flags.signal {
        return send_signal(signal);
    }
    let log = flags.log.clone().unwrap_or_else(|| "/dev/stderr".into());
    become_server(&flags, &log).inspect_err(|error| {
        // Whoever reads the log of a server that did not start wants to know why.
        let _ = append(&log, &format!("[FTL] {error:#}\n"));
    })
}

/// `ldm=PID`: lame duck mode, which is how Pinnace stops.
fn send_signal(signal: &str) -> Result<()> {
    let (name, pid) = signal.split_once('=').context("--signal NAME=PID")?;
    if name != "ldm" {
        bail!("{name} is no signal this server knows");
    }
    let pid: u32 = pid.parse().context("--signal ldm=PID")?;
    crate::reference::run(Command::new("kill").args(["-TERM", &pid.to_string()]))
}

fn become_server(flags: &Flags, log: &Path) -> Result<()> {
    let pinnace = std::env::var_os(PROGRAM).with_context(|| format!("{PROGRAM} is not set"))?;
    let conf = match &flags.configuration {
        Some(path) => Conf::read(path)?,
        None => Conf::parse("")?,
    };
    let settings = conf.pinnace()?;
    let store = flags.store.as_deref().context("--store_dir is needed")?;
    std::fs::create_dir_all(store)?;
    let yaml = store.join("pinnace.yaml");
    std::fs::write(&yaml, settings)?;
    let ready = store.join("ready.json");
    // One of an earlier life would name an earlier port.
    let _ = std::fs::remove_file(&ready);
    if let Some(pid) = &flags.pid {
        std::fs::write(pid, std::process::id().to_string())?;
    }
    let asked = flags.port.or_else(|| conf.port()).unwrap_or(4_222);
    let host = flags.host.as_deref().unwrap_or("127.0.0.1");
    scribe(&ready, log, store)?;
    let error = Command::new(pinnace)
        .arg("--config")
        .arg(&yaml)
        .args(["serve", "--http", "127.0.0.1:0"])
        .args(["--nats", &format!("{host}:{}", asked.max(0))])
        .arg("--data")
        .arg(store.join("data"))
        .arg("--ready-file")
        .arg(&ready)
        .stdout(Stdio::null())
        .stderr(OpenOptions::new().create(true).append(true).open(log)?)
        .exec();
    Err(error).context("pinnace cannot be run")
}

/// Starts the process that writes the log once the server is ready.
fn scribe(ready: &Path, log: &Path, store: &Path) -> Result<()> {
    Command::new(std::env::current_exe()?)
        .arg("scribe")
        .args([ready, log, store])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("the scribe cannot be run")?;
    Ok(())
}

/// Waits for the ready file and writes the lines callers look for.
pub(crate) fn write_log(words: &[String]) -> Result<()> {
    let [ready, log, store] = words else {
        bail!("scribe READY LOG STORE");
    };
    let deadline = Instant::now() + PATIENCE;
    let text = loop {
        match std::fs::read_to_string(ready) {
            Ok(text) => break text,
            Err(_) if Instant::now() > deadline => bail!("the server did not get ready"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(2)),
        }
    };
    let ready: serde_json::Value = serde_json::from_str(&text)?;
    let address = ready["nats"]
        .as_str()
        .and_then(|url| url.strip_prefix("nats://"))
        .context("the ready file names no address")?;
    append(
        Path::new(log),
        &format!(
            "[INF] Store Directory: \"{store}\"\n[INF] Listening for client connections on {address}\n\
             [INF] Server is ready\n"
        ),
    )
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> Result<Flags> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Flags::parse(&words)
    }

    #[test]
    fn flags_are_those_of_the_reference() {
        let read = flags("--store_dir /s -p -1 -l /l -P /p -c a.conf").unwrap();
        assert_eq!(
            read,
            Flags {
                store: Some("/s".into()),
                port: Some(-1),
                log: Some("/l".into()),
                pid: Some("/p".into()),
                configuration: Some("a.conf".into()),
                ..Flags::default()
            }
        );
        for wrong in ["-p", "-p x", "--cluster nats://x"] {
            assert!(flags(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_scribe_writes_what_callers_look_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(at("ready"), r#"{"nats":"nats://127.0.0.1:99"}"#).unwrap();
        write_log(&[at("ready"), at("log"), at("store")]).unwrap();
        let log = std::fs::read_to_string(at("log")).unwrap();
        assert!(
            log.contains("client connections on 127.0.0.1:99\n"),
            "{log}"
        );
        assert!(log.contains(&format!("Store Directory: \"{}\"", at("store"))));
    }
}
