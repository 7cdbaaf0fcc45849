//! Why something is not watched, in words that say what to do about it.
//!
//! Left to others: what goes on without the watch.

use rustix::io::Errno;

/// Why something is not watched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The user's watches are used up.
    #[error(
        "no more directories can be watched: the limit of this user{} is used up; raise it with \
         `sysctl fs.inotify.max_user_watches=<number>`, or exclude directories from the mirror",
        shown(*.limit)
    )]
    Limit {
        /// The value of `fs.inotify.max_user_watches`, where it could be read.
        limit: Option<u64>,
    },
    /// The user's watchers are used up.
    #[error(
        "no more watchers can be made: the limit of this user{} is used up; raise it with \
         `sysctl fs.inotify.max_user_instances=<number>`",
        shown(*.limit)
    )]
    Instances {
        /// The value of `fs.inotify.max_user_instances`, where it could be read.
        limit: Option<u64>,
    },
    /// The parent of the directory is not watched any more. Where it went is reported, if it still is in the tree.
    #[error("the directory above is not watched any more")]
    NoParent,
    /// The directory contains itself, as far as was heard: a mount of a directory above it, or one that is
    /// just being moved, of which events will tell.
    #[error("the directory is one of those above it")]
    Circle,
    /// Another refusal of the system.
    #[error("{what}: {errno}")]
    Os {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        errno: Errno,
    },
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(String::new, |limit| format!(" ({limit})"))
}

impl WatchError {
    /// What a refused watch means.
    pub(super) fn refused(errno: Errno, limit: impl FnOnce() -> Option<u64>) -> Self {
        match errno {
            Errno::NOSPC => Self::Limit { limit: limit() },
            errno => Self::os("watching a directory")(errno),
        }
    }

    pub(super) fn os(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Os { what, errno }
    }
}

pub(super) fn setting(name: &str) -> Option<u64> {
    let value = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
    value.trim().parse().ok()
}
