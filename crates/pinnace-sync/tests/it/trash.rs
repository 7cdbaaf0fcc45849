//! What is deleted from a share, for how long it is kept, and how it comes back.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pinnace_proto::sync::ClientState;
use pinnace_sync::server::{Listener, Shares, TRASH_KEPT};

use crate::pair::Pair;

/// The clock of these tests, microseconds; the only test that sets it is the first.
static NOW_US: AtomicU64 = AtomicU64::new(DAY_US);
const DAY_US: u64 = 24 * 3_600 * 1_000_000;
const HOUR_US: u64 = 3_600 * 1_000_000;

struct Timed;

impl Listener for Timed {
    fn changed(&self, _: &str, _: u64, _: u64, _: &[String]) {}
    fn client_is(&self, _: &str, _: &ClientState, _: u64) {}
    fn clock(&self) -> fn() -> u64 {
        || NOW_US.load(Ordering::Relaxed)
    }
}

fn timed(pair: &mut Pair) {
    pair.shares = Arc::new(Shares::new(
        &pair.folder.path().join("data"),
        Arc::new(Timed),
    ));
}

/// Waits until so many things lie in the trash, also on the disk and in the list there.
#[track_caller]
fn wait_for_things(pair: &Pair, count: usize) {
    let trash = pair.folder.path().join("data/sync/s/trash");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let listed = pair.shares.trash("s").unwrap().items.len();
        let lie = fs::read_dir(trash.join("things")).unwrap().count();
        let lines = fs::read_to_string(trash.join("items")).unwrap();
        let found = [listed, lie, lines.lines().count()];
        if found == [count; 3] {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "listed, there, in the list: {found:?}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn deletions_are_kept_for_seven_days_over_restarts_and_while_clients_stay() {
    let mut pair = Pair::new();
    timed(&mut pair);
    let kept_us = TRASH_KEPT.as_micros() as u64;
    assert_eq!(kept_us, 7 * DAY_US);
    fs::create_dir_all(pair.source().join("early/in")).unwrap();
    fs::write(pair.source().join("early/in/it"), "x").unwrap();
    fs::write(pair.source().join("late"), "x").unwrap();
    pair.once();
    fs::remove_dir_all(pair.source().join("early")).unwrap();
    pair.once();
    NOW_US.store(2 * DAY_US, Ordering::Relaxed);
    fs::remove_file(pair.source().join("late")).unwrap();
    pair.once();
    let trash = pair.shares.trash("s").unwrap();
    assert_eq!(trash.kept_s, 7 * 24 * 3_600);
    let paths: Vec<_> = trash.items.iter().map(|item| &item.path[..]).collect();
    assert_eq!(paths, ["late", "early"]);

    // A share that is opened is looked at: the early one is just old enough to be kept, then it is not.
    for (now_us, count) in [(DAY_US + kept_us, 2), (DAY_US + kept_us + 1, 1)] {
        NOW_US.store(now_us, Ordering::Relaxed);
        timed(&mut pair);
        wait_for_things(&pair, count);
    }
    // One that stays open is looked at too, an hour later: a client's signs of life are the clock's ticks.
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    NOW_US.store(2 * DAY_US + kept_us + HOUR_US, Ordering::Relaxed);
    wait_for_things(&pair, 0);
}
