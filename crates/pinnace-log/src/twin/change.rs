//! Changes of the twin disk that are not durable yet, and what a crash makes of them.
//!
//! Invariant: a change that was not synced survives a crash whole, in part or not at all, as
//! [`Survival`] says; what chance decides follows from a seed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Survival;

#[derive(Clone)]
pub(super) enum NameChange {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Default, Clone)]
pub(super) struct FileState {
    pub(super) current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) changes: Vec<Change>,
    /// Changes that a failed sync covered.
    pub(super) doomed: Vec<Change>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

impl Survival {
    pub(super) fn keeps(self, dice: &mut Dice) -> bool {
        match self {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Random(_) => dice.below(2) == 0,
        }
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Add(path, id) => {
                names.insert(path.clone(), *id);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
        }
    }
}

impl FileState {
    /// A file whose bytes are all on the medium.
    pub(super) fn durable(bytes: Vec<u8>) -> FileState {
        FileState {
            current: bytes.clone(),
            durable: bytes,
            ..FileState::default()
        }
    }

    pub(super) fn after_crash(&self, survival: Survival, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in self.doomed.iter().chain(&self.changes) {
            match (survival, change) {
                (Survival::Random(_), Change::Write(offset, data)) if dice.below(2) == 0 => {
                    // Some of its bytes, from somewhere to somewhere.
                    let from = dice.below(data.len() as u64 + 1) as usize;
                    let to = from + dice.below((data.len() - from) as u64 + 1) as usize;
                    let from = if dice.below(2) == 0 { 0 } else { from };
                    Change::Write(offset + from, data[from..to].to_vec()).apply(&mut bytes);
                }
                _ if survival.keeps(dice) => change.apply(&mut bytes),
                _ => {}
            }
        }
        bytes
    }
}

impl Change {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(_, data) if data.is_empty() => {}
            Change::Write(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Change::Resize(len) => bytes.resize(*len, 0),
        }
    }
}

/// A small generator of numbers that look random (splitmix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number below `n`, which is not zero.
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}
