//! Cut files, flipped bits, lost segments: what is hurt is named, what is not hurt is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pinnace_log::twin::{Fault, Survival, TwinDisk};
use pinnace_log::{Log, Lsn, Options, ReadError};

use crate::harness::{DIR, filled, open, payload, small};

const FIRST: &str = "log/00000000000000000001.log";
const HEADER: usize = 4096;

fn copy_with(disk: &TwinDisk, change: impl FnOnce(&mut BTreeMap<PathBuf, Vec<u8>>)) -> TwinDisk {
    let contents = |path: PathBuf| (path.clone(), disk.contents(&path).unwrap());
    let mut files = disk.paths().into_iter().map(contents).collect();
    change(&mut files);
    let copy = TwinDisk::new();
    for (path, bytes) in files {
        copy.put(&path, bytes);
    }
    copy
}

/// What must be true of any log whose damage is `lost`.
fn check(disk: &TwinDisk, options: &Options, expected: &BTreeMap<Lsn, Vec<u8>>, context: &str) {
    let up = open(disk, options.clone());
    assert_eq!(&up.replayed, expected, "{context}");
    for (lsn, position) in &up.positions {
        assert_eq!(
            &up.log.read(*position).unwrap(),
            &expected[lsn],
            "{context}"
        );
    }
    // It can be written, and what is written stays.
    let lsn = up.log.append(&[b"after"]).unwrap();
    assert!(up.watcher.settled(lsn), "{context}");
    drop(up);
    let up = open(disk, options.clone());
    let mut more = expected.clone();
    more.insert(lsn, b"after".to_vec());
    assert_eq!(up.replayed, more, "{context}, reopened");
}

fn records(lsns: impl Iterator<Item = Lsn>, len: usize) -> BTreeMap<Lsn, Vec<u8>> {
    lsns.map(|lsn| (lsn, payload(lsn, len))).collect()
}

#[test]
fn a_file_cut_at_any_byte_keeps_the_records_before_the_cut() {
    let options = small();
    let disk = filled(&options, 12, 60);
    let end = HEADER + 12 * 84;
    for cut in HEADER..=end {
        // Cut both ways: the file ends, or zeros follow as in allocated space.
        for zeros in [false, true] {
            let hurt = copy_with(&disk, |files| {
                let file = files.get_mut(Path::new(FIRST)).unwrap();
                file.truncate(cut);
                if zeros {
                    file.resize(8192, 0);
                }
            });
            let whole = (cut - HEADER) as u64 / 84;
            check(
                &hurt,
                &options,
                &records(1..=whole, 60),
                &format!("cut at {cut}"),
            );
        }
    }
}

const LARGE: u32 = 64 << 10;

/// The active segment of two, 64 KiB, cut at every byte: what is in front of the cut is there, what is
/// behind it is not, nothing is called damage and no file goes.
fn cut_at_every_byte_of(quarter: usize) {
    let options = Options {
        segment_bytes: LARGE,
        record_bytes_max: 8192,
        ..small()
    };
    let disk = filled(&options, 112, 1_000);
    let names = disk.paths();
    let positions = {
        let up = open(&copy_with(&disk, |_| ()), options.clone());
        assert_eq!((names.len(), up.log.segments().len()), (2, 2));
        up.positions
    };
    let end_of = |lsn: &Lsn| match positions[lsn] {
        at if at.segment == 0 => 0,
        at => at.offset as usize + 1_024,
    };
    let ends: Vec<usize> = positions.keys().map(end_of).collect();
    assert!(
        *ends.last().unwrap() > LARGE as usize - 8192,
        "it is nearly full"
    );
    let (sealed, active) = (&names[0], &names[1]);
    let [sealed_bytes, active_bytes] = [sealed, active].map(|name| disk.contents(name).unwrap());
    let whole = records(1..=112, 1_000);
    for cut in (0..LARGE as usize)
        .skip(quarter * LARGE as usize / 4)
        .take(LARGE as usize / 4)
    {
        let hurt = TwinDisk::new();
        hurt.put(sealed, sealed_bytes.clone());
        hurt.put(active, active_bytes[..cut.min(active_bytes.len())].to_vec());
        let kept = ends.iter().filter(|end| **end <= cut).count();
        let mut replayed = 0;
        let opened = Log::open(
            Arc::new(hurt.clone()),
            Path::new(DIR),
            options.clone(),
            &mut |lsn, _, body| {
                replayed += 1;
                assert_eq!(
                    (lsn, body),
                    (replayed, whole[&replayed].as_slice()),
                    "cut at {cut}"
                );
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(replayed as usize, kept, "cut at {cut}");
        // Of the header both copies may be cut off, which is reported.
        let lsns: Vec<_> = opened
            .recovery
            .damage
            .iter()
            .filter_map(|damage| damage.lsns)
            .collect();
        assert_eq!(lsns, [], "cut at {cut}");
        assert!(hurt.removed().is_empty(), "cut at {cut}");
    }
}

#[test]
fn a_cut_in_the_first_quarter_costs_what_is_behind_it() {
    cut_at_every_byte_of(0);
}

#[test]
fn a_cut_in_the_second_quarter_costs_what_is_behind_it() {
    cut_at_every_byte_of(1);
}

#[test]
fn a_cut_in_the_third_quarter_costs_what_is_behind_it() {
    cut_at_every_byte_of(2);
}

#[test]
fn a_cut_in_the_last_quarter_costs_what_is_behind_it() {
    cut_at_every_byte_of(3);
}

#[test]
fn every_flipped_bit_costs_at_most_its_own_record_and_is_reported() {
    let options = small();
    // Two segments, the first sealed.
    let disk = filled(&options, 8, 500);
    let names: Vec<PathBuf> = disk.paths();
    assert_eq!(names.len(), 2);
    let offsets = offsets(&disk, &options);
    for (ordinal, name) in names.iter().enumerate() {
        // Up to the end of the marker and a little further.
        let whole = disk.contents(name).unwrap();
        let used = (whole.iter().rposition(|&b| b != 0).unwrap() + 30).min(whole.len());
        let headers = |byte: &usize| {
            offsets
                .iter()
                .any(|(_, o, at)| *o == ordinal && (*at..at + 24).contains(byte))
        };
        for byte in (0..used).filter(|&b| !(2100..HEADER).contains(&b)) {
            // All bits of the record headers, elsewhere one bit of every fifth byte.
            let bits = match headers(&byte) {
                true => 0..8,
                false if byte % 5 == 0 => byte % 8..byte % 8 + 1,
                false => 0..0,
            };
            for bit in bits {
                flip(&disk, &options, name, (ordinal, byte, bit), &offsets);
            }
        }
    }
}

fn offsets(disk: &TwinDisk, options: &Options) -> Vec<(Lsn, usize, usize)> {
    let up = open(&copy_with(disk, |_| ()), options.clone());
    let place =
        |(lsn, at): (&Lsn, &pinnace_log::Position)| (*lsn, at.segment as usize, at.offset as usize);
    up.positions.iter().map(place).collect()
}

fn flip(
    disk: &TwinDisk,
    options: &Options,
    name: &Path,
    (ordinal, byte, bit): (usize, usize, usize),
    offsets: &[(Lsn, usize, usize)],
) {
    let hurt = copy_with(disk, |files| files.get_mut(name).unwrap()[byte] ^= 1 << bit);
    let before = hurt.contents(name).unwrap();
    let hit = offsets
        .iter()
        .find(|(_, o, at)| *o == ordinal && (*at..*at + 524).contains(&byte))
        .map(|(lsn, ..)| *lsn);
    let up = open(&hurt, options.clone());
    let context = format!("{} byte {byte} bit {bit}", name.display());
    let expected = records((1..=8).filter(|&lsn| Some(lsn) != hit), 500);
    assert_eq!(up.replayed, expected, "{context}");
    assert!(hurt.removed().is_empty(), "{context}");
    match hit {
        Some(lsn) => {
            let [damage] = &up.recovery.damage[..] else {
                panic!("{context}: {:?}", up.recovery)
            };
            assert_eq!(damage.lsns, Some((lsn, lsn)), "{context}");
            assert_eq!(damage.segment, name.file_name().unwrap().to_str().unwrap());
            let range = damage.offset as usize..(damage.offset + damage.bytes) as usize;
            assert!(range.contains(&byte), "{context}: {damage:?}");
            let copy = hurt.contents(damage.copy.as_ref().unwrap()).unwrap();
            assert_eq!(copy, before[range], "{context}");
            assert!(
                hurt.contents(&damage.copy.as_ref().unwrap().with_extension("txt"))
                    .is_some()
            );
            let lsn = up.log.append(&[b"more"]).unwrap();
            assert!(up.watcher.settled(lsn));
            drop(up);
            assert_eq!(
                hurt.contents(name).unwrap(),
                before,
                "{context}: the segment was changed"
            );
            let again = open(&hurt, options.clone());
            assert_eq!(again.replayed.len(), 8, "{context}");
            assert_eq!(again.recovery.damage.len(), 1, "{context}");
        }
        None if byte < 32 || (2048..2080).contains(&byte) => {
            let [damage] = &up.recovery.damage[..] else {
                panic!("{context}: {:?}", up.recovery)
            };
            assert_eq!(damage.lsns, None);
        }
        None => assert!(up.recovery.damage.is_empty(), "{context}"),
    }
}

#[test]
fn damage_while_running_is_found_on_read() {
    let disk = TwinDisk::new();
    let up = open(&disk, small());
    up.log.append(&[&payload(1, 100)]).unwrap();
    up.log.append(&[&payload(2, 100)]).unwrap();
    assert!(up.watcher.settled(2));
    let [first, second] = [1, 2].map(|lsn| up.watcher.seen().committed[&lsn]);
    use pinnace_log::Disk;
    let file = disk.open(Path::new(FIRST)).unwrap();
    file.write_at(b"?", u64::from(second.offset) + 30).unwrap();
    assert_eq!(up.log.read(first).unwrap(), payload(1, 100));
    let Err(ReadError::Damaged { offset, .. }) = up.log.read(second) else {
        panic!()
    };
    assert_eq!(offset, second.offset);
}

#[test]
fn a_segment_somebody_removed_is_reported_with_its_lsns() {
    let options = small();
    let disk = filled(&options, 30, 300);
    let names = disk.paths();
    let up = open(&copy_with(&disk, |_| ()), options.clone());
    let firsts: Vec<Lsn> = up
        .log
        .segments()
        .iter()
        .map(|segment| segment.first_lsn)
        .collect();
    let hurt = copy_with(&disk, |files| drop(files.remove(&names[1])));
    let up = open(&hurt, options);
    let [damage] = &up.recovery.damage[..] else {
        panic!("{:?}", up.recovery)
    };
    assert_eq!(damage.lsns, Some((firsts[1], firsts[2] - 1)));
    assert_eq!(up.replayed.len() as u64, 30 - (firsts[2] - firsts[1]));
}

#[test]
fn a_whole_lost_header_block_is_replaced_by_a_neighbour() {
    let options = small();
    let disk = filled(&options, 30, 300);
    let name = disk.paths()[1].clone();
    let hurt = copy_with(&disk, |files| {
        files.get_mut(&name).unwrap()[..HEADER].fill(0xaa);
    });
    let up = open(&hurt, options);
    assert_eq!(up.replayed, records(1..=30, 300));
    assert_eq!(up.recovery.damage.len(), 1);
    assert!(disk.paths().iter().all(|path| path.starts_with(DIR)));
}

/// The active segment is empty and has lost its header. What is written from then on must not depend on
/// the segment in front, which may be dropped.
#[test]
fn a_log_that_went_on_after_a_lost_header_stands_alone() {
    let options = small();
    let disk = filled(&options, 4, 800);
    let name = Path::new("log/00000000000000000005.log");
    let hurt = copy_with(&disk, |files| {
        files.insert(name.to_owned(), vec![0; 100]);
    });
    let up = open(&hurt, options.clone());
    assert_eq!(up.replayed, records(1..=4, 800));
    assert_eq!(up.recovery.damage.len(), 1);
    assert!(
        up.watcher
            .settled(up.log.append(&[&payload(5, 800)]).unwrap())
    );
    up.log.drop_segments_before(5).unwrap();
    drop(up);
    let up = open(&hurt, options);
    assert_eq!(up.replayed, records(5..=5, 800));
    assert!(up.recovery.damage.is_empty(), "{:?}", up.recovery);
}

/// A removal that fails is tried again before any other, so there is never a hole.
#[test]
fn segments_go_in_order_whatever_fails() {
    let options = small();
    for n in 1..=6 {
        let disk = filled(&options, 30, 700);
        let up = open(&disk, options.clone());
        let segments = up.log.segments();
        let before = disk.removed().len();
        disk.fail_nth(n, Fault::Eio, false);
        let first = up.log.drop_segments_before(segments[3].first_lsn);
        assert!(first.is_err(), "n {n}");
        let _ = up.log.drop_segments_before(segments[5].first_lsn);
        let removed = disk.removed().len() - before;
        // After a failed sync nothing more goes.
        assert_eq!(
            removed,
            if n % 2 == 1 { 5 } else { n as usize / 2 },
            "n {n}"
        );
        for survival in [Survival::Nothing, Survival::Everything] {
            let found = open(&disk.after_crash(survival), options.clone());
            assert!(
                found.recovery.damage.is_empty(),
                "n {n}: {:?}",
                found.recovery
            );
        }
    }
}
