//! Times that no clock should show, and stores that no event tells of.
//!
//! Left to others: two writes within a tick, and other content with the times of the old (`traps`).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::pair::Pair;

/// Sets when an entry last changed, also of a symbolic link.
fn set_mtime(at: &Path, secs: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: secs,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Far beyond what 32 bits hold, the last second of these, 1970, before it, and fractions at both ends of a second. What a
/// file system cannot hold it holds as near as it can, the same for source and share.
const TIMES: &[(i64, i64)] = &[
    (32_503_680_000, 5),
    (15_000_000_000, 999_999_999),
    (4_294_967_296, 0),
    (2_147_483_648, 1),
    (2_147_483_647, 999_999_999),
    (1, 0),
    (0, 1),
    (0, 0),
    (-1, 999_999_999),
    (-1, 0),
    (-2, 1),
    (-1_000_000_000, 123_456_789),
    (-2_147_483_648, 0),
];

/// Gives each kind of entry these times; `round` makes the contents differ, not their sizes.
fn fill(root: &Path, number: usize, (secs, nanos): (i64, i64), round: usize) {
    let at = |name: &str| root.join(format!("{name}{number}"));
    fs::create_dir_all(at("dir")).unwrap();
    fs::write(at("dir").join("in"), format!("{round:09}")).unwrap();
    fs::write(at("file"), format!("{round:09}")).unwrap();
    fs::write(at("medium"), format!("{round:09}").repeat(20_000)).unwrap();
    let _ = fs::remove_file(at("link"));
    symlink(format!("to {round:09}"), at("link")).unwrap();
    set_mtime(&at("dir").join("in"), secs, nanos);
    for name in ["dir", "file", "medium", "link"] {
        set_mtime(&at(name), secs, nanos);
    }
}

#[test]
fn any_time_is_mirrored_as_it_is() {
    let pair = Pair::new();
    // Each has another time in another round.
    let all = |round: usize| {
        for number in 0..TIMES.len() {
            let time = TIMES[(number + 5 * round) % TIMES.len()];
            fill(&pair.source(), number, time, round);
        }
    };
    all(0);
    pair.once();
    pair.assert_equal();
    let (outcome, _) = pair.once();
    assert_eq!(outcome.changes, 0);
    all(1);
    pair.once();
    pair.assert_equal();
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    for round in 2..6 {
        all(round);
        pair.wait();
        pair.assert_equal();
    }
}

#[test]
fn a_clock_that_goes_back_or_stands_still_hides_nothing() {
    let pair = Pair::new();
    let names = [("small", 1_000), ("medium", 200_000), ("large", 3_000_000)];
    // All contents of a file are equally long.
    let write = |round: u8| {
        for (name, bytes) in names {
            fs::write(pair.source().join(name), vec![b'a' + round; bytes]).unwrap();
        }
    };
    let set = |secs, nanos| {
        for (name, _) in names {
            set_mtime(&pair.source().join(name), secs, nanos);
        }
    };
    let arrives = |pair: &Pair| {
        pair.wait();
        pair.assert_equal();
    };
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    for round in 0..5 {
        // An hour earlier each time …
        write(round);
        set(1_700_000_000 - 3_600 * i64::from(round), 999_999_999);
        arrives(&pair);
        // … other content at that very moment …
        write(round + 10);
        set(1_700_000_000 - 3_600 * i64::from(round), 999_999_999);
        arrives(&pair);
        // … and at once two contents of one moment, of which the first may never have been seen.
        write(round + 15);
        set(1_600_000_000, 0);
        write(round + 20);
        set(1_600_000_000, 0);
        arrives(&pair);
    }
}

/// Maps the file it is given, stores what it is told to, and lets go of it at the end of its input.
const MAPPER: &str = "
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
stored = mmap.mmap(file, 0)
os.close(file)
print('mapped', flush=True)
for line in sys.stdin:
    at, text = line.split()
    stored[int(at):int(at) + len(text)] = text.encode()
    print('stored', flush=True)
stored.flush()
stored.close()
print('closed', flush=True)
";

/// A process that writes into a file through a mapping.
struct Mapper {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Mapper {
    /// `None` where there is no python; CI has it.
    fn of(file: &Path) -> Option<Self> {
        let started = Command::new("python3")
            .args(["-c", MAPPER])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = match started {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
                assert!(!is_ci, "python3 is not here, and CI has to have it");
                return None;
            }
            started => started.unwrap(),
        };
        let said = BufReader::new(process.stdout.take().unwrap());
        let mut mapper = Self { process, said };
        mapper.hear("mapped");
        Some(mapper)
    }

    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), word);
    }

    fn store(&mut self, at: u64, text: &str) {
        let into = self.process.stdin.as_mut().unwrap();
        writeln!(into, "{at} {text}").unwrap();
        self.hear("stored");
    }

    fn close(mut self) {
        drop(self.process.stdin.take());
        self.hear("closed");
        assert!(self.process.wait().unwrap().success());
    }
}

/// Waits until nobody can think that a file has just changed.
fn grow_old(at: &Path) {
    let age = || {
        let meta = fs::metadata(at).unwrap();
        let changed = Duration::new(meta.ctime() as u64, meta.ctime_nsec() as u32);
        SystemTime::now().duration_since(UNIX_EPOCH + changed)
    };
    while age().is_ok_and(|age| age < Duration::from_millis(100)) {
        std::thread::yield_now();
    }
}

#[test]
fn stores_through_a_mapping_are_found() {
    let pair = Pair::new();
    for (name, bytes) in [("small", 10_000), ("medium", 300_000), ("large", 5_000_000)] {
        let (at, copy) = (pair.source().join(name), pair.share().join(name));
        fs::write(&at, vec![b'a'; bytes]).unwrap();
        let live = pair.live(pair.settings());
        live.wait_for("synced");
        let Some(mut mapper) = Mapper::of(&at) else {
            return;
        };
        // Nothing tells of it, so it is found by who looks at everything …
        let before = fs::read(&copy).unwrap();
        mapper.store(5_000, "first");
        grow_old(&at);
        pair.wait();
        assert_eq!(fs::read(&copy).unwrap(), before);
        pair.shares.verify("s", true).unwrap();
        pair.assert_equal();
        assert_ne!(fs::read(&copy).unwrap(), before);
        // … or when the mapping ends: the page was written to before, so not even a time need have changed.
        mapper.store(5_010, "second");
        mapper.close();
        pair.wait();
        pair.assert_equal();
        assert_eq!(&fs::read(&copy).unwrap()[5_010..5_016], b"second");
    }
}
