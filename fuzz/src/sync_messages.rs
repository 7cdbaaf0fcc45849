//! Messages of a mirror's session: any bytes are read or refused, and what was read is read again from what is written of it.
//! The first byte chooses the message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinnace_sync::fs::Attrs;
use pinnace_sync::wire::{
    Detail, FrameError, OpenedPack, PACK_BYTES_MAX, Pack, PackBuilder, PackDir, Piece, RowsBuilder,
    read_frame, read_parts, read_rows, write_frame, write_parts,
};

/// Frames behind each other, which are as they were when they are written again.
fn frames(bytes: &[u8]) {
    let (mut from, mut body, mut written) = (bytes, Vec::new(), Vec::new());
    loop {
        match read_frame(&mut from, &mut body) {
            Ok(kind) => write_frame(&mut written, kind, &[&body]).expect("room"),
            Err(FrameError::Closed) => break assert_eq!(written, bytes),
            Err(_) => break assert!(bytes.starts_with(&written)),
        }
    }
}

/// The pack again, as a client would have put it together.
fn rebuilt(pack: &Pack<'_>) -> PackBuilder {
    let (mut builder, mut named) = (PackBuilder::default(), 0);
    builder.bodies().extend_from_slice(pack.bodies);
    for op in &pack.ops {
        // Those that are there, up to the next one that a change makes.
        while let Some(PackDir::Known(path)) = pack.dirs.get(named) {
            builder.dir(path);
            named += 1;
        }
        named += usize::from(builder.push(op).is_some());
    }
    for dir in &pack.dirs[named..] {
        if let PackDir::Known(path) = dir {
            builder.dir(path);
        }
    }
    builder
}

fn pack(bytes: &[u8]) {
    let Ok(opened) = OpenedPack::open(bytes.to_vec()) else {
        return;
    };
    let Ok(pack) = opened.read() else {
        return;
    };
    let parts = rebuilt(&pack).finish(opened.first_seq, None);
    // Numbers may have been written longer than they need be; never shorter.
    assert!(parts.concat().len() <= PACK_BYTES_MAX + 17);
    let again = OpenedPack::open(parts.concat()).expect("what was written can be opened");
    let again_read = again.read().expect("what was written can be read");
    assert_eq!(again_read.dirs, pack.dirs);
    assert_eq!(again_read.ops, pack.ops);
    assert_eq!(again_read.bodies, pack.bodies);
    assert_eq!(again.first_seq, opened.first_seq);
}

fn piece(bytes: &[u8]) {
    let Ok(piece) = Piece::read(bytes) else {
        return;
    };
    let (head, new) = piece.parts(Some(1));
    let written = [&head[..], &new].concat();
    let again = Piece::read(&written).expect("what was written can be read");
    assert_eq!((again.stream, again.begin), (piece.stream, piece.begin));
    assert_eq!((again.steps, again.bytes), (piece.steps, piece.bytes));
}

fn detail(bytes: &[u8]) {
    if let Ok(detail) = Detail::read(bytes) {
        assert_eq!(Detail::read(&detail.write()), Ok(detail));
    }
    if let Ok((stream, parts)) = read_parts(bytes) {
        assert_eq!(
            read_parts(&write_parts(stream, &parts)),
            Ok((stream, parts))
        );
    }
}

fn rows(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        let mut rows = Vec::new();
        let read = read_rows(bytes, |path, facts| rows.push((path.to_vec(), facts)));
        (rows, read.is_ok())
    };
    let (rows, _) = read(bytes);
    let mut builder = RowsBuilder::default();
    for (path, facts) in &rows {
        builder.push(path, facts.as_ref());
    }
    assert_eq!(read(&builder.take()), (rows, true));
}

fn attrs(bytes: &[u8]) {
    if let Ok(attrs) = Attrs::decode(bytes) {
        assert_eq!(Attrs::decode(&attrs.encode()), Ok(attrs));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    match which {
        b'f' => frames(bytes),
        b'p' => pack(bytes),
        b'l' => piece(bytes),
        b'd' => detail(bytes),
        b'r' => rows(bytes),
        b'a' => attrs(bytes),
        _ => {}
    }
});
