//! Random histories: whatever happened to a source, the share is equal afterwards.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::pair::Pair;

#[derive(Clone, Debug)]
enum Step {
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

fn step() -> impl Strategy<Value = Step> {
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

fn bytes(seed: usize, count: usize) -> Vec<u8> {
    let mut out = vec![0; count];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// Carries a step out; what makes no sense at the moment does nothing.
fn apply(root: &Path, step: &Step, seed: usize) {
    let at = |name: usize| -> PathBuf { root.join(NAMES[name]) };
    let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    let _ = match step {
        Step::Write(name, count) => fs::write(at(*name), bytes(seed, *count)),
        Step::Append(name, count) if is_file(&at(*name)) => {
            let old = fs::read(at(*name)).unwrap();
            fs::write(at(*name), [old, bytes(seed, *count)].concat())
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

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_share_is_equal_after_each_run(steps in prop::collection::vec(step(), 1..30)) {
        let pair = Pair::new();
        for (seed, step) in steps.iter().chain([&Step::Sync]).enumerate() {
            match step {
                Step::Sync => {
                    pair.once();
                    pair.assert_equal();
                }
                step => apply(&pair.source(), step, seed),
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn a_live_share_is_equal_when_asked(steps in prop::collection::vec(step(), 1..40)) {
        let pair = Pair::new();
        let live = pair.live(pair.settings());
        live.wait_for("synced");
        for (seed, step) in steps.iter().chain([&Step::Sync]).enumerate() {
            match step {
                Step::Sync => {
                    pair.shares.wait("s").unwrap();
                    pair.assert_equal();
                }
                step => apply(&pair.source(), step, seed),
            }
        }
    }
}
