//! From what the kernel says of watches to what happened to paths.
//!
//! Invariant: whatever is not understood for certain comes out as *this path may differ*, which is always true.
//! A rename is reported as one only when both names were told, and, of a directory, when the kernel has said
//! of its very watch that it moved: a name alone may belong to another directory by now, as scanners add
//! watches ahead of what was read here.
//!
//! The kernel tells a rename in up to three events (from, to, and of a watched directory that it moved itself),
//! between which others may come. An incomplete one waits until its names are touched again, until a cookie or an
//! overflow comes, or until the caller lets go of it ([`Translator::give_up`]). Left to others: reading the
//! events, the clock, and removing the watches this module has no more use for.

use std::collections::HashMap;
use std::mem;

use rustix::fs::inotify::ReadFlags;

use super::tree::{Place, Tree};
use super::{Event, Written};

/// One event as the kernel gives it; the name is empty when it is about the watched directory itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    pub(super) watch: i32,
    pub(super) mask: ReadFlags,
    pub(super) cookie: u32,
    pub(super) name: &'a [u8],
}

#[derive(Debug)]
struct Pending {
    cookie: u32,
    from: Place,
    to: Option<Place>,
    is_dir: bool,
    /// In which read it was first seen.
    read: u64,
}

#[derive(Debug, Default)]
pub(super) struct Translator {
    pending: Vec<Pending>,
    reads: u64,
    root_gone: bool,
    out: Vec<Event>,
    /// Where in `out` a path was last reported as changed, since the last rename.
    reported: HashMap<Vec<u8>, usize>,
    unused: Vec<i32>,
}

impl Translator {
    /// Begins another read. What was incomplete before the one that has just ended is given up.
    pub(super) fn next_read(&mut self, tree: &Tree) {
        let last = self.reads;
        self.give_up_where(tree, |pending| pending.read < last);
        self.reads += 1;
    }

    /// Whether there are renames of which only a part was told.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Reports all incomplete renames as changes.
    pub(super) fn give_up(&mut self, tree: &Tree) {
        self.give_up_where(tree, |_| true);
    }

    /// What there is to report.
    pub(super) fn take(&mut self) -> Vec<Event> {
        self.reported.clear();
        mem::take(&mut self.out)
    }

    /// Watches that are in the tree no more. They must be ended before anybody else can come by: a directory that
    /// is added again would get the same one, and lose it.
    pub(super) fn take_unused(&mut self) -> Vec<i32> {
        mem::take(&mut self.unused)
    }

    /// Everything before it has been reported.
    pub(super) fn cookie(&mut self, tree: &Tree, number: u64) {
        self.give_up(tree);
        self.out.push(Event::Cookie(number));
    }

    /// One event. Overflows and cookies are the caller's to recognise.
    pub(super) fn event(&mut self, tree: &mut Tree, raw: Raw<'_>) {
        let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
        if raw.watch == tree.root() && raw.mask.intersects(gone | ReadFlags::IGNORED) {
            if !mem::replace(&mut self.root_gone, true) {
                self.give_up(tree);
                self.out.push(Event::RootGone);
            }
        } else if !tree.contains(raw.watch) {
            // Said before the watch was removed.
        } else if raw.mask.contains(ReadFlags::IGNORED) {
            let beneath = tree.remove(raw.watch);
            self.unused
                .extend(beneath.into_iter().filter(|watch| *watch != raw.watch));
        } else if raw.mask.contains(ReadFlags::MOVE_SELF) {
            self.moved(tree, raw.watch);
        } else if raw.mask.contains(ReadFlags::DELETE_SELF) {
            // Its parent tells of it, and the end of the watch is an event of its own.
        } else if raw.name.is_empty() {
            match tree.path(raw.watch) {
                Some(path) => self.changed(path, true, false, Written::Done),
                None => self.unused.extend(tree.remove(raw.watch)),
            }
        } else {
            self.named(tree, raw);
        }
    }

    /// Events were lost.
    pub(super) fn overflow(&mut self, tree: &Tree) {
        self.give_up(tree);
        self.reported.clear();
        self.out.push(Event::Overflow);
    }

    /// Something happened to a name in a watched directory.
    fn named(&mut self, tree: &mut Tree, raw: Raw<'_>) {
        let place = Place::new(raw.watch, raw.name);
        self.give_up_where(tree, |pending| {
            pending.from == place || pending.to.as_ref() == Some(&place)
        });
        let is_dir = raw.mask.contains(ReadFlags::ISDIR);
        if raw.mask.contains(ReadFlags::MOVED_FROM) {
            self.pending.push(Pending {
                cookie: raw.cookie,
                from: place,
                to: None,
                is_dir,
                read: self.reads,
            });
            return;
        }
        if raw.mask.contains(ReadFlags::MOVED_TO)
            && let Some(at) = self
                .pending
                .iter()
                .position(|pending| pending.cookie == raw.cookie)
        {
            self.arrived(tree, at, place);
            return;
        }
        let is_gone = raw.mask.contains(ReadFlags::DELETE);
        if is_gone
            && is_dir
            && let Some(deleted) = tree.first_at(&place)
        {
            // The kernel may keep a deleted directory, and its watch, for as long as it likes. Should this be the
            // next one of that name after all, then that it came is still to be read, and it is added once more.
            self.unused.extend(tree.remove(deleted));
        }
        let written = if raw.mask.contains(ReadFlags::MODIFY) {
            Written::Still
        } else if raw.mask.contains(ReadFlags::CLOSE_WRITE) {
            Written::Closed
        } else {
            Written::Done
        };
        self.changed_at(tree, &place, is_dir, is_gone, written);
    }

    /// The second half of a rename. A watched directory will also tell that it moved itself.
    fn arrived(&mut self, tree: &mut Tree, at: usize, to: Place) {
        let pending = &mut self.pending[at];
        if !pending.is_dir {
            let from = self.pending.swap_remove(at).from;
            tree.displace(&to);
            self.renamed(tree, &from, &to, false);
        } else if tree.first_at(&pending.from).is_some() {
            pending.to = Some(to);
        } else {
            // Nobody has listed it, so nothing is known of what lies in it.
            let from = self.pending.swap_remove(at).from;
            self.changed_at(tree, &from, true, true, Written::Done);
            self.changed_at(tree, &to, true, false, Written::Done);
        }
    }

    /// A watched directory has moved: which rename was it? If none fits, a scanner has found it before.
    fn moved(&mut self, tree: &mut Tree, watch: i32) {
        let Some(place) = tree.place(watch) else {
            return;
        };
        let Some(at) = self
            .pending
            .iter()
            .position(|pending| pending.is_dir && pending.from == *place)
        else {
            return;
        };
        let pending = self.pending.swap_remove(at);
        let Some(to) = pending.to else {
            // The other half would have come first: it went to where nothing is watched.
            self.changed_at(tree, &pending.from, true, true, Written::Done);
            self.unused.extend(tree.remove(watch));
            return;
        };
        // One that was displaced (the other one of an exchange, say) is not what is known by that name.
        let is_known = tree.child(pending.from.parent, &pending.from.name) == Some(watch);
        if tree.put(watch, to.clone()).is_ok() && is_known {
            self.renamed(tree, &pending.from, &to, true);
        } else {
            self.changed_at(tree, &pending.from, true, is_known, Written::Done);
            self.changed_at(tree, &to, true, false, Written::Done);
        }
    }

    fn renamed(&mut self, tree: &Tree, from: &Place, to: &Place, is_dir: bool) {
        let paths = (
            tree.path_of(from.parent, &from.name),
            tree.path_of(to.parent, &to.name),
        );
        let (Some(from), Some(to)) = paths else {
            let halves = [(paths.0, true), (paths.1, false)];
            for (path, is_gone) in halves {
                if let Some(path) = path {
                    self.changed(path, is_dir, is_gone, Written::Done);
                }
            }
            return;
        };
        self.reported.clear();
        self.out.push(Event::Renamed { from, to, is_dir });
    }

    fn give_up_where(&mut self, tree: &Tree, which: impl Fn(&Pending) -> bool) {
        if self.pending.is_empty() {
            return;
        }
        let (given_up, kept) = mem::take(&mut self.pending).into_iter().partition(which);
        self.pending = kept;
        let given_up: Vec<Pending> = given_up;
        for pending in given_up {
            self.changed_at(tree, &pending.from, pending.is_dir, true, Written::Done);
            if let Some(to) = pending.to {
                self.changed_at(tree, &to, pending.is_dir, false, Written::Done);
            }
        }
    }

    fn changed_at(
        &mut self,
        tree: &Tree,
        place: &Place,
        is_dir: bool,
        is_gone: bool,
        written: Written,
    ) {
        if let Some(path) = tree.path_of(place.parent, &place.name) {
            self.changed(path, is_dir, is_gone, written);
        }
    }

    /// Reports a change. One that says the same as the last of its path only updates whether it is being written.
    fn changed(&mut self, path: Vec<u8>, is_dir: bool, is_gone: bool, written: Written) {
        if let Some(at) = self.reported.get(&path)
            && let Some(Event::Changed {
                is_dir: was_dir,
                is_gone: was_gone,
                written: was_written,
                ..
            }) = self.out.get_mut(*at)
            && (*was_dir, *was_gone) == (is_dir, is_gone)
        {
            // That it was closed stays worth knowing.
            if (*was_written, written) != (Written::Closed, Written::Done) {
                *was_written = written;
            }
            return;
        }
        self.reported.insert(path.clone(), self.out.len());
        self.out.push(Event::Changed {
            path,
            is_dir,
            is_gone,
            written,
        });
    }
}
