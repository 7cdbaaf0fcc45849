//! A file that begins anew when it is large enough: `messages.log`, before it `messages.log.1`, `.2` …
//!
//! Invariant: lines are never cut by a rotation, and no more files are kept than were asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::MessageLogSettings;

pub(super) struct RotatedFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    files_max: u32,
}

/// What could not be written, and how many lines before it could.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) lines_before: usize,
    pub(super) error: io::Error,
}

impl RotatedFile {
    pub(super) fn open(settings: &MessageLogSettings) -> io::Result<Self> {
        let (file, bytes) = append_to(&settings.file)?;
        Ok(Self {
            path: settings.file.clone(),
            file,
            bytes,
            bytes_max: settings.file_bytes_max,
            files_max: settings.files_max,
        })
    }

    /// Goes on in whatever is at the path now, a new file if nothing is.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.bytes) = append_to(&self.path)?;
        Ok(())
    }

    /// Writes whole lines, each where there is room for it.
    pub(super) fn write(&mut self, mut lines: &[u8]) -> Result<(), Unwritten> {
        let mut written = 0;
        while !lines.is_empty() {
            let (now, later) = lines.split_at(self.fitting(lines));
            self.write_now(now).map_err(|error| Unwritten {
                lines_before: written,
                error,
            })?;
            written += memchr::memchr_iter(b'\n', now).count();
            lines = later;
        }
        Ok(())
    }

    /// How many bytes of whole lines go into the present file, or else into an empty one: one line at least.
    fn fitting(&self, lines: &[u8]) -> usize {
        let within = |room: u64| {
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let room = room.min(lines.len());
            lines
                .get(..room)
                .and_then(|part| memchr::memrchr(b'\n', part))
        };
        within(self.bytes_max.saturating_sub(self.bytes))
            .or_else(|| within(self.bytes_max))
            .or_else(|| memchr::memchr(b'\n', lines))
            .map_or(lines.len(), |end| end + 1)
    }

    fn write_now(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            // Half a line would spoil the next one.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.files_max).rev() {
            rename_if_there(
                &numbered(&self.path, number),
                &numbered(&self.path, number + 1),
            )?;
        }
        if self.files_max > 0 {
            rename_if_there(&self.path, &numbered(&self.path, 1))?;
        } else {
            std::fs::remove_file(&self.path)?;
        }
        self.reopen()
    }
}

fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message_log::LoggedPayload;

    fn settings(folder: &Path, files_max: u32) -> MessageLogSettings {
        MessageLogSettings {
            file: folder.join("m.log"),
            patterns: vec![">".to_owned()],
            payload: LoggedPayload::None,
            file_bytes_max: 10,
            files_max,
        }
    }

    #[test]
    fn a_full_file_makes_room_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RotatedFile::open(&settings(folder.path(), 2)).unwrap();
        // Ten bytes fill a file; a line longer than a file has one for itself.
        for line in ["12345678\n", "\n", "2\n", "a long line of its own\n", "4\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(read("m.log").as_deref(), Some("4\n"));
        assert_eq!(read("m.log.1").as_deref(), Some("a long line of its own\n"));
        assert_eq!(read("m.log.2").as_deref(), Some("2\n"));
        assert_eq!(read("m.log.3"), None);
        // What is there already counts when it is opened again.
        let mut file = RotatedFile::open(&settings(folder.path(), 0)).unwrap();
        file.write(b"123456789\n").unwrap();
        assert_eq!(read("m.log").as_deref(), Some("123456789\n"));
        assert_eq!(read("m.log.1").as_deref(), Some("a long line of its own\n"));
    }

    #[test]
    fn many_lines_at_once_are_spread_over_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RotatedFile::open(&settings(folder.path(), 9)).unwrap();
        file.write(b"1\n").unwrap();
        file.write(b"2\n345678\n9\n0\na very long line\n1\n2\n")
            .unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).ok();
        let files = ["m.log.3", "m.log.2", "m.log.1", "m.log"].map(read);
        let expected = ["1\n2\n", "345678\n9\n", "0\n", "a very long line\n"];
        assert_eq!(read("m.log.4").as_deref(), Some(expected[0]));
        assert_eq!(files[0].as_deref(), Some(expected[1]));
        assert_eq!(files[1].as_deref(), Some(expected[2]));
        assert_eq!(files[2].as_deref(), Some(expected[3]));
        assert_eq!(files[3].as_deref(), Some("1\n2\n"));
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RotatedFile::open(&settings(folder.path(), 2)).unwrap();
        file.write(b"1\n").unwrap();
        std::fs::rename(folder.path().join("m.log"), folder.path().join("old")).unwrap();
        file.write(b"2\n").unwrap();
        file.reopen().unwrap();
        file.write(b"3\n").unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(
            (read("old"), read("m.log")),
            ("1\n2\n".into(), "3\n".into())
        );
    }
}
