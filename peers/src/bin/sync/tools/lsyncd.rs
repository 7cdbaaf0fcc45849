//! lsyncd: it watches, waits its delay, and starts rsync to a daemon.
//!
//! Invariant: `delay = 1`, the shortest it has.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use peers::servers::{Served, bound_to_us, version_of};

use super::rsync::{MODULE, daemon};
use super::{Following, Live};

const PROGRAM: &str = "lsyncd";

/// lsyncd with its shortest delay.
#[derive(Debug)]
pub(crate) struct Lsyncd;

impl Live for Lsyncd {
    fn name(&self) -> String {
        PROGRAM.to_owned()
    }

    fn version(&self) -> Result<String> {
        let version = version_of(Path::new(PROGRAM), "--version", "apt-get install lsyncd")?;
        let version = version.replace("Version: ", "lsyncd ");
        Ok(format!(
            "{version}; `default.rsync`, `delay = 1`, `archive = true`"
        ))
    }

    fn mirror(&self, root: &Path) -> PathBuf {
        root.join("mirror")
    }

    fn start(&self, root: &Path, source: &Path) -> Result<Following> {
        let server = daemon(root)?;
        let config = format!(
            "settings {{ nodaemon = true, statusFile = {status:?}, inotifyMode = \"CloseWrite or Modify\" }}\n\
             sync {{ default.rsync, source = {source:?}, target = \"rsync://{address}/{MODULE}/mirror/\", \
             delay = 1, rsync = {{ archive = true }} }}\n",
            status = root.join("status"),
            address = server.http,
        );
        std::fs::write(root.join("lsyncd.conf"), config)?;
        let log = std::fs::File::create(root.join("client.log"))?;
        let child = bound_to_us(Path::new(PROGRAM))
            .current_dir(root)
            .args(["-nodaemon", "lsyncd.conf"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start lsyncd")?;
        let client = Served {
            child,
            nats: String::new(),
            http: String::new(),
        };
        Ok(Following {
            client,
            server,
            settled: None,
        })
    }
}
