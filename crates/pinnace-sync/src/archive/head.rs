//! The head of an entry: a ustar block, and before it a pax block for what does not fit.
//!
//! ```text
//! block      name 100 | mode 8 | uid 8 | gid 8 | size 12 | mtime 12 | checksum 8 | type 1 | link 100
//!            "ustar" 0 "00" | owner 32 | group 32 | device 16 | prefix 155 | 12        (512 bytes, numbers octal)
//! record     bytes of the record in decimal, ' ', key, '=', value, '\n'
//! ```
//!
//! Invariant: what is read was checked: a path is relative and plain, a record is as long as it says, nothing is
//! allocated beyond a limit. Left to others: contents, which follow in whole blocks.

use std::io::{self, Read};

use crate::fs::Attrs;
use crate::meta::Stamp;
use crate::path;
use crate::wire::put_bytes;

pub(super) const BLOCK: usize = 512;
/// Bytes of the records of one entry: its paths and attributes.
const RECORDS_BYTES_MAX: u64 = 1 << 20;
/// The key of an attribute is this and its name.
const ATTR: &[u8] = b"SCHILY.xattr.";

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A file of so many bytes, which follow.
    File(u64),
    Directory,
    /// With its target.
    Symlink(Vec<u8>),
    /// A further name of the file at a path of the archive.
    Link(Vec<u8>),
}

/// An entry without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) path: Vec<u8>,
    pub(super) what: What,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Stamp,
    pub(super) attrs: Attrs,
}

impl Head {
    /// The blocks of it.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut block = [0; BLOCK];
        let mut path = self.path.clone();
        if self.what == What::Directory {
            path.push(b'/');
        }
        let (kind, link, size) = match &self.what {
            What::File(size) => (b'0', &[][..], *size),
            What::Link(target) => (b'1', &target[..], 0),
            What::Symlink(target) => (b'2', &target[..], 0),
            What::Directory => (b'5', &[][..], 0),
        };
        put_text(&mut block[..100], b"path", &path, &mut records);
        put_text(&mut block[157..257], b"linkpath", link, &mut records);
        put_octal(&mut block[100..108], self.mode.into());
        for (at, key, number) in [
            (108..116, &b"uid"[..], u64::from(self.uid)),
            (116..124, b"gid", self.gid.into()),
            (124..136, b"size", size),
        ] {
            if !put_octal(&mut block[at], number) {
                put_record(&mut records, key, number.to_string().as_bytes());
            }
        }
        let secs = u64::try_from(self.mtime.secs).unwrap_or(0);
        put_octal(&mut block[136..148], secs);
        put_record(&mut records, b"mtime", decimal(self.mtime).as_bytes());
        for (name, value) in self.attrs.pairs() {
            put_record(&mut records, &[ATTR, &encoded(name)].concat(), value);
        }
        block[156] = kind;
        seal(&mut block);
        let mut out = Vec::with_capacity(3 * BLOCK + records.len());
        out.extend_from_slice(&records_head(records.len() as u64));
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out.extend_from_slice(&block);
        out
    }

    /// Reads the next one; `None` at the end of the archive.
    pub(super) fn read(from: &mut dyn Read) -> io::Result<Option<Self>> {
        let mut records = Vec::new();
        loop {
            let mut block = [0; BLOCK];
            from.read_exact(&mut block)?;
            if block == [0; BLOCK] {
                return Ok(None);
            }
            let told = get_octal(&block[148..156])?;
            let mut sealed = block;
            seal(&mut sealed);
            if told != get_octal(&sealed[148..156])? {
                return Err(bad("a head is damaged"));
            }
            let size = get_octal(&block[124..136])?;
            match block[156] {
                b'x' => records = read_records(from, size)?,
                b'g' => drop(read_records(from, size)?),
                _ => return Self::from_block(&block, size, &records).map(Some),
            }
        }
    }

    fn from_block(block: &[u8; BLOCK], size: u64, records: &[Record]) -> io::Result<Self> {
        let record = |key: &[u8]| {
            let found = records.iter().rev().find(|(known, _)| known == key);
            found.map(|(_, value)| &value[..])
        };
        let number = |key: &[u8], usual: u64| match record(key) {
            Some(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| bad("a number is none")),
            None => Ok(usual),
        };
        let id = |key: &[u8], at: &[u8]| {
            let id = number(key, get_octal(at)?)?;
            u32::try_from(id).map_err(|_| bad("an owner is none"))
        };
        let link = record(b"linkpath").unwrap_or(until_nul(&block[157..257]));
        let mut path = record(b"path").unwrap_or(until_nul(&block[..100])).to_vec();
        if path.last() == Some(&b'/') {
            path.pop();
        }
        let is_plain = |path: &[u8]| !path.is_empty() && path::check(path).is_ok();
        let what = match block[156] {
            b'0' | 0 => What::File(number(b"size", size)?),
            b'1' if is_plain(link) => What::Link(link.to_vec()),
            b'2' if !link.is_empty() && memchr::memchr(0, link).is_none() => {
                What::Symlink(link.to_vec())
            }
            b'5' => What::Directory,
            _ => return Err(bad("an entry of a kind that is not kept")),
        };
        if !is_plain(&path) {
            return Err(bad("a path leads out of the archive"));
        }
        let mtime = match record(b"mtime") {
            Some(text) => stamp(text).ok_or_else(|| bad("a time is none"))?,
            None => Stamp {
                secs: get_octal(&block[136..148])? as i64,
                nanos: 0,
            },
        };
        Ok(Self {
            path,
            what,
            mode: (get_octal(&block[100..108])? & 0o7777) as u32,
            uid: id(b"uid", &block[108..116])?,
            gid: id(b"gid", &block[116..124])?,
            mtime,
            attrs: attrs(records)?,
        })
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Puts text where it fits and is plain; else as much of it as fits, and all of it into a record.
fn put_text(field: &mut [u8], key: &[u8], text: &[u8], records: &mut Vec<u8>) {
    let fitting = text.len().min(field.len());
    field[..fitting].copy_from_slice(&text[..fitting]);
    if fitting < text.len() || !text.iter().all(u8::is_ascii_graphic) {
        put_record(records, key, text);
    }
}

/// Whether the number fits; if not, zero is put.
fn put_octal(field: &mut [u8], number: u64) -> bool {
    let digits = field.len() - 1;
    let fits = number >> (3 * digits) == 0;
    let text = format!("{:0digits$o}", if fits { number } else { 0 });
    field[..digits].copy_from_slice(text.as_bytes());
    fits
}

fn get_octal(field: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(until_nul(field)).unwrap_or("?").trim();
    if text.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(text, 8).map_err(|_| bad("a number is not octal"))
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(field)
}

/// Puts the magic and the checksum, which counts its own field as spaces.
fn seal(block: &mut [u8; BLOCK]) {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn records_head(bytes: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..3].copy_from_slice(b"pax");
    put_octal(&mut block[100..108], 0o600);
    for field in [108..116, 116..124, 136..148] {
        put_octal(&mut block[field], 0);
    }
    put_octal(&mut block[124..136], bytes);
    block[156] = b'x';
    seal(&mut block);
    block
}

/// A record counts the digits of its own length too.
fn put_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut bytes = rest + 1;
    while bytes != rest + bytes.to_string().len() {
        bytes = rest + bytes.to_string().len();
    }
    records.extend_from_slice(bytes.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

type Record = (Vec<u8>, Vec<u8>);

fn read_records(from: &mut dyn Read, bytes: u64) -> io::Result<Vec<Record>> {
    if bytes > RECORDS_BYTES_MAX {
        return Err(bad("an entry has too many records"));
    }
    let mut all = vec![0; (bytes as usize).next_multiple_of(BLOCK)];
    from.read_exact(&mut all)?;
    all.truncate(bytes as usize);
    let (mut rest, mut records) = (&all[..], Vec::new());
    while !rest.is_empty() {
        let (record, behind) = split_record(rest).ok_or_else(|| bad("a record is none"))?;
        records.push(record);
        rest = behind;
    }
    Ok(records)
}

fn split_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let space = memchr::memchr(b' ', bytes)?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = memchr::memchr(b'=', pair)?;
    Some(((pair[..equals].to_vec(), pair[equals + 1..].to_vec()), rest))
}

/// A name as part of a key, which ends at the first `=`.
fn encoded(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'=' => out.extend_from_slice(b"%3D"),
            b'%' => out.extend_from_slice(b"%25"),
            byte => out.push(*byte),
        }
    }
    out
}

fn decoded(name: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(name.len()), name);
    while let Some((first, behind)) = rest.split_first() {
        let (byte, behind) = match behind.get(..2) {
            Some(b"3D") if *first == b'%' => (b'=', &behind[2..]),
            Some(b"25") if *first == b'%' => (b'%', &behind[2..]),
            _ => (*first, behind),
        };
        out.push(byte);
        rest = behind;
    }
    out
}

fn attrs(records: &[Record]) -> io::Result<Attrs> {
    let mut pairs: Vec<(Vec<u8>, &[u8])> = records
        .iter()
        .filter_map(|(key, value)| Some((decoded(key.strip_prefix(ATTR)?), &value[..])))
        .collect();
    pairs.sort();
    let mut all = Vec::new();
    for (name, value) in pairs {
        put_bytes(&mut all, &name);
        put_bytes(&mut all, value);
    }
    // The same checks as for attributes that come over a mirror's connection.
    Attrs::decode(&all).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A time as a decimal number of seconds: those before 1970 count backwards.
fn decimal(stamp: Stamp) -> String {
    match (stamp.secs, stamp.nanos) {
        (secs, 0) => secs.to_string(),
        (secs @ 0.., nanos) => format!("{secs}.{nanos:09}"),
        (secs, nanos) => format!("-{}.{:09}", -(secs + 1), 1_000_000_000 - nanos),
    }
}

fn stamp(text: &[u8]) -> Option<Stamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (is_before, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: i64 = whole.parse().ok().filter(|whole| *whole >= 0)?;
    let nanos: String = part.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = nanos.parse().ok()?;
    Some(match (is_before, nanos) {
        (false, nanos) => Stamp { secs: whole, nanos },
        (true, 0) => Stamp {
            secs: -whole,
            nanos,
        },
        (true, nanos) => Stamp {
            secs: -whole - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}
