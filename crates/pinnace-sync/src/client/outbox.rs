//! The connections of a session as the client writes to them.
//!
//! What has just happened goes out on the first connection, bulk data on the second, so that the one never waits behind the
//! other. Where the link is slower than the machine, packs are compressed: how much, is found by how long writing takes,
//! over many packs, because the system takes the first ones as fast as it can copy them.
//!
//! Invariant: a frame goes out whole; the bytes of both connections together keep to the bandwidth. Left to others: what
//! is sent, and its numbers (`ledger`).

use std::io::{self, Write};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::wire::{FrameKind, write_frame};

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Control,
    Bulk,
}

/// No compression.
const STORED: i32 = 0;
/// A link that takes bytes faster than this is not worth compressing for, bytes a second.
const FAST_LINK: f64 = 250e6;
/// Links slower than this are worth a higher level, bytes a second, and which. Two cores compress source code by these
/// levels to 45 and 30 MB/s.
const SLOW_LINKS: [(f64, i32); 2] = [(15e6, 9), (30e6, 6)];
/// So many bytes, more than sockets hold, are sent before the link is judged, and it is judged by about as many.
const JUDGED_BYTES: f64 = 16e6;

/// An answer within this time comes from the same host or the same room.
const NEAR: Duration = Duration::from_millis(2);
/// An answer that takes longer comes from far away, where links are slow more often than not.
const FAR: Duration = Duration::from_millis(10);

/// How far away the server is, from which follows what is assumed of the link until it can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// On this host, where compressing never pays.
    Here,
    Near,
    Away,
    Far,
}

impl Reach {
    /// By whether the server is on this host, and how long it takes to answer.
    pub(super) fn of(is_here: bool, answer: Duration) -> Self {
        match answer {
            // A link that is long on purpose may begin and end on one host.
            _ if answer < NEAR && is_here => Self::Here,
            _ if answer < NEAR => Self::Near,
            _ if answer < FAR => Self::Away,
            _ => Self::Far,
        }
    }

    fn level(self) -> i32 {
        match self {
            Self::Here | Self::Near => STORED,
            Self::Away => 1,
            Self::Far => level_for(0.0),
        }
    }
}

/// The level that pays for a link that takes so many bytes a second.
fn level_for(bytes_per_s: f64) -> i32 {
    if bytes_per_s > FAST_LINK {
        return STORED;
    }
    let slow = SLOW_LINKS.iter().find(|(below, _)| bytes_per_s < *below);
    slow.map_or(1, |(_, level)| *level)
}

/// Writes frames.
pub(super) struct Outbox {
    control: Mutex<Box<dyn Write + Send>>,
    bulk: Mutex<Box<dyn Write + Send>>,
    limit: Option<Mutex<Limit>>,
    level: AtomicI32,
    pace: Mutex<Pace>,
    sent_bytes: AtomicU64,
    reach: Reach,
}

impl Outbox {
    pub(super) fn new(
        control: Box<dyn Write + Send>,
        bulk: Box<dyn Write + Send>,
        bandwidth: Option<u64>,
        reach: Reach,
    ) -> Self {
        Self {
            control: Mutex::new(control),
            bulk: Mutex::new(bulk),
            limit: bandwidth.map(|bytes_per_s| Mutex::new(Limit::new(bytes_per_s))),
            level: AtomicI32::new(reach.level()),
            pace: Mutex::default(),
            sent_bytes: AtomicU64::new(0),
            reach,
        }
    }

    /// The level that packs are to be compressed with now.
    pub(super) fn level(&self) -> Option<i32> {
        let level = self.level.load(Ordering::Relaxed);
        (level != STORED).then_some(level)
    }

    /// Whether the link is so slow that every byte counts. Where the bandwidth is bounded frames stay small: one goes
    /// out as a whole.
    pub(super) fn is_slow(&self) -> bool {
        self.level.load(Ordering::Relaxed) > 1 && self.limit.is_none()
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn send(&self, way: Way, kind: FrameKind, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = 5 + parts.iter().map(|part| part.len()).sum::<usize>();
        if let Some(limit) = &self.limit {
            limit
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .wait(bytes);
        }
        let writer = match way {
            Way::Control => &self.control,
            Way::Bulk => &self.bulk,
        };
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        write_frame(&mut *writer, kind, parts)?;
        drop(writer);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if way == Way::Bulk && self.reach != Reach::Here {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(level) = pace.judge(bytes, began.elapsed()) {
                self.level.store(level, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// How fast the link has taken bytes lately.
#[derive(Default)]
struct Pace {
    bytes: f64,
    seconds: f64,
}

impl Pace {
    /// The level for a link that has taken so many more bytes in this time, once it can be judged.
    fn judge(&mut self, bytes: usize, time: Duration) -> Option<i32> {
        self.bytes += bytes as f64;
        self.seconds += time.as_secs_f64();
        if self.bytes < JUDGED_BYTES {
            return None;
        }
        let bytes_per_s = self.bytes / self.seconds.max(1e-6);
        (self.bytes, self.seconds) = (self.bytes / 2.0, self.seconds / 2.0);
        Some(level_for(bytes_per_s))
    }
}

/// A bandwidth: bytes may go out when their time has come.
struct Limit {
    bytes_per_s: f64,
    free_at: Instant,
}

impl Limit {
    fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1) as f64,
            free_at: Instant::now(),
        }
    }

    fn wait(&mut self, bytes: usize) {
        let early = self.take(Instant::now(), bytes);
        if early > Duration::ZERO {
            std::thread::sleep(early);
        }
    }

    /// Takes the time that so many bytes need; how long they have to wait until it begins.
    fn take(&mut self, now: Instant, bytes: usize) -> Duration {
        let begins_at = self.free_at.max(now);
        self.free_at = begins_at + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        begins_at - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_PER_S: u64 = 1_000_000;

    /// Sends frames, each once it may go and after a pause, by a clock of our own. When each went, and its bytes.
    fn send(frames: impl Iterator<Item = (usize, Duration)>) -> Vec<(Instant, usize)> {
        let mut limit = Limit::new(BYTES_PER_S);
        let mut now = limit.free_at;
        let sent = frames.map(|(bytes, pause)| {
            now += pause;
            now += limit.take(now, bytes);
            (now, bytes)
        });
        sent.collect()
    }

    fn time_of(bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / BYTES_PER_S as f64)
    }

    #[test]
    fn no_more_goes_out_in_any_time_than_the_bandwidth_and_one_frame() {
        let pause = |number: usize| match number % 7 {
            0 => Duration::from_millis(300),
            1 => Duration::from_millis(1),
            _ => Duration::ZERO,
        };
        let sent = send((1..200).map(|number| (number * 7919 % 100_000, pause(number))));
        // From any frame on to any other: those between them had their time before the last one went.
        for (at, (first, _)) in sent.iter().enumerate() {
            let mut bytes = 0;
            for (when, more) in &sent[at..] {
                let error = Duration::from_micros(1);
                assert!(*when - *first + error >= time_of(bytes), "{bytes} bytes");
                bytes += more;
            }
        }
    }

    #[test]
    fn all_of_the_bandwidth_can_be_used() {
        let sent = send((0..100).map(|number| (1 + number * 1_000, Duration::ZERO)));
        let (first, (last, bytes)) = (sent[0].0, sent[sent.len() - 1]);
        let before: usize = sent.iter().map(|(_, bytes)| bytes).sum::<usize>() - bytes;
        let taken = last - first;
        assert!(
            taken < time_of(before) + Duration::from_micros(1),
            "{taken:?}"
        );
    }

    #[test]
    fn time_in_which_nothing_was_sent_is_not_made_up_for() {
        let mut limit = Limit::new(BYTES_PER_S);
        let late = limit.free_at + Duration::from_secs(60);
        assert_eq!(limit.take(late, 500_000), Duration::ZERO);
        assert_eq!(limit.take(late, 1), Duration::from_millis(500));
    }

    const MIB: usize = 1 << 20;

    /// The level after each MiB, of which the socket takes one in four at once and the link the others at this speed.
    fn levels(bytes_per_s: f64) -> Vec<i32> {
        let mut pace = Pace::default();
        let slow = Duration::from_secs_f64(MIB as f64 / bytes_per_s * 4.0 / 3.0);
        let times = (0..100).map(|n| {
            if n % 4 == 0 {
                Duration::from_micros(200)
            } else {
                slow
            }
        });
        times.filter_map(|time| pace.judge(MIB, time)).collect()
    }

    #[test]
    fn a_link_is_judged_by_what_it_takes_in_the_long_run() {
        for (bytes_per_s, level) in [(12e6, 9), (25e6, 6), (118e6, 1), (1.2e9, STORED)] {
            let levels = levels(bytes_per_s);
            assert!(levels.len() > 8, "{levels:?}");
            assert!(levels.iter().all(|own| *own == level), "{levels:?}");
        }
    }

    #[test]
    fn what_is_assumed_of_a_link_follows_from_how_far_it_goes() {
        let level = |is_here, ms| Reach::of(is_here, Duration::from_millis(ms)).level();
        let levels = [1, 5, 100].map(|ms| level(false, ms));
        assert_eq!(levels, [STORED, 1, 9]);
        let levels = [1, 5, 100].map(|ms| level(true, ms));
        assert_eq!(levels, [STORED, 1, 9]);
        let ways = [true, false].map(|is_here| Reach::of(is_here, Duration::from_millis(1)));
        assert_eq!(ways, [Reach::Here, Reach::Near]);
    }

    #[test]
    fn a_link_that_becomes_slow_is_noticed() {
        let mut pace = Pace::default();
        let fast = (0..64)
            .filter_map(|_| pace.judge(MIB, Duration::from_micros(500)))
            .last();
        let slow = (0..64)
            .filter_map(|_| pace.judge(MIB, Duration::from_millis(90)))
            .last();
        assert_eq!((fast, slow), (Some(STORED), Some(9)));
    }
}
