//! Sources of mirrors and how they are judged: files that prove by themselves that they are whole, and two oracles that say
//! whether two trees are the same, one by paths of the system, one by rsync.
//!
//! Invariant: a file gets into a source by a rename from beside it, so every state that anybody can read of it is one that
//! was written whole. Left to others: what happens to the trees.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Numbers that are the same in every run (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below another one.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    fn fill(&mut self, into: &mut Vec<u8>, bytes: usize) {
        let end = into.len() + bytes;
        while into.len() < end {
            into.extend_from_slice(&self.next().to_le_bytes());
        }
        into.truncate(end);
    }
}

/// What a file holds: noise from a seed, with other noise put in somewhere, once or again and again. The first line of a
/// file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub seed: u64,
    pub bytes: usize,
    pub patch_seed: u64,
    pub patch_at: usize,
    pub patch_bytes: usize,
    /// Bytes of the noise between a patch and the next one.
    pub patch_every: usize,
}

impl Version {
    /// Noise of this many bytes.
    pub fn plain(seed: u64, bytes: usize) -> Self {
        Self {
            seed,
            bytes,
            patch_seed: 0,
            patch_at: 0,
            patch_bytes: 0,
            patch_every: bytes.max(1),
        }
    }

    pub fn content(&self) -> Vec<u8> {
        let mut content = format!(
            "{} {} {} {} {} {}\n",
            self.seed,
            self.bytes,
            self.patch_seed,
            self.patch_at,
            self.patch_bytes,
            self.patch_every
        )
        .into_bytes();
        let mut noise = Vec::with_capacity(self.bytes + 8);
        Random::new(self.seed).fill(&mut noise, self.bytes);
        content.extend_from_slice(&noise[..self.patch_at]);
        let mut patch = Random::new(self.patch_seed);
        for own in noise[self.patch_at..].chunks(self.patch_every) {
            patch.fill(&mut content, self.patch_bytes);
            content.extend_from_slice(own);
        }
        content
    }

    /// Reads the first line.
    fn of(content: &[u8]) -> Option<Self> {
        let line = content.split(|byte| *byte == b'\n').next()?;
        let line = std::str::from_utf8(line).ok()?;
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        let version = Self {
            seed: next()?,
            bytes: next()? as usize,
            patch_seed: next()?,
            patch_at: next()? as usize,
            patch_bytes: next()? as usize,
            patch_every: next()? as usize,
        };
        let is_plausible = version.patch_at <= version.bytes
            && version.bytes <= content.len()
            && version.patch_every > 0;
        is_plausible.then_some(version)
    }

    /// Whether this is all of one version and nothing of another.
    pub fn is_whole(content: &[u8]) -> bool {
        Self::of(content).is_some_and(|version| version.content() == content)
    }
}

/// Puts a file into a source in one step.
pub fn put(workshop: &Path, at: &Path, version: Version) -> std::io::Result<()> {
    let new = workshop.join("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(&version.content())?;
    drop(file);
    fs::rename(&new, at)
}

/// Reads every file beneath a directory that changes meanwhile, and fails at one that is not whole. Returns how many were
/// read.
pub fn assert_whole(root: &Path) -> u64 {
    let (mut count, mut waiting) = (0, vec![root.to_owned()]);
    while let Some(dir) = waiting.pop() {
        // What was moved away meanwhile is found in its new place the next time.
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            if meta.is_dir() {
                waiting.push(path);
            } else if meta.is_file()
                && let Ok(mut file) = fs::File::open(&path)
            {
                let mut content = Vec::new();
                file.read_to_end(&mut content).unwrap();
                let (bytes, path) = (content.len(), path.display());
                assert!(
                    Version::is_whole(&content),
                    "half a file was seen: {path}, {bytes} bytes"
                );
                count += 1;
            }
        }
    }
    count
}

/// Both trees are the same: by our own reading, and by rsync's.
#[track_caller]
pub fn assert_same(source: &Path, share: &Path) {
    assert_read_same(source, share);
    assert_rsync_finds_nothing(Command::new("rsync"), source, share);
}

/// Both trees are the same by our own reading.
#[track_caller]
pub fn assert_read_same(source: &Path, share: &Path) {
    let (ours, theirs) = (read(source), read(share));
    let differ: Vec<String> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .map(|path| format!("{path:?}: {:?} / {:?}", ours.get(path), theirs.get(path)))
        .collect();
    assert!(
        differ.is_empty(),
        "source and share differ:\n{}",
        differ.join("\n")
    );
}

/// What rsync would still have to do, which is nothing. CI has it.
#[track_caller]
pub fn assert_rsync_finds_nothing(mut rsync: Command, source: &Path, share: &Path) {
    let (source, share) = (source.join(""), share.join(""));
    let ran = rsync
        .args(["-aHAXn", "--delete", "--checksum", "--itemize-changes"])
        .args([source, share])
        .output();
    let output = match ran {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
            return assert!(!is_ci, "rsync is not here, and CI has to have it");
        }
        output => output.unwrap(),
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.is_empty(),
        "rsync would change the share:\n{said}"
    );
}

/// What is at each path, in words.
fn read(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut tree, mut waiting) = (BTreeMap::new(), vec![PathBuf::new()]);
    let mut names_of_inode: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    while let Some(at) = waiting.pop() {
        let path = root.join(&at);
        let meta = fs::symlink_metadata(&path).unwrap();
        let mtime = (meta.mtime(), meta.mtime_nsec());
        let mut facts = format!("{:o} {}:{} {mtime:?}", meta.mode(), meta.uid(), meta.gid());
        if meta.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| at.join(entry.unwrap().file_name())));
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            facts += &format!(" -> {:?}", target.as_os_str().as_bytes());
        } else {
            let mut hash = DefaultHasher::new();
            fs::read(&path).unwrap().hash(&mut hash);
            names_of_inode
                .entry(meta.ino())
                .or_default()
                .push(at.clone());
            facts += &format!(" {} {:x}", meta.len(), hash.finish());
        }
        tree.insert(at, facts);
    }
    for mut names in names_of_inode.into_values().filter(|names| names.len() > 1) {
        names.sort();
        for name in &names {
            *tree.get_mut(name).unwrap() += &format!(" {names:?}");
        }
    }
    tree
}
