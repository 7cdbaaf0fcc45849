//! Somebody who may write into the share swaps symlinks to a directory outside into the paths that the server works on.
//!
//! Invariant: whatever is swapped in and when, nothing outside changes and nothing of it comes into the share. Counted are
//! the swaps that succeeded (each a rename or exchange that puts a symlink where an entry was, or the entry back) and the
//! changes that the server answered, made or failed, and nothing else; together they are at least [`OPERATIONS_MIN`].

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pinnace_sync::chunk::content_of;
use pinnace_sync::wire::{FrameKind, read_frame};
use rustix::fs::{Mode, OFlags, RenameFlags, XattrFlags, renameat_with};

use crate::hand::{
    Client, bytes, dir, exchange, facts, file, link, meta, mkdir, patch, remove, rename,
};
use crate::pair::Pair;

const OPERATIONS_MIN: u64 = 200_000;
/// Packs between two answers.
const ROUND: u64 = 20;

/// Everything that tells whether the canary was touched, its attributes and inodes among it.
fn seen(at: &Path) -> Vec<String> {
    let mut seen = vec![format!("{:?}", crate::tree::read(at))];
    for path in [at.to_owned(), at.join("f"), at.join("large"), at.join("e")] {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let mut names = [0; 256];
        let count = rustix::fs::lgetxattr(&path, "user.c", &mut names[..]).unwrap();
        seen.push(format!(
            "{} {} {:?} {:?}",
            meta.ino(),
            meta.nlink(),
            (meta.ctime(), meta.ctime_nsec()),
            &names[..count]
        ));
    }
    seen
}

fn noise(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Fills a directory: what the server works on, and outside what is not to be touched.
fn fill(at: &Path, seed: u8) {
    std::fs::create_dir_all(at.join("e")).unwrap();
    std::fs::write(at.join("f"), [seed]).unwrap();
    std::fs::write(at.join("e/g"), [seed]).unwrap();
    std::fs::write(at.join("large"), noise(seed)).unwrap();
    symlink("f", at.join("l")).unwrap();
}

/// A place by a held directory: by its path, whoever swaps would follow what another swapped in.
type At<'a> = (&'a OwnedFd, &'a str);

fn open(dir: &Path) -> OwnedFd {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).unwrap()
}

/// Swaps two places, over and over.
fn swap(a: At<'_>, b: At<'_>, is_over: &AtomicBool, swaps: &AtomicU64) {
    while !is_over.load(Ordering::Relaxed) {
        if renameat_with(a.0, a.1, b.0, b.1, RenameFlags::EXCHANGE).is_ok() {
            swaps.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Puts a symlink where an entry is and the entry back, over and over, by renames between which nothing is there.
fn flip(at: At<'_>, aside: At<'_>, is_over: &AtomicBool, swaps: &AtomicU64) {
    let none = RenameFlags::NOREPLACE;
    while !is_over.load(Ordering::Relaxed) {
        let kept = (aside.0, "kept");
        for (from, to) in [(at, kept), (aside, at), (at, aside), (kept, at)] {
            // The symlink is in its place, or the entry is again.
            if renameat_with(from.0, from.1, to.0, to.1, none).is_ok()
                && to.0.as_raw_fd() == at.0.as_raw_fd()
            {
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Changes of every kind in a directory that is swapped, each a pack of its own.
fn changes(large: [u8; 32]) -> Vec<Vec<u8>> {
    let (d, e) = (dir(b"d"), dir(b"d/e"));
    let attrs = [bytes(b"user.c"), bytes(b"overwritten")].concat();
    let plain = facts();
    let with_attrs = [&plain[..plain.len() - 1], &bytes(&attrs)].concat();
    let dressed = [&[5][..], &[0], &bytes(b"f"), &[1], &with_attrs].concat();
    let linked = [&[3][..], &[0], &bytes(b"l"), &plain, &bytes(b"f")].concat();
    // What the base has, as it is: the id of the new content is that of the old one.
    let mut copied = patch(0, b"copy", b"d/large", large, &[1, 0, 0, 1]);
    let id = copied.len() - 4 - 32 - bytes(b"d/large").len() - 32;
    copied[id..id + 32].copy_from_slice(&large);
    [
        [&d[..], &file(0, b"new")].concat(),
        [&d[..], &file(0, b"f")].concat(),
        [&e[..], &file(0, b"g")].concat(),
        [&d[..], &meta(0, b"f", 1)].concat(),
        [&d[..], &meta(0, b"e", 2)].concat(),
        [&d[..], &meta(0, b"", 2)].concat(),
        [&d[..], &meta(0, b"l", 3)].concat(),
        [&d[..], &dressed].concat(),
        [&d[..], &linked].concat(),
        [&d[..], &link(0, b"again", b"d/f")].concat(),
        [&d[..], &rename(b"d/new", 0, b"newer")].concat(),
        exchange(b"d/f", b"d/newer"),
        [&d[..], &mkdir(0, b"made")].concat(),
        [&d[..], &remove(0, b"newer")].concat(),
        [&e[..], &remove(0, b"g")].concat(),
        [&d[..], &copied].concat(),
    ]
    .into()
}

#[test]
fn nothing_swapped_in_leads_out_of_the_share() {
    let pair = Pair::new();
    let canary = pair.folder.path().join("canary");
    fill(&pair.source().join("d"), 1);
    fill(&canary, 2);
    for path in [
        canary.clone(),
        canary.join("f"),
        canary.join("large"),
        canary.join("e"),
    ] {
        rustix::fs::lsetxattr(&path, "user.c", b"canary", XattrFlags::empty()).unwrap();
    }
    pair.once();
    let before = seen(&canary);
    // Beside the share and on its file system lie what is swapped in.
    let aside = pair.folder.path().join("data/aside");
    std::fs::create_dir(&aside).unwrap();
    let (share, d) = (open(&pair.share()), open(&pair.share().join("d")));
    for (name, target) in [
        ("d", canary.clone()),
        ("f", canary.join("f")),
        ("e", canary.join("e")),
    ] {
        symlink(target, aside.join(name)).unwrap();
    }
    symlink(canary.join("large"), aside.join("large")).unwrap();
    let held = open(&aside);
    let (is_over, swaps, answered) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (share, d, held) = (&share, &d, &held);
        let (is_over, swaps) = (&is_over, &swaps);
        for name in ["e", "large"] {
            scope.spawn(move || swap((d, name), (held, name), is_over, swaps));
        }
        scope.spawn(move || swap((share, "d"), (held, "d"), is_over, swaps));
        scope.spawn(move || flip((d, "f"), (held, "f"), is_over, swaps));
        scope.spawn(|| {
            work(&pair, swaps, &answered);
            is_over.store(true, Ordering::Relaxed);
        });
    });
    let (swaps, answered) = (swaps.into_inner(), answered.into_inner());
    assert!(swaps + answered >= OPERATIONS_MIN, "{swaps} and {answered}");
    assert_eq!(
        seen(&canary),
        before,
        "after {swaps} swaps and {answered} changes"
    );
    // An honest client puts the share right, and nothing of the canary is in it or was kept.
    std::fs::remove_dir_all(&aside).unwrap();
    let mut pair = pair;
    pair.restart();
    pair.once();
    pair.assert_equal();
    let secret = noise(2);
    assert!(!holds(&pair.folder.path().join("data"), &secret));
    assert_eq!(seen(&canary), before);
}

/// Whether a file in a tree has this content.
fn holds(at: &Path, content: &[u8]) -> bool {
    std::fs::read_dir(at).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        (meta.is_dir() && holds(&path, content))
            || (meta.is_file() && std::fs::read(&path).unwrap() == content)
    })
}

/// Sends changes until there were enough operations.
fn work(pair: &Pair, swaps: &AtomicU64, answered: &AtomicU64) {
    // The content of the canary's file too: a base that was followed would make it.
    let ids = [1, 2].map(|seed| content_of(&noise(seed)).0.0);
    let changes = ids.map(changes).concat();
    let mut client = Client::greeted(pair);
    let (mut made, mut next) = (0u64, changes.iter().cycle());
    while swaps.load(Ordering::Relaxed) + answered.load(Ordering::Relaxed) < OPERATIONS_MIN
        || answered.load(Ordering::Relaxed) < OPERATIONS_MIN / 20
    {
        for _ in 0..ROUND {
            let changes = next.next().unwrap();
            client.pack(1, changes, b"");
        }
        made += wait(&mut client);
        answered.fetch_add(ROUND, Ordering::Relaxed);
    }
    client.end();
    // Where everything fails nothing was tried.
    assert!(made > 1000, "{made} changes were made");
}

/// Waits until everything is answered. Returns how many of a round were made.
fn wait(client: &mut Client) -> u64 {
    let (mut failed, mut body) = (0, Vec::new());
    loop {
        match read_frame(&mut client.stream, &mut body).unwrap() {
            FrameKind::Failed => failed += 1,
            FrameKind::Committed => {
                let seq = u64::from_le_bytes(body[..].try_into().unwrap());
                if seq + 1 == client.next {
                    return ROUND - failed;
                }
            }
            kind => panic!("{kind:?}: {}", String::from_utf8_lossy(&body)),
        }
    }
}
