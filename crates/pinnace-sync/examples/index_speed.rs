//! What an index costs: `index_speed [ENTRIES] [LOADS]` builds one in directories of 1,000 entries and prints how long
//! building, appending, a snapshot, loading and the digest take, and the memory of an entry.

#![allow(
    clippy::print_stdout,
    reason = "the lines it prints are what it is for"
)]

use std::error::Error;
use std::time::Instant;

use pinnace_sync::chunk::WHOLE_BYTES_MAX;
use pinnace_sync::index::{Change, Index, Marks, Removals, Row, Store};
use pinnace_sync::meta::{ContentId, Fingerprint, Kind, Meta, Stamp};

/// Entries of a directory.
const WIDTH: usize = 1_000;
/// One file in so many is in chunks.
const LARGE_EVERY: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |usual: usize| arguments.next().map_or(Ok(usual), |word| word.parse());
    let (entries, loads) = (number(1_000_000)?, number(3)?);
    let folder = std::env::temp_dir().join(format!("pinnace-index-speed-{}", std::process::id()));
    let measured = measure(entries, loads, &folder);
    std::fs::remove_dir_all(&folder)?;
    measured
}

fn measure(entries: usize, loads: usize, folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let (mut store, _) = Store::open(folder)?;
    let (index, changes) = timed("build", || build(entries));
    let mut index = index;
    report_memory("built", &index);
    timed("append, 256 changes at a time", || {
        changes.chunks(256).try_for_each(|some| store.append(some))
    })?;
    drop(store);
    let (mut store, loaded) = timed("load from the log", || Store::open(folder))?;
    let digest = timed("digest", || index.digest());
    if loaded.index.digest() != digest {
        return Err("the log gave another tree".into());
    }
    drop(loaded);
    timed("checkpoint", || {
        store.checkpoint(&mut index, &Marks::default(), &Removals::new())
    })?;
    drop(store);
    for _ in 0..loads {
        let (_, loaded) = timed("load from the snapshot", || Store::open(folder))?;
        report_memory("loaded", &loaded.index);
    }
    Ok(())
}

fn build(entries: usize) -> (Index, Vec<Change>) {
    let mut index = Index::new();
    let mut changes = Vec::new();
    let mut parent = Index::ROOT;
    for number in 0..entries {
        let is_directory = number % WIDTH == 0;
        let (name, dir) = if is_directory {
            (format!("directory-{}", number / WIDTH), Index::ROOT)
        } else {
            (format!("file-{number}.txt"), parent)
        };
        let row = row(number as u64, is_directory);
        let id = index.insert(dir, name.as_bytes(), row);
        changes.push(Change::Put {
            id,
            parent: dir,
            name: name.as_bytes().into(),
            row,
        });
        if is_directory {
            parent = id;
        }
    }
    (index, changes)
}

fn row(number: u64, is_directory: bool) -> Row {
    let stamp = Stamp {
        secs: 1_700_000_000,
        nanos: number as u32 % 1_000_000_000,
    };
    let is_large = number.is_multiple_of(LARGE_EVERY as u64);
    Row {
        meta: Meta {
            kind: if is_directory {
                Kind::Directory
            } else {
                Kind::File
            },
            mode: 0o644,
            mtime: stamp,
            size: if is_large { WHOLE_BYTES_MAX } else { 4096 },
            ..Row::DIRECTORY.meta
        },
        print: Fingerprint {
            inode: number + 12,
            ctime: stamp,
        },
        content: ContentId(*blake3::hash(&number.to_le_bytes()).as_bytes()),
        seq: number,
        ..Row::DIRECTORY
    }
}

fn report_memory(what: &str, index: &Index) {
    let bytes = index.memory_bytes();
    println!(
        "{what}: {} entries, {:.1} bytes each",
        index.len(),
        bytes as f64 / index.len().max(1) as f64
    );
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    println!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    done
}
