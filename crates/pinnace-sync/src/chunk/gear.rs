//! Where chunks end: a Gear hash over the last 64 bytes, compared with a threshold.
//!
//! ```text
//! hash of a position   h = 2h + GEAR[byte], modulo 2^64: a byte is forgotten after 64 more
//! a chunk ends         at the first length in min..=max at which h <= threshold, or at max
//! threshold            2^64 / (average - min) - 1: the high bits, on which all 64 bytes bear
//! GEAR[b]              the first 8 bytes, little-endian, of BLAKE3 derive_key("pinnace gear v1", b)
//! ```
//!
//! Invariant: the end of a chunk depends on the bytes of that chunk only, and each byte is looked at once at
//! most. Bytes before `min` are skipped but for the 64 that the first hash needs. Left to others: buffers.

use std::sync::LazyLock;

/// Bytes that bear on a hash.
const WINDOW_BYTES: usize = 64;

/// How coarse the chunks of a file are, so that a recipe stays small beside what it describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 8 to 64 KiB, 16 KiB on average: files up to 1 GiB.
    Fine,
    /// 32 to 256 KiB, 64 KiB on average: larger files.
    Coarse,
    /// 512 bytes to 4 KiB, 1 KiB on average: the parts of a chunk, which no recipe has.
    Part,
}

impl Class {
    /// Bytes of the largest file that has fine chunks.
    pub const FINE_FILE_BYTES_MAX: u64 = 1 << 30;

    /// The class of a file of so many bytes.
    #[must_use]
    pub const fn of(size: u64) -> Self {
        if size <= Self::FINE_FILE_BYTES_MAX {
            Self::Fine
        } else {
            Self::Coarse
        }
    }

    /// Bytes of a chunk on average, in data without repetitions.
    #[must_use]
    pub const fn average_bytes(self) -> usize {
        match self {
            Self::Fine => 16 << 10,
            Self::Coarse => 64 << 10,
            Self::Part => 1 << 10,
        }
    }

    /// Bytes of the smallest chunk that is not the last.
    #[must_use]
    pub const fn min_bytes(self) -> usize {
        self.average_bytes() / 2
    }

    /// Bytes of the largest chunk.
    #[must_use]
    pub const fn max_bytes(self) -> usize {
        self.average_bytes() * 4
    }

    /// A hash up to this ends a chunk.
    const fn threshold(self) -> u64 {
        u64::MAX / (self.average_bytes() - self.min_bytes()) as u64
    }
}

const _: () = assert!(Class::Part.min_bytes() >= WINDOW_BYTES);

static GEAR: LazyLock<[u64; 256]> = LazyLock::new(|| {
    let context = blake3::Hasher::new_derive_key("pinnace gear v1");
    std::array::from_fn(|byte| {
        let mut hasher = context.clone();
        hasher.update(&[byte as u8]);
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        u64::from_le_bytes(number)
    })
});

/// Cuts a stream. It remembers how far it looked into a chunk, so a caller may show it a chunk that is not yet
/// wholly there.
#[derive(Clone, Debug)]
pub struct Chunker {
    class: Class,
    gear: &'static [u64; 256],
    hash: u64,
    /// Bytes of the present chunk that `hash` has seen or skipped.
    seen_bytes: usize,
}

impl Chunker {
    /// A chunker at the start of a stream.
    #[must_use]
    pub fn new(class: Class) -> Self {
        Self {
            class,
            gear: &GEAR,
            hash: 0,
            seen_bytes: 0,
        }
    }

    /// The class that was given.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Where the first chunk of `bytes` ends; they begin where a chunk does. `None`: more bytes are needed, or,
    /// with `is_last`, there are none. After `None` come the same bytes again with more behind them; after an
    /// end, the bytes behind it. With [`Class::max_bytes`] bytes there is always an end.
    pub fn cut(&mut self, bytes: &[u8], is_last: bool) -> Option<usize> {
        let max = self.class.max_bytes();
        let bytes = &bytes[..bytes.len().min(max)];
        let end = self.scan(bytes).or_else(|| {
            let is_end = bytes.len() == max || (is_last && !bytes.is_empty());
            is_end.then_some(bytes.len())
        });
        if end.is_some() {
            self.hash = 0;
            self.seen_bytes = 0;
        }
        end
    }

    /// The first length from the minimum on whose hash is low enough.
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let min = self.class.min_bytes();
        if bytes.len() < min {
            return None;
        }
        let mut hash = self.hash;
        if self.seen_bytes < min {
            for byte in &bytes[min - WINDOW_BYTES..min] {
                hash = (hash << 1).wrapping_add(self.gear[usize::from(*byte)]);
            }
            self.seen_bytes = min;
            if hash <= self.class.threshold() {
                return Some(min);
            }
        }
        let fresh = bytes.get(self.seen_bytes..).unwrap_or_default();
        let end = first_low(self.gear, &mut hash, self.class.threshold(), fresh);
        let end = end.map(|at| self.seen_bytes + at);
        self.hash = hash;
        self.seen_bytes += fresh.len();
        end
    }
}

/// How many bytes to take until the hash is at most the threshold.
#[inline]
fn first_low(gear: &[u64; 256], hash: &mut u64, threshold: u64, bytes: &[u8]) -> Option<usize> {
    let mut h = *hash;
    // Eight at a time: one test for the end of the data, eight for the end of the chunk.
    let (eights, rest) = bytes.as_chunks::<8>();
    for (number, eight) in eights.iter().enumerate() {
        for (at, byte) in eight.iter().enumerate() {
            h = (h << 1).wrapping_add(gear[usize::from(*byte)]);
            if h <= threshold {
                return Some(number * 8 + at + 1);
            }
        }
    }
    for (at, byte) in rest.iter().enumerate() {
        h = (h << 1).wrapping_add(gear[usize::from(*byte)]);
        if h <= threshold {
            return Some(eights.len() * 8 + at + 1);
        }
    }
    *hash = h;
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that look random and are always the same.
    pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cuts(class: Class, bytes: &[u8]) -> Vec<usize> {
        let mut chunker = Chunker::new(class);
        let mut found = Vec::new();
        let mut start = 0;
        while let Some(len) = chunker.cut(&bytes[start..], true) {
            found.push(len);
            start += len;
        }
        assert_eq!(start, bytes.len());
        found
    }

    /// The same by definition: every length of every chunk is hashed anew.
    fn cuts_by_definition(class: Class, bytes: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let longest = rest.len().min(class.max_bytes());
            let len = (class.min_bytes()..=longest)
                .find(|len| {
                    let window = &rest[len - WINDOW_BYTES..*len];
                    let add = |h: u64, b: &u8| (h << 1).wrapping_add(GEAR[usize::from(*b)]);
                    window.iter().fold(0, add) <= class.threshold()
                })
                .unwrap_or(longest);
            found.push(len);
            rest = &rest[len..];
        }
        found
    }

    #[test]
    fn the_table_is_what_it_always_was() {
        let bytes: Vec<u8> = GEAR.iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(
            blake3::hash(&bytes).to_hex().as_str(),
            "a22fbc8068c48e88dd4ba47e10ccb84895a0f365379d2078d3d1e6bc4f9e9df8"
        );
    }

    #[test]
    fn cuts_are_where_they_always_were() {
        let periodic: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let short: Vec<u8> = b"abc".repeat(50_000);
        for (name, class, bytes, expected) in [
            (
                "noise",
                Class::Fine,
                noise(1, 200_000),
                vec![
                    16_335, 26_251, 8_450, 19_899, 17_780, 16_126, 12_766, 10_710, 34_289, 14_164,
                    13_122, 9_214, 894,
                ],
            ),
            (
                "noise",
                Class::Coarse,
                noise(1, 400_000),
                vec![
                    42_586, 62_255, 85_051, 35_673, 70_827, 42_332, 54_054, 7_222,
                ],
            ),
            (
                "zeros",
                Class::Fine,
                vec![0; 150_000],
                vec![65_536, 65_536, 18_928],
            ),
            (
                "zeros",
                Class::Coarse,
                vec![0; 300_000],
                vec![262_144, 37_856],
            ),
            (
                "ones",
                Class::Fine,
                vec![0xff; 150_000],
                vec![65_536, 65_536, 18_928],
            ),
            (
                "period 251",
                Class::Fine,
                periodic,
                vec![65_536, 65_536, 65_536, 65_536, 37_856],
            ),
            ("period 3", Class::Fine, short, vec![65_536, 65_536, 18_928]),
            ("short", Class::Fine, noise(4, 8_191), vec![8_191]),
            ("empty", Class::Fine, vec![], vec![]),
        ] {
            let found = cuts(class, &bytes);
            assert_eq!(found, cuts_by_definition(class, &bytes), "{name}");
            assert_eq!(found, expected, "{name} {class:?}");
        }
    }

    #[test]
    fn chunks_are_as_long_as_they_are_meant_to_be() {
        let bytes = noise(9, 32 << 20);
        for class in [Class::Part, Class::Fine, Class::Coarse] {
            let found = cuts(class, &bytes);
            let average = bytes.len() / found.len();
            let expected = class.average_bytes();
            assert!(average.abs_diff(expected) < expected / 10, "{average}");
            let (_, all_but_last) = found.split_last().unwrap();
            for len in all_but_last {
                assert!((class.min_bytes()..=class.max_bytes()).contains(len));
            }
        }
    }

    #[test]
    fn a_large_file_has_coarse_chunks() {
        for (size, class) in [
            (0, Class::Fine),
            (1 << 30, Class::Fine),
            ((1 << 30) + 1, Class::Coarse),
        ] {
            assert_eq!(Class::of(size), class);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn buffers_do_not_matter(
            seed: u64,
            len in 0_usize..300_000,
            period in prop_oneof![Just(usize::MAX), 1_usize..100],
            parts in proptest::collection::vec(0_usize..20_000, 1..20),
        ) {
            let bytes: Vec<u8> = noise(seed, period.min(len)).into_iter().cycle().take(len).collect();
            let mut chunker = Chunker::new(Class::Fine);
            let mut found = Vec::new();
            let mut held = Vec::new();
            let mut coming = &bytes[..];
            for part in parts.iter().cycle().map(|part| part + 1) {
                let (now, later) = coming.split_at(part.min(coming.len()));
                coming = later;
                held.extend_from_slice(now);
                while let Some(end) = chunker.cut(&held, coming.is_empty()) {
                    found.push(end);
                    held.drain(..end);
                }
                if coming.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, cuts(Class::Fine, &bytes));
        }
    }
}
