//! Files that go out in pieces while they are read, and what is known of the server's content they are made of.
//!
//! Invariant: a piece refers only to a content that the server had when its pieces began, by its id. Left to others: small
//! files and what stands around (`content`).

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::compare::Seen;
use super::content::is_racy;
use super::outbox::Way;
use super::packer::{Packer, VERSIONS_LEVEL};
use super::parts::{Answers, Finder, Parted, Question};
use super::{Mirror, Skip, held};
use crate::chunk::{Chunk, ChunkId, Class, Cutter, Recipe, WHOLE_BYTES_MAX};
use crate::fs::{Attrs, attrs_digest, open_file};
use crate::index::Row;
use crate::meta::ContentId;
use crate::wire::{Detail, FrameKind, Piece, Step};

/// Bytes of one piece.
const PIECE_BYTES: usize = 256 << 10;
/// The same on a slow link: larger pieces compress better.
const SLOW_PIECE_BYTES: usize = 4 << 20;
/// Steps of one piece.
const PIECE_STEPS: usize = 4096;
/// Bytes of the file after which a piece goes out though little in it is new, so that the server copies while the rest is read.
const PIECE_COVERS: u64 = 8 << 20;

/// The level for parts, which are few, and much like each other.
const PARTS_LEVEL: i32 = 6;
/// Pieces of a file that wait for an answer at most.
const WAITING_MAX: usize = 4;

/// A content that the server has, and the chunks of it by their ids.
pub(super) struct Base {
    pub(super) path: Vec<u8>,
    pub(super) content: ContentId,
    recipe: Recipe,
    class: Class,
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
            class: Class::of(recipe.bytes()),
            recipe,
            places,
        }
    }

    /// The step that makes a chunk, if the server has it. Returns its place in the base.
    pub(super) fn step(&self, chunk: &Chunk, steps: &mut Vec<Step>) -> Option<u32> {
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
            return next;
        }
        let place = self.places.get(&chunk.id).copied();
        let place = place.filter(|place| self.recipe.chunks[*place as usize].bytes == chunk.bytes);
        if let Some(first) = place {
            steps.push(Step::Copy { first, count: 1 });
        }
        place
    }

    /// The chunk at a place, if another file of this class would be cut there too: what ends with its data, in a hole
    /// or with the file, says nothing about others.
    fn guess(&self, place: u32, class: Class) -> Option<&Chunk> {
        let (chunk, behind) = self.recipe.chunks.get(place as usize..)?.split_first()?;
        let is_cut = behind.first().is_some_and(|next| next.id != ChunkId::HOLE);
        (is_cut && chunk.id != ChunkId::HOLE && self.class == class).then_some(chunk)
    }
}

impl Mirror<'_> {
    /// Whether the server has a large file of this size, of which this may be a copy.
    fn has_size(&self, size: u64) -> bool {
        !held(&self.sizes).insert(size)
    }

    /// A content that the server has and of which this one may be made.
    pub(super) fn base(
        &self,
        seen: &Seen<'_>,
        row: Option<Row>,
        content: Option<&ContentId>,
    ) -> Option<Base> {
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
    pub(super) fn compare_large(
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
            None if is_copy => Some(content_of(Cutter::new(&file, meta.size, seen.has_holes))?),
            None => None,
        };
        let base = self.base(seen, row, known.as_ref());
        let mut stream = Stream::new(self, base, Class::of(meta.size));
        let cutter = Cutter::new(&file, meta.size, seen.has_holes);
        let read = self.read_into(&mut stream, cutter);
        if self.is_over() {
            return Ok(());
        }
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
        let is_sent = !self.has_content(packer, seen, row, (&now, &attrs, content));
        if is_sent {
            // The last piece goes out even when it is the first and nothing in it is new: a copy is made of it.
            stream.end();
            packer.send();
            packer.streamed(
                &seen.at,
                &now,
                &attrs,
                stream.number,
                (content, stream.recipe),
            );
        }
        self.look_at_other_names(seen, is_sent);
        Ok(())
    }

    /// Reads a file through and sends what is new of it, until the session ends.
    fn read_into(
        &self,
        stream: &mut Stream<'_>,
        mut cutter: Cutter<&OwnedFd>,
    ) -> Result<(), Errno> {
        while !self.is_over() {
            let Some((chunk, bytes)) = cutter.next_like(stream.guess())? else {
                break;
            };
            stream.take(&chunk, bytes);
        }
        Ok(())
    }
}

fn content_of(mut cutter: Cutter<&OwnedFd>) -> Result<ContentId, Errno> {
    let mut recipe = Recipe::default();
    while let Some((chunk, _)) = cutter.next_chunk()? {
        recipe.chunks.push(chunk);
    }
    Ok(recipe.content_id())
}

/// A file going out in pieces. What is equal to the server's content at first is only counted, so that a file that has
/// not changed sends nothing at all.
struct Stream<'a> {
    mirror: &'a Mirror<'a>,
    base: Option<Base>,
    class: Class,
    /// The place in the base behind the chunk that was found last.
    next: Option<u32>,
    number: u64,
    has_begun: bool,
    steps: Vec<Step>,
    new: Vec<u8>,
    /// Bytes of the file that the steps are about.
    covered: u64,
    recipe: Recipe,
    finder: Option<(Finder, Answers<'a>)>,
    /// Pieces that wait for the answer to a question, and those behind them.
    waiting: VecDeque<Waiting>,
    /// What goes out next of pieces whose parts were looked for.
    parted: Parted,
}

struct Waiting {
    steps: Vec<Step>,
    new: Vec<u8>,
    covered: u64,
    /// What was asked, if parts are to be looked for.
    question: Option<Question>,
}

impl<'a> Stream<'a> {
    fn new(mirror: &'a Mirror<'a>, base: Option<Base>, class: Class) -> Self {
        Self {
            mirror,
            base,
            class,
            next: Some(0),
            number: mirror.streams.next(),
            has_begun: false,
            steps: Vec::new(),
            new: Vec::new(),
            covered: 0,
            recipe: Recipe::default(),
            finder: None,
            waiting: VecDeque::new(),
            parted: Parted::default(),
        }
    }

    /// What the next chunk may be: what follows in the base too.
    fn guess(&self) -> Option<&Chunk> {
        self.base.as_ref()?.guess(self.next?, self.class)
    }

    fn take(&mut self, chunk: &Chunk, bytes: &[u8]) {
        self.recipe.chunks.push(*chunk);
        let base = self.base.as_ref().filter(|_| chunk.id != ChunkId::HOLE);
        let place = base.and_then(|base| base.step(chunk, &mut self.steps));
        self.next = place.map(|place| place + 1);
        if chunk.id == ChunkId::HOLE {
            self.steps.push(Step::Hole(chunk.bytes));
        } else if place.is_none() {
            self.steps.push(Step::New(chunk.bytes));
            self.new.extend_from_slice(bytes);
        }
        self.covered += u64::from(chunk.bytes);
        let most = match self.mirror.outbox.is_slow() {
            true => SLOW_PIECE_BYTES,
            false => PIECE_BYTES,
        };
        let is_full = self.new.len() >= most || self.steps.len() >= PIECE_STEPS;
        if is_full || (self.covered >= PIECE_COVERS && self.differs()) {
            self.send();
        }
    }

    /// Whether the file is another than the server's by now.
    fn differs(&self) -> bool {
        self.has_begun || !matches!(self.steps[..], [Step::Copy { first: 0, .. }])
    }

    /// Sends what there is, and all that waits.
    fn end(&mut self) {
        self.send();
        while self.send_first(true) {}
        self.send_parted();
    }

    /// Lets go what there is: at once, or when it is known which parts of it the server has.
    fn send(&mut self) {
        let waiting = Waiting {
            steps: std::mem::take(&mut self.steps),
            new: std::mem::take(&mut self.new),
            covered: std::mem::take(&mut self.covered),
            question: None,
        };
        let question = self.ask(&waiting);
        self.waiting.push_back(Waiting {
            question,
            ..waiting
        });
        while self.send_first(self.waiting.len() > WAITING_MAX) {}
    }

    /// Asks for the parts of the old chunks that were where these new ones are.
    fn ask(&mut self, piece: &Waiting) -> Option<Question> {
        let base = self.base.as_ref()?;
        if self.mirror.settings.dry_run {
            return None;
        }
        let (mirror, stream) = (self.mirror, self.number);
        let begin = || (Finder::new(&base.recipe), Answers::new(mirror, stream));
        let (finder, _) = self.finder.get_or_insert_with(begin);
        let ranges = finder.question(&base.recipe, &piece.steps, piece.new.len())?;
        if !ranges.is_empty() {
            let begin = (base.path.as_slice(), base.content);
            let begin = (!std::mem::replace(&mut self.has_begun, true)).then_some(begin);
            let detail = Detail {
                stream,
                begin,
                ranges,
            };
            mirror.send(Way::Bulk, FrameKind::Detail, &[&detail.write()]);
            return Some(detail.ranges);
        }
        Some(ranges)
    }

    /// Sends the first piece that waits, if it need not wait any more or has waited long enough. Whether there was one.
    fn send_first(&mut self, is_due: bool) -> bool {
        let Some(piece) = self.waiting.front() else {
            return false;
        };
        let parts = match (&piece.question, &self.finder) {
            (Some(question), Some((_, answers))) if !question.is_empty() => {
                let Some(parts) = answers.next(is_due) else {
                    return false;
                };
                parts
            }
            _ => Vec::new(),
        };
        if piece.question.is_none() || self.parted.is_full(piece.new.len()) {
            self.send_parted();
        }
        let Some(piece) = self.waiting.pop_front() else {
            return false;
        };
        if let (Some(question), Some((finder, _))) = (&piece.question, &mut self.finder) {
            finder.learn(question, parts);
            finder.part(&piece.steps, &piece.new, &mut self.parted);
            self.parted.covers += piece.covered;
        } else {
            let version = self.base.as_ref().map(|_| VERSIONS_LEVEL);
            let level = self.mirror.outbox.level().or(version);
            self.send_piece(piece.steps, &piece.new, level);
        }
        // Its memory is used again, where nothing has to wait.
        if self.waiting.is_empty() && self.new.capacity() == 0 {
            self.new = piece.new;
            self.new.clear();
        }
        true
    }

    fn send_parted(&mut self) {
        let Parted { steps, new, .. } = std::mem::take(&mut self.parted);
        if !steps.is_empty() {
            let level = self.mirror.outbox.level();
            self.send_piece(steps, &new, level.max(Some(PARTS_LEVEL)));
        }
    }

    fn send_piece(&mut self, steps: Vec<Step>, new: &[u8], level: Option<i32>) {
        let base = self.base.as_ref();
        let base = base.map(|base| (base.path.as_slice(), base.content));
        let begin = (!std::mem::replace(&mut self.has_begun, true)).then_some(base);
        if self.mirror.settings.dry_run {
            return;
        }
        let piece = Piece {
            stream: self.number,
            begin,
            steps,
            bytes: Cow::Borrowed(new),
        };
        let (head, bytes) = piece.parts(level);
        self.mirror
            .send(Way::Bulk, FrameKind::Piece, &[&head, &bytes]);
    }
}
