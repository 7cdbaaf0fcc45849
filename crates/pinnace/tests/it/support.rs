//! A server as a process of its own, the command line as a function, and raw clients of both doors.
//!
//! Nothing here sleeps: the server says when it is ready, sockets have deadlines, and conditions are
//! waited for with a bounded number of short looks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Nothing a test waits for takes longer.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The program, away from this machine's settings.
pub fn pinnace(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinnace"));
    command
        .env_clear()
        .env("HOME", folder)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Done {
    let output = pinnace(folder).args(arguments).output().unwrap();
    Done::of(&output, arguments)
}

/// What a finished program said.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    arguments: String,
}

impl Done {
    pub fn of(output: &Output, arguments: &[&str]) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
            arguments: arguments.join(" "),
        }
    }

    /// Checks the exit code and that stderr holds each of `parts`.
    #[track_caller]
    pub fn expect(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing: {self:#?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}: {self:#?}", self.arguments))
    }
}

/// A server process; killed when dropped.
pub struct Server {
    pub folder: TempDir,
    process: Child,
    pub http: String,
    pub nats: String,
}

impl Server {
    /// Starts one on free ports.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one on free ports with more flags; `{}` in them is the server's folder.
    pub fn with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let command = serve(folder.path(), ANY, ANY, flags);
        let (process, http, nats) = launch(folder.path(), command);
        Self {
            folder,
            process,
            http,
            nats,
        }
    }

    /// Starts one on free ports in a folder that has its data already.
    pub fn on(folder: TempDir) -> Self {
        let command = serve(folder.path(), ANY, ANY, &[]);
        let (process, http, nats) = launch(folder.path(), command);
        Self {
            folder,
            process,
            http,
            nats,
        }
    }

    /// Starts one on free ports with a configuration file.
    pub fn configured(yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pinnace.yaml"), yaml).unwrap();
        let command = serve(folder.path(), ANY, ANY, &[]);
        let (process, http, nats) = launch(folder.path(), command);
        Self {
            folder,
            process,
            http,
            nats,
        }
    }

    /// Starts one on free ports by another program, which is handed the server's own arguments.
    pub fn wrapped(wrap: impl FnOnce(&Command) -> Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = wrap(&serve(folder.path(), ANY, ANY, &[]));
        command.current_dir(folder.path());
        let (process, http, nats) = launch(folder.path(), command);
        Self {
            folder,
            process,
            http,
            nats,
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on the same folder and ports.
    pub fn restart(&mut self) {
        let (process, http, nats) = launch(
            self.folder.path(),
            serve(self.folder.path(), &self.http, &self.nats, &[]),
        );
        (self.process, self.http, self.nats) = (process, http, nats);
    }

    /// Ends it with SIGTERM and says its exit code.
    pub fn terminate(&mut self) -> i32 {
        signal(self.process.id(), "TERM");
        self.wait()
    }

    /// Waits for its end and says its exit code.
    pub fn wait(&mut self) -> i32 {
        let mut code = None;
        wait_for("the server's end", || {
            code = self.process.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code().unwrap_or(-1)
    }

    /// Runs the program against this server.
    pub fn run(&self, arguments: &[&str]) -> Done {
        self.run_in(self.folder.path(), arguments)
    }

    /// Runs the program against this server in another folder.
    pub fn run_in(&self, folder: &Path, arguments: &[&str]) -> Done {
        let url = self.url();
        let mut all = vec!["--server", &url];
        all.extend(arguments);
        run(folder, &all)
    }

    /// Starts the program against this server and leaves it running.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        pinnace(self.folder.path())
            .args(["--server", &self.url()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Like `spawn`, with a stdin to write to.
    pub fn spawn_with_stdin(&self, arguments: &[&str]) -> Child {
        pinnace(self.folder.path())
            .args(["--server", &self.url()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// One HTTP exchange.
    #[track_caller]
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        http(&self.http, method, path, headers, body)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.http("GET", path, &[], b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.http("POST", path, &[], body.as_bytes())
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.http("DELETE", path, &[], b"")
    }

    /// A new connection to the NATS door, its INFO read.
    pub fn nats(&self) -> Raw {
        let mut raw = Raw::connect(&self.nats);
        let info = raw.line();
        assert!(info.starts_with("INFO {") && info.ends_with("} "), "{info}");
        raw
    }

    /// A connection that said CONNECT as modern clients do.
    pub fn nats_client(&self) -> Raw {
        let mut raw = self.nats();
        raw.send(r#"CONNECT {"verbose":false,"headers":true,"no_responders":true,"protocol":1}"#);
        raw.send("\r\nPING\r\n");
        assert_eq!(raw.line(), "PONG");
        assert!(raw.line().starts_with("INFO "));
        raw
    }

    /// The only run there is, as `runs export` gives it; `None` while there is none.
    pub fn runs(&self) -> Vec<Value> {
        let listed: Value = serde_json::from_slice(&self.get("/-/runs").body).unwrap();
        listed["runs"].as_array().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A free port of loopback.
const ANY: &str = "127.0.0.1:0";

fn serve(folder: &Path, http: &str, nats: &str, flags: &[&str]) -> Command {
    let place = folder.to_str().unwrap();
    let mut command = pinnace(folder);
    command
        .args([
            "serve", "--json", "--data", "data", "--http", http, "--nats", nats,
        ])
        .args(flags.iter().map(|flag| flag.replace("{}", place)));
    command
}

fn launch(folder: &Path, mut command: Command) -> (Child, String, String) {
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(
            std::fs::File::create(folder.join("stderr")).unwrap(),
        ))
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let said = std::fs::read_to_string(folder.join("stderr")).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}{said}"));
    let address = |key: &str, scheme: &str| {
        ready[key]
            .as_str()
            .unwrap()
            .strip_prefix(scheme)
            .unwrap()
            .to_owned()
    };
    (
        process,
        address("http", "http://"),
        address("nats", "nats://"),
    )
}

/// The same command in a mount namespace of its own, in which `setup` was run: what it mounts is
/// gone with the process.
pub fn in_own_mounts(setup: &str, command: &Command) -> Command {
    let root = rustix::process::geteuid().is_root();
    let script = format!("{setup} && exec \"$@\"");
    let mut wrapped = Command::new("unshare");
    wrapped.args([if root { "-m" } else { "-mUr" }, "sh", "-ec", &script, "sh"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped
}

/// Sends a signal to a process by its id.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Looks again and again, for at most [`PATIENCE`], until `look` says yes.
#[track_caller]
pub fn wait_for(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits for a program's end and says all it said.
pub fn finish(mut child: Child) -> Done {
    wait_for("a program's end", || child.try_wait().unwrap().is_some());
    Done::of(&child.wait_with_output().unwrap(), &["(spawned)"])
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// One HTTP exchange on a connection of its own.
#[track_caller]
pub fn http(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    try_http(address, method, path, headers, body).unwrap()
}

/// One HTTP exchange; an error when the server went away in the middle.
pub fn try_http(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n", body.len());
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    // The server may answer and close before it has read all of a body it refuses.
    let _ = stream.write_all(&bytes);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else {
        return Err(read
            .err()
            .unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into()));
    };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let body = answer.split_off(end + 4);
    let answer = Answer {
        status,
        headers: head,
        body,
    };
    let length = answer
        .header("content-length")
        .and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length != answer.body.len()) {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// A raw connection that is read line by line.
pub struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// From now on the system keeps little that was not read.
    pub fn keep_little(&self) {
        let socket = self.stream.get_ref();
        rustix::net::sockopt::set_socket_recv_buffer_size(socket, 128 << 10).unwrap();
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// The next line without its end; `None` at the end of the connection.
    pub fn next_line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        // A reset reads like an end.
        let _ = self.stream.read_until(b'\n', &mut line);
        let text = line.strip_suffix(b"\n")?;
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// The next line, which there must be.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.next_line().expect("the connection ended")
    }

    /// The next bytes, so many.
    #[track_caller]
    pub fn exactly(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.stream
            .read_exact(&mut bytes)
            .expect("the connection ended");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Everything until the connection ends.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends PING and returns all lines before the PONG.
    pub fn until_pong(&mut self) -> Vec<String> {
        self.send("PING\r\n");
        let mut lines = Vec::new();
        loop {
            match self.next_line() {
                Some(line) if line == "PONG" => return lines,
                Some(line) => lines.push(line),
                None => panic!("the connection ended after {lines:?}"),
            }
        }
    }
}
