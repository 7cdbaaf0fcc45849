//! The watched directories as a tree: each knows its parent and its own name, never its path.
//!
//! Invariant: following parents from any directory ends at the root or at one that is watched no more; there is
//! no circle. So a renamed directory takes everything beneath it along in one step. A directory is known by
//! its watch, which the kernel keeps with the inode: two that come after one another under one name are two.
//!
//! A directory can be *displaced*: another has come to its name before it was heard what became of it itself. It
//! keeps its last place until then, but is no longer found by its path.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

/// A name in a watched directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) parent: i32,
    pub(super) name: Box<[u8]>,
}

impl Place {
    pub(super) fn new(parent: i32, name: &[u8]) -> Self {
        Self {
            parent,
            name: name.into(),
        }
    }
}

/// A directory would lie beneath itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Circle;

#[derive(Debug)]
struct Slot {
    place: Place,
    inode: u64,
    /// Watches of the directories in this one, found by their names, which stand in their slots.
    children: HashTable<i32>,
}

/// All watched directories by their watch descriptors.
#[derive(Debug)]
pub(super) struct Tree {
    root: i32,
    slots: HashMap<i32, Slot>,
    /// Those of which it is still to be heard what became of them, the first displaced first. As a rule none.
    displaced: Vec<i32>,
    hasher: RandomState,
}

impl Tree {
    pub(super) fn new(root: i32, inode: u64) -> Self {
        let slot = Slot {
            place: Place::new(root, b""),
            inode,
            children: HashTable::new(),
        };
        Self {
            root,
            slots: HashMap::from_iter([(root, slot)]),
            displaced: Vec::new(),
            hasher: RandomState::default(),
        }
    }

    pub(super) fn root(&self) -> i32 {
        self.root
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn contains(&self, watch: i32) -> bool {
        self.slots.contains_key(&watch)
    }

    /// The inode of a watched directory.
    pub(super) fn inode(&self, watch: i32) -> Option<u64> {
        Some(self.slots.get(&watch)?.inode)
    }

    /// Where a watched directory lies; `None` for the root and what is not watched.
    pub(super) fn place(&self, watch: i32) -> Option<&Place> {
        let slot = self.slots.get(&watch)?;
        (watch != self.root).then_some(&slot.place)
    }

    /// The watched directory of this name in that one.
    pub(super) fn child(&self, parent: i32, name: &[u8]) -> Option<i32> {
        let children = &self.slots.get(&parent)?.children;
        children
            .find(self.hasher.hash_one(name), |child| {
                self.name_of(*child) == name
            })
            .copied()
    }

    /// The directory that what is told next of this place is about: the first that was displaced from it, or the one
    /// that is there.
    pub(super) fn first_at(&self, place: &Place) -> Option<i32> {
        let mut displaced = self.displaced.iter().copied();
        displaced
            .find(|watch| self.place(*watch) == Some(place))
            .or_else(|| self.child(place.parent, &place.name))
    }

    /// The path of a watched directory; `None` when one above it is watched no more.
    pub(super) fn path(&self, watch: i32) -> Option<Vec<u8>> {
        let mut above = Vec::new();
        let mut bytes = 0;
        let mut at = watch;
        while at != self.root {
            let place = &self.slots.get(&at)?.place;
            bytes += place.name.len() + 1;
            above.push(&place.name[..]);
            at = place.parent;
        }
        let mut path = Vec::with_capacity(bytes);
        for name in above.iter().rev() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        Some(path)
    }

    /// The path of a name in a watched directory.
    pub(super) fn path_of(&self, parent: i32, name: &[u8]) -> Option<Vec<u8>> {
        Some(crate::path::join(&self.path(parent)?, name))
    }

    /// Puts a directory, new or known, to this place. Whatever is found there is displaced.
    pub(super) fn add(&mut self, watch: i32, inode: u64, place: Place) -> Result<(), Circle> {
        if let Some(slot) = self.slots.get_mut(&watch) {
            slot.inode = inode;
            return self.put(watch, place);
        }
        if self.is_within(place.parent, watch) {
            return Err(Circle);
        }
        let children = HashTable::new();
        let slot = Slot {
            place: place.clone(),
            inode,
            children,
        };
        self.slots.insert(watch, slot);
        self.put(watch, place)
    }

    /// Puts a known directory to this place. Whatever is found there is displaced.
    pub(super) fn put(&mut self, watch: i32, place: Place) -> Result<(), Circle> {
        if self.is_within(place.parent, watch) {
            return Err(Circle);
        }
        self.detach(watch);
        self.displace(&place);
        let parent = place.parent;
        let hash = self.hasher.hash_one(&place.name[..]);
        if let Some(slot) = self.slots.get_mut(&watch) {
            slot.place = place;
        }
        self.with_children(parent, |tree, children| {
            children.insert_unique(hash, watch, |child| {
                tree.hasher.hash_one(tree.name_of(*child))
            });
        });
        Ok(())
    }

    /// Something else has come to this place.
    pub(super) fn displace(&mut self, place: &Place) {
        if let Some(child) = self.child(place.parent, &place.name) {
            self.detach(child);
            self.displaced.push(child);
        }
    }

    /// Forgets a directory and all beneath it; their watches.
    pub(super) fn remove(&mut self, watch: i32) -> Vec<i32> {
        self.detach(watch);
        let mut removed = Vec::new();
        let mut rest = vec![watch];
        while let Some(watch) = rest.pop() {
            if let Some(slot) = self.slots.remove(&watch) {
                self.displaced.retain(|displaced| *displaced != watch);
                removed.push(watch);
                rest.extend(slot.children);
            }
        }
        removed
    }

    /// Takes a directory out of the table of its parent or of those that were displaced.
    fn detach(&mut self, watch: i32) {
        self.displaced.retain(|displaced| *displaced != watch);
        let Some(place) = self.place(watch) else {
            return;
        };
        let (parent, hash) = (place.parent, self.hasher.hash_one(&place.name[..]));
        self.with_children(parent, |_, children| {
            if let Ok(entry) = children.find_entry(hash, |child| *child == watch) {
                entry.remove();
            }
        });
    }

    /// Works on the children of a directory, whose names stand elsewhere in the tree.
    fn with_children(&mut self, parent: i32, work: impl FnOnce(&Self, &mut HashTable<i32>)) {
        let Some(slot) = self.slots.get_mut(&parent) else {
            return;
        };
        let mut children = std::mem::take(&mut slot.children);
        work(self, &mut children);
        if let Some(slot) = self.slots.get_mut(&parent) {
            slot.children = children;
        }
    }

    fn name_of(&self, watch: i32) -> &[u8] {
        match self.slots.get(&watch) {
            Some(slot) => &slot.place.name,
            None => b"",
        }
    }

    fn is_within(&self, watch: i32, above: i32) -> bool {
        let mut at = watch;
        loop {
            if at == above {
                return true;
            }
            match self.place(at) {
                Some(place) => at = place.parent,
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root 1, `a` 2, `a/b` 3, `a/b/c` 4.
    fn tree() -> Tree {
        let mut tree = Tree::new(1, 1);
        for (watch, parent, name) in [(2, 1, "a"), (3, 2, "b"), (4, 3, "c")] {
            tree.add(watch, 10, Place::new(parent, name.as_bytes()))
                .unwrap();
        }
        tree
    }

    fn path(tree: &Tree, watch: i32) -> Option<String> {
        tree.path(watch)
            .map(|path| String::from_utf8(path).unwrap())
    }

    #[test]
    fn what_lies_beneath_goes_along() {
        let mut tree = tree();
        assert_eq!(path(&tree, 4).as_deref(), Some("a/b/c"));
        tree.put(3, Place::new(1, b"x")).unwrap();
        assert_eq!(path(&tree, 4).as_deref(), Some("x/c"));
        assert_eq!(tree.child(2, b"b"), None);
        assert_eq!(tree.child(1, b"x"), Some(3));
    }

    #[test]
    fn a_displaced_directory_leaves_its_successor_alone() {
        let mut tree = tree();
        tree.add(5, 10, Place::new(1, b"a")).unwrap();
        let place = Place::new(1, b"a");
        assert_eq!(tree.child(1, b"a"), Some(5));
        assert_eq!(tree.first_at(&place), Some(2));
        assert_eq!(tree.remove(2), [2, 3, 4]);
        assert_eq!(tree.first_at(&place), Some(5));
        assert_eq!(tree.child(1, b"a"), Some(5));
        assert_eq!((tree.len(), path(&tree, 5).as_deref()), (2, Some("a")));
    }

    #[test]
    fn nothing_lies_beneath_itself() {
        let mut tree = tree();
        for (watch, parent) in [(2, 4), (2, 2), (1, 4), (1, 1)] {
            assert_eq!(tree.put(watch, Place::new(parent, b"y")), Err(Circle));
        }
        assert_eq!(path(&tree, 4).as_deref(), Some("a/b/c"));
    }

    #[test]
    fn what_has_lost_its_parent_has_no_path() {
        let mut tree = tree();
        tree.add(5, 10, Place::new(2, b"b")).unwrap();
        tree.remove(2);
        assert!(!tree.contains(5));
        assert_eq!(path(&tree, 3), None);
        assert_eq!(path(&tree, 1).as_deref(), Some(""));
    }
}
