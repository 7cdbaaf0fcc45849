//! The whole of an index as one file: `docs/formats/index.md`, Snapshot.
//!
//! Invariant: a snapshot is written in full, synced, and only then has its name; one that is read is whole, sum
//! by sum, or it is damage. Directories stand before what is in them, so what was read is a tree without a
//! search for circles. Left to others: which log goes on from it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::arena::SLOTS_MAX;
use super::files::{self, LoadError, Role, StoreError, io_error};
use super::marks::{MARKS_BYTES, Marks, REMOVALS_MAX, Removals};
use super::recipes::Moved;
use super::record::{Fields, ROW_BYTES, decode_row, encode_row};
use super::replay::State;
use super::{Index, NodeId};
use crate::meta::Kind;
use crate::path::{NAME_BYTES_MAX, PATH_BYTES_MAX, check_name};

/// Bytes of the head: the common start, six numbers, the marks, the sum.
const HEAD_BYTES: usize = 24 + 32 + MARKS_BYTES + 4;
/// Bytes of the head of a block.
const BLOCK_HEAD_BYTES: usize = 20;
/// Bytes of an entry besides its name: id, parent, row.
const ENTRY_BYTES: usize = 8 + ROW_BYTES;
/// Entries of a block.
const BLOCK_ENTRIES: usize = 4096;
/// A block of removals ends with the one that makes it so large.
const REMOVALS_BLOCK_BYTES: usize = 256 << 10;
/// Bytes of the largest block.
const BLOCK_BYTES_MAX: usize = BLOCK_ENTRIES * (ENTRY_BYTES + 1 + NAME_BYTES_MAX);

const _: () = assert!(REMOVALS_BLOCK_BYTES + 10 + PATH_BYTES_MAX <= BLOCK_BYTES_MAX);

/// What is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockKind {
    Entries = 1,
    Removals = 2,
    End = 3,
}

/// What a snapshot is of.
pub(super) struct Content<'a> {
    pub(super) generation: u64,
    pub(super) recipes: u64,
    pub(super) index: &'a Index,
    pub(super) marks: &'a Marks,
    pub(super) removals: &'a Removals,
    /// Where recipes are from now on, if they moved.
    pub(super) moved: Option<&'a Moved>,
}

/// Writes a snapshot under this path, synced; it has yet to be renamed. How many bytes it has.
pub(super) fn write(path: &Path, content: &Content<'_>) -> Result<(File, u64), StoreError> {
    let mut writer = Writer {
        file: files::create_new(path)?,
        path,
        number: 0,
        written_bytes: 0,
    };
    writer.write(&head(content))?;
    writer.entries(content)?;
    writer.removals(content.removals)?;
    writer.block(BlockKind::End, 0, &mut block_buffer())?;
    Ok((writer.file, writer.written_bytes))
}

fn head(content: &Content<'_>) -> Vec<u8> {
    let arena = content.index.arena();
    let mut head = files::start_head(Role::Snapshot, content.generation);
    head.extend_from_slice(&content.recipes.to_le_bytes());
    head.extend_from_slice(&(arena.live_name_bytes() as u64).to_le_bytes());
    head.extend_from_slice(&(arena.slots() as u32).to_le_bytes());
    head.extend_from_slice(&(arena.used() as u32).to_le_bytes());
    head.extend_from_slice(&(content.removals.len() as u32).to_le_bytes());
    head.extend_from_slice(&[0; 4]);
    content.marks.encode(&mut head);
    files::seal_head(head)
}

struct Writer<'a> {
    file: File,
    path: &'a Path,
    number: u32,
    written_bytes: u64,
}

impl Writer<'_> {
    fn entries(&mut self, content: &Content<'_>) -> Result<(), StoreError> {
        let index = content.index;
        let mut bytes = block_buffer();
        let mut names = Vec::new();
        let mut count = 0;
        for id in index.walk() {
            let row = index.row(id);
            let recipe = match (row.recipe, content.moved) {
                (Some(recipe), Some(moved)) => moved.get(&recipe).copied(),
                (recipe, _) => recipe,
            };
            bytes.extend_from_slice(&id.0.to_le_bytes());
            let parent = index.arena().parent(id.0);
            bytes.extend_from_slice(&parent.to_le_bytes());
            encode_row(row, recipe, &mut bytes);
            let name = index.name(id);
            names.push(name.len() as u8);
            names.extend_from_slice(name);
            count += 1;
            if count == BLOCK_ENTRIES {
                bytes.append(&mut names);
                self.block(BlockKind::Entries, count, &mut bytes)?;
                count = 0;
            }
        }
        if count > 0 {
            bytes.append(&mut names);
            self.block(BlockKind::Entries, count, &mut bytes)?;
        }
        Ok(())
    }

    fn removals(&mut self, removals: &Removals) -> Result<(), StoreError> {
        let mut bytes = block_buffer();
        let mut count = 0;
        for (seq, path) in removals {
            bytes.extend_from_slice(&seq.to_le_bytes());
            bytes.extend_from_slice(&(path.len() as u16).to_le_bytes());
            bytes.extend_from_slice(path);
            count += 1;
            if bytes.len() >= REMOVALS_BLOCK_BYTES {
                self.block(BlockKind::Removals, count, &mut bytes)?;
                count = 0;
            }
        }
        if count > 0 {
            self.block(BlockKind::Removals, count, &mut bytes)?;
        }
        Ok(())
    }

    /// Writes a block and begins the next one in the same buffer.
    fn block(
        &mut self,
        kind: BlockKind,
        count: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let payload_bytes = bytes.len() - BLOCK_HEAD_BYTES;
        let numbers = [kind as u32, self.number, count as u32, payload_bytes as u32];
        for (field, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        let sum = block_sum(bytes);
        bytes[16..20].copy_from_slice(&sum.to_le_bytes());
        self.write(bytes)?;
        self.number += 1;
        bytes.truncate(BLOCK_HEAD_BYTES);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all(bytes)
            .map_err(io_error("write", self.path))?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }
}

/// A buffer with room for the head of a block.
fn block_buffer() -> Vec<u8> {
    vec![0; BLOCK_HEAD_BYTES]
}

/// The sum over the head of a block, without its place for the sum, and the payload.
fn block_sum(block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block[..16]), &block[BLOCK_HEAD_BYTES..])
}

/// A snapshot that was read.
pub(super) struct Snapshot {
    pub(super) generation: u64,
    pub(super) recipes: u64,
    pub(super) bytes: u64,
    pub(super) state: State,
}

/// Reads the snapshot at this path, if there is one.
pub(super) fn read(path: &Path) -> Result<Option<Snapshot>, LoadError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error).into()),
    };
    let bytes = file.metadata().map_err(io_error("read", path))?.len();
    let mut reader = Reader {
        file: &mut file,
        path,
        number: 0,
    };
    let damage = |words: &str| LoadError::Damage(format!("{}: {words}", path.display()));
    let mut head = vec![0; HEAD_BYTES.min(bytes as usize)];
    reader.fill(&mut head)?;
    let (generation, mut fields) = files::open_head(Role::Snapshot, path, &head)?;
    let head = Head::decode(&mut fields, bytes).ok_or_else(|| damage("the head is damaged"))?;
    let mut state = State {
        index: Index::with_capacity(head.used, head.name_bytes),
        marks: head.marks,
        ..State::default()
    };
    let mut block = Vec::new();
    loop {
        let (kind, count) = reader.next(&mut block)?;
        let taken = match kind {
            BlockKind::Entries => take_entries(&mut state, head.slots, count, &block),
            BlockKind::Removals => take_removals(&mut state, count, &block),
            BlockKind::End => break,
        };
        taken.ok_or_else(|| damage("a block does not fit the others"))?;
    }
    state.index.gather_free(head.slots);
    if state.index.arena().used() != head.used || state.removals.len() != head.removals {
        return Err(damage("entries are missing"));
    }
    Ok(Some(Snapshot {
        generation,
        recipes: head.recipes,
        bytes,
        state,
    }))
}

struct Head {
    recipes: u64,
    name_bytes: usize,
    slots: usize,
    used: usize,
    removals: usize,
    marks: Marks,
}

impl Head {
    /// What is said here is used to reserve memory, so it is compared with the size of the file.
    fn decode(fields: &mut Fields<'_>, file_bytes: u64) -> Option<Self> {
        let recipes = fields.u64()?;
        let name_bytes = fields.u64()?;
        let (slots, used) = (fields.u32()?, fields.u32()?);
        let (removals, _) = (fields.u32()?, fields.u32()?);
        let head = Self {
            recipes,
            name_bytes: name_bytes as usize,
            slots: slots as usize,
            used: used as usize,
            removals: removals as usize,
            marks: Marks::decode(fields)?,
        };
        let entry_bytes = u64::from(used) * ENTRY_BYTES as u64;
        let fits = (1..=SLOTS_MAX).contains(&head.slots)
            && (1..=head.slots).contains(&head.used)
            && head.removals <= REMOVALS_MAX
            && entry_bytes.checked_add(name_bytes)? <= file_bytes;
        (fits && fields.0.is_empty()).then_some(head)
    }
}

struct Reader<'a> {
    file: &'a mut File,
    path: &'a Path,
    number: u32,
}

impl Reader<'_> {
    /// The kind and count of the next block; its payload is in the buffer.
    fn next(&mut self, buffer: &mut Vec<u8>) -> Result<(BlockKind, usize), LoadError> {
        let number = self.number;
        let damage = || {
            LoadError::Damage(format!(
                "{}: block {number} is damaged",
                self.path.display()
            ))
        };
        let mut head = [0; BLOCK_HEAD_BYTES];
        self.fill(&mut head)?;
        let mut fields = Fields(&head);
        let numbers = (|| {
            let numbers = [fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?];
            Some((numbers, fields.u32()?))
        })();
        let ([kind, found, count, bytes], sum) = numbers.ok_or_else(damage)?;
        let kind = [BlockKind::Entries, BlockKind::Removals, BlockKind::End]
            .into_iter()
            .find(|known| *known as u32 == kind)
            .ok_or_else(damage)?;
        if found != number || bytes as usize > BLOCK_BYTES_MAX {
            return Err(damage());
        }
        buffer.resize(bytes as usize, 0);
        self.fill(buffer)?;
        let found = crc32c::crc32c_append(crc32c::crc32c(&head[..16]), buffer);
        if found != sum {
            return Err(damage());
        }
        self.number += 1;
        Ok((kind, count as usize))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LoadError> {
        match self.file.read_exact(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                let words = "it ends too early";
                Err(LoadError::Damage(format!(
                    "{}: {words}",
                    self.path.display()
                )))
            }
            read => Ok(read.map_err(io_error("read", self.path))?),
        }
    }
}

fn take_entries(state: &mut State, slots_max: usize, count: usize, block: &[u8]) -> Option<()> {
    let (entries, names) = block.split_at_checked(count.checked_mul(ENTRY_BYTES)?)?;
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    let mut names = Fields(names);
    let mut slots = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut fields = Fields(entry);
        let (id, parent) = (fields.id()?, fields.id()?);
        let row = decode_row(&mut fields)?;
        let [len] = names.array()?;
        let name = names.slice(usize::from(len))?;
        state.note_recipe(&row);
        if id == Index::ROOT {
            (row.meta.kind == Kind::Directory && name.is_empty()).then_some(())?;
            state.index.set_row(id, row);
        } else {
            ((id.0 as usize) < slots_max).then_some(())?;
            take_entry(&mut state.index, id, parent, name, &row)?;
            slots.push(id.0);
        }
    }
    state.index.enter(&slots)?;
    names.0.is_empty().then_some(())
}

fn take_entry(
    index: &mut Index,
    id: NodeId,
    parent: NodeId,
    name: &[u8],
    row: &super::Row,
) -> Option<()> {
    check_name(name).ok()?;
    let is_new = !index.contains(id);
    let has_place = index.contains(parent) && index.row(parent).meta.kind == Kind::Directory;
    (is_new && has_place).then_some(())?;
    index.place(id, parent, name, row);
    Some(())
}

fn take_removals(state: &mut State, count: usize, block: &[u8]) -> Option<()> {
    let mut fields = Fields(block);
    for _ in 0..count {
        let seq = fields.u64()?;
        let len = u16::from_le_bytes(fields.array()?);
        let path = fields.slice(usize::from(len))?;
        state.removals.push_back((seq, path.into()));
    }
    fields.0.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Row;

    fn entry(id: u32, parent: u32, kind: Kind, name: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut row = Row::DIRECTORY;
        row.meta.kind = kind;
        let mut bytes = [id.to_le_bytes(), parent.to_le_bytes()].concat();
        encode_row(&row, None, &mut bytes);
        (bytes, [&[name.len() as u8], name].concat())
    }

    #[test]
    fn entries_that_make_no_tree_are_damage() {
        let root = entry(0, u32::MAX, Kind::Directory, b"");
        let dir = || entry(1, 0, Kind::Directory, b"d");
        let one = |id, parent, name: &[u8]| entry(id, parent, Kind::File, name);
        for (entries, is_tree) in [
            (vec![dir(), one(2, 1, b"f"), one(3, 0, b"f")], true),
            (vec![one(2, 1, b"f"), dir()], false),
            (vec![one(1, 1, b"f")], false),
            (vec![one(1, u32::MAX, b"f")], false),
            (vec![dir(), one(1, 0, b"f")], false),
            (vec![dir(), one(2, 0, b"d")], false),
            (vec![one(1, 0, b"f"), one(2, 1, b"f")], false),
            (vec![one(4, 0, b"f")], false),
            (vec![one(u32::MAX, 0, b"f")], false),
            (vec![one(1, 0, b"")], false),
            (vec![one(1, 0, b"..")], false),
            (vec![one(0, 0, b"")], false),
            (vec![entry(0, 0, Kind::Directory, b"x")], false),
        ] {
            let mut state = State::default();
            let shown = format!("{entries:?}");
            let entries = [vec![root.clone()], entries].concat();
            let rows = entries.iter().flat_map(|(row, _)| row.clone());
            let names = entries.iter().flat_map(|(_, name)| name.clone());
            let block: Vec<u8> = rows.chain(names).collect();
            let taken = take_entries(&mut state, 4, entries.len(), &block);
            assert_eq!(taken.is_some(), is_tree, "{shown}");
            for len in 0..block.len() {
                let mut state = State::default();
                assert!(take_entries(&mut state, 4, entries.len(), &block[..len]).is_none());
            }
        }
    }
}
