//! Segment files: names, the header block, making one, and the list of those that exist.
//!
//! Invariant: a file named `.log` has a durable, whole header, and everything below its first lsn
//! was durable before it got that name. The list only grows at the back and shrinks at the front.
//! Records inside are the business of `scan` and `committer`.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::Lsn;
use crate::disk::{Disk, DiskFile, write_full};
use crate::limits::{LSN_MAX, OPEN_SEGMENTS_MAX, SEGMENT_HEADER_BYTES};
use crate::record::{u32_at, u64_at};

const MAGIC: [u8; 8] = *b"PINNLOG\0";
pub(crate) const VERSION: u32 = 1;
const COPY_BYTES: usize = 32;
const COPY_OFFSETS: [usize; 2] = [0, 2048];

/// What a header block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderBlock {
    /// Version 1, with the offsets of a copy that does not hold, if one does not.
    Good {
        first_lsn: Lsn,
        salt: u32,
        hurt_copy: Option<usize>,
    },
    /// A later version, sealed properly.
    Newer(u32),
    /// Neither copy holds.
    Lost,
}

impl HeaderBlock {
    /// The bytes that do not hold, from and to; no record is lost with them.
    pub(crate) fn hurt(&self) -> Option<(usize, usize)> {
        match *self {
            HeaderBlock::Good { hurt_copy, .. } => {
                hurt_copy.map(|offset| (offset, offset + COPY_BYTES))
            }
            HeaderBlock::Lost => Some((0, SEGMENT_HEADER_BYTES as usize)),
            HeaderBlock::Newer(_) => None,
        }
    }
}

/// Reads a header block.
pub(crate) fn parse_header(bytes: &[u8]) -> HeaderBlock {
    let mut good = None;
    let mut hurt_copy = None;
    for offset in COPY_OFFSETS {
        let copy = bytes.get(offset..offset + COPY_BYTES).unwrap_or_default();
        if !copy.starts_with(&MAGIC) || u32_at(copy, 28) != crc32c::crc32c(&copy[..28]) {
            hurt_copy = Some(offset);
        } else if u32_at(copy, 8) != VERSION {
            return HeaderBlock::Newer(u32_at(copy, 8));
        } else {
            good = Some((u64_at(copy, 16), u32_at(copy, 24)));
        }
    }
    match good {
        Some((first_lsn, salt)) => HeaderBlock::Good {
            first_lsn,
            salt,
            hurt_copy,
        },
        None => HeaderBlock::Lost,
    }
}

fn header_block(first_lsn: Lsn, salt: u32) -> Vec<u8> {
    let mut copy = [0; COPY_BYTES];
    copy[0..8].copy_from_slice(&MAGIC);
    copy[8..12].copy_from_slice(&VERSION.to_le_bytes());
    copy[16..24].copy_from_slice(&first_lsn.to_le_bytes());
    copy[24..28].copy_from_slice(&salt.to_le_bytes());
    let sum = crc32c::crc32c(&copy[..28]);
    copy[28..32].copy_from_slice(&sum.to_le_bytes());
    let mut block = vec![0; SEGMENT_HEADER_BYTES as usize];
    for offset in COPY_OFFSETS {
        block[offset..offset + COPY_BYTES].copy_from_slice(&copy);
    }
    block
}

/// The file name of the segment that starts with `first_lsn`.
pub(crate) fn file_name(first_lsn: Lsn) -> String {
    format!("{first_lsn:020}.log")
}

/// The first lsn a file name tells; `None` for files that are not segments.
pub(crate) fn parse_name(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits
        .parse()
        .ok()
        .filter(|lsn| (1..=LSN_MAX).contains(lsn))
}

/// Why a segment could not be made.
pub(crate) struct MakeError {
    pub(crate) action: &'static str,
    pub(crate) source: io::Error,
    /// A sync failed; nothing is known about the disk any more.
    pub(crate) final_: bool,
}

/// Makes the segment that starts with `first_lsn`. Returns its file and whether its space is
/// allocated ahead. On an error no `.log` file is left, at most a `.new` one.
pub(crate) fn make(
    disk: &dyn Disk,
    dir: &Path,
    first_lsn: Lsn,
    salt: u32,
    segment_bytes: u32,
) -> Result<(Arc<dyn DiskFile>, bool), MakeError> {
    let name = file_name(first_lsn);
    let path = dir.join(&name);
    let new = path.with_extension("new");
    let fail = |action| {
        move |source| MakeError {
            action,
            source,
            final_: false,
        }
    };
    let fatal = |action| {
        move |source| MakeError {
            action,
            source,
            final_: true,
        }
    };
    let file = disk.create(&new).map_err(fail("create a segment"))?;
    let prepared = (|| {
        let allocated = match file.allocate(u64::from(segment_bytes)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => false,
            Err(error) => return Err(fail("allocate a segment")(error)),
        };
        write_full(&*file, &header_block(first_lsn, salt), 0)
            .map_err(fail("write a segment header"))?;
        file.sync_data().map_err(fatal("sync a segment header"))?;
        disk.rename(&new, &path).map_err(fail("rename a segment"))?;
        Ok(allocated)
    })();
    match prepared {
        Ok(allocated) => {
            disk.sync_dir(dir)
                .map_err(fatal("sync the log directory"))?;
            Ok((file, allocated))
        }
        Err(error) => {
            // Best effort: a file that stays is removed on the next open or tripped over on the
            // next try, which then reports its own error.
            let _ = disk.remove(&new);
            Err(error)
        }
    }
}

/// One segment of an open log.
pub(crate) struct Segment {
    /// Counts 0, 1, 2 … since the log was opened.
    pub(crate) ordinal: u32,
    pub(crate) first_lsn: Lsn,
    pub(crate) path: PathBuf,
    /// Bytes up to the end of the last committed record.
    used_bytes: AtomicU64,
    file: Mutex<Option<Arc<dyn DiskFile>>>,
}

impl Segment {
    pub(crate) fn new(
        ordinal: u32,
        first_lsn: Lsn,
        path: PathBuf,
        used_bytes: u64,
        file: Option<Arc<dyn DiskFile>>,
    ) -> Segment {
        let used_bytes = AtomicU64::new(used_bytes);
        Segment {
            ordinal,
            first_lsn,
            path,
            used_bytes,
            file: Mutex::new(file),
        }
    }

    /// The file's name, for messages.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn set_used_bytes(&self, bytes: u32) {
        self.used_bytes.store(u64::from(bytes), Ordering::Relaxed);
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }
}

/// The segments of an open log, oldest first, and which of them have an open file.
pub(crate) struct Segments {
    list: RwLock<VecDeque<Arc<Segment>>>,
    /// Ordinals of sealed segments with an open file, oldest opening first.
    open: Mutex<VecDeque<u32>>,
}

impl Segments {
    pub(crate) fn new(list: VecDeque<Arc<Segment>>) -> Segments {
        Segments {
            list: RwLock::new(list),
            open: Mutex::default(),
        }
    }

    pub(crate) fn get(&self, ordinal: u32) -> Option<Arc<Segment>> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let index = ordinal.checked_sub(list.front()?.ordinal)?;
        list.get(index as usize).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.list
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    pub(crate) fn push(&self, segment: Arc<Segment>) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(sealed) = list.back() {
            self.note_open(sealed.ordinal, &list);
        }
        list.push_back(segment);
    }

    pub(crate) fn pop_front(&self) {
        self.list
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
    }

    /// Undoes `pop_front`.
    pub(crate) fn push_front(&self, segment: Arc<Segment>) {
        self.list
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push_front(segment);
    }

    /// The segment's file, opened when it is not.
    pub(crate) fn file(&self, disk: &dyn Disk, segment: &Segment) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = &*lock(&segment.file) {
            return Ok(Arc::clone(file));
        }
        let file = disk.open(&segment.path)?;
        *lock(&segment.file) = Some(Arc::clone(&file));
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        self.note_open(segment.ordinal, &list);
        Ok(file)
    }

    /// Closes the file that was opened longest ago when there are too many.
    fn note_open(&self, ordinal: u32, list: &VecDeque<Arc<Segment>>) {
        let mut open = lock(&self.open);
        open.push_back(ordinal);
        while open.len() > OPEN_SEGMENTS_MAX {
            let closing = open.pop_front();
            if let Some(segment) = list.iter().find(|s| Some(s.ordinal) == closing) {
                *lock(&segment.file) = None;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_like_numbers_and_strangers_are_none() {
        assert_eq!(file_name(4711), "00000000000000004711.log");
        assert_eq!(parse_name(&file_name(LSN_MAX)), Some(LSN_MAX));
        for name in [
            "1.log",
            "0000000000000000000a.log",
            "00000000000000000000.log",
            "x",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn one_flipped_bit_never_loses_the_header_nor_fakes_a_version() {
        let good = header_block(42, 9);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let byte = bit / 8;
            let hurt_copy = COPY_OFFSETS
                .into_iter()
                .find(|&o| (o..o + COPY_BYTES).contains(&byte));
            assert_eq!(
                parse_header(&bad),
                HeaderBlock::Good {
                    first_lsn: 42,
                    salt: 9,
                    hurt_copy
                },
                "bit {bit}"
            );
        }
        assert_eq!(parse_header(&good[..20]), HeaderBlock::Lost);
    }
}
