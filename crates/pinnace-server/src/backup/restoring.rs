//! Making a data folder from a backup.
//!
//! Invariant: the backup is read to its end and verified before anything is written; what is written
//! stands in a folder of its own until it is synced, and the last step, which makes it count, is one
//! rename. A restore that was cut off leaves no topics, and is simply done again.

use std::fs::{self, File};
use std::io::{self, BufReader, Seek, Write};
use std::path::{Path, PathBuf};

use pinnace_proto::upkeep::TopicsCheck;

use super::format::{Part, Reader};
use super::{BackupError, BackupFacts, CHANNELS, LOG, verify_backup};
use crate::lock::{DataLock, LockError};
use crate::upkeep::{CheckError, check_log};

/// Where a restore works.
const UNFINISHED: &str = "restore.unfinished";

/// Why topics were not restored. Nothing in the data folder has changed that counts.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup is not to be used.
    #[error("the backup {file} is not used: {source}")]
    Backup {
        /// The file.
        file: PathBuf,
        /// Why.
        source: BackupError,
    },
    /// A server works in the folder, or it cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There are topics already.
    #[error(
        "the data folder {data} holds topics already, and a restore replaces none; give a new folder with \
         --data, or move `{there}` out of this one"
    )]
    Taken {
        /// The folder.
        data: PathBuf,
        /// What is there.
        there: &'static str,
    },
    /// The disk refused something.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was written does not read as topics.
    #[error("the backup {file} holds no topics this program can read: {source}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: CheckError,
    },
}

/// Topics that were restored.
#[derive(Debug)]
pub struct Restored {
    /// What the backup holds.
    pub facts: BackupFacts,
    /// What a check of it found: damage that was there when it was made.
    pub check: TopicsCheck,
}

/// Puts the topics of the backup `file` into the data folder `data`, which must have none yet.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(file: &Path, data: &Path) -> Result<Restored, RestoreError> {
    let refused = |source| RestoreError::Backup {
        file: file.to_owned(),
        source,
    };
    let mut backup = File::open(file).map_err(|error| refused(error.into()))?;
    let facts = verify_backup(BufReader::new(&backup)).map_err(refused)?;
    let _lock = DataLock::take(data)?;
    let unfinished = data.join(UNFINISHED);
    refuse_topics(data, unfinished.is_dir())?;

    clear(&unfinished).map_err(failed(&unfinished))?;
    backup.rewind().map_err(|error| refused(error.into()))?;
    let unpacked = unpack(BufReader::new(&backup), &unfinished, &refused);
    let check = unpacked.and_then(|()| {
        check_log(&unfinished.join(LOG)).map_err(|source| RestoreError::Unreadable {
            file: file.to_owned(),
            source,
        })
    });
    let check = check.inspect_err(|_| {
        // Best effort: what stays is cleared by the next restore.
        let _ = fs::remove_dir_all(&unfinished);
    })?;
    // The log comes last: with it the topics are there.
    for name in [CHANNELS, LOG] {
        let place = data.join(name);
        fs::rename(unfinished.join(name), &place).map_err(failed(&place))?;
        sync_folder(data).map_err(failed(data))?;
    }
    fs::remove_dir(&unfinished).map_err(failed(&unfinished))?;
    Ok(Restored { facts, check })
}

/// Whatever `again` says, a log is never replaced; the rest may be what an earlier restore left.
fn refuse_topics(data: &Path, again: bool) -> Result<(), RestoreError> {
    for (name, counts) in [(LOG, true), (CHANNELS, !again)] {
        if counts && data.join(name).exists() {
            return Err(RestoreError::Taken {
                data: data.to_owned(),
                there: name,
            });
        }
    }
    Ok(())
}

fn clear(unfinished: &Path) -> io::Result<()> {
    match fs::remove_dir_all(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(unfinished.join(LOG))
}

/// Writes the files of a backup, each synced, and their folders.
fn unpack(
    source: impl io::Read,
    folder: &Path,
    refused: &dyn Fn(BackupError) -> RestoreError,
) -> Result<(), RestoreError> {
    let mut reader = Reader::begin(source).map_err(refused)?;
    let mut current: Option<(PathBuf, File)> = None;
    loop {
        let start = reader.bytes();
        let part = reader.next().map_err(refused)?;
        if let Some((path, file)) = &mut current {
            match &part {
                Some(Part::Data(bytes)) => {
                    file.write_all(bytes).map_err(failed(path))?;
                    continue;
                }
                _ => file.sync_all().map_err(failed(path))?,
            }
        }
        match part {
            Some(Part::File { name, .. }) if is_expected(name) => {
                let path = folder.join(name);
                let file = File::create_new(&path).map_err(failed(&path))?;
                current = Some((path, file));
            }
            Some(_) => return Err(refused(BackupError::Damaged(start))),
            None => break,
        }
    }
    // Every backup has the file, if only an empty one.
    if !folder.join(CHANNELS).exists() {
        return Err(refused(BackupError::NoBackup));
    }
    for place in [folder.join(LOG), folder.to_owned()] {
        sync_folder(&place).map_err(failed(&place))?;
    }
    Ok(())
}

/// Whether a backup may name this file: it cannot reach out of the folder.
fn is_expected(name: &str) -> bool {
    let is_segment = |name: &str| {
        let digits = name.strip_suffix(".log");
        digits
            .is_some_and(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let in_log = name
        .strip_prefix(LOG)
        .and_then(|name| name.strip_prefix('/'));
    name == CHANNELS || in_log.is_some_and(is_segment)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    |source| RestoreError::Write { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::format::Writer;

    fn backup(files: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut writer, mut bytes) = Writer::begin(5);
        for (name, content) in files {
            bytes.extend(writer.file(name, content.len() as u64));
            bytes.extend(writer.data(content));
        }
        bytes.extend(writer.end());
        bytes
    }

    fn try_restore(folder: &Path, bytes: &[u8]) -> Result<Restored, RestoreError> {
        let file = folder.join("b");
        fs::write(&file, bytes).unwrap();
        restore(&file, &folder.join("data"))
    }

    /// Names in the data folder.
    fn left(folder: &Path) -> Vec<String> {
        let Ok(names) = fs::read_dir(folder.join("data")) else {
            return Vec::new();
        };
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "lock")
            .collect()
    }

    #[test]
    fn a_backup_that_is_cut_or_hurt_leaves_nothing() {
        let whole = backup(&[("channels", b"+a\n")]);
        let folder = tempfile::tempdir().unwrap();
        for cut in 0..whole.len() {
            let error = try_restore(folder.path(), &whole[..cut]).unwrap_err();
            assert!(
                matches!(error, RestoreError::Backup { .. }),
                "{cut}: {error}"
            );
            let mut hurt = whole.clone();
            hurt[cut] ^= 4;
            let error = try_restore(folder.path(), &hurt).unwrap_err();
            assert!(
                matches!(error, RestoreError::Backup { .. }),
                "{cut}: {error}"
            );
            assert_eq!(left(folder.path()), [""; 0], "{cut}");
        }
    }

    #[test]
    fn names_that_reach_elsewhere_are_refused() {
        for name in [
            "../x",
            "/etc/x",
            "log/../x",
            "log/1.log",
            "log/quarantine/00000000000000000001.log",
            "runs.db",
            "",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let bytes = backup(&[("channels", b""), (name, b"x")]);
            let error = try_restore(folder.path(), &bytes).unwrap_err().to_string();
            assert!(error.contains("damaged"), "{name}: {error}");
            assert_eq!(left(folder.path()), [""; 0], "{name}");
        }
    }

    #[test]
    fn topics_that_are_there_are_kept_and_an_unfinished_restore_is_none() {
        let whole = backup(&[("channels", b"+a\n")]);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        // What a restore leaves that was cut off before its last rename.
        fs::create_dir_all(data.join(UNFINISHED).join(LOG)).unwrap();
        fs::write(data.join(UNFINISHED).join(LOG).join("x"), "x").unwrap();
        fs::write(data.join(CHANNELS), "+half\n").unwrap();
        let restored = try_restore(folder.path(), &whole).unwrap();
        assert!(restored.check.clean);
        assert_eq!(fs::read(data.join(CHANNELS)).unwrap(), b"+a\n");
        for there in [LOG, CHANNELS] {
            let error = try_restore(folder.path(), &whole).unwrap_err();
            assert!(error.to_string().contains(&format!("`{there}`")), "{error}");
            if there == LOG {
                fs::remove_dir_all(data.join(LOG)).unwrap();
            }
        }
    }
}
