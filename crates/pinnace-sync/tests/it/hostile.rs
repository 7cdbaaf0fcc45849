//! A client that speaks the wire format by hand, and not to mirror anything.
//!
//! After each attack the server has answered as `docs/formats/sync.md` says, within a deadline; nothing beside the share
//! has changed; and an honest client mirrors into the share until both are equal.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::symlink;

use pinnace_sync::chunk::content_of;
use pinnace_sync::server::FailureCode;
use pinnace_sync::wire::{FRAME_BYTES_MAX, FrameKind, head, write_frame};

use crate::hand::{
    Answer, Client, answer, at, bytes, dir, exchange, facts, file, hello, link, meta, mkdir,
    number, pack, patch, protocol, remove, rename, streamed,
};
use crate::pair::Pair;

struct Ground {
    pair: Pair,
}

impl Ground {
    fn new() -> Self {
        let pair = Pair::new();
        let at = |path: &str| pair.source().join(path);
        std::fs::create_dir_all(at("d/e")).unwrap();
        std::fs::write(at("d/f"), "f").unwrap();
        std::fs::write(at("f"), "f").unwrap();
        std::fs::write(at("large"), large()).unwrap();
        symlink("../../../canary", at("out")).unwrap();
        let canary = pair.folder.path().join("canary");
        std::fs::create_dir(&canary).unwrap();
        std::fs::write(canary.join("secret"), "s").unwrap();
        pair.once();
        Self { pair }
    }

    /// Attacks in a session, and looks at what came of it.
    fn attack(&self, what: &str, attack: impl FnOnce(&mut Client), expected: &[Answer]) {
        let canary = self.pair.folder.path().join("canary");
        let before = crate::tree::read(&canary);
        let mut client = Client::greeted(&self.pair);
        attack(&mut client);
        let answer = client.answer();
        assert!(expected.contains(&answer), "{what}: {answer:?}");
        client.end();
        assert_eq!(before, crate::tree::read(&canary), "{what}");
        self.pair.once();
        self.pair.assert_equal();
    }
}

/// A content in chunks.
fn large() -> Vec<u8> {
    let mut bytes = vec![0; 200_000];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

const BAD_NAMES: [&[u8]; 9] = [
    b"",
    b".",
    b"..",
    b"/",
    b"/etc",
    b"../canary",
    b"a/b",
    b"a\0b",
    &[b'x'; 256],
];

#[test]
fn names_that_are_none_are_refused_in_every_change() {
    let ground = Ground::new();
    let long = [b'x'; 5000];
    for name in BAD_NAMES.into_iter().chain([&long[..]]) {
        let id = [0; 32];
        let changes = [
            mkdir(0, name),
            file(0, name),
            [&[3][..], &at(0, name), &facts(), &bytes(b"t")].concat(),
            link(0, name, b"f"),
            rename(b"f", 0, name),
            remove(0, name),
            patch(0, name, b"large", id, &[0]),
            streamed(0, name, 1),
            meta(0, name, 1),
        ];
        for (kind, change) in changes.iter().enumerate() {
            if kind == 8 && name.is_empty() {
                continue;
            }
            let what = format!("change {kind} of {name:?}");
            let changes = [&dir(b"")[..], change].concat();
            ground.attack(&what, |client| client.pack(1, &changes, b""), &[protocol()]);
        }
    }
}

#[test]
fn paths_that_leave_the_share_are_refused_wherever_they_stand() {
    let ground = Ground::new();
    let deep = [b'x', b'/'].repeat(2049);
    let paths: [&[u8]; 7] = [
        b"/",
        b"/etc/passwd",
        b"../canary/secret",
        b"d/../../canary",
        b"d//f",
        b"d/.",
        &deep[..4097],
    ];
    for path in paths {
        let changes = [
            dir(path),
            link(0, b"n", path),
            rename(path, 0, b"n"),
            exchange(path, b"f"),
            exchange(b"f", path),
            patch(0, b"n", path, [0; 32], &[0]),
        ];
        for (kind, change) in changes.iter().enumerate() {
            let what = format!("change {kind} with {path:?}");
            let changes = [&dir(b"")[..], change].concat();
            ground.attack(&what, |client| client.pack(1, &changes, b""), &[protocol()]);
        }
    }
    // A symlink in the share leads out of it, and nobody follows it.
    for changes in [
        [dir(b"out"), file(0, b"planted")].concat(),
        [dir(b""), link(0, b"n", b"out/secret")].concat(),
        [dir(b""), rename(b"out/secret", 0, b"n")].concat(),
        [dir(b"out"), remove(0, b"secret")].concat(),
        [dir(b"out"), meta(0, b"", 2)].concat(),
        [dir(b""), meta(0, b"out", 1)].concat(),
        [
            dir(b""),
            patch(0, b"n", b"out/secret", *blake3::hash(b"s").as_bytes(), &[0]),
        ]
        .concat(),
    ] {
        let what = format!("{changes:?}");
        let failed = [FailureCode::Missing, FailureCode::Base].map(Answer::Failed);
        ground.attack(&what, |client| client.pack(1, &changes, b""), &failed);
    }
}

#[test]
fn numbers_beyond_their_bounds_are_refused() {
    let ground = Ground::new();
    let root = dir(b"");
    let many_dirs: Vec<u8> = (0..129)
        .flat_map(|n| mkdir(0, format!("n{n}").as_bytes()))
        .collect();
    let many: Vec<u8> = (0..16385).flat_map(|_| remove(0, b"n")).collect();
    let file_of = |length: u64, cuts: &[u8]| {
        let id = *blake3::hash(b"").as_bytes();
        [&[2][..], &at(0, b"n"), &facts(), &id, &number(length), cuts].concat()
    };
    let cuts = [&number(65537)[..], &vec![1; 65537]].concat();
    let huge = number(u64::MAX);
    let cases: Vec<(&str, Vec<u8>, usize)> = vec![
        ("a directory that the pack does not have", file(1, b"n"), 0),
        ("129 new directories", many_dirs, 0),
        ("16385 changes", many, 0),
        ("a body beyond the pack", file_of(10, &[0]), 9),
        ("a body of 2^64 bytes", file_of(u64::MAX, &[0]), 9),
        ("bytes that belong to nothing", file_of(0, &[0]), 1),
        ("more chunks than bytes", file_of(9, &huge), 9),
        ("chunks that are not the file", file_of(9, &[2, 4, 4]), 9),
        ("a chunk of nothing", file_of(4, &[2, 4, 0]), 4),
        ("65537 chunks", file_of(65537, &cuts), 65537),
        (
            "a mode of more bits",
            { [&[1][..], &at(0, b"n"), &number(0o10000), &[0, 0, 2, 0, 0]].concat() },
            0,
        ),
        (
            "a second of more nanoseconds",
            {
                let nanos = number(1_000_000_000);
                [&[1][..], &at(0, b"n"), &[0, 0, 0, 2], &nanos, &[0]].concat()
            },
            0,
        ),
        (
            "attributes beyond the pack",
            { [&[1][..], &at(0, b"n"), &[0, 0, 0, 2, 0], &huge].concat() },
            0,
        ),
        (
            "attributes out of order",
            {
                let attrs = [bytes(b"user.b"), bytes(b""), bytes(b"user.a"), bytes(b"")].concat();
                [&[1][..], &at(0, b"n"), &[0, 0, 0, 2, 0], &bytes(&attrs)].concat()
            },
            0,
        ),
        (
            "more steps than bytes",
            patch(0, b"n", b"large", [0; 32], &huge),
            0,
        ),
        (
            "a step that overflows",
            {
                let steps = [&[1, 0][..], &number(u32::MAX.into()), &number(1)].concat();
                patch(0, b"n", b"large", [0; 32], &steps)
            },
            0,
        ),
        ("an unknown change", vec![11], 0),
        ("an unknown kind of entry", meta(0, b"f", 4), 0),
        (
            "a number that never ends",
            [&[0][..], &[0xff; 11]].concat(),
            0,
        ),
    ];
    for (what, changes, bodies) in cases {
        let changes = [&root[..], &changes].concat();
        let bodies = vec![7; bodies];
        ground.attack(
            what,
            |client| client.pack(1, &changes, &bodies),
            &[protocol()],
        );
    }
}

#[test]
fn contents_that_are_not_what_they_say_stay_out() {
    let ground = Ground::new();
    let (id, recipe) = content_of(&large());
    let chunks = recipe.unwrap().chunks.len() as u64;
    let root = dir(b"");
    let beyond = [&[1, 0][..], &number(chunks), &number(1)].concat();
    let copies = [&[0, 0][..], &number(chunks)].concat();
    let repeated = [
        number(100_000 / chunks),
        copies.repeat((100_000 / chunks) as usize),
    ]
    .concat();
    for (what, changes, bodies, code) in [
        (
            "another hash",
            {
                let id = [9; 32];
                [&[2][..], &at(0, b"f"), &facts(), &id, &[1, 0]].concat()
            },
            &b"x"[..],
            FailureCode::Content,
        ),
        (
            "chunks that the base does not have",
            patch(0, b"f", b"large", id.0, &beyond),
            b"",
            FailureCode::Base,
        ),
        (
            "a base that is another",
            patch(0, b"f", b"large", [1; 32], &[0]),
            b"",
            FailureCode::Base,
        ),
        (
            "a base that is not in chunks",
            patch(0, b"f", b"d/f", *blake3::hash(b"f").as_bytes(), &[0]),
            b"",
            FailureCode::Base,
        ),
        (
            "a base repeated until the disk is full",
            patch(0, b"f", b"large", id.0, &repeated),
            b"",
            FailureCode::Space,
        ),
        (
            "a patch of another hash",
            patch(0, b"f", b"large", id.0, &[1, 0, 0, 1]),
            b"",
            FailureCode::Content,
        ),
        (
            "a stream that never was",
            streamed(0, b"f", 7),
            b"",
            FailureCode::Content,
        ),
    ] {
        let changes = [&root[..], &changes].concat();
        let expected = [Answer::Failed(code)];
        ground.attack(what, |client| client.pack(1, &changes, bodies), &expected);
    }
}

#[test]
fn what_inflates_to_gigabytes_does_not() {
    let ground = Ground::new();
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..2048 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    // What is announced is the room there is for it, so the announcement is all that can be asked for.
    for announced in [1u32 << 20, 3 << 20, (3 << 20) + 1, u32::MAX] {
        let attack = |client: &mut Client| {
            let head = pack(1, client.next, b"", b"");
            let lengths = [&0u32.to_le_bytes()[..], &announced.to_le_bytes()].concat();
            let body = [&head[..9], &lengths, &bomb].concat();
            client.send(FrameKind::Pack, &body);
        };
        let what = format!("a bomb that announces {announced} bytes");
        ground.attack(&what, attack, &[protocol()]);
    }
    let attack = |client: &mut Client| {
        let pack = pack(2, client.next, b"", b"");
        client.send(FrameKind::Pack, &pack);
    };
    ground.attack("an unknown compression", attack, &[protocol()]);
}

#[test]
fn frames_that_are_none_end_the_session() {
    let ground = Ground::new();
    let raw = |bytes: Vec<u8>| {
        move |client: &mut Client| {
            let _ = client.stream.write_all(&bytes);
        }
    };
    let long = head(FrameKind::Pack, FRAME_BYTES_MAX + 1).to_vec();
    let endless = [&u32::MAX.to_le_bytes()[..], &[3]].concat();
    for (what, bytes) in [
        ("a frame of more than 10 MiB", long),
        ("a frame of 4 GiB", endless),
        ("an unknown kind of frame", vec![0, 0, 0, 0, 99]),
        ("a kind of the server's", head(FrameKind::Rows, 0).to_vec()),
        ("a second greeting", head(FrameKind::Hello, 0).to_vec()),
        (
            "a piece on the first connection",
            head(FrameKind::Piece, 0).to_vec(),
        ),
        ("a pack without a head", head(FrameKind::Pack, 0).to_vec()),
        (
            "a state that is no document",
            head(FrameKind::State, 0).to_vec(),
        ),
    ] {
        ground.attack(what, raw(bytes), &[protocol()]);
    }
    // A pack that is cut anywhere changes nothing.
    let changes = [dir(b""), file(0, b"cut")].concat();
    let body = pack(0, u64::MAX, &changes, b"");
    let whole = [&head(FrameKind::Pack, body.len())[..], &body].concat();
    for end in 1..whole.len() {
        let cut = whole[..end].to_vec();
        let attack = |client: &mut Client| {
            let _ = client.stream.write_all(&cut);
            let _ = client.stream.shutdown(Shutdown::Write);
        };
        ground.attack(&format!("cut after {end} bytes"), attack, &[Answer::Closed]);
        assert!(!ground.pair.share().join("cut").exists());
    }
}

#[test]
fn numbers_of_changes_are_used_once_and_in_order() {
    let ground = Ground::new();
    let make = |name: &str| [dir(b""), file(0, name.as_bytes())].concat();
    let repeated = |client: &mut Client| {
        client.pack(1, &make("one"), b"");
        client.next -= 1;
        client.pack(1, &make("two"), b"");
        // It may have been told that the first is there; what counts is the end.
        client.next = u64::MAX;
    };
    ground.attack("a number twice", repeated, &[protocol()]);
    for flags in [0, 128] {
        let back = |client: &mut Client| {
            let pack = pack(flags, 1, &make("old"), b"");
            client.send(FrameKind::Pack, &pack);
        };
        ground.attack("a number that was used", back, &[protocol()]);
        let gap = |client: &mut Client| {
            for ahead in 0..9000 {
                let pack = pack(flags, client.next + 1 + ahead, &make("ahead"), b"");
                client.send(FrameKind::Pack, &pack);
            }
        };
        ground.attack("a gap that is never filled", gap, &[protocol()]);
        let last = |client: &mut Client| {
            let pack = pack(flags, u64::MAX, &make("last"), b"");
            client.send(FrameKind::Pack, &pack);
            client.pack(1, &make("first"), b"");
        };
        ground.attack("the last number of all", last, &[Answer::Committed]);
    }
}

#[test]
fn packs_that_wait_may_come_before_what_they_wait_for() {
    let ground = Ground::new();
    // As they come when a thread of the client is held up between taking its number and sending.
    let attack = |client: &mut Client| {
        for ahead in (0..40).rev() {
            let changes = [dir(b""), file(0, format!("n{ahead}").as_bytes())].concat();
            let pack = pack(128, client.next + ahead, &changes, b"");
            client.send(FrameKind::Pack, &pack);
        }
        client.next += 40;
    };
    ground.attack("packs in reverse", attack, &[Answer::Committed]);
}

#[test]
fn who_was_not_greeted_gets_nothing() {
    let ground = Ground::new();
    let long = serde_json::to_vec(&hello(&"x".repeat(20_000))).unwrap();
    for (what, kind, body) in [
        ("a pack first", FrameKind::Pack, pack(0, 1, b"", b"")),
        (
            "a greeting that is no document",
            FrameKind::Hello,
            b"{".to_vec(),
        ),
        ("a greeting of 20 kB", FrameKind::Hello, long),
        (
            "an attachment without a session",
            FrameKind::Attach,
            b"{\"v\":1,\"token\":\"\"}".to_vec(),
        ),
    ] {
        let mut client = Client::new(&ground.pair);
        client.send(kind, &body);
        assert_eq!(answer(&mut client.stream, 0), protocol(), "{what}");
        client.end();
    }
    ground.pair.once();
    ground.pair.assert_equal();
}

#[test]
fn a_session_has_one_further_connection_by_its_token() {
    let ground = Ground::new();
    let attack = |client: &mut Client| {
        let mut wrong = client.attach(&ground.pair, "0");
        assert_eq!(answer(&mut wrong, 0), protocol());
        let token = client.token.clone();
        let mut bulk = client.attach(&ground.pair, &token);
        // It is attached when it is heard.
        write_frame(
            &mut bulk,
            FrameKind::Pack,
            &[&pack(0, client.next, &dir(b""), b"")],
        )
        .unwrap();
        let changes = [dir(b""), file(0, b"a")].concat();
        write_frame(
            &mut bulk,
            FrameKind::Pack,
            &[&pack(0, client.next, &changes, b"")],
        )
        .unwrap();
        assert_eq!(answer(&mut client.stream, client.next), Answer::Committed);
        client.next += 1;
        let mut second = client.attach(&ground.pair, &token);
        assert_eq!(answer(&mut second, 0), protocol());
        // The session goes on.
        client.kept.push(bulk);
        client.pack(1, &[dir(b""), file(0, b"b")].concat(), b"");
    };
    ground.attack("connections", attack, &[Answer::Committed]);
}

#[test]
fn streams_that_nobody_asks_for_are_bounded() {
    let ground = Ground::new();
    let attack = |client: &mut Client| {
        let token = client.token.clone();
        let mut bulk = client.attach(&ground.pair, &token);
        for stream in 0..200 {
            // It begins without a base, and one chunk of one byte follows.
            let begin = [&number(stream)[..], &[1, 0], &[0; 32], &[1, 1, 1], b"x"].concat();
            write_frame(&mut bulk, FrameKind::Piece, &[&begin]).unwrap();
            // Of one that never began.
            let on = [&number(stream + 1000)[..], &[0, 1, 1, 1], b"x"].concat();
            write_frame(&mut bulk, FrameKind::Piece, &[&on]).unwrap();
        }
        let changes = [dir(b""), streamed(0, b"n", 0)].concat();
        let body = pack(0, client.next, &changes, b"");
        client.next += 1;
        write_frame(&mut bulk, FrameKind::Pack, &[&body]).unwrap();
        let code = FailureCode::Content;
        let told = answer(&mut client.stream, client.next - 1);
        assert_eq!(told, Answer::Failed(code));
        let stage = ground.pair.folder.path().join("data/sync/s/stage");
        let staged = std::fs::read_dir(stage).unwrap().count();
        assert!((1..=8).contains(&staged), "{staged} files are staged");
        client.kept.push(bulk);
        client.pack(1, &[dir(b""), file(0, b"b")].concat(), b"");
    };
    ground.attack("many streams", attack, &[Answer::Committed]);
    let stage = ground.pair.folder.path().join("data/sync/s/stage");
    assert_eq!(std::fs::read_dir(stage).unwrap().count(), 0);
}

#[test]
fn changes_that_do_not_fit_the_tree_fail_alone() {
    let ground = Ground::new();
    let missing = Answer::Failed(FailureCode::Missing);
    let base = Answer::Failed(FailureCode::Base);
    let nonsense = protocol();
    let (root, d) = (dir(b""), dir(b"d"));
    for (what, count, changes, expected) in [
        ("a directory's facts for a file", 1, meta(0, b"f", 2), &base),
        ("a file's facts for a directory", 1, meta(0, b"d", 1), &base),
        (
            "a directory into itself",
            1,
            rename(b"d", 1, b"n"),
            &missing,
        ),
        (
            "an entry over what it lies in",
            1,
            rename(b"d/f", 0, b"d"),
            &missing,
        ),
        (
            "an entry onto itself",
            1,
            rename(b"d", 0, b"d"),
            &Answer::Committed,
        ),
        ("the root elsewhere", 1, rename(b"", 1, b"n"), &nonsense),
        ("a link to a directory", 1, link(0, b"n", b"d"), &missing),
        ("a link to the root", 1, link(0, b"n", b""), &nonsense),
        (
            "a link to itself",
            1,
            link(0, b"f", b"f"),
            &Answer::Committed,
        ),
        (
            "a link over its directory",
            1,
            link(0, b"d", b"d/f"),
            &Answer::Committed,
        ),
        (
            "an exchange with a parent",
            1,
            exchange(b"d", b"d/f"),
            &missing,
        ),
        (
            "an exchange with the root",
            1,
            exchange(b"", b"f"),
            &nonsense,
        ),
        ("an exchange with itself", 1, exchange(b"f", b"f"), &missing),
        (
            "a file in a file",
            1,
            [dir(b"f"), file(2, b"n")].concat(),
            &missing,
        ),
        (
            "a file in a directory that went",
            3,
            [file(1, b"n"), remove(0, b"d"), file(1, b"m")].concat(),
            &missing,
        ),
        (
            "a file in a directory that is a file now",
            4,
            [file(1, b"n"), remove(0, b"d"), file(0, b"d"), file(1, b"m")].concat(),
            &missing,
        ),
        (
            "a file in a new directory that went",
            4,
            [
                mkdir(0, b"n"),
                file(2, b"a"),
                remove(0, b"n"),
                file(2, b"b"),
            ]
            .concat(),
            &missing,
        ),
        (
            "a name twice in a new directory",
            3,
            [mkdir(0, b"n"), file(2, b"a"), file(2, b"a")].concat(),
            &Answer::Failed(FailureCode::System),
        ),
    ] {
        let changes = [&root[..], &d, &changes].concat();
        let expected = std::slice::from_ref(expected);
        ground.attack(what, |client| client.pack(count, &changes, b""), expected);
    }
}

#[test]
fn nothing_gets_so_deep_that_no_path_leads_there() {
    let mut ground = Ground::new();
    let name = [b'x'; 255];
    // So many directories in each other, and a file in the last.
    let deep = |levels: u64, top: &[u8]| {
        let mut changes = [dir(b""), mkdir(0, top)].concat();
        for level in 1..levels {
            changes.extend(mkdir(level, &name));
        }
        changes.extend(file(levels, &name));
        changes
    };
    let long = [Answer::Failed(FailureCode::System)];
    let fits = |client: &mut Client| client.pack(16, &deep(15, &name), b"");
    ground.attack("4095 bytes", fits, &[Answer::Committed]);
    let one_more = |client: &mut Client| client.pack(17, &deep(16, &name), b"");
    ground.attack("4351 bytes", one_more, &long);
    let renamed = |client: &mut Client| {
        client.pack(10, &deep(9, b"a"), b"");
        client.pack(10, &deep(9, b"b"), b"");
        let bottom = [&b"a"[..], &[&b"/"[..], &name].concat().repeat(8)].concat();
        client.pack(1, &[dir(&bottom), rename(b"b", 0, b"n")].concat(), b"");
    };
    ground.attack("a deep directory in a deep one", renamed, &long);
    ground.pair.restart();
    ground.pair.once();
    ground.pair.assert_equal();
}
