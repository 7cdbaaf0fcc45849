//! The traps that mirrors fall into, and where each is tested. What stands here goes through both ends.
//!
//! | trap | | tested by |
//! |---|---|---|
//! | 1 | files in a directory before it is watched | `directories_are_filled_before_they_are_watched` |
//! | 2 | a directory deleted and made again | `a_directory_made_again_is_watched_again` |
//! | 3 | a directory that wanders while it is written in | `a_directory_wanders_while_it_is_written_in`, `watch::proofs::stories` |
//! | 4 | two who rename at once | `watch::proofs::stories` |
//! | 5 | moves into the tree and out of it | `what_comes_from_outside_and_goes_there` |
//! | 6 | chains of renames, exchanges | `names_go_round` |
//! | 7 | overflow of the queue | `storm` |
//! | 8 | the limit of watches | the program's `mirror_limits`, its words in `watch::proofs::limits` |
//! | 9 | a file that changes while it is read | `a_file_never_stands_still` |
//! | 10 | a file that stays open | `a_file_that_is_never_closed_arrives` |
//! | 11 | a change that no event tells of | `a_change_without_an_event_is_found_by_a_deep_look`, a mapping in `clocks` |
//! | 12 | two writes within a tick | `two_writes_within_a_tick` |
//! | 13 | another content, the same times | `other_content_with_the_times_of_the_old` |
//! | 14 | clocks | `clocks`; times of the two hosts are not compared |
//! | 15 | a source that is not what it was | `safety`, the program's `mirror_days` |
//! | 16 | a directory that cannot be read | the program's `mirror_days` |
//! | 17 | much is deleted | `safety`, `client::guard` |
//! | 18 | others' files in a directory that goes | `what_others_put_into_a_directory_is_kept` |
//! | 19 | a crash before a rename | the program's `mirror_kill` |
//! | 20 | power cuts of either end | `power`; that a sync comes before the word of it, `durability` |
//! | 21 | the share's file is not what is known of it | `a_base_that_somebody_changed_is_not_built_upon`, `first` |
//! | 22 to 25 | links, names, lengths, bombs of a peer | `races`, `hostile` |
//! | 26 | names that differ in case or form only | `histories` |
//! | 27 | another kind of entry | `entries_change_their_kind` |
//! | 28 | files with several names | `files_with_several_names`, `a_name_that_was_written_through_goes_at_once` |
//! | 29 | times of directories, directories nobody may write in | `directories_keep_their_times_and_modes` |
//! | 30, 31 | a full disk, two clients | the program's `mirror_days` |
//! | 32 | a share inside its source | `what_holds_the_share_is_no_source` |
//! | 33 | another way of cutting | `chunk` |
//! | 34, 35 | zeros, periods, holes | `zeros_and_periods_are_quick`, `a_hole_stays_a_hole` |

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, RenameFlags, XattrFlags, renameat_with, setxattr};

use pinnace_sync::client::Settings;

use crate::pair::{Live, Pair};
use crate::story::noise;

/// A pair that mirrors live.
fn live() -> (Pair, Live) {
    let pair = Pair::new();
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    (pair, live)
}

/// Everything that has happened is in the share.
#[track_caller]
fn arrives(pair: &Pair) {
    pair.wait();
    pair.assert_equal();
}

#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::yield_now();
    }
}

fn set_mtime(at: &Path, time: SystemTime) {
    let file = fs::File::open(at).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn directories_are_filled_before_they_are_watched() {
    let (pair, _live) = live();
    for number in 0..500 {
        let dir = pair.source().join(format!("{number}/b/c/d"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("f"), number.to_string()).unwrap();
    }
    arrives(&pair);
}

#[test]
fn a_directory_made_again_is_watched_again() {
    let (pair, _live) = live();
    let dir = pair.source().join("d");
    for round in 0..100 {
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("early"), round.to_string()).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
    fs::create_dir(&dir).unwrap();
    arrives(&pair);
    fs::write(dir.join("late"), "late").unwrap();
    arrives(&pair);
}

#[test]
fn a_directory_wanders_while_it_is_written_in() {
    let (pair, _live) = live();
    let at = |name: &str| pair.source().join(name);
    fs::create_dir(at("a")).unwrap();
    for round in 0..100 {
        fs::write(at("a/f"), round.to_string()).unwrap();
        fs::create_dir(at("a").join(format!("new{round}"))).unwrap();
        fs::rename(at("a"), at("b")).unwrap();
        fs::write(at("b").join(format!("new{round}/g")), round.to_string()).unwrap();
        fs::rename(at("b"), at("a")).unwrap();
        if round % 10 == 9 {
            arrives(&pair);
        }
    }
}

#[test]
fn what_comes_from_outside_and_goes_there() {
    let (pair, _live) = live();
    let (inside, outside) = (pair.source(), pair.folder.path().join("outside"));
    fs::create_dir_all(outside.join("d/e")).unwrap();
    fs::write(outside.join("d/e/f"), "f").unwrap();
    fs::write(outside.join("g"), "g").unwrap();
    for _ in 0..20 {
        for name in ["d", "g"] {
            fs::rename(outside.join(name), inside.join(name)).unwrap();
        }
        arrives(&pair);
        fs::write(inside.join("d/e/f"), "other").unwrap();
        arrives(&pair);
        for name in ["d", "g"] {
            fs::rename(inside.join(name), outside.join(name)).unwrap();
        }
        // What happens out there is nobody's business.
        fs::write(outside.join("d/e/f"), "f").unwrap();
        arrives(&pair);
        assert!(!pair.share().join("d").exists());
    }
}

#[test]
fn names_go_round() {
    let (pair, _live) = live();
    let at = |name: &str| pair.source().join(name);
    for name in ["a", "b", "c"] {
        fs::write(at(name), name).unwrap();
        fs::create_dir(at(&format!("d{name}"))).unwrap();
        fs::write(at(&format!("d{name}/{name}")), name).unwrap();
    }
    arrives(&pair);
    for _ in 0..30 {
        for dir in ["", "d"] {
            let name = |name: &str| at(&format!("{dir}{name}"));
            for (from, to) in [("a", "x"), ("c", "a"), ("b", "c"), ("x", "b")] {
                fs::rename(name(from), name(to)).unwrap();
            }
        }
        renameat_with(CWD, at("a"), CWD, at("dc"), RenameFlags::EXCHANGE).unwrap();
        renameat_with(CWD, at("da"), CWD, at("db"), RenameFlags::EXCHANGE).unwrap();
        arrives(&pair);
        renameat_with(CWD, at("a"), CWD, at("dc"), RenameFlags::EXCHANGE).unwrap();
    }
    arrives(&pair);
}

/// A write is told of the name it went through, which is gone when it is read of.
#[test]
fn a_name_that_was_written_through_goes_at_once() {
    let (pair, _live) = live();
    let at = |name: String| pair.source().join(name);
    for round in 0..60 {
        let (old, new) = (at(format!("old{round}")), at(format!("new{round}")));
        if round % 3 > 0 {
            fs::write(&old, noise(round, 70_000)).unwrap();
        }
        if round % 3 > 1 {
            arrives(&pair);
        }
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(&old)
            .unwrap();
        fs::hard_link(&old, &new).unwrap();
        file.write_all(&noise(round, 1_000)).unwrap();
        match round % 2 {
            0 => fs::remove_file(&old).unwrap(),
            _ => fs::rename(at("over".to_owned()), &old).unwrap_or_default(),
        }
        fs::write(at("over".to_owned()), round.to_string()).unwrap();
        if round % 5 == 4 {
            arrives(&pair);
        }
    }
    arrives(&pair);
}

#[test]
fn a_file_never_stands_still() {
    let (pair, _live) = live();
    let at = pair.source().join("f");
    let file = fs::File::create(&at).unwrap();
    let began = Instant::now();
    for round in 0u64.. {
        if began.elapsed() > Duration::from_secs(2) {
            break;
        }
        file.write_all_at(&noise(round, 300_000), round % 7 * 1_000)
            .unwrap();
        file.set_len(300_000 + round % 5 * 1_000).unwrap();
    }
    drop(file);
    arrives(&pair);
}

#[test]
fn a_file_that_is_never_closed_arrives() {
    let (pair, _live) = live();
    let mut file = fs::File::create(pair.source().join("log")).unwrap();
    for round in 0..10 {
        writeln!(file, "line {round}").unwrap();
        let bytes = file.stream_position().unwrap();
        let copy = pair.share().join("log");
        wait_until(|| fs::metadata(&copy).is_ok_and(|meta| meta.len() == bytes));
    }
    arrives(&pair);
}

#[test]
fn a_change_without_an_event_is_found_by_a_deep_look() {
    let pair = Pair::new();
    let files = [("small", 100), ("medium", 300_000), ("large", 3_000_000)];
    let (inside, outside) = (pair.source(), pair.folder.path());
    for (name, bytes) in files {
        fs::write(inside.join(name), noise(1, bytes)).unwrap();
        fs::hard_link(inside.join(name), outside.join(name)).unwrap();
    }
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    // Through a name outside the tree, as through a mapping, nothing in it is told.
    for (name, bytes) in files {
        fs::write(outside.join(name), noise(2, bytes)).unwrap();
    }
    pair.shares.wait("s").unwrap();
    for (name, bytes) in files {
        let copy = fs::read(pair.share().join(name)).unwrap();
        assert_eq!(copy, noise(1, bytes), "{name}");
    }
    pair.shares.verify("s", true).unwrap();
    arrives(&pair);
}

#[test]
fn two_writes_within_a_tick() {
    let pair = Pair::new();
    let at = pair.source().join("f");
    for round in 0..100 {
        fs::write(&at, format!("{round:03} first")).unwrap();
        pair.once();
        fs::write(&at, format!("{round:03} later")).unwrap();
        pair.once();
        pair.assert_equal();
    }
}

#[test]
fn other_content_with_the_times_of_the_old() {
    let pair = Pair::new();
    let names = ["small", "large"].map(|name| pair.source().join(name));
    let sizes = [100, 2_000_000];
    for round in 0..5 {
        for (at, bytes) in names.iter().zip(sizes) {
            let old = fs::metadata(at).ok().map(|meta| meta.modified().unwrap());
            fs::write(at, noise(round, bytes)).unwrap();
            if let Some(old) = old {
                set_mtime(at, old);
            }
        }
        pair.once();
        pair.assert_equal();
    }
}

#[test]
fn what_others_put_into_a_directory_is_kept() {
    let pair = Pair::new();
    fs::create_dir(pair.source().join("d")).unwrap();
    fs::write(pair.source().join("d/own"), "own").unwrap();
    pair.once();
    fs::write(pair.share().join("d/foreign"), "of somebody else").unwrap();
    fs::remove_dir_all(pair.source().join("d")).unwrap();
    pair.once();
    pair.assert_equal();
    let things = pair.folder.path().join("data/sync/s/trash/things");
    let kept = fs::read_dir(things).unwrap().any(|thing| {
        let foreign = thing.unwrap().path().join("foreign");
        fs::read_to_string(foreign).is_ok_and(|text| text == "of somebody else")
    });
    assert!(kept, "it is not in the trash");
}

#[test]
fn a_base_that_somebody_changed_is_not_built_upon() {
    let pair = Pair::new();
    for (name, bytes) in [("medium", 500_000), ("large", 4_000_000)] {
        let (at, copy) = (pair.source().join(name), pair.share().join(name));
        let content = noise(1, bytes);
        fs::write(&at, &content).unwrap();
        pair.once();
        let old = fs::metadata(&copy).unwrap().modified().unwrap();
        let file = fs::File::options().write(true).open(&copy).unwrap();
        file.write_all_at(b"by hand", bytes as u64 / 2).unwrap();
        file.set_modified(old).unwrap();
        fs::write(&at, [b"x", &content[..]].concat()).unwrap();
        pair.once();
        pair.assert_equal();
    }
}

#[test]
fn entries_change_their_kind() {
    let (pair, _live) = live();
    let at = pair.source().join("x");
    let remove = || {
        if at.is_dir() && !at.is_symlink() {
            fs::remove_dir_all(&at).unwrap();
        } else if at.is_symlink() || at.exists() {
            fs::remove_file(&at).unwrap();
        }
    };
    for round in 0..90 {
        remove();
        match round * 7 % 3 {
            0 => fs::write(&at, round.to_string()).unwrap(),
            1 => {
                fs::create_dir(&at).unwrap();
                fs::write(at.join("in"), round.to_string()).unwrap();
            }
            _ => symlink(format!("to{round}"), &at).unwrap(),
        }
        // Not after each, so that some flips are seen as one.
        if round % 4 == 3 {
            arrives(&pair);
        }
    }
    arrives(&pair);
}

#[test]
fn files_with_several_names() {
    let (pair, _live) = live();
    let at = |name: &str| pair.source().join(name);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("a"), "one").unwrap();
    fs::hard_link(at("a"), at("b")).unwrap();
    fs::hard_link(at("a"), at("d/c")).unwrap();
    arrives(&pair);
    for round in 0..10 {
        // In place: all names have it.
        fs::write(at("b"), format!("both {round}")).unwrap();
        arrives(&pair);
        // Replaced: this name goes its own way …
        fs::write(at("new"), format!("own {round}")).unwrap();
        fs::rename(at("new"), at("b")).unwrap();
        arrives(&pair);
        // … and comes back.
        fs::remove_file(at("b")).unwrap();
        fs::hard_link(at("d/c"), at("b")).unwrap();
        arrives(&pair);
    }
    let inode = |name: &str| fs::metadata(pair.share().join(name)).unwrap().ino();
    assert_eq!((inode("a"), inode("a")), (inode("b"), inode("d/c")));
}

#[test]
fn directories_keep_their_times_and_modes() {
    let pair = Pair::new();
    let dir = pair.source().join("d/e");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("f"), "f").unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let mode = |mode| fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
    set_mtime(&dir, old);
    mode(0o555);
    pair.once();
    pair.assert_equal();
    // A change inside, with the time put back. Run by root the mode stops nobody; run by others it does.
    mode(0o755);
    fs::write(dir.join("f"), "other").unwrap();
    fs::write(dir.join("g"), "g").unwrap();
    set_mtime(&dir, old);
    mode(0o555);
    pair.once();
    pair.assert_equal();
    let copy = fs::metadata(pair.share().join("d/e")).unwrap();
    assert_eq!(
        (copy.modified().unwrap(), copy.mode() & 0o777),
        (old, 0o555)
    );
    mode(0o755);
    fs::set_permissions(pair.share().join("d/e"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn attributes_and_access_lists_arrive_and_go() {
    let pair = Pair::new();
    let (file, dir) = (pair.source().join("f"), pair.source().join("d"));
    fs::write(&file, "f").unwrap();
    fs::create_dir(&dir).unwrap();
    // Version 2; then tag, permissions and id: owner, user 1234, group, mask, others.
    let mut list = vec![2, 0, 0, 0];
    for (tag, permissions, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 6, 1234),
        (4, 4, u32::MAX),
        (16, 6, u32::MAX),
        (32, 4, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let none = XattrFlags::empty();
    setxattr(&file, "user.colour", b"red", none).unwrap();
    setxattr(&dir, "user.colour", b"\0\xff", none).unwrap();
    setxattr(&file, "system.posix_acl_access", &list, none).unwrap();
    let check = |at: &str, name: &str, expected: Option<&[u8]>| {
        let mut bytes = Vec::with_capacity(1000);
        let at = pair.share().join(at);
        let got = rustix::fs::getxattr(at, name, rustix::buffer::spare_capacity(&mut bytes));
        assert_eq!(got.ok().map(|_| bytes.as_slice()), expected, "{name}");
    };
    pair.once();
    pair.assert_equal();
    check("f", "user.colour", Some(b"red"));
    check("d", "user.colour", Some(b"\0\xff"));
    check("f", "system.posix_acl_access", Some(&list));
    setxattr(&file, "user.colour", b"blue", none).unwrap();
    rustix::fs::removexattr(&dir, "user.colour").unwrap();
    rustix::fs::removexattr(&file, "system.posix_acl_access").unwrap();
    pair.once();
    pair.assert_equal();
    check("f", "user.colour", Some(b"blue"));
    check("d", "user.colour", None);
    check("f", "system.posix_acl_access", None);
}

#[test]
fn what_holds_the_share_is_no_source() {
    let pair = Pair::new();
    fs::write(pair.source().join("f"), "f").unwrap();
    pair.once();
    let data = pair.folder.path().join("data");
    let state = pair.folder.path().join("other state");
    for (root, word) in [
        (pair.folder.path().to_owned(), "inside the source"),
        (data.clone(), "inside the source"),
        (pair.share(), "inside the source"),
        (data.join("sync"), "inside the server's data"),
    ] {
        let settings = Settings {
            root,
            state: state.clone(),
            ..pair.settings()
        };
        let error = pair.try_once(&settings).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    pair.assert_equal();
}

#[test]
fn zeros_and_periods_are_quick() {
    let pair = Pair::new();
    let at = |name: &str| pair.source().join(name);
    let period = noise(1, 1_000).repeat(20_000);
    fs::write(at("zeros"), vec![0; 20_000_000]).unwrap();
    fs::write(at("periods"), &period).unwrap();
    let began = Instant::now();
    pair.once();
    pair.assert_equal();
    fs::write(
        at("zeros"),
        [vec![0; 10_000_000], vec![1], vec![0; 10_000_000]].concat(),
    )
    .unwrap();
    let (_, sent) = pair.once();
    assert!(sent < 1_000_000, "{sent} bytes for one byte");
    // Where nothing in the content says where to cut, cuts do not follow a shift: it is sent anew, but as quickly as anything.
    fs::write(at("periods"), [b"x", &period[..]].concat()).unwrap();
    pair.once();
    pair.assert_equal();
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_hole_stays_a_hole() {
    const BYTES: u64 = 10 << 30;
    let pair = Pair::new();
    let (at, copy) = (pair.source().join("disk"), pair.share().join("disk"));
    let mut file = fs::File::create(&at).unwrap();
    file.set_len(BYTES).unwrap();
    file.write_all_at(b"middle", BYTES / 2).unwrap();
    let began = Instant::now();
    let (_, sent) = pair.once();
    assert!(sent < 3_000_000, "{sent} bytes");
    let meta = fs::metadata(&copy).unwrap();
    assert_eq!(meta.len(), BYTES);
    assert!(meta.blocks() * 512 < 4 << 20, "{} blocks", meta.blocks());
    // Another change, far from the first.
    file.seek(SeekFrom::Start(BYTES - 4)).unwrap();
    file.write_all(b"end!").unwrap();
    pair.once();
    let copy = fs::File::open(&copy).unwrap();
    for (place, text) in [
        (BYTES / 2, &b"middle"[..]),
        (BYTES - 4, b"end!"),
        (5, b"\0\0"),
    ] {
        let mut bytes = vec![1; text.len()];
        copy.read_exact_at(&mut bytes, place).unwrap();
        assert_eq!(bytes, text);
    }
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}
