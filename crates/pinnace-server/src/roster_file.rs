//! The roster's history on disk: a line for each arrival and departure, so that it survives restarts.
//!
//! A file of its own, not the run database: a line is appended without a sync, from the task that noticed,
//! while a transaction would wait for the disk. What a power failure takes is history, no message.
//! Invariant: at most two files of [`ROSTER_HISTORY_MAX`] lines each; a line that does not read is left out.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pinnace_proto::api::ClientEntry;

use crate::limits::ROSTER_HISTORY_MAX;

const FILE: &str = "clients.jsonl";
const OLD_FILE: &str = "clients.old.jsonl";
/// Ends the arrivals of a server process that did not see their departures.
const START: &str = "start";
/// Why those left.
const SERVER_ENDED: &str = "the server ended";

#[derive(Debug)]
pub(crate) struct RosterFile {
    folder: PathBuf,
    file: File,
    lines: usize,
}

impl RosterFile {
    /// Opens the file in the data folder; with those who left, oldest first.
    pub(crate) fn open(data: &Path) -> io::Result<(Self, VecDeque<ClientEntry>)> {
        let read = |name: &str| match std::fs::read(data.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        };
        let (old, new) = (read(OLD_FILE)?, read(FILE)?);
        let lines = new.split(|byte| *byte == b'\n').count();
        let past = past(old.split(|b| *b == b'\n').chain(new.split(|b| *b == b'\n')));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(data.join(FILE))?;
        let folder = data.to_owned();
        let mut file = Self {
            folder,
            file,
            lines,
        };
        // The line before may be unfinished.
        file.append(&format!("\n{START}"), &[])?;
        Ok((file, past))
    }

    /// Notes an arrival, or with a reason a departure. `present` are those who are here.
    pub(crate) fn note(&mut self, entry: &ClientEntry, present: &[ClientEntry]) {
        let line = serde_json::to_string(entry).map_err(io::Error::from);
        if let Err(error) = line.and_then(|line| self.append(&line, present)) {
            tracing::warn!(%error, "the history of clients cannot be written");
        }
    }

    /// True when the next line begins a new file, which begins with who is present.
    pub(crate) fn is_full(&self) -> bool {
        self.lines >= ROSTER_HISTORY_MAX
    }

    fn append(&mut self, line: &str, present: &[ClientEntry]) -> io::Result<()> {
        let mut text = format!("{line}\n");
        if self.is_full() {
            let current = self.folder.join(FILE);
            std::fs::rename(&current, self.folder.join(OLD_FILE))?;
            self.file = OpenOptions::new().create(true).append(true).open(current)?;
            self.lines = 0;
            for entry in present {
                text = serde_json::to_string(entry)? + "\n" + &text;
            }
        }
        self.lines += 1;
        self.file.write_all(text.as_bytes())
    }
}

/// Those who left, oldest first, at most as many as are remembered.
fn past<'a>(lines: impl Iterator<Item = &'a [u8]>) -> VecDeque<ClientEntry> {
    let mut past = VecDeque::new();
    let mut here: BTreeMap<u64, ClientEntry> = BTreeMap::new();
    let mut latest_us = 0;
    let end = |here: &mut BTreeMap<u64, ClientEntry>, past: &mut VecDeque<_>, until_us: u64| {
        for (_, mut entry) in std::mem::take(here) {
            entry.duration_us = until_us.saturating_sub(entry.since_us);
            entry.reason = Some(SERVER_ENDED.to_owned());
            past.push_back(entry);
        }
    };
    for line in lines {
        if line == START.as_bytes() {
            end(&mut here, &mut past, latest_us);
        } else if let Ok(entry) = serde_json::from_slice::<ClientEntry>(line) {
            latest_us = latest_us.max(entry.since_us + entry.duration_us);
            match entry.reason {
                None => drop(here.insert(entry.connection, entry)),
                Some(_) => {
                    here.remove(&entry.connection);
                    past.push_back(entry);
                }
            }
        }
    }
    end(&mut here, &mut past, latest_us);
    let excess = past.len().saturating_sub(ROSTER_HISTORY_MAX);
    past.drain(..excess);
    past
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(connection: u64, since_us: u64, left_us: Option<u64>) -> ClientEntry {
        ClientEntry {
            connection,
            name: format!("n{connection}"),
            kind: "nats".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            since_us,
            duration_us: left_us.map_or(0, |left_us| left_us - since_us),
            reason: left_us.map(|_| "gone".to_owned()),
        }
    }

    #[test]
    fn who_left_is_remembered_and_who_was_here_at_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, past) = RosterFile::open(folder.path()).unwrap();
        assert!(past.is_empty());
        file.note(&entry(1, 10, None), &[]);
        file.note(&entry(2, 20, None), &[]);
        file.note(&entry(1, 10, Some(50)), &[]);
        file.file.write_all(b"{\"connection\":3,\"na").unwrap();
        for _ in 0..2 {
            let (_, past) = RosterFile::open(folder.path()).unwrap();
            let told: Vec<_> = past
                .iter()
                .map(|e| (e.connection, e.duration_us, e.reason.as_deref().unwrap()))
                .collect();
            assert_eq!(told, [(1, 40, "gone"), (2, 30, SERVER_ENDED)]);
        }
    }

    #[test]
    fn files_are_bounded_and_who_stays_is_carried_over() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = RosterFile::open(folder.path()).unwrap();
        let stays = entry(1, 1, None);
        file.note(&stays, &[]);
        for number in 0..2 * ROSTER_HISTORY_MAX as u64 + 50 {
            file.note(&entry(number + 2, 1, Some(2)), std::slice::from_ref(&stays));
        }
        drop(file);
        let (_, past) = RosterFile::open(folder.path()).unwrap();
        assert_eq!(past.len(), ROSTER_HISTORY_MAX);
        assert_eq!(past.back().unwrap().connection, 1);
        let bytes = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(bytes(FILE) + bytes(OLD_FILE) < 400 * ROSTER_HISTORY_MAX as u64);
    }
}
