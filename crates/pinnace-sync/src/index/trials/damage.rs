//! Logs and snapshots that are cut or changed at every place: what is loaded was there, or nothing is.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::index::replay::State;

type Listing = BTreeMap<Vec<u8>, Row>;

/// A small history: what the index was after each change, the empty one first.
fn history(dir: &Path, with_snapshot: bool) -> Vec<Listing> {
    let (mut store, loaded) = Store::open(dir).unwrap();
    let mut index = loaded.index;
    let mut past = vec![listing(&index)];
    for n in 0..6_u64 {
        let name = format!("name{n}");
        let row = if n == 0 { directory(n) } else { file(n) };
        let parent = index.find(b"name0").unwrap_or(Index::ROOT);
        let id = index.insert(parent, name.as_bytes(), row);
        let name = name.as_bytes().into();
        let change = Change::Put {
            id,
            parent,
            name,
            row,
        };
        store.append(&[change]).unwrap();
        past.push(listing(&index));
    }
    if with_snapshot {
        let (marks, removals) = (
            Marks::default(),
            Removals::from([(1, Box::from(&b"x"[..]))]),
        );
        store.checkpoint(&mut index, &marks, &removals).unwrap();
        past.drain(1..past.len() - 1);
    }
    let at = |path: &[u8], index: &Index| index.find(path).unwrap();
    let dir = at(b"name0", &index);
    let (a, b) = (at(b"name0/name1", &index), at(b"name0/name2", &index));
    index.exchange(a, b).unwrap();
    store.append(&[Change::Exchange { a, b }]).unwrap();
    past.push(listing(&index));
    index.rename(a, Index::ROOT, b"moved").unwrap();
    let (name, parent) = (b"moved"[..].into(), Index::ROOT);
    store
        .append(&[Change::Rename {
            id: a,
            parent,
            name,
        }])
        .unwrap();
    past.push(listing(&index));
    index.remove(dir);
    store.append(&[Change::Remove { id: dir, seq: 7 }]).unwrap();
    past.push(listing(&index));
    past
}

/// Opens a folder that was tampered with, twice: the second time nothing is wrong any more.
fn open(dir: &Path) -> (Listing, Option<String>) {
    let (_, loaded) = Store::open(dir).unwrap();
    let found = listing(&loaded.index);
    let (_, again) = Store::open(dir).unwrap();
    assert_eq!(again.was_torn, None);
    assert_eq!(listing(&again.index), found);
    (found, loaded.was_torn)
}

#[test]
fn a_log_cut_anywhere_is_a_prefix() {
    for with_snapshot in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let past = history(dir.path(), with_snapshot);
        let files: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (std::fs::read(&path).unwrap(), path))
            .collect();
        let log = std::fs::read(dir.path().join("log")).unwrap();
        let mut reached = 0;
        for len in 0..=log.len() {
            for (bytes, path) in &files {
                std::fs::write(path, bytes).unwrap();
            }
            std::fs::write(dir.path().join("log"), &log[..len]).unwrap();
            let (found, was_torn) = open(dir.path());
            if len < 32 {
                assert!(found == past[0] && was_torn.is_some(), "{len}");
                continue;
            }
            let at = past.iter().position(|listing| *listing == found).unwrap();
            assert!(at == reached || at == reached + 1, "{len}");
            assert_eq!(was_torn.is_none(), at > reached || len == 32, "{len}");
            reached = at;
        }
        assert_eq!(reached, past.len() - 1);
    }
}

#[test]
fn a_changed_byte_gives_a_prefix_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let past = history(dir.path(), true);
    let names = ["snapshot", "log", "recipes.0"];
    let whole: Vec<_> = names
        .iter()
        .map(|name| std::fs::read(dir.path().join(name)).unwrap())
        .collect();
    for (name, bytes) in names.iter().zip(&whole) {
        for at in 0..bytes.len() {
            for flip in [1 << (at % 8), 0xff] {
                for (name, bytes) in names.iter().zip(&whole) {
                    std::fs::write(dir.path().join(name), bytes).unwrap();
                }
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                std::fs::write(dir.path().join(name), changed).unwrap();
                let (_, loaded) = Store::open(dir.path()).unwrap();
                let found = listing(&loaded.index);
                let words = loaded.was_torn.unwrap();
                assert!(past.contains(&found), "{name} {at}: {words}");
                // In the snapshot nothing may be wrong; of the log only the end.
                if *name == "snapshot" {
                    assert_eq!(found, past[0], "{at}");
                }
            }
        }
    }
}

#[test]
fn a_snapshot_cut_anywhere_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let past = history(dir.path(), true);
    let path = dir.path().join("snapshot");
    let whole = std::fs::read(&path).unwrap();
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let (found, was_torn) = open(dir.path());
        assert_eq!(found, past[0]);
        assert!(was_torn.is_some());
    }
}

#[test]
fn changes_that_do_not_fit_are_damage() {
    let name = |name: &str| Box::from(name.as_bytes());
    let (root, absent) = (Index::ROOT, NodeId(9));
    let put = |id, parent, text: &str| Change::Put {
        id,
        parent,
        name: name(text),
        row: file(1),
    };
    let (a, b) = (root, absent);
    for bad in [
        put(NodeId(1), absent, "x"),
        put(NodeId(1), root, ""),
        put(NodeId(1), root, ".."),
        put(NodeId(1), root, "a/b"),
        put(root, root, "x"),
        put(NodeId(u32::MAX), root, "x"),
        put(NodeId(u32::MAX - 1), root, "x"),
        put(NodeId(1 << 20), root, "x"),
        Change::Set {
            id: absent,
            row: file(1),
        },
        Change::Set {
            id: root,
            row: file(1),
        },
        Change::Remove { id: absent, seq: 1 },
        Change::Rename {
            id: root,
            parent: root,
            name: name("x"),
        },
        Change::Rename {
            id: absent,
            parent: root,
            name: name("x"),
        },
        Change::Rename {
            id: root,
            parent: absent,
            name: name("x"),
        },
        Change::Exchange { a, b },
        Change::Renew { id: absent, seq: 1 },
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(dir.path()).unwrap();
        let shown = format!("{bad:?}");
        store.append(&[put(NodeId(4), root, "good"), bad]).unwrap();
        let (found, was_torn) = open(dir.path());
        assert_eq!(found.len(), 1, "{shown}");
        assert!(was_torn.unwrap().contains("does not fit"), "{shown}");
    }
}

proptest! {
    #[test]
    fn bytes_with_the_right_sum_do_no_harm(
        records in proptest::collection::vec((0_usize..7, 0_usize..140, any::<u8>(), 0_u32..4), 1..20),
    ) {
        let mut state = State::default();
        for (kind, at, byte, id) in records {
            let (id, parent, name) = (NodeId(id), NodeId(id / 2), Box::from(&b"n"[..]));
            let change = match kind {
                0 => Change::Put { id, parent, name, row: directory(byte.into()) },
                1 => Change::Set { id, row: file(byte.into()) },
                2 => Change::Remove { id, seq: byte.into() },
                3 => Change::Rename { id, parent, name },
                4 => Change::Exchange { a: id, b: parent },
                5 => Change::Renew { id, seq: byte.into() },
                _ => Change::Marks(Marks::default()),
            };
            let mut bytes = Vec::new();
            change.encode(&mut bytes);
            assert_eq!(Change::decode(&bytes).as_ref(), Some(&change));
            if let Some(changed) = bytes.get_mut(at) {
                *changed = byte;
            }
            if let Some(change) = Change::decode(&bytes) {
                let _: Option<()> = state.apply(change);
            }
            let count = state.index.walk().count();
            prop_assert_eq!(count, state.index.len() + 1);
        }
    }
}
