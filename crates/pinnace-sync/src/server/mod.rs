//! The server's end of a mirror.
//!
//! A session's packs are staged in parallel beside the share, verified, and put into it by renames in the order of their
//! numbers (`jobs`, `stage`, `commit`); `share` is what there is of one share, `desk` all shares and who has them.
//!
//! Invariant: a peer's names go to the kernel one at a time, relative to a held directory. Left to others: transport and
//! permissions; what a client should send.

mod base;
mod commit;
mod desk;
mod dress;
mod gate;
mod jobs;
mod lift;
mod recover;
mod replaced;
mod session;
mod share;
mod stage;
mod staged;
mod stream;
mod trash;
#[cfg(test)]
mod trials;
mod verify;
mod writing;

pub use desk::{Close, DeskError, Link, Listener, Shares};
pub use share::{Places, Share, ShareError};
pub use stage::PACK_NEW_DIRS_MAX;
pub use staged::{Failure, FailureCode};
pub use trash::{TRASH_KEPT, Thing};

pub(crate) use crate::ids::{hex, random, unhex};
pub(crate) use trash::remove_all;
