//! Random histories of a small tree, against the scanner: with looks in between, and by several hands at once.

use std::os::unix::fs::PermissionsExt as _;

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::scanner::Scanner;
use super::*;

#[derive(Clone, Debug)]
enum Act {
    Mkdir(String),
    MkdirWrite(String),
    Write(String),
    Append(String),
    Chmod(String),
    Remove(String),
    Rename(String, String),
    Exchange(String, String),
    Out(String),
    In(String),
    /// The scanner takes what has come so far.
    Peek,
    /// The scanner takes everything.
    Settle,
}

fn a_path() -> impl Strategy<Value = String> {
    vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|names| names.join("/"))
}

fn an_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => a_path().prop_map(Act::Mkdir),
        3 => a_path().prop_map(Act::MkdirWrite),
        3 => a_path().prop_map(Act::Write),
        2 => a_path().prop_map(Act::Append),
        1 => a_path().prop_map(Act::Chmod),
        2 => a_path().prop_map(Act::Remove),
        5 => (a_path(), a_path()).prop_map(|(from, to)| Act::Rename(from, to)),
        1 => (a_path(), a_path()).prop_map(|(from, to)| Act::Exchange(from, to)),
        1 => a_path().prop_map(Act::Out),
        1 => a_path().prop_map(Act::In),
        2 => Just(Act::Peek),
        1 => Just(Act::Settle),
    ]
}

/// Does it, or does nothing if it cannot be done.
fn act(root: &Path, outside: &Path, act: &Act) {
    let at = |path: &String| root.join(path);
    let is_there = |path: &String| at(path).symlink_metadata().is_ok();
    let _ = match act {
        Act::Mkdir(path) => fs::create_dir_all(at(path)),
        Act::MkdirWrite(path) => {
            fs::create_dir_all(at(path)).and_then(|()| fs::write(at(path).join("f"), "text"))
        }
        Act::Write(path) => fs::write(at(path), "text"),
        Act::Append(path) => fs::File::options()
            .append(true)
            .open(at(path))
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"more")),
        Act::Chmod(path) if is_there(path) => {
            let mode = at(path)
                .metadata()
                .map_or(0, |meta| meta.permissions().mode());
            fs::set_permissions(at(path), fs::Permissions::from_mode(mode ^ 0o070))
        }
        Act::Remove(path) if at(path).is_dir() => fs::remove_dir_all(at(path)),
        Act::Remove(path) => fs::remove_file(at(path)),
        Act::Rename(from, to) => fs::rename(at(from), at(to)),
        Act::Exchange(a, b) => {
            renameat_with(CWD, at(a), CWD, at(b), RenameFlags::EXCHANGE).map_err(Into::into)
        }
        Act::Out(path) => fs::rename(at(path), outside.join("x")),
        Act::In(path) => fs::rename(outside.join("x"), at(path)),
        Act::Chmod(_) | Act::Peek | Act::Settle => Ok(()),
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_believed_becomes_what_there_is(history in vec(an_act(), 1..60)) {
        let bed = Bed::new();
        let mut scanner = Scanner::new(&bed);
        for step in &history {
            match step {
                Act::Peek => scanner.peek(&bed),
                Act::Settle => scanner.settle(&bed),
                step => act(&bed.root(), &bed.outside(""), step),
            }
        }
        scanner.settle(&bed);
        scanner.check(&bed);
        scanner.check_watches(&bed);
    }

    #[test]
    fn many_hands(histories in vec(vec(an_act(), 1..60), 2..4)) {
        let bed = Bed::new();
        let mut scanner = Scanner::new(&bed);
        std::thread::scope(|scope| {
            let hands: Vec<_> = histories
                .iter()
                .map(|history| {
                    let (root, outside) = (bed.root(), bed.outside(""));
                    scope.spawn(move || history.iter().for_each(|step| act(&root, &outside, step)))
                })
                .collect();
            while hands.iter().any(|hand| !hand.is_finished()) {
                scanner.peek(&bed);
                std::thread::yield_now();
            }
        });
        scanner.settle(&bed);
        scanner.check(&bed);
    }
}
