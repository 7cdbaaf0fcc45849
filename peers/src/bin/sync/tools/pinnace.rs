//! `pinnace serve` and `pinnace sync`, once and following.
//!
//! Invariant: the copy is the share's folder below the server's data; the client's index is kept in the
//! same root, so that a second run knows what the first did.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use peers::limits::{LOOK_INTERVAL, SERVER_READY_MAX};
use peers::servers::{Served, bound_to_us, version_of};
use serde_json::Value;

use super::{Following, Live, Once};

/// The program under test, by name.
pub(crate) const NAME: &str = "pinnace";
const SHARE: &str = "mirror";

/// Pinnace with a level of durability.
#[derive(Clone, Debug)]
pub(crate) struct Pinnace {
    /// Where it is.
    pub(crate) program: PathBuf,
    /// `none`, `batch` or `strict`.
    pub(crate) durability: &'static str,
}

impl Pinnace {
    fn described(&self) -> Result<String> {
        let how = "cargo build --release --manifest-path ../Cargo.toml";
        let version = version_of(&self.program, "--version", how)?;
        let help = Command::new(&self.program)
            .args(["sync", "--help"])
            .output();
        ensure!(
            help.is_ok_and(|help| help.status.success()),
            "{version} has no sync: {how}"
        );
        Ok(format!("{version}; `--durability {}`", self.durability))
    }

    fn serve(&self, root: &Path) -> Result<Served> {
        let ready = root.join("ready");
        // What an earlier server of this root wrote is not the answer.
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::File::create(root.join("server.log"))?;
        let child = bound_to_us(&self.program)
            .env("HOME", root)
            .env("XDG_CONFIG_HOME", root)
            .current_dir(root)
            .args(["serve", "--data", "data", "--ready-file", "ready"])
            .args(["--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the server")?;
        let mut served = Served {
            child,
            nats: String::new(),
            http: String::new(),
        };
        let deadline = Instant::now() + SERVER_READY_MAX;
        loop {
            // The file may be there before its content is.
            let said = std::fs::read_to_string(&ready).unwrap_or_default();
            if let Some((http, nats)) = doors(&said) {
                (served.http, served.nats) = (http, nats);
                return Ok(served);
            }
            if served.child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(root.join("server.log")).unwrap_or_default();
                bail!("the server is not ready: {said}{log}");
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }

    fn sync(&self, mut command: Command, root: &Path, source: &Path, server: &str) -> Command {
        command.env("HOME", root).env("XDG_CONFIG_HOME", root);
        command.arg("sync").arg(source).arg(SHARE);
        command.args(["--server", &format!("http://{server}")]);
        command.args(["--durability", self.durability, "--json"]);
        command.arg("--state").arg(root.join("state"));
        command
    }
}

impl Once for Pinnace {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn version(&self) -> Result<String> {
        self.described()
    }

    fn start(&self, root: &Path) -> Result<Served> {
        self.serve(root)
    }

    fn mirror(&self, root: &Path) -> PathBuf {
        root.join("data/shares").join(SHARE)
    }

    fn client(&self, root: &Path, source: &Path, server: &str) -> Command {
        // Without a wrapper before it: rsync has none either.
        let command = Command::new(&self.program);
        let mut command = self.sync(command, root, source, server);
        command.arg("--once");
        command
    }

    fn said_bytes(&self, stdout: &[u8]) -> Option<u64> {
        said_bytes(stdout)
    }
}

impl Live for Pinnace {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn version(&self) -> Result<String> {
        self.described()
    }

    fn mirror(&self, root: &Path) -> PathBuf {
        Once::mirror(self, root)
    }

    fn start(&self, root: &Path, source: &Path) -> Result<Following> {
        let server = self.serve(root)?;
        let log = std::fs::File::create(root.join("client.log"))?;
        let mut child = self
            .sync(bound_to_us(&self.program), root, source, &server.http)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start the client")?;
        let stdout = child.stdout.take().context("the client has no output")?;
        let client = Served {
            child,
            nats: String::new(),
            http: String::new(),
        };
        let (tell, settled) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let told = line.context("the client's output");
                match told.map(|line| is_synced(&line)) {
                    Ok(false) => {}
                    // Whoever listens may have heard it already; the pipe is read to its end all the same.
                    Ok(true) => drop(tell.send(Ok(()))),
                    Err(error) => drop(tell.send(Err(error))),
                }
            }
        });
        Ok(Following {
            client,
            server,
            settled: Some(settled),
        })
    }
}

/// Addresses of the HTTP and NATS doors in a ready file, once it is whole.
fn doors(said: &str) -> Option<(String, String)> {
    let ready: Value = serde_json::from_str(said).ok()?;
    let door = |key: &str, scheme: &str| {
        let url = ready[key].as_str()?;
        Some(url.strip_prefix(scheme)?.trim_end_matches('/').to_owned())
    };
    Some((door("http", "http://")?, door("nats", "nats://")?))
}

/// Whether a line says that everything up to then is mirrored.
fn is_synced(line: &str) -> bool {
    let parsed: Result<Value, _> = serde_json::from_str(line);
    parsed.is_ok_and(|line| line["event"] == "synced")
}

/// Bytes both ways by the summary, the last line.
fn said_bytes(stdout: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(stdout).ok()?;
    let summary: Value = serde_json::from_str(text.trim_end().lines().last()?).ok()?;
    Some(summary["sent_bytes"].as_u64()? + summary["received_bytes"].as_u64()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_file_counts_when_it_is_whole() {
        let whole = r#"{"http":"http://127.0.0.1:80/","nats":"nats://127.0.0.1:42","pid":7}"#;
        let expected = Some(("127.0.0.1:80".to_owned(), "127.0.0.1:42".to_owned()));
        assert_eq!(doors(whole), expected);
        for part in ["", &whole[..20], "{}", r#"{"http":1,"nats":2}"#] {
            assert_eq!(doors(part), None, "{part}");
        }
    }

    #[test]
    fn only_the_event_says_synced() {
        assert!(is_synced(r#"{"event":"synced","entries":3}"#));
        for line in [
            r#"{"event":"started"}"#,
            r#"{"path":"synced"}"#,
            "synced",
            "",
        ] {
            assert!(!is_synced(line), "{line}");
        }
    }

    #[test]
    fn the_summary_is_the_last_line() {
        let out = b"{\"event\":\"started\"}\n{\"sent_bytes\":10,\"received_bytes\":5}\n";
        assert_eq!(said_bytes(out), Some(15));
        assert_eq!(said_bytes(b"{\"sent_bytes\":10}\n"), None);
        assert_eq!(said_bytes(b""), None);
        assert_eq!(said_bytes(b"\xff"), None);
    }
}
