//! Collects changes into packs and sends them.
//!
//! Invariant: the changes of a pack are entered into the ledger in one piece before the pack is sent; if the tree has become
//! another meanwhile, nothing of it is sent and its paths are compared again. Left to others: finding changes.

use super::Mirror;
use super::outbox::Way;
use super::state::Effect;
use crate::chunk::Recipe;
use crate::index::Row;
use crate::meta::{ContentId, Fingerprint, Meta};
use crate::path;
use crate::server::PACK_NEW_DIRS_MAX;
use crate::wire::{DirRef, Facts, FrameKind, Op, PackBuilder, Place, Step};

/// Bytes of a pack from which on it is sent.
const PACK_BYTES: usize = 1 << 20;
/// The same on a slow link: larger packs compress better, and it takes a while until they are through anyway.
const SLOW_PACK_BYTES: usize = 8 << 20;
/// Changes of a pack from which on it is sent.
const PACK_OPS: usize = 1024;
/// Packs that are larger go out on the bulk connection.
const CONTROL_PACK_BYTES: usize = 256 << 10;
/// New versions of what the server has are compressed on every link from so many bytes on: they are few, and mostly text.
const VERSIONS_BYTES: usize = 16 << 10;
/// The level for that.
pub(super) const VERSIONS_LEVEL: i32 = 1;

/// What is known of an entry that is about to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) meta: Meta,
    pub(super) print: Fingerprint,
    pub(super) is_linked: bool,
    pub(super) is_racy: bool,
}

impl Found {
    fn facts<'a>(&self, attrs: &'a [u8]) -> Facts<'a> {
        Facts {
            mode: self.meta.mode,
            uid: self.meta.uid,
            gid: self.meta.gid,
            mtime: self.meta.mtime,
            attrs,
        }
    }

    pub(super) fn row(&self, content: ContentId) -> Row {
        Row {
            meta: self.meta,
            print: self.print,
            content,
            seq: 0,
            recipe: None,
            is_linked: self.is_linked,
            is_racy: self.is_racy,
        }
    }
}

/// A pack in the making.
pub(super) struct Packer<'a> {
    mirror: &'a Mirror<'a>,
    way: Way,
    builder: PackBuilder,
    effects: Vec<Effect>,
    /// Directories of the pack that changes refer to, by their paths: the last ones.
    dirs: Vec<(Vec<u8>, DirRef)>,
    new_dirs: usize,
    /// Bytes of content that takes the place of another version.
    versions_bytes: usize,
}

/// How many directories of a pack are looked up by name; one that is forgotten is only named again.
const DIRS_REMEMBERED: usize = 16;

impl<'a> Packer<'a> {
    pub(super) fn new(mirror: &'a Mirror<'a>, way: Way) -> Self {
        Self {
            mirror,
            way,
            builder: PackBuilder::default(),
            effects: Vec::new(),
            dirs: Vec::new(),
            new_dirs: 0,
            versions_bytes: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// Whether so many more bytes have no place in this pack.
    fn is_full_with(&self, bytes: usize) -> bool {
        let most = match self.mirror.outbox.is_slow() {
            true => SLOW_PACK_BYTES,
            false => PACK_BYTES,
        };
        self.builder.bytes() + bytes > most
            || self.builder.count() >= PACK_OPS
            || self.new_dirs >= PACK_NEW_DIRS_MAX
    }

    /// Sends the pack if so many more bytes have no place in it.
    pub(super) fn make_room(&mut self, bytes: usize) {
        if !self.is_empty() && self.is_full_with(bytes) {
            self.send();
        }
    }

    fn dir(&mut self, path: &[u8]) -> DirRef {
        if let Some((_, dir)) = self.dirs.iter().rev().find(|(known, _)| known == path) {
            return *dir;
        }
        let dir = self.builder.dir(path);
        self.remember(path, dir);
        dir
    }

    fn remember(&mut self, path: &[u8], dir: DirRef) {
        if self.dirs.len() == DIRS_REMEMBERED {
            self.dirs.remove(0);
        }
        self.dirs.push((path.to_vec(), dir));
    }

    fn put(&mut self, path: &[u8], row: Row, recipe: Option<Recipe>) {
        self.effects.push(Effect::Put {
            path: path.to_vec(),
            row,
            recipe,
        });
    }

    pub(super) fn mkdir(&mut self, at: &[u8], found: &Found, attrs: &[u8]) {
        self.make_room(0);
        let (dir, name) = path::split(at);
        let dir = self.dir(dir);
        let facts = found.facts(attrs);
        let place = Place { dir, name };
        let made = self.builder.push(&Op::Mkdir { at: place, facts });
        if let Some(made) = made {
            self.remember(at, made);
        }
        self.new_dirs += 1;
        self.put(at, found.row(ContentId::default()), None);
    }

    /// The last file was another version of what the server has, with so many bytes.
    pub(super) fn is_version(&mut self, bytes: usize) {
        self.versions_bytes += bytes;
    }

    /// A file with its whole content.
    pub(super) fn file(
        &mut self,
        at: &[u8],
        found: &Found,
        attrs: &[u8],
        bytes: &[u8],
        (content, recipe): (ContentId, Option<Recipe>),
    ) {
        self.make_room(bytes.len());
        let (dir, name) = path::split(at);
        let dir = self.dir(dir);
        let bodies = self.builder.bodies();
        let begin = bodies.len();
        bodies.extend_from_slice(bytes);
        let body = begin..bodies.len();
        let cuts = recipe.as_ref().map(|recipe| {
            let chunks = recipe.chunks.iter();
            chunks.map(|chunk| chunk.bytes).collect()
        });
        self.builder.push(&Op::File {
            at: Place { dir, name },
            facts: found.facts(attrs),
            content,
            cuts: cuts.unwrap_or_default(),
            body,
        });
        self.put(at, found.row(content), recipe);
    }

    pub(super) fn symlink(&mut self, at: &[u8], found: &Found, target: &[u8], content: ContentId) {
        self.make_room(0);
        let (dir, name) = path::split(at);
        let dir = self.dir(dir);
        self.builder.push(&Op::Symlink {
            at: Place { dir, name },
            facts: found.facts(&[]),
            target,
        });
        self.put(at, found.row(content), None);
    }

    /// A further name of what the server has at `target`.
    pub(super) fn link(&mut self, at: &[u8], found: &Found, target: &[u8], content: ContentId) {
        self.make_room(0);
        let (dir, name) = path::split(at);
        let dir = self.dir(dir);
        let place = Place { dir, name };
        self.builder.push(&Op::Link { at: place, target });
        self.effects.push(Effect::Link {
            path: at.to_vec(),
            row: found.row(content),
            target: target.to_vec(),
        });
        // What comes after it in this pack may stand for the same file.
        self.send();
    }

    /// Other facts of what is there, with the same content. An empty path is the root.
    pub(super) fn meta(&mut self, at: &[u8], found: &Found, attrs: &[u8], row: Row) {
        self.make_room(0);
        let (dir, name) = path::split(at);
        let dir = self.dir(dir);
        self.builder.push(&Op::Meta {
            at: Place { dir, name },
            kind: found.meta.kind,
            facts: found.facts(attrs),
        });
        self.effects.push(Effect::Put {
            path: at.to_vec(),
            row,
            recipe: None,
        });
    }

    /// A file that is made of what the server has at `base`.
    #[expect(clippy::too_many_arguments, reason = "a patch is all of this")]
    pub(super) fn patch(
        &mut self,
        at: &[u8],
        found: &Found,
        attrs: &[u8],
        base: (&[u8], ContentId),
        steps: Vec<Step>,
        new: &[u8],
        (content, recipe): (ContentId, Recipe),
    ) {
        self.make_room(new.len());
        let (dir, name) = path::split(at);
        let dir = self.dir(dir);
        let bodies = self.builder.bodies();
        let begin = bodies.len();
        bodies.extend_from_slice(new);
        let body = begin..bodies.len();
        self.builder.push(&Op::Patch {
            at: Place { dir, name },
            facts: found.facts(attrs),
            content,
            base: base.0,
            base_content: base.1,
            steps,
            body,
        });
        self.put(at, found.row(content), Some(recipe));
        self.versions_bytes += new.len();
        // Others may refer to this file's new content, or replace its old one.
        self.send();
    }

    /// A file that was sent in pieces.
    pub(super) fn streamed(
        &mut self,
        at: &[u8],
        found: &Found,
        attrs: &[u8],
        stream: u64,
        (content, recipe): (ContentId, Recipe),
    ) {
        let (dir, name) = path::split(at);
        let dir = self.dir(dir);
        self.builder.push(&Op::Streamed {
            at: Place { dir, name },
            facts: found.facts(attrs),
            content,
            stream,
        });
        self.put(at, found.row(content), Some(recipe));
        // Behind its pieces, on the same connection.
        self.send_on(Way::Bulk);
    }

    /// Moves what the server has. Goes out at once, because what is compared next builds on it.
    ///
    /// The server's is the one that had this inode here; it is found with `print` in its new place.
    pub(super) fn rename(&mut self, from: &[u8], inode: u64, to: &[u8], print: Fingerprint) {
        let (dir, name) = path::split(to);
        let dir = self.dir(dir);
        let at = Place { dir, name };
        self.builder.push(&Op::Rename { from, at });
        self.effects.push(Effect::Rename {
            from: from.to_vec(),
            to: to.to_vec(),
            print,
            inode,
        });
        self.send();
        // It was not seen there a moment ago. It may be back by now, or something else may be.
        self.mirror.again(vec![from.to_vec()]);
    }

    pub(super) fn exchange(&mut self, a: (&[u8], u64), b: (&[u8], u64)) {
        self.builder.push(&Op::Exchange { a: a.0, b: b.0 });
        self.effects.push(Effect::Exchange {
            a: (a.0.to_vec(), a.1),
            b: (b.0.to_vec(), b.1),
        });
        self.send();
    }

    pub(super) fn remove(&mut self, at: &[u8]) {
        self.make_room(0);
        let (dir, name) = path::split(at);
        let dir = self.dir(dir);
        let place = Place { dir, name };
        self.builder.push(&Op::Remove { at: place });
        self.effects.push(Effect::Remove { path: at.to_vec() });
    }

    /// Sends what there is.
    pub(super) fn send(&mut self) {
        self.send_on(self.way);
    }

    fn send_on(&mut self, way: Way) {
        if self.is_empty() {
            return;
        }
        let builder = std::mem::take(&mut self.builder);
        let effects = std::mem::take(&mut self.effects);
        self.dirs.clear();
        self.new_dirs = 0;
        let versions_bytes = std::mem::take(&mut self.versions_bytes);
        let way = match way {
            Way::Control if builder.bytes() <= CONTROL_PACK_BYTES => Way::Control,
            _ => Way::Bulk,
        };
        self.mirror.report_sending(&effects);
        if self.mirror.settings.dry_run {
            // Entered all the same, so that what follows is decided as if it had been sent.
            if let Err(paths) = self.mirror.ledger.enter(effects, None) {
                self.mirror.again(paths);
            }
            return;
        }
        let window =
            (way == Way::Control).then(|| (builder.bytes() as u64, self.mirror.window_bytes));
        match self.mirror.ledger.enter(effects, window) {
            Ok(first_seq) => {
                let versions = (versions_bytes >= VERSIONS_BYTES).then_some(VERSIONS_LEVEL);
                let level = self.mirror.outbox.level().or(versions);
                let parts = builder.finish(first_seq, level);
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                self.mirror.send(way, FrameKind::Pack, &parts);
            }
            Err(paths) => self.mirror.again(paths),
        }
    }
}
