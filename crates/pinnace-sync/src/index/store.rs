//! An index on disk: a folder with a snapshot, the log of what changed since, and recipes.
//!
//! Invariant: at any moment a crash leaves a snapshot and a log that belong together (they say the same
//! generation), or a snapshot alone, which a log of another generation does not touch. Recipes are written
//! before what refers to them. Left to others: one process at a time in the folder, and when to sync.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

pub use super::files::StoreError;
use super::files::{self, HEAD_BYTES, LoadError, Role, io_error};
use super::log::{self, End};
use super::marks::{Marks, Removals};
use super::recipes::{self, Recipes};
use super::replay::State;
use super::snapshot::{self, Content};
use super::{Change, Index, NodeId, RecipeRef};
use crate::chunk::Recipe;

const SNAPSHOT: &str = "snapshot";
const LOG: &str = "log";

/// A log below this size needs no checkpoint.
const LOG_BYTES_MIN: u64 = 1 << 20;
/// Recipes below this size are not worth compacting.
const RECIPES_BYTES_MIN: u64 = 64 << 10;

/// The folder of an index, open.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    generation: u64,
    snapshot_bytes: u64,
    log: File,
    log_bytes: u64,
    recipes: Recipes,
    recipes_number: u64,
    /// The log is not what it should be, and only a new one helps.
    is_failed: bool,
    buffer: Vec<u8>,
}

/// What was in the folder.
#[derive(Debug)]
pub struct Loaded {
    /// The tree.
    pub index: Index,
    /// What is known of it as a whole.
    pub marks: Marks,
    /// What was removed lately: numbers and paths, oldest first.
    pub removals: Removals,
    /// What was lost, in words: the end of the log, or all of it when the rest is empty. `None`: nothing.
    pub was_torn: Option<String>,
}

impl Store {
    /// Opens the folder, which is made if it is not there, and loads what is in it. A torn end of the log is cut
    /// off; anything else that is damaged empties the folder.
    ///
    /// # Errors
    /// The system refuses something, or a newer program wrote this; nothing was changed then.
    pub fn open(dir: &Path) -> Result<(Self, Loaded), StoreError> {
        std::fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        match Self::load(dir) {
            Ok(opened) => Ok(opened),
            Err(LoadError::Store(error)) => Err(error),
            Err(LoadError::Damage(words)) => {
                Self::clear(dir)?;
                match Self::load(dir) {
                    Ok((store, mut loaded)) => {
                        loaded.was_torn = Some(words);
                        Ok((store, loaded))
                    }
                    Err(LoadError::Store(error)) => Err(error),
                    Err(LoadError::Damage(words)) => Err(io_error("clear", dir)(
                        std::io::Error::new(std::io::ErrorKind::InvalidData, words),
                    )),
                }
            }
        }
    }

    fn load(dir: &Path) -> Result<(Self, Loaded), LoadError> {
        let (generation, recipes_number, snapshot_bytes, mut state) =
            match snapshot::read(&dir.join(SNAPSHOT))? {
                Some(read) => (read.generation, read.recipes, read.bytes, read.state),
                None => (0, 0, 0, State::default()),
            };
        let replayed = replay_log(dir, generation, &mut state)?;
        let recipes = Recipes::open(dir, recipes_number, state.recipe_bytes)?;
        let (log, log_bytes, was_torn) = match replayed {
            Some((file, log_bytes, was_torn)) => (file, log_bytes, was_torn),
            None => {
                let file = files::create(dir, LOG, Role::Log, generation)?;
                (file, HEAD_BYTES as u64, None)
            }
        };
        let store = Self {
            dir: dir.to_owned(),
            generation,
            snapshot_bytes,
            log,
            log_bytes,
            recipes,
            recipes_number,
            is_failed: false,
            buffer: Vec::new(),
        };
        store.remove_leftovers()?;
        let loaded = Loaded {
            index: state.index,
            marks: state.marks,
            removals: state.removals,
            was_torn,
        };
        Ok((store, loaded))
    }

    /// Removes what is damaged. The snapshot goes first: without it no log but the first is looked at.
    fn clear(dir: &Path) -> Result<(), StoreError> {
        files::remove(&dir.join(SNAPSHOT))?;
        files::sync_dir(dir)?;
        files::remove(&dir.join(LOG))?;
        files::sync_dir(dir)?;
        files::remove(&dir.join(recipes::file_name(0)))
    }

    /// Removes what a crash in the middle of a checkpoint left behind.
    fn remove_leftovers(&self) -> Result<(), StoreError> {
        let entries = std::fs::read_dir(&self.dir).map_err(io_error("read", &self.dir))?;
        let ours = recipes::file_name(self.recipes_number);
        for entry in entries {
            let name = entry.map_err(io_error("read", &self.dir))?.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_recipes = name.starts_with("recipes.") && name != ours;
            let is_unfinished = [SNAPSHOT, LOG]
                .iter()
                .any(|of| *name == format!("{of}.new"));
            if is_recipes || is_unfinished {
                files::remove(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Appends changes, in one write, that were made in memory in this order. They are not synced.
    ///
    /// # Errors
    /// The system refuses to write; nothing was appended. If not even that can be made sure of, nothing can be
    /// appended until the next checkpoint.
    pub fn append(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if self.is_failed {
            return Err(StoreError::Failed {
                path: self.dir.join(LOG),
            });
        }
        self.recipes.flush()?;
        self.buffer.clear();
        for change in changes {
            log::push(change, &mut self.buffer);
        }
        match self.log.write_all_at(&self.buffer, self.log_bytes) {
            Ok(()) => {
                self.log_bytes += self.buffer.len() as u64;
                self.buffer.shrink_to(1 << 20);
                Ok(())
            }
            Err(error) => {
                // What is there of it must not be taken for what comes next.
                self.is_failed = self.log.set_len(self.log_bytes).is_err();
                Err(io_error("write", &self.dir.join(LOG))(error))
            }
        }
    }

    /// Appends the marks.
    ///
    /// # Errors
    /// As of [`Store::append`].
    pub fn set_marks(&mut self, marks: &Marks) -> Result<(), StoreError> {
        self.append(&[Change::Marks(marks.clone())])
    }

    /// Syncs everything that was appended.
    ///
    /// # Errors
    /// The system refuses; what of it is on disk is not known, and nothing can be appended until the next
    /// checkpoint.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        let synced = self.recipes.sync().and_then(|()| {
            let path = self.dir.join(LOG);
            self.log.sync_data().map_err(io_error("sync", &path))
        });
        self.is_failed |= synced.is_err();
        synced
    }

    /// Keeps a recipe. It is on disk before any change that is appended later.
    ///
    /// # Errors
    /// The system refuses to write.
    pub fn add_recipe(&mut self, recipe: &Recipe) -> Result<RecipeRef, StoreError> {
        self.recipes.add(recipe)
    }

    /// Reads a recipe.
    ///
    /// # Errors
    /// It is not there or not whole ([`StoreError::NoRecipe`]), or the system refuses to read.
    pub fn recipe(&self, at: RecipeRef) -> Result<Recipe, StoreError> {
        self.recipes.get(at)
    }

    /// Whether the log has become so long that a snapshot is shorter to read. It takes a while: the next moment in
    /// which nothing else happens will do.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        self.is_failed || self.log_bytes > self.snapshot_bytes.max(LOG_BYTES_MIN)
    }

    /// Whether a checkpoint can wait no longer: the log must not grow without end because something always happens.
    #[must_use]
    pub fn needs_checkpoint(&self) -> bool {
        let enough = self.snapshot_bytes.max(LOG_BYTES_MIN);
        self.is_failed || self.log_bytes > enough + enough / 2
    }

    /// Writes everything anew and begins a new log. Recipes nobody refers to are left behind when they are the
    /// most; rows then say where theirs are now, or that it is no more if it could not be read.
    ///
    /// # Errors
    /// The system refuses something. The index is as it was; on disk is what was there before, or already what
    /// should be there, and in the second case nothing can be appended until a checkpoint succeeds.
    pub fn checkpoint(
        &mut self,
        index: &mut Index,
        marks: &Marks,
        removals: &Removals,
    ) -> Result<(), StoreError> {
        let generation = self.generation + 1;
        let fresh = self.compact_recipes(index, generation)?;
        let unfinished = self.dir.join(format!("{SNAPSHOT}.new"));
        let content = Content {
            generation,
            recipes: fresh.as_ref().map_or(self.recipes_number, |_| generation),
            index,
            marks,
            removals,
            moved: fresh.as_ref().map(|(_, moved)| moved),
        };
        let (file, bytes) = snapshot::write(&unfinished, &content)?;
        files::put_in_place(&file, &unfinished, &self.dir.join(SNAPSHOT))?;
        // From here on the log that is open belongs to no snapshot.
        self.is_failed = true;
        self.generation = generation;
        self.snapshot_bytes = bytes;
        if let Some((recipes, moved)) = fresh {
            for id in with_recipe(index).collect::<Vec<_>>() {
                let moved = index.row(id).recipe.and_then(|at| moved.get(&at).copied());
                index.set_recipe(id, moved);
            }
            self.recipes = recipes;
            self.recipes_number = generation;
        }
        files::sync_dir(&self.dir)?;
        self.log = files::create(&self.dir, LOG, Role::Log, generation)?;
        self.log_bytes = HEAD_BYTES as u64;
        self.is_failed = false;
        self.remove_leftovers()
    }

    /// New recipes without garbage when most of the old ones are; otherwise those there are, synced.
    fn compact_recipes(
        &mut self,
        index: &Index,
        number: u64,
    ) -> Result<Option<(Recipes, recipes::Moved)>, StoreError> {
        let mut seen = std::collections::HashSet::new();
        let live = || with_recipe(index).filter_map(|id| index.row(id).recipe);
        let live_bytes: u64 = live()
            .filter(|at| seen.insert(at.offset))
            .map(RecipeRef::bytes)
            .sum();
        let bytes = self.recipes.bytes();
        if bytes < RECIPES_BYTES_MIN || live_bytes.saturating_mul(2) >= bytes {
            self.recipes.sync()?;
            return Ok(None);
        }
        self.recipes.flush()?;
        self.recipes.compacted(&self.dir, number, live()).map(Some)
    }
}

fn with_recipe(index: &Index) -> impl Iterator<Item = NodeId> + '_ {
    let ids = index.arena().used_slots().map(NodeId);
    ids.filter(|id| index.row(*id).recipe.is_some())
}

/// A log that was replayed: the file, its bytes, and what was cut off.
type Replayed = (File, u64, Option<String>);

/// Replays the log if it belongs to this generation, and cuts off a torn end.
fn replay_log(
    dir: &Path,
    generation: u64,
    state: &mut State,
) -> Result<Option<Replayed>, LoadError> {
    let path = dir.join(LOG);
    let Some(bytes) = files::read(&path)? else {
        return Ok(None);
    };
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let (found, _) = files::open_head(Role::Log, &path, head)?;
    if found != generation {
        return Ok(None);
    }
    let damage = |at: usize, words: &str| {
        LoadError::Damage(format!("{}: byte {at}: {words}", path.display()))
    };
    let end = log::replay(&bytes, HEAD_BYTES, |at, change| {
        let change = change.ok_or_else(|| damage(at, "no change that is known"))?;
        let applied = state.apply(change);
        applied.ok_or_else(|| damage(at, "a change that does not fit those before it"))
    })?;
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    let (whole_bytes, was_torn) = match end {
        End::Whole => (bytes.len(), None),
        End::Damaged(at) => return Err(damage(at, "the log is damaged here")),
        End::Torn(at) => {
            file.set_len(at as u64).map_err(io_error("cut", &path))?;
            let lost = bytes.len() - at;
            let words = format!(
                "{}: {lost} bytes at its end were no whole change",
                path.display()
            );
            (at, Some(words))
        }
    };
    Ok(Some((file, whole_bytes as u64, was_torn)))
}

#[cfg(test)]
impl Store {
    /// From now on the log can neither be written nor cut.
    pub(crate) fn break_log(&mut self) {
        if let Ok(log) = File::open(self.dir.join(LOG)) {
            self.log = log;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Row;

    #[test]
    fn after_a_write_that_failed_halfway_only_a_checkpoint_helps() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, loaded) = Store::open(dir.path()).unwrap();
        let mut index = loaded.index;
        let name: Box<[u8]> = Box::from(&b"a"[..]);
        let (parent, row) = (Index::ROOT, Row::DIRECTORY);
        let id = index.insert(parent, &name, row);
        let change = [Change::Put {
            id,
            parent,
            name,
            row,
        }];
        store.break_log();
        let error = store.append(&change).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::Io {
                    action: "write",
                    ..
                }
            ),
            "{error}"
        );
        let error = store.append(&change).unwrap_err();
        assert!(matches!(error, StoreError::Failed { .. }), "{error}");
        assert!(store.wants_checkpoint());
        let (marks, removals) = (Marks::default(), Removals::new());
        store.checkpoint(&mut index, &marks, &removals).unwrap();
        store.append(&change).unwrap();
        let (_, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.index.digest(), index.digest());
    }

    #[test]
    fn a_checkpoint_that_fails_leaves_everything_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, loaded) = Store::open(dir.path()).unwrap();
        let mut index = loaded.index;
        let (marks, removals) = (Marks::default(), Removals::new());
        // A directory stands where the file is to be made.
        let in_the_way = dir.path().join("snapshot.new");
        std::fs::create_dir(&in_the_way).unwrap();
        store.checkpoint(&mut index, &marks, &removals).unwrap_err();
        store
            .set_marks(&Marks {
                seq: 5,
                ..marks.clone()
            })
            .unwrap();
        std::fs::remove_dir(&in_the_way).unwrap();
        let (_, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!((loaded.marks.seq, loaded.was_torn), (5, None));
        // One fails after the snapshot has its name: the log belongs to none then, and says so.
        let in_the_way = dir.path().join("log.new");
        std::fs::create_dir(&in_the_way).unwrap();
        store.checkpoint(&mut index, &marks, &removals).unwrap_err();
        let error = store.set_marks(&marks).unwrap_err();
        assert!(matches!(error, StoreError::Failed { .. }), "{error}");
        std::fs::remove_dir(&in_the_way).unwrap();
        store.checkpoint(&mut index, &marks, &removals).unwrap();
        store.set_marks(&marks).unwrap();
    }
}
