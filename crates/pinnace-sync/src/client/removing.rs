//! Removes from the share what is gone from the source.
//!
//! Invariant: everything collected so far is judged as a whole, and looked for once more, before any of it goes. Left to others:
//! collecting it (`compare`), the limits (`guard`).

use std::time::Instant;

use pinnace_proto::sync::Phase;

use super::outbox::Way;
use super::packer::Packer;
use super::{Mirror, MirrorError, held};
use crate::path;

impl Mirror<'_> {
    /// Removes from the share what is gone from the source, if that is believed.
    pub(super) fn remove_gone(&self) -> Result<(), MirrorError> {
        let mut paths = std::mem::take(&mut *held(&self.gone));
        paths.sort_unstable();
        paths.dedup();
        // What lies beneath another that goes, goes with it; what is there after all stays.
        let mut gone: Vec<Vec<u8>> = Vec::new();
        for path in paths {
            let is_covered = gone
                .last()
                .is_some_and(|above| path::is_within(&path, above));
            if is_covered || self.is_over() {
                continue;
            }
            let is_dir = rustix::fs::FileType::Directory;
            let stays = self.root.stat(&path).is_ok_and(|stat| {
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
                crate::Kind::from_file_type(kind).is_some()
                    && !self.filter.is_excluded_with_parents(&path, kind == is_dir)
            });
            if stays {
                self.again(vec![path]);
            } else {
                gone.push(path);
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let is_root_there = rustix::fs::stat(&self.settings.root).is_ok_and(|stat| {
            rustix::fs::fstat(&self.root).is_ok_and(|own| own.st_ino == stat.st_ino)
        });
        let (count, entries) = {
            let state = self.ledger.lock();
            let nodes = gone.iter().filter_map(|path| state.index.find(path));
            let count = nodes.map(|node| 1 + state.index.count_beneath(node) as u64);
            (count.sum(), state.index.len() as u64)
        };
        let judged = match is_root_there {
            true => held(&self.guard).judge(count, entries, Instant::now()),
            false => Err("the source is gone or was replaced; nothing was deleted".to_owned()),
        };
        if let Err(why) = judged {
            self.state(Phase::Halted, Some(why.clone()));
            return Err(MirrorError::Halted(why));
        }
        let mut packer = Packer::new(self, Way::Control);
        // From the end, so that a rename that came meanwhile loses nothing it needs.
        for path in gone.iter().rev() {
            self.unskip_beneath(path);
            self.look_at_names_beneath(path);
            if self.ledger.lock().index.find(path).is_some() {
                packer.remove(path);
            }
        }
        packer.send();
        Ok(())
    }
}
