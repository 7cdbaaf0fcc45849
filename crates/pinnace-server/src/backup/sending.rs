//! Making a backup of a broker while it works.

use std::io;

use bytes::Bytes;
use pinnace_topics::Snapshot;

use super::format::{DATA_BYTES, Writer};
use super::{CHANNELS, LOG};

/// Hands the bytes of a backup to `take`, as long as that wants more.
///
/// # Errors
/// A segment cannot be read; what was handed out is then no whole backup.
pub(crate) fn send(
    snapshot: &Snapshot,
    channels: &[u8],
    created_us: u64,
    take: &mut dyn FnMut(Bytes) -> bool,
) -> io::Result<()> {
    let (mut writer, head) = Writer::begin(created_us);
    let mut wanted = take(head.into());
    let file = writer.file(CHANNELS, channels.len() as u64);
    wanted = wanted && take(file.into());
    for piece in channels.chunks(DATA_BYTES) {
        wanted = wanted && take(writer.data(piece).into());
    }
    let mut buffer = vec![0; DATA_BYTES];
    for (place, name) in snapshot.names().iter().enumerate() {
        let file = snapshot.open(place)?;
        let begin = writer.file(&format!("{LOG}/{name}"), file.bytes);
        wanted = wanted && take(begin.into());
        let mut at = 0;
        while wanted && at < file.bytes {
            let read = file.read(&mut buffer, at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            wanted = take(writer.data(&buffer[..read]).into());
            at += read as u64;
        }
        if !wanted {
            return Ok(());
        }
    }
    take(writer.end().into());
    Ok(())
}
