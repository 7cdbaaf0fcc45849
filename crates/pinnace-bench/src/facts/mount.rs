//! Which mount a path is on, from the text of `/proc/self/mountinfo`.
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//!        dev  root  point options   optional…  - type  source    super options
//! ```
//!
//! Invariant: the text goes in and meaning comes out; nothing is opened here.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device_number: String,
    pub(super) mount_point: PathBuf,
    /// Options of the mount, then those of the file system.
    pub(super) options: String,
    pub(super) file_system: String,
    pub(super) source: String,
}

impl Mount {
    /// The mount that `path`, absolute and without links, is on: the longest mount point above it,
    /// the latest of equals because it hides the others.
    pub(super) fn of(mountinfo: &str, path: &Path) -> Option<Self> {
        mountinfo
            .lines()
            .filter_map(Self::parse)
            .filter(|mount| path.starts_with(&mount.mount_point))
            .max_by_key(|mount| mount.mount_point.components().count())
    }

    fn parse(line: &str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(2);
        let mut back = back.split(' ');
        let device_number = front.next()?.to_owned();
        let mount_point = PathBuf::from(OsString::from_vec(unescape(front.nth(1)?)));
        let options = front.next()?;
        let file_system = back.next()?.to_owned();
        let source = String::from_utf8_lossy(&unescape(back.next()?)).into_owned();
        let options = match back.next() {
            Some(more) if more != options => format!("{options};{more}"),
            _ => options.to_owned(),
        };
        Some(Self {
            device_number,
            mount_point,
            options,
            file_system,
            source,
        })
    }
}

/// Undoes the kernel's octal escapes (`\040` is a space).
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| tail.get(..3).and_then(|d| std::str::from_utf8(d).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro
40 22 0:35 / /mnt/a\\040b rw,nosuid - nfs4 server:/export rw,vers=4.2
41 22 8:1 / /data rw - xfs /dev/sda1 rw
42 22 0:50 / /data rw master:2 shared:3 - tmpfs tmpfs rw,size=1k
broken line
";

    #[track_caller]
    fn check(path: &str, file_system: &str, source: &str, options: &str) {
        let mount = Mount::of(TEXT, Path::new(path)).unwrap();
        assert_eq!(
            (mount.file_system.as_str(), mount.source.as_str()),
            (file_system, source)
        );
        assert_eq!(mount.options, options);
    }

    #[test]
    fn the_longest_and_latest_mount_point_counts() {
        check(
            "/srv/x",
            "ext4",
            "/dev/root",
            "rw,relatime;rw,errors=remount-ro",
        );
        check(
            "/mnt/a b/deep",
            "nfs4",
            "server:/export",
            "rw,nosuid;rw,vers=4.2",
        );
        check(
            "/mnt/a",
            "ext4",
            "/dev/root",
            "rw,relatime;rw,errors=remount-ro",
        );
        check("/data/x", "tmpfs", "tmpfs", "rw;rw,size=1k");
        check(
            "/database",
            "ext4",
            "/dev/root",
            "rw,relatime;rw,errors=remount-ro",
        );
        assert_eq!(Mount::of("", Path::new("/")), None);
        assert_eq!(unescape("a\\04"), b"a\\04");
    }
}
