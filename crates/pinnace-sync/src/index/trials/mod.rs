//! The index as a whole: against a model, through crashes and damage, and what its operations promise.

mod damage;
mod model;
mod store;
mod tree;

use super::*;

/// A row of which every field follows from a number.
fn row(kind: Kind, seed: u64) -> Row {
    let stamp = |add: u64| Stamp {
        secs: (seed + add).cast_signed() - 3,
        nanos: (seed + add) as u32 % 1_000_000_000,
    };
    Row {
        meta: Meta {
            kind,
            mode: seed as u32 % 0o10000,
            uid: seed as u32 % 7,
            gid: seed as u32 % 5,
            mtime: stamp(1),
            size: seed % 4 * (50 << 10),
            attrs: seed % 3,
        },
        print: Fingerprint {
            inode: seed % 8,
            ctime: stamp(2),
        },
        content: ContentId([seed as u8 % 4; 32]),
        seq: seed,
        recipe: None,
        is_linked: seed.is_multiple_of(2),
        is_racy: seed.is_multiple_of(3),
    }
}

fn file(seed: u64) -> Row {
    row(Kind::File, seed)
}

fn directory(seed: u64) -> Row {
    row(Kind::Directory, seed)
}

/// Everything that is there, by path.
fn listing(index: &Index) -> std::collections::BTreeMap<Vec<u8>, Row> {
    index
        .walk()
        .map(|id| (index.path(id), *index.row(id)))
        .collect()
}
