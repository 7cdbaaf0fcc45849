//! How entries are hashed for the tables that find them.
//!
//! Invariant: a hash depends on two numbers drawn for each index, so that nobody who chooses names or contents can
//! choose those that collide. It is a few multiplications: a million entries are hashed three times over when
//! an index is loaded. Left to others: everything that has to be the same elsewhere, for which there is BLAKE3.

use std::hash::{BuildHasher, RandomState};

/// Any odd number with its bits well mixed; this one is the fraction of the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The secret of an index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    start: u64,
    step: u64,
}

impl Keys {
    /// Drawn at random.
    pub(super) fn new() -> Self {
        let state = RandomState::new();
        Self {
            start: state.hash_one(1),
            step: state.hash_one(2) | 1,
        }
    }

    /// Of a number.
    pub(super) fn number(&self, number: u64) -> u64 {
        fold(fold(number ^ self.start, self.step), GOLDEN)
    }

    /// Of a name in a directory.
    pub(super) fn name(&self, parent: u32, name: &[u8]) -> u64 {
        // The length goes in first, so that the zeros that fill the last word are told from bytes of the name.
        let first = u64::from(parent) << 32 | name.len() as u64;
        self.words(first, name)
    }

    /// Of a content.
    pub(super) fn content(&self, id: &[u8; 32]) -> u64 {
        self.words(0, id)
    }

    fn words(&self, first: u64, bytes: &[u8]) -> u64 {
        let mut hash = fold(first ^ self.start, self.step);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            hash = fold(hash ^ u64::from_le_bytes(*word), self.step);
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            hash = fold(hash ^ u64::from_le_bytes(word), self.step);
        }
        fold(hash, GOLDEN)
    }
}

/// Both halves of the product: every bit of the one number bears on every bit of the result.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}
