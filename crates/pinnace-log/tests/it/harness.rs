//! What the tests share: an observer that remembers, and opening a log on a twin disk.
//!
//! Invariant: waiting is for an event, with a deadline only so that a broken log fails the test
//! instead of hanging it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use pinnace_log::twin::TwinDisk;
use pinnace_log::{Log, Lsn, Observer, OpenError, Options, Position, Recovery};

pub(crate) const DIR: &str = "log";

/// Everything the observer was told.
#[derive(Default, Debug)]
pub(crate) struct Seen {
    pub committed: BTreeMap<Lsn, Position>,
    pub calls: usize,
    pub refused: Vec<(Lsn, Lsn)>,
    pub healed: usize,
    pub failed: Option<String>,
}

#[derive(Clone, Default)]
pub(crate) struct Watcher(Arc<(Mutex<Seen>, Condvar)>);

impl Watcher {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.0.lock().unwrap()
    }

    /// Waits for an event; the guard shows what was seen then.
    pub(crate) fn wait(
        &self,
        what: &str,
        mut done: impl FnMut(&Seen) -> bool,
    ) -> MutexGuard<'_, Seen> {
        let limit = Duration::from_secs(60);
        let seen = self.seen();
        let (seen, timeout) = self
            .0
            .1
            .wait_timeout_while(seen, limit, |seen| !done(seen))
            .unwrap();
        assert!(!timeout.timed_out(), "waited in vain for {what}: {seen:?}");
        seen
    }

    /// Refusals heard so far. Lsns of refused records are used again, so whoever expects refusals
    /// takes this before appending.
    pub(crate) fn refusals(&self) -> usize {
        self.seen().refused.len()
    }

    /// Waits until `lsn` is committed, refused after the first `refusals`, or the log failed; true
    /// when committed.
    pub(crate) fn fate(&self, lsn: Lsn, refusals: usize) -> bool {
        let seen = self.wait("a fate", |seen| {
            seen.committed.contains_key(&lsn)
                || seen.failed.is_some()
                || seen
                    .refused
                    .iter()
                    .skip(refusals)
                    .any(|r| r.0 <= lsn && lsn <= r.1)
        });
        seen.committed.contains_key(&lsn)
    }

    /// The fate of a record where nothing was refused before.
    pub(crate) fn settled(&self, lsn: Lsn) -> bool {
        self.fate(lsn, 0)
    }

    fn tell(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.0.1.notify_all();
    }
}

impl Observer for Watcher {
    fn committed(&mut self, first: Lsn, positions: &[Position]) {
        self.tell(|seen| {
            seen.calls += 1;
            for (lsn, position) in (first..).zip(positions) {
                let twice = seen.committed.insert(lsn, *position);
                assert_eq!(twice, None, "{lsn} committed twice");
            }
        });
    }

    fn refused(&mut self, first: Lsn, last: Lsn, _reason: &str) {
        self.tell(|seen| seen.refused.push((first, last)));
    }

    fn healed(&mut self) {
        self.tell(|seen| seen.healed += 1);
    }

    fn failed(&mut self, reason: &str) {
        self.tell(|seen| seen.failed = Some(reason.to_owned()));
    }
}

/// Small segments, so that a few records roll.
pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 8192,
        record_bytes_max: 2048,
        buffer_bytes_max: 1 << 20,
        salt: Some(7),
    }
}

pub(crate) struct Up {
    pub log: Log,
    pub watcher: Watcher,
    pub recovery: Recovery,
    pub replayed: BTreeMap<Lsn, Vec<u8>>,
    pub positions: BTreeMap<Lsn, Position>,
}

pub(crate) fn try_open(disk: &TwinDisk, options: Options) -> Result<Up, OpenError> {
    let (mut replayed, mut positions) = (BTreeMap::new(), BTreeMap::new());
    let mut last = 0;
    let opened = Log::open(
        Arc::new(disk.clone()),
        Path::new(DIR),
        options,
        &mut |lsn, at, body| {
            assert!(lsn > last, "replay goes up");
            last = lsn;
            replayed.insert(lsn, body.to_vec());
            positions.insert(lsn, at);
            Ok(())
        },
    )?;
    let watcher = Watcher::default();
    let recovery = opened.recovery.clone();
    let log = opened.start(Box::new(watcher.clone()))?;
    Ok(Up {
        log,
        watcher,
        recovery,
        replayed,
        positions,
    })
}

pub(crate) fn open(disk: &TwinDisk, options: Options) -> Up {
    try_open(disk, options).unwrap()
}

/// A payload that tells its lsn and length, without zeros for small lsns.
pub(crate) fn payload(lsn: Lsn, len: usize) -> Vec<u8> {
    lsn.to_le_bytes()
        .into_iter()
        .map(|byte| byte ^ 0xa5)
        .cycle()
        .take(len.max(8))
        .collect()
}

/// A closed log of `count` records of `len` bytes each, every one its own batch.
pub(crate) fn filled(options: &Options, count: u64, len: usize) -> TwinDisk {
    let disk = TwinDisk::new();
    let up = open(&disk, options.clone());
    for lsn in 1..=count {
        assert_eq!(up.log.append(&[&payload(lsn, len)]).unwrap(), lsn);
        assert!(up.watcher.settled(lsn));
    }
    drop(up);
    disk
}
