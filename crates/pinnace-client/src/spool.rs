//! The event log of one bench client: a file of JSON lines, and beside it how far it was delivered.
//!
//! ```text
//! <folder>/<run>.<client>.<instance>.jsonl        one event a line, in order
//! <folder>/<run>.<client>.<instance>.delivered    {"server": URL, "bytes": N}
//! ```
//!
//! Invariant: a line is written whole before it is offered for delivery, and the mark only moves
//! past lines the server acknowledged. A mark that was lost only makes lines be sent twice.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits::EVENT_LOGS_MAX;

const LOG: &str = "jsonl";
const MARK: &str = "delivered";

/// The mark's server of a log that is not to be delivered.
pub(crate) const NO_SERVER: &str = "";

#[derive(Serialize, Deserialize)]
struct Mark {
    server: String,
    bytes: u64,
}

/// The writing end.
pub(crate) struct EventLog {
    path: PathBuf,
    file: File,
}

impl EventLog {
    /// Begins the log of a client whose events go to `server`.
    pub(crate) fn begin(folder: &Path, stem: &str, server: &str) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        prune(folder)?;
        let path = folder.join(format!("{stem}.{LOG}"));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)?;
        // Whoever holds the lock delivers; it goes with the process.
        file.try_lock().map_err(io::Error::from)?;
        write_mark(&path, server, 0)?;
        Ok(Self { path, file })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds one line.
    pub(crate) fn add(&mut self, json: &str) -> io::Result<()> {
        let mut line = String::with_capacity(json.len() + 1);
        line.push_str(json);
        line.push('\n');
        self.file.write_all(line.as_bytes())
    }
}

/// The delivering end.
pub(crate) struct Undelivered {
    path: PathBuf,
    server: String,
    reader: BufReader<File>,
    delivered_bytes: u64,
    line: String,
}

impl Undelivered {
    /// Goes on where the mark of the log in `path` stands.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mark: Mark = serde_json::from_slice(&std::fs::read(path.with_extension(MARK))?)?;
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(mark.bytes))?;
        Ok(Self {
            path: path.to_owned(),
            server: mark.server,
            reader: BufReader::new(file),
            delivered_bytes: mark.bytes,
            line: String::new(),
        })
    }

    /// The next whole line that was not delivered yet.
    pub(crate) fn next(&mut self) -> io::Result<Option<&str>> {
        if !self.line.ends_with('\n') {
            // The rest of a line that was being written at the last look.
            self.reader.read_line(&mut self.line)?;
        }
        Ok(self.line.ends_with('\n').then(|| self.line.trim_end()))
    }

    /// The line that `next` gave is at the server.
    pub(crate) fn delivered(&mut self) -> io::Result<()> {
        self.delivered_bytes += self.line.len() as u64;
        self.line.clear();
        write_mark(&self.path, &self.server, self.delivered_bytes)
    }

    /// Lines not delivered yet.
    pub(crate) fn count(&self) -> io::Result<u64> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.delivered_bytes))?;
        let mut count = 0;
        for line in BufReader::new(file).lines() {
            line?;
            count += 1;
        }
        Ok(count)
    }
}

fn write_mark(log: &Path, server: &str, bytes: u64) -> io::Result<()> {
    let mark = Mark {
        server: server.to_owned(),
        bytes,
    };
    let new = log.with_extension("delivered-new");
    std::fs::write(&new, serde_json::to_vec(&mark)?)?;
    std::fs::rename(new, log.with_extension(MARK))
}

/// Logs of ended clients that hold events for `server` which were never delivered, with the lock
/// that makes this process the one to deliver them.
pub(crate) fn leftovers(folder: &Path, server: &str) -> io::Result<Vec<(PathBuf, File)>> {
    let mut leftovers = Vec::new();
    for path in logs(folder)? {
        let Some(file) = unless_gone(OpenOptions::new().append(true).open(&path))? else {
            continue;
        };
        let Ok(undelivered) = Undelivered::open(&path) else {
            continue;
        };
        if undelivered.server == server
            && undelivered.delivered_bytes < file.metadata()?.len()
            && file.try_lock().is_ok()
        {
            leftovers.push((path, file));
        }
    }
    Ok(leftovers)
}

fn logs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == LOG) {
            logs.push(path);
        }
    }
    logs.sort();
    Ok(logs)
}

/// Other clients on this host begin and remove logs at any moment: what is gone is nothing that failed.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Removes the oldest logs of ended clients that are wholly delivered, beyond the number kept.
fn prune(folder: &Path) -> io::Result<()> {
    let mut delivered = Vec::new();
    for path in logs(folder)? {
        let Some(metadata) = unless_gone(std::fs::metadata(&path))? else {
            continue;
        };
        let whole = Undelivered::open(&path)
            .is_ok_and(|log| log.delivered_bytes >= metadata.len() || log.server == NO_SERVER);
        if whole {
            delivered.push((metadata.modified()?, path));
        }
    }
    delivered.sort();
    let surplus = delivered.len().saturating_sub(EVENT_LOGS_MAX);
    for (_, path) in delivered.into_iter().take(surplus) {
        let log = unless_gone(File::open(&path))?;
        if log.is_some_and(|log| log.try_lock().is_ok()) {
            unless_gone(std::fs::remove_file(path.with_extension(MARK)))?;
            unless_gone(std::fs::remove_file(path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "http://s:1";

    #[test]
    fn lines_are_delivered_in_order_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::begin(folder.path(), "r.c.i", SERVER).unwrap();
        let mut undelivered = Undelivered::open(log.path()).unwrap();
        assert_eq!(undelivered.next().unwrap(), None);
        log.add("1").unwrap();
        log.add("2").unwrap();
        assert_eq!(undelivered.next().unwrap(), Some("1"));
        assert_eq!(
            undelivered.next().unwrap(),
            Some("1"),
            "until it is delivered"
        );
        undelivered.delivered().unwrap();
        assert_eq!(undelivered.count().unwrap(), 1);

        let mut later = Undelivered::open(log.path()).unwrap();
        assert_eq!(later.next().unwrap(), Some("2"));
        later.delivered().unwrap();
        assert_eq!(later.next().unwrap(), None);
        log.add("3").unwrap();
        assert_eq!(later.next().unwrap(), Some("3"));
    }

    #[test]
    fn half_a_line_waits_for_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::begin(folder.path(), "r.c.i", SERVER).unwrap();
        let mut undelivered = Undelivered::open(log.path()).unwrap();
        log.file.write_all(b"{\"a\":").unwrap();
        assert_eq!(undelivered.next().unwrap(), None);
        log.file.write_all(b"1}\n").unwrap();
        assert_eq!(undelivered.next().unwrap(), Some("{\"a\":1}"));
    }

    #[test]
    fn leftovers_are_those_of_ended_clients_for_this_server() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::begin(folder.path(), "r.c.i", SERVER).unwrap();
        log.add("1").unwrap();
        assert!(
            leftovers(folder.path(), SERVER).unwrap().is_empty(),
            "its client lives"
        );
        drop(log);
        assert!(
            leftovers(folder.path(), "http://other:1")
                .unwrap()
                .is_empty()
        );
        let found = leftovers(folder.path(), SERVER).unwrap();
        assert_eq!(found.len(), 1);
        assert!(
            leftovers(folder.path(), SERVER).unwrap().is_empty(),
            "somebody has it"
        );
        let mut undelivered = Undelivered::open(&found[0].0).unwrap();
        undelivered.next().unwrap();
        undelivered.delivered().unwrap();
        drop(found);
        assert!(
            leftovers(folder.path(), SERVER).unwrap().is_empty(),
            "all delivered"
        );
    }

    #[test]
    fn the_log_of_a_client_that_lives_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let lives = EventLog::begin(folder.path(), "r.c.lives", SERVER).unwrap();
        for number in 0..EVENT_LOGS_MAX + 3 {
            drop(EventLog::begin(folder.path(), &format!("r.c.{number}"), SERVER).unwrap());
        }
        assert!(lives.path().exists());
        drop(lives);
        drop(EventLog::begin(folder.path(), "r.c.last", SERVER).unwrap());
        assert!(!folder.path().join("r.c.lives.jsonl").exists());
    }

    #[test]
    fn clients_that_begin_at_once_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let begin = |client: usize| {
            for number in 0..2 * EVENT_LOGS_MAX {
                let stem = format!("r.{client}.{number}");
                let log = EventLog::begin(folder.path(), &stem, SERVER).unwrap();
                leftovers(folder.path(), SERVER).unwrap();
                assert!(log.path().exists());
            }
        };
        std::thread::scope(|scope| {
            for client in 0..4 {
                scope.spawn(move || begin(client));
            }
        });
    }

    #[test]
    fn only_so_many_delivered_logs_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..EVENT_LOGS_MAX + 3 {
            drop(EventLog::begin(folder.path(), &format!("r.c.{number}"), SERVER).unwrap());
        }
        let mut pending = EventLog::begin(folder.path(), "r.c.pending", SERVER).unwrap();
        pending.add("1").unwrap();
        drop(pending);
        drop(EventLog::begin(folder.path(), "r.c.last", SERVER).unwrap());
        let kept = logs(folder.path()).unwrap();
        assert_eq!(
            kept.len(),
            EVENT_LOGS_MAX + 2,
            "the delivered, the pending, the new"
        );
        assert!(
            kept.iter()
                .any(|path| path.to_string_lossy().contains("pending"))
        );
    }
}
