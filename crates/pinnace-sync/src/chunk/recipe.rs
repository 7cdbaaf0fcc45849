//! What a file in chunks is made of, and the id that follows from it.
//!
//! ```text
//! recipe, encoded      bytes u32 │ id 16 bytes   for each chunk, in order, little-endian, nothing around it
//! id of a chunk        the first 16 bytes of the BLAKE3 of its bytes
//! id of the content    BLAKE3 derive_key("pinnace recipe v1", the recipe, encoded)
//! ```
//!
//! Invariant: a decoded recipe has chunks of 1 to [`MAX_CHUNK_BYTES`] bytes, and their sum fits a `u64`. Left
//! to others: whether the chunks are the ones that these rules would cut, which no reader needs to know.

use super::MAX_CHUNK_BYTES;
use crate::meta::ContentId;

/// Bytes of a chunk in an encoded recipe.
const CHUNK_RECORD_BYTES: usize = 20;

/// Identifies a chunk by its bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 16]);

impl ChunkId {
    /// Of a chunk that is a hole: bytes that are zero and take no room. No bytes have it.
    pub const HOLE: Self = Self([0; 16]);

    /// The id of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let hash = blake3::hash(bytes);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        Self(id)
    }
}

impl std::fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in &self.0[..8] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…")
    }
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// How long it is.
    pub bytes: u32,
    /// What is in it.
    pub id: ChunkId,
}

/// A file as its chunks, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// The chunks.
    pub chunks: Vec<Chunk>,
}

/// Why bytes are no recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecipe {
    /// It ends within a chunk.
    #[error("a recipe has {CHUNK_RECORD_BYTES} bytes a chunk, this one {0}")]
    Length(usize),
    /// A chunk of no bytes, or too large.
    #[error("a chunk has 1 to {MAX_CHUNK_BYTES} bytes, this one {0}")]
    ChunkBytes(u32),
}

impl Recipe {
    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum()
    }

    /// Where each chunk begins, and the end of the last.
    #[must_use]
    pub fn offsets(&self) -> Vec<u64> {
        let ends = self.chunks.iter().scan(0, |end, chunk| {
            *end += u64::from(chunk.bytes);
            Some(*end)
        });
        std::iter::once(0).chain(ends).collect()
    }

    /// The id of the file's content.
    #[must_use]
    pub fn content_id(&self) -> ContentId {
        let mut hasher = blake3::Hasher::new_derive_key("pinnace recipe v1");
        // Some kilobytes at a time: the hash is at its best there, and a long recipe is not held twice.
        let mut buffer = Vec::new();
        for chunks in self.chunks.chunks(1024) {
            buffer.clear();
            encode_chunks(chunks, &mut buffer);
            hasher.update(&buffer);
        }
        ContentId(*hasher.finalize().as_bytes())
    }

    /// The recipe as bytes, 20 for each chunk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.chunks.len() * CHUNK_RECORD_BYTES);
        encode_chunks(&self.chunks, &mut bytes);
        bytes
    }

    /// The recipe in these bytes, all of which belong to it.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecipe> {
        let (records, rest) = bytes.as_chunks::<CHUNK_RECORD_BYTES>();
        if !rest.is_empty() {
            return Err(BadRecipe::Length(bytes.len()));
        }
        let decode = |record: &[u8; CHUNK_RECORD_BYTES]| {
            let [b0, b1, b2, b3, id @ ..] = *record;
            let bytes = u32::from_le_bytes([b0, b1, b2, b3]);
            if bytes == 0 || bytes > MAX_CHUNK_BYTES {
                return Err(BadRecipe::ChunkBytes(bytes));
            }
            Ok(Chunk {
                bytes,
                id: ChunkId(id),
            })
        };
        let mut chunks = Vec::with_capacity(records.len());
        for record in records {
            chunks.push(decode(record)?);
        }
        Ok(Self { chunks })
    }
}

fn encode_chunks(chunks: &[Chunk], bytes: &mut Vec<u8>) {
    for chunk in chunks {
        bytes.extend_from_slice(&chunk.bytes.to_le_bytes());
        bytes.extend_from_slice(&chunk.id.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(bytes: u32, fill: u8) -> Chunk {
        Chunk {
            bytes,
            id: ChunkId([fill; 16]),
        }
    }

    #[test]
    fn what_is_no_recipe_is_refused() {
        let good = Recipe {
            chunks: vec![chunk(1, 1), chunk(MAX_CHUNK_BYTES, 2)],
        }
        .encode();
        assert_eq!(good.len(), 40);
        assert_eq!(Recipe::decode(&good).unwrap().bytes(), (1 << 30) + 1);
        assert_eq!(Recipe::decode(&[]).unwrap(), Recipe::default());
        assert_eq!(Recipe::decode(&good[1..]), Err(BadRecipe::Length(39)));
        for bytes in [0, MAX_CHUNK_BYTES + 1, u32::MAX] {
            let chunks = vec![chunk(1, 1), chunk(bytes, 2)];
            let bad = Recipe { chunks }.encode();
            assert_eq!(Recipe::decode(&bad), Err(BadRecipe::ChunkBytes(bytes)));
        }
    }

    #[test]
    fn the_id_depends_on_every_chunk_and_its_place() {
        let id = |chunks: &[Chunk]| {
            let chunks = chunks.to_vec();
            Recipe { chunks }.content_id()
        };
        let (a, b) = (chunk(5, 1), chunk(6, 2));
        let ids = [
            id(&[]),
            id(&[a]),
            id(&[a, b]),
            id(&[b, a]),
            id(&[a, a]),
            id(&[chunk(6, 1)]),
        ];
        for (at, one) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(one));
        }
        // Hashed in parts or at once, it is the same.
        let long = Recipe {
            chunks: vec![a; 3_000],
        };
        let at_once = blake3::derive_key("pinnace recipe v1", &long.encode());
        assert_eq!(long.content_id(), ContentId(at_once));
    }

    proptest! {
        #[test]
        fn what_is_decoded_encodes_to_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(recipe) = Recipe::decode(&bytes) {
                prop_assert_eq!(recipe.encode(), bytes);
            }
        }
    }
}
