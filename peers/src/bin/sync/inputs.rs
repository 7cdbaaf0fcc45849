//! The trees and files that are mirrored: given, cut from what is given, or made from a seed.
//!
//! Invariant: an input is complete or not there (it is made under another name), and is never changed by
//! a case; cases that change their source work on a copy.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

/// Bytes put before the big file.
pub(crate) const INSERTED_BYTES: usize = 1024;
/// Files of a generated directory.
pub(crate) const DIRECTORY_FILES: u64 = 100;
/// Bytes of a file of the small trees.
pub(crate) const SMALL_BYTES: usize = 4096;
const MILLION_DIRECTORIES: u64 = 1_000;
/// A file of the million has fewer bytes than this.
const TINY_BYTES_MAX: u64 = 101;
const COPY_BYTES: usize = 1 << 20;

/// Where inputs are and how large.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    /// Folder that made inputs are kept in between runs of this program.
    pub(crate) kept: PathBuf,
    /// An unpacked tree.
    pub(crate) tree: Option<PathBuf>,
    /// Another release of it.
    pub(crate) tree2: Option<PathBuf>,
    /// Folder whose content fills the big file up.
    pub(crate) filler: PathBuf,
    /// Size of the big file.
    pub(crate) big_bytes: u64,
    /// Files of the small tree.
    pub(crate) small_files: u64,
    /// Entries of the million.
    pub(crate) million_entries: u64,
}

impl Inputs {
    /// The tree.
    pub(crate) fn tree(&self) -> Result<PathBuf> {
        self.tree.clone().context("this case needs --tree")
    }

    /// The other release.
    pub(crate) fn tree2(&self) -> Result<PathBuf> {
        self.tree2.clone().context("this case needs --tree2")
    }

    /// A tree of so many files of 4 KiB, a hundred in a directory.
    pub(crate) fn small(&self, files: u64) -> Result<PathBuf> {
        self.make(&format!("small-{files}"), |to| {
            let bytes = |_: &mut Seeded| SMALL_BYTES;
            directories(to, files, DIRECTORY_FILES, bytes)
        })
    }

    /// Entries of next to nothing in a thousand directories (fewer when there are few).
    pub(crate) fn million(&self) -> Result<PathBuf> {
        let entries = self.million_entries;
        let count = MILLION_DIRECTORIES.min(entries.isqrt()).max(1);
        let files = entries.saturating_sub(count).max(1);
        self.make(&format!("entries-{entries}"), |to| {
            let bytes = |seeded: &mut Seeded| (seeded.number() % TINY_BYTES_MAX) as usize;
            directories(to, files, files.div_ceil(count), bytes)
        })
    }

    /// The big file: a tar of the tree, then one of the filler, cut.
    pub(crate) fn big(&self) -> Result<PathBuf> {
        let tree = self.tree()?;
        self.make(&format!("big-{}", self.big_bytes), |to| {
            let mut file = File::create(to)?;
            let mut left = self.big_bytes;
            for folder in [&tree, &self.filler] {
                left -= tar_into(folder, &mut file, left)?;
            }
            ensure!(
                left == 0,
                "the big file lacks {left} bytes: --filler must hold more, or --big-mib be less"
            );
            Ok(())
        })
    }

    /// The big file with a KiB before it.
    pub(crate) fn inserted(&self) -> Result<PathBuf> {
        let big = self.big()?;
        self.make(&format!("inserted-{}", self.big_bytes), |to| {
            let mut file = File::create(to)?;
            let mut before = vec![0; INSERTED_BYTES];
            Seeded::new(7).fill(&mut before);
            file.write_all(&before)?;
            std::io::copy(&mut File::open(big)?, &mut file)?;
            Ok(())
        })
    }

    /// A tar of each of the two releases.
    pub(crate) fn tars(&self) -> Result<[PathBuf; 2]> {
        let make = |name: &str, tree: &Path| {
            self.make(name, |to| {
                tar_into(tree, &mut File::create(to)?, u64::MAX)?;
                Ok(())
            })
        };
        Ok([
            make("1.tar", &self.tree()?)?,
            make("2.tar", &self.tree2()?)?,
        ])
    }

    fn make(&self, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let path = self.kept.join(name);
        if !path.exists() {
            fs::create_dir_all(&self.kept)?;
            let part = self
                .kept
                .join(format!("{name}.part-{}", std::process::id()));
            fill(&part).with_context(|| format!("cannot make the input {name}"))?;
            fs::rename(&part, &path)?;
        }
        Ok(path)
    }
}

/// Numbers from a seed (xorshift64*): the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Seeded(u64);

impl Seeded {
    /// From a seed; any will do.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Bytes that do not compress.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for eight in bytes.chunks_mut(8) {
            let number = self.number().to_le_bytes();
            eight.copy_from_slice(&number[..eight.len()]);
        }
    }
}

/// Path of a file of a generated tree.
pub(crate) fn file_name(number: u64, in_each: u64) -> String {
    format!("d{:04}/f{:05}", number / in_each, number % in_each)
}

fn directories(
    to: &Path,
    files: u64,
    in_each: u64,
    bytes: impl Fn(&mut Seeded) -> usize,
) -> Result<()> {
    let mut seeded = Seeded::new(files);
    let mut content = vec![0; SMALL_BYTES];
    for number in 0..files {
        let path = to.join(file_name(number, in_each));
        if number % in_each == 0 {
            fs::create_dir_all(path.parent().context("a file without a folder")?)?;
        }
        let length = bytes(&mut seeded).min(SMALL_BYTES);
        seeded.fill(&mut content[..length]);
        fs::write(path, &content[..length])?;
    }
    Ok(())
}

/// Appends a tar of `folder` to `file`, at most so many bytes of it; returns how many.
fn tar_into(folder: &Path, file: &mut File, bytes_max: u64) -> Result<u64> {
    let mut tar = Command::new("tar")
        .args(["--sort=name", "--numeric-owner", "-cf", "-", "-C"])
        .arg(folder)
        .arg(".")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start tar")?;
    let output = tar.stdout.take().context("tar has no output")?;
    let copied = std::io::copy(&mut output.take(bytes_max), file);
    // Cut off it ends with a failure, which is then no failure.
    let status = tar.wait()?;
    let copied = copied?;
    ensure!(
        status.success() || copied == bytes_max,
        "tar of {}: {status}",
        folder.display()
    );
    Ok(copied)
}

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Held {
    /// Files, links and directories, the root not counted.
    pub(crate) entries: u64,
    /// Bytes in files.
    pub(crate) bytes: u64,
}

/// Reads every file of a tree, so that it is in the page cache; counts it.
pub(crate) fn read_all(tree: &Path) -> Result<Held> {
    let mut held = Held::default();
    let mut buffer = vec![0; COPY_BYTES];
    visit(tree, &mut |path, is_file| {
        held.entries += 1;
        if is_file {
            let mut file = File::open(path)?;
            loop {
                let read = file.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                held.bytes += read as u64;
            }
        }
        Ok(())
    })?;
    Ok(held)
}

/// Counts the entries of a tree; what goes while it is counted is not.
pub(crate) fn count(tree: &Path) -> u64 {
    let mut entries = 0;
    let counted = visit(tree, &mut |_, _| {
        entries += 1;
        Ok(())
    });
    if counted.is_ok() { entries } else { 0 }
}

fn visit(tree: &Path, each: &mut impl FnMut(&Path, bool) -> Result<()>) -> Result<()> {
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder);
        for entry in entries.with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            each(&path, kind.is_file())?;
            if kind.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(())
}

/// Replaces a file as a program does that saves it whole: written beside, then renamed over.
pub(crate) fn replace(from: &Path, to: &Path) -> Result<()> {
    let mut beside = to.as_os_str().to_owned();
    beside.push(".new");
    let mut file = File::create(&beside)?;
    std::io::copy(&mut File::open(from)?, &mut file)?;
    file.set_modified(SystemTime::now())?;
    fs::rename(&beside, to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(kept: &Path) -> Inputs {
        Inputs {
            kept: kept.join("kept"),
            tree: Some(kept.join("tree")),
            tree2: None,
            filler: kept.join("tree"),
            big_bytes: 30_000,
            small_files: 250,
            million_entries: 110,
        }
    }

    #[test]
    fn trees_have_the_size_they_are_asked_for_and_are_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = inputs(folder.path());
        let small = inputs.small(250).unwrap();
        let held = read_all(&small).unwrap();
        assert_eq!((held.entries, held.bytes), (253, 250 * 4096));
        let last = small.join(file_name(249, DIRECTORY_FILES));
        let first = fs::read(&last).unwrap();
        fs::remove_dir_all(&small).unwrap();
        assert_eq!(
            fs::read(inputs.small(250).map(|_| last).unwrap()).unwrap(),
            first
        );
        let million = inputs.million().unwrap();
        assert_eq!(count(&million), 110);
        assert!(read_all(&million).unwrap().bytes <= 100 * 100);
    }

    #[test]
    fn the_big_file_is_cut_and_the_other_has_a_kib_before_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tree")).unwrap();
        fs::write(folder.path().join("tree/a"), vec![3; 12_000]).unwrap();
        let inputs = inputs(folder.path());
        let big = fs::read(inputs.big().unwrap()).unwrap();
        assert_eq!(big.len(), 30_000);
        let inserted = fs::read(inputs.inserted().unwrap()).unwrap();
        assert_eq!(inserted[INSERTED_BYTES..], big);
        let larger = Inputs {
            big_bytes: 1 << 20,
            ..inputs
        };
        let error = format!("{:#}", larger.big().unwrap_err());
        assert!(error.contains("lacks"), "{error}");
        assert!(larger.tree2().is_err());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        replace(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert_eq!(count(folder.path()), 2);
    }
}
