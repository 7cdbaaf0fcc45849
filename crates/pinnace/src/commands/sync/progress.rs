//! How far a mirror's first comparison is: a line that redraws itself, or an event a second for programs.
//!
//! How much there is in all nobody knows before it was looked at. For people a thread of the lowest priority counts it, so that there
//! can be a time left; where nobody looks nothing is counted.
//!
//! Invariant: it is over with the first moment of equality, and no thread outlives the mirror. Left to others: what is
//! compared and sent (`pinnace-sync`).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pinnace_proto::units::{show_duration, show_rate, show_size};
use pinnace_sync::client::{Gauge, Reading, Settings};
use pinnace_sync::filter::{FILE_NAME, Filter};
use serde::Serialize;

use crate::output::Output;

/// How often people are shown something.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often programs are told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A rate forgets what was longer ago than some of these.
const SMOOTHED_OVER: Duration = Duration::from_secs(3);

/// The first comparison as it is shown.
pub(super) struct Progress<'a> {
    output: &'a Output,
    gauge: Gauge,
    /// What there is in all, once it was counted.
    total: Total,
    is_over: Mutex<bool>,
    ended: Condvar,
}

#[derive(Default)]
struct Total {
    entries: AtomicU64,
    bytes: AtomicU64,
    is_whole: AtomicBool,
}

/// The event for programs.
#[derive(Serialize)]
struct Event {
    event: &'static str,
    entries: u64,
    bytes: u64,
    sent_bytes: u64,
    bytes_per_s: u64,
}

impl<'a> Progress<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        Self {
            output,
            gauge: Gauge::default(),
            total: Total::default(),
            is_over: Mutex::new(false),
            ended: Condvar::new(),
        }
    }

    pub(super) fn gauge(&self) -> Option<&Gauge> {
        self.is_wanted().then_some(&self.gauge)
    }

    fn is_wanted(&self) -> bool {
        self.output.json || self.output.is_live()
    }

    pub(super) fn is_over(&self) -> bool {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is nothing more to show.
    pub(super) fn end(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.notify_all();
        self.output.end_progress();
    }

    /// Shows it while something is done.
    pub(super) fn shown_while<T>(&self, settings: &Settings, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            if self.is_wanted() {
                scope.spawn(|| self.show());
            }
            if self.output.is_live() && !self.output.json {
                scope.spawn(|| self.count(settings));
            }
            let done = work();
            self.end();
            done
        })
    }

    fn show(&self) {
        let every = match self.output.json {
            true => TELL_EVERY,
            false => LOOK_EVERY,
        };
        let mut pace = Pace::new(Instant::now());
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let waited = self
                .ended
                .wait_timeout_while(is_over, every, |is_over| !*is_over);
            is_over = waited.unwrap_or_else(PoisonError::into_inner).0;
            if *is_over {
                return;
            }
            // Shown under the lock, so that nothing is drawn after the end.
            let reading = self.gauge.read();
            pace.note(reading, Instant::now());
            if self.output.json {
                self.output.json_line(&Event {
                    event: "progress",
                    entries: reading.entries,
                    bytes: reading.bytes,
                    sent_bytes: reading.sent_bytes,
                    bytes_per_s: pace.sent as u64,
                });
            } else if reading.entries > 0 {
                self.output
                    .progress(&line(reading, &pace, self.total.counted()));
            }
        }
    }

    /// Counts what there is, as far as the same rules leave it in.
    fn count(&self, settings: &Settings) {
        // On Linux this is the thread alone.
        let _ = rustix::process::setpriority_process(None, 19);
        let Ok(filter) = Filter::new(&settings.excludes) else {
            return;
        };
        let root = &settings.root;
        let device = fs::metadata(root).map_or(0, |metadata| metadata.dev());
        let mut waiting = vec![root.clone()];
        while let Some(dir) = waiting.pop() {
            if self.is_over() {
                return;
            }
            let at = relative(root, &dir);
            let rules = dir.join(OsStr::from_bytes(FILE_NAME));
            if fs::symlink_metadata(&rules).is_ok_and(|metadata| metadata.is_file())
                && let Ok(rules) = fs::read(&rules)
            {
                // What is wrong with them is told by the mirror itself.
                let _ = filter.set_dir(at, Some(&rules));
            }
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                if filter.is_excluded(relative(root, &path), metadata.is_dir()) {
                    continue;
                }
                self.total.entries.fetch_add(1, Ordering::Relaxed);
                if !metadata.is_dir() {
                    self.total
                        .bytes
                        .fetch_add(metadata.len(), Ordering::Relaxed);
                } else if metadata.dev() == device {
                    waiting.push(path);
                }
            }
        }
        self.total.is_whole.store(true, Ordering::Release);
    }
}

fn relative<'p>(root: &Path, path: &'p Path) -> &'p [u8] {
    let relative = path.strip_prefix(root).unwrap_or(path);
    relative.as_os_str().as_bytes()
}

impl Total {
    /// Entries and bytes, once all are counted.
    fn counted(&self) -> Option<(u64, u64)> {
        self.is_whole.load(Ordering::Acquire).then(|| {
            (
                self.entries.load(Ordering::Relaxed),
                self.bytes.load(Ordering::Relaxed),
            )
        })
    }
}

/// How fast it goes, smoothed.
struct Pace {
    last: (Instant, Reading),
    /// Bytes sent a second.
    sent: f64,
    /// Work done a second.
    work: f64,
    is_new: bool,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self {
            last: (now, Reading::default()),
            sent: 0.0,
            work: 0.0,
            is_new: true,
        }
    }

    fn note(&mut self, reading: Reading, now: Instant) {
        let (then, before) = std::mem::replace(&mut self.last, (now, reading));
        let seconds = now.duration_since(then).as_secs_f64().max(1e-3);
        let weight = match std::mem::take(&mut self.is_new) {
            true => 1.0,
            false => 1.0 - (-seconds / SMOOTHED_OVER.as_secs_f64()).exp(),
        };
        // A session that begins anew counts from nothing.
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        for (smooth, now) in [
            (&mut self.sent, rate(reading.sent_bytes, before.sent_bytes)),
            (&mut self.work, rate(done(reading), done(before))),
        ] {
            *smooth += weight * (now - *smooth);
        }
    }

    /// How long it still takes at this pace.
    fn left(&self, reading: Reading, (entries, bytes): (u64, u64)) -> Option<Duration> {
        let seconds = match work(entries, bytes).saturating_sub(done(reading)) {
            0 => 0.0,
            left => left as f64 / self.work,
        };
        Duration::try_from_secs_f64(seconds.ceil())
            .ok()
            .filter(|left| *left < Duration::from_hours(24 * 365))
    }
}

/// What an entry takes beside its content, in bytes of content.
const ENTRY_BYTES: u64 = 16 << 10;

/// Entries and bytes as one amount, so that many small files and few large ones can be waited for alike.
fn work(entries: u64, bytes: u64) -> u64 {
    bytes.saturating_add(entries.saturating_mul(ENTRY_BYTES))
}

/// What is done. Of a large file that is on its way only what was sent is known.
fn done(reading: Reading) -> u64 {
    work(reading.entries, reading.bytes.max(reading.sent_bytes))
}

fn line(reading: Reading, pace: &Pace, total: Option<(u64, u64)>) -> String {
    let sent = format!(
        "{} sent, {}",
        show_size(reading.sent_bytes),
        show_rate(pace.sent)
    );
    let Some(total) = total else {
        return format!("{} entries, {sent}", reading.entries);
    };
    // It may have grown since it was counted.
    let entries = total.0.max(reading.entries);
    let part = format!("{} of {entries} entries, {sent}", reading.entries);
    match pace.left(reading, total) {
        Some(left) => format!("{part}, {} left", show_duration(left)),
        None => part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(entries: u64, bytes: u64, sent_bytes: u64) -> Reading {
        Reading {
            entries,
            bytes,
            sent_bytes,
        }
    }

    #[test]
    fn a_steady_pace_is_shown_as_it_is_and_a_pause_is_forgotten_slowly() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        for second in 1..=10 {
            let now = begin + Duration::from_secs(second);
            pace.note(reading(100 * second, 0, second << 20), now);
        }
        let at_ten = reading(1000, 0, 10 << 20);
        assert_eq!(
            line(at_ten, &pace, None),
            "1000 entries, 10 MiB sent, 1 MiB/s"
        );
        assert_eq!(
            line(at_ten, &pace, Some((3000, 30 << 20))),
            "1000 of 3000 entries, 10 MiB sent, 1 MiB/s, 20 s left"
        );
        // One large file is as much work as the entries and bytes so far.
        let large = work(1000, 10 << 20);
        assert_eq!(
            pace.left(at_ten, (1000, (10 << 20) + large)),
            Some(Duration::from_secs(10))
        );
        pace.note(at_ten, begin + Duration::from_secs(11));
        assert!(pace.sent > 0.5e6 && pace.sent < 0.9e6, "{}", pace.sent);
    }

    #[test]
    fn nothing_is_promised_while_nothing_moves() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        pace.note(reading(0, 0, 0), begin + Duration::from_secs(1));
        assert_eq!(pace.left(reading(0, 0, 0), (10, 10)), None);
        assert_eq!(
            pace.left(reading(10, 10, 0), (10, 10)),
            Some(Duration::ZERO)
        );
        // The connection was lost and everything is compared anew.
        pace.note(reading(5, 5, 5), begin + Duration::from_secs(2));
        pace.note(reading(1, 1, 1), begin + Duration::from_secs(3));
        assert!(pace.work >= 0.0);
    }
}
