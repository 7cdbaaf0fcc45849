//! The demo's mirror: a small directory that changes every now and then, mirrored by a process of its own.
//!
//! Invariant: when it is dropped the process and the thread have ended, and the directory is gone. Left to others: the
//! server, and when to show what.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pinnace_client::Api;
use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, Result};

/// Its share.
pub(super) const SHARE: &str = "notes";
/// Between two changes.
const PAUSE: Duration = Duration::from_millis(500);
/// Files there are at a time, at most.
const FILES: u64 = 8;

pub(super) struct Mirror {
    folder: PathBuf,
    process: Child,
    ending: Option<Sender<()>>,
    changing: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Begins to mirror a new directory in a folder that is made for it.
    pub(super) fn start(folder: &Path, server: &str) -> Result<Self> {
        let failed =
            |error: io::Error| Failure::failed(format!("the mirror cannot start: {error}"));
        let source = folder.join(SHARE);
        fs::create_dir_all(&source).map_err(failed)?;
        let process = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["--server", server, "--quiet", "sync"])
            .arg(&source)
            .arg(SHARE)
            .arg("--state")
            .arg(folder.join("state"))
            .env_remove("PINNACE_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let (ending, ended) = channel();
        let mut mirror = Self {
            folder: folder.to_owned(),
            process,
            ending: Some(ending),
            changing: None,
        };
        let thread = std::thread::Builder::new().name("pn-demo".into());
        let changing = thread.spawn(move || {
            for number in 0.. {
                // What cannot be written is no part of the show.
                let _ = change(&source, number);
                if ended.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        mirror.changing = Some(changing.map_err(failed)?);
        Ok(mirror)
    }

    /// What came of it so far.
    pub(super) fn sum_up(&self, api: &Api) -> Result<String> {
        let waited = api.share_wait(SHARE)?;
        let share = api.share(SHARE)?;
        Ok(format!(
            "mirror: {} changes of {} are durable in the share {SHARE}; {} entries, {} deletions in its trash",
            waited.seq,
            self.folder.join(SHARE).display(),
            share.entries,
            share.trash
        ))
    }
}

/// Writes a file, and now and then renames or deletes one.
fn change(source: &Path, number: u64) -> io::Result<()> {
    let file = |number: u64| source.join(format!("note-{}.txt", number % FILES));
    fs::write(file(number), format!("note {number}\n"))?;
    match number % 4 {
        2 => fs::rename(file(number), source.join("latest.txt")),
        3 => fs::remove_file(file(number - 3)),
        _ => Ok(()),
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        drop(self.ending.take());
        if let Some(changing) = self.changing.take() {
            let _ = changing.join();
        }
        if let Some(pid) = Pid::from_raw(self.process.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
