//! What is written: incompressible bytes of which no two sectors are equal, made cheaply.
//!
//! A worker's buffer is a pool of random bytes, one chunk and some slack long. Each write takes a
//! window of the pool that starts at another sector than the one before, and every sector of the
//! window gets a stamp at its head:
//!
//! ```text
//! 0        8                16               24              32           4096
//! | run id | worker, file   | sector in file | sequence      | random bytes |
//! ```
//!
//! Invariant: (run id, worker, file, sector in file) is unique, each is written through a bijection
//! of 64 bits, so stamps are unique and yet look random; deduplication and compression find nothing.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use crate::buffer::AlignedBuffer;
use crate::limits::{SECTOR_BYTES, SLACK_BYTES, STAMP_BYTES};

/// The moving window over a worker's pool, and the identity its stamps carry.
#[derive(Debug)]
pub(crate) struct Payload {
    chunk_bytes: usize,
    windows: usize,
    next_window: usize,
    run_id: u64,
    worker: u32,
    sequence: u64,
}

impl Payload {
    /// A filled pool and the window over it; `None` when the memory cannot be had.
    pub(crate) fn new(
        instance: &str,
        worker: u32,
        chunk_bytes: usize,
    ) -> Option<(Self, AlignedBuffer)> {
        let mut pool = AlignedBuffer::zeroed(pool_bytes(chunk_bytes)?)?;
        Random::from_system(worker).fill(pool.as_mut_slice());
        let payload = Self {
            chunk_bytes,
            windows: SLACK_BYTES / SECTOR_BYTES,
            next_window: 0,
            run_id: id_of(instance),
            worker,
            sequence: 0,
        };
        Some((payload, pool))
    }

    /// Stamps the window of the next write, `len` bytes at `offset` of file `file`, and says where
    /// in the pool it is.
    pub(crate) fn prepare(
        &mut self,
        pool: &mut [u8],
        file: u64,
        offset: u64,
        len: usize,
    ) -> Range<usize> {
        let len = len.min(self.chunk_bytes);
        let start = self.next_window * SECTOR_BYTES;
        self.next_window = (self.next_window + 1) % self.windows;
        let range = start..start + len;
        let who = mix(u64::from(self.worker) << 40 ^ file);
        // Chunks that are no multiple of a sector still get a number per piece that is theirs alone.
        let mut place = offset;
        for sector in pool[range.clone()].chunks_mut(SECTOR_BYTES) {
            let mut stamp = [0; STAMP_BYTES];
            stamp[..8].copy_from_slice(&self.run_id.to_le_bytes());
            stamp[8..16].copy_from_slice(&who.to_le_bytes());
            stamp[16..24].copy_from_slice(&mix(place).to_le_bytes());
            stamp[24..].copy_from_slice(&mix(self.sequence).to_le_bytes());
            // The usual case is of fixed size, so that it becomes two stores and no call.
            match sector.first_chunk_mut() {
                Some(head) => *head = stamp,
                None => sector.copy_from_slice(&stamp[..sector.len()]),
            }
            place += SECTOR_BYTES as u64;
            self.sequence += 1;
        }
        range
    }
}

/// Bytes of the pool for a chunk size.
pub(crate) fn pool_bytes(chunk_bytes: usize) -> Option<usize> {
    chunk_bytes
        .checked_next_multiple_of(SECTOR_BYTES)?
        .checked_add(SLACK_BYTES)
}

/// 64 bits that stand for the instance; two instances share them with a chance of 2^-64.
fn id_of(instance: &str) -> u64 {
    instance
        .bytes()
        .fold(0x9e37_79b9_7f4a_7c15, |id, byte| mix(id ^ u64::from(byte)))
}

/// A bijection of 64 bits whose output looks random: xor-shifts and odd multipliers can be undone.
#[inline]
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    value = (value ^ (value >> 29)).wrapping_mul(0xa076_1d64_78bd_642f);
    value ^ (value >> 32)
}

/// A generator of the xorshift family: not for secrets, good enough that nothing compresses it.
struct Random([u64; 2]);

impl Random {
    /// Seeded by the operating system through the standard library's hash keys.
    fn from_system(worker: u32) -> Self {
        let keys = RandomState::new();
        let seed = |salt: u32| {
            let mut hasher = keys.build_hasher();
            hasher.write_u32(salt);
            hasher.write_u32(worker);
            hasher.finish() | 1
        };
        Self([seed(0), seed(1)])
    }

    #[inline]
    fn next(&mut self) -> u64 {
        let [mut a, b] = self.0;
        let sum = a.wrapping_add(b);
        a ^= a << 23;
        self.0 = [b, a ^ b ^ (a >> 18) ^ (b >> 5)];
        sum
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Write as _;

    use super::*;

    /// Writes `files` files of `file_bytes` in chunks and hands every window to `look`.
    fn each_chunk(chunk: usize, file_bytes: usize, files: u64, mut look: impl FnMut(u32, &[u8])) {
        for worker in 0..2 {
            let (mut payload, mut pool) = Payload::new("00ff", worker, chunk).unwrap();
            for file in 1..=files {
                let mut offset = 0;
                while offset < file_bytes {
                    let len = chunk.min(file_bytes - offset);
                    let range = payload.prepare(pool.as_mut_slice(), file, offset as u64, len);
                    assert_eq!(range.len(), len);
                    look(worker, &pool.as_slice()[range]);
                    offset += len;
                }
            }
        }
    }

    #[test]
    fn no_two_sectors_are_equal() {
        let mut seen = HashSet::new();
        let mut sectors = 0;
        each_chunk(64 << 10, 1 << 20, 8, |_, chunk| {
            for sector in chunk.chunks(SECTOR_BYTES) {
                assert!(
                    seen.insert(sector.to_vec()),
                    "sector {sectors} was written before"
                );
                sectors += 1;
            }
        });
        assert_eq!(sectors, 2 * 8 * 256);
    }

    #[test]
    fn stamps_alone_are_unique_for_odd_chunks_too() {
        for chunk in [1000, 4096, 5000, 12288] {
            let mut seen = HashSet::new();
            each_chunk(chunk, 100_000, 3, |_, bytes| {
                for sector in bytes
                    .chunks(SECTOR_BYTES)
                    .filter(|s| s.len() >= STAMP_BYTES)
                {
                    assert!(seen.insert(sector[..STAMP_BYTES].to_vec()), "chunk {chunk}");
                }
            });
        }
    }

    #[test]
    fn deflate_saves_less_than_one_percent() {
        each_chunk(256 << 10, 1 << 20, 1, |_, chunk| {
            let mut packer =
                flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
            packer.write_all(chunk).unwrap();
            let packed = packer.finish().unwrap().len();
            assert!(
                packed * 100 > chunk.len() * 99,
                "{packed} of {}",
                chunk.len()
            );
        });
    }

    #[test]
    fn mixing_loses_nothing() {
        let all: HashSet<u64> = (0..100_000u64).map(|n| mix(n << 12)).collect();
        assert_eq!(all.len(), 100_000);
        assert_ne!(id_of("a"), id_of("b"));
    }
}
