//! The source of a case: how it is before, and how it becomes what is measured.
//!
//! Invariant: `before` and `after` can be called in turns for ever; what changes is a copy of the input
//! in the folder of this run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::cases::Change;
use super::inputs::{Inputs, replace};

const FILE: &str = "big.tar";
const RENAMED_FILE: &str = "renamed.tar";
const RENAMED_SUFFIX: &str = "-renamed";

/// A source and its two states.
#[derive(Debug)]
pub(crate) struct Scene {
    /// The directory that is mirrored.
    pub(crate) source: PathBuf,
    /// Whether a copy of the state before is there when it is measured.
    pub(crate) has_copy: bool,
    flip: Flip,
}

#[derive(Debug)]
enum Flip {
    Still,
    /// The content of one tree, then of the other; with the flags of rsync that bring it.
    Trees([PathBuf; 2], &'static [&'static str]),
    /// One file's content, then the other's.
    Contents(PathBuf, [PathBuf; 2]),
    /// One name, then the other.
    Names([PathBuf; 2]),
}

/// Times and all, as an archive unpacks.
const UNPACKED: &[&str] = &["-a", "--delete"];
/// Only what differs is touched, and gets the time of now.
const CHECKED_OUT: &[&str] = &["-rlp", "--checksum", "--delete"];

impl Scene {
    /// Makes the source of `change` in `folder`, where it needs one of its own; `renamed` is the directory
    /// of the tree that gets another name.
    pub(crate) fn prepare(
        change: Change,
        inputs: &Inputs,
        folder: &Path,
        renamed: &Path,
    ) -> Result<Self> {
        let own = folder.join("source");
        let first = |source| Self {
            source,
            has_copy: false,
            flip: Flip::Still,
        };
        let changed = |flip| Self {
            source: own.clone(),
            has_copy: true,
            flip,
        };
        let of_files = |files: [PathBuf; 2]| {
            fs::create_dir(&own)?;
            anyhow::Ok(changed(Flip::Contents(own.join(FILE), files)))
        };
        Ok(match change {
            Change::FirstTree => first(inputs.tree()?),
            Change::FirstSmall => first(inputs.small(inputs.small_files)?),
            Change::FirstMillion => first(inputs.million()?),
            Change::Nothing => Self {
                has_copy: true,
                ..first(inputs.tree()?)
            },
            Change::Unpacked => changed(Flip::Trees([inputs.tree()?, inputs.tree2()?], UNPACKED)),
            Change::CheckedOut => {
                let trees = [inputs.tree()?, inputs.tree2()?];
                bring(&trees[0], &own, UNPACKED)?;
                changed(Flip::Trees(trees, CHECKED_OUT))
            }
            Change::Inserted => of_files([inputs.big()?, inputs.inserted()?])?,
            Change::Tar => of_files(inputs.tars()?)?,
            Change::FileRenamed => {
                fs::create_dir(&own)?;
                replace(&inputs.big()?, &own.join(FILE))?;
                changed(Flip::Names([FILE, RENAMED_FILE].map(|name| own.join(name))))
            }
            Change::DirectoryRenamed => {
                let names = renamed_directory(&inputs.tree()?, &own, renamed)?;
                changed(Flip::Names(names))
            }
        })
    }

    /// Brings the source to the state of the copy.
    pub(crate) fn before(&self) -> Result<()> {
        self.flip(0)
    }

    /// Brings it to the state that is measured.
    pub(crate) fn after(&self) -> Result<()> {
        self.flip(1)
    }

    fn flip(&self, to: usize) -> Result<()> {
        match &self.flip {
            Flip::Still => Ok(()),
            Flip::Trees(trees, flags) => bring(&trees[to], &self.source, flags),
            Flip::Contents(path, files) => replace(&files[to], path),
            Flip::Names(names) if names[to].exists() => Ok(()),
            Flip::Names(names) => Ok(fs::rename(&names[1 - to], &names[to])?),
        }
    }
}

/// Copies the tree and tells the two names of the directory in it.
pub(crate) fn renamed_directory(tree: &Path, own: &Path, renamed: &Path) -> Result<[PathBuf; 2]> {
    ensure!(
        tree.join(renamed).is_dir(),
        "--rename-dir: no directory {} in the tree",
        renamed.display()
    );
    bring(tree, own, UNPACKED)?;
    let name = own.join(renamed);
    let mut other = name.clone().into_os_string();
    other.push(RENAMED_SUFFIX);
    Ok([name, other.into()])
}

/// Makes `to` hold what `from` holds.
pub(crate) fn bring(from: &Path, to: &Path, flags: &[&str]) -> Result<()> {
    let mut content = from.as_os_str().to_owned();
    content.push("/");
    let ran = Command::new("rsync")
        .args(flags)
        .arg(content)
        .arg(to)
        .output();
    let ran = ran.context("cannot start rsync")?;
    let complained = String::from_utf8_lossy(&ran.stderr).into_owned();
    ensure!(ran.status.success(), "rsync of the source: {complained}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_flip_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, content) in [("a", "1"), ("b", "2"), ("file", "")] {
            fs::write(path(name), content).unwrap();
        }
        let scene = |flip| Scene {
            source: folder.path().to_owned(),
            has_copy: true,
            flip,
        };
        let contents = scene(Flip::Contents(path("file"), [path("a"), path("b")]));
        let names = scene(Flip::Names([path("file"), path("other")]));
        for _ in 0..2 {
            contents.before().unwrap();
            assert_eq!(fs::read(path("file")).unwrap(), b"1");
            contents.after().unwrap();
            assert_eq!(fs::read(path("file")).unwrap(), b"2");
            names.after().unwrap();
            names.after().unwrap();
            assert!(!path("file").exists());
            names.before().unwrap();
            assert!(path("file").exists());
        }
    }
}
