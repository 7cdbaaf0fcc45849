//! The folder of a mirror's index with any bytes in its files: it opens, whatever it has to leave behind, and what it found
//! is there again when it is opened anew, also from a snapshot.
//!
//! The first byte says whether sums are made right, so that what they seal is tried too; the second how the rest is parted
//! into a snapshot and a log. An index that was once large has room for as many again: heads that say so are left out. The snapshot is its head and blocks, the log its head and records, as they are on disk.

#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pinnace_sync::index::{Index, Loaded, Store};

const SNAPSHOT_HEAD: usize = 148;
/// Where a snapshot says how many ids were ever given out, and how many are tried: each takes memory.
const SLOTS_AT: usize = 40;
const SLOTS_MAX: usize = 1 << 16;
const BLOCK_HEAD: usize = 20;
const LOG_HEAD: usize = 32;
const RECORD_HEAD: usize = 8;

/// Makes the sum right that ends a head.
fn seal_head(file: &mut [u8], head: usize) {
    if let Some(head) = file.get_mut(..head) {
        let (sealed, sum) = head.split_at_mut(head.len() - 4);
        sum.copy_from_slice(&crc32c::crc32c(sealed).to_le_bytes());
    }
}

fn number(file: &[u8], at: usize) -> usize {
    let bytes = file[at..at + 4].try_into().expect("four bytes");
    u32::from_le_bytes(bytes) as usize
}

fn seal_snapshot(file: &mut [u8]) {
    seal_head(file, SNAPSHOT_HEAD);
    let mut at = SNAPSHOT_HEAD;
    while at + BLOCK_HEAD <= file.len() {
        let end = file.len().min(at + BLOCK_HEAD + number(file, at + 12));
        let sum = crc32c::crc32c(&file[at..at + 16]);
        let sum = crc32c::crc32c_append(sum, &file[at + BLOCK_HEAD..end]);
        file[at + 16..at + BLOCK_HEAD].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
}

fn seal_log(file: &mut [u8]) {
    seal_head(file, LOG_HEAD);
    let mut at = LOG_HEAD;
    while at + RECORD_HEAD <= file.len() {
        let end = file.len().min(at + RECORD_HEAD + number(file, at));
        let sum = crc32c::crc32c(&file[at..at + 4]);
        let sum = crc32c::crc32c_append(sum, &file[at + RECORD_HEAD..end]);
        file[at + 4..at + RECORD_HEAD].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
}

/// Opens the folder and walks through everything that is in it.
fn open(folder: &Path) -> Option<(Store, Loaded)> {
    let opened = Store::open(folder).ok()?;
    let index = &opened.1.index;
    for node in index.walk() {
        assert_eq!(index.find(&index.path(node)), Some(node));
    }
    Some(opened)
}

/// Everything that was found.
fn found(loaded: &Loaded) -> impl PartialEq + std::fmt::Debug + use<> {
    let rows = |index: &Index| {
        let mut rows: Vec<_> = index
            .walk()
            .map(|node| (node, index.path(node), *index.row(node)))
            .collect();
        rows.sort_by(|a, b| a.1.cmp(&b.1));
        rows
    };
    (
        rows(&loaded.index),
        loaded.marks.clone(),
        loaded.removals.clone(),
    )
}

fuzz_target!(|bytes: &[u8]| {
    let [flags, split, rest @ ..] = bytes else {
        return;
    };
    let (snapshot, log) = rest.split_at(rest.len() * usize::from(*split) / 256);
    let (mut snapshot, mut log) = (snapshot.to_vec(), log.to_vec());
    if flags & 1 == 1 {
        seal_snapshot(&mut snapshot);
        seal_log(&mut log);
    }
    if snapshot.len() >= SNAPSHOT_HEAD && number(&snapshot, SLOTS_AT) > SLOTS_MAX {
        return;
    }
    let folder = std::env::temp_dir().join(format!("pinnace-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    for (name, bytes) in [("snapshot", snapshot), ("log", log)] {
        if !bytes.is_empty() {
            fs::write(folder.join(name), bytes).expect("a file");
        }
    }
    if let Some((_, loaded)) = open(&folder) {
        let before = found(&loaded);
        drop(loaded);
        let (mut store, mut loaded) = open(&folder).expect("it opened before");
        assert_eq!(loaded.was_torn, None);
        assert_eq!(found(&loaded), before, "opened anew it is another");
        let (index, marks) = (&mut loaded.index, &loaded.marks);
        let written = store.checkpoint(index, marks, &loaded.removals);
        written.expect("there is room");
        drop(store);
        let (_, again) = open(&folder).expect("it opened before");
        assert_eq!(found(&again), found(&loaded), "the snapshot is another");
    }
    let _ = fs::remove_dir_all(&folder);
});
