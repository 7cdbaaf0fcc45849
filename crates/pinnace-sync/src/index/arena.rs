//! The entries of an index as numbered slots: who lies in whom, what it is called, what is known of it.
//!
//! ```text
//!            first_child        next ⇄ previous
//!   parent ───────────▶ child ◀────────────────▶ child ─▶ NONE        a free slot: parent is FREE,
//!      ▲──────────────────┴── parent ──────────────┘                  next ⇄ previous of the free ones
//! ```
//!
//! Invariant: every slot is the root, hangs below the root, or is in the list of free slots, and never two of
//! these. A freed slot goes to the end of that list, so its number is given out again as late as can be. Left
//! to others: finding entries by name, inode or content.

use super::Row;
use super::names::{Names, grow_gently};

/// No slot.
pub(super) const NONE: u32 = u32::MAX;
/// The parent of a free slot.
const FREE: u32 = u32::MAX - 1;
/// The slot of the root.
pub(super) const ROOT: u32 = 0;
/// So many slots an index has at most: a bound for what a file may ask for.
pub(super) const SLOTS_MAX: usize = 1 << 27;

#[derive(Clone, Copy, Debug)]
struct Links {
    parent: u32,
    first_child: u32,
    next: u32,
    previous: u32,
    name: u32,
}

/// The slots.
#[derive(Clone, Debug)]
pub(super) struct Arena {
    links: Vec<Links>,
    rows: Vec<Row>,
    names: Names,
    used: usize,
    first_free: u32,
    last_free: u32,
}

impl Arena {
    /// Only a root, with room for more.
    pub(super) fn with_capacity(slots: usize, name_bytes: usize) -> Self {
        let mut arena = Self {
            links: Vec::with_capacity(slots),
            rows: Vec::with_capacity(slots),
            names: Names::with_capacity(name_bytes),
            used: 1,
            first_free: NONE,
            last_free: NONE,
        };
        let name = arena.names.add(b"");
        arena.links.push(Links {
            parent: NONE,
            first_child: NONE,
            next: NONE,
            previous: NONE,
            name,
        });
        arena.rows.push(Row::DIRECTORY);
        arena
    }

    /// Entries with the root.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// One more than the highest number that was ever given out.
    pub(super) fn slots(&self) -> usize {
        self.links.len()
    }

    pub(super) fn is_used(&self, slot: u32) -> bool {
        self.links
            .get(slot as usize)
            .is_some_and(|links| links.parent != FREE)
    }

    pub(super) fn row(&self, slot: u32) -> &Row {
        &self.rows[slot as usize]
    }

    pub(super) fn row_mut(&mut self, slot: u32) -> &mut Row {
        &mut self.rows[slot as usize]
    }

    pub(super) fn name(&self, slot: u32) -> &[u8] {
        self.names.get(self.links[slot as usize].name)
    }

    /// The slot above; [`NONE`] of the root.
    pub(super) fn parent(&self, slot: u32) -> u32 {
        self.links[slot as usize].parent
    }

    pub(super) fn first_child(&self, slot: u32) -> u32 {
        self.links[slot as usize].first_child
    }

    pub(super) fn next(&self, slot: u32) -> u32 {
        self.links[slot as usize].next
    }

    /// Whether `slot` is `above` or lies beneath it.
    pub(super) fn is_within(&self, slot: u32, above: u32) -> bool {
        let mut at = slot;
        while at != above && at != NONE {
            at = self.parent(at);
        }
        at == above
    }

    /// The slot behind `slot` in an order in which parents come before what they hold, within `top`.
    pub(super) fn behind(&self, slot: u32, top: u32) -> u32 {
        let child = self.first_child(slot);
        if child != NONE {
            return child;
        }
        let mut at = slot;
        while at != top {
            let next = self.next(at);
            if next != NONE {
                return next;
            }
            at = self.parent(at);
        }
        NONE
    }

    /// The number the next new entry gets.
    pub(super) fn next_slot(&self) -> u32 {
        if self.first_free == NONE {
            self.links.len() as u32
        } else {
            self.first_free
        }
    }

    /// Puts a new entry into a slot that is free or lies beyond the end; those between become free ones.
    pub(super) fn fill(&mut self, slot: u32, parent: u32, name: &[u8], row: &Row) {
        debug_assert!(!self.is_used(slot));
        for fresh in self.lay_out(slot as usize + 1) {
            self.give_free(fresh);
        }
        self.take_free(slot);
        self.place(slot, parent, name, row);
    }

    /// Puts a new entry into a slot that is not used and in no list.
    pub(super) fn place(&mut self, slot: u32, parent: u32, name: &[u8], row: &Row) {
        let name = self.names.add(name);
        self.links[slot as usize] = Links {
            parent,
            first_child: NONE,
            next: NONE,
            previous: NONE,
            name,
        };
        self.rows[slot as usize] = *row;
        self.used += 1;
        self.link(slot, parent);
    }

    /// Makes slots up to this count, which are in no list yet, and says which.
    pub(super) fn lay_out(&mut self, slots: usize) -> std::ops::Range<u32> {
        let before = self.links.len();
        let more = slots.saturating_sub(before);
        if more == 0 {
            return 0..0;
        }
        let free = Links {
            parent: FREE,
            first_child: NONE,
            next: NONE,
            previous: NONE,
            name: 0,
        };
        grow_gently(&mut self.links, more);
        grow_gently(&mut self.rows, more);
        self.links.resize(before + more, free);
        self.rows.resize(before + more, Row::DIRECTORY);
        before as u32..(before + more) as u32
    }

    /// Puts every slot that is not used into the list, which is empty.
    pub(super) fn gather_free(&mut self) {
        if self.used < self.links.len() {
            for slot in 0..self.links.len() as u32 {
                if !self.is_used(slot) {
                    self.give_free(slot);
                }
            }
        }
    }

    /// Frees a slot that has no children.
    pub(super) fn empty(&mut self, slot: u32) {
        debug_assert!(slot != ROOT && self.first_child(slot) == NONE);
        self.unlink(slot);
        self.names.drop_name(self.links[slot as usize].name);
        self.links[slot as usize].parent = FREE;
        self.used -= 1;
        self.give_free(slot);
    }

    /// Hangs an entry elsewhere under another name.
    pub(super) fn relocate(&mut self, slot: u32, parent: u32, name: &[u8]) {
        if self.name(slot) != name {
            self.names.drop_name(self.links[slot as usize].name);
            self.links[slot as usize].name = self.names.add(name);
        }
        self.rehang(slot, parent);
    }

    fn rehang(&mut self, slot: u32, parent: u32) {
        if self.parent(slot) != parent {
            self.unlink(slot);
            self.links[slot as usize].parent = parent;
            self.link(slot, parent);
        }
    }

    /// Two entries take each other's place and name. Neither lies beneath the other.
    pub(super) fn swap(&mut self, a: u32, b: u32) {
        let (above_a, above_b) = (self.parent(a), self.parent(b));
        let (name_a, name_b) = (self.links[a as usize].name, self.links[b as usize].name);
        self.links[a as usize].name = name_b;
        self.links[b as usize].name = name_a;
        self.rehang(a, above_b);
        self.rehang(b, above_a);
    }

    fn link(&mut self, slot: u32, parent: u32) {
        let first = std::mem::replace(&mut self.links[parent as usize].first_child, slot);
        if first != NONE {
            self.links[first as usize].previous = slot;
        }
        self.links[slot as usize].next = first;
        self.links[slot as usize].previous = NONE;
    }

    fn unlink(&mut self, slot: u32) {
        let Links {
            parent,
            next,
            previous,
            ..
        } = self.links[slot as usize];
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        if previous == NONE {
            self.links[parent as usize].first_child = next;
        } else {
            self.links[previous as usize].next = next;
        }
    }

    fn give_free(&mut self, slot: u32) {
        self.links[slot as usize].next = NONE;
        self.links[slot as usize].previous = self.last_free;
        if self.last_free == NONE {
            self.first_free = slot;
        } else {
            self.links[self.last_free as usize].next = slot;
        }
        self.last_free = slot;
    }

    fn take_free(&mut self, slot: u32) {
        let Links { next, previous, .. } = self.links[slot as usize];
        if previous == NONE {
            self.first_free = next;
        } else {
            self.links[previous as usize].next = next;
        }
        if next == NONE {
            self.last_free = previous;
        } else {
            self.links[next as usize].previous = previous;
        }
    }

    /// Gives back the room of names that are gone, once that is worth it.
    pub(super) fn tidy_names(&mut self) {
        if !self.names.wants_rebuilding() {
            return;
        }
        let mut names = Names::with_capacity(self.names.live_bytes());
        for links in self.links.iter_mut().filter(|links| links.parent != FREE) {
            links.name = names.add(self.names.get(links.name));
        }
        self.names = names;
    }

    pub(super) fn name_bytes(&self) -> usize {
        self.names.bytes()
    }

    /// Bytes of the names that are in use, with a byte for each.
    pub(super) fn live_name_bytes(&self) -> usize {
        self.names.live_bytes()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.links.capacity() * size_of::<Links>()
            + self.rows.capacity() * size_of::<Row>()
            + self.names.memory_bytes()
    }

    /// The slots that are used, by number.
    pub(super) fn used_slots(&self) -> impl Iterator<Item = u32> + '_ {
        let used = |(_, links): &(usize, &Links)| links.parent != FREE;
        let slots = self.links.iter().enumerate().filter(used);
        slots.map(|(slot, _)| slot as u32)
    }
}
