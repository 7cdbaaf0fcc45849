//! Inputs of the mirror's targets: messages, and the files of an index.
//!
//! Left to others: writing them.

use std::fs;

use pinnace_sync::chunk::{Chunk, ChunkId, Recipe, content_of, parts};
use pinnace_sync::fs::Attrs;
use pinnace_sync::index::{Change, Index, Marks, Removals, Row, Store};
use pinnace_sync::wire::{
    Detail, Facts, FrameKind, Op, PackBuilder, Piece, Place, RowFacts, RowsBuilder, Step,
    write_frame, write_parts,
};
use pinnace_sync::{ContentId, Kind, Meta, Stamp};

/// Facts of an entry, with attributes.
fn facts(attrs: &[u8]) -> Facts<'_> {
    Facts {
        mode: 0o644,
        uid: 1000,
        gid: 100,
        mtime: Stamp {
            secs: -1,
            nanos: 999_999_999,
        },
        attrs,
    }
}

/// A pack with every kind of change.
fn pack(level: Option<i32>) -> Vec<u8> {
    let attrs = [6, b'u', b's', b'e', b'r', b'.', b'a', 1, b'x'];
    let facts = facts(&attrs);
    let mut pack = PackBuilder::default();
    let dir = pack.dir(b"");
    let at = |name: &'static [u8]| Place { dir, name };
    let other = pack.dir(b"a/b");
    let inner = pack.push(&Op::Mkdir {
        at: at(b"d"),
        facts,
    });
    let inner = inner.expect("a directory");
    let body = vec![b'x'; 200];
    pack.bodies().extend_from_slice(&body);
    pack.push(&Op::File {
        at: Place {
            dir: inner,
            name: b"f",
        },
        facts,
        content: content_of(&body).0,
        cuts: vec![150, 50],
        body: 0..200,
    });
    let (target, content) = (&b"t"[..], ContentId([1; 32]));
    pack.push(&Op::Symlink {
        at: at(b"s"),
        facts,
        target,
    });
    pack.push(&Op::Link {
        at: at(b"l"),
        target,
    });
    pack.push(&Op::Meta {
        at: Place {
            dir: other,
            name: b"",
        },
        kind: Kind::Directory,
        facts,
    });
    pack.push(&Op::Rename {
        from: b"a",
        at: at(b"b"),
    });
    pack.push(&Op::Exchange { a: b"a", b: b"b" });
    pack.push(&Op::Remove { at: at(b"r") });
    pack.bodies().extend_from_slice(b"new");
    pack.push(&Op::Patch {
        at: at(b"p"),
        facts,
        content,
        base: b"a/b",
        base_content: content,
        steps: STEPS.to_vec(),
        body: 200..203,
    });
    pack.push(&Op::Streamed {
        at: at(b"z"),
        facts,
        content,
        stream: 300,
    });
    pack.finish(7, level).concat()
}

const STEPS: [Step; 3] = [
    Step::Copy { first: 1, count: 2 },
    Step::New(3),
    Step::Hole(70_000),
];

const PARTED: [Step; 3] = [
    Step::Part {
        from: 1 << 33,
        bytes: 700,
    },
    Step::NewPart(100),
    Step::Parted,
];

/// Messages of a mirror's session, each behind the letter that chooses it.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    let mut frames = vec![b'f'];
    for (kind, body) in [
        (FrameKind::Ping, &b""[..]),
        (FrameKind::Failed, b"12345678x"),
    ] {
        write_frame(&mut frames, kind, &[body]).expect("room");
    }
    let piece = |begin, level| {
        let new = [b'n'; 300];
        let piece = Piece {
            stream: 5,
            begin,
            steps: vec![STEPS[0], Step::New(200), PARTED[0], PARTED[1], PARTED[2]],
            bytes: new[..].into(),
        };
        let (head, bytes) = piece.parts(level);
        [b"l", &head[..], &bytes].concat()
    };
    let detail = |begin| {
        let detail = Detail {
            stream: 5,
            begin,
            ranges: vec![(0, 2), (9, 1)],
        };
        [b"d", &detail.write()[..]].concat()
    };
    let parts: Vec<_> = parts(&[b'n'; 9_000]).collect();
    let mut rows = RowsBuilder::default();
    let facts = RowFacts {
        meta: Meta {
            kind: Kind::File,
            mode: 0o600,
            uid: 1,
            gid: 2,
            mtime: Stamp { secs: 3, nanos: 4 },
            size: 5,
            attrs: 6,
        },
        content: ContentId([7; 32]),
        seq: 8,
    };
    rows.push(b"a/b", Some(&facts));
    rows.push(b"a/c", None);
    let attrs = [6, b'u', b's', b'e', b'r', b'.', b'a', 1, b'x'];
    let attrs = Attrs::decode(&attrs).expect("attributes").encode();
    vec![
        frames,
        [b"p", &pack(None)[..]].concat(),
        [b"p", &pack(Some(1))[..]].concat(),
        piece(None, None),
        piece(Some(None), Some(1)),
        piece(Some(Some((b"a/b", ContentId([1; 32])))), None),
        detail(None),
        detail(Some((b"a/b", ContentId([1; 32])))),
        [b"d", &write_parts(5, &parts)[..]].concat(),
        [b"r", &rows.take()[..]].concat(),
        [b"a", &attrs[..]].concat(),
    ]
}

/// A snapshot with entries and removals, and a log with every kind of change behind it.
pub(crate) fn index() -> [Vec<u8>; 3] {
    let folder = std::env::temp_dir().join(format!("pinnace-seeds-{}", std::process::id()));
    let (mut store, loaded) = Store::open(&folder).expect("a new folder");
    let (mut index, mut marks, mut removals) = (loaded.index, Marks::default(), Removals::new());
    let chunk = Chunk {
        bytes: 9,
        id: ChunkId([1; 16]),
    };
    let recipe = Recipe {
        chunks: vec![chunk],
    };
    let recipe = store.add_recipe(&recipe).expect("room");
    let mut file = Row::DIRECTORY;
    (file.meta.kind, file.meta.size, file.recipe) = (Kind::File, 9, Some(recipe));
    let mut changes = Vec::new();
    let mut put = |index: &mut Index, parent, name: &[u8], row| {
        let id = index.insert(parent, name, row);
        changes.push(Change::Put {
            id,
            parent,
            name: name.into(),
            row,
        });
        id
    };
    let d = put(&mut index, Index::ROOT, b"d", Row::DIRECTORY);
    let f = put(&mut index, d, b"f", file);
    let g = put(&mut index, Index::ROOT, b"g", file);
    marks.seq = 9;
    marks.note_removal(&mut removals, 3, (*b"gone").into());
    changes.push(Change::Set { id: g, row: file });
    changes.push(Change::Rename {
        id: g,
        parent: d,
        name: (*b"h").into(),
    });
    changes.push(Change::Exchange { a: f, b: g });
    changes.push(Change::Renew { id: f, seq: 9 });
    changes.push(Change::Remove { id: f, seq: 4 });
    changes.push(Change::Marks(marks.clone()));
    store.append(&changes).expect("room");
    let log = fs::read(folder.join("log")).expect("a log");
    let written = store.checkpoint(&mut index, &marks, &removals);
    written.expect("room");
    store
        .append(&[Change::Remove { id: f, seq: 10 }])
        .expect("room");
    let snapshot = fs::read(folder.join("snapshot")).expect("a snapshot");
    let behind = fs::read(folder.join("log")).expect("a log");
    fs::remove_dir_all(&folder).expect("a folder");
    // Zeros behind a snapshot are not looked at: so many that the two can be parted again.
    let parted = (snapshot.len()..).find_map(|bytes| {
        let is_it = |split: &usize| (bytes + behind.len()) * split / 256 == bytes;
        (0..256).find(is_it).map(|split| (bytes, split as u8))
    });
    let (bytes, split) = parted.expect("it can be parted");
    let mut whole = snapshot.clone();
    whole.resize(bytes, 0);
    whole.extend_from_slice(&behind);
    [
        [&[1, 0][..], &log].concat(),
        [&[1, 255][..], &snapshot].concat(),
        [&[1, split][..], &whole].concat(),
    ]
}
