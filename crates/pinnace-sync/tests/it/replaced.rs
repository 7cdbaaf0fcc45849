//! Large files that give way to new ones.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pinnace_proto::sync::Durability;
use pinnace_sync::client::Settings;

use crate::pair::Pair;
use crate::story::noise;

const LARGE_BYTES: usize = 5 << 20;

fn stage(pair: &Pair) -> PathBuf {
    pair.folder.path().join("data/sync/s/stage")
}

/// Waits until nothing is in the stage any more.
#[track_caller]
fn wait_for_room(pair: &Pair) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::read_dir(stage(pair)).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "the old file is kept");
        std::thread::yield_now();
    }
}

#[test]
fn the_old_file_is_kept_until_the_new_one_is_synced_whatever_the_durability() {
    for durability in [Durability::None, Durability::Batch, Durability::Strict] {
        let pair = Pair::new();
        let settings = Settings {
            durability,
            ..pair.settings()
        };
        let at = pair.source().join("large");
        for round in 0..3 {
            fs::write(&at, noise(round, LARGE_BYTES)).unwrap();
            let (outcome, _) = pair.try_once(&settings).unwrap();
            pair.assert_equal();
            wait_for_room(&pair);
            // The old file went after a sync.
            let info = pair.shares.info("s").unwrap();
            assert!(round == 0 || info.durable >= outcome.seq, "{info:?}");
        }
    }
}

#[test]
fn a_large_file_with_several_names_gives_way_under_one() {
    let pair = Pair::new();
    let (a, b) = (pair.source().join("a"), pair.source().join("b"));
    fs::write(&a, noise(1, LARGE_BYTES)).unwrap();
    fs::hard_link(&a, &b).unwrap();
    pair.once();
    fs::remove_file(&a).unwrap();
    fs::write(&a, noise(2, LARGE_BYTES)).unwrap();
    pair.once();
    pair.assert_equal();
    assert_eq!(fs::metadata(pair.share().join("b")).unwrap().nlink(), 1);
    assert_eq!(pair.once().0.changes, 0);
}

#[test]
fn what_somebody_put_in_its_place_is_handled_as_ever() {
    let pair = Pair::new();
    let (at, in_share) = (pair.source().join("large"), pair.share().join("large"));
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    for round in 0..2 {
        fs::write(&at, noise(10 + round, LARGE_BYTES)).unwrap();
        pair.wait();
        wait_for_room(&pair);
        fs::remove_file(&in_share).unwrap();
        match round {
            0 => fs::write(&in_share, "theirs").unwrap(),
            _ => fs::create_dir_all(in_share.join("theirs")).unwrap(),
        }
        fs::write(&at, noise(20 + round, LARGE_BYTES)).unwrap();
        pair.wait();
        pair.assert_equal();
    }
    wait_for_room(&pair);
    let trash = pair.shares.trash("s").unwrap().items;
    let kinds: Vec<_> = trash.iter().map(|item| &item.kind[..]).collect();
    assert_eq!(kinds, ["directory"]);
}

#[test]
fn what_a_crash_left_is_looked_at_before_anybody_comes() {
    let mut pair = Pair::new();
    fs::write(pair.source().join("f"), "f").unwrap();
    pair.once();
    fs::write(stage(&pair).join("0"), "left").unwrap();
    pair.restart();
    pair.shares.recover();
    wait_for_room(&pair);
    pair.assert_equal();
}
