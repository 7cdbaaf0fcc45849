//! `kill -9` of both ends of a mirror again and again, in three situations: while a share is filled for the first time, while
//! changes are mirrored as they happen, and while a mirrored tree that has changed is brought up to date. Nobody who reads the
//! share meanwhile sees half a file, and when the killing ends the share is what the source is.
//!
//! The moments are drawn: after so many lines of the client, or so many microseconds, counted from when there was something to
//! break.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Server, finish, signal, wait_for};
use crate::trees::{Random, Version, assert_same, assert_whole, put};

/// Kills after which the two are compared.
const KILLS: u64 = 10;
/// Times that this is done in each situation with each end: 420 kills in all.
const GROUPS: u64 = 7;
/// Files of a source at first.
const FILES: u64 = 400;
/// The large file of a source, which goes in pieces.
const LARGE_BYTES: usize = 5_000_000;

#[derive(Clone, Copy, PartialEq)]
enum Situation {
    First,
    Live,
    Update,
}

#[derive(Clone, Copy, PartialEq)]
enum Victim {
    Client,
    Server,
}

/// A client, and what it has said so far.
struct Client {
    process: Child,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    lines: AtomicU64,
    sessions: AtomicU64,
}

impl Heard {
    fn now(&self) -> (u64, u64) {
        let (lines, sessions) = (&self.lines, &self.sessions);
        (
            lines.load(Ordering::Relaxed),
            sessions.load(Ordering::Relaxed),
        )
    }
}

impl Client {
    fn start(server: &Server, source: &Path, share: &str, durability: &str) -> Self {
        let source = source.to_str().unwrap();
        let mut process = server.spawn(&[
            "sync",
            source,
            share,
            "--json",
            "--delete-limit",
            "off",
            "--durability",
            durability,
        ]);
        let heard: Arc<Heard> = Arc::default();
        let (said, theirs) = (process.stdout.take().unwrap(), heard.clone());
        std::thread::spawn(move || {
            // The last line of one that is killed may be half a line.
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                if line.contains("\"event\":\"connected\"") {
                    theirs.sessions.fetch_add(1, Ordering::Relaxed);
                }
                theirs.lines.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { process, heard }
    }

    /// It runs, or fails with what it said.
    fn is_alive(&mut self) -> bool {
        if self.process.try_wait().unwrap().is_none() {
            return true;
        }
        let mut said = String::new();
        let stderr = self.process.stderr.take().unwrap();
        BufReader::new(stderr).read_to_string(&mut said).unwrap();
        panic!("the client ended by itself: {said}");
    }

    fn kill(self) {
        signal(self.process.id(), "KILL");
        finish(self.process).expect(-1, &[]);
    }
}

/// A moment to kill somebody at.
struct Moment {
    /// Not before the client has begun another session.
    is_in_session: bool,
    lines: u64,
    time: Duration,
}

impl Moment {
    fn draw(random: &mut Random) -> Self {
        // Half of the moments come with what was said, half with time alone.
        let by_lines = random.below(2) == 0;
        Self {
            is_in_session: random.below(4) > 0,
            lines: if by_lines { random.below(150) } else { 0 },
            time: Duration::from_micros(random.below(if by_lines { 20_000 } else { 150_000 })),
        }
    }

    /// Waits for it, or for as long as there might be nothing more to say.
    fn wait(&self, client: &mut Client, (lines, sessions): (u64, u64)) {
        let deadline = Instant::now() + PATIENCE;
        let heard = client.heard.clone();
        while self.is_in_session && heard.now().1 == sessions && client.is_alive() {
            assert!(Instant::now() < deadline, "there was no session");
            std::thread::park_timeout(Duration::from_micros(200));
        }
        let began = Instant::now();
        let is_early = || heard.now().0 < lines + self.lines;
        while began.elapsed() < self.time
            || (is_early() && began.elapsed() < Duration::from_millis(150))
        {
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }
}

/// A source and what happens to it.
struct Source {
    root: PathBuf,
    workshop: PathBuf,
    random: Random,
    seed: u64,
}

impl Source {
    /// Makes one with many files.
    fn new(folder: &Path, name: &str, seed: u64) -> Self {
        let (root, workshop) = (folder.join(name), folder.join(format!("{name}.workshop")));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&workshop).unwrap();
        let mut source = Self {
            root,
            workshop,
            random: Random::new(seed),
            seed: seed << 32,
        };
        for dir in 0..20 {
            fs::create_dir_all(source.root.join(format!("d{dir}/e{}", dir % 3))).unwrap();
        }
        for _ in 0..FILES {
            source.write();
        }
        source.write_large();
        source
    }

    fn path(&mut self) -> PathBuf {
        let (dir, file) = (self.random.below(20), self.random.below(40));
        let inner = match self.random.below(4) {
            0 => format!("e{}/", self.random.below(3)),
            _ => String::new(),
        };
        self.root.join(format!("d{dir}/{inner}f{file}"))
    }

    fn dir(&mut self) -> PathBuf {
        let dir = self.random.below(20);
        match self.random.below(3) {
            0 => {
                let inner = self.random.below(3);
                self.root.join(format!("d{dir}/e{inner}"))
            }
            _ => self.root.join(format!("d{dir}")),
        }
    }

    fn version(&mut self, bytes: usize) -> Version {
        self.seed += 1;
        Version::plain(self.seed, bytes)
    }

    fn write(&mut self) {
        let bytes = match self.random.below(40) {
            0 => self.random.below(300_000),
            _ => self.random.below(8_000),
        };
        let version = self.version(bytes as usize);
        let at = self.path();
        // Where there is no directory for it there is no file.
        let _ = put(&self.workshop, &at, version);
    }

    /// The large file with other bytes somewhere in it, or with a few in each of its chunks.
    fn write_large(&mut self) {
        self.seed += 1;
        let (most, patch_every) = match self.random.below(2) {
            0 => (200_000, LARGE_BYTES),
            _ => (100, 10_000),
        };
        let version = Version {
            seed: 1,
            bytes: LARGE_BYTES,
            patch_seed: self.seed,
            patch_at: self.random.below(LARGE_BYTES as u64) as usize,
            patch_bytes: self.random.below(most) as usize,
            patch_every,
        };
        put(&self.workshop, &self.root.join("large"), version).unwrap();
    }

    /// One change; what makes no sense at the moment does nothing.
    fn change(&mut self) {
        let (a, b) = (self.path(), self.path());
        let _ = match self.random.below(100) {
            0 => {
                self.write_large();
                Ok(())
            }
            1..=9 => fs::rename(a, b),
            10..=14 => {
                let (from, to) = (self.dir(), self.dir());
                fs::rename(from, to)
            }
            15..=22 => fs::remove_file(a),
            23 => fs::remove_dir_all(self.dir()),
            24..=31 => fs::create_dir_all(self.dir()),
            32..=34 => fs::set_permissions(a, fs::Permissions::from_mode(0o640)),
            35..=37 => fs::hard_link(a, b),
            38..=40 => symlink("../nowhere", a),
            _ => {
                self.write();
                Ok(())
            }
        };
    }
}

/// One that reads the share all the time.
struct Watcher {
    share: Mutex<PathBuf>,
    is_over: AtomicBool,
    read: AtomicU64,
}

impl Watcher {
    fn watch(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let share = self.share.lock().unwrap().clone();
            self.read.fetch_add(assert_whole(&share), Ordering::Relaxed);
            // The others need the processors too.
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// Everything of one situation and one victim.
struct Story {
    server: Server,
    situation: Situation,
    victim: Victim,
    random: Random,
}

impl Story {
    fn tell(situation: Situation, victim: Victim) {
        let seed = 1 + situation as u64 * 2 + victim as u64;
        let mut story = Self {
            server: Server::start(),
            situation,
            victim,
            random: Random::new(seed),
        };
        let watcher = Watcher {
            share: Mutex::default(),
            is_over: AtomicBool::new(false),
            read: AtomicU64::new(0),
        };
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| watcher.watch());
            let _end = Flag(&watcher.is_over);
            for group in 0..GROUPS {
                story.group(group, &watcher);
                assert!(!watching.is_finished(), "the watcher saw something");
            }
        });
        let read = watcher.read.into_inner();
        assert!(read > 10_000, "the watcher read only {read} files");
    }

    fn group(&mut self, group: u64, watcher: &Watcher) {
        let durability = if group % 3 == 2 { "batch" } else { "none" };
        let name = format!("s{group}");
        let folder = self.server.folder.path().to_owned();
        let mut source = Source::new(&folder, &name, 100 * self.situation as u64 + group);
        let root = source.root.clone();
        let share = self.server.data().join("shares").join(&name);
        *watcher.share.lock().unwrap() = share.clone();
        if self.situation != Situation::First {
            let once = ["sync", root.to_str().unwrap(), &name, "--once"];
            self.server.run(&once).expect(0, &[]);
        }
        if self.situation == Situation::Update {
            (0..600).for_each(|_| source.change());
        }
        let is_over = AtomicBool::new(false);
        let client = std::thread::scope(|scope| {
            if self.situation == Situation::Live {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        source.change();
                        std::thread::park_timeout(Duration::from_millis(2));
                    }
                });
            }
            let _end = Flag(&is_over);
            let start = |server: &Server| Client::start(server, root.as_path(), &name, durability);
            let (mut client, mut at) = (start(&self.server), (0, 0));
            for kill in 0..KILLS {
                let mut moment = Moment::draw(&mut self.random);
                // A client that has not met its server yet says so and ends when there is none.
                moment.is_in_session |= kill == 0 && self.victim == Victim::Server;
                moment.wait(&mut client, at);
                match self.victim {
                    Victim::Client => {
                        client.kill();
                        client = start(&self.server);
                    }
                    Victim::Server => {
                        at = client.heard.now();
                        self.server.kill();
                        self.server.restart();
                    }
                }
            }
            client
        });
        self.end(group, client, &root, &name);
        assert_same(&root, &share);
    }

    /// Lets the share become equal: by the client that runs, or by one that ends with it.
    fn end(&self, group: u64, client: Client, root: &Path, name: &str) {
        if group.is_multiple_of(2) {
            wait_for("all to be in the share", || {
                self.server.run(&["sync", "wait", name]).code == 0
            });
            signal(client.process.id(), "INT");
            finish(client.process).expect(0, &[]);
            return;
        }
        client.kill();
        let arguments = ["sync", root.to_str().unwrap(), name, "--once", "--json"];
        let arguments = [&arguments[..], &["--delete-limit", "off"]].concat();
        self.server.run(&arguments).expect(0, &[]);
        // There is nothing left to do then.
        let done = self.server.run(&arguments).expect(0, &[]);
        assert!(done.stdout.contains("\"changes\":0"), "{done:#?}");
    }
}

/// Ends what goes on meanwhile when the killing ends, also by a failure.
struct Flag<'a>(&'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn killed_clients_fill_a_share_all_the_same() {
    Story::tell(Situation::First, Victim::Client);
}

#[test]
fn killed_servers_are_filled_all_the_same() {
    Story::tell(Situation::First, Victim::Server);
}

#[test]
fn killed_clients_mirror_changes_as_they_happen() {
    Story::tell(Situation::Live, Victim::Client);
}

#[test]
fn killed_servers_take_changes_as_they_happen() {
    Story::tell(Situation::Live, Victim::Server);
}

#[test]
fn killed_clients_bring_a_share_up_to_date() {
    Story::tell(Situation::Update, Victim::Client);
}

#[test]
fn killed_servers_are_brought_up_to_date() {
    Story::tell(Situation::Update, Victim::Server);
}
