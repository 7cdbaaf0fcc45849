//! The two servers as processes: the reference, and the program of this workspace.
//!
//! Invariant: a server is ready when it says so, listens on loopback only, and is ended with its
//! handle.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::conf::Conf;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Reference,
    Pinnace,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Pinnace => "pinnace",
        }
    }
}

/// Where the two programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) reference: PathBuf,
    pub(crate) pinnace: PathBuf,
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
    _folder: TempDir,
}

enum Process {
    Reference(Child),
    Pinnace(Pinnace),
}

impl Server {
    /// Starts one with a configuration in the reference's words.
    pub(crate) fn start(kind: Kind, programs: &Programs, conf: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let started = match kind {
            Kind::Reference => reference(&programs.reference, conf),
            Kind::Pinnace => pinnace(&programs.pinnace, conf, folder.path()),
        };
        let (process, address) =
            started.with_context(|| format!("starting {} with {}", kind.name(), conf.display()))?;
        Ok(Self {
            process,
            address,
            _folder: folder,
        })
    }

    /// Asks it to send its clients away and stop: the reference has a signal of its own for that.
    pub(crate) fn drain(&self) -> Result<()> {
        let (signal, process) = match &self.process {
            Process::Reference(process) => ("-USR2", process),
            Process::Pinnace(pinnace) => ("-TERM", &pinnace.process),
        };
        let mut kill = Command::new("kill");
        let status = kill.args([signal, &process.id().to_string()]).status()?;
        if !status.success() {
            bail!("kill {signal} failed");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Process::Reference(process) = &mut self.process {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn pinnace(program: &Path, conf: &Path, folder: &Path) -> Result<(Process, SocketAddr)> {
    let settings = Conf::read(conf)?.pinnace()?;
    let pinnace = Pinnace::start(program, folder, &settings)?;
    let address = pinnace.address;
    Ok((Process::Pinnace(pinnace), address))
}

fn reference(program: &Path, conf: &Path) -> Result<(Process, SocketAddr)> {
    let mut process = Command::new(program)
        .args(["-a", "127.0.0.1", "-p", "-1", "-c"])
        .arg(conf)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("the reference server does not run; remove target/reference to fetch it anew")?;
    let mut log = BufReader::new(process.stderr.take().context("no stderr")?);
    let mut said = String::new();
    let mut address = None;
    loop {
        let start = said.len();
        if log.read_line(&mut said)? == 0 {
            let _ = process.wait();
            bail!("it ended: {said}");
        }
        let line = &said[start..];
        if let Some((_, at)) = line.split_once("client connections on ") {
            address = Some(at.trim().parse()?);
        }
        if line.contains("Server is ready") {
            break;
        }
    }
    // Nobody reads on, but it must be able to write on.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let address = address.context("it did not say where it listens")?;
    Ok((Process::Reference(process), address))
}

/// The program of this workspace as a process; killed when dropped.
pub(crate) struct Pinnace {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Pinnace {
    /// Starts it on a free port with its own configuration.
    pub(crate) fn start(program: &Path, folder: &Path, settings: &str) -> Result<Self> {
        std::fs::write(folder.join("pinnace.yaml"), settings)?;
        Self::on(program, folder, "127.0.0.1:0")
    }

    /// Kills it and starts it again on the same folder and address.
    pub(crate) fn restart(&mut self, program: &Path, folder: &Path) -> Result<()> {
        self.kill();
        *self = Self::on(program, folder, &self.address.to_string())?;
        Ok(())
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn on(program: &Path, folder: &Path, nats: &str) -> Result<Self> {
        let errors = folder.join("stderr");
        let mut process = Command::new(program)
            .args([
                "--config",
                "pinnace.yaml",
                "serve",
                "--json",
                "--data",
                "data",
            ])
            .args(["--http", "127.0.0.1:0", "--nats", nats])
            .current_dir(folder)
            .env_clear()
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(File::create(&errors)?))
            .spawn()?;
        let mut line = String::new();
        let mut said = BufReader::new(process.stdout.take().context("no stdout")?);
        said.read_line(&mut line)?;
        let ready: serde_json::Value = serde_json::from_str(&line).or_else(|_| {
            let _ = process.wait();
            let mut text = String::new();
            File::open(&errors)?.read_to_string(&mut text)?;
            bail!("it ended: {text}")
        })?;
        let address = ready["nats"]
            .as_str()
            .and_then(|url| url.strip_prefix("nats://"))
            .context("it did not say where it listens")?
            .parse()?;
        Ok(Self { process, address })
    }
}

impl Drop for Pinnace {
    fn drop(&mut self) {
        self.kill();
    }
}
