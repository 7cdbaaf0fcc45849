//! The recipes of an index: one file to which they are appended, one behind the other.
//!
//! Invariant: a recipe that is read is the one that was added at that place; where that cannot be said there is
//! an error. A place is never given out twice, even when a crash took what was written there. Left to others:
//! who refers to which recipe, and when it is time to leave the garbage behind.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::files::{self, HEAD_BYTES, LoadError, Role, StoreError, io_error};
use crate::chunk::Recipe;

/// Bytes before the chunks: their number and the sum.
const FRAME_BYTES: usize = 8;
const CHUNK_RECORD_BYTES: usize = 20;
/// So much is held back before it is written.
const BUFFER_BYTES_MAX: usize = 1 << 20;

/// Where a recipe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecipeRef {
    /// The byte at which it begins.
    pub offset: u64,
    /// How many chunks it has.
    pub chunks: u32,
}

impl RecipeRef {
    /// Bytes it takes.
    pub(super) fn bytes(self) -> u64 {
        FRAME_BYTES as u64 + CHUNK_RECORD_BYTES as u64 * u64::from(self.chunks)
    }

    /// The byte behind it.
    pub(super) fn end(self) -> u64 {
        self.offset.saturating_add(self.bytes())
    }
}

/// What moved when garbage was left behind: the new place of each recipe by its old one.
pub(super) type Moved = HashMap<RecipeRef, RecipeRef>;

#[derive(Debug)]
pub(super) struct Recipes {
    path: PathBuf,
    file: File,
    written_bytes: u64,
    buffer: Vec<u8>,
}

/// The name of the file of this number.
pub(super) fn file_name(number: u64) -> String {
    format!("recipes.{number}")
}

impl Recipes {
    /// An empty file.
    pub(super) fn create(dir: &Path, number: u64) -> Result<Self, StoreError> {
        let name = file_name(number);
        Ok(Self {
            file: files::create(dir, &name, Role::Recipes, number)?,
            path: dir.join(name),
            written_bytes: HEAD_BYTES as u64,
            buffer: Vec::new(),
        })
    }

    /// The file of this number, in which places up to `referred_bytes` are taken, whether or not they are there.
    pub(super) fn open(dir: &Path, number: u64, referred_bytes: u64) -> Result<Self, LoadError> {
        let path = dir.join(file_name(number));
        let mut recipes = match File::options().read(true).write(true).open(&path) {
            Ok(file) => {
                let mut head = [0; HEAD_BYTES];
                let metadata = file.metadata().map_err(io_error("read", &path))?;
                if metadata.len() >= HEAD_BYTES as u64 {
                    file.read_exact_at(&mut head, 0)
                        .map_err(io_error("read", &path))?;
                }
                let (found, _) = files::open_head(Role::Recipes, &path, &head)?;
                if found != number {
                    let words = "the file has the name of another";
                    return Err(LoadError::Damage(format!("{}: {words}", path.display())));
                }
                Self {
                    path,
                    file,
                    written_bytes: metadata.len(),
                    buffer: Vec::new(),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::create(dir, number)?
            }
            Err(error) => return Err(io_error("open", &path)(error).into()),
        };
        recipes.written_bytes = recipes.written_bytes.max(referred_bytes);
        Ok(recipes)
    }

    /// Bytes of the file, with what is not yet written.
    pub(super) fn bytes(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    pub(super) fn add(&mut self, recipe: &Recipe) -> Result<RecipeRef, StoreError> {
        let encoded = recipe.encode();
        if self.buffer.len() + encoded.len() > BUFFER_BYTES_MAX {
            self.flush()?;
        }
        let at = RecipeRef {
            offset: self.bytes(),
            chunks: recipe.chunks.len() as u32,
        };
        let sum = sum_of(at, &encoded);
        self.buffer.extend_from_slice(&at.chunks.to_le_bytes());
        self.buffer.extend_from_slice(&sum.to_le_bytes());
        self.buffer.extend_from_slice(&encoded);
        Ok(at)
    }

    /// Writes what was held back. After an error it is held back still.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        if !self.buffer.is_empty() {
            self.file
                .write_all_at(&self.buffer, self.written_bytes)
                .map_err(io_error("write", &self.path))?;
            self.written_bytes += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        self.file.sync_data().map_err(io_error("sync", &self.path))
    }

    pub(super) fn get(&self, at: RecipeRef) -> Result<Recipe, StoreError> {
        let no_recipe = || StoreError::NoRecipe {
            path: self.path.clone(),
            offset: at.offset,
        };
        if at.end() > self.bytes() {
            return Err(no_recipe());
        }
        let mut bytes = vec![0; at.bytes() as usize];
        match at.offset.checked_sub(self.written_bytes) {
            Some(start) => {
                let held = self.buffer.get(start as usize..).unwrap_or_default();
                let held = held.get(..bytes.len()).ok_or_else(no_recipe)?;
                bytes.copy_from_slice(held);
            }
            // A file that ends too early is one that lost its end in a crash.
            None => match self.file.read_exact_at(&mut bytes, at.offset) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(no_recipe());
                }
                read => read.map_err(io_error("read", &self.path))?,
            },
        }
        let (frame, encoded) = bytes.split_at(FRAME_BYTES);
        let mut expected = at.chunks.to_le_bytes().to_vec();
        expected.extend_from_slice(&sum_of(at, encoded).to_le_bytes());
        if frame != expected {
            return Err(no_recipe());
        }
        Recipe::decode(encoded).map_err(|_| no_recipe())
    }

    /// A new file with these recipes only, synced, and where they are in it. One that cannot be read is not there.
    pub(super) fn compacted(
        &self,
        dir: &Path,
        number: u64,
        live: impl Iterator<Item = RecipeRef>,
    ) -> Result<(Self, Moved), StoreError> {
        let mut fresh = Self::create(dir, number)?;
        let mut moved = Moved::new();
        for at in live {
            if moved.contains_key(&at) {
                continue;
            }
            match self.get(at) {
                Ok(recipe) => {
                    moved.insert(at, fresh.add(&recipe)?);
                }
                Err(StoreError::NoRecipe { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        fresh.sync()?;
        Ok((fresh, moved))
    }
}

/// The sum over place, number of chunks and chunks.
fn sum_of(at: RecipeRef, encoded: &[u8]) -> u32 {
    let place = crc32c::crc32c(&at.offset.to_le_bytes());
    let head = crc32c::crc32c_append(place, &at.chunks.to_le_bytes());
    crc32c::crc32c_append(head, encoded)
}
