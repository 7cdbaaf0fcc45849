//! Content in chunks whose borders follow from the content, so that an insertion moves none behind it, and the
//! ids that content has on both hosts.
//!
//! Invariant: where chunks end and what content is called depends on nothing but its bytes and
//! [`CHUNKING_VERSION`]; a change of either is a new version. Chunks are told apart by a strong hash alone, and
//! the work for a byte is bounded whatever the data. Left to others: reading files, holes, and what is sent.

mod file;
mod gear;
mod parts;
mod recipe;

pub use file::{Cutter, content_of_file, recut};
#[cfg(test)]
pub(crate) use gear::tests::noise;
pub use gear::{Chunker, Class};
pub use parts::{Part, PartId, parts};
pub use recipe::{BadRecipe, Chunk, ChunkId, Recipe};

use crate::meta::ContentId;

/// The number of the rules by which content is cut and named. Hosts that differ in it cannot compare recipes, and
/// an index of another number is worth nothing.
pub const CHUNKING_VERSION: u8 = 1;

/// Content of fewer bytes is one whole, of so many or more is in chunks.
pub const WHOLE_BYTES_MAX: u64 = 64 << 10;

/// Bytes of the largest chunk a recipe may name. The chunker makes none above 256 KiB; a hole may be one chunk.
pub const MAX_CHUNK_BYTES: u32 = 1 << 30;

const _: () = {
    assert!(Class::Coarse.max_bytes() as u64 <= MAX_CHUNK_BYTES as u64);
    assert!(Class::Fine.max_bytes() as u64 <= WHOLE_BYTES_MAX);
};

/// The id of content that is in memory, and its recipe if it is in chunks, which its length decides.
#[must_use]
pub fn content_of(bytes: &[u8]) -> (ContentId, Option<Recipe>) {
    let size = bytes.len() as u64;
    if size < WHOLE_BYTES_MAX {
        return (ContentId(*blake3::hash(bytes).as_bytes()), None);
    }
    let mut chunker = Chunker::new(Class::of(size));
    let mut recipe = Recipe::default();
    let mut rest = bytes;
    while let Some(end) = chunker.cut(rest, true) {
        let (chunk, behind) = rest.split_at(end);
        recipe.chunks.push(Chunk {
            bytes: end as u32,
            id: ChunkId::of(chunk),
        });
        rest = behind;
    }
    (recipe.content_id(), Some(recipe))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::gear::tests::noise;

    #[test]
    fn the_length_decides_what_is_whole() {
        let bytes = noise(1, WHOLE_BYTES_MAX as usize);
        let (id, recipe) = content_of(&bytes[1..]);
        assert_eq!(recipe, None);
        assert_eq!(id.0, *blake3::hash(&bytes[1..]).as_bytes());
        let (id, recipe) = content_of(&bytes);
        let recipe = recipe.unwrap();
        assert_eq!(id, recipe.content_id());
        assert_eq!(recipe.bytes(), WHOLE_BYTES_MAX);
        assert!(recipe.chunks.len() > 1);
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let bytes = noise(2, 4 << 20);
        let mut other = bytes.clone();
        other.insert(1_000_000, b'x');
        let chunks = |bytes: &[u8]| content_of(bytes).1.unwrap().chunks;
        let before: std::collections::HashSet<_> = chunks(&bytes).into_iter().collect();
        let changed = chunks(&other)
            .iter()
            .filter(|chunk| !before.contains(chunk))
            .count();
        assert!((1..=3).contains(&changed), "{changed}");
    }

    #[test]
    fn ids_are_what_they_always_were() {
        let bytes = noise(3, 200_000);
        let (id, recipe) = content_of(&bytes);
        assert_eq!(format!("{id:?}"), "dd5d2ed29b6e772b…");
        assert_eq!(recipe.unwrap().chunks.len(), 14);
    }
}
