//! Names and paths inside a tree, as bytes.
//!
//! Invariant: what passed [`check_name`] or [`check`] can be given to the kernel relative to a directory without
//! leaving it (symlinks aside, which the callers' `openat2` refuses). Paths are relative, parts are joined by one
//! `/`, and the empty path is the root. Left to others: symlinks, and whether anything is there.

use std::borrow::Cow;

/// Bytes of a name: what Linux file systems take.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a path: what Linux takes, without the NUL.
pub const PATH_BYTES_MAX: usize = 4095;

/// What is wrong with a name or path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// A part of no bytes: an absolute path, two slashes, or a slash at the end.
    #[error("a part of the path is empty")]
    Empty,
    /// `.` or `..`.
    #[error("`.` and `..` are not names")]
    Dots,
    /// A slash in a name.
    #[error("a name holds no slash")]
    Slash,
    /// NUL in a name.
    #[error("a name holds no NUL")]
    Nul,
    /// Too long a name.
    #[error("a name has at most {NAME_BYTES_MAX} bytes")]
    NameLong,
    /// Too long a path.
    #[error("a path has at most {PATH_BYTES_MAX} bytes")]
    PathLong,
}

/// Whether this is a name of an entry in a directory.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &[u8]) -> Result<(), BadPath> {
    if memchr::memchr(b'/', name).is_some() {
        return Err(BadPath::Slash);
    }
    check_part(name)
}

fn check_part(name: &[u8]) -> Result<(), BadPath> {
    match name {
        b"" => Err(BadPath::Empty),
        b"." | b".." => Err(BadPath::Dots),
        _ if name.len() > NAME_BYTES_MAX => Err(BadPath::NameLong),
        _ if memchr::memchr(0, name).is_some() => Err(BadPath::Nul),
        _ => Ok(()),
    }
}

/// Whether this is the path of an entry beneath the root, or empty for the root itself.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &[u8]) -> Result<(), BadPath> {
    if path.len() > PATH_BYTES_MAX {
        return Err(BadPath::PathLong);
    }
    if path.is_empty() {
        return Ok(());
    }
    path.split(|byte| *byte == b'/').try_for_each(check_part)
}

/// The path of `name` in the directory `dir`.
#[must_use]
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The directory and the name of a path that is not the root.
#[must_use]
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Whether `path` is `above` or lies beneath it.
#[must_use]
pub fn is_within(path: &[u8], above: &[u8]) -> bool {
    match path.strip_prefix(above) {
        Some(rest) => above.is_empty() || rest.is_empty() || rest[0] == b'/',
        None => false,
    }
}

/// A number that tells texts apart.
#[must_use]
pub fn number_of(text: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(text).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// A path for people: control characters and bytes that are not UTF-8 are escaped, so that a name can neither
/// move a terminal's cursor nor begin a new line in a log.
#[must_use]
pub fn show(path: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(char::is_control) => Cow::Borrowed(text),
        _ => {
            let mut shown = String::new();
            for part in path.utf8_chunks() {
                for c in part.valid().chars() {
                    if c.is_control() || c == '\\' {
                        shown.extend(c.escape_default());
                    } else {
                        shown.push(c);
                    }
                }
                for byte in part.invalid() {
                    shown.push_str(&format!("\\x{byte:02x}"));
                }
            }
            Cow::Owned(shown)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_inside_a_directory_pass() {
        let long = [b'x'; NAME_BYTES_MAX + 1];
        for (name, expected) in [
            (&b"a"[..], Ok(())),
            (b"...", Ok(())),
            (b"\xff\n", Ok(())),
            (&long[1..], Ok(())),
            (&long, Err(BadPath::NameLong)),
            (b"", Err(BadPath::Empty)),
            (b".", Err(BadPath::Dots)),
            (b"..", Err(BadPath::Dots)),
            (b"a/b", Err(BadPath::Slash)),
            (b"a\0b", Err(BadPath::Nul)),
        ] {
            assert_eq!(check_name(name), expected, "{}", show(name));
        }
    }

    #[test]
    fn paths_are_relative_and_plain() {
        let parts = vec![b"x".to_vec(); PATH_BYTES_MAX.div_ceil(2) + 1].join(&b'/');
        for (path, expected) in [
            (&b""[..], Ok(())),
            (b"a/b/c", Ok(())),
            (&parts[2..], Ok(())),
            (&parts, Err(BadPath::PathLong)),
            (b"/a", Err(BadPath::Empty)),
            (b"a/", Err(BadPath::Empty)),
            (b"a//b", Err(BadPath::Empty)),
            (b"a/../b", Err(BadPath::Dots)),
            (b"./a", Err(BadPath::Dots)),
            (b"a\0", Err(BadPath::Nul)),
        ] {
            assert_eq!(check(path), expected, "{}", show(path));
        }
    }

    #[test]
    fn within_counts_whole_names() {
        for (path, above, expected) in [
            ("a/b", "a", true),
            ("a", "a", true),
            ("ab", "a", false),
            ("ab", "", true),
            ("", "", true),
            ("a", "a/b", false),
        ] {
            assert_eq!(is_within(path.as_bytes(), above.as_bytes()), expected);
        }
    }

    #[test]
    fn shown_paths_are_harmless() {
        for (path, expected) in [
            (&b"a b/c"[..], "a b/c"),
            (b"a\nb\x1b", "a\\nb\\u{1b}"),
            (b"\xffa\\", "\\xffa\\\\"),
        ] {
            assert_eq!(show(path), expected);
        }
    }
}
