//! The folder: checkpoints, recipes, removals, and what a newer program or a crash leaves.

use std::os::unix::fs::FileExt as _;

use super::*;
use crate::chunk::{Chunk, ChunkId, Recipe};

fn put(index: &mut Index, name: &str, row: Row) -> Change {
    let name: Box<[u8]> = name.as_bytes().into();
    let id = index.insert(Index::ROOT, &name, row);
    Change::Put {
        id,
        parent: Index::ROOT,
        name,
        row,
    }
}

fn recipe(chunks: u32, fill: u8) -> Recipe {
    let chunk = Chunk {
        bytes: 1,
        id: ChunkId([fill; 16]),
    };
    Recipe {
        chunks: vec![chunk; chunks as usize],
    }
}

fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_log_of_another_generation_is_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path()).unwrap();
    let mut index = loaded.index;
    let change = put(&mut index, "a", file(1));
    store.append(&[change]).unwrap();
    let log = std::fs::read(dir.path().join("log")).unwrap();
    let change = put(&mut index, "b", file(2));
    store.append(&[change]).unwrap();
    let (marks, removals) = (Marks::default(), Removals::new());
    store.checkpoint(&mut index, &marks, &removals).unwrap();
    // As after a crash between the snapshot and the new log, with the leftovers of one before it.
    std::fs::write(dir.path().join("log"), log).unwrap();
    for leftover in ["snapshot.new", "log.new", "recipes.17", "recipes.3.new"] {
        std::fs::write(dir.path().join(leftover), b"half").unwrap();
    }
    let (mut store, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.was_torn, None);
    assert_eq!(listing(&loaded.index), listing(&index));
    assert_eq!(names(dir.path()), ["log", "recipes.0", "snapshot"]);
    let change = put(&mut index, "c", file(3));
    store.append(&[change]).unwrap();
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(listing(&loaded.index), listing(&index));
}

#[test]
fn a_checkpoint_is_wanted_when_the_log_is_long() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path()).unwrap();
    let mut index = loaded.index;
    let change = put(&mut index, "a", file(1));
    let changes = vec![change; 1000];
    for _ in 0..7 {
        assert!(!store.wants_checkpoint());
        store.append(&changes).unwrap();
    }
    store.append(&changes).unwrap();
    assert!(store.wants_checkpoint());
    for _ in 0..4 {
        assert!(!store.needs_checkpoint());
        store.append(&changes).unwrap();
    }
    assert!(store.needs_checkpoint());
    let (marks, removals) = (Marks::default(), Removals::new());
    store.checkpoint(&mut index, &marks, &removals).unwrap();
    assert!(!store.wants_checkpoint());
}

#[test]
fn recipes_nobody_refers_to_are_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path()).unwrap();
    let mut index = loaded.index;
    let mut kept = Vec::new();
    for n in 0..100_u8 {
        let recipe = recipe(100, n);
        let mut row = file(1);
        row.recipe = Some(store.add_recipe(&recipe).unwrap());
        // Of ten recipes one is kept, by two files.
        if n % 10 == 0 {
            kept.push(recipe);
            for copy in ["x", "y"] {
                let change = put(&mut index, &format!("{copy}{}", n / 10), row);
                store.append(&[change]).unwrap();
            }
        }
    }
    let bytes = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len();
    store.sync().unwrap();
    assert!(bytes("recipes.0") > 200_000);
    let (marks, removals) = (Marks::default(), Removals::new());
    store.checkpoint(&mut index, &marks, &removals).unwrap();
    assert_eq!(names(dir.path()), ["log", "recipes.1", "snapshot"]);
    assert!(bytes("recipes.1") < 21_000);
    let (again, loaded) = Store::open(dir.path()).unwrap();
    for (store, index) in [(&store, &index), (&again, &loaded.index)] {
        for (n, recipe) in kept.iter().enumerate() {
            for copy in ["x", "y"] {
                let id = index.find(format!("{copy}{n}").as_bytes()).unwrap();
                let at = index.row(id).recipe.unwrap();
                assert_eq!(store.recipe(at).unwrap(), *recipe);
            }
        }
    }
}

#[test]
fn a_recipe_that_was_lost_is_not_taken_for_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path()).unwrap();
    let mut index = loaded.index;
    let mut row = file(1);
    let lost = store.add_recipe(&recipe(3, 1)).unwrap();
    row.recipe = Some(lost);
    let change = put(&mut index, "a", row);
    store.append(&[change]).unwrap();
    // A crash took the recipe, but not what refers to it.
    let file = std::fs::File::options()
        .write(true)
        .open(dir.path().join("recipes.0"));
    file.unwrap().set_len(32).unwrap();
    let (mut store, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(
        loaded.index.row(loaded.index.find(b"a").unwrap()).recipe,
        Some(lost)
    );
    let is_lost = |store: &Store| matches!(store.recipe(lost), Err(StoreError::NoRecipe { .. }));
    assert!(is_lost(&store));
    let later = store.add_recipe(&recipe(3, 2)).unwrap();
    assert_ne!(later, lost);
    store.sync().unwrap();
    assert!(is_lost(&store));
    assert_eq!(store.recipe(later).unwrap(), recipe(3, 2));
}

#[test]
fn what_is_no_reference_gives_no_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(dir.path()).unwrap();
    let good = store.add_recipe(&recipe(3, 1)).unwrap();
    let check = |store: &Store| {
        assert_eq!(store.recipe(good).unwrap(), recipe(3, 1));
        for (offset, chunks) in [
            (0, 0),
            (good.offset + 1, 2),
            (good.offset, 2),
            (good.offset, 4),
            (good.offset, u32::MAX),
            (u64::MAX, 3),
        ] {
            let bad = RecipeRef { offset, chunks };
            assert!(matches!(
                store.recipe(bad),
                Err(StoreError::NoRecipe { .. })
            ));
        }
    };
    check(&store);
    store.sync().unwrap();
    check(&store);
    let file = std::fs::File::options()
        .write(true)
        .open(dir.path().join("recipes.0"));
    file.unwrap().write_all_at(b"x", good.offset + 20).unwrap();
    assert!(matches!(
        store.recipe(good),
        Err(StoreError::NoRecipe { .. })
    ));
}

#[test]
fn the_oldest_removals_are_forgotten() {
    let (mut marks, mut removals) = (Marks::default(), Removals::new());
    for seq in 1..=REMOVALS_MAX as u64 + 5 {
        marks.note_removal(&mut removals, seq, Box::default());
    }
    assert_eq!((removals.len(), marks.removals_from), (REMOVALS_MAX, 5));
    assert_eq!(removals[0].0, 6);

    // A snapshot keeps as many, and marks that say so let go of those before.
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path()).unwrap();
    let mut index = loaded.index;
    store.checkpoint(&mut index, &marks, &removals).unwrap();
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!((&loaded.marks, &loaded.removals), (&marks, &removals));
    marks.removals_from = 50_000;
    store.set_marks(&marks).unwrap();
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.removals[0].0, 50_001);
}

#[test]
fn a_newer_index_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path()).unwrap();
    let mut index = loaded.index;
    store
        .checkpoint(&mut index, &Marks::default(), &Removals::new())
        .unwrap();
    for (name, head_bytes) in [("snapshot", 148), ("log", 32), ("recipes.0", 32)] {
        let path = dir.path().join(name);
        let before = std::fs::read(&path).unwrap();
        let mut bytes = before.clone();
        bytes[8] = 2;
        let sum = crc32c::crc32c(&bytes[..head_bytes - 4]);
        bytes[head_bytes - 4..head_bytes].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(
            matches!(error, StoreError::Newer { found: 2, .. }),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        std::fs::write(&path, before).unwrap();
    }
    assert_eq!(Store::open(dir.path()).unwrap().1.was_torn, None);
}

#[test]
fn a_write_that_fails_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("file");
    std::fs::write(&gone, b"").unwrap();
    let error = Store::open(&gone.join("index")).unwrap_err().to_string();
    assert!(error.contains("cannot create"), "{error}");
}

#[test]
fn files_are_what_they_always_were() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path()).unwrap();
    let mut index = loaded.index;
    let mut row = file(5);
    row.recipe = Some(store.add_recipe(&recipe(2, 9)).unwrap());
    let change = put(&mut index, "a", row);
    store.append(&[change]).unwrap();
    let marks = Marks {
        seq: 3,
        root_identity: Some((4, 5)),
        ..Marks::default()
    };
    let removals = Removals::from([(2, Box::from(&b"gone"[..]))]);
    store.checkpoint(&mut index, &marks, &removals).unwrap();
    let id = index.find(b"a").unwrap();
    let (parent, name) = (Index::ROOT, Box::from(&b"b"[..]));
    store
        .append(&[
            Change::Set { id, row },
            Change::Rename { id, parent, name },
            Change::Exchange { a: id, b: id },
            Change::Remove { id, seq: 4 },
            Change::Marks(marks),
        ])
        .unwrap();
    for (name, expected) in [
        ("snapshot", "e4f29505d47be56c"),
        ("log", "4f1c411b34ea1dff"),
        ("recipes.0", "45982be6beb5b308"),
    ] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        let hex = blake3::hash(&bytes).to_hex();
        assert_eq!(&hex[..16], expected, "{name}");
    }
}
