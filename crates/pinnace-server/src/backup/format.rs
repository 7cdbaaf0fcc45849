//! The bytes of a backup: a head and frames, drawn in `docs/formats/backup.md`.
//!
//! Invariant: a reader hands nothing out that its sums do not cover, and ends well only after the end
//! frame, whose sum covers all bytes before it. No memory is taken by a number that the file gives
//! beyond [`FRAME_BYTES_MAX`].

use std::io::{self, Read};

const MAGIC: [u8; 8] = *b"PINNBAK\0";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 32;
const FRAME_HEAD_BYTES: usize = 20;

const FILE: u32 = 1;
const DATA: u32 = 2;
const END: u32 = 3;

/// Bytes of a file in one frame.
pub(super) const DATA_BYTES: usize = 256 << 10;
/// Largest payload of a frame that is read.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Why a file is no backup to go by.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be read, or the connection it comes by broke.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It begins differently.
    #[error("it is no backup of Pinnace's topics")]
    NoBackup,
    /// A newer program wrote it.
    #[error(
        "its format is version {0}, and this program reads version {VERSION}; use the newer program"
    )]
    Newer(u32),
    /// A sum does not hold, or what it says makes no sense.
    #[error("it is damaged at byte {0}; use another copy")]
    Damaged(u64),
    /// It ends before its end.
    #[error("it is cut off after {0} bytes; use a whole copy")]
    Cut(u64),
}

/// Makes the bytes of a backup, part by part.
pub(super) struct Writer {
    frames: u64,
    sum: u32,
}

impl Writer {
    /// With the first bytes.
    pub(super) fn begin(created_us: u64) -> (Self, Vec<u8>) {
        let mut head = vec![0; HEAD_BYTES];
        head[..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        head[16..24].copy_from_slice(&created_us.to_le_bytes());
        let sum = crc32c::crc32c(&head[..28]);
        head[28..].copy_from_slice(&sum.to_le_bytes());
        let writer = Self {
            frames: 0,
            sum: crc32c::crc32c(&head),
        };
        (writer, head)
    }

    /// A file of so many bytes follows.
    pub(super) fn file(&mut self, name: &str, bytes: u64) -> Vec<u8> {
        let mut payload = bytes.to_le_bytes().to_vec();
        payload.extend_from_slice(name.as_bytes());
        self.frame(FILE, &payload)
    }

    /// Some of its bytes.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.frame(DATA, bytes)
    }

    /// The last bytes.
    pub(super) fn end(mut self) -> Vec<u8> {
        let sum = self.sum;
        self.frame(END, &sum.to_le_bytes())
    }

    fn frame(&mut self, kind: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
        frame.extend_from_slice(&kind.to_le_bytes());
        frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        frame.extend_from_slice(&self.frames.to_le_bytes());
        let sum = frame_sum(&frame, payload);
        frame.extend_from_slice(&sum.to_le_bytes());
        frame.extend_from_slice(payload);
        self.frames += 1;
        self.sum = crc32c::crc32c_append(self.sum, &frame);
        frame
    }
}

fn frame_sum(head: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), payload)
}

/// A part of a backup that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// A file begins.
    File { name: &'a str, bytes: u64 },
    /// Some of its bytes.
    Data(&'a [u8]),
}

/// Reads a backup and verifies it.
pub(super) struct Reader<R> {
    source: R,
    pub(super) created_us: u64,
    frames: u64,
    /// Bytes read so far, and their sum.
    at: u64,
    sum: u32,
    /// Bytes of the current file that are still to come.
    missing: u64,
    payload: Vec<u8>,
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(source: R) -> Result<Self, BackupError> {
        let mut reader = Self {
            source,
            created_us: 0,
            frames: 0,
            at: 0,
            sum: 0,
            missing: 0,
            payload: Vec::new(),
        };
        let mut head = [0; HEAD_BYTES];
        match reader.fill(&mut head) {
            Err(BackupError::Cut(read))
                if !MAGIC.starts_with(&head[..MAGIC.len().min(read as usize)]) =>
            {
                return Err(BackupError::NoBackup);
            }
            filled => filled?,
        }
        if !head.starts_with(&MAGIC) {
            return Err(BackupError::NoBackup);
        }
        if u32_at(&head, 28) != crc32c::crc32c(&head[..28]) {
            return Err(BackupError::Damaged(0));
        }
        if u32_at(&head, 8) != VERSION {
            return Err(BackupError::Newer(u32_at(&head, 8)));
        }
        reader.created_us = u64_at(&head, 16);
        Ok(reader)
    }

    /// The next part; `None` once the end was reached and everything before it holds.
    pub(super) fn next(&mut self) -> Result<Option<Part<'_>>, BackupError> {
        let (start, before) = (self.at, self.sum);
        let damaged = || BackupError::Damaged(start);
        let mut head = [0; FRAME_HEAD_BYTES];
        self.fill(&mut head)?;
        let (kind, len) = (u32_at(&head, 0), u32_at(&head, 4) as usize);
        if len > FRAME_BYTES_MAX || u64_at(&head, 8) != self.frames {
            return Err(damaged());
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(len, 0);
        self.fill(&mut payload)?;
        self.payload = payload;
        self.frames += 1;
        if frame_sum(&head[..16], &self.payload) != u32_at(&head, 16) {
            return Err(damaged());
        }
        match kind {
            FILE if self.missing == 0 && len >= 8 => {
                let name = std::str::from_utf8(&self.payload[8..]).map_err(|_| damaged())?;
                let bytes = u64_at(&self.payload, 0);
                self.missing = bytes;
                Ok(Some(Part::File { name, bytes }))
            }
            DATA if len as u64 <= self.missing => {
                self.missing -= len as u64;
                Ok(Some(Part::Data(&self.payload)))
            }
            END if self.missing == 0 && len == 4 && u32_at(&self.payload, 0) == before => {
                match self.source.read(&mut [0])? {
                    0 => Ok(None),
                    _ => Err(BackupError::Damaged(self.at)),
                }
            }
            _ => Err(damaged()),
        }
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.at
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), BackupError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.source.read(&mut buffer[done..]) {
                Ok(0) => return Err(BackupError::Cut(self.at + done as u64)),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.at += done as u64;
        self.sum = crc32c::crc32c_append(self.sum, buffer);
        Ok(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Vec<u8> {
        let (mut writer, mut bytes) = Writer::begin(77);
        bytes.extend(writer.file("log/a", 5));
        bytes.extend(writer.data(b"hel"));
        bytes.extend(writer.data(b"lo"));
        bytes.extend(writer.file("channels", 0));
        bytes.extend(writer.end());
        bytes
    }

    /// Names and contents.
    type Files = Vec<(String, Vec<u8>)>;

    /// What is in a backup, and the time it was made.
    fn read(bytes: &[u8]) -> Result<(Files, u64), BackupError> {
        let mut reader = Reader::begin(bytes)?;
        let mut files = Files::new();
        while let Some(part) = reader.next()? {
            match part {
                Part::File { name, .. } => files.push((name.to_owned(), Vec::new())),
                Part::Data(data) => files.last_mut().unwrap().1.extend_from_slice(data),
            }
        }
        assert_eq!(reader.bytes(), bytes.len() as u64);
        Ok((files, reader.created_us))
    }

    #[test]
    fn what_was_written_is_read() {
        let files = [("log/a", &b"hello"[..]), ("channels", b"")];
        let files = files.map(|(name, bytes)| (name.to_owned(), bytes.to_owned()));
        assert_eq!(read(&small()).unwrap(), (files.to_vec(), 77));
    }

    #[test]
    fn a_cut_anywhere_is_noticed() {
        let whole = small();
        for cut in 0..whole.len() {
            let error = read(&whole[..cut]).unwrap_err();
            let BackupError::Cut(at) = error else {
                panic!("cut at {cut}: {error}")
            };
            assert_eq!(at, cut as u64);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let whole = small();
        for bit in 0..whole.len() * 8 {
            let mut hurt = whole.clone();
            hurt[bit / 8] ^= 1 << (bit % 8);
            let error = read(&hurt).unwrap_err();
            let fits = match error {
                BackupError::NoBackup => bit < 64,
                BackupError::Damaged(at) => bit >= 64 && at as usize <= bit / 8,
                // A length that grew.
                BackupError::Cut(_) => bit > HEAD_BYTES * 8,
                _ => false,
            };
            assert!(fits, "bit {bit}: {error}");
        }
    }

    #[test]
    fn frames_out_of_place_and_bytes_behind_the_end_are_noticed() {
        let more = [small(), vec![0]].concat();
        assert!(matches!(read(&more), Err(BackupError::Damaged(_))));
        let (mut writer, head) = Writer::begin(0);
        let [file, first, second] = [
            writer.file("log/a", 2),
            writer.data(b"a"),
            writer.data(b"b"),
        ];
        let end = writer.end();
        let join = |frames: &[&Vec<u8>]| {
            frames
                .iter()
                .copied()
                .flatten()
                .copied()
                .collect::<Vec<u8>>()
        };
        assert!(read(&join(&[&head, &file, &first, &second, &end])).is_ok());
        for wrong in [
            &[&head, &file, &second, &first, &end][..],
            &[&head, &file, &first, &end],
            &[&head, &first, &second, &end],
            &[&head, &end],
        ] {
            assert!(matches!(read(&join(wrong)), Err(BackupError::Damaged(_))));
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut later = small();
        later[8] = 2;
        let sum = crc32c::crc32c(&later[..28]);
        later[28..32].copy_from_slice(&sum.to_le_bytes());
        assert!(matches!(read(&later), Err(BackupError::Newer(2))));
        assert!(matches!(read(b"# notes"), Err(BackupError::NoBackup)));
    }
}
