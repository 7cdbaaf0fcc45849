//! Flipped bits, everywhere in a log that holds every kind of record: no payload is ever wrong, nothing
//! goes but what was hit, no file is removed, and what was hit is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinnace_log::Log;
use pinnace_log::twin::TwinDisk;
use pinnace_topics::{Batch, Broker, QueueOptions, Recovery, Start};

use crate::harness::{create, delete, done, message, open, publish, small, take, try_take};

const FLIPS: usize = 2_000;
const QUEUES: [(&str, &str); 6] = [
    ("t", "plain"),
    ("t", "again"),
    ("t", "optioned"),
    (">", "late"),
    ("t.*", "lent"),
    ("t", "deleted"),
];
/// Bytes in front of the first record.
const SEGMENT_HEADER: usize = 4096;
/// Bytes of a record in front of its payload.
const RECORD_HEADER: usize = 24;

/// Number and payload of what waits in each queue that exists.
type Contents = BTreeMap<(&'static str, &'static str), BTreeMap<u64, Vec<u8>>>;

/// A record: where it is, and its payload.
struct Placed {
    path: PathBuf,
    offset: usize,
    body: Vec<u8>,
}

impl Placed {
    fn contains(&self, path: &Path, offset: usize) -> bool {
        let bytes = self.offset..self.offset + RECORD_HEADER + self.body.len();
        self.path == path && bytes.contains(&offset)
    }

    /// The message it holds, if it holds one; numbers here are small.
    fn seq(&self) -> Option<u64> {
        matches!(self.body[0], 1 | 2 | 11).then(|| u64::from(self.body[1]))
    }
}

fn contents(broker: &Broker) -> Contents {
    let peek = |key: (&'static str, &'static str)| {
        let peeked = broker.peek(key.0.as_bytes(), key.1, 999).ok()?;
        let messages = peeked.messages.into_iter().map(|m| (m.seq, m.payload));
        Some((key, messages.collect()))
    };
    QUEUES.into_iter().filter_map(peek).collect()
}

/// Every kind of record, each written as it is in life.
fn filled() -> TwinDisk {
    let disk = TwinDisk::new();
    let (broker, _) = open(&disk, small());
    create(&broker, "t", "plain");
    create(&broker, "t", "deleted");
    create(&broker, "t", "again");
    create(&broker, "t.*", "lent");
    let set = |messages_max| {
        let options = QueueOptions {
            messages_max: Some(messages_max),
            dead_letter: Some((*b"dead").into()),
            ..QueueOptions::default()
        };
        let (call, fate) = done();
        broker
            .create_queue_with(b"t", "optioned", Start::New, Some(options), call)
            .unwrap();
        fate.wait().unwrap();
    };
    set(99);
    let mut publisher = broker.publisher();
    let mut payload = (1..).map(|n: u8| vec![n; 150 + usize::from(n)]);
    for (n, body) in payload.by_ref().take(12).enumerate() {
        publish(&mut publisher, if n % 3 == 0 { "t.a" } else { "t" }, &body);
    }
    crate::harness::create_from(&broker, ">", "late", Start::First);
    let (call, fate) = done();
    let once = payload.next().unwrap();
    publisher
        .publish_once(
            &message("t", &once),
            b"id",
            None,
            &mut Batch::default(),
            Some(call),
        )
        .unwrap();
    fate.wait().unwrap();
    take(&broker, "t", "plain", 2);
    // An answer that does not arrive.
    let (sender, receiver) = std::sync::mpsc::channel();
    let call = Box::new(move |outcome| sender.send(outcome).unwrap());
    broker.take(b"t", "plain", 2, call).unwrap();
    drop(receiver.recv().unwrap().unwrap());
    let until = Instant::now() + Duration::from_secs(60);
    let leased = broker.lease(b"t.*", "lent", 1, until).unwrap().unwrap();
    let (call, fate) = done();
    broker
        .acknowledge(b"t.*", "lent", leased.lease, None, call)
        .unwrap();
    fate.wait().unwrap();
    set(98);
    delete(&broker, "t", "deleted");
    delete(&broker, "t", "again");
    create(&broker, "t", "again");
    for body in payload.take(6) {
        publish(&mut publisher, "t", &body);
    }
    drop((broker, publisher));
    // What is read and not written any more, and what only a reclaim writes, which would drop the rest.
    let restated = [&[4, 1, 1][..], b"t", &[5], b"plain"].concat();
    write(&disk, &[&restated, &[6, 1, 5], &[7, 40, 9]]);
    disk
}

/// Appends records as they are.
fn write(disk: &TwinDisk, records: &[&[u8]]) {
    let (disk, path) = (Arc::new(disk.clone()), Path::new("log"));
    let opened = Log::open(disk, path, small().log, &mut |_, _, _| Ok(()));
    let log = opened.unwrap().start(Box::new(Nobody)).unwrap();
    for record in records {
        log.append(&[record]).unwrap();
    }
}

/// Nobody needs to know: closing the log writes what waits.
struct Nobody;

impl pinnace_log::Observer for Nobody {
    fn committed(&mut self, _: u64, _: &[pinnace_log::Position]) {}
    fn refused(&mut self, _: u64, _: u64, reason: &str) {
        panic!("{reason}");
    }
    fn failed(&mut self, reason: &str) {
        panic!("{reason}");
    }
}

fn copy(disk: &TwinDisk) -> TwinDisk {
    let copy = TwinDisk::new();
    for path in disk.paths() {
        copy.put(&path, disk.contents(&path).unwrap());
    }
    copy
}

fn records(disk: &TwinDisk) -> BTreeMap<u64, Placed> {
    let (paths, mut records) = (disk.paths(), BTreeMap::new());
    let disk = Arc::new(copy(disk));
    Log::open(disk, Path::new("log"), small().log, &mut |lsn, at, body| {
        let placed = Placed {
            path: paths[at.segment as usize].clone(),
            offset: at.offset as usize,
            body: body.to_vec(),
        };
        records.insert(lsn, placed);
        Ok(())
    })
    .unwrap();
    records
}

/// What a log with one bit flipped shows, against what it showed before.
struct Before {
    records: BTreeMap<u64, Placed>,
    contents: Contents,
    payloads: BTreeMap<u64, Vec<u8>>,
}

impl Before {
    fn check(&self, found: &Contents, recovery: &Recovery, path: &Path, offset: usize) {
        let mut hits = self.records.iter();
        let hit = hits.find(|(_, placed)| placed.contains(path, offset));
        let context = format!("{} byte {offset}: {recovery:?}", path.display());
        let reported: Vec<_> = recovery
            .log
            .damage
            .iter()
            .map(|damage| damage.lsns)
            .collect();
        let in_header = [0, 2048].iter().any(|at| (*at..*at + 32).contains(&offset));
        match hit {
            Some((lsn, _)) => assert_eq!(reported, [Some((*lsn, *lsn))], "{context}"),
            None if in_header => assert_eq!(reported, [None], "{context}"),
            None => assert_eq!(reported, [], "{context}"),
        }
        assert_eq!(recovery.undefined_queues, 0, "{context}");
        let lost = hit.and_then(|(_, placed)| placed.seq());
        // A record that takes something away, or a queue's definition, may be what is not known now.
        let back = hit.map(|(_, placed)| placed.body[0]);
        for (key, messages) in &self.contents {
            let found = found
                .get(key)
                .unwrap_or_else(|| panic!("{key:?}, {context}"));
            for seq in messages.keys().filter(|seq| Some(**seq) != lost) {
                assert!(found.contains_key(seq), "{key:?} lost {seq}, {context}");
            }
        }
        for (key, messages) in found {
            let known = self.contents.get(key);
            assert!(
                known.is_some() || back == Some(5),
                "{key:?} is back, {context}"
            );
            for (seq, payload) in messages {
                assert_eq!(payload, &self.payloads[seq], "{context}");
                let waited = known.is_some_and(|known| known.contains_key(seq));
                // Of a queue that was made anew after its deletion nothing old comes back.
                let may_be_back = match back {
                    Some(5) => known.is_none(),
                    kind => matches!(kind, Some(6 | 8)),
                };
                assert!(waited || may_be_back, "{key:?} has {seq} again, {context}");
            }
        }
    }
}

fn before(disk: &TwinDisk) -> Before {
    let records = records(disk);
    let kinds: BTreeSet<u8> = records.values().map(|placed| placed.body[0]).collect();
    assert_eq!(kinds, (1..=11).collect(), "every kind");
    let (broker, recovery) = open(&copy(disk), small());
    assert!(recovery.log.damage.is_empty());
    let contents = contents(&broker);
    assert!(contents.values().all(|queue| queue.len() > 2));
    // Payloads are recognised by their first byte, which is the number of the message.
    let payload = |n: u8| (u64::from(n), vec![n; 150 + usize::from(n)]);
    Before {
        records,
        contents,
        payloads: (1..=19).map(payload).collect(),
    }
}

#[test]
fn a_bit_flipped_at_rest_costs_what_it_hit_and_is_reported() {
    let disk = filled();
    let before = before(&disk);
    let used = |path: &PathBuf| {
        let bytes = disk.contents(path).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
    };
    let files: Vec<(PathBuf, usize)> = disk
        .paths()
        .into_iter()
        .map(|path| {
            let used = used(&path);
            (path, used)
        })
        .collect();
    assert!(files.len() > 1, "a sealed segment and the active one");
    // The zeros of the headers are left out but for their edges.
    let bytes: Vec<(&Path, usize)> = files
        .iter()
        .flat_map(|(path, used)| (0..*used).map(|byte| (path.as_path(), byte)))
        .filter(|(_, byte)| !(64..2000).contains(byte) && !(2100..SEGMENT_HEADER).contains(byte))
        .collect();
    for flip in 0..FLIPS {
        let bit = flip * (bytes.len() * 8) / FLIPS;
        let (path, byte) = bytes[bit / 8];
        let hurt = copy(&disk);
        let mut content = hurt.contents(path).unwrap();
        content[byte] ^= 1 << (bit % 8);
        hurt.put(path, content);
        let (broker, recovery) = open(&hurt, small());
        before.check(&contents(&broker), &recovery, path, byte);
        assert!(hurt.removed().is_empty());
        drop(broker);
        let (broker, recovery) = open(&hurt, small());
        before.check(&contents(&broker), &recovery, path, byte);
        assert!(hurt.removed().is_empty());
    }
}

/// The server runs, and the medium rots under it.
#[test]
fn a_bit_flipped_while_running_is_left_out_and_counted() {
    let disk = filled();
    let before = before(&disk);
    for placed in before.records.values() {
        let Some(seq) = placed.seq().filter(|_| placed.body[0] != 2) else {
            continue;
        };
        for byte in (0..RECORD_HEADER + placed.body.len()).step_by(9) {
            let hurt = copy(&disk);
            let (broker, _) = open(&hurt, small());
            hurt.rot(&placed.path, placed.offset + byte);
            for (key, messages) in &before.contents {
                let taken = try_take(&broker, key.0, key.1, 99).unwrap().unwrap();
                let found: BTreeMap<u64, Vec<u8>> =
                    taken.into_iter().map(|m| (m.seq, m.payload)).collect();
                // What was copied to the end of the log is read there.
                let mut expected = messages.clone();
                let status = broker.queue_status(key.0.as_bytes(), key.1).unwrap();
                if status.damaged > 0 {
                    assert_eq!(status.damaged, 1);
                    assert!(expected.remove(&seq).is_some());
                }
                assert_eq!(found, expected, "{seq} byte {byte}");
            }
        }
    }
}

/// No program writes one number twice, or a second queue of one name; such a log is no reason to count wrong.
#[test]
fn a_message_and_a_name_that_come_twice_are_there_once() {
    let disk = TwinDisk::new();
    let create = |id| [3, id, 1, b't', 1, b'q', 0];
    let message = |payload: &[u8]| [&[1, 1, 0, 1, 2, 1, 0, b't'], payload].concat();
    let (first, second) = (create(1), create(2));
    write(&disk, &[&first, &second, &message(b"long"), &message(b"")]);
    let (broker, recovery) = open(&disk, small());
    assert_eq!((recovery.queues, recovery.messages), (1, 1));
    assert_eq!(broker.queue_status(b"t", "q").unwrap().bytes, 5);
    assert_eq!(take(&broker, "t", "q", 9).len(), 1);
    assert_eq!(broker.queue_status(b"t", "q").unwrap().bytes, 0);
}
