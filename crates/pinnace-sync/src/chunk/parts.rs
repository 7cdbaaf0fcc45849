//! Chunks in parts, by which two that differ in little are told what they have in common.
//!
//! ```text
//! parts of a chunk     as any data is cut, by Class::Part, from the start of the chunk to its end
//! id of a part         the first 8 bytes of the BLAKE3 of its bytes
//! ```
//! Invariant: ids of 8 bytes are guesses. Whoever puts a chunk together from parts knows only by the id of the whole that
//! it is the right one. Left to others: where parts are looked for.

use super::{Chunker, Class};

/// What is most likely in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartId(pub [u8; 8]);

impl PartId {
    fn of(bytes: &[u8]) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
        Self(id)
    }
}

/// A stretch of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// How long it is.
    pub bytes: u32,
    /// What is most likely in it.
    pub id: PartId,
}

/// The parts of a chunk with these bytes, in order.
pub fn parts(chunk: &[u8]) -> impl Iterator<Item = Part> {
    let (mut chunker, mut rest) = (Chunker::new(Class::Part), chunk);
    std::iter::from_fn(move || {
        let (part, behind) = rest.split_at(chunker.cut(rest, true)?);
        rest = behind;
        Some(Part {
            bytes: part.len() as u32,
            id: PartId::of(part),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::gear::tests::noise;
    use std::collections::HashSet;

    #[test]
    fn chunks_that_differ_in_little_have_most_parts_in_common() {
        let bytes = noise(4, 60_000);
        let mut other = bytes.clone();
        other.insert(30_000, b'x');
        let all: HashSet<Part> = parts(&bytes).collect();
        let new = parts(&other).filter(|part| !all.contains(part)).count();
        assert!((1..=3).contains(&new), "{new} of {}", all.len());
        let sum: u32 = parts(&other).map(|part| part.bytes).sum();
        assert_eq!(sum, 60_001);
    }

    #[test]
    fn parts_are_what_they_always_were() {
        let bytes = noise(5, 4_000);
        let first = parts(&bytes).next().unwrap();
        let id = PartId([189, 96, 234, 145, 119, 68, 245, 140]);
        assert_eq!((first.bytes, first.id), (677, id));
        assert_eq!(parts(&[]).count(), 0);
    }
}
