//! A tree as the tests see it: read by paths of the system, with nothing of the program's own code.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is at a path, in words.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

pub(crate) fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut names_of_inode: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(at) = waiting.pop() {
        let path = root.join(&at);
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let mtime = (meta.mtime(), meta.mtime_nsec());
        let facts = format!("{:o} {}:{} {mtime:?}", meta.mode(), meta.uid(), meta.gid());
        let content = if meta.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            let mut names: Vec<OsString> = entries.map(|e| e.unwrap().file_name()).collect();
            names.sort();
            waiting.extend(names.into_iter().rev().map(|name| at.join(name)));
            String::new()
        } else if meta.is_symlink() {
            let target = std::fs::read_link(&path).unwrap();
            format!("-> {:?}", target.as_os_str().as_bytes())
        } else if meta.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let hash = blake3::hash(&bytes).to_hex();
            let names = names_of_inode.entry(meta.ino()).or_default();
            names.push(at.clone());
            format!("{} {}", bytes.len(), &hash[..12])
        } else {
            continue;
        };
        tree.insert(at, format!("{facts} {content}"));
    }
    // Names outside the tree do not count.
    for names in names_of_inode.into_values().filter(|names| names.len() > 1) {
        for name in &names {
            *tree.get_mut(name).unwrap() += &format!(" {names:?}");
        }
    }
    tree
}

pub(crate) fn assert_same(source: &Tree, share: &Tree) {
    let differ: Vec<String> = source
        .keys()
        .chain(share.keys())
        .filter(|path| source.get(*path) != share.get(*path))
        .map(|path| format!("{path:?}: {:?} / {:?}", source.get(path), share.get(path)))
        .collect();
    assert!(
        differ.is_empty(),
        "source and share differ:\n{}",
        differ.join("\n")
    );
}
