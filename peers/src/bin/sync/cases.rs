//! The cases, by name.
//!
//! Invariant: a name says what is done and how durable it is; sizes are the inputs'.

use std::time::Duration;

use anyhow::{Result, ensure};
use peers::delay_proxy::Way;

/// The long way of the delayed cases, in each direction.
pub(crate) const LONG_WAY: Way = Way {
    delay: Duration::from_millis(25),
    rate_bits: Some(100_000_000),
};
/// Files of the live trees.
const LIVE_FILES: [u64; 2] = [1_000, 100_000];

/// What becomes of the source between the copy that is there and the one that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// There is no copy yet of the tree.
    FirstTree,
    /// There is no copy yet of the small files.
    FirstSmall,
    /// There is no copy yet of the million entries.
    FirstMillion,
    /// Nothing, in the tree.
    Nothing,
    /// The other release unpacked over it: every time is new.
    Unpacked,
    /// The other release checked out: only what differs has a new time.
    CheckedOut,
    /// A KiB before the big file.
    Inserted,
    /// The tar of the tree becomes that of the other release.
    Tar,
    /// The big file has another name.
    FileRenamed,
    /// A directory of the tree has another name.
    DirectoryRenamed,
}

/// A case that ends when the copy is equal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnceCase {
    /// What changes.
    pub(crate) change: Change,
    /// Pinnace's level.
    pub(crate) durability: &'static str,
    /// Flags of each rsync beside it, the fair rival first.
    pub(crate) rivals: &'static [&'static [&'static str]],
    /// The way between the sides, if it is a long one.
    pub(crate) way: Option<Way>,
    /// One run is enough, and none before it.
    pub(crate) is_single: bool,
}

/// What happens again and again while a mirror follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiveCase {
    /// A file of 4 KiB is saved, in a tree of so many.
    Save(u64),
    /// The big file gets another name.
    RenameFile,
    /// A directory of the tree gets another name.
    RenameDirectory,
}

/// What a case does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Until the copy is equal.
    Once(OnceCase),
    /// While it follows.
    Live(LiveCase),
}

/// A case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: String,
    /// What it does.
    pub(crate) work: Work,
}

const PLAIN: &[&str] = &[];
const FSYNC: &[&str] = &["--fsync"];
const WHOLE: &[&str] = &["--whole-file"];
const FUZZY: &[&str] = &["--fuzzy", "--delete-after"];
/// Blocks as long as those of a tar.
const FINE: &[&str] = &["--block-size=512"];
/// The same with its bytes compressed as well as zstd does by itself.
const FINE_PACKED: &[&str] = &["--block-size=512", "--compress", "--zc=zstd"];
const PACKED: &[&str] = &["--compress", "--zc=zstd", "--zl=1"];
/// What is fastest on a slow line.
const PACKED_MORE: &[&str] = &["--compress", "--zc=zstd", "--zl=6"];

/// Those that are named by one of `wanted`, or whose names begin with it when none is named so; all
/// when nothing is wanted.
pub(crate) fn chosen(wanted: &[String]) -> Result<Vec<Case>> {
    let mut all = all();
    if wanted.is_empty() {
        return Ok(all);
    }
    let mut is_chosen = vec![false; all.len()];
    for word in wanted {
        let is_named = all.iter().any(|case| case.name == *word);
        let fits = |name: &str| name == word || !is_named && name.starts_with(word.as_str());
        ensure!(
            all.iter().any(|case| fits(&case.name)),
            "no case begins with {word:?}; --list names them"
        );
        for (case, chosen) in all.iter().zip(&mut is_chosen) {
            *chosen |= fits(&case.name);
        }
    }
    let mut chosen = is_chosen.into_iter();
    all.retain(|_| chosen.next() == Some(true));
    Ok(all)
}

fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut once = |name: &str, change, durability, rivals| {
        cases.push(Case {
            name: name.to_owned(),
            work: Work::Once(OnceCase {
                change,
                durability,
                rivals,
                way: name.starts_with("delayed/").then_some(LONG_WAY),
                is_single: change == Change::FirstMillion,
            }),
        });
    };
    once("first/none", Change::FirstTree, "none", &[PLAIN]);
    once("first/batch", Change::FirstTree, "batch", &[FSYNC]);
    once("small/none", Change::FirstSmall, "none", &[PLAIN]);
    once("small/batch", Change::FirstSmall, "batch", &[FSYNC]);
    once("nochange", Change::Nothing, "none", &[PLAIN]);
    once("update/none", Change::Unpacked, "none", &[PLAIN, WHOLE]);
    once("update/batch", Change::Unpacked, "batch", &[FSYNC]);
    once("checkout", Change::CheckedOut, "none", &[PLAIN, WHOLE]);
    once("insert/none", Change::Inserted, "none", &[PLAIN]);
    once("insert/batch", Change::Inserted, "batch", &[FSYNC]);
    once("tar", Change::Tar, "none", &[PLAIN, FINE, FINE_PACKED]);
    once("rename-file", Change::FileRenamed, "none", &[PLAIN, FUZZY]);
    once("rename-dir", Change::DirectoryRenamed, "none", &[PLAIN]);
    once(
        "delayed/first",
        Change::FirstTree,
        "none",
        &[PACKED, PACKED_MORE, PLAIN],
    );
    once("delayed/insert", Change::Inserted, "none", &[PLAIN, PACKED]);
    once("memory", Change::FirstMillion, "none", &[PLAIN]);
    let mut live = |name: String, case| {
        let work = Work::Live(case);
        cases.push(Case { name, work });
    };
    for files in LIVE_FILES {
        live(
            format!("live/save/{}k", files / 1_000),
            LiveCase::Save(files),
        );
    }
    live("live/rename-file".to_owned(), LiveCase::RenameFile);
    live("live/rename-dir".to_owned(), LiveCase::RenameDirectory);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str]) -> Vec<String> {
        let wanted: Vec<String> = wanted.iter().map(|word| (*word).to_owned()).collect();
        let cases = chosen(&wanted).unwrap();
        cases.into_iter().map(|case| case.name).collect()
    }

    #[test]
    fn a_word_names_a_case_or_begins_the_names_of_some() {
        assert_eq!(names(&["tar"]), ["tar"]);
        assert_eq!(names(&["first"]), ["first/none", "first/batch"]);
        assert_eq!(names(&["live/save", "memory"]).len(), 3);
        assert_eq!(names(&[]).len(), all().len());
        assert!(chosen(&["nothing".to_owned()]).is_err());
    }

    #[test]
    fn only_delayed_cases_have_a_long_way() {
        for case in all() {
            if let Work::Once(once) = case.work {
                let is_delayed = case.name.starts_with("delayed/");
                assert_eq!(once.way.is_some(), is_delayed, "{}", case.name);
            }
        }
    }
}
