//! Copies of damaged bytes, kept for whoever looks into the damage.
//!
//! Invariant: a copy is written once; a second recovery that finds the same damage leaves it alone.
//! Failing to make a copy never stops a recovery.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, write_full};

/// Copies `bytes`, found at `offset` of `segment`, with `note` beside them. Returns the path of
/// the copy, `None` when it could not be made.
pub(crate) fn keep(
    disk: &dyn Disk,
    dir: &Path,
    segment: &str,
    offset: usize,
    bytes: &[u8],
    note: &str,
) -> Option<PathBuf> {
    let room = dir.join("quarantine");
    let stem = format!(
        "{}-{offset}-{}",
        segment.trim_end_matches(".log"),
        bytes.len()
    );
    let path = room.join(format!("{stem}.bytes"));
    let taken = |name: &str| {
        disk.list(&room)
            .is_ok_and(|names| names.iter().any(|n| n == name))
    };
    if taken(&format!("{stem}.txt")) {
        return Some(path);
    }
    let write = || -> io::Result<()> {
        disk.create_dir(&room)?;
        // The note comes last: where it stands, the copy is whole.
        for (name, content) in [("bytes", bytes), ("txt", note.as_bytes())] {
            let target = room.join(format!("{stem}.{name}"));
            if taken(&format!("{stem}.{name}")) {
                disk.remove(&target)?;
            }
            let file = disk.create(&target)?;
            write_full(&*file, content, 0)?;
            file.sync_data()?;
        }
        disk.sync_dir(&room)
    };
    write().ok().map(|()| path)
}
