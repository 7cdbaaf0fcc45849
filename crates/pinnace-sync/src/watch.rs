//! Hears of every change beneath a directory: a recursive watcher on inotify.
//!
//! inotify watches one directory at a time, so whoever lists a directory adds a watch for it first
//! ([`Watch::add`]): what is made before the listing is listed, what is made after it is reported, and what is
//! both is harmless. The thread of a watcher reads what the kernel has to say and hands it to its sink; it never
//! looks at the file system and never waits for anybody but the kernel and its sink.
//!
//! Invariant: a change in a watched directory is reported, or [`Event::Overflow`] is. What is reported may be
//! out of date: an event says that a path *may* differ, and a rename may have been seen already by who listed
//! the directory. Left to others: listing, comparing, what is ignored, and what to do where a watch is refused.

mod error;
mod listen;
mod translate;
mod tree;

#[cfg(test)]
mod proofs;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{AtFlags, MemfdFlags};
use rustix::io::Errno;

use error::setting;
use tree::{Place, Tree};

pub use error::WatchError;

/// What is asked for of a directory. It is *added* to what was asked before, the same: the kernel replaces a mask by
/// clearing it first, and what happens in that moment, in a directory that is only looked at again, would be lost.
const WATCHED: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::MASK_ADD);

/// A watched directory. It stays the same wherever the directory is moved inside the tree; one that is deleted
/// and made again is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirId(u32);

impl DirId {
    fn of_watch(watch: i32) -> Self {
        Self(watch.cast_unsigned())
    }

    fn watch(self) -> i32 {
        self.0.cast_signed()
    }
}

/// Whether somebody is at work on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Whatever was done is done: made, moved, deleted, or given other attributes.
    Done,
    /// Who could write to it has closed it. It may differ though no time says so: what is stored through a mapping changes
    /// none, or only the first time.
    Closed,
    /// It was written to and is open still; it may never be closed.
    Still,
}

/// What happened. Paths are relative to the root and as they were when the kernel told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What is at this path may differ from before. The empty path is the root itself.
    Changed {
        /// Where.
        path: Vec<u8>,
        /// Whether it is (or was) a directory. One that is not gone may be new: it is to be added and listed.
        is_dir: bool,
        /// Whether it was deleted or moved away.
        is_gone: bool,
        /// Whether somebody is at work on it.
        written: Written,
    },
    /// An entry was renamed inside the tree, with everything beneath it, and what was at `to` is not there any more.
    /// Both paths are to be looked at again: two files that change places are renamed there and back again, and who
    /// has listed the directory meanwhile may know better. Of two directories that change places one is renamed
    /// and the other comes as changed.
    Renamed {
        /// Its path before.
        from: Vec<u8>,
        /// Its path now.
        to: Vec<u8>,
        /// Whether it is a directory.
        is_dir: bool,
    },
    /// Events were lost: everything may differ.
    Overflow,
    /// The root was moved, deleted or unmounted, or the kernel tells nothing any more. That it was deleted is
    /// told when nobody has it open any more.
    RootGone,
    /// All that happened before this cookie was made ([`Watch::cookie`]) has been reported.
    Cookie(u64),
}

/// A watcher. Clones are the same one; with the last of them its thread ends, after the call of the sink that
/// it is in.
#[derive(Clone, Debug)]
pub struct Watch {
    running: Arc<Running>,
}

/// The thread, which ends with this.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    inotify: OwnedFd,
    /// Where the root was at the start. It is not held open: the kernel tells that a directory is deleted when
    /// nobody has it open any more.
    root_path: Vec<u8>,
    /// A file of ours that nobody else can reach. The kernel says in the queue when the watch of a file ends,
    /// so ending this one puts a mark after all that was said before.
    bell: OwnedFd,
    state: Mutex<State>,
    /// Whether something was read that the sink has not got yet.
    is_telling: AtomicBool,
    is_stopping: AtomicBool,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    bell_watch: Option<i32>,
    cookies: u64,
    /// Cookies on their way, each with the watch whose end tells of it.
    rung: Vec<(i32, u64)>,
}

impl Watch {
    /// Watches the directory open at `root`, and nothing beneath it yet. `sink` gets what happened, in order, a batch
    /// for each read; while it works the kernel keeps what comes (up to `fs.inotify.max_queued_events`).
    ///
    /// # Errors
    /// A limit of the system, or a directory that cannot be read.
    pub fn start(
        root: BorrowedFd<'_>,
        sink: impl Fn(Vec<Event>) + Send + 'static,
    ) -> Result<Self, WatchError> {
        let inotify = inotify::init(CreateFlags::CLOEXEC).map_err(|errno| match errno {
            Errno::MFILE => WatchError::Instances {
                limit: setting("max_user_instances"),
            },
            errno => WatchError::os("making a watcher")(errno),
        })?;
        let root_path = real_path(&root).map_err(WatchError::os("asking where the root is"))?;
        let bell = rustix::fs::memfd_create("pinnace-watch", MemfdFlags::CLOEXEC)
            .map_err(WatchError::os("making a file in memory"))?;
        let root_inode = inode_of(&root)?;
        let root_watch = watch(&inotify, &root, WATCHED)?;
        let bell_watch = watch(&inotify, &bell, WatchFlags::DELETE_SELF)?;
        let shared = Arc::new(Shared {
            inotify,
            root_path,
            bell,
            state: Mutex::new(State {
                tree: Tree::new(root_watch, root_inode),
                bell_watch: Some(bell_watch),
                cookies: 0,
                rung: Vec::new(),
            }),
            is_telling: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || listen::listen(&shared, &sink)
            })
            .map_err(|error| WatchError::Os {
                what: "starting a thread",
                errno: Errno::from_io_error(&error).unwrap_or(Errno::AGAIN),
            })?;
        Ok(Self {
            running: Arc::new(Running {
                shared,
                thread: Some(thread),
            }),
        })
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> DirId {
        DirId::of_watch(self.shared().state().tree.root())
    }

    /// Watches the directory open at `dir`, which was opened by the name `name` in `parent`; to be called before it is
    /// listed. A directory that is watched already keeps its id: nothing in it has been missed since it was
    /// listed after the first call. Its place becomes the one given here, unless it is seen to be elsewhere by now.
    /// It has to lie in the very directory that `parent` is: a path may have led through another one of that name.
    ///
    /// # Errors
    /// [`WatchError::Limit`]: it is not watched. [`WatchError::NoParent`], [`WatchError::Circle`]: the tree is being
    /// moved about, and events will tell. Else what the system said.
    pub fn add(
        &self,
        parent: DirId,
        name: &[u8],
        dir: BorrowedFd<'_>,
    ) -> Result<DirId, WatchError> {
        let shared = self.shared();
        let inode = inode_of(&dir)?;
        // Where what is above may not be asked for, the path is believed.
        let above = rustix::fs::statat(dir, "..", AtFlags::empty());
        // The lock is held over the call, so that the thread meets no event of a watch it does not know.
        let mut state = shared.state();
        let known = state.tree.inode(parent.watch());
        if known.is_none() || above.is_ok_and(|above| known != Some(above.st_ino)) {
            return Err(WatchError::NoParent);
        }
        let added = watch(&shared.inotify, &dir, WATCHED)?;
        let place = Place::new(parent.watch(), name);
        let is_there = match state.tree.place(added) {
            Some(known) if *known == place => {
                state.tree.child(place.parent, &place.name) == Some(added)
            }
            Some(_) => shared.is_really_at(&state.tree, added, dir),
            None => false,
        };
        if !is_there && state.tree.add(added, inode, place).is_err() {
            return Err(WatchError::Circle);
        }
        Ok(DirId::of_watch(added))
    }

    /// The watched directory at this path, as far as events were read; the empty path is the root.
    #[must_use]
    pub fn dir_at(&self, path: &[u8]) -> Option<DirId> {
        let state = self.shared().state();
        let mut at = state.tree.root();
        for name in path.split(|byte| *byte == b'/') {
            if !path.is_empty() {
                at = state.tree.child(at, name)?;
            }
        }
        Some(DirId::of_watch(at))
    }

    /// Whether more has happened than the sink got: while that is so, a directory that is not found where it was said
    /// to be may have moved, and it will be said.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let shared = self.shared();
        // In this order: what is read no more is being told.
        listen::is_readable(&shared.inotify) || shared.is_telling.load(Ordering::Acquire)
    }

    /// Makes a cookie: [`Event::Cookie`] with its number comes when all that has happened so far was reported.
    ///
    /// # Errors
    /// The limit of watches was used up by others since the last cookie.
    pub fn cookie(&self) -> Result<u64, WatchError> {
        let shared = self.shared();
        let mut state = shared.state();
        let rung = shared.ring(&mut state)?;
        state.cookies += 1;
        let number = state.cookies;
        state.rung.push((rung, number));
        Ok(number)
    }

    /// How many directories are watched.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.shared().state().tree.len()
    }

    /// Ends the watches of a directory other than the root and of all beneath it.
    pub fn forget(&self, dir: DirId) {
        let shared = self.shared();
        let mut state = shared.state();
        if dir.watch() != state.tree.root() {
            let removed = state.tree.remove(dir.watch());
            shared.end(&removed);
        }
    }

    fn shared(&self) -> &Shared {
        &self.running.shared
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        let rung = self.shared.ring(&mut self.shared.state());
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A sink may hold the last clone and let go of it: the thread cannot wait for its own end.
        if rung.is_ok() && thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a mark into the queue; the watch that it is told of. A bell is kept ready, so that a mark is
    /// possible when all watches are used up.
    fn ring(&self, state: &mut State) -> Result<i32, WatchError> {
        let arm = || watch(&self.inotify, &self.bell, WatchFlags::DELETE_SELF);
        let rung = match state.bell_watch.take() {
            Some(armed) => armed,
            None => arm()?,
        };
        inotify::remove_watch(&self.inotify, rung).map_err(WatchError::os("making a cookie"))?;
        state.bell_watch = arm().ok();
        Ok(rung)
    }

    /// Whether a directory is where the tree has it. Asked when somebody found it elsewhere: either they or
    /// the events are behind.
    fn is_really_at(&self, tree: &Tree, watch: i32, dir: BorrowedFd<'_>) -> bool {
        match (real_path(&dir), tree.path(watch)) {
            (Ok(real), Some(path)) => {
                let below = real.strip_prefix(&self.root_path[..]);
                below.and_then(|below| below.strip_prefix(b"/")) == Some(&path[..])
            }
            _ => false,
        }
    }

    fn end(&self, watches: &[i32]) {
        for watch in watches {
            // It may have ended by itself, with its directory.
            let _ = inotify::remove_watch(&self.inotify, *watch);
        }
    }
}

/// The name of what is open here, wherever it lies by now. It is a symbolic link of a kind and has to be followed.
fn name_of(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The path of what is open here, without a slash at the end.
fn real_path(fd: &impl AsRawFd) -> Result<Vec<u8>, Errno> {
    let mut path = rustix::fs::readlink(name_of(fd), Vec::new())?.into_bytes();
    path.pop_if(|last| *last == b'/');
    Ok(path)
}

fn inode_of(fd: &impl AsFd) -> Result<u64, WatchError> {
    let stat = rustix::fs::fstat(fd).map_err(WatchError::os("asking what a directory is"))?;
    Ok(stat.st_ino)
}

fn watch(inotify: &OwnedFd, fd: &impl AsRawFd, flags: WatchFlags) -> Result<i32, WatchError> {
    inotify::add_watch(inotify, name_of(fd), flags)
        .map_err(|errno| WatchError::refused(errno, || setting("max_user_watches")))
}
