//! Operations to bytes.
//!
//! Invariant: what is written is read as the same. Left to others: bodies, which lie behind all operations.

use super::{
    EXCHANGE, FILE, Facts, LINK, META, MKDIR, Op, PATCH, Place, REMOVE, RENAME, STREAMED, SYMLINK,
    Step,
};
use crate::wire::bytes::{put_bytes, put_number, put_signed};

impl Place<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.dir.0.into());
        put_bytes(out, self.name);
    }
}

impl Facts<'_> {
    pub(in crate::wire) fn put(&self, out: &mut Vec<u8>) {
        for number in [self.mode, self.uid, self.gid] {
            put_number(out, number.into());
        }
        put_signed(out, self.mtime.secs);
        put_number(out, self.mtime.nanos.into());
        put_bytes(out, self.attrs);
    }
}

pub(in crate::wire) fn put_steps(out: &mut Vec<u8>, steps: &[Step]) {
    put_number(out, steps.len() as u64);
    for step in steps {
        let (tag, number) = match *step {
            Step::Copy { first, count } => {
                out.push(0);
                put_number(out, first.into());
                put_number(out, count.into());
                continue;
            }
            Step::Part { from, bytes } => {
                out.push(3);
                put_number(out, from);
                put_number(out, bytes.into());
                continue;
            }
            Step::Parted => {
                out.push(5);
                continue;
            }
            Step::New(bytes) => (1, bytes),
            Step::Hole(bytes) => (2, bytes),
            Step::NewPart(bytes) => (4, bytes),
        };
        out.push(tag);
        put_number(out, number.into());
    }
}

impl Op<'_> {
    /// Appends the operation. Its body, if it has one, lies next in the pack's bodies.
    pub(in crate::wire) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Op::Mkdir { at, facts } => {
                out.push(MKDIR);
                at.put(out);
                facts.put(out);
            }
            Op::File {
                at,
                facts,
                content,
                cuts,
                body,
            } => {
                out.push(FILE);
                at.put(out);
                facts.put(out);
                out.extend_from_slice(&content.0);
                put_number(out, body.len() as u64);
                put_number(out, cuts.len() as u64);
                for cut in cuts {
                    put_number(out, (*cut).into());
                }
            }
            Op::Symlink { at, facts, target } => {
                out.push(SYMLINK);
                at.put(out);
                facts.put(out);
                put_bytes(out, target);
            }
            Op::Link { at, target } => {
                out.push(LINK);
                at.put(out);
                put_bytes(out, target);
            }
            Op::Meta { at, kind, facts } => {
                out.push(META);
                at.put(out);
                out.push(*kind as u8);
                facts.put(out);
            }
            Op::Rename { from, at } => {
                out.push(RENAME);
                put_bytes(out, from);
                at.put(out);
            }
            Op::Exchange { a, b } => {
                out.push(EXCHANGE);
                put_bytes(out, a);
                put_bytes(out, b);
            }
            Op::Remove { at } => {
                out.push(REMOVE);
                at.put(out);
            }
            Op::Patch {
                at,
                facts,
                content,
                base,
                base_content,
                steps,
                ..
            } => {
                out.push(PATCH);
                at.put(out);
                facts.put(out);
                out.extend_from_slice(&content.0);
                put_bytes(out, base);
                out.extend_from_slice(&base_content.0);
                put_steps(out, steps);
            }
            Op::Streamed {
                at,
                facts,
                content,
                stream,
            } => {
                out.push(STREAMED);
                at.put(out);
                facts.put(out);
                out.extend_from_slice(&content.0);
                put_number(out, *stream);
            }
        }
    }
}
