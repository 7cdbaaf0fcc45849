//! Which entries are mirrored: patterns of the command line, and `.pinnaceignore` files in the tree.
//!
//! Both are written as in a `.gitignore`. What the command line says stands above all files; of the files that say
//! something of a path, the one nearest to it decides; in one file the last line that fits decides, and `!`
//! takes back. Nothing beneath an excluded directory can be taken back, as nobody looks into it.
//!
//! Invariant: rules are those last given, whole: nobody sees a half of a file's. Asking costs one load while there
//! are no rules at all, for it is asked of every entry. Left to others: reading the files, and what is to be done
//! about entries that become excluded or stop to be.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::archive::UNPACKING;
use crate::path::{is_within, split};

/// The name of the files with rules for the directory they lie in. They are mirrored themselves.
pub const FILE_NAME: &[u8] = b".pinnaceignore";
/// Bytes of such a file. Of a longer one no rule counts, and a warning says so.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// A pattern of the command line that means nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It cannot be read.
    #[error("the pattern `{pattern}` cannot be read: {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It names nothing: it is empty or a comment.
    #[error(
        "the pattern `{pattern}` names nothing; a name that begins with `#` or `!` is written `\\#` or `\\!`"
    )]
    Nothing {
        /// As it was given.
        pattern: String,
    },
    /// All of them together are too much.
    #[error("the patterns are too large together: {reason}")]
    Together {
        /// What the matcher says.
        reason: String,
    },
}

#[derive(Debug)]
struct Rules {
    content: Vec<u8>,
    matcher: Gitignore,
}

/// All the rules of one mirror.
#[derive(Debug)]
pub struct Filter {
    excludes: Gitignore,
    digest: u64,
    /// Whether there are rules of any kind.
    has_rules: AtomicBool,
    /// By the paths of the directories in which the files lie.
    dirs: RwLock<HashMap<Vec<u8>, Rules>>,
}

impl Filter {
    /// A filter with the patterns of the command line, which count from the root.
    ///
    /// # Errors
    /// The first pattern that cannot be used, and why.
    pub fn new(excludes: &[String]) -> Result<Self, FilterError> {
        let mut builder = builder();
        let mut hasher = blake3::Hasher::new();
        for pattern in excludes {
            check(pattern)?;
            let added = builder.add_line(None, pattern);
            added.map_err(|error| bad(pattern, &error))?;
            hasher.update(&(pattern.len() as u64).to_le_bytes());
            hasher.update(pattern.as_bytes());
        }
        let excludes = builder.build().map_err(|error| FilterError::Together {
            reason: error.to_string(),
        })?;
        let mut digest = [0; 8];
        hasher.finalize_xof().fill(&mut digest);
        Ok(Self {
            has_rules: AtomicBool::new(!excludes.is_empty()),
            excludes,
            digest: u64::from_le_bytes(digest),
            dirs: RwLock::default(),
        })
    }

    /// Sets the rules of the directory `dir` to what its [`FILE_NAME`] says; `None` when it has none. Whether that is
    /// something else than before, and what could not be read, by line; the other lines count.
    pub fn set_dir(&self, dir: &[u8], content: Option<&[u8]>) -> (bool, Vec<String>) {
        let mut warnings = Vec::new();
        // Compared and replaced under one lock; parsed in it too, as two scanners seldom read the same file.
        let mut dirs = self.dirs.write().unwrap_or_else(PoisonError::into_inner);
        if dirs.get(dir).map(|rules| &rules.content[..]) == content {
            return (false, warnings);
        }
        match content {
            Some(content) => {
                let rules = Rules {
                    matcher: parse(content, &mut warnings),
                    content: content.to_vec(),
                };
                dirs.insert(dir.to_vec(), rules);
            }
            None => {
                dirs.remove(dir);
            }
        }
        let has_rules = !self.excludes.is_empty() || !dirs.is_empty();
        self.has_rules.store(has_rules, Ordering::Release);
        (true, warnings)
    }

    /// A directory was renamed: the rules in it and beneath go along, in place of those at `to`.
    pub fn rename_dir(&self, from: &[u8], to: &[u8]) {
        if !self.has_rules.load(Ordering::Acquire) {
            return;
        }
        let mut dirs = self.dirs.write().unwrap_or_else(PoisonError::into_inner);
        dirs.retain(|dir, _| !is_within(dir, to));
        let moved: Vec<_> = dirs.extract_if(|dir, _| is_within(dir, from)).collect();
        for (dir, rules) in moved {
            dirs.insert([to, &dir[from.len()..]].concat(), rules);
        }
    }

    /// Whether an entry is excluded by itself. Who descends from the root asks this of each entry and does not
    /// enter what is excluded.
    #[must_use]
    pub fn is_excluded(&self, path: &[u8], is_dir: bool) -> bool {
        // What is being unpacked is none of the source's yet: it is mirrored once it has its name.
        if split(path).1.starts_with(UNPACKING) {
            return true;
        }
        if !self.has_rules.load(Ordering::Acquire) || path.is_empty() {
            return false;
        }
        match said(&self.excludes, path, is_dir) {
            Some(is_excluded) => is_excluded,
            None => self.is_excluded_by_files(path, is_dir),
        }
    }

    /// Whether an entry is excluded by itself or lies in a directory that is. To be asked of a path out of the blue.
    #[must_use]
    pub fn is_excluded_with_parents(&self, path: &[u8], is_dir: bool) -> bool {
        let has_rules = self.has_rules.load(Ordering::Acquire);
        if !has_rules && memchr::memmem::find(path, UNPACKING).is_none() {
            return false;
        }
        memchr::memchr_iter(b'/', path).any(|slash| self.is_excluded(&path[..slash], true))
            || self.is_excluded(path, is_dir)
    }

    /// A digest of the patterns of the command line: another one means that they have changed.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    fn is_excluded_by_files(&self, path: &[u8], is_dir: bool) -> bool {
        let dirs = self.dirs.read().unwrap_or_else(PoisonError::into_inner);
        if dirs.is_empty() {
            return false;
        }
        let mut dir = path;
        while !dir.is_empty() {
            dir = split(dir).0;
            let below = match dir.len() {
                0 => path,
                bytes => &path[bytes + 1..],
            };
            if let Some(rules) = dirs.get(dir)
                && let Some(is_excluded) = said(&rules.matcher, below, is_dir)
            {
                return is_excluded;
            }
        }
        false
    }
}

/// What a set of rules says of a path, if anything: whether it is excluded.
fn said(rules: &Gitignore, path: &[u8], is_dir: bool) -> Option<bool> {
    match rules.matched(Path::new(OsStr::from_bytes(path)), is_dir) {
        Match::None => None,
        Match::Ignore(_) => Some(true),
        Match::Whitelist(_) => Some(false),
    }
}

/// A builder for rules that are asked with paths relative to where they count from. A `[` without its `]`
/// is an error here and no plain character: who writes it has forgotten something.
fn builder() -> GitignoreBuilder {
    let mut builder = GitignoreBuilder::new("");
    builder.allow_unclosed_class(false);
    builder
}

/// Whether a pattern means something by itself.
fn check(pattern: &str) -> Result<(), FilterError> {
    let mut alone = builder();
    let added = alone.add_line(None, pattern);
    let rules = added.and_then(|alone| alone.build());
    match rules {
        Ok(rules) if rules.is_empty() => Err(FilterError::Nothing {
            pattern: pattern.to_owned(),
        }),
        Ok(_) => Ok(()),
        Err(error) => Err(bad(pattern, &error)),
    }
}

fn bad(pattern: &str, error: &ignore::Error) -> FilterError {
    FilterError::Pattern {
        pattern: pattern.to_owned(),
        reason: reason(error),
    }
}

/// What is wrong, without the pattern, which the caller names.
fn reason(error: &ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err.clone(),
        error => error.to_string(),
    }
}

/// The rules of a file. A line that cannot be used becomes a warning.
fn parse(content: &[u8], warnings: &mut Vec<String>) -> Gitignore {
    let mut builder = builder();
    if content.len() > FILE_BYTES_MAX {
        warnings.push(format!(
            "the file has more than {FILE_BYTES_MAX} bytes: none of its rules count"
        ));
        return Gitignore::empty();
    }
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    for (at, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let outcome = match std::str::from_utf8(line) {
            Ok(line) => builder
                .add_line(None, line)
                .err()
                .map(|error| reason(&error)),
            Err(_) => Some("it is not UTF-8; write `?` for bytes that are not".to_owned()),
        };
        if let Some(reason) = outcome {
            warnings.push(format!("line {}: {reason}", at + 1));
        }
    }
    builder.build().unwrap_or_else(|error| {
        warnings.push(format!("none of the rules count: {}", reason(&error)));
        Gitignore::empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_unpacked_is_left_out_without_any_rule() {
        let filter = Filter::new(&[]).unwrap();
        for (path, alone, with_parents) in [
            (".pinnace-restore-1", true, true),
            ("a/.pinnace-restore-1", true, true),
            ("a/.pinnace-restore-1/b", false, true),
            ("a/x.pinnace-restore-1/b", false, false),
        ] {
            let path = path.as_bytes();
            assert_eq!(filter.is_excluded(path, true), alone);
            assert_eq!(filter.is_excluded_with_parents(path, true), with_parents);
        }
    }

    fn filter(excludes: &[&str], files: &[(&str, &str)]) -> Filter {
        let excludes: Vec<String> = excludes.iter().map(|rule| (*rule).to_owned()).collect();
        let filter = Filter::new(&excludes).unwrap();
        for (dir, content) in files {
            let set = filter.set_dir(dir.as_bytes(), Some(content.as_bytes()));
            assert_eq!(set, (true, Vec::new()), "{dir}");
        }
        filter
    }

    /// Paths that end with a slash are directories.
    #[track_caller]
    fn check(filter: &Filter, excluded: &[&[u8]], kept: &[&[u8]]) {
        for (paths, expected) in [(excluded, true), (kept, false)] {
            for path in paths {
                let plain = path.strip_suffix(b"/").unwrap_or(path);
                let is_dir = plain.len() < path.len();
                let outcome = filter.is_excluded_with_parents(plain, is_dir);
                assert_eq!(outcome, expected, "{}", crate::path::show(path));
            }
        }
    }

    /// Rules, and paths that are excluded and kept by them.
    type Row = (
        &'static [&'static str],
        &'static [&'static [u8]],
        &'static [&'static [u8]],
    );

    #[test]
    fn patterns_are_those_of_gitignore() {
        let table: &[Row] = &[
            (&[], &[], &[b"a", b"a/b/"]),
            (&["x"], &[b"x", b"x/", b"a/x", b"x/a"], &[b"xx", b"a"]),
            (&["/x"], &[b"x", b"x/a"], &[b"a/x"]),
            (&["x/"], &[b"x/", b"a/x/", b"a/x/b"], &[b"x", b"a/x"]),
            (&["a/x"], &[b"a/x", b"a/x/b"], &[b"b/a/x", b"x"]),
            (&["**/x"], &[b"x", b"a/x", b"a/b/x"], &[b"xa"]),
            (&["a/**"], &[b"a/x", b"a/b/x"], &[b"a/", b"b"]),
            (&["a/**/x"], &[b"a/x", b"a/b/c/x"], &[b"x", b"b/x"]),
            (&["*.o"], &[b".o", b"a/\xff.o", b"\xff\xfe.o"], &[b"o"]),
            (&["?"], &[b"a", b"\xff"], &[b"aa"]),
            (&["[a-c]"], &[b"a", b"x/c"], &[b"d"]),
            (&["*.o", "!again.o"], &[b"a.o"], &[b"again.o", b"d/again.o"]),
            (&["!again.o", "*.o"], &[b"again.o"], &[b"a"]),
            (&["d/", "!d/again"], &[b"d/again"], &[b"again"]),
            (&["d/*", "!d/again"], &[b"d/a"], &[b"d/", b"d/again"]),
            (&["\\#a", "\\!b"], &[b"#a", b"!b"], &[b"a", b"b"]),
            (&["a b", "c "], &[b"a b", b"c"], &[b"a", b"c "]),
            (&["x"], &[], &[b"", b"X"]),
        ];
        for (rules, excluded, kept) in table {
            check(&filter(rules, &[]), excluded, kept);
            let file = rules.join("\n");
            check(&filter(&[], &[("", &file)]), excluded, kept);
        }
    }

    #[test]
    fn the_nearest_file_decides_and_the_command_line_above_all() {
        let filter = filter(
            &["*.never", "!always"],
            &[
                ("", "*.o\n/top\nalways\nb/low\n"),
                ("a", "!*.o\n!x.never\n/top\n"),
                ("a/b", "*.o\r\n# nothing\r\n\r\n!keep.o\r\n"),
            ],
        );
        check(
            &filter,
            &[
                b"x.o",
                b"b/x.o",
                b"a/b/x.o",
                b"a/b/c/x.o",
                b"top",
                b"a/top",
                b"x.never",
                b"a/x.never",
                b"b/low",
            ],
            &[
                b"a/x.o",
                b"a/c/x.o",
                b"a/b/keep.o",
                b"a/b/top",
                b"a/b/low",
                b"always",
                b"a/always",
                b".pinnaceignore",
                b"a/.pinnaceignore",
            ],
        );
    }

    #[test]
    fn an_entry_alone_is_not_asked_for_its_parents() {
        let filter = filter(&["d/"], &[]);
        assert!(!filter.is_excluded(b"d/x", false));
        assert!(filter.is_excluded(b"d", true));
        assert!(filter.is_excluded_with_parents(b"d/x", false));
    }

    #[test]
    fn rules_come_and_go_and_move() {
        let filter = filter(&[], &[]);
        assert_eq!(filter.set_dir(b"d", None), (false, Vec::new()));
        assert_eq!(filter.set_dir(b"d", Some(b"x")), (true, Vec::new()));
        assert_eq!(filter.set_dir(b"d", Some(b"x")), (false, Vec::new()));
        assert_eq!(filter.set_dir(b"e/f", Some(b"y")), (true, Vec::new()));
        check(&filter, &[b"d/x", b"e/f/y"], &[b"x", b"e/y"]);
        filter.rename_dir(b"d", b"e");
        check(&filter, &[b"e/x", b"e/f/x"], &[b"d/x", b"e/f/y"]);
        assert_eq!(filter.set_dir(b"e", None), (true, Vec::new()));
        check(&filter, &[], &[b"e/x"]);
    }

    #[test]
    fn bad_lines_are_told_and_the_others_count() {
        let filter = filter(&[], &[]);
        let (changed, warnings) = filter.set_dir(b"", Some(b"\xef\xbb\xbfx\n[a\ny\n\xff\n{a\n"));
        assert!(changed);
        let lines: Vec<&str> = warnings
            .iter()
            .filter_map(|warning| warning.split(':').next())
            .collect();
        assert_eq!(lines, ["line 2", "line 4", "line 5"], "{warnings:?}");
        check(&filter, &[b"x", b"y"], &[b"[a"]);
        let long = vec![b'\n'; FILE_BYTES_MAX + 1];
        assert_eq!(filter.set_dir(b"", Some(&long)).1.len(), 1);
        check(&filter, &[], &[b"x"]);
    }

    #[test]
    fn bad_patterns_are_errors() {
        for (pattern, expected) in [
            (
                "[a",
                "the pattern `[a` cannot be read: unclosed character class; missing ']'",
            ),
            (
                "",
                "the pattern `` names nothing; a name that begins with `#` or `!` is written `\\#` or `\\!`",
            ),
            (
                "#a",
                "the pattern `#a` names nothing; a name that begins with `#` or `!` is written `\\#` or `\\!`",
            ),
        ] {
            let error = Filter::new(&["x".to_owned(), pattern.to_owned()]).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn the_digest_is_of_the_patterns_in_their_order() {
        let digest = |rules: &[&str]| filter(rules, &[]).digest();
        assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
        for other in [&["b", "a"][..], &["ab"], &["a"], &[]] {
            assert_ne!(digest(&["a", "b"]), digest(other), "{other:?}");
        }
    }
}
