//! Servers under test, each a process of its own on free ports. One file per server.
//!
//! Invariant: a server ends with the value that stands for it, also when a measurement fails.

pub mod mosquitto;
pub mod nats_server;
pub mod nchan;
pub mod pinnace;
pub mod redis;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::limits::{LOOK_INTERVAL, SERVER_END_MAX, SERVER_READY_MAX};
use crate::load::durable::Store;
use crate::load::http::Paths;
use crate::load::wire::Wire;
use crate::process;

/// A server that messages can be measured on, and what it can do.
pub trait Broker {
    /// What it is called in tables and on the command line.
    fn name(&self) -> &'static str;
    /// Its version.
    ///
    /// # Errors
    /// When it is not installed; the error says how it would be.
    fn version(&self) -> Result<String>;
    /// Starts it with its data in `data`.
    ///
    /// # Errors
    /// When it cannot be started or does not become ready in time.
    fn start(&self, data: &Path) -> Result<Served>;
    /// How live messages go, if they do, and the most that may be under way.
    fn live(&self) -> Option<(&'static dyn Wire, Option<u64>)> {
        None
    }
    /// How a publish is acknowledged once stored, if it can be.
    fn store(&self) -> Option<Store> {
        None
    }
    /// Where messages are published and fetched over HTTP, if they can be.
    fn http(&self) -> Option<Paths> {
        None
    }
}

/// First line of what a program says to `flag`; it is looked for in `PATH` unless it is a path.
///
/// # Errors
/// When it cannot be run; the error holds `how_to_get`.
pub fn version_of(program: &Path, flag: &str, how_to_get: &str) -> Result<String> {
    let output = Command::new(program).arg(flag).output();
    let output = output.with_context(|| format!("{}: {how_to_get}", program.display()))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.lines().next().unwrap_or("unknown").to_owned())
}

/// A port of the loopback interface that nobody listens on now.
///
/// # Errors
/// When the system gives none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A command that ends with this program, however that ends.
pub fn bound_to_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Starts a peer that listens on `port` and waits until it does.
///
/// # Errors
/// When it cannot be started or does not listen in time; the error holds what it said.
pub fn start_on(port: u16, command: &mut Command, data: &Path) -> Result<Served> {
    let log = std::fs::File::create(data.join("log"))?;
    let child = command
        .current_dir(data)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let address = format!("127.0.0.1:{port}");
    let mut served = Served {
        child,
        nats: address.clone(),
        http: address.clone(),
    };
    let deadline = Instant::now() + SERVER_READY_MAX;
    while TcpStream::connect(&address).is_err() {
        if served.child.try_wait()?.is_some() || Instant::now() > deadline {
            let said = std::fs::read_to_string(data.join("log")).unwrap_or_default();
            bail!("{command:?} is not ready: {said}");
        }
        std::thread::park_timeout(LOOK_INTERVAL);
    }
    Ok(served)
}

/// A running server.
#[derive(Debug)]
pub struct Served {
    /// The process.
    pub child: Child,
    /// Address and port of its message door: NATS, or whatever it speaks.
    pub nats: String,
    /// Address and port of its HTTP door; empty when it has none.
    pub http: String,
}

impl Served {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// When it did not end on SIGTERM.
    pub fn end(mut self) -> Result<()> {
        process::end(&mut self.child, SERVER_END_MAX, LOOK_INTERVAL)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Ended already in the usual case; what can go wrong here has nobody to be told to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
