//! The index in memory: what its operations promise one by one.

use super::*;

#[test]
fn a_new_index_is_a_root() {
    let index = Index::new();
    assert!(index.is_empty() && !index.is_full());
    assert_eq!(index.find(b""), Some(Index::ROOT));
    assert_eq!(index.parent(Index::ROOT), None);
    assert_eq!(index.path(Index::ROOT), b"");
    assert_eq!(*index.row(Index::ROOT), Row::DIRECTORY);
    assert_eq!(index.walk().collect::<Vec<_>>(), [Index::ROOT]);
    assert!(index.contains(Index::ROOT) && !index.contains(NodeId(1)));
}

#[test]
fn what_becomes_a_file_has_nothing_beneath() {
    let mut index = Index::new();
    let dir = index.insert(Index::ROOT, b"d", directory(1));
    index.insert(dir, b"a", file(2));
    let deep = index.insert(dir, b"b", directory(3));
    index.insert(deep, b"c", file(4));
    assert_eq!(index.count_beneath(dir), 3);
    assert_eq!(index.insert(Index::ROOT, b"d", file(5)), dir);
    assert_eq!(index.len(), 1);
    assert_eq!(index.find(b"d/a"), None);
    // The root is a directory, come what may.
    index.set_row(Index::ROOT, file(1));
    assert_eq!(index.row(Index::ROOT).meta.kind, Kind::Directory);
}

#[test]
fn moves_that_make_no_tree_are_refused() {
    let mut index = Index::new();
    let a = index.insert(Index::ROOT, b"a", directory(1));
    let b = index.insert(a, b"b", directory(2));
    let c = index.insert(b, b"c", file(3));
    let before = listing(&index);
    for (id, dir, name, error) in [
        (Index::ROOT, a, "x", MoveError::Root),
        (a, a, "x", MoveError::Within),
        (a, b, "x", MoveError::Within),
        (c, Index::ROOT, "a", MoveError::Within),
        (a, c, "x", MoveError::NotADirectory),
    ] {
        assert_eq!(index.rename(id, dir, name.as_bytes()), Err(error));
    }
    for (a, b, error) in [
        (Index::ROOT, c, MoveError::Root),
        (a, c, MoveError::Within),
        (c, a, MoveError::Within),
    ] {
        assert_eq!(index.exchange(a, b), Err(error));
    }
    assert_eq!(index.rename(b, a, b"b"), Ok(()));
    assert_eq!(index.exchange(b, b), Ok(()));
    assert_eq!(listing(&index), before);
}

#[test]
fn a_removed_id_is_given_out_as_late_as_can_be() {
    let mut index = Index::new();
    let ids: Vec<_> = (0..4)
        .map(|n| index.insert(Index::ROOT, &[b'a' + n], file(1)))
        .collect();
    for id in &ids[..3] {
        assert_eq!(index.remove(*id), 1);
        assert!(!index.contains(*id));
    }
    let again: Vec<_> = (0..4)
        .map(|n| index.insert(Index::ROOT, &[b'e' + n], file(1)))
        .collect();
    assert_eq!(again[..3], ids[..3]);
    assert!(again[3] > ids[3]);
}

#[test]
fn a_deep_tree_is_like_any_other() {
    let mut index = Index::new();
    let mut at = Index::ROOT;
    for _ in 0..5_000 {
        at = index.insert(at, b"d", directory(1));
    }
    assert_eq!(index.walk().count(), 5_001);
    assert_ne!(index.digest(), Index::new().digest());
    assert_eq!(index.path(at).len(), 2 * 5_000 - 1);
    let top = index.find(b"d").unwrap();
    assert_eq!(index.remove(top), 5_000);
}

#[test]
fn many_copies_do_not_make_a_lookup_slow() {
    let mut index = Index::new();
    let mut large = file(0);
    large.meta.size = 1 << 20;
    for n in 0..20_000_u32 {
        index.insert(Index::ROOT, &n.to_string().into_bytes(), large);
    }
    let found = index.with_content(&large.content).unwrap();
    assert_eq!(index.row(found).content, large.content);
    assert_eq!(index.remove(Index::ROOT), 20_000);
    assert_eq!(index.with_content(&large.content), None);
}

#[test]
fn names_that_are_gone_take_no_room() {
    let mut index = Index::new();
    let ids: Vec<_> = (0..100_u32)
        .map(|n| index.insert(Index::ROOT, &n.to_string().into_bytes(), file(1)))
        .collect();
    for round in 0..100_u32 {
        for (n, id) in ids.iter().enumerate() {
            let name = format!("{:0>200}", round as usize * 100 + n);
            index.rename(*id, Index::ROOT, name.as_bytes()).unwrap();
        }
    }
    assert_eq!(index.name(ids[7]), format!("{:0>200}", 9907).as_bytes());
    assert!(index.memory_bytes() < 200_000, "{}", index.memory_bytes());
}

#[test]
fn an_entry_takes_about_two_hundred_bytes() {
    let mut index = Index::new();
    let entries = 100_000_u64;
    for n in 0..entries {
        let mut row = file(n);
        row.print.inode = n + 1;
        let name = format!("name-{n:06}");
        index.insert(Index::ROOT, name.as_bytes(), row);
    }
    let each = index.memory_bytes() as f64 / entries as f64;
    assert!(each < 205.0, "{each}");
}

#[test]
fn the_digest_is_of_what_is_mirrored() {
    let tree = |change: &dyn Fn(&mut Row)| {
        let mut index = Index::new();
        let dir = index.insert(Index::ROOT, b"d", directory(1));
        let mut row = file(7);
        change(&mut row);
        index.insert(dir, b"f", row);
        index.digest()
    };
    let plain = tree(&|_| {});
    for same in [
        &(|row: &mut Row| row.print.inode = 99) as &dyn Fn(&mut Row),
        &|row| row.seq = 99,
        &|row| row.is_racy = !row.is_racy,
        &|row| row.is_linked = !row.is_linked,
    ] {
        assert_eq!(tree(same), plain);
    }
    for other in [
        &(|row: &mut Row| row.meta.kind = Kind::Symlink) as &dyn Fn(&mut Row),
        &|row| row.meta.mode ^= 1,
        &|row| row.meta.uid ^= 1,
        &|row| row.meta.gid ^= 1,
        &|row| row.meta.mtime.secs ^= 1,
        &|row| row.meta.mtime.nanos ^= 1,
        &|row| row.meta.size ^= 1,
        &|row| row.meta.attrs ^= 1,
        &|row| row.content.0[31] ^= 1,
    ] {
        assert_ne!(tree(other), plain);
    }
}

#[test]
fn the_digest_is_what_it_always_was() {
    let mut index = Index::new();
    let dir = index.insert(Index::ROOT, b"d", directory(1));
    index.insert(dir, b"f", file(2));
    index.insert(dir, b"e", row(Kind::Symlink, 3));
    let hex = blake3::Hash::from_bytes(index.digest()).to_hex();
    assert_eq!(&hex[..16], "373085c298a3cb44");
}
