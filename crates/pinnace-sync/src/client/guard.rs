//! Whether deletions are believed: an unplugged disk, an empty mount or a script gone wrong must not empty the share.
//!
//! Invariant: nothing is removed before what was collected has been judged as a whole. A root that is another one than before
//! may not remove anything that counts. Left to others: finding out what is gone.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::fs::Root;

/// How much may go at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DeleteLimit {
    /// So many per cent of the entries that the share has, but always a few.
    Usual(f64),
    /// So many per cent, as somebody has said.
    Percent(f64),
    /// So many entries.
    Entries(u64),
    /// Everything.
    Off,
}

impl Default for DeleteLimit {
    fn default() -> Self {
        Self::Usual(25.0)
    }
}

/// Entries that may always go when nothing was said about it.
const ALWAYS: u64 = 32;
/// Deletions of so long count together while changes are mirrored as they happen.
const WINDOW: Duration = Duration::from_secs(60);

impl DeleteLimit {
    /// How many of so many entries may go.
    pub(super) fn most(self, entries: u64) -> u64 {
        let share = |percent: f64| (entries as f64 * percent / 100.0) as u64;
        match self {
            Self::Usual(percent) => share(percent).max(ALWAYS),
            Self::Percent(percent) => share(percent),
            Self::Entries(count) => count,
            Self::Off => u64::MAX,
        }
    }
}

/// Counts deletions.
pub(super) struct Guard {
    limit: DeleteLimit,
    /// The root is another one than it was.
    is_new_root: bool,
    window: Vec<(Instant, u64)>,
}

impl Guard {
    pub(super) fn new(limit: DeleteLimit, is_new_root: bool) -> Self {
        Self {
            limit,
            is_new_root,
            window: Vec::new(),
        }
    }

    /// Judges that so many entries of so many shall go.
    ///
    /// # Errors
    /// Why they do not.
    pub(super) fn judge(&mut self, gone: u64, entries: u64, now: Instant) -> Result<(), String> {
        if gone == 0 {
            return Ok(());
        }
        self.window
            .retain(|(when, _)| now.duration_since(*when) < WINDOW);
        let recently: u64 = self.window.iter().map(|(_, count)| count).sum();
        let (all, before) = (gone + recently, entries + recently);
        if self.is_new_root && self.limit != DeleteLimit::Off {
            return Err(format!(
                "the source is not the directory it was (another file system or another inode: unmounted, or replaced?), and {gone} of \
                 {entries} entries are missing in it; nothing was deleted. If this is right, say --delete-limit off once"
            ));
        }
        let most = self.limit.most(before);
        if all > most {
            return Err(format!(
                "{all} of {before} entries are gone from the source, and at most {most} may go at once; nothing more was \
                 deleted. If this is right, say --delete-limit with a higher limit or off"
            ));
        }
        self.window.push((now, gone));
        Ok(())
    }
}

/// Identifies a source: its file system and inode.
pub(super) fn identity(root: &Root) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(root)?;
    // The file system's own number stays when it is mounted again; devices may be numbered otherwise then.
    let number = match rustix::fs::fstatvfs(root)?.f_fsid {
        0 => stat.st_dev,
        number => number,
    };
    Ok((number, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_is_not_believed_at_once() {
        let now = Instant::now();
        let check = |limit, is_new, gone, entries| {
            Guard::new(limit, is_new).judge(gone, entries, now).is_ok()
        };
        let usual = DeleteLimit::default();
        for (limit, is_new, gone, entries, expected) in [
            (usual, false, 32, 40, true),
            (usual, false, 33, 40, false),
            (usual, false, 25, 100, true),
            (usual, false, 250, 1000, true),
            (usual, false, 251, 1000, false),
            (usual, true, 1, 1000, false),
            (usual, true, 0, 1000, true),
            (DeleteLimit::Percent(10.0), false, 2, 10, false),
            (DeleteLimit::Percent(10.0), false, 1, 10, true),
            (DeleteLimit::Entries(5), false, 5, 10, true),
            (DeleteLimit::Entries(5), false, 6, 10, false),
            (DeleteLimit::Off, true, 10, 10, true),
        ] {
            let case = format!("{limit:?} {is_new} {gone} of {entries}");
            assert_eq!(check(limit, is_new, gone, entries), expected, "{case}");
        }
    }

    #[test]
    fn what_goes_bit_by_bit_counts_together() {
        let now = Instant::now();
        let mut guard = Guard::new(DeleteLimit::default(), false);
        for done in 0..25 {
            assert!(guard.judge(10, 1000 - done * 10, now).is_ok());
        }
        assert!(guard.judge(10, 750, now).is_err());
        assert!(guard.judge(10, 750, now + WINDOW).is_ok());
    }
}
