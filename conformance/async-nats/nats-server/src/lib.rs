//! Starts servers for the suite of async-nats, under the names its tests call.
//!
//! Invariant: the program is whatever `nats-server` the path names, told what to do by that server's own flags and
//! watched through its log, so the same tests run against the reference and against Pinnace. A server is killed
//! when it is dropped.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// No server takes longer to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub struct Server {
    process: Child,
    folder: TempDir,
    configuration: String,
    port: u16,
}

/// Several servers that know each other. There is no such thing here.
pub struct Cluster;

/// Starts a server without a configuration on a free port.
pub fn run_basic_server() -> Server {
    run_server("")
}

/// Starts a server on a free port, unless the configuration names one.
pub fn run_server(configuration: &str) -> Server {
    run_server_with_port(configuration, None)
}

/// Starts a server on the given port.
pub fn run_server_with_port(configuration: &str, port: Option<&str>) -> Server {
    let folder = tempfile::tempdir().expect("a folder for the server");
    let configuration = match configuration {
        "" => String::new(),
        relative => std::env::current_dir()
            .expect("a current folder")
            .join(relative)
            .display()
            .to_string(),
    };
    let (process, port) = start(&folder, &configuration, port);
    Server {
        process,
        folder,
        configuration,
        port,
    }
}

/// Would start three servers that know each other.
pub fn run_cluster(_configuration: &str) -> Cluster {
    panic!("clusters are not supported");
}

/// Asks the server to send its clients away.
pub fn set_lame_duck_mode(server: &Server) {
    let pid = server.folder.path().join("pid");
    let pid = std::fs::read_to_string(pid).expect("the server wrote its number");
    let status = Command::new("nats-server")
        .args(["--signal", &format!("ldm={}", pid.trim())])
        .status();
    assert!(status.expect("nats-server runs").success());
}

impl Server {
    /// Where clients connect.
    pub fn client_url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port clients connect to.
    pub fn client_port(&self) -> u16 {
        self.port
    }

    /// Kills it and starts it again on the same port and folder.
    pub fn restart(&mut self) {
        self.kill();
        let port = self.port.to_string();
        (self.process, self.port) = start(&self.folder, &self.configuration, Some(&port));
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Cluster {
    /// Where clients connect.
    pub fn client_url(&self) -> String {
        panic!("clusters are not supported");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(folder: &TempDir, configuration: &str, port: Option<&str>) -> (Child, u16) {
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    // A log of an earlier life would name an earlier port.
    let _ = std::fs::remove_file(at("log"));
    let mut command = Command::new("nats-server");
    command.arg("--store_dir").arg(at("store"));
    command.args(["-p", port.unwrap_or("-1")]);
    command.arg("-l").arg(at("log")).arg("-P").arg(at("pid"));
    if !configuration.is_empty() {
        command.args(["-c", configuration]);
    }
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server is in the path");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = std::fs::read_to_string(at("log")).unwrap_or_default();
        if log.contains("Server is ready")
            && let Some(port) = port_of(&log)
        {
            return (process, port);
        }
        let ended = process.try_wait().expect("its state").is_some();
        if ended || Instant::now() > deadline {
            let _ = process.kill();
            let _ = process.wait();
            panic!("the server did not start: {log}");
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn port_of(log: &str) -> Option<u16> {
    let line = log.lines().find(|line| line.contains("client connections on"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}
