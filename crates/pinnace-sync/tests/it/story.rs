//! What may happen to a source: random steps, and how they are carried out.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write(usize, usize),
    Append(usize, usize),
    Insert(usize),
    Mkdir(usize),
    Rename(usize, usize),
    Remove(usize),
    Chmod(usize, u32),
    Symlink(usize, usize),
    Link(usize, usize),
    Sync,
}

/// Few names, so that they meet: nested ones, two cases, two forms of one letter.
const NAMES: &[&str] = &[
    "a", "b", "A", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a", "é", "e\u{301}",
];

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    let size = prop_oneof![
        Just(0usize),
        1..2000usize,
        Just(70_000),
        Just(200_000),
        Just(1_200_000)
    ];
    prop_oneof![
        4 => (name(), size).prop_map(|(a, b)| Step::Write(a, b)),
        1 => (name(), 1..5000usize).prop_map(|(a, b)| Step::Append(a, b)),
        1 => name().prop_map(Step::Insert),
        3 => name().prop_map(Step::Mkdir),
        4 => (name(), name()).prop_map(|(a, b)| Step::Rename(a, b)),
        2 => name().prop_map(Step::Remove),
        1 => (name(), 0o500..0o777u32).prop_map(|(a, b)| Step::Chmod(a, b)),
        1 => (name(), name()).prop_map(|(a, b)| Step::Symlink(a, b)),
        1 => (name(), name()).prop_map(|(a, b)| Step::Link(a, b)),
        2 => Just(Step::Sync),
    ]
}

/// Bytes that look random and do not compress.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// Carries a step out; what makes no sense at the moment does nothing.
pub(crate) fn apply(root: &Path, step: &Step, seed: usize) {
    let at = |name: usize| -> PathBuf { root.join(NAMES[name]) };
    let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    let _ = match step {
        Step::Write(name, count) => fs::write(at(*name), noise(seed as u64, *count)),
        Step::Append(name, count) if is_file(&at(*name)) => {
            let old = fs::read(at(*name)).unwrap();
            fs::write(at(*name), [old, noise(seed as u64, *count)].concat())
        }
        Step::Insert(name) if is_file(&at(*name)) => {
            let old = fs::read(at(*name)).unwrap();
            fs::write(at(*name), [b"x".to_vec(), old].concat())
        }
        Step::Mkdir(name) => fs::create_dir(at(*name)),
        Step::Rename(from, to) => fs::rename(at(*from), at(*to)),
        Step::Remove(name) => fs::remove_file(at(*name)).or_else(|_| fs::remove_dir_all(at(*name))),
        Step::Chmod(name, mode) if !at(*name).is_symlink() => {
            fs::set_permissions(at(*name), fs::Permissions::from_mode(*mode))
        }
        Step::Symlink(name, target) => symlink(NAMES[*target], at(*name)),
        Step::Link(name, other) if is_file(&at(*other)) => fs::hard_link(at(*other), at(*name)),
        _ => Ok(()),
    };
}
