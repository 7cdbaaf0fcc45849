//! Changes that were read, applied to an index.
//!
//! Invariant: entries get the ids they had in memory, because every change names them. A change that does not
//! fit is refused, whatever bytes it came from, so nothing beneath has to fear it. Left to others: reading.

use super::arena::SLOTS_MAX;
use super::marks::{Marks, Removals};
use super::{Change, Index, NodeId, Row};
use crate::meta::Kind;
use crate::path::check_name;

/// So many ids may lie unused between the highest in use and a new one: those of entries that came and went
/// between two appends.
const GAP_MAX: usize = 1 << 16;

/// An index while it is loaded.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) index: Index,
    pub(super) marks: Marks,
    pub(super) removals: Removals,
    /// The end of the recipe that lies furthest back, of all that were ever referred to.
    pub(super) recipe_bytes: u64,
}

impl State {
    /// Applies a change; `None` when it does not fit.
    pub(super) fn apply(&mut self, change: Change) -> Option<()> {
        match change {
            Change::Put {
                id,
                parent,
                name,
                row,
            } => self.put(id, parent, &name, row),
            Change::Set { id, row } => {
                let is_root = id == Index::ROOT && row.meta.kind != Kind::Directory;
                (self.index.contains(id) && !is_root).then_some(())?;
                self.note_recipe(&row);
                self.index.set_row(id, row);
                Some(())
            }
            Change::Remove { id, seq } => {
                self.index.contains(id).then_some(())?;
                if seq != 0 {
                    let path = self.index.path(id).into_boxed_slice();
                    self.marks.note_removal(&mut self.removals, seq, path);
                }
                self.index.remove(id);
                Some(())
            }
            Change::Rename { id, parent, name } => {
                check_name(&name).ok()?;
                (self.index.contains(id) && self.index.contains(parent)).then_some(())?;
                self.index.rename(id, parent, &name).ok()
            }
            Change::Exchange { a, b } => {
                (self.index.contains(a) && self.index.contains(b)).then_some(())?;
                self.index.exchange(a, b).ok()
            }
            Change::Renew { id, seq } => {
                self.index.contains(id).then_some(())?;
                self.index.renew_beneath(id, seq);
                Some(())
            }
            Change::Marks(marks) => {
                self.marks = marks;
                let from = self.marks.removals_from;
                while self.removals.front().is_some_and(|(seq, _)| *seq <= from) {
                    self.removals.pop_front();
                }
                Some(())
            }
        }
    }

    fn put(&mut self, id: NodeId, parent: NodeId, name: &[u8], row: Row) -> Option<()> {
        check_name(name).ok()?;
        let index = &mut self.index;
        let is_directory = index.contains(parent) && index.row(parent).meta.kind == Kind::Directory;
        is_directory.then_some(())?;
        match index.child(parent, name) {
            Some(known) if known == id => index.set_row(id, row),
            Some(_) => return None,
            None if index.contains(id) => return None,
            None => {
                let slot = id.0 as usize;
                let slots = index.arena().slots();
                (slot < SLOTS_MAX && slot < slots + GAP_MAX).then_some(())?;
                index.insert_at(id, parent, name, row);
            }
        }
        self.note_recipe(&row);
        Some(())
    }

    pub(super) fn note_recipe(&mut self, row: &Row) {
        if let Some(recipe) = row.recipe {
            self.recipe_bytes = self.recipe_bytes.max(recipe.end());
        }
    }
}
