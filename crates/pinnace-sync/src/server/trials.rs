//! Faults of the disk that no test can cause from outside.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::sync::{ClientState, Durability, Hello, Refused, Welcome};

use super::{Link, Listener, ShareError, Shares};
use crate::ContentId;
use crate::chunk::CHUNKING_VERSION;
use crate::index::StoreError;
use crate::meta::Stamp;
use crate::wire::{Facts, FrameKind, Op, PackBuilder, Place, read_frame, read_rows, write_frame};

struct Quiet;

impl Listener for Quiet {
    fn changed(&self, _: &str, _: u64, _: u64, _: &[String]) {}
    fn client_is(&self, _: &str, _: &ClientState, _: u64) {}
    fn clock(&self) -> fn() -> u64 {
        || 0
    }
}

fn shares(folder: &tempfile::TempDir) -> Arc<Shares> {
    Arc::new(Shares::new(folder.path(), Arc::new(Quiet)))
}

/// A session with a share, taken: the client's end, its welcome, and the paths that were told.
fn session(shares: &Arc<Shares>) -> (UnixStream, Welcome, Vec<Vec<u8>>) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let close = theirs.try_clone().unwrap();
    let link = Link {
        reader: Box::new(theirs.try_clone().unwrap()),
        writer: Box::new(theirs),
        close: Some(Box::new(move || {
            let _ = close.shutdown(Shutdown::Both);
        })),
        address: "here".to_owned(),
    };
    let shares = shares.clone();
    std::thread::spawn(move || shares.serve("s", link));
    let hello = Hello {
        v: DOCUMENT_VERSION,
        share: "s".to_owned(),
        name: "tester".to_owned(),
        replica: "r".to_owned(),
        lineage: String::new(),
        seq: 0,
        durability: Durability::None,
        chunking: CHUNKING_VERSION,
        only_looks: false,
        recheck: false,
    };
    let json = serde_json::to_vec(&hello).unwrap();
    write_frame(&mut ours, FrameKind::Hello, &[&json]).unwrap();
    let (mut body, mut paths) = (Vec::new(), Vec::new());
    let kind = read_frame(&mut ours, &mut body).unwrap();
    assert_eq!(kind, FrameKind::Welcome);
    let welcome = serde_json::from_slice(&body).unwrap();
    while read_frame(&mut ours, &mut body).unwrap() == FrameKind::Rows {
        read_rows(&body, |path, _| paths.push(path.to_vec())).unwrap();
    }
    (ours, welcome, paths)
}

/// Sends a pack with one file. Returns the answer.
fn write_file(to: &mut UnixStream, seq: u64, name: &[u8]) -> (FrameKind, Vec<u8>) {
    let mut pack = PackBuilder::default();
    let dir = pack.dir(b"");
    pack.push(&Op::File {
        at: Place { dir, name },
        facts: Facts {
            mode: 0o644,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mtime: Stamp { secs: 1, nanos: 0 },
            attrs: &[],
        },
        content: ContentId(*blake3::hash(b"").as_bytes()),
        cuts: Vec::new(),
        body: 0..0,
    });
    let parts = pack.finish(seq, None);
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    write_frame(to, FrameKind::Pack, &parts).unwrap();
    let mut body = Vec::new();
    (read_frame(to, &mut body).unwrap(), body)
}

fn code(body: &[u8]) -> String {
    serde_json::from_slice::<Refused>(body).unwrap().code
}

#[test]
fn a_share_whose_log_cannot_be_written_is_compared_anew_by_the_next_session() {
    let folder = tempfile::tempdir().unwrap();
    let shares = shares(&folder);
    let (mut link, welcome, _) = session(&shares);
    let (kind, _) = write_file(&mut link, welcome.seq + 1, b"a");
    assert_eq!(kind, FrameKind::Committed);
    let (share, _) = shares.known("s").unwrap();
    share.lock().store.break_log();
    let (kind, body) = write_file(&mut link, welcome.seq + 2, b"b");
    assert_eq!(kind, FrameKind::Refused);
    assert_eq!(code(&body), "again");
    drop(share);
    // The file is there, and nobody was told of it until now.
    let (mut link, again, paths) = session(&shares);
    assert_eq!(again.lineage, welcome.lineage);
    assert!(paths.contains(&b"b".to_vec()), "{paths:?}");
    let (kind, _) = write_file(&mut link, again.seq + 1, b"c");
    assert_eq!(kind, FrameKind::Committed);
    assert_eq!(shares.info("s").unwrap().problem, None);
}

#[test]
fn only_a_sync_that_failed_is_final() {
    let folder = tempfile::tempdir().unwrap();
    let shares = shares(&folder);
    let (mut link, welcome, _) = session(&shares);
    let (share, _) = shares.known("s").unwrap();
    let error = |action| StoreError::Io {
        action,
        path: folder.path().to_owned(),
        source: std::io::Error::from(std::io::ErrorKind::StorageFull),
    };
    assert_eq!(ShareError::Store(error("write")).code(), "again");
    assert_eq!(share.lock().note_failure(error("sync")).code(), "storage");
    for _ in 0..2 {
        let (kind, body) = write_file(&mut link, welcome.seq + 1, b"a");
        assert_eq!(kind, FrameKind::Refused);
        assert_eq!(code(&body), "storage");
        link = session(&shares).0;
    }
    assert!(shares.info("s").unwrap().problem.is_some());
}

#[test]
fn after_a_sync_that_failed_nothing_that_was_not_durable_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let before = shares(&folder);
    let (mut link, welcome, _) = session(&before);
    let (kind, _) = write_file(&mut link, welcome.seq + 1, b"a");
    assert_eq!(kind, FrameKind::Committed);
    before.known("s").unwrap().0.fail("a sync failed");
    // The server is started anew.
    let after = shares(&folder);
    let (_link, again, paths) = session(&after);
    assert_ne!(again.lineage, welcome.lineage);
    assert!(paths.contains(&b"a".to_vec()), "{paths:?}");
    assert_eq!(after.info("s").unwrap().problem, None);
}
