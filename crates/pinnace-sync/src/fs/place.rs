//! Where directories lie to one another, seen from two processes that know no path of each other.
//!
//! Left to others: what it means that one lies in the other.

use std::os::fd::{AsFd, OwnedFd};

use pinnace_proto::sync::Place;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Directories above one, at most: more than a path can name.
const ABOVE_MAX: usize = 4096;

/// Identifies the time since this machine was started; empty where the system does not tell.
pub fn boot_text() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Identifies it in few bytes.
#[must_use]
pub fn boot_id() -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(boot_text().as_bytes()).as_bytes()[..16]);
    id
}

/// Where an open directory lies: itself and all directories above it, by file system and inode.
///
/// # Errors
/// One of them cannot be looked at.
pub fn place_of(dir: impl AsFd) -> Result<Place, Errno> {
    let mut above: Vec<(u64, u64)> = Vec::new();
    let mut at: OwnedFd = open(dir, ".")?;
    while above.len() < ABOVE_MAX {
        let stat = rustix::fs::fstat(&at)?;
        let own = (stat.st_dev, stat.st_ino);
        // The top is above itself.
        if above.last() == Some(&own) {
            break;
        }
        above.push(own);
        at = open(&at, "..")?;
    }
    Ok(Place {
        boot: boot_text(),
        above,
    })
}

fn open(dir: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}
