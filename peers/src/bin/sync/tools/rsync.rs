//! rsync 3.x to its own daemon.
//!
//! Invariant: only the flags differ between variants; the copy is the module's folder `mirror`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use peers::servers::{Served, bound_to_us, free_port, start_on, version_of};

use super::Once;

/// The program.
pub(crate) const PROGRAM: &str = "rsync";

/// rsync with some flags more.
#[derive(Debug)]
pub(crate) struct Rsync {
    /// Beyond `-a --delete`.
    pub(crate) flags: &'static [&'static str],
}

impl Once for Rsync {
    fn name(&self) -> String {
        let mut name = PROGRAM.to_owned();
        for flag in self.flags {
            name.push(' ');
            name.push_str(flag);
        }
        name
    }

    fn version(&self) -> Result<String> {
        let version = version_of(Path::new(PROGRAM), "--version", "apt-get install rsync")?;
        let version = version.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(format!("{version}; `-a --delete {}`", self.flags.join(" "))
            .replace(" `", "`")
            .replace(";`", "; `"))
    }

    fn start(&self, root: &Path) -> Result<Served> {
        daemon(root)
    }

    fn mirror(&self, root: &Path) -> PathBuf {
        root.join("mirror")
    }

    fn client(&self, _root: &Path, source: &Path, server: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        let mut from = source.as_os_str().to_owned();
        from.push("/");
        command.args(["-a", "--delete"]).args(self.flags).arg(from);
        command.arg(format!("rsync://{server}/{MODULE}/mirror/"));
        command
    }
}

/// The module that holds the copy.
pub(crate) const MODULE: &str = "m";

/// Starts a daemon that serves `root`.
pub(crate) fn daemon(root: &Path) -> Result<Served> {
    let port = free_port()?;
    // Owners as the client has them need a daemon that runs as root, and targets of links one that is locked
    // in: otherwise it rewrites what points, or might point, out of the module. So this needs root.
    let config = format!(
        "address = 127.0.0.1\nport = {port}\nuse chroot = yes\nmunge symlinks = no\nuid = root\ngid = root\n\
         pid file = {root}/pid\nlog file = {root}/rsyncd.log\nreverse lookup = no\n\
         [{MODULE}]\npath = {root}\nread only = no\nlist = no\n",
        root = root.display()
    );
    std::fs::write(root.join("rsyncd.conf"), config)?;
    let mut command = bound_to_us(Path::new(PROGRAM));
    command.args(["--daemon", "--no-detach", "--config=rsyncd.conf"]);
    start_on(port, &mut command, root)
}
