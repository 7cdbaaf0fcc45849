//! Random histories, in memory and on disk, against a map of paths.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::chunk::{Chunk, ChunkId, Recipe};
use crate::path::{is_within, join, split};

#[derive(Clone, Debug)]
enum Op {
    Put(usize, u8, Kind, u64),
    Set(usize, u64),
    Remove(usize),
    Rename(usize, usize, u8),
    Exchange(usize, usize),
    Renew(usize, u64),
    Recipe(usize, u8),
    Marks(u64),
    Checkpoint,
    Reload,
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        Just(Kind::Directory),
        Just(Kind::Directory),
        Just(Kind::File),
        Just(Kind::Symlink)
    ];
    prop_oneof![
        8 => (any::<usize>(), 0_u8..5, kind, 0_u64..1000).prop_map(|(a, b, c, d)| Op::Put(a, b, c, d)),
        3 => (any::<usize>(), 0_u64..1000).prop_map(|(a, b)| Op::Set(a, b)),
        2 => any::<usize>().prop_map(Op::Remove),
        3 => (any::<usize>(), any::<usize>(), 0_u8..5).prop_map(|(a, b, c)| Op::Rename(a, b, c)),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Op::Exchange(a, b)),
        1 => (any::<usize>(), any::<u64>()).prop_map(|(a, b)| Op::Renew(a, b)),
        2 => (any::<usize>(), 0_u8..9).prop_map(|(a, b)| Op::Recipe(a, b)),
        1 => any::<u64>().prop_map(Op::Marks),
        1 => Just(Op::Checkpoint),
        2 => Just(Op::Reload),
    ]
}

fn recipe(chunks: u8) -> Recipe {
    let chunk = |n: u8| Chunk {
        bytes: u32::from(n) + 1,
        id: ChunkId([n ^ chunks; 16]),
    };
    Recipe {
        chunks: (0..chunks).map(chunk).collect(),
    }
}

/// The index under test, and what should be in it. Rows of the model have no recipe; those are beside them.
struct World {
    dir: tempfile::TempDir,
    store: Store,
    index: Index,
    marks: Marks,
    removals: Removals,
    model: BTreeMap<Vec<u8>, (Row, Option<Recipe>)>,
    noted: Vec<(u64, Vec<u8>)>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, loaded) = Store::open(dir.path()).unwrap();
        Self {
            dir,
            store,
            index: loaded.index,
            marks: loaded.marks,
            removals: loaded.removals,
            model: BTreeMap::from([(vec![], (Row::DIRECTORY, None))]),
            noted: Vec::new(),
        }
    }

    fn pick(&self, number: usize) -> (Vec<u8>, NodeId) {
        let path = self.model.keys().nth(number % self.model.len()).unwrap();
        (path.clone(), self.index.find(path).unwrap())
    }

    fn take_away(&mut self, path: &[u8]) -> BTreeMap<Vec<u8>, (Row, Option<Recipe>)> {
        let gone = |other: &Vec<u8>| is_within(other, path);
        let taken = self.model.iter().filter(|(path, _)| gone(path));
        let taken = taken.map(|(k, v)| (k.clone(), v.clone())).collect();
        self.model.retain(|path, _| !gone(path));
        taken
    }

    fn put_back(
        &mut self,
        from: &[u8],
        to: &[u8],
        taken: BTreeMap<Vec<u8>, (Row, Option<Recipe>)>,
    ) {
        for (path, entry) in taken {
            let path = [to, &path[from.len()..]].concat();
            self.model.insert(path, entry);
        }
    }

    fn change_row(&mut self, path: &[u8], row: Row, recipe: Option<Recipe>) {
        if row.meta.kind != Kind::Directory {
            self.take_away(path);
        }
        let row = Row {
            recipe: None,
            ..row
        };
        self.model.insert(path.to_vec(), (row, recipe));
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Put(dir, name, kind, seed) => {
                let (dir_path, dir) = self.pick(dir);
                if self.index.row(dir).meta.kind != Kind::Directory {
                    return;
                }
                let (name, row) = ([b'a' + name], row(kind, seed));
                let id = self.index.insert(dir, &name, row);
                self.change_row(&join(&dir_path, &name), row, None);
                let name = Box::new(name);
                self.append(Change::Put {
                    id,
                    parent: dir,
                    name,
                    row,
                });
            }
            Op::Set(at, seed) => {
                let (path, id) = self.pick(at);
                let row = row(self.index.row(id).meta.kind, seed);
                self.index.set_row(id, row);
                self.change_row(&path, row, None);
                self.append(Change::Set { id, row });
            }
            Op::Remove(at) => self.remove(at),
            Op::Rename(at, dir, name) => self.rename(at, dir, [b'a' + name]),
            Op::Exchange(a, b) => self.exchange(a, b),
            Op::Renew(at, seq) => {
                let (path, id) = self.pick(at);
                self.index.renew_beneath(id, seq);
                for (other, (row, _)) in &mut self.model {
                    if is_within(other, &path) && *other != path {
                        row.seq = seq;
                    }
                }
                self.append(Change::Renew { id, seq });
            }
            Op::Recipe(at, chunks) => {
                let (path, id) = self.pick(at);
                let recipe = recipe(chunks);
                let mut row = *self.index.row(id);
                row.recipe = Some(self.store.add_recipe(&recipe).unwrap());
                self.index.set_row(id, row);
                self.change_row(&path, row, Some(recipe));
                self.append(Change::Set { id, row });
            }
            Op::Marks(seed) => {
                self.marks.excludes = seed;
                self.marks.root_identity = seed.is_multiple_of(2).then_some((seed, seed + 1));
                self.marks.lineage = [seed as u8; 16];
                self.store.set_marks(&self.marks).unwrap();
            }
            Op::Checkpoint => {
                let Self {
                    store,
                    index,
                    marks,
                    removals,
                    ..
                } = self;
                store.checkpoint(index, marks, removals).unwrap();
            }
            Op::Reload => self.reload(),
        }
    }

    fn rename(&mut self, at: usize, dir: usize, name: [u8; 1]) {
        let ((from, id), (to_dir, dir)) = (self.pick(at), self.pick(dir));
        let to = join(&to_dir, &name);
        let is_right = !from.is_empty()
            && self.index.row(dir).meta.kind == Kind::Directory
            && !is_within(&to_dir, &from)
            && (to == from || !is_within(&from, &to));
        assert_eq!(
            self.index.rename(id, dir, &name).is_ok(),
            is_right || to == from
        );
        if is_right {
            let taken = self.take_away(&from);
            self.take_away(&to);
            self.put_back(&from, &to, taken);
            let name = Box::new(name);
            self.append(Change::Rename {
                id,
                parent: dir,
                name,
            });
        }
    }

    fn exchange(&mut self, a: usize, b: usize) {
        let ((one, a), (two, b)) = (self.pick(a), self.pick(b));
        let is_right = !one.is_empty()
            && !two.is_empty()
            && (one == two || !is_within(&one, &two) && !is_within(&two, &one));
        assert_eq!(self.index.exchange(a, b).is_ok(), is_right);
        if is_right && one != two {
            let (first, second) = (self.take_away(&one), self.take_away(&two));
            self.put_back(&one, &two, first);
            self.put_back(&two, &one, second);
            self.append(Change::Exchange { a, b });
        }
    }

    fn remove(&mut self, at: usize) {
        let (path, id) = self.pick(at);
        let gone = self.take_away(&path).len();
        assert_eq!(self.index.count_beneath(id), gone - 1);
        if path.is_empty() {
            // The root stays when everything goes.
            let row = Row {
                recipe: None,
                ..*self.index.row(id)
            };
            let recipe = self
                .index
                .row(id)
                .recipe
                .map(|at| self.store.recipe(at).unwrap());
            self.model.insert(vec![], (row, recipe));
            assert_eq!(self.index.remove(id), gone - 1);
        } else {
            assert_eq!(self.index.remove(id), gone);
        }
        let seq = self.noted.len() as u64 + 1;
        self.noted.push((seq, path.clone()));
        self.marks
            .note_removal(&mut self.removals, seq, path.into());
        self.append(Change::Remove { id, seq });
    }

    fn append(&mut self, change: Change) {
        self.store.append(&[change]).unwrap();
    }

    fn reload(&mut self) {
        let (store, loaded) = Store::open(self.dir.path()).unwrap();
        assert_eq!(loaded.was_torn, None);
        let ids = |index: &Index| {
            let mut ids: Vec<_> = index.walk().map(|id| (id, index.path(id))).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(&loaded.index), ids(&self.index));
        assert_eq!(loaded.marks, self.marks);
        assert_eq!(loaded.removals, self.removals);
        (self.store, self.index) = (store, loaded.index);
    }

    fn check(&self) {
        let rows = listing(&self.index);
        assert!(rows.keys().eq(self.model.keys()));
        let mut fresh = Index::new();
        for (path, (row, recipe)) in &self.model {
            let found = rows[path];
            assert_eq!(
                Row {
                    recipe: None,
                    ..found
                },
                *row
            );
            assert_eq!(
                found.recipe.map(|at| self.store.recipe(at).unwrap()),
                *recipe
            );
            let (dir, name) = split(path);
            if path.is_empty() {
                fresh.set_row(Index::ROOT, *row);
            } else {
                fresh.insert(fresh.find(dir).unwrap(), name, *row);
            }
        }
        assert_eq!(self.index.digest(), fresh.digest());
        for inode in 0..8 {
            let mut found: Vec<_> = self.index.with_inode(inode).collect();
            found.sort();
            let has = |id: &NodeId| inode != 0 && self.index.row(*id).print.inode == inode;
            let mut expected: Vec<_> = self.index.walk().filter(has).collect();
            expected.sort();
            assert_eq!(found, expected);
        }
        for content in (0..4).map(|n| ContentId([n; 32])) {
            let has = |row: &Row| {
                let is_large = row.meta.kind == Kind::File && row.meta.size >= 64 << 10;
                is_large && row.content == content
            };
            let found = self.index.with_content(&content);
            assert!(found.is_none_or(|id| has(self.index.row(id))));
            let copies = rows.values().filter(|row| has(row)).count();
            assert!(found.is_some() == (copies > 0) || copies > 16);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_history_is_what_the_model_says(ops in proptest::collection::vec(op(), 1..80)) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
        }
        world.check();
        world.reload();
        world.check();
    }
}
