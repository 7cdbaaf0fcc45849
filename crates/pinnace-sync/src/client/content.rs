//! Compares the content of a file or symlink, and sends what is new of it.
//!
//! Small files are read whole. Of those in chunks only what the server lacks is sent: the recipe of what it has is known
//! here, so nothing has to be asked. Large ones go out in pieces while they are read.
//!
//! Invariant: a file that changed while it was read is sent as it was read, is never recorded as equal, and is compared
//! again. Left to others: what stands around it (`compare`).

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::compare::Seen;
use super::outbox::Way;
use super::packer::Packer;
use super::{Mirror, Skip, held};
use crate::chunk::{Chunk, ChunkId, Cutter, Recipe, WHOLE_BYTES_MAX, content_of};
use crate::fs::{Attrs, attrs_digest, open_file, read_exactly};
use crate::index::Row;
use crate::meta::{ContentId, Kind, Stamp, of_stat};
use crate::wire::{FrameKind, Piece, Step};

/// Files up to this size are read whole and sent in a pack.
const PACKED_BYTES_MAX: u64 = 1 << 20;
/// Bytes of one piece of a larger file.
const PIECE_BYTES: usize = 256 << 10;
/// Steps of one piece.
const PIECE_STEPS: usize = 4096;
/// How often a file is read again that changes while it is read.
const READS_MAX: usize = 3;
/// What changed less than this before it was read may have changed again without its times telling, nanoseconds.
const RACY_NS: i128 = 20_000_000;

/// A content that the server has, and the chunks of it by their ids.
struct Base {
    path: Vec<u8>,
    content: ContentId,
    recipe: Recipe,
    places: HashMap<ChunkId, u32>,
}

impl Base {
    fn new(path: Vec<u8>, content: ContentId, recipe: Recipe) -> Self {
        let places = recipe.chunks.iter().enumerate();
        let places = places
            .map(|(place, chunk)| (chunk.id, place as u32))
            .collect();
        Self {
            path,
            content,
            recipe,
            places,
        }
    }

    /// The step that makes a chunk, if the server has it.
    fn step(&self, chunk: &Chunk, steps: &mut Vec<Step>) -> bool {
        let next = match steps.last() {
            Some(Step::Copy { first, count }) => Some(first + count),
            _ => None,
        };
        // Chunks that follow each other there too are one step.
        let follows = next.filter(|next| self.recipe.chunks.get(*next as usize) == Some(chunk));
        if follows.is_some()
            && let Some(Step::Copy { count, .. }) = steps.last_mut()
        {
            *count += 1;
            return true;
        }
        let place = self.places.get(&chunk.id).copied();
        let place = place.filter(|place| self.recipe.chunks[*place as usize].bytes == chunk.bytes);
        if let Some(first) = place {
            steps.push(Step::Copy { first, count: 1 });
        }
        place.is_some()
    }
}

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
        if let Some(row) = row.filter(|row| row.content == content) {
            if row.meta == now.meta {
                self.note_print(&seen.at, now.print, now.is_racy);
            } else {
                let row = Row {
                    recipe: row.recipe,
                    ..now.row(content)
                };
                packer.meta(&seen.at, &now, &attrs, row);
            }
        } else {
            self.pack(packer, seen, row, (&now, &attrs, &bytes), (content, recipe));
        }
        self.look_at_other_names(seen);
        Ok(())
    }

    /// Packs a content that the server does not have there.
    fn pack(
        &self,
        packer: &mut Packer<'_>,
        seen: &Seen<'_>,
        row: Option<Row>,
        (now, attrs, bytes): (&super::packer::Found, &[u8], &[u8]),
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
                if !base.step(chunk, &mut steps) {
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
    }

    fn compare_symlink(&self, packer: &mut Packer<'_>, seen: &Seen<'_>) -> Result<(), Errno> {
        let target = match rustix::fs::readlinkat(seen.dir, seen.name, Vec::new()) {
            Err(Errno::NOENT | Errno::INVAL) => return self.later(seen),
            target => target?.into_bytes(),
        };
        if seen.names > 1 && self.link(packer, seen) {
            return Ok(());
        }
        let content = Self::content_of_link(&target);
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
    fn stat_file(
        &self,
        file: &OwnedFd,
    ) -> Result<Option<(crate::Meta, crate::Fingerprint)>, Errno> {
        let stat = rustix::fs::fstat(file)?;
        let known = of_stat(&stat).filter(|(meta, ..)| meta.kind == Kind::File);
        Ok(known.map(|(meta, print, _)| (meta, print)))
    }

    /// It is another one already: once more.
    fn later(&self, seen: &Seen<'_>) -> Result<(), Errno> {
        self.again_later(seen.at.clone());
        Ok(())
    }

    /// Whether the server has the file under another name: a link, or one that was renamed.
    fn elsewhere(&self, packer: &mut Packer<'_>, seen: &Seen<'_>) -> Elsewhere {
        if seen.names > 1 && (self.link(packer, seen) || !self.claims(seen)) {
            return Elsewhere::Done;
        }
        let is_known_here = seen
            .row
            .is_some_and(|row| row.print.inode == seen.print.inode);
        if is_known_here {
            return Elsewhere::Nowhere;
        }
        for (from, row) in self.same_inode(&seen.at, seen.print) {
            let is_same = row.meta.kind == Kind::File
                && row.meta.size == seen.meta.size
                && row.meta.mtime == seen.meta.mtime;
            if !is_same {
                continue;
            }
            let there = self.root.stat(&from).ok().map(|stat| stat.st_ino);
            if there == Some(seen.print.inode) {
                continue;
            }
            packer.send();
            // What was here may be what is there now.
            let swapped = seen.row.filter(|own| there == Some(own.print.inode));
            if let Some(own) = swapped {
                packer.exchange((&from, seen.print.inode), (&seen.at, own.print.inode));
                self.again(vec![from]);
            } else {
                let inode = seen.print.inode;
                packer.rename(&from, inode, &seen.at, crate::Fingerprint::UNKNOWN);
            }
            let moved = self
                .row_at(&seen.at)
                .filter(|moved| moved.content == row.content);
            if let Some(moved) = moved {
                return Elsewhere::Moved(moved);
            }
        }
        Elsewhere::Nowhere
    }

    fn row_at(&self, at: &[u8]) -> Option<Row> {
        let state = self.ledger.lock();
        state.index.find(at).map(|node| *state.index.row(node))
    }

    /// Whether this name of a file is the one whose content is compared now; the others come when the server has it.
    fn claims(&self, seen: &Seen<'_>) -> bool {
        let mut claimed = held(&self.claimed);
        let by = claimed
            .entry(seen.print.inode)
            .or_insert_with(|| seen.at.clone());
        let is_own = *by == seen.at;
        drop(claimed);
        if !is_own {
            self.again(vec![seen.at.clone()]);
        }
        is_own
    }

    /// Links a file that has other names, of which the server has one as it is now.
    fn link(&self, packer: &mut Packer<'_>, seen: &Seen<'_>) -> bool {
        // One that looks as it did has to be read again, for nothing else would do it.
        if seen.row.is_some_and(|own| own.print == seen.print) {
            return false;
        }
        for (other, row) in self.same_inode(&seen.at, seen.print) {
            let mut meta = seen.meta;
            meta.attrs = row.meta.attrs;
            let is_current = row.print == seen.print && row.meta == meta;
            if !is_current || !self.is_there(&other, seen.print.inode) {
                continue;
            }
            let mut now = seen.found(row.meta.attrs, row.is_racy);
            now.is_linked = true;
            let recipe = row.recipe;
            packer.send();
            // Whether they are linked there already is not known here; if so, this changes nothing.
            packer.link(&seen.at, &now, &other, row.content);
            self.ledger.note(&seen.at, |own| own.recipe = recipe);
            return true;
        }
        false
    }

    /// The other names of a file that has changed.
    fn look_at_other_names(&self, seen: &Seen<'_>) {
        if seen.names > 1 {
            let others = self.same_inode(&seen.at, seen.print);
            self.again(others.into_iter().map(|(path, _)| path).collect());
        }
    }

    /// A content that the server has and of which this one may be made.
    fn base(&self, seen: &Seen<'_>, row: Option<Row>, content: Option<&ContentId>) -> Option<Base> {
        let state = self.ledger.lock();
        let same = content.and_then(|content| state.index.with_content(content));
        let (path, row) = match same {
            Some(node) => (state.index.path(node), *state.index.row(node)),
            None => (seen.at.clone(), row?),
        };
        let recipe = state.store.recipe(row.recipe?).ok()?;
        drop(state);
        Some(Base::new(path, row.content, recipe))
    }

    /// Compares a file that is sent in pieces.
    fn compare_large(
        &self,
        packer: &mut Packer<'_>,
        seen: &Seen<'_>,
        row: Option<Row>,
    ) -> Result<(), Errno> {
        let file = match open_file(seen.dir, seen.name) {
            Err(Errno::NOENT | Errno::LOOP) => return self.later(seen),
            file => file?,
        };
        let Some((mut meta, print)) = self.stat_file(&file)? else {
            return self.later(seen);
        };
        if meta.size < WHOLE_BYTES_MAX {
            return self.later(seen);
        }
        let attrs = Attrs::read(&file)?.encode();
        meta.attrs = attrs_digest(&attrs);
        let mut now = seen.found(meta.attrs, is_racy(print.ctime));
        (now.meta, now.print) = (meta, print);
        let is_copy = row.is_none() && self.has_size(meta.size);
        let known = match row {
            Some(_) => row.map(|row| row.content),
            None if is_copy => {
                let mut cutter = Cutter::new(&file, meta.size, seen.has_holes);
                let mut recipe = Recipe::default();
                while let Some((chunk, _)) = cutter.next_chunk()? {
                    recipe.chunks.push(chunk);
                }
                Some(recipe.content_id())
            }
            None => None,
        };
        let base = self.base(seen, row, known.as_ref());
        let mut stream = Stream::new(self, base);
        let mut cutter = Cutter::new(&file, meta.size, seen.has_holes);
        let read = loop {
            match cutter.next_chunk() {
                Ok(Some((chunk, bytes))) => stream.take(&chunk, bytes),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            if self.is_over() {
                return Ok(());
            }
        };
        match read {
            Ok(()) => {}
            // It became shorter meanwhile; what was sent of it goes with the session.
            Err(Errno::NODATA) => {
                self.skip(&seen.at, Skip::Changing);
                return self.later(seen);
            }
            Err(error) => return Err(error),
        }
        let is_stable = self
            .stat_file(&file)?
            .is_some_and(|(after, print)| print == now.print && after.size == meta.size);
        if !is_stable {
            now.is_racy = true;
            self.again_later(seen.at.clone());
        }
        let content = stream.recipe.content_id();
        if let Some(row) = row.filter(|row| row.content == content) {
            if row.meta == now.meta {
                self.note_print(&seen.at, now.print, now.is_racy);
            } else {
                let row = Row {
                    recipe: row.recipe,
                    ..now.row(content)
                };
                packer.meta(&seen.at, &now, &attrs, row);
            }
        } else {
            // The last piece goes out even when it is the first and nothing in it is new: a copy is made of it.
            stream.send();
            packer.send();
            packer.streamed(
                &seen.at,
                &now,
                &attrs,
                stream.number,
                (content, stream.recipe),
            );
        }
        self.look_at_other_names(seen);
        Ok(())
    }
}

enum Elsewhere {
    Done,
    Moved(Row),
    Nowhere,
}

/// Whether something changed so shortly ago that its times may not tell of a further change.
fn is_racy(ctime: Stamp) -> bool {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let ns = |secs: i64, nanos: i64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
    ns(now.tv_sec, now.tv_nsec) - ns(ctime.secs, ctime.nanos.into()) < RACY_NS
}

/// A file going out in pieces. What is equal to the server's content at first is only counted, so that a file that has
/// not changed sends nothing at all.
struct Stream<'a> {
    mirror: &'a Mirror<'a>,
    base: Option<Base>,
    number: u64,
    has_begun: bool,
    steps: Vec<Step>,
    new: Vec<u8>,
    recipe: Recipe,
}

impl<'a> Stream<'a> {
    fn new(mirror: &'a Mirror<'a>, base: Option<Base>) -> Self {
        Self {
            mirror,
            base,
            number: mirror.next_stream(),
            has_begun: false,
            steps: Vec::new(),
            new: Vec::new(),
            recipe: Recipe::default(),
        }
    }

    fn take(&mut self, chunk: &Chunk, bytes: &[u8]) {
        self.recipe.chunks.push(*chunk);
        if chunk.id == ChunkId::HOLE {
            self.steps.push(Step::Hole(chunk.bytes));
        } else if !self
            .base
            .as_ref()
            .is_some_and(|base| base.step(chunk, &mut self.steps))
        {
            self.steps.push(Step::New(chunk.bytes));
            self.new.extend_from_slice(bytes);
        }
        if self.new.len() >= PIECE_BYTES || self.steps.len() >= PIECE_STEPS {
            self.send();
        }
    }

    fn send(&mut self) {
        let base = self.base.as_ref();
        let base = base.map(|base| (base.path.as_slice(), base.content));
        let piece = Piece {
            stream: self.number,
            begin: (!self.has_begun).then_some(base),
            steps: std::mem::take(&mut self.steps),
            bytes: &[],
        };
        let head = piece.head();
        if !self.mirror.settings.dry_run {
            self.mirror
                .send(Way::Bulk, FrameKind::Piece, &[&head, &self.new]);
        }
        self.new.clear();
        self.has_begun = true;
    }
}
