//! Topics that somebody created: they are listed although nobody is subscribed to them.
//!
//! A created topic keeps no messages, so it is no queue: it is a line, `+TOPIC`, of the file `channels` in
//! the data folder, and `-TOPIC` when it was removed again. Invariant: what was answered as created or
//! removed is synced; a line that was not written whole is none. The file is written anew when it is opened.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::CHANNELS_MAX;

const FILE: &str = "channels";
const NEW_FILE: &str = "channels.new";

/// The created topics; shared by the doors.
#[derive(Debug)]
pub(crate) struct Channels {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    topics: BTreeSet<String>,
    file: File,
}

/// Why a topic could not be created or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error("{CHANNELS_MAX} topics are created already; remove some that nobody needs")]
    TooMany,
    #[error("the file `{FILE}` in the data folder cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl Channels {
    /// Reads the file in the data folder, and writes it anew with what still counts.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let place = data.join(FILE);
        let topics = match std::fs::read(&place) {
            Ok(bytes) => read(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        let fresh = data.join(NEW_FILE);
        let mut file = File::create(&fresh)?;
        file.write_all(lines(&topics).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &place)?;
        File::open(data)?.sync_all()?;
        let file = OpenOptions::new().append(true).open(&place)?;
        let state = Mutex::new(State { topics, file });
        Ok(Self { state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists the topic from now on; false when it was already. Waits for the disk.
    pub(crate) fn create(&self, topic: &str) -> Result<bool, ChannelError> {
        let mut state = self.lock();
        if state.topics.contains(topic) {
            return Ok(false);
        }
        if state.topics.len() >= CHANNELS_MAX {
            return Err(ChannelError::TooMany);
        }
        state.append('+', topic)?;
        state.topics.insert(topic.to_owned());
        Ok(true)
    }

    /// Lists the topic no more, unless somebody is subscribed; false when it was not created. Waits for
    /// the disk.
    pub(crate) fn remove(&self, topic: &str) -> Result<bool, ChannelError> {
        let mut state = self.lock();
        if !state.topics.contains(topic) {
            return Ok(false);
        }
        state.append('-', topic)?;
        state.topics.remove(topic);
        Ok(true)
    }

    /// The file as it would be written anew.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        lines(&self.lock().topics).into_bytes()
    }

    /// The created topics, sorted.
    pub(crate) fn list(&self) -> Vec<String> {
        self.lock().topics.iter().cloned().collect()
    }
}

impl State {
    fn append(&mut self, sign: char, topic: &str) -> io::Result<()> {
        // The blank line ends one that an earlier error left unfinished.
        self.file
            .write_all(format!("\n{sign}{topic}\n").as_bytes())?;
        self.file.sync_data()
    }
}

fn lines(topics: &BTreeSet<String>) -> String {
    topics.iter().map(|topic| format!("+{topic}\n")).collect()
}

fn read(bytes: &[u8]) -> BTreeSet<String> {
    let mut topics = BTreeSet::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(b"");
        match (line.first(), std::str::from_utf8(line)) {
            (Some(b'+'), Ok(line)) => drop(topics.insert(line[1..].to_owned())),
            (Some(b'-'), Ok(line)) => drop(topics.remove(&line[1..])),
            _ => {}
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_created_is_there_after_a_restart_and_what_was_removed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let channels = Channels::open(folder.path()).unwrap();
        for topic in ["b", "a", "ü.x"] {
            assert!(channels.create(topic).unwrap());
            assert!(!channels.create(topic).unwrap());
        }
        assert!(channels.remove("b").unwrap() && !channels.remove("b").unwrap());
        drop(channels);
        for _ in 0..2 {
            let again = Channels::open(folder.path()).unwrap();
            assert_eq!(again.list(), ["a", "ü.x"]);
        }
    }

    #[test]
    fn a_line_cut_anywhere_costs_only_itself() {
        let whole = b"+a\n+bb\n-a\n+ccc\n";
        for (length, expected) in [
            (2, &[][..]),
            (3, &["a"]),
            (6, &["a"]),
            (7, &["a", "bb"]),
            (9, &["a", "bb"]),
            (10, &["bb"]),
            (14, &["bb"]),
            (15, &["bb", "ccc"]),
        ] {
            let topics: Vec<String> = read(&whole[..length]).into_iter().collect();
            assert_eq!(topics, expected, "{length} bytes");
        }
        // What is written after the cut is not taken for its continuation.
        let topics: Vec<String> = read(b"+a\n+b\n\n+c\n").into_iter().collect();
        assert_eq!(topics, ["a", "b", "c"]);
    }

    #[test]
    fn there_are_not_more_than_there_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = (0..CHANNELS_MAX - 1).map(|n| format!("+t{n}\n")).collect();
        std::fs::write(folder.path().join(FILE), lines).unwrap();
        let channels = Channels::open(folder.path()).unwrap();
        assert!(channels.create("last").unwrap());
        assert!(matches!(
            channels.create("more"),
            Err(ChannelError::TooMany)
        ));
        assert!(!channels.create("last").unwrap());
        assert!(channels.remove("t0").unwrap());
        assert!(channels.create("more").unwrap());
    }
}
