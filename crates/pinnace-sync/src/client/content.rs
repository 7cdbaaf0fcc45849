//! Compares the content of a file or symlink, and sends what is new of it.
//!
//! Small files are read whole. Of those in chunks only what the server lacks is sent: the recipe of what it has is known
//! here, so nothing has to be asked. Large ones go out in pieces while they are read.
//!
//! Invariant: a file that changed while it was read is sent as it was read, is never recorded as equal, and is compared
//! again. Left to others: what stands around it (`compare`).

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::Mirror;
use super::compare::Seen;
use super::names::Elsewhere;
use super::packer::{Found, Packer};
use crate::chunk::{Recipe, content_of};
use crate::fs::{Attrs, attrs_digest, open_file, read_exactly};
use crate::index::Row;
use crate::meta::{ContentId, Fingerprint, Kind, Meta, Stamp, of_stat};
use crate::wire::Step;

/// Files up to this size are read whole and sent in a pack.
pub(super) const PACKED_BYTES_MAX: u64 = 1 << 20;
/// How often a file is read again that changes while it is read.
const READS_MAX: usize = 3;
/// What changed less than this before it was read may have changed again without its times telling, nanoseconds.
const RACY_NS: i128 = 20_000_000;

impl Mirror<'_> {
    /// Compares the content of what is no directory.
    pub(super) fn compare_content(
        &self,
        packer: &mut Packer<'_>,
        seen: &Seen<'_>,
    ) -> Result<(), Errno> {
        self.unskip(&seen.at);
        if seen.meta.kind == Kind::Symlink {
            return self.compare_symlink(packer, seen);
        }
        let row = match self.elsewhere(packer, seen) {
            Elsewhere::Done => return Ok(()),
            Elsewhere::Moved(row) => Some(row),
            Elsewhere::Nowhere => seen.row.filter(|row| row.meta.kind == Kind::File),
        };
        if seen.meta.size > PACKED_BYTES_MAX {
            return self.compare_large(packer, seen, row);
        }
        let file = match open_file(seen.dir, seen.name) {
            Err(Errno::NOENT | Errno::LOOP) => return self.later(seen),
            file => file?,
        };
        let mut bytes = Vec::with_capacity(seen.meta.size as usize);
        let mut is_stable = false;
        let mut now = seen.found(0, false);
        for _ in 0..READS_MAX {
            let Some((meta, print)) = self.stat_file(&file)? else {
                return self.later(seen);
            };
            if meta.size > PACKED_BYTES_MAX {
                return self.later(seen);
            }
            (now.meta, now.print, now.is_racy) = (meta, print, is_racy(print.ctime));
            bytes.clear();
            read_exactly(&file, 0, meta.size as usize, &mut bytes)?;
            let after = self.stat_file(&file)?;
            is_stable = after == Some((meta, print)) && bytes.len() as u64 == meta.size;
            if is_stable {
                break;
            }
        }
        let attrs = Attrs::read(&file)?.encode();
        now.meta.attrs = attrs_digest(&attrs);
        now.meta.size = bytes.len() as u64;
        if !is_stable {
            now.is_racy = true;
            self.again_later(seen.at.clone());
        }
        let (content, recipe) = content_of(&bytes);
        let is_sent = !self.has_content(packer, seen, row, (&now, &attrs, content));
        if is_sent {
            self.pack(packer, seen, row, (&now, &attrs, &bytes), (content, recipe));
        }
        self.look_at_other_names(seen, is_sent);
        Ok(())
    }

    /// Whether the server has this content there; then only what else is known of it is renewed.
    pub(super) fn has_content(
        &self,
        packer: &mut Packer<'_>,
        seen: &Seen<'_>,
        row: Option<Row>,
        (now, attrs, content): (&Found, &[u8], ContentId),
    ) -> bool {
        let Some(row) = row.filter(|row| row.content == content) else {
            return false;
        };
        if row.meta == now.meta {
            self.note_print(&seen.at, now.print, now.is_racy);
        } else {
            let row = Row {
                recipe: row.recipe,
                ..now.row(content)
            };
            packer.meta(&seen.at, now, attrs, row);
        }
        true
    }

    /// Packs a content that the server does not have there.
    fn pack(
        &self,
        packer: &mut Packer<'_>,
        seen: &Seen<'_>,
        row: Option<Row>,
        (now, attrs, bytes): (&Found, &[u8], &[u8]),
        (content, recipe): (ContentId, Option<Recipe>),
    ) {
        let base = recipe
            .as_ref()
            .and_then(|_| self.base(seen, row, Some(&content)));
        if let (Some(base), Some(recipe)) = (base, &recipe) {
            let (mut steps, mut new, mut rest) = (Vec::new(), Vec::new(), bytes);
            for chunk in &recipe.chunks {
                let (own, behind) = rest.split_at(chunk.bytes as usize);
                rest = behind;
                if base.step(chunk, &mut steps).is_none() {
                    steps.push(Step::New(chunk.bytes));
                    new.extend_from_slice(own);
                }
            }
            if new.len() < bytes.len() / 8 * 7 {
                let from = (base.path.as_slice(), base.content);
                packer.patch(
                    &seen.at,
                    now,
                    attrs,
                    from,
                    steps,
                    &new,
                    (content, recipe.clone()),
                );
                return;
            }
        }
        packer.file(&seen.at, now, attrs, bytes, (content, recipe));
        if row.is_some() {
            packer.is_version(bytes.len());
        }
    }

    fn compare_symlink(&self, packer: &mut Packer<'_>, seen: &Seen<'_>) -> Result<(), Errno> {
        let target = match rustix::fs::readlinkat(seen.dir, seen.name, Vec::new()) {
            Err(Errno::NOENT | Errno::INVAL) => return self.later(seen),
            target => target?.into_bytes(),
        };
        if seen.names > 1 && self.link(packer, seen) {
            return Ok(());
        }
        let content = ContentId(*blake3::hash(&target).as_bytes());
        let mut now = seen.found(0, is_racy(seen.print.ctime));
        now.meta.size = target.len() as u64;
        let row = seen.row.filter(|row| row.meta.kind == Kind::Symlink);
        match row.filter(|row| row.content == content) {
            Some(row) if row.meta == now.meta => {
                self.note_print(&seen.at, now.print, now.is_racy);
            }
            Some(_) => packer.meta(&seen.at, &now, &[], now.row(content)),
            None => packer.symlink(&seen.at, &now, &target, content),
        }
        Ok(())
    }

    /// The stat of an open file, if it is a file.
    pub(super) fn stat_file(&self, file: &OwnedFd) -> Result<Option<(Meta, Fingerprint)>, Errno> {
        let stat = rustix::fs::fstat(file)?;
        let known = of_stat(&stat).filter(|(meta, ..)| meta.kind == Kind::File);
        Ok(known.map(|(meta, print, _)| (meta, print)))
    }

    /// It is another one already: once more.
    pub(super) fn later(&self, seen: &Seen<'_>) -> Result<(), Errno> {
        self.again_later(seen.at.clone());
        Ok(())
    }
}

/// Whether something changed so shortly ago that its times may not tell of a further change.
pub(super) fn is_racy(ctime: Stamp) -> bool {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let ns = |secs: i64, nanos: i64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
    ns(now.tv_sec, now.tv_nsec) - ns(ctime.secs, ctime.nanos.into()) < RACY_NS
}
