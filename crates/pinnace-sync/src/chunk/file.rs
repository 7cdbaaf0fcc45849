//! Cuts an open file into its chunks, a piece of it in memory at a time.
//!
//! Where the file has holes they are chunks of their own, with an id that says so, and are not read.
//!
//! Invariant: the chunks add up to the size that was given; a file that is shorter is an error. Left to others: whether
//! the file changes meanwhile.

use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::{Chunk, ChunkId, Chunker, Class, MAX_CHUNK_BYTES, Recipe, WHOLE_BYTES_MAX, content_of};
use crate::fs::read_exactly;
use crate::meta::ContentId;

/// Bytes of a file that are in memory at a time.
const WINDOW_BYTES: usize = 4 << 20;

/// An open file on its way through the chunker.
pub struct Cutter<F> {
    file: F,
    size: u64,
    chunker: Chunker,
    /// Where the next chunk begins.
    offset: u64,
    /// Bytes from `offset` on, after those that were given out.
    window: Vec<u8>,
    taken: usize,
    /// Where the data at `offset` ends and a hole or the end of the file follows.
    data_end: u64,
    has_holes: bool,
}

impl<F: AsFd> Cutter<F> {
    /// Begins at the start of a file of this size.
    pub fn new(file: F, size: u64, has_holes: bool) -> Self {
        Self {
            file,
            size,
            chunker: Chunker::new(Class::of(size)),
            offset: 0,
            window: Vec::new(),
            taken: 0,
            data_end: if has_holes { 0 } else { size },
            has_holes,
        }
    }

    /// The next chunk and its bytes, of which a hole has none.
    ///
    /// # Errors
    /// What the system says; [`Errno::NODATA`] if the file is shorter than it was.
    pub fn next_chunk(&mut self) -> Result<Option<(Chunk, &[u8])>, Errno> {
        self.next_like(None)
    }

    /// The next chunk, which may be this one: then its end need not be searched for, since equal bytes are cut at
    /// equal places. It must have been cut from a file of the same [`Class`], and not by the end of its data.
    ///
    /// # Errors
    /// As [`Cutter::next_chunk`].
    pub fn next_like(&mut self, guess: Option<&Chunk>) -> Result<Option<(Chunk, &[u8])>, Errno> {
        if self.offset == self.size {
            return Ok(None);
        }
        if self.offset == self.data_end
            && let Some(hole) = self.hole()?
        {
            return Ok(Some((hole, &[])));
        }
        let chunk = match guess {
            Some(guess) if self.is_next(guess)? => *guess,
            _ => self.search()?,
        };
        let start = self.taken;
        self.taken += chunk.bytes as usize;
        self.offset += u64::from(chunk.bytes);
        Ok(Some((chunk, &self.window[start..self.taken])))
    }

    fn is_next(&mut self, guess: &Chunk) -> Result<bool, Errno> {
        let bytes = guess.bytes as usize;
        let is_possible = bytes <= self.chunker.class().max_bytes()
            && self.offset + bytes as u64 <= self.data_end;
        if !is_possible {
            return Ok(false);
        }
        if self.window.len() - self.taken < bytes {
            self.fill()?;
        }
        Ok(ChunkId::of(&self.window[self.taken..self.taken + bytes]) == guess.id)
    }

    fn search(&mut self) -> Result<Chunk, Errno> {
        let end = loop {
            let rest = &self.window[self.taken..];
            let is_last = self.offset + rest.len() as u64 == self.data_end;
            match self.chunker.cut(rest, is_last) {
                Some(end) => break end,
                None => self.fill()?,
            }
        };
        Ok(Chunk {
            bytes: end as u32,
            id: ChunkId::of(&self.window[self.taken..self.taken + end]),
        })
    }

    /// The hole that begins here, if one does; otherwise finds out how far the data goes.
    fn hole(&mut self) -> Result<Option<Chunk>, Errno> {
        self.window.clear();
        self.taken = 0;
        let seek = |from| rustix::fs::seek(&self.file, from);
        let data = match seek(SeekFrom::Data(self.offset)) {
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => self.size,
            data => data?.min(self.size),
        };
        if data > self.offset {
            let bytes = (data - self.offset).min(MAX_CHUNK_BYTES.into()) as u32;
            self.offset += u64::from(bytes);
            // What follows is looked up when it is reached.
            self.data_end = self.offset;
            let id = ChunkId::HOLE;
            return Ok(Some(Chunk { bytes, id }));
        }
        self.data_end = match seek(SeekFrom::Hole(self.offset)) {
            Err(Errno::NXIO) => self.size,
            hole => hole?.min(self.size),
        };
        debug_assert!(self.has_holes);
        Ok(None)
    }

    fn fill(&mut self) -> Result<(), Errno> {
        self.window.drain(..self.taken);
        self.taken = 0;
        let at = self.offset + self.window.len() as u64;
        let wanted = (self.data_end - at).min((WINDOW_BYTES - self.window.len()) as u64) as usize;
        let before = self.window.len();
        read_exactly(&self.file, at, wanted, &mut self.window)?;
        if self.window.len() < before + wanted || wanted == 0 {
            return Err(Errno::NODATA);
        }
        Ok(())
    }
}

/// What an open file of this size holds.
///
/// # Errors
/// What the system says; [`Errno::NODATA`] if it is shorter.
pub fn content_of_file(
    file: impl AsFd,
    size: u64,
    has_holes: bool,
) -> Result<(ContentId, Option<Recipe>), Errno> {
    if size < WHOLE_BYTES_MAX {
        let mut bytes = Vec::with_capacity(size as usize);
        read_exactly(&file, 0, size as usize, &mut bytes)?;
        if (bytes.len() as u64) < size {
            return Err(Errno::NODATA);
        }
        return Ok(content_of(&bytes));
    }
    let mut cutter = Cutter::new(file, size, has_holes);
    let mut recipe = Recipe::default();
    while let Some((chunk, _)) = cutter.next_chunk()? {
        recipe.chunks.push(chunk);
    }
    Ok((recipe.content_id(), Some(recipe)))
}

/// Reads a file again that was cut before, and cuts it at the same places.
///
/// # Errors
/// What the system says; [`Errno::NODATA`] if it is shorter.
pub fn recut(file: impl AsFd, recipe: &Recipe) -> Result<Recipe, Errno> {
    /// Bytes that are read of a hole at a time.
    const HOLE_READ_BYTES: usize = 1 << 20;
    let (mut offset, mut bytes) = (0, Vec::new());
    let mut found = Recipe::default();
    for chunk in &recipe.chunks {
        let mut id = ChunkId::HOLE;
        let mut left = chunk.bytes as usize;
        while left > 0 {
            let count = if chunk.id == ChunkId::HOLE {
                left.min(HOLE_READ_BYTES)
            } else {
                left
            };
            bytes.clear();
            read_exactly(&file, offset, count, &mut bytes)?;
            if bytes.len() < count {
                return Err(Errno::NODATA);
            }
            if chunk.id != ChunkId::HOLE || bytes.iter().any(|byte| *byte != 0) {
                id = ChunkId::of(&bytes);
            }
            offset += count as u64;
            left -= count;
        }
        let bytes = chunk.bytes;
        found.chunks.push(Chunk { bytes, id });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::gear::tests::noise;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_file_is_cut_like_its_bytes() {
        for size in [0, 1, 65_535, 65_536, 9_000_001] {
            let bytes = noise(7, size);
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let (id, recipe) = content_of_file(&file, size as u64, false).unwrap();
            assert_eq!((id, recipe.clone()), content_of(&bytes));
            if let Some(recipe) = recipe {
                assert_eq!(recut(&file, &recipe).unwrap(), recipe);
            }
            let longer = content_of_file(&file, size as u64 + 1, false);
            assert_eq!(longer.unwrap_err(), Errno::NODATA);
        }
    }

    #[test]
    fn what_is_guessed_is_cut_where_it_would_be() {
        let old = noise(9, 3_000_000);
        let mut new = noise(10, 1_000);
        new.extend_from_slice(&old[..2_000_000]);
        new.extend_from_slice(&old[1_900_000..]);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&new, 0).unwrap();
        let base = content_of(&old).1.unwrap().chunks;
        let (_, inner) = base.split_last().unwrap();
        let mut cutter = Cutter::new(&file, new.len() as u64, false);
        let (mut found, mut hits, mut place) = (Recipe::default(), 0, 0);
        while let Some((chunk, bytes)) = cutter.next_like(inner.get(place)).unwrap() {
            assert_eq!(chunk.id, ChunkId::of(bytes));
            hits += usize::from(inner.get(place) == Some(&chunk));
            place = inner
                .iter()
                .position(|old| *old == chunk)
                .map_or(0, |at| at + 1);
            found.chunks.push(chunk);
        }
        assert_eq!(found, content_of(&new).1.unwrap());
        assert!(hits > inner.len() / 2, "{hits} of {}", inner.len());
    }

    #[test]
    fn holes_are_chunks_of_their_own() {
        let file: File = tempfile::tempfile().unwrap();
        file.set_len(5 << 30).unwrap();
        let bytes = noise(8, 200_000);
        file.write_all_at(&bytes, 1 << 30).unwrap();
        let (_, recipe) = content_of_file(&file, 5 << 30, true).unwrap();
        let recipe = recipe.unwrap();
        assert_eq!(recipe.bytes(), 5 << 30);
        let holes = recipe
            .chunks
            .iter()
            .filter(|chunk| chunk.id == ChunkId::HOLE);
        assert_eq!(holes.count(), 5);
    }
}
