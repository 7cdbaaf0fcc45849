//! Giving old segments back.
//!
//! Invariant: segments go from the front, each removal durable before the next, so that a crash never finds a
//! hole. Which segments nobody needs is known to the log's user.

use std::io;
use std::sync::Arc;

use crate::Lsn;
use crate::log::{Log, Shared};
use crate::snapshot;

impl Log {
    /// Drops the segments all of whose records are below `lsn`, oldest first, never the active
    /// one nor one that a snapshot needs, and returns how many. Each removal is durable before the next. Afterwards a full log
    /// tries whether there is space.
    ///
    /// # Errors
    /// The system's reason; segments dropped before it stay dropped. One that could not be removed is
    /// tried again first; after a failed sync of the directory none is dropped until a restart.
    pub fn drop_segments_before(&self, lsn: Lsn) -> io::Result<usize> {
        let Shared {
            disk,
            dir,
            segments,
            ..
        } = &*self.shared;
        let mut pins = snapshot::lock(&self.shared);
        let mut dropped = 0;
        for pair in segments.all().windows(2) {
            if pair[1].first_lsn > lsn || pins.in_doubt || !pins.release(pair[0].ordinal) {
                break;
            }
            // Out of the list first: a reader gets `Gone`, never a missing file.
            segments.pop_front();
            match disk.remove(&pair[0].path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    segments.push_front(Arc::clone(&pair[0]));
                    return Err(error);
                }
                _ => {}
            }
            pins.in_doubt = true;
            disk.sync_dir(dir)?;
            pins.in_doubt = false;
            dropped += 1;
        }
        if dropped > 0 {
            self.probe();
        }
        Ok(dropped)
    }
}
