//! The files in the source that say what is left out of the mirror.
//!
//! Left to others: what their patterns mean (`filter`).

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::Mirror;
use super::skip::Skip;
use crate::path;

/// Name of the files with rules about what is left out.
pub(super) const RULES: &[u8] = b".pinnaceignore";
/// Bytes of such a file.
const RULES_BYTES_MAX: u64 = 1 << 20;

impl Mirror<'_> {
    /// Reads the rules of a directory. Returns whether they have changed.
    pub(super) fn read_rules(&self, at: &[u8], fd: &OwnedFd, is_there: bool) -> bool {
        let content = is_there.then(|| {
            let file = crate::fs::open_file(fd.as_fd(), RULES)?;
            let mut bytes = Vec::new();
            crate::fs::read_exactly(&file, 0, RULES_BYTES_MAX as usize, &mut bytes)?;
            Ok::<_, Errno>(bytes)
        });
        let content = match content.transpose() {
            Ok(content) => content,
            Err(error) => {
                self.skip(&path::join(at, RULES), Skip::Unreadable(error));
                return false;
            }
        };
        let (changed, warnings) = self.filter.set_dir(at, content.as_deref());
        for warning in warnings {
            let at = path::join(at, RULES);
            tracing::warn!(file = %path::show(&at), "{warning}");
        }
        changed
    }
}
