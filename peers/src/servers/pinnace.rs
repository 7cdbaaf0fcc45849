//! `pinnace serve` on free ports, its data in a folder of the caller's.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Broker, Served};
use crate::limits::STARTED_READY_MAX;
use crate::load::durable::Store;
use crate::load::http::Paths;
use crate::load::wire::{Wire, nats::Nats};

/// How long the server stays without clients: longer than any side without one runs.
const IDLE_MAX: &str = "10m";

/// The program under test.
#[derive(Debug)]
pub struct Pinnace {
    /// Where it is.
    pub program: PathBuf,
}

impl Broker for Pinnace {
    fn name(&self) -> &'static str {
        "pinnace"
    }

    fn version(&self) -> Result<String> {
        let how = "cargo build --release --manifest-path ../Cargo.toml";
        super::version_of(&self.program, "--version", how)
    }

    fn start(&self, data: &Path) -> Result<Served> {
        start(&self.program, data)
    }

    fn live(&self) -> Option<(&'static dyn Wire, Option<u64>)> {
        Some((&Nats, None))
    }

    fn store(&self) -> Option<Store> {
        Some(Store::Queue)
    }

    fn http(&self) -> Option<Paths> {
        Some(Paths {
            subscribe: Some("/bench/one"),
            publish: "/bench",
            fetch: "/bench/one",
            is_consumed: true,
        })
    }
}

/// Starts the server and waits until it says where its doors are.
///
/// # Errors
/// When it cannot be started or does not become ready in time.
pub fn start(program: &Path, data: &Path) -> Result<Served> {
    let stderr = std::fs::File::create(data.join("stderr"))?;
    let mut child = Command::new(program)
        .env("HOME", data)
        .env("XDG_CONFIG_HOME", data)
        .current_dir(data)
        .args(["serve", "--json", "--data", "data"])
        .args(["--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"])
        // Should this program be killed, its server does not stay for ever.
        .args(["--exit-when-idle", IDLE_MAX])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .context("cannot start the server")?;
    let stdout = child.stdout.take();
    let mut served = Served {
        child,
        nats: String::new(),
        http: String::new(),
    };
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = stdout.map(|stdout| BufReader::new(stdout).read_line(&mut line));
        // The asker may have given up.
        let _ = tell.send(read.map(|_| line));
    });
    let said = |reason: &str| {
        let errors = std::fs::read_to_string(data.join("stderr")).unwrap_or_default();
        format!("the server is not ready: {reason}: {errors}")
    };
    let line = told.recv_timeout(STARTED_READY_MAX).ok().flatten();
    let line = line.with_context(|| said("it said nothing"))?;
    let ready: Value = serde_json::from_str(&line).with_context(|| said(&line))?;
    let address = |key: &str, scheme: &str| {
        let url = ready[key].as_str()?;
        Some(url.strip_prefix(scheme)?.to_owned())
    };
    served.nats = address("nats", "nats://").with_context(|| said(&line))?;
    served.http = address("http", "http://").with_context(|| said(&line))?;
    Ok(served)
}
