//! Power cuts, modelled: whatever a file system may lose of what was not synced, it loses.
//!
//! A share is brought to a state of which all is durable, then to a later one of which nothing was synced. The cut takes from
//! the later one: the log of what is known is cut at any byte, files lose their bytes while their inodes say the size and the
//! times that are known of them, names that came are not there, and those that went are back. Recovery must believe none of
//! it, and a client that comes again must make both equal.
//!
//! Left to others: that a sync comes before the word of it (`durability`), damage in the index alone (`index::trials`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pinnace_sync::index::{Change, Store};
use pinnace_sync::meta::{Kind, of_stat};

use crate::pair::Pair;
use crate::story::noise;

/// Bytes of a log before its first record.
const LOG_HEAD_BYTES: usize = 32;

/// What becomes of files that were not synced.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    Nothing,
    /// As long as they should be, and nothing in them: the inode was written, the bytes were not.
    Zeros,
    /// The first half is there, the rest is zeros.
    HalfZeros,
    Empty,
    /// Their names were not written, and what had gone is still there.
    Names,
}

const LOSSES: [Loss; 5] = [
    Loss::Nothing,
    Loss::Zeros,
    Loss::HalfZeros,
    Loss::Empty,
    Loss::Names,
];

/// Sizes of files in packs, in chunks and in pieces.
const SIZES: [(&str, usize); 3] = [("small", 3_000), ("medium", 90_000), ("large", 1_200_000)];

fn first_state(root: &Path) {
    for dir in ["a", "b", "c/in"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (seed, (name, bytes)) in SIZES.into_iter().enumerate() {
        for dir in ["a", "b"] {
            let at = root.join(dir).join(name);
            fs::write(at, noise(seed as u64, bytes)).unwrap();
        }
    }
    fs::write(root.join("c/in/gone"), "gone").unwrap();
    fs::write(root.join("c/kept"), "kept").unwrap();
    symlink("kept", root.join("c/link")).unwrap();
}

/// Changes of every kind.
fn later_state(root: &Path) {
    for (seed, (name, bytes)) in SIZES.into_iter().enumerate() {
        // Written anew as long as it was, and with a byte more in front of it.
        fs::write(root.join("a").join(name), noise(10 + seed as u64, bytes)).unwrap();
        let longer = [b"x", &noise(seed as u64, bytes)[..]].concat();
        fs::write(root.join("b").join(name), longer).unwrap();
        fs::write(root.join(name), noise(20 + seed as u64, bytes)).unwrap();
    }
    fs::remove_file(root.join("c/in/gone")).unwrap();
    fs::rename(root.join("c/in"), root.join("c/moved")).unwrap();
    fs::create_dir_all(root.join("new/er")).unwrap();
    fs::write(root.join("new/er/f"), "f").unwrap();
    fs::hard_link(root.join("c/kept"), root.join("new/kept")).unwrap();
    fs::hard_link(root.join("new/er/f"), root.join("new/g")).unwrap();
    fs::remove_file(root.join("c/link")).unwrap();
    symlink("elsewhere", root.join("c/link")).unwrap();
}

/// A share with a durable state and a later one, whose server is not running any more.
struct Uncertain {
    pair: Pair,
    /// The last durable change, and bytes of the log and of the recipes then.
    durable_seq: u64,
    durable_log: usize,
    durable_recipes: u64,
}

impl Uncertain {
    fn new() -> Self {
        let mut pair = Pair::new();
        first_state(&pair.source());
        // Nothing is really synced: the cut is not real either.
        let durable_seq = pair.once().0.seq;
        let (log, recipes) = (log_of(&pair), recipes_of(&pair));
        let (durable_log, durable_recipes) = (
            fs::metadata(log).unwrap().len() as usize,
            fs::metadata(recipes).unwrap().len(),
        );
        later_state(&pair.source());
        pair.once();
        // The threads of the last session let go of their share.
        while Arc::strong_count(&pair.shares) > 1 {
            std::thread::yield_now();
        }
        pair.restart();
        Self {
            pair,
            durable_seq,
            durable_log,
            durable_recipes,
        }
    }
}

fn index_of(pair: &Pair) -> PathBuf {
    pair.folder.path().join("data/sync/s/index")
}

fn log_of(pair: &Pair) -> PathBuf {
    index_of(pair).join("log")
}

fn recipes_of(pair: &Pair) -> PathBuf {
    index_of(pair).join("recipes.0")
}

/// Where the records of a log end, from a byte on.
fn records(log: &[u8], from: usize) -> Vec<usize> {
    let (mut ends, mut at) = (Vec::new(), LOG_HEAD_BYTES);
    while at < log.len() {
        let length = u32::from_le_bytes(log[at..at + 4].try_into().unwrap());
        at += 8 + length as usize;
        ends.extend((at >= from).then_some(at));
    }
    ends
}

/// Cuts a file; a file system that has its length but not its bytes gives zeros.
fn tear(at: &Path, bytes: u64, is_zeros: bool) {
    let file = fs::File::options().write(true).open(at).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(bytes.min(length)).unwrap();
    if is_zeros {
        file.set_len(length).unwrap();
    }
}

/// Takes a file's bytes away.
fn lose(at: &Path, loss: Loss) {
    let file = fs::File::options().write(true).open(at).unwrap();
    let meta = file.metadata().unwrap();
    let kept = match loss {
        Loss::HalfZeros => meta.len() / 2,
        _ => 0,
    };
    match loss {
        Loss::Nothing | Loss::Names => {}
        Loss::Empty => file.set_len(0).unwrap(),
        Loss::Zeros | Loss::HalfZeros => {
            let zeros = vec![0; (meta.len() - kept) as usize];
            file.write_all_at(&zeros, kept).unwrap();
            file.set_modified(meta.modified().unwrap()).unwrap();
        }
    }
}

/// Takes away what came after the durable state, and brings back what went.
fn lose_names(share: &Path) {
    for name in ["small", "large", "b/medium"] {
        let _ = fs::remove_file(share.join(name));
    }
    let _ = fs::remove_dir_all(share.join("new"));
    let _ = fs::rename(share.join("c/moved"), share.join("c/in"));
    fs::write(share.join("c/in/gone"), "gone").unwrap();
}

/// The cut. What is known by then of files that lost their bytes still fits what their inodes say, as after a cut; here, where
/// losing them changed the times of inodes, what is known is made to fit.
fn cut(
    uncertain: &Uncertain,
    log_bytes: usize,
    (loss, tears_recipes, is_zeros): (Loss, bool, bool),
) {
    let pair = &uncertain.pair;
    tear(&log_of(pair), log_bytes as u64, is_zeros);
    if tears_recipes {
        tear(&recipes_of(pair), uncertain.durable_recipes, is_zeros);
    }
    let (mut store, mut loaded) = Store::open(&index_of(pair)).unwrap();
    let index = &mut loaded.index;
    let durable = uncertain.durable_seq;
    let nodes: Vec<_> = index.walk().collect();
    let files = nodes
        .into_iter()
        .filter(|node| index.row(*node).meta.kind == Kind::File);
    let files: BTreeMap<PathBuf, _> = files
        .map(|node| {
            let path = index.path(node);
            (pair.share().join(String::from_utf8(path).unwrap()), node)
        })
        .collect();
    // Bytes that any durable name stands for were synced.
    let safe: BTreeSet<u64> = files
        .values()
        .map(|node| index.row(*node))
        .filter(|row| row.seq <= durable)
        .map(|row| row.print.inode)
        .collect();
    let mut lost = BTreeSet::new();
    for at in crate::tree::read(&pair.share())
        .keys()
        .map(|at| pair.share().join(at))
    {
        let meta = fs::symlink_metadata(&at).unwrap();
        if meta.is_file() && !safe.contains(&meta.ino()) && lost.insert(meta.ino()) {
            lose(&at, loss);
        }
    }
    let mut changes = Vec::new();
    for (at, node) in &files {
        let mut row = *index.row(*node);
        let Ok(stat) = rustix::fs::lstat(at) else {
            continue;
        };
        let (_, print, _) = of_stat(&stat).unwrap();
        if lost.contains(&print.inode) && row.print.inode == print.inode {
            row.print = print;
            changes.push(Change::Set { id: *node, row });
        }
    }
    (loaded.marks.durable_seq, loaded.marks.boot) = (durable, [7; 16]);
    changes.push(Change::Marks(loaded.marks));
    store.append(&changes).unwrap();
    if loss == Loss::Names {
        lose_names(&pair.share());
    }
}

/// A client comes again, and everything is equal; and that it is, both know.
fn comes_again(uncertain: &mut Uncertain) {
    let pair = &mut uncertain.pair;
    pair.once();
    pair.assert_equal();
    pair.restart();
    let (outcome, _) = pair.once();
    assert_eq!(outcome.changes, 0);
}

#[test]
fn nothing_that_a_cut_left_is_believed() {
    let mut case = 0;
    loop {
        let mut uncertain = Uncertain::new();
        let log = fs::read(log_of(&uncertain.pair)).unwrap();
        let ends = records(&log, uncertain.durable_log);
        let loss = LOSSES[case % LOSSES.len()];
        let Some(end) = ends.get(case / 2) else {
            break;
        };
        // With the last record, or with a part of it; what is missing may be there as zeros.
        let bytes = if case % 2 == 0 {
            *end
        } else {
            end - 1 - case % 8
        };
        let (tears_recipes, is_zeros) = (case % 3 == 0, case % 4 == 3);
        println!(
            "{bytes} of {} bytes of the log, {loss:?}, {tears_recipes}, {is_zeros}",
            log.len()
        );
        cut(&uncertain, bytes, (loss, tears_recipes, is_zeros));
        comes_again(&mut uncertain);
        case += 1;
    }
    assert!(case > 60, "{case} cases");
}

#[test]
fn a_source_that_lost_its_last_bytes_is_read_again() {
    let pair = Pair::new();
    for (seed, (name, bytes)) in SIZES.into_iter().enumerate() {
        fs::write(pair.source().join(name), noise(seed as u64, bytes)).unwrap();
    }
    pair.once();
    // Written in place, and after the cut the old bytes are there again, with the times of the new ones.
    let state = pair.folder.path().join("state/index");
    let (mut store, loaded) = Store::open(&state).unwrap();
    let mut changes = Vec::new();
    for (seed, (name, bytes)) in SIZES.into_iter().enumerate() {
        let at = pair.source().join(name);
        let mtime = fs::metadata(&at).unwrap().modified().unwrap();
        fs::write(&at, noise(100 + seed as u64, bytes)).unwrap();
        let file = fs::File::options().write(true).open(&at).unwrap();
        file.set_modified(mtime).unwrap();
        let node = loaded.index.find(name.as_bytes()).unwrap();
        let mut row = *loaded.index.row(node);
        let stat = rustix::fs::lstat(&at).unwrap();
        (row.print, row.is_racy) = (of_stat(&stat).unwrap().1, false);
        changes.push(Change::Set { id: node, row });
    }
    // While the machine runs nothing could tell.
    store.append(&changes).unwrap();
    assert_eq!(pair.once().0.changes, 0);
    let (mut store, mut loaded) = Store::open(&state).unwrap();
    loaded.marks.boot = [7; 16];
    store.set_marks(&loaded.marks).unwrap();
    pair.once();
    pair.assert_equal();
    assert_eq!(pair.once().0.changes, 0);
}
