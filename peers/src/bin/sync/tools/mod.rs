//! The mirrors under test, one file each, behind two seams: what ends when the copy is equal, and what
//! follows changes.
//!
//! Invariant: a tool keeps everything it writes in the folder it is given, and its processes end with the
//! values that stand for them.

pub(crate) mod lsyncd;
pub(crate) mod pinnace;
pub(crate) mod rsync;
pub(crate) mod syncthing;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use peers::servers::Served;

/// Something that makes a copy equal and ends.
pub(crate) trait Once {
    /// What it is called in tables and on the command line.
    fn name(&self) -> String;
    /// Its version and flags.
    ///
    /// # Errors
    /// When it is not installed.
    fn version(&self) -> Result<String>;
    /// Starts its server, with its files in `root`.
    ///
    /// # Errors
    /// When it does not become ready.
    fn start(&self, root: &Path) -> Result<Served>;
    /// Where the copy in `root` is.
    fn mirror(&self, root: &Path) -> PathBuf;
    /// The client that makes the copy equal, by the server at this address.
    fn client(&self, root: &Path, source: &Path, server: &str) -> Command;
    /// What the client says it sent and received, if it says so.
    fn said_bytes(&self, stdout: &[u8]) -> Option<u64> {
        let _ = stdout;
        None
    }
}

/// Something that keeps a copy equal while the source changes.
pub(crate) trait Live {
    /// What it is called in tables and on the command line.
    fn name(&self) -> String;
    /// Its version and settings.
    ///
    /// # Errors
    /// When it is not installed.
    fn version(&self) -> Result<String>;
    /// Where the copy in `root` will be.
    fn mirror(&self, root: &Path) -> PathBuf;
    /// Starts both sides.
    ///
    /// # Errors
    /// When one does not become ready.
    fn start(&self, root: &Path, source: &Path) -> Result<Following>;
    /// What the comparison must leave aside, in rsync's words, because this tool does not keep it.
    fn oracle(&self) -> &'static [&'static str] {
        super::oracle::ALL
    }
}

/// Both sides of a mirror that follows.
#[derive(Debug)]
pub(crate) struct Following {
    /// At the source.
    pub(crate) client: Served,
    /// At the copy.
    pub(crate) server: Served,
    /// Tells when the tool says for the first time that the copy is equal, if it does.
    pub(crate) settled: Option<std::sync::mpsc::Receiver<Result<()>>>,
}

impl Following {
    /// Ends both sides; a client that must be killed is not an error of the measurement.
    pub(crate) fn end(self) -> Result<()> {
        let client = self.client.end();
        self.server.end()?;
        client
    }
}
