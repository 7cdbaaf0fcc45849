//! Large files whose chunks have almost all changed, but little in each of them, and the questions about their parts.

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use pinnace_sync::chunk::content_of;
use pinnace_sync::server::FailureCode;
use pinnace_sync::wire::{Detail, FrameKind, read_frame, read_parts, write_frame};

use crate::hand::{Answer, Client, answer, dir, number, pack, streamed};
use crate::pair::Pair;
use crate::story::noise;

const BYTES: usize = 8_000_000;

/// A pair that has mirrored a large file, and its content.
fn mirrored() -> (Pair, Vec<u8>) {
    let pair = Pair::new();
    let content = noise(1, BYTES);
    fs::write(pair.source().join("large"), &content).unwrap();
    pair.once();
    (pair, content)
}

/// With a byte more in every so many.
fn longer(content: &[u8], every: usize) -> Vec<u8> {
    let stretches = content.chunks(every);
    stretches.flat_map(|own| [own, b"x"].concat()).collect()
}

#[test]
fn of_an_archive_with_new_times_only_those_are_sent() {
    let (pair, content) = mirrored();
    fs::write(pair.source().join("large"), longer(&content, 8_000)).unwrap();
    let (outcome, sent) = pair.once();
    pair.assert_equal();
    assert!(sent < BYTES as u64 / 4, "{sent} bytes");
    assert!(outcome.received_bytes < 200_000, "{outcome:?}");
    // The next version is made of this one.
    fs::write(pair.source().join("large"), longer(&content, 7_000)).unwrap();
    let (_, sent) = pair.once();
    pair.assert_equal();
    assert!(sent < BYTES as u64 / 2, "{sent} bytes");
}

#[test]
fn a_file_that_is_another_is_asked_about_in_vain_and_arrives() {
    let (pair, _) = mirrored();
    fs::write(pair.source().join("large"), noise(2, 2 * BYTES)).unwrap();
    let (outcome, _) = pair.once();
    pair.assert_equal();
    assert!(outcome.received_bytes < 300_000, "{outcome:?}");
}

#[test]
fn parts_that_somebody_changed_in_the_share_are_not_built_upon() {
    let (pair, content) = mirrored();
    // The same length and times, as if a disk had done it.
    let file = fs::File::options()
        .write(true)
        .open(pair.share().join("large"))
        .unwrap();
    let times = file.metadata().unwrap().modified().unwrap();
    for at in (0..BYTES).step_by(900) {
        file.write_all_at(b"?", at as u64).unwrap();
    }
    file.set_modified(times).unwrap();
    fs::write(pair.source().join("large"), longer(&content, 8_000)).unwrap();
    pair.once();
    pair.assert_equal();
}

/// Sends a question, and hears the answer to it.
fn ask(client: &mut Client, bulk: &mut UnixStream, detail: &Detail<'_>) -> Option<usize> {
    write_frame(bulk, FrameKind::Detail, &[&detail.write()]).unwrap();
    let mut body = Vec::new();
    match read_frame(&mut client.stream, &mut body) {
        Ok(FrameKind::Parts) => {
            let (stream, parts) = read_parts(&body).unwrap();
            assert_eq!(stream, detail.stream);
            Some(parts.len())
        }
        Ok(FrameKind::Refused) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn questions_that_make_no_sense_get_no_answer() {
    let (pair, content) = mirrored();
    let (id, recipe) = content_of(&content);
    let chunks = recipe.unwrap().chunks.len() as u32;
    let base = Some((&b"large"[..], id));
    for (what, begin, ranges, expected) in [
        ("a question", base, vec![(0, 1)], Some(1)),
        ("nothing", base, vec![], Some(0)),
        ("of a stream that never began", None, vec![(0, 1)], Some(0)),
        (
            "a base that is another",
            Some((&b"large"[..], pinnace_sync::ContentId([1; 32]))),
            vec![(0, 1)],
            Some(0),
        ),
        (
            "a base that is not there",
            Some((&b"none"[..], id)),
            vec![(0, 1)],
            Some(0),
        ),
        ("chunks beyond the end", base, vec![(chunks - 1, 2)], None),
        (
            "chunks beyond all numbers",
            base,
            vec![(u32::MAX, u32::MAX)],
            None,
        ),
        (
            "more than there is room for",
            base,
            vec![(0, chunks); 3],
            None,
        ),
    ] {
        let mut client = Client::greeted(&pair);
        let token = client.token.clone();
        let mut bulk = client.attach(&pair, &token);
        let detail = Detail {
            stream: 1,
            begin,
            ranges,
        };
        let parts = ask(&mut client, &mut bulk, &detail);
        assert_eq!(parts.map(|parts| parts.min(1)), expected, "{what}");
        client.kept.push(bulk);
        client.end();
    }
    // Beginning twice.
    let mut client = Client::greeted(&pair);
    let token = client.token.clone();
    let mut bulk = client.attach(&pair, &token);
    let detail = Detail {
        stream: 1,
        begin: base,
        ranges: vec![(0, 1)],
    };
    assert!(ask(&mut client, &mut bulk, &detail).is_some());
    assert_eq!(ask(&mut client, &mut bulk, &detail), None);
    client.kept.push(bulk);
    client.end();
    let stage = pair.folder.path().join("data/sync/s/stage");
    assert_eq!(fs::read_dir(stage).unwrap().count(), 0);
    pair.once();
    pair.assert_equal();
}

#[test]
fn a_file_made_of_wrong_parts_stays_out() {
    let (pair, content) = mirrored();
    let id = content_of(&content).0;
    let part = |from: u64, bytes: u64| [&[3][..], &number(from), &number(bytes)].concat();
    let beyond = part(BYTES as u64 - 1, 2);
    let far = part(u64::MAX, 9);
    for (what, steps, code) in [
        ("another content", part(5, 700), FailureCode::Content),
        ("bytes beyond the end", beyond, FailureCode::Base),
        ("bytes beyond all ends", far, FailureCode::System),
    ] {
        let mut client = Client::greeted(&pair);
        let token = client.token.clone();
        let mut bulk = client.attach(&pair, &token);
        let head = [&number(1)[..], &[1, 5], b"large", &id.0].concat();
        let piece = [&head[..], &[2], &steps, &[5]].concat();
        write_frame(&mut bulk, FrameKind::Piece, &[&piece]).unwrap();
        let changes = [dir(b""), streamed(0, b"large", 1)].concat();
        let body = pack(0, client.next, &changes, b"");
        client.next += 1;
        write_frame(&mut bulk, FrameKind::Pack, &[&body]).unwrap();
        let told = answer(&mut client.stream, client.next - 1);
        assert_eq!(told, Answer::Failed(code), "{what}");
        client.kept.push(bulk);
        client.end();
    }
    pair.once();
    pair.assert_equal();
}
