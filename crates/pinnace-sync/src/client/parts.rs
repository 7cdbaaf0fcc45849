//! What a large file has in common with the server's old content within chunks that differ.
//!
//! Where much of a file is in new chunks, the server is asked for the parts of the old chunks that were there, while the
//! file is read on; of the new chunks only the parts go out that the old ones do not have. An archive whose entries all got
//! another time is such a file.
//!
//! Invariant: parts are found where the server said they are, and nothing is found in an answer that does not fit the
//! question. Left to others: sending (`large`); whether a part is what it seems, which the server finds out by the id of the
//! whole.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::{Mirror, held};
use crate::chunk::{ChunkId, Part, Recipe, parts};
use crate::wire::{DETAIL_BYTES_MAX, DETAIL_RANGES_MAX, FRAME_BYTES_MAX, Step};

/// New bytes of a piece from which on it is worth asking: less is sent sooner than a question is answered.
const ASKED_BYTES: usize = 128 << 10;
/// So much more of the old content is asked about than there is of the new, where it is not known how far the change goes.
const SLACK_BYTES: u64 = 1 << 20;
/// Parts that are remembered, twice: those of about 128 MiB.
const PARTS_MAX: usize = 128 << 10;
/// Pieces in a row that are not asked about, at most, where asking was of no use.
const SPARED_MAX: u32 = 256;

/// The streams of a session.
#[derive(Default)]
pub(super) struct Streams {
    next: AtomicU64,
    /// Those that wait for parts.
    askers: Mutex<HashMap<u64, Sender<Vec<Part>>>>,
}

impl Streams {
    /// The number of another one.
    pub(super) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// An answer came.
    pub(super) fn answered(&self, stream: u64, parts: Vec<Part>) {
        if let Some(asker) = held(&self.askers).get(&stream) {
            // Its file may be done with.
            let _ = asker.send(parts);
        }
    }
}

/// Chunks of the base whose parts are asked for: the first, and how many.
pub(super) type Question = Vec<(u32, u32)>;

/// Answers for one stream, in the order of its questions.
pub(super) struct Answers<'a> {
    mirror: &'a Mirror<'a>,
    stream: u64,
    answers: Receiver<Vec<Part>>,
}

impl<'a> Answers<'a> {
    pub(super) fn new(mirror: &'a Mirror<'a>, stream: u64) -> Self {
        let (asker, answers) = channel();
        held(&mirror.streams.askers).insert(stream, asker);
        Self {
            mirror,
            stream,
            answers,
        }
    }

    /// Waits for the next one, or looks whether it is there: `None` if it is not. One that never comes is as good as one
    /// that says nothing.
    pub(super) fn next(&self, is_due: bool) -> Option<Vec<Part>> {
        /// How often it is looked whether the session is over.
        const LOOK: Duration = Duration::from_millis(100);
        let time = if is_due { LOOK } else { Duration::ZERO };
        loop {
            match self.answers.recv_timeout(time) {
                Ok(parts) => return Some(parts),
                Err(_) if self.mirror.is_over() => return Some(Vec::new()),
                Err(_) if !is_due => return None,
                Err(_) => {}
            }
        }
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        held(&self.mirror.streams.askers).remove(&self.stream);
    }
}

/// Finds parts of a file in an old content.
pub(super) struct Finder {
    /// Where each chunk of the old content begins, and its end.
    offsets: Vec<u64>,
    /// Where it was left: what comes next was most likely there.
    at: u64,
    /// Chunks that were asked about.
    asked: HashSet<u32>,
    /// Where parts are: those heard of lately, and those before.
    known: [HashMap<Part, u64>; 2],
    /// How many pieces go without a question, and how many did the last time.
    spared: u32,
    last_spared: u32,
}

impl Finder {
    pub(super) fn new(base: &Recipe) -> Self {
        Self {
            offsets: base.offsets(),
            at: 0,
            asked: HashSet::new(),
            known: Default::default(),
            spared: 0,
            last_spared: 0,
        }
    }

    /// What is to be asked before a piece of these steps is looked at for parts; `None` if that is not worth it. Pieces
    /// come in the order of the file.
    pub(super) fn question(
        &mut self,
        base: &Recipe,
        steps: &[Step],
        new_bytes: usize,
    ) -> Option<Question> {
        let stretches = self.stretches(steps);
        if new_bytes < ASKED_BYTES {
            return None;
        }
        if self.spared > 0 {
            self.spared -= 1;
            return None;
        }
        let (mut question, mut left) = (Question::new(), DETAIL_BYTES_MAX);
        for place in stretches.into_iter().flatten() {
            let chunk = base.chunks[place as usize];
            if chunk.id == ChunkId::HOLE || self.asked.contains(&place) {
                continue;
            }
            if left < chunk.bytes.into() || question.len() == DETAIL_RANGES_MAX {
                break;
            }
            left -= u64::from(chunk.bytes);
            self.asked.insert(place);
            match question.last_mut() {
                Some((first, count)) if *first + *count == place => *count += 1,
                _ => question.push((place, 1)),
            }
        }
        Some(question)
    }

    /// Chunks of the base that were, most likely, where the new chunks of these steps are.
    fn stretches(&mut self, steps: &[Step]) -> Vec<Range<u32>> {
        let (mut found, mut run) = (Vec::new(), 0);
        for step in steps {
            match *step {
                Step::New(bytes) => run += u64::from(bytes),
                Step::Copy { first, count } => {
                    found.extend(self.stretch(run, Some(first)));
                    (self.at, run) = (self.offsets[(first + count) as usize], 0);
                }
                Step::Hole(bytes) => {
                    found.extend(self.stretch(run, None));
                    (self.at, run) = (self.at + run + u64::from(bytes), 0);
                }
                Step::Part { .. } | Step::NewPart(_) | Step::Parted => {}
            }
        }
        found.extend(self.stretch(run, None));
        self.at += run;
        found
    }

    /// The chunks from where the base was left on, as far as the next chunk that is there too, or about as many bytes as
    /// are new.
    fn stretch(&self, run: u64, until: Option<u32>) -> Option<Range<u32>> {
        if run == 0 {
            return None;
        }
        let count = self.offsets.len() - 1;
        let begin = self.offsets.partition_point(|offset| *offset <= self.at) - 1;
        let far = self.at + run + SLACK_BYTES;
        let end = self.offsets.partition_point(|offset| *offset < far);
        let farthest = self.at + 4 * run + SLACK_BYTES;
        let until = until.map(|until| until as usize);
        let until = until.filter(|until| *until >= begin && self.offsets[*until] <= farthest);
        Some(begin as u32..until.unwrap_or(end).min(count) as u32)
    }

    /// Remembers where parts are, if they are what was asked for.
    pub(super) fn learn(&mut self, question: &Question, parts: Vec<Part>) {
        let ends = question.iter().map(|(first, count)| {
            let end = self.offsets[(first + count) as usize];
            (self.offsets[*first as usize], end)
        });
        let ends: Vec<_> = ends.collect();
        let asked: u64 = ends.iter().map(|(begin, end)| end - begin).sum();
        let told: u64 = parts.iter().map(|part| u64::from(part.bytes)).sum();
        if asked != told {
            return;
        }
        if self.known[0].len() >= PARTS_MAX {
            self.known[1] = std::mem::take(&mut self.known[0]);
        }
        let mut parts = parts.into_iter();
        for (mut from, end) in ends {
            while from < end
                && let Some(part) = parts.next()
            {
                self.known[0].insert(part, from);
                from += u64::from(part.bytes);
            }
        }
    }

    /// Appends the same piece with all parts copied that are known.
    pub(super) fn part(&mut self, steps: &[Step], new: &[u8], parted: &mut Parted) {
        let (before, mut rest) = (parted.new.len(), new);
        for step in steps {
            if let Step::New(bytes) = *step {
                let (chunk, behind) = rest.split_at(bytes as usize);
                rest = behind;
                self.part_chunk(chunk, parted);
            } else {
                parted.steps.push(*step);
            }
        }
        let kept = parted.new.len() - before;
        let is_of_use = new.len() - kept >= new.len() / 8;
        if is_of_use {
            (self.spared, self.last_spared) = (0, 0);
        } else if self.spared == 0 {
            self.last_spared = (2 * self.last_spared).clamp(1, SPARED_MAX);
            self.spared = self.last_spared;
        }
    }

    fn part_chunk(&self, chunk: &[u8], parted: &mut Parted) {
        let (begin, mut rest, mut is_parted) = (parted.steps.len(), chunk, false);
        for part in parts(chunk) {
            let (bytes, behind) = rest.split_at(part.bytes as usize);
            rest = behind;
            let place = self.known.iter().find_map(|known| known.get(&part));
            is_parted |= place.is_some();
            match place {
                Some(from) => parted.copy(begin, *from, part.bytes),
                None => parted.add(begin, bytes),
            }
        }
        if is_parted {
            parted.steps.push(Step::Parted);
        } else {
            parted.steps.truncate(begin);
            parted.steps.push(Step::New(chunk.len() as u32));
        }
    }
}

/// Bytes of the file after which what was made of them goes out, so that the server works while the rest is read.
const PARTED_COVERS: u64 = 8 << 20;
/// Steps after which it goes out in any case.
const PARTED_STEPS: usize = 16 << 10;
/// New bytes that a frame has room for.
const PARTED_BYTES: usize = FRAME_BYTES_MAX - (1 << 20);

/// A piece in the making, of several: what is new in them is little, and compresses better together.
#[derive(Default)]
pub(super) struct Parted {
    pub(super) steps: Vec<Step>,
    pub(super) new: Vec<u8>,
    /// Bytes of the file that the steps are about.
    pub(super) covers: u64,
}

impl Parted {
    /// Whether so many more bytes, which may all be new, have no place in it.
    pub(super) fn is_full(&self, more: usize) -> bool {
        self.covers >= PARTED_COVERS
            || self.steps.len() >= PARTED_STEPS
            || self.new.len() + more > PARTED_BYTES
    }

    /// Bytes of the base. Parts are joined, but not with those of another chunk: this one's steps begin at `begin`.
    fn copy(&mut self, begin: usize, next: u64, more: u32) {
        match self.steps[begin..].last_mut() {
            Some(Step::Part { from, bytes }) if *from + u64::from(*bytes) == next => *bytes += more,
            _ => self.steps.push(Step::Part {
                from: next,
                bytes: more,
            }),
        }
    }

    /// New bytes, joined likewise.
    fn add(&mut self, begin: usize, new: &[u8]) {
        self.new.extend_from_slice(new);
        match self.steps[begin..].last_mut() {
            Some(Step::NewPart(bytes)) => *bytes += new.len() as u32,
            _ => self.steps.push(Step::NewPart(new.len() as u32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{content_of, noise};
    use proptest::prelude::*;

    /// The steps of a file beside its base, and its new bytes.
    fn steps(base: &Recipe, new: &[u8]) -> (Vec<Step>, Vec<u8>) {
        let (mut steps, mut bytes, mut rest) = (Vec::new(), Vec::new(), new);
        for chunk in content_of(new).1.unwrap().chunks {
            let (own, behind) = rest.split_at(chunk.bytes as usize);
            rest = behind;
            match base.chunks.iter().position(|old| *old == chunk) {
                Some(place) => steps.push(Step::Copy {
                    first: place as u32,
                    count: 1,
                }),
                None => {
                    steps.push(Step::New(chunk.bytes));
                    bytes.extend_from_slice(own);
                }
            }
        }
        (steps, bytes)
    }

    /// What the server would answer.
    fn answer(base: &Recipe, old: &[u8], question: &Question) -> Vec<Part> {
        let mut found = Vec::new();
        for place in question
            .iter()
            .flat_map(|(first, count)| *first..first + count)
        {
            let before = &base.chunks[..place as usize];
            let begin: usize = before.iter().map(|chunk| chunk.bytes as usize).sum();
            let bytes = base.chunks[place as usize].bytes as usize;
            found.extend(parts(&old[begin..begin + bytes]));
        }
        found
    }

    /// What the server would make of a piece.
    fn made(base: &Recipe, old: &[u8], parted: &Parted) -> Vec<u8> {
        let (mut made, mut rest) = (Vec::new(), &parted.new[..]);
        for step in &parted.steps {
            match *step {
                Step::New(bytes) | Step::NewPart(bytes) => {
                    let (own, behind) = rest.split_at(bytes as usize);
                    rest = behind;
                    made.extend_from_slice(own);
                }
                Step::Part { from, bytes } => {
                    made.extend_from_slice(&old[from as usize..][..bytes as usize]);
                }
                Step::Copy { first, count } => {
                    let begin = base.chunks[..first as usize].iter();
                    let begin: usize = begin.map(|chunk| chunk.bytes as usize).sum();
                    let own = base.chunks[first as usize..][..count as usize].iter();
                    let bytes: usize = own.map(|chunk| chunk.bytes as usize).sum();
                    made.extend_from_slice(&old[begin..begin + bytes]);
                }
                Step::Hole(_) | Step::Parted => {}
            }
        }
        assert!(rest.is_empty());
        made
    }

    fn parted(finder: &mut Finder, steps: &[Step], new: &[u8]) -> Parted {
        let mut parted = Parted::default();
        finder.part(steps, new, &mut parted);
        parted
    }

    /// A content with a byte changed in every so many.
    fn changed(old: &[u8], every: usize) -> Vec<u8> {
        let mut new = old.to_vec();
        for byte in new.iter_mut().skip(every / 2).step_by(every) {
            *byte ^= 1;
        }
        new
    }

    #[test]
    fn of_chunks_that_all_differ_in_a_byte_few_parts_are_new() {
        let old = noise(1, 3_000_000);
        let base = content_of(&old).1.unwrap();
        let new = changed(&old, 8_000);
        let (steps, bytes) = steps(&base, &new);
        assert!(bytes.len() > 2_500_000, "{}", bytes.len());
        let mut finder = Finder::new(&base);
        let question = finder.question(&base, &steps, bytes.len()).unwrap();
        // Nothing is asked twice, and most is asked once.
        assert_eq!(finder.question(&base, &[], ASKED_BYTES), Some(Vec::new()));
        finder.learn(&question, answer(&base, &old, &question));
        let parted = parted(&mut finder, &steps, &bytes);
        assert!(parted.new.len() < 700_000, "{}", parted.new.len());
        assert!(made(&base, &old, &parted) == new);
    }

    #[test]
    fn what_is_of_no_use_is_asked_less_and_less_often() {
        let base = content_of(&noise(1, 40_000_000)).1.unwrap();
        let mut finder = Finder::new(&base);
        let mut questions = 0;
        for piece in 0..100 {
            let bytes = noise(100 + piece, 300_000);
            let steps = [Step::New(100_000); 3];
            if finder.question(&base, &steps, bytes.len()).is_some() {
                questions += 1;
                let parted = parted(&mut finder, &steps, &bytes);
                assert_eq!((&parted.steps[..], parted.new), (&steps[..], bytes));
            }
        }
        assert_eq!(questions, 7);
    }

    #[test]
    fn little_is_not_asked_about() {
        let base = content_of(&noise(1, 400_000)).1.unwrap();
        let mut finder = Finder::new(&base);
        let few = ASKED_BYTES - 1;
        let steps = [Step::New(few as u32)];
        assert_eq!(finder.question(&base, &steps, few), None);
        let copies = [Step::Copy { first: 0, count: 3 }, steps[0]];
        // What comes behind a copied chunk was behind it before too.
        let question = finder.question(&base, &copies, ASKED_BYTES).unwrap();
        assert_eq!(question[0].0, 3);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_none() {
        let old = noise(1, 3_000_000);
        let base = content_of(&old).1.unwrap();
        let steps = [Step::New(200_000)];
        let mut finder = Finder::new(&base);
        let question = finder.question(&base, &steps, 200_000).unwrap();
        let mut parts = answer(&base, &old, &question);
        parts.pop();
        for bad in [parts, Vec::new()] {
            finder.learn(&question, bad);
            let parted = parted(&mut finder, &steps, &old[..200_000]);
            assert_eq!((&parted.steps[..], parted.new.len()), (&steps[..], 200_000));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_made_of_parts_is_the_same(
            edits in proptest::collection::vec((0_usize..1_500_000, 0_usize..3_000, 0_usize..3_000), 1..60),
            piece in 1_usize..40,
        ) {
            let old = noise(1, 1_500_000);
            let base = content_of(&old).1.unwrap();
            let mut new = old.clone();
            for (seed, (at, gone, more)) in edits.into_iter().enumerate() {
                let at = at.min(new.len());
                let end = (at + gone).min(new.len());
                new.splice(at..end, noise(seed as u64, more));
            }
            let (steps, bytes) = steps(&base, &new);
            let (mut finder, mut rest, mut found) = (Finder::new(&base), &bytes[..], Vec::new());
            for steps in steps.chunks(piece) {
                let own = steps.iter().map(|step| if let Step::New(bytes) = step { *bytes as usize } else { 0 });
                let (own, behind) = rest.split_at(own.sum());
                rest = behind;
                if let Some(question) = finder.question(&base, steps, own.len()) {
                    finder.learn(&question, answer(&base, &old, &question));
                }
                found.extend(made(&base, &old, &parted(&mut finder, steps, own)));
            }
            prop_assert!(found == new);
        }
    }
}
