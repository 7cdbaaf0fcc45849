//! A map from numbers that are given out in rising order, kept in pages.
//!
//! Invariant: a page exists while something in it does. Neighbours share a page, so a dense run of
//! numbers costs little more than its values; a lone survivor costs one page. What the numbers mean
//! is left to the users.

use std::collections::BTreeMap;

/// Slots of a page: so few that the allocator takes a page for something small.
const PAGE: u64 = 16;

pub(crate) struct Paged<V> {
    pages: BTreeMap<u64, Page<V>>,
    len: usize,
}

struct Page<V> {
    used: u32,
    slots: Box<[Option<V>]>,
}

impl<V> Default for Paged<V> {
    fn default() -> Paged<V> {
        Paged {
            pages: BTreeMap::new(),
            len: 0,
        }
    }
}

impl<V> Paged<V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, number: u64) -> Option<&V> {
        let page = self.pages.get(&(number / PAGE))?;
        page.slots[(number % PAGE) as usize].as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        let page = self.pages.get_mut(&(number / PAGE))?;
        page.slots[(number % PAGE) as usize].as_mut()
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    /// Puts a value under a number; returns the one that was there.
    pub(crate) fn insert(&mut self, number: u64, value: V) -> Option<V> {
        let page = self.pages.entry(number / PAGE).or_insert_with(|| Page {
            used: 0,
            slots: (0..PAGE).map(|_| None).collect(),
        });
        let old = page.slots[(number % PAGE) as usize].replace(value);
        if old.is_none() {
            page.used += 1;
            self.len += 1;
        }
        old
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<V> {
        let page = self.pages.get_mut(&(number / PAGE))?;
        let value = page.slots[(number % PAGE) as usize].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages.remove(&(number / PAGE));
        }
        Some(value)
    }

    /// Every number with its value, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.range(0)
    }

    /// Those from `first` on, ascending.
    pub(crate) fn range(&self, first: u64) -> impl Iterator<Item = (u64, &V)> {
        let pages = self.pages.range(first / PAGE..);
        let slots = pages.flat_map(|(number, page)| {
            let base = number * PAGE;
            let numbered = page.slots.iter().enumerate();
            numbered.filter_map(move |(at, slot)| Some((base + at as u64, slot.as_ref()?)))
        });
        slots.skip_while(move |(number, _)| *number < first)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.pages
            .values_mut()
            .flat_map(|page| page.slots.iter_mut().flatten())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_like_a_map(steps in prop::collection::vec((0..400_u64, any::<bool>()), 0..300), first in 0..400_u64) {
            let (mut paged, mut map) = (Paged::default(), BTreeMap::new());
            for (step, (number, insert)) in steps.into_iter().enumerate() {
                if insert {
                    prop_assert_eq!(paged.insert(number, step), map.insert(number, step));
                } else {
                    prop_assert_eq!(paged.remove(number), map.remove(&number));
                }
                prop_assert_eq!(paged.len(), map.len());
                prop_assert_eq!(paged.get(number), map.get(&number));
            }
            let found: Vec<_> = paged.range(first).map(|(number, value)| (number, *value)).collect();
            let expected: Vec<_> = map.range(first..).map(|(number, value)| (*number, *value)).collect();
            prop_assert_eq!(found, expected);
            let pages = map.keys().map(|number| number / PAGE).collect::<std::collections::BTreeSet<_>>();
            prop_assert_eq!(paged.pages.len(), pages.len(), "empty pages go");
        }
    }
}
