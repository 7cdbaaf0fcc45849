//! Format 1, written by hand from `docs/formats/log.md`: old logs stay readable, newer are refused.

use std::path::Path;

use pinnace_log::OpenError;
use pinnace_log::twin::TwinDisk;

use crate::harness::{open, small, try_open};

/// CRC-32C bit by bit, so that the golden file does not depend on the crate under test.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

fn header(version: u32) -> Vec<u8> {
    let mut head = b"PINNLOG\0".to_vec();
    head.extend(version.to_le_bytes());
    head.extend([0; 4]);
    head.extend(41_u64.to_le_bytes());
    head.extend(0xfeed_beef_u32.to_le_bytes());
    head.extend(crc(&head).to_le_bytes());
    let mut block = head.clone();
    block.resize(2048, 0);
    block.extend(head);
    block.resize(4096, 0);
    block
}

fn record(lsn: u64, unsynced: u32, body: &[u8]) -> Vec<u8> {
    let mut sealed = 0xfeed_beef_u32.to_le_bytes().to_vec();
    sealed.extend(crc(body).to_le_bytes());
    sealed.extend(lsn.to_le_bytes());
    sealed.extend((body.len() as u32).to_le_bytes());
    sealed.extend(unsynced.to_le_bytes());
    [&crc(&sealed).to_le_bytes(), &sealed[4..], body].concat()
}

const NAME: &str = "log/00000000000000000041.log";

#[test]
fn a_log_of_format_1_is_readable() {
    assert_eq!(crc(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
    let mut bytes = header(1);
    bytes.extend(record(41, 1, b"first"));
    bytes.extend(record(42, 2, b""));
    bytes.extend(record(43, 1, b"third"));
    let disk = TwinDisk::new();
    disk.put(Path::new(NAME), bytes);
    let up = open(&disk, small());
    let found: Vec<_> = up
        .replayed
        .iter()
        .map(|(lsn, body)| (*lsn, body.as_slice()))
        .collect();
    assert_eq!(found, [(41, &b"first"[..]), (42, b""), (43, b"third")]);
    assert!(up.recovery.damage.is_empty() && up.recovery.torn.is_none());
    // And what is written now is in that format.
    assert!(up.watcher.settled(up.log.append(&[b"fourth"]).unwrap()));
    drop(up);
    let bytes = disk.contents(Path::new(NAME)).unwrap();
    let at = 4096 + 3 * 24 + 10;
    assert_eq!(bytes[at..at + 30], record(44, 1, b"fourth"));
}

#[test]
fn a_newer_version_is_refused_and_nothing_is_changed() {
    for version in [2, 3, u32::MAX] {
        let disk = TwinDisk::new();
        disk.put(Path::new(NAME), header(version));
        let before = disk.contents(Path::new(NAME));
        let Err(error) = try_open(&disk, small()) else {
            panic!("opened")
        };
        assert!(matches!(error, OpenError::NewerVersion { found, .. } if found == version));
        assert!(error.to_string().contains("newer program"), "{error}");
        assert_eq!(disk.contents(Path::new(NAME)), before);
        assert_eq!(disk.paths().len(), 1);
    }
}

#[test]
fn strangers_are_refused_and_unfinished_segments_removed() {
    let disk = TwinDisk::new();
    disk.put(Path::new(NAME), header(1));
    disk.put(Path::new("log/00000000000000000007.log"), header(1));
    assert!(matches!(
        try_open(&disk, small()),
        Err(OpenError::ForeignSegment { .. })
    ));
    let disk = TwinDisk::new();
    disk.put(Path::new(NAME), vec![0; 5000]);
    assert!(matches!(
        try_open(&disk, small()),
        Err(OpenError::HeaderLost { .. })
    ));
    let disk = TwinDisk::new();
    disk.put(Path::new(NAME), header(1));
    disk.put(Path::new("log/00000000000000000050.new"), vec![1; 50]);
    disk.put(Path::new("log/notes.txt"), b"mine".to_vec());
    let up = open(&disk, small());
    assert_eq!(disk.paths(), [Path::new(NAME), Path::new("log/notes.txt")]);
    assert_eq!(up.log.append(&[b"x"]).unwrap(), 41);
}
